//! Verbs on images: the engine asks `image` for layers and hands each reader to `snapshot`.

use std::{
    collections::BTreeSet,
    io::Read,
    sync::{
        Arc, PoisonError, RwLockReadGuard,
        atomic::{AtomicUsize, Ordering},
    },
};

use image::{Images, Layer, Staged};
use oci::{Digest, Reference};

use crate::{
    Container, Engine, Image, Import, RemovedImage, blocking,
    error::{Error, Kind, Result},
};

/// The name of the image that ships inside the engine.
const EMBEDDED: &str = "hello";
/// Layers that are unpacked at the same time, at most: more would only wait for the disk.
const MOST_AT_ONCE: usize = 8;

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
        self.import(std::io::Cursor::new(archive), crate::embedded::image()?).await
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
        made.into_iter().next().ok_or_else(|| Error::internal("the import made no image"))
    }

    /// Layers first, names last: what is listed is whole.
    pub(crate) fn bring_in(&self, staged: Vec<Staged>, action: &str) -> Result<Vec<Image>> {
        let arriving = self.arriving();
        let unpacked = staged.iter().try_for_each(|one| self.unpack(&one.image));
        if let Err(error) = unpacked {
            drop((staged, arriving));
            self.0.images.sweep()?;
            self.forget_layers();
            return Err(error);
        }
        let mut images = Vec::new();
        for one in staged {
            // The answer tells what came in, not what else the image was called before.
            let names = one.image.names.clone();
            let image = Image { names, ..self.0.images.publish(one)? };
            let name = image.names.first().map_or_else(|| image.id.to_string(), Reference::familiar);
            if action == "commit" {
                // An event of the container's; of the image, its new name is one.
                image
                    .names
                    .iter()
                    .for_each(|name| self.0.events.image(image.id.as_str(), &name.familiar(), "tag"));
            } else {
                self.0.events.image(image.id.as_str(), &name, action);
            }
            images.push(image);
        }
        Ok(images)
    }

    /// Unpacks again what a crash of the machine took before the disk had it.
    pub(crate) async fn mend_layers(&self) {
        let engine = self.clone();
        let mended = blocking(move || {
            for image in engine.0.images.list().unwrap_or_default() {
                if let Err(error) = engine.unpack(&image) {
                    tracing::error!("unpack image {} again: {error}", image.id);
                }
            }
        });
        // A panic there was told.
        let _ = mended.await;
    }

    /// Unpacks what is not there: of a new image, or after a crash of the machine. Layers need no parents, so several
    /// are unpacked at once.
    pub(crate) fn unpack(&self, image: &Image) -> Result<()> {
        let mut chain: Vec<Digest> = Vec::new();
        let mut missing = Vec::new();
        for layer in &image.layers {
            chain.push(layer.diff_id.clone());
            let twice = missing.iter().any(|(_, other): &(_, &Layer)| other.diff_id == layer.diff_id);
            if !twice && !self.0.snapshots.has(&chain) {
                missing.push((chain.clone(), layer));
            }
        }
        let next = AtomicUsize::new(0);
        let work = || -> Result<()> {
            while let Some((chain, layer)) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                let mut reader = self.0.images.open_layer(layer)?;
                self.0.snapshots.apply(chain, &mut reader)?;
            }
            Ok(())
        };
        let workers = missing.len().min(self.0.host.cpus.clamp(1, MOST_AT_ONCE));
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..workers).map(|_| scope.spawn(work)).collect();
            let mut done = work();
            for other in others {
                let failed = || Err(Error::internal("a thread that unpacked a layer failed"));
                done = done.and(other.join().unwrap_or_else(|_| failed()));
            }
            done
        })
    }

    /// Gives an image another name.
    pub async fn tag(&self, image: &str, name: &str) -> Result<()> {
        let name: Reference = name.parse().map_err(|error| Error::new(Kind::Invalid, format!("{error}")))?;
        let image = self.image(image).await?;
        self.0.images.tag(&image.id, &name.clone().with_default_tag())?;
        self.0.events.image(image.id.as_str(), &name.familiar(), "tag");
        Ok(())
    }

    /// Takes a name away; with the last one, the image, if no container stands in the way.
    pub async fn remove_image(&self, name: &str, force: bool) -> Result<Vec<RemovedImage>> {
        let image = self.image(name).await?;
        let by_id = image.id.hex().starts_with(name.trim_start_matches("sha256:"));
        let mut untag = image.names.clone();
        if !by_id {
            let wanted: Reference =
                name.parse().map_err(|error| Error::new(Kind::Invalid, format!("{error}")))?;
            let wanted = wanted.with_default_tag();
            untag.retain(|have| *have == wanted);
            untag.extend(orphans(&image, &wanted));
        }
        let last = untag.len() == image.names.len();
        let users = self.users_of(&image);
        if let Some(why) = refusal(&image, &users, by_id, last, force) {
            return Err(Error::new(Kind::Conflict, format!("conflict: unable to {why}")));
        }
        // Forced away from under a running container, an image loses its name only.
        let delete = last && !users.iter().any(|user| user.state.pid().is_some());
        let mut removed = Vec::new();
        for name in untag {
            self.0.images.untag(&name)?;
            self.0.events.image(image.id.as_str(), &name.familiar(), "untag");
            removed.push(RemovedImage::Untagged(name.familiar()));
        }
        if delete {
            self.0.images.remove(&image.id)?;
            self.0.events.image(image.id.as_str(), name, "delete");
            removed.push(RemovedImage::Deleted(image.id.to_string()));
            let engine = self.clone();
            blocking(move || engine.forget_layers()).await?;
        }
        Ok(removed)
    }

    fn users_of(&self, image: &Image) -> Vec<Arc<Container>> {
        let mut users = self.list();
        users.retain(|container| container.config.image_id.as_ref() == Some(&image.id));
        users
    }

    /// To be held from before a layer is unpacked until an image owns it.
    pub(crate) fn arriving(&self) -> RwLockReadGuard<'_, ()> {
        self.0.arriving.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes every layer that no image and no container needs. While others arrive, whose is not known yet, nothing
    /// is removed; the next time will do it. What is needed is computed, so it cannot be wrong
    /// by a count.
    pub(crate) fn forget_layers(&self) {
        let Ok(_nobody_unpacks) = self.0.arriving.try_write() else { return };
        let (driver, images): (_, &Images) = (&self.0.snapshots, &self.0.images);
        // Without the whole list, everything might be needed.
        let Ok(images) = images.list() else { return };
        if !self.0.images.damaged().is_empty() {
            return;
        }
        let of_images =
            images.iter().map(|image| image.layers.iter().map(|layer| layer.diff_id.clone()).collect());
        let containers = self.0.containers.all();
        let chains: Vec<Vec<Digest>> =
            of_images.chain(containers.iter().map(|handle| handle.chain.clone())).collect();
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
            images.iter().any(|image| image.layers.iter().map(|layer| &layer.diff_id).eq(chain))
        });
        if !still_listed {
            self.forget_layers();
        }
    }
}

/// Names by digest say what came under a tag; they go with the last tag of their repository.
fn orphans(image: &Image, untagged: &Reference) -> Vec<Reference> {
    let of_repository = || image.names.iter().filter(|name| name.name() == untagged.name());
    if of_repository().any(|name| name.tag().is_some() && name != untagged) || untagged.tag().is_none() {
        return Vec::new();
    }
    of_repository().filter(|name| name.tag().is_none()).cloned().collect()
}

fn repositories(image: &Image) -> usize {
    image.names.iter().map(Reference::name).collect::<BTreeSet<_>>().len()
}

/// Why an image, or its last name, may not go; in Docker's words.
fn refusal(image: &Image, users: &[Arc<Container>], by_id: bool, last: bool, force: bool) -> Option<String> {
    let short = &image.id.hex()[..12];
    let user = users.iter().max_by_key(|user| user.state.pid().is_some());
    match user {
        Some(user) if by_id => {
            let runs = user.state.pid().is_some();
            let (how, is) =
                if runs { ("cannot be forced", "running") } else { ("must be forced", "stopped") };
            let user = &user.id[..12];
            let why = format!("delete {short} ({how}) - image is being used by {is} container {user}");
            (runs || !force).then_some(why)
        }
        Some(user) if last && !force => {
            let name = image.names.first().map(Reference::familiar).unwrap_or_default();
            let user = &user.id[..12];
            Some(format!(
                "remove repository reference {name:?} (must force) - container {user} is using its referenced image {short}"
            ))
        }
        None if by_id && repositories(image) > 1 && !force => {
            Some(format!("delete {short} (must be forced) - image is referenced in multiple repositories"))
        }
        _ => None,
    }
}
