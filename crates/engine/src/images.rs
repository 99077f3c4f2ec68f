//! Verbs on images: the engine asks `image` for layers and hands each reader to `snapshot`.

use std::{collections::BTreeSet, io::Read};

use image::{Images, Staged};
use oci::{Digest, Reference};

use crate::{
    Engine, Image, Import, RemovedImage, blocking,
    error::{Error, Kind, Result},
};

/// The name of the image that ships inside the engine.
const EMBEDDED: &str = "hello";

impl Engine {
    /// All images, newest first.
    pub async fn images(&self) -> Result<Vec<Image>> {
        let images = self.0.images.clone();
        Ok(blocking(move || images.list()).await??)
    }

    /// By name, id, or beginning of an id. The embedded image is unpacked when it is first asked for.
    pub async fn image(&self, name: &str) -> Result<Image> {
        let (images, wanted) = (self.0.images.clone(), name.to_owned());
        match blocking(move || images.get(&wanted)).await? {
            Err(image::Error::NotFound(_)) if matches!(name, EMBEDDED | "hello:latest") => {
                self.unpack_embedded().await
            }
            found => Ok(found?),
        }
    }

    async fn unpack_embedded(&self) -> Result<Image> {
        let archive = crate::embedded::rootfs()?;
        self.import(std::io::Cursor::new(archive), crate::embedded::image()?)
            .await
    }

    /// Unpacks and publishes everything in the archive, or nothing.
    pub async fn load(&self, mut archive: impl Read + Send + 'static) -> Result<Vec<Image>> {
        let engine = self.clone();
        blocking(move || {
            let staged = engine.0.images.load(&mut archive)?;
            engine.bring_in(staged, "load")
        })
        .await?
    }

    /// Makes an image of one layer from a file system archive.
    pub async fn import(&self, mut rootfs: impl Read + Send + 'static, how: Import) -> Result<Image> {
        let engine = self.clone();
        let made = blocking(move || {
            let staged = engine.0.images.import(&mut rootfs, &how)?;
            engine.bring_in(vec![staged], "import")
        })
        .await??;
        made.into_iter()
            .next()
            .ok_or_else(|| Error::internal("the import made no image"))
    }

    /// Layers first, names last: what is listed is whole.
    fn bring_in(&self, staged: Vec<Staged>, action: &str) -> Result<Vec<Image>> {
        let unpacked = staged.iter().try_for_each(|one| self.unpack(&one.image));
        if let Err(error) = unpacked {
            drop(staged);
            self.0.images.sweep()?;
            self.forget_layers();
            return Err(error);
        }
        let mut images = Vec::new();
        for one in staged {
            let image = self.0.images.publish(one)?;
            let name = image
                .names
                .first()
                .map_or_else(|| image.id.to_string(), Reference::familiar);
            self.0.events.image(image.id.as_str(), &name, action);
            images.push(image);
        }
        Ok(images)
    }

    fn unpack(&self, image: &Image) -> Result<()> {
        let mut chain: Vec<Digest> = Vec::new();
        for layer in &image.layers {
            chain.push(layer.diff_id.clone());
            if !self.0.snapshots.has(&chain) {
                let mut reader = self.0.images.open_layer(layer)?;
                self.0.snapshots.apply(&chain, &mut reader)?;
            }
        }
        Ok(())
    }

    /// Gives an image another name.
    pub async fn tag(&self, image: &str, name: &str) -> Result<()> {
        let name: Reference = name
            .parse()
            .map_err(|error| Error::new(Kind::Invalid, format!("{error}")))?;
        let image = self.image(image).await?;
        self.0.images.tag(&image.id, &name.clone().with_default_tag())?;
        self.0.events.image(image.id.as_str(), &name.familiar(), "tag");
        Ok(())
    }

    /// Takes a name away; with the last one, the image, if no container stands in the way.
    pub async fn remove_image(&self, name: &str, force: bool) -> Result<Vec<RemovedImage>> {
        let image = self.image(name).await?;
        let short = &image.id.hex()[..12];
        let by_id = image.id.hex().starts_with(name.trim_start_matches("sha256:"));
        let mut untag: Vec<Reference> = image.names.clone();
        if by_id && untag.len() > 1 && !force {
            let message = format!(
                "conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories"
            );
            return Err(Error::new(Kind::Conflict, message));
        }
        if !by_id {
            let wanted: Reference = name
                .parse()
                .map_err(|error| Error::new(Kind::Invalid, format!("{error}")))?;
            let wanted = wanted.with_default_tag();
            untag.retain(|have| *have == wanted);
        }
        let last = untag.len() == image.names.len();
        if last {
            self.refuse_if_used(&image, short, force)?;
        }
        let mut removed = Vec::new();
        for name in untag {
            self.0.images.untag(&name)?;
            self.0.events.image(image.id.as_str(), &name.familiar(), "untag");
            removed.push(RemovedImage::Untagged(name.familiar()));
        }
        if last {
            self.0.images.remove(&image.id)?;
            self.0.events.image(image.id.as_str(), name, "delete");
            removed.push(RemovedImage::Deleted(image.id.to_string()));
            let engine = self.clone();
            blocking(move || engine.forget_layers()).await?;
        }
        Ok(removed)
    }

    fn refuse_if_used(&self, image: &Image, short: &str, force: bool) -> Result<()> {
        for handle in self.0.containers.all() {
            let container = handle.now();
            if container.config.image_id.as_ref() != Some(&image.id) {
                continue;
            }
            let (runs, user) = (container.state.pid().is_some(), &container.id[..12]);
            let why = match (runs, force) {
                (true, _) => format!("(cannot be forced) - image is being used by running container {user}"),
                (false, false) => {
                    format!("(must be forced) - image is being used by stopped container {user}")
                }
                (false, true) => continue,
            };
            return Err(Error::new(
                Kind::Conflict,
                format!("conflict: unable to delete {short} {why}"),
            ));
        }
        Ok(())
    }

    /// Removes every layer that no image and no container needs. What is needed is computed, so it cannot be wrong
    /// by a count.
    pub(crate) fn forget_layers(&self) {
        let (driver, images): (_, &Images) = (&self.0.snapshots, &self.0.images);
        let Ok(images) = images.list() else {
            return; // Without the list, everything might be needed.
        };
        let of_images = images
            .iter()
            .map(|image| image.layers.iter().map(|layer| layer.diff_id.clone()).collect());
        let containers = self.0.containers.all();
        let chains: Vec<Vec<Digest>> = of_images
            .chain(containers.iter().map(|handle| handle.chain.clone()))
            .collect();
        let needed: BTreeSet<String> = chains
            .iter()
            .flat_map(|chain| (1..=chain.len()).map(|end| driver.layer_name(&chain[..end])))
            .collect();
        for layer in driver.layers().unwrap_or_default() {
            if !needed.contains(&layer)
                && let Err(error) = driver.forget(&layer)
            {
                tracing::warn!("remove layer {layer}: {error}");
            }
        }
    }

    /// After a container has gone: its image may have gone before it, and then its layers go now.
    pub(crate) fn forget_layers_of(&self, chain: &[Digest]) {
        let still_listed = self.0.images.list().is_ok_and(|images| {
            images
                .iter()
                .any(|image| image.layers.iter().map(|layer| &layer.diff_id).eq(chain))
        });
        if !still_listed {
            self.forget_layers();
        }
    }
}
