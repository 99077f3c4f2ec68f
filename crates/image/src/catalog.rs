//! What images there are and what they are called. Records hold only what cannot be computed: that an image is
//! there, by which manifest, and its names; everything else is read from the blobs when the store is opened.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use jiff::Timestamp;
use oci::{
    Digest, Reference,
    image::{Document, ImageConfig, Manifest, media},
};
use serde::{Deserialize, Serialize};
use store::{Durability, Store, Table};

use crate::{Error, Image, Layer, blobs::Blobs};

const IMAGES: Table = Table { name: "images", version: 1 };
const TAGS: Table = Table { name: "tags", version: 1 };

/// Under the image's id.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    manifest: Digest,
}

/// Under the full name.
#[derive(Debug, Serialize, Deserialize)]
struct Tag {
    image: Digest,
}

#[derive(Debug)]
pub(crate) struct Catalog {
    records: Arc<Store>,
    /// By id, without their names.
    images: BTreeMap<Digest, Image>,
    tags: BTreeMap<Reference, Digest>,
    pins: HashMap<Digest, usize>,
    damaged: Vec<String>,
}

impl Catalog {
    pub(crate) fn open(blobs: &Blobs, records: Arc<Store>) -> Result<Self, Error> {
        let mut catalog = Self {
            records,
            images: BTreeMap::new(),
            tags: BTreeMap::new(),
            pins: HashMap::new(),
            damaged: Vec::new(),
        };
        let (images, mut unreadable) = catalog.records.all::<Record>(IMAGES)?;
        for (id, record) in images {
            match read(blobs, &id, &record) {
                Ok(image) => drop(catalog.images.insert(image.id.clone(), image)),
                Err(error) => catalog.damaged.push(format!("image {id}: {error}")),
            }
        }
        let (tags, bad_tags) = catalog.records.all::<Tag>(TAGS)?;
        unreadable.extend(bad_tags);
        for (name, tag) in tags {
            match name.parse() {
                Ok(name) if catalog.images.contains_key(&tag.image) => {
                    catalog.tags.insert(name, tag.image);
                }
                Ok(_) => {} // Its image is damaged, or was removed when the daemon was killed.
                Err(error) => catalog.damaged.push(format!("tag {name:?}: {error}")),
            }
        }
        let told = unreadable
            .iter()
            .map(|d| format!("record {}: {} (its bytes are in {})", d.key, d.reason, d.set_aside.display()));
        catalog.damaged.extend(told);
        Ok(catalog)
    }

    pub(crate) fn damaged(&self) -> &[String] {
        &self.damaged
    }

    /// Newest first.
    pub(crate) fn list(&self) -> Vec<Image> {
        let mut images: Vec<_> = self.images.values().map(|image| self.named(image)).collect();
        let created =
            |image: &Image| image.config.created.as_deref().and_then(|at| at.parse::<Timestamp>().ok());
        images.sort_by_cached_key(|image| (std::cmp::Reverse(created(image)), image.id.clone()));
        images
    }

    pub(crate) fn by_id(&self, id: &Digest) -> Option<Image> {
        self.images.get(id).map(|image| self.named(image))
    }

    pub(crate) fn by_name(&self, name: &Reference) -> Option<Image> {
        self.tags.get(name).and_then(|id| self.by_id(id))
    }

    /// All names in the repository of `name`, with their images.
    pub(crate) fn in_repository(&self, name: &Reference) -> Vec<(Reference, Image)> {
        let same = self.tags.iter().filter(|(tag, _)| tag.name() == name.name());
        same.filter_map(|(tag, id)| Some((tag.clone(), self.by_id(id)?))).collect()
    }

    /// An image that came under that digest, or one of that manifest which has a name in the same repository.
    pub(crate) fn by_manifest(&self, name: &Reference, manifest: &Digest) -> Option<Image> {
        if let Some(image) = self.by_name(&name.with_digest(manifest.clone())) {
            return Some(image);
        }
        let mut ids = self.tags.iter().filter(|(tag, _)| tag.name() == name.name()).map(|(_, id)| id);
        ids.find(|id| self.images.get(id).is_some_and(|image| image.manifest == *manifest))
            .and_then(|id| self.by_id(id))
    }

    /// The ids that begin with these hex digits.
    pub(crate) fn ids_from<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a Digest> {
        self.images.keys().filter(move |id| id.hex().starts_with(prefix))
    }

    fn named(&self, image: &Image) -> Image {
        let names = self.tags.iter().filter(|(_, id)| **id == image.id).map(|(name, _)| name.clone());
        Image { names: names.collect(), ..image.clone() }
    }

    /// An image that is there already keeps its manifest: its layers may be unpacked and named by it.
    pub(crate) fn publish(&mut self, image: Image) -> Result<Image, Error> {
        let id = image.id.clone();
        let names = image.names.clone();
        if !self.images.contains_key(&id) {
            let record = Record { manifest: image.manifest.clone() };
            self.records.put(IMAGES, id.as_str(), &record, Durability::Durable)?;
            self.images.insert(id.clone(), Image { names: Vec::new(), ..image });
            self.damaged.retain(|told| !told.starts_with(&format!("image {id}: ")));
        }
        for name in names {
            self.put_name(&id, name)?;
        }
        self.by_id(&id).ok_or_else(|| Error::NotFound(id.to_string()))
    }

    pub(crate) fn tag(&mut self, image: &Digest, name: &Reference) -> Result<(), Error> {
        if !self.images.contains_key(image) {
            return Err(Error::NotFound(image.to_string()));
        }
        if name.digest().is_some() {
            return Err(Error::invalid("refusing to create a tag with a digest reference"));
        }
        self.put_name(image, name.clone().with_default_tag())
    }

    /// The registry has the image under that digest.
    pub(crate) fn came_from(&mut self, image: &Digest, name: &Reference) -> Result<(), Error> {
        // It may have been removed meanwhile.
        if self.images.contains_key(image) { self.put_name(image, name.clone()) } else { Ok(()) }
    }

    /// The same image by another manifest, whose blobs are stored.
    pub(crate) fn replace(&mut self, image: &Image) -> Result<(), Error> {
        let id = &image.id;
        if self.images.contains_key(id) {
            let record = Record { manifest: image.manifest.clone() };
            self.records.put(IMAGES, id.as_str(), &record, Durability::Durable)?;
            self.images.insert(id.clone(), Image { names: Vec::new(), ..image.clone() });
        }
        Ok(())
    }

    /// A name by digest says where an image came from, and is given by pulling and pushing only.
    fn put_name(&mut self, image: &Digest, name: Reference) -> Result<(), Error> {
        if self.tags.get(&name) != Some(image) {
            let tag = Tag { image: image.clone() };
            self.records.put(TAGS, &name.to_string(), &tag, Durability::Durable)?;
            self.tags.insert(name, image.clone());
        }
        Ok(())
    }

    pub(crate) fn untag(&mut self, name: &Reference) -> Result<(), Error> {
        let name = name.clone().with_default_tag();
        if !self.tags.contains_key(&name) {
            return Err(Error::NotFound(name.familiar()));
        }
        self.records.delete(TAGS, &name.to_string(), Durability::Durable)?;
        self.tags.remove(&name);
        Ok(())
    }

    /// Takes the image and its names off the records; what is left of it are the blobs returned.
    pub(crate) fn remove(&mut self, id: &Digest) -> Result<Vec<Digest>, Error> {
        let image = self.by_id(id).ok_or_else(|| Error::NotFound(id.to_string()))?;
        // The durable removal of the image takes the names with it.
        for name in &image.names {
            self.records.delete(TAGS, &name.to_string(), Durability::Relaxed)?;
            self.tags.remove(name);
        }
        self.records.delete(IMAGES, id.as_str(), Durability::Durable)?;
        self.images.remove(id);
        Ok(blobs_of(&image).cloned().collect())
    }

    pub(crate) fn pin(&mut self, blobs: &[Digest]) {
        for blob in blobs {
            *self.pins.entry(blob.clone()).or_default() += 1;
        }
    }

    pub(crate) fn unpin(&mut self, blobs: &[Digest]) {
        for blob in blobs {
            if let Some(count) = self.pins.get_mut(blob) {
                *count -= 1;
                if *count == 0 {
                    self.pins.remove(blob);
                }
            }
        }
    }

    /// Puts those of `candidates` that nobody but the caller, who has pinned them, needs back among what has come of
    /// downloads: the next attempt finds them there.
    pub(crate) fn keep_for_later(&self, blobs: &Blobs, candidates: &[Digest]) -> Result<(), Error> {
        let owned: BTreeSet<&Digest> = self.images.values().flat_map(blobs_of).collect();
        let ours = |blob: &&Digest| !owned.contains(blob) && self.pins.get(blob) == Some(&1);
        let whole = candidates.iter().filter(ours).filter(|blob| blobs.has(blob));
        whole.map(|blob| blobs.set_aside(blob)).fold(Ok(()), Result::and)
    }

    /// Removes those of `candidates` that nothing needs. Owners are computed from what there is, never stored; when
    /// an image cannot be read, nobody knows what it owns, and nothing is removed.
    pub(crate) fn remove_unowned(&self, blobs: &Blobs, candidates: &[Digest]) -> Result<(), Error> {
        if !self.damaged.is_empty() || candidates.is_empty() {
            return Ok(());
        }
        let owned: BTreeSet<&Digest> =
            self.images.values().flat_map(blobs_of).chain(self.pins.keys()).collect();
        let unowned = candidates.iter().filter(|blob| !owned.contains(blob));
        unowned.map(|blob| blobs.remove(blob)).fold(Ok(()), Result::and)
    }
}

fn read(blobs: &Blobs, id: &str, record: &Record) -> Result<Image, Error> {
    let id: Digest = id.parse().map_err(Error::invalid)?;
    let bytes = blobs.document(&record.manifest)?;
    let Document::Manifest(manifest) = Document::parse(&bytes, None).map_err(Error::invalid)? else {
        return Err(Error::invalid("its manifest is an index"));
    };
    if manifest.config.digest != id {
        return Err(Error::invalid("its manifest is another image's"));
    }
    let config = blobs.document(&id)?;
    image(&record.manifest, bytes.len() as u64, &manifest, &config)
}

/// The image that a manifest and a config, both with checked digests, describe.
pub(crate) fn image(digest: &Digest, size: u64, manifest: &Manifest, config: &[u8]) -> Result<Image, Error> {
    let id = manifest.config.digest.clone();
    if !media::is_config(&manifest.config.media_type) {
        let media_type = &manifest.config.media_type;
        return Err(Error::Invalid(format!("{id} is not an image's config but {media_type:?}")));
    }
    let config = ImageConfig::parse(config).map_err(|e| Error::Invalid(format!("config {id}: {e}")))?;
    if !matches!(config.os.as_str(), "" | "linux") {
        return Err(Error::Invalid(format!("image {id} is for {}, not for linux", config.os)));
    }
    let diff_ids = &config.rootfs.diff_ids;
    if diff_ids.len() != manifest.layers.len() {
        let (layers, ids) = (manifest.layers.len(), diff_ids.len());
        return Err(Error::Invalid(format!("image {id} has {layers} layers, but its config names {ids}")));
    }
    let layers = manifest.layers.iter().zip(diff_ids).map(|(layer, diff_id)| {
        if !media::is_layer(&layer.media_type) {
            let (blob, media_type) = (&layer.digest, &layer.media_type);
            return Err(Error::Invalid(format!(
                "layer {blob} has media type {media_type:?}, which is not an archive's"
            )));
        }
        Ok(Layer {
            diff_id: diff_id.clone(),
            blob: layer.digest.clone(),
            size: layer.size,
            media_type: layer.media_type.clone(),
        })
    });
    let layers: Vec<_> = layers.collect::<Result<_, _>>()?;
    let size = layers
        .iter()
        .fold(size.saturating_add(manifest.config.size), |sum, layer| sum.saturating_add(layer.size));
    Ok(Image { id, manifest: digest.clone(), names: Vec::new(), config, layers, size })
}

pub(crate) fn blobs_of(image: &Image) -> impl Iterator<Item = &Digest> {
    [&image.id, &image.manifest].into_iter().chain(image.layers.iter().map(|layer| &layer.blob))
}
