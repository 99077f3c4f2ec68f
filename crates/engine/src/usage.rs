//! What everything takes on disk, and `prune`: computed from what is there, so that it equals what `du` counts.
//!
//! An image takes its unpacked layers and the blobs that they came from. Layers are shared by content, and so are
//! blobs, each on its own account.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use oci::Digest;

use crate::{Container, Engine, Image, RemovedImage, blocking, error::Result};

/// What is on disk of images and containers.
#[derive(Debug, Clone, Default)]
pub struct DiskUsage {
    /// All images together, what they share counted once.
    pub images_total: u64,
    /// Each image, newest first.
    pub images: Vec<ImageUsage>,
    /// Bytes of each container's own: its writable layer, its log and its files.
    pub containers: BTreeMap<String, u64>,
}

/// What one image takes.
#[derive(Debug, Clone)]
pub struct ImageUsage {
    /// Which.
    pub image: Image,
    /// Bytes, all in all.
    pub size: u64,
    /// Of these, what other images have too.
    pub shared: u64,
    /// Each layer with its blob, lowest first.
    pub layers: Vec<u64>,
}

/// One thing on disk that images own together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Thing<'a> {
    Layer(&'a Digest),
    Blob(&'a Digest),
}

/// File systems hand out whole blocks.
const BLOCK: u64 = 4096;

fn on_disk(size: u64) -> u64 {
    size.next_multiple_of(BLOCK)
}

impl Engine {
    /// What each image takes, newest first, and what all take together.
    pub async fn image_usage(&self) -> Result<(Vec<ImageUsage>, u64)> {
        let engine = self.clone();
        blocking(move || {
            let images = engine.0.images.list()?;
            let mut sizes = BTreeMap::new();
            for image in &images {
                engine.measure(image, &mut sizes)?;
            }
            Ok(shares(&images, &sizes))
        })
        .await?
    }

    fn measure<'a>(&self, image: &'a Image, sizes: &mut BTreeMap<Thing<'a>, u64>) -> Result<()> {
        let mut chain = Vec::new();
        for layer in &image.layers {
            chain.push(layer.diff_id.clone());
            sizes.insert(Thing::Blob(&layer.blob), on_disk(layer.size));
            if let Entry::Vacant(unknown) = sizes.entry(Thing::Layer(&layer.diff_id)) {
                let unpacked = match self.0.snapshots.layer_usage(&chain) {
                    Ok(usage) => usage.bytes,
                    // To be unpacked again when it is needed.
                    Err(snapshot::Error::Missing(_)) => 0,
                    Err(error) => return Err(error.into()),
                };
                unknown.insert(unpacked);
            }
        }
        for document in [&image.id, &image.manifest] {
            sizes.insert(Thing::Blob(document), BLOCK);
        }
        Ok(())
    }

    /// Everything.
    pub async fn disk_usage(&self) -> Result<DiskUsage> {
        let (images, images_total) = self.image_usage().await?;
        let engine = self.clone();
        let containers = blocking(move || {
            let all = engine.list();
            all.iter().map(|container| (container.id.clone(), engine.takes(container))).collect()
        });
        Ok(DiskUsage { images_total, images, containers: containers.await? })
    }

    /// One that is being removed takes nothing any more.
    fn takes(&self, container: &Container) -> u64 {
        let own = self.0.snapshots.usage(&container.id).unwrap_or_default().bytes;
        own + crate::disk::usage(&self.home(&container.id))
    }

    /// Removes the images that `which` picks and no container needs; without `named`, only those without a name.
    /// Tells what went, and how many bytes are free now.
    pub async fn prune_images(
        &self,
        named: bool,
        which: impl Fn(&Image) -> bool,
    ) -> Result<(Vec<RemovedImage>, u64)> {
        let (images, before) = self.image_usage().await?;
        let mut removed = Vec::new();
        for ImageUsage { image, .. } in images {
            let used =
                self.list().iter().any(|container| container.config.image_id.as_ref() == Some(&image.id));
            if used || !(named || image.names.is_empty()) || !which(&image) {
                continue;
            }
            match self.remove_image(image.id.as_str(), image.names.len() > 1).await {
                Ok(gone) => removed.extend(gone),
                // A container took it meanwhile, or another prune was faster.
                Err(error) => tracing::debug!("prune image {}: {error}", image.id),
            }
        }
        let (_, after) = self.image_usage().await?;
        Ok((removed, before.saturating_sub(after)))
    }
}

fn things(image: &Image) -> BTreeSet<Thing<'_>> {
    let layers =
        image.layers.iter().flat_map(|layer| [Thing::Layer(&layer.diff_id), Thing::Blob(&layer.blob)]);
    layers.chain([Thing::Blob(&image.id), Thing::Blob(&image.manifest)]).collect()
}

fn shares(images: &[Image], sizes: &BTreeMap<Thing<'_>, u64>) -> (Vec<ImageUsage>, u64) {
    let mut owners: BTreeMap<Thing<'_>, usize> = BTreeMap::new();
    for thing in images.iter().flat_map(things) {
        *owners.entry(thing).or_default() += 1;
    }
    let size = |thing: &Thing<'_>| sizes.get(thing).copied().unwrap_or_default();
    let total = owners.keys().map(size).sum();
    let used = images.iter().map(|image| {
        let all = things(image);
        ImageUsage {
            size: all.iter().map(size).sum(),
            shared: all.iter().filter(|thing| owners[thing] > 1).map(size).sum(),
            layers: image
                .layers
                .iter()
                .map(|layer| size(&Thing::Layer(&layer.diff_id)) + size(&Thing::Blob(&layer.blob)))
                .collect(),
            image: image.clone(),
        }
    });
    (used.collect(), total)
}
