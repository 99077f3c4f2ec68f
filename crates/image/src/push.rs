//! `push`: an image's blobs, those that the registry lacks, then its manifest.
//!
//! What was pulled goes back byte for byte, so that its digest stays. A layer that is stored uncompressed is compressed
//! first, always to the same bytes; the image keeps it so, and the next push finds it ready.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use flate2::{Compression as Level, GzBuilder};
use oci::{
    Digest, Reference,
    image::{Descriptor, Document, Manifest, media},
};
use registry::{Client, Upload};

use crate::{
    Error, Image, Layer, Pin, Shared,
    blobs::{HashedFile, stage_bytes},
    catalog,
};

/// gzip's usual trade; the field's tools do the same.
const LEVEL: u32 = 6;
/// Other repositories that may have a blob.
const MAX_SOURCES: usize = 3;
const PACE: Duration = Duration::from_millis(100);

/// Where to send an image, and how.
#[derive(Debug, Clone)]
pub struct Push {
    /// With its tag.
    pub name: Reference,
    /// `max-concurrent-uploads`: layers at once.
    pub at_once: usize,
}

/// What the registry has now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// Of the manifest.
    pub digest: Digest,
    /// Of the manifest, in bytes.
    pub size: u64,
}

/// Where a layer is on its way to a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PushStep {
    /// It belongs to the image.
    Known,
    /// The registry has it, in this repository.
    Exists,
    /// The registry has it, in that repository.
    Mounted(String),
    /// Bytes of the blob.
    Pushing {
        /// Have gone.
        current: u64,
        /// Will have.
        total: u64,
    },
    /// The connection broke; it goes on after a pause.
    Retrying {
        /// So long.
        pause: Duration,
    },
    /// The registry has it.
    Complete,
}

/// Hears how layers go on; several threads call at once.
pub type Watch<'a> = &'a (dyn Fn(&Layer, PushStep) + Sync);

/// Repositories of the registry `host` that have blobs of `image`, so that they need not be sent: by blob.
pub(crate) fn sources(shared: &Shared, image: &Image, name: &Reference) -> BTreeMap<Digest, Vec<String>> {
    let catalog = shared.catalog();
    let mut found: BTreeMap<Digest, Vec<String>> = BTreeMap::new();
    for other in catalog.list() {
        let repositories: BTreeSet<_> = other
            .names
            .iter()
            .filter(|known| {
                known.digest().is_some() && known.host() == name.host() && known.path() != name.path()
            })
            .map(|known| known.path().to_owned())
            .collect();
        for layer in other.layers.iter().filter(|layer| image.layers.iter().any(|own| own.blob == layer.blob))
        {
            let of_blob = found.entry(layer.blob.clone()).or_default();
            of_blob.extend(repositories.iter().cloned());
            of_blob.sort();
            of_blob.dedup();
            of_blob.truncate(MAX_SOURCES);
        }
    }
    found
}

pub(crate) fn push(
    shared: &Arc<Shared>,
    client: &Client,
    image: &Image,
    how: &Push,
    watch: Watch<'_>,
) -> Result<Pushed, Error> {
    let tag = how.name.tag().ok_or_else(|| Error::invalid("cannot push a digest reference"))?;
    let _pin = Pin::new(shared, catalog::blobs_of(image).cloned().collect());
    for layer in &image.layers {
        watch(layer, PushStep::Known);
    }
    let image = compressed(shared, image)?;
    let sources = sources(shared, &image, &how.name);
    all_layers(shared, client, &image, how.at_once.max(1), &sources, watch)?;
    let manifest = shared.blobs.document(&image.manifest)?;
    let parsed = parse(&manifest)?;
    if !client.has_blob(&image.id)? {
        let quiet = Stored { shared, blob: &image.id, tell: &|_| {}, told: Mutex::new(Instant::now()) };
        client.upload(&image.id, parsed.config.size, &quiet)?;
    }
    let kind = parsed.media_type.as_deref().unwrap_or(media::MANIFEST);
    let digest = client.put_manifest(tag, kind, &manifest)?;
    shared.catalog().came_from(&image.id, &how.name.with_digest(digest.clone()))?;
    Ok(Pushed { digest, size: manifest.len() as u64 })
}

fn parse(manifest: &[u8]) -> Result<Manifest, Error> {
    match Document::parse(manifest, None).map_err(Error::invalid)? {
        Document::Manifest(manifest) => Ok(manifest),
        Document::Index(_) => Err(Error::invalid("an image's manifest is an index")),
    }
}

/// The image with no layer uncompressed; stored so if it was not.
fn compressed(shared: &Arc<Shared>, image: &Image) -> Result<Image, Error> {
    if image.layers.iter().all(|layer| gzip_type(&layer.media_type).is_none()) {
        return Ok(image.clone());
    }
    let staging = shared.blobs.stage()?;
    let mut manifest = parse(&shared.blobs.document(&image.manifest)?)?;
    let mut ready: BTreeMap<Digest, Descriptor> = BTreeMap::new();
    let mut files = Vec::new();
    for (at, layer) in manifest.layers.iter_mut().enumerate() {
        let Some(kind) = gzip_type(&layer.media_type) else { continue };
        if !ready.contains_key(&layer.digest) {
            let file = HashedFile::create(staging.path().join(at.to_string()))?;
            let path = shared.blobs.path(&layer.digest);
            let mut encoder = GzBuilder::new().mtime(0).write(file, Level::new(LEVEL));
            io::copy(&mut shared.blobs.open_blob(&layer.digest)?, &mut encoder)
                .map_err(Error::io("compress", &path))?;
            let file = encoder.finish().map_err(Error::io("compress", &path))?.finish();
            let described = Descriptor {
                media_type: kind.to_owned(),
                digest: file.digest.clone(),
                size: file.size,
                ..layer.clone()
            };
            ready.insert(layer.digest.clone(), described);
            files.push(file);
        }
        *layer = ready[&layer.digest].clone();
    }
    let bytes = serde_json::to_vec(&manifest).map_err(Error::invalid)?;
    files.push(stage_bytes(staging.path().join("manifest"), &bytes)?);
    let digest = files[files.len() - 1].digest.clone();
    let config = shared.blobs.document(&image.id)?;
    let mut better = catalog::image(&digest, bytes.len() as u64, &manifest, &config)?;
    better.names.clone_from(&image.names);
    let pin = Pin::new(shared, catalog::blobs_of(&better).cloned().collect());
    for file in &files {
        shared.blobs.adopt(&file.path, &file.digest)?;
    }
    shared.blobs.sync()?;
    shared.catalog().replace(&better)?;
    drop(pin);
    Ok(better)
}

/// What a layer that is not compressed is called when it is.
fn gzip_type(media_type: &str) -> Option<&'static str> {
    match media_type {
        media::LAYER => Some(media::LAYER_GZIP),
        "application/vnd.docker.image.rootfs.diff.tar" => {
            Some("application/vnd.docker.image.rootfs.diff.tar.gzip")
        }
        _ => None,
    }
}

/// Several at once; the first error ends the others.
fn all_layers(
    shared: &Shared,
    client: &Client,
    image: &Image,
    at_once: usize,
    sources: &BTreeMap<Digest, Vec<String>>,
    watch: Watch<'_>,
) -> Result<(), Error> {
    let mut distinct: Vec<&Layer> = Vec::new();
    for layer in &image.layers {
        if !distinct.iter().any(|other| other.blob == layer.blob) {
            distinct.push(layer);
        }
    }
    let next = AtomicUsize::new(0);
    let failed: Mutex<Option<Error>> = Mutex::new(None);
    let worker = || {
        while let Some(layer) = distinct.get(next.fetch_add(1, Ordering::Relaxed)) {
            let from = sources.get(&layer.blob).map_or(&[][..], Vec::as_slice);
            if let Err(error) = one(shared, client, layer, from, watch) {
                next.store(distinct.len(), Ordering::Relaxed);
                failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                client.stop();
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..at_once.min(distinct.len()) {
            scope.spawn(worker);
        }
    });
    failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

fn one(
    shared: &Shared,
    client: &Client,
    layer: &Layer,
    from: &[String],
    watch: Watch<'_>,
) -> Result<(), Error> {
    if client.has_blob(&layer.blob)? {
        watch(layer, PushStep::Exists);
        return Ok(());
    }
    for source in from {
        if client.mount(&layer.blob, source)? {
            watch(layer, PushStep::Mounted(source.clone()));
            return Ok(());
        }
    }
    let tell = |step: PushStep| watch(layer, step);
    let stored = Stored { shared, blob: &layer.blob, tell: &tell, told: Mutex::new(Instant::now()) };
    client.upload(&layer.blob, layer.size, &stored)?;
    tell(PushStep::Complete);
    Ok(())
}

/// A stored blob on its way out.
struct Stored<'a> {
    shared: &'a Shared,
    blob: &'a Digest,
    tell: &'a (dyn Fn(PushStep) + Sync),
    told: Mutex<Instant>,
}

impl Upload for Stored<'_> {
    fn open(&self, from: u64) -> io::Result<Box<dyn Read + Send>> {
        let mut file = File::open(self.shared.blobs.path(self.blob))?;
        file.seek(SeekFrom::Start(from))?;
        Ok(Box::new(file))
    }

    fn sent(&self, current: u64, total: u64) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.elapsed() >= PACE {
            *told = Instant::now();
            (self.tell)(PushStep::Pushing { current, total });
        }
    }

    fn retrying(&self, pause: Duration) {
        (self.tell)(PushStep::Retrying { pause });
    }
}
