//! `pull`: from a name to an image whose blobs are stored and whose layers are unpacked, all of it checked.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use oci::{Digest, Platform, Reference, image};
use registry::{Client, Document};

use crate::{
    Error, Image, Layer, Pin, Shared, Staged,
    blobs::stage_bytes,
    catalog,
    download::{Download, ahead, stream},
    host_platform, layer, platform,
};

/// Indexes within indexes.
const MAX_DEPTH: usize = 4;

/// What to fetch, and how.
#[derive(Debug, Clone)]
pub struct Pull {
    /// With a tag or a digest.
    pub name: Reference,
    /// For this platform; this host's if none.
    pub platform: Option<Platform>,
    /// `max-concurrent-downloads`: layers at once.
    pub at_once: usize,
}

/// What a name turned out to be.
#[derive(Debug)]
pub struct Pulled {
    /// What the name points to at the registry: a manifest, or an index.
    pub digest: Digest,
    /// The image; to be published, unless it was there under that name already.
    pub image: Fetched,
}

/// Whether there was anything to do.
#[derive(Debug)]
pub enum Fetched {
    /// The image was there, with this name.
    UpToDate(Image),
    /// New, or new under this name. Its layers are unpacked.
    New(Staged),
}

/// Who unpacks layers, and hears how it goes on; several threads call at once.
pub trait Unpack: Sync {
    /// The registry has what was asked for: this tag or digest.
    fn found(&self, which: &str);

    /// Whether the uppermost layer of `chain` (diff ids, lowest first) is unpacked.
    fn has(&self, chain: &[Digest]) -> bool;

    /// Unpacks an uncompressed archive as the uppermost layer of `chain`. Must read it to its very end before anything
    /// becomes visible: there, or before, it fails if it is not what its digests say.
    fn apply(
        &self,
        chain: &[Digest],
        tar: &mut dyn io::Read,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;

    /// How a layer goes on.
    fn step(&self, layer: &Layer, step: Step);
}

/// Where a layer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It belongs to the image.
    Known,
    /// It is there, unpacked.
    Exists,
    /// Somebody else fetches it.
    Waiting,
    /// Bytes of the blob.
    Downloading {
        /// Have come.
        current: u64,
        /// Will have.
        total: u64,
    },
    /// The connection broke; it goes on after a pause.
    Retrying {
        /// So long.
        pause: Duration,
    },
    /// The last byte is there.
    Verifying,
    /// The blob is what it should be.
    Downloaded,
    /// It is unpacked.
    Complete,
}

pub(crate) fn pull(
    shared: &Arc<Shared>,
    client: &Client,
    how: &Pull,
    unpack: &dyn Unpack,
) -> Result<Pulled, Error> {
    let name = how.name.clone().with_default_tag();
    let which =
        name.digest().map(Digest::to_string).or_else(|| name.tag().map(str::to_owned)).unwrap_or_default();
    if let Some(described) = client.describe(&which)?
        && let Some(image) = known(shared, &name, &described.digest, how)
    {
        unpack.found(&which);
        return Ok(Pulled { digest: described.digest, image: Fetched::UpToDate(image) });
    }
    let document = client.manifest(&which)?;
    let digest = document.digest.clone();
    unpack.found(&which);
    let (manifest, document) = resolve(client, how, document, MAX_DEPTH)?;
    let mut names = vec![name.with_digest(digest.clone())];
    names.extend(name.tag().filter(|_| name.digest().is_none()).map(|_| name.clone()));
    let staged = fetch(shared, client, how, &manifest, &document, names, unpack)?;
    Ok(Pulled { digest, image: Fetched::New(staged) })
}

/// The image that has the name already, and is what the registry has under it.
fn known(shared: &Arc<Shared>, name: &Reference, digest: &Digest, how: &Pull) -> Option<Image> {
    let catalog = shared.catalog();
    let image = catalog.by_name(&name.with_digest(digest.clone()))?;
    let named = name.tag().is_none_or(|_| catalog.by_name(name).is_some_and(|other| other.id == image.id));
    let fits = how.platform.as_ref().is_none_or(|wanted| fits(wanted, &image));
    (named && fits).then_some(image)
}

fn fits(wanted: &Platform, image: &Image) -> bool {
    platform::normal(wanted).accepts(&platform::normal(&image.config.platform()))
}

/// From an index down to the manifest for the platform.
fn resolve(
    client: &Client,
    how: &Pull,
    document: Document,
    depth: usize,
) -> Result<(image::Manifest, Document), Error> {
    let index = match &document.content {
        image::Document::Manifest(manifest) => return Ok((manifest.clone(), document)),
        image::Document::Index(_) if depth == 0 => {
            return Err(Error::invalid("indexes are nested too deeply"));
        }
        image::Document::Index(index) => index,
    };
    let wanted = how.platform.clone().unwrap_or_else(host_platform);
    let chosen = platform::choose(&wanted, &index.manifests, &how.name.familiar())?;
    let next = client.manifest(chosen.digest.as_str())?;
    if next.bytes.len() as u64 != chosen.size || next.media_type != chosen.media_type {
        let (digest, size, kind) = (&chosen.digest, chosen.size, &chosen.media_type);
        return Err(Error::Invalid(format!(
            "manifest {digest} has {} bytes of {}, its index says {size} of {kind}",
            next.bytes.len(),
            next.media_type
        )));
    }
    resolve(client, how, next, depth - 1)
}

fn fetch(
    shared: &Arc<Shared>,
    client: &Client,
    how: &Pull,
    manifest: &image::Manifest,
    document: &Document,
    names: Vec<Reference>,
    unpack: &dyn Unpack,
) -> Result<Staged, Error> {
    let config = match &manifest.config.digest {
        here if shared.blobs.has(here) => shared.blobs.document(here)?,
        _ => client.document(&manifest.config)?,
    };
    let mut image = catalog::image(&document.digest, document.bytes.len() as u64, manifest, &config)?;
    if let Some(wanted) = how.platform.as_ref().filter(|wanted| !fits(wanted, &image)) {
        let (name, has) = (how.name.familiar(), image.config.platform());
        return Err(Error::Missing(format!("image {name} is for {has}, not for {wanted}")));
    }
    image.names = names;
    let pin = Arc::new(Pin::new(shared, catalog::blobs_of(&image).cloned().collect()));
    let layers = &image.layers;
    if let Err(error) = all_layers(shared, client, layers, how.at_once.max(1), unpack) {
        let blobs: Vec<_> = layers.iter().map(|layer| layer.blob.clone()).collect();
        // What cannot be kept is fetched again.
        let _ = shared.catalog().keep_for_later(&shared.blobs, &blobs);
        return Err(error);
    }
    // The documents come last: what names the layers is there only when they are.
    let staging = shared.blobs.stage()?;
    for (name, bytes, digest) in
        [("config", &config, &image.id), ("manifest", &document.bytes, &document.digest)]
    {
        let staged = stage_bytes(staging.path().join(name), bytes)?;
        shared.blobs.adopt(&staged.path, digest)?;
    }
    shared.blobs.sync()?;
    Ok(Staged { image, pin })
}

/// Several at once; the first error ends the others.
fn all_layers(
    shared: &Arc<Shared>,
    client: &Client,
    layers: &[Layer],
    at_once: usize,
    unpack: &dyn Unpack,
) -> Result<(), Error> {
    let chain: Vec<Digest> = layers.iter().map(|layer| layer.diff_id.clone()).collect();
    let all = layers.iter().enumerate().map(|(at, layer)| One {
        shared,
        client,
        layer,
        chain: &chain[..=at],
        unpack,
    });
    let mut missing = Vec::new();
    for one in all {
        let here = one.is_here();
        one.step(if here { Step::Exists } else { Step::Known });
        if !here {
            missing.push(one);
        }
    }
    let next = AtomicUsize::new(0);
    let failed: Mutex<Option<Error>> = Mutex::new(None);
    let worker = || {
        while let Some(one) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = one.bring() {
                next.store(missing.len(), Ordering::Relaxed);
                failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                client.stop();
                return;
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..at_once.min(missing.len()) {
            scope.spawn(worker);
        }
    });
    failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

/// One layer on its way.
struct One<'a> {
    shared: &'a Arc<Shared>,
    client: &'a Client,
    layer: &'a Layer,
    chain: &'a [Digest],
    unpack: &'a dyn Unpack,
}

impl One<'_> {
    fn step(&self, step: Step) {
        self.unpack.step(self.layer, step);
    }

    /// Stored and unpacked; it costs nothing then.
    fn is_here(&self) -> bool {
        self.shared.blobs.has(&self.layer.blob) && self.unpack.has(self.chain)
    }

    fn bring(&self) -> Result<(), Error> {
        let blobs = &self.shared.blobs;
        let (blob, total) = (&self.layer.blob, self.layer.size);
        let flight = self.shared.flights.take(blob, |current| {
            self.step(if current == 0 { Step::Waiting } else { Step::Downloading { current, total } });
            self.client.check().map_err(Error::from)
        })?;
        if blobs.has(blob) {
            if self.unpack.has(self.chain) {
                self.step(Step::Exists);
                return Ok(());
            }
            let mut tar = layer::open(self.shared, self.layer)?;
            self.unpack.apply(self.chain, &mut tar).map_err(Error::Unpack)?;
            self.step(Step::Complete);
            return Ok(());
        }
        let download = Download { blobs, client: self.client, digest: blob, size: total };
        let tell = |step| {
            if let Step::Downloading { current, .. } = step {
                flight.received(current);
            }
            self.step(step);
        };
        let goes_on = download.has_begun();
        match self.download(&download, tell) {
            // What an earlier attempt left may be what is wrong.
            Err(Error::Invalid(_) | Error::Unpack(_)) if goes_on => {
                download.forget();
                self.download(&download, tell)?;
            }
            done => done?,
        }
        blobs.adopt(&blobs.partial(blob), blob)?;
        self.step(Step::Complete);
        Ok(())
    }

    /// Fetches, decompresses and unpacks at the same time.
    fn download(&self, download: &Download<'_>, mut tell: impl FnMut(Step) + Send) -> Result<(), Error> {
        let (compressed, blob) = stream();
        let (plain, mut tar) = stream();
        let (diff_id, shared) = (&self.layer.diff_id, self.shared);
        let (fetched, unpacked) = thread::scope(|scope| {
            let fetching = scope.spawn(|| download.run(compressed, &mut tell));
            let decompressing = scope.spawn(move || ahead(layer::verified(blob, diff_id, shared)?, plain));
            let unpacked = if self.unpack.has(self.chain) {
                // Only to see that it is what it is called.
                io::copy(&mut tar, &mut io::sink()).map(drop).map_err(|e| Error::Unpack(e.into()))
            } else {
                self.unpack.apply(self.chain, &mut tar).map_err(Error::Unpack)
            };
            drop(tar);
            let decompressed =
                decompressing.join().unwrap_or_else(|_| Err(io::Error::other("a thread failed")));
            let fetched = fetching.join().unwrap_or_else(|_| Err(Error::invalid("a thread failed")));
            // What is wrong with the stream is said where it is read; what follows from it, not.
            let unpacked = match decompressed {
                Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
                    Err(Error::Invalid(format!("layer {}: {e}", self.layer.blob)))
                }
                _ => unpacked,
            };
            (fetched, unpacked)
        });
        match (fetched, unpacked) {
            (Ok(()), Ok(())) => Ok(()),
            (Err(Error::Registry(registry::Error::Local(e))), Err(why))
                if e.kind() == io::ErrorKind::BrokenPipe =>
            {
                // Nobody wanted the rest: the content is no good, or there is no room for it.
                if matches!(why, Error::Invalid(_)) {
                    download.forget();
                }
                Err(why)
            }
            (Err(why), _) => Err(why),
            (Ok(()), Err(why)) => {
                download.forget();
                Err(why)
            }
        }
    }
}
