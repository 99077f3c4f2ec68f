//! Image names, manifests and blobs. Knows no mounts, no snapshots, no containers.
//!
//! Everything read here comes from outside and is hostile until its digest and shape are checked (rules R10, R12,
//! R13). A blob is visible only under its digest and only when whole; a name is given last.

mod ahead;
mod archive_file;
mod blobs;
mod catalog;
mod changes;
mod compression;
mod derive;
mod docker_archive;
mod download;
mod flights;
mod import;
mod layer;
mod load;
mod oci_archive;
mod platform;
mod pull;
mod push;
mod resolve;
mod save;

use std::{
    io::Read,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use oci::{Digest, Platform, Reference};
use store::Store;

use blobs::Blobs;
use catalog::Catalog;
use flights::Flights;

pub use pull::{Fetched, Pull, Pulled, Step, Unpack};
pub use push::{Push, PushStep, Pushed, Watch};

pub use derive::{Derive, NewLayer};
pub use save::{Format, Outgoing};

/// One image as this engine knows it.
#[derive(Debug, Clone)]
pub struct Image {
    /// Digest of the config document: Docker's image id.
    pub id: Digest,
    /// Digest of the manifest.
    pub manifest: Digest,
    /// Names that point to it, normalised, shortest familiar form first by [`Reference`]'s order.
    pub names: Vec<Reference>,
    /// What the config document says.
    pub config: oci::image::ImageConfig,
    /// Lowest first.
    pub layers: Vec<Layer>,
    /// Bytes of all its blobs.
    pub size: u64,
}

/// A layer of an image, and the blob that it is unpacked from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Digest of the uncompressed archive.
    pub diff_id: Digest,
    /// Digest of the blob.
    pub blob: Digest,
    /// Bytes of the blob.
    pub size: u64,
    /// Media type of the blob, as the manifest has it.
    pub media_type: String,
}

/// An image whose blobs are stored and checked, but which has no record and no name yet: its layers can be
/// unpacked first, so that what is listed is always whole.
///
/// Its blobs stay as long as this value lives; what is dropped without being published leaves nothing behind.
#[derive(Debug, Clone)]
pub struct Staged {
    /// What will be published.
    pub image: Image,
    pin: Arc<Pin>,
}

/// What an import adds to the bare file system.
#[derive(Debug, Clone, Default)]
pub struct Import {
    /// Its name.
    pub name: Option<Reference>,
    /// `Dockerfile` instructions: `CMD …`, `ENV …`, `ENTRYPOINT`, `EXPOSE`, `LABEL`, `STOPSIGNAL`, `USER`, `VOLUME`, `WORKDIR`.
    pub changes: Vec<String>,
    /// For the history.
    pub message: String,
    /// The host's, if none.
    pub platform: Option<Platform>,
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No image of that name or id. The text is Docker's.
    #[error("No such image: {0}")]
    NotFound(String),
    /// The registry has the name, but no image for the platform; says which there are.
    #[error("{0}")]
    Missing(String),
    /// What was handed in is not acceptable; says which part and why.
    #[error("{0}")]
    Invalid(String),
    /// A short id that several images share, or an image that several names hold.
    #[error("{0}")]
    Conflict(String),
    /// The registry, or the way to it.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// [`Unpack::apply`] failed, with this.
    #[error("{0}")]
    Unpack(Box<dyn std::error::Error + Send + Sync>),
    /// The records.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The host's file system refused.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// In the infinitive.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// All images of one daemon. Calls are synchronous; the engine runs long ones on a blocking thread.
#[derive(Debug)]
pub struct Images(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    blobs: Blobs,
    catalog: Mutex<Catalog>,
    /// Of uncompressed layers, as far as they were learned.
    sizes: save::Sizes,
    /// Blobs on their way here.
    flights: Flights,
}

impl Shared {
    fn catalog(&self) -> MutexGuard<'_, Catalog> {
        self.catalog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known_size(&self, diff_id: &Digest) -> Option<u64> {
        self.sizes.lock().unwrap_or_else(PoisonError::into_inner).get(diff_id).copied()
    }

    fn remember_size(&self, diff_id: &Digest, size: u64) {
        self.sizes.lock().unwrap_or_else(PoisonError::into_inner).insert(diff_id.clone(), size);
    }
}

/// Blobs that must stay although no image owns them yet.
#[derive(Debug)]
struct Pin {
    shared: Arc<Shared>,
    blobs: Vec<Digest>,
}

impl Pin {
    fn new(shared: &Arc<Shared>, blobs: Vec<Digest>) -> Self {
        shared.catalog().pin(&blobs);
        Self { shared: shared.clone(), blobs }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut catalog = self.shared.catalog();
        catalog.unpin(&self.blobs);
        // What cannot be removed now is removed when the store is opened.
        let _ = catalog.remove_unowned(&self.shared.blobs, &self.blobs);
    }
}

impl Images {
    /// Opens or makes the blob store under `root` (an OCI layout: `blobs/sha256/…`) and sweeps what a crash left.
    pub fn open(root: &Path, records: Arc<Store>) -> Result<Self, Error> {
        let blobs = Blobs::open(root)?;
        let catalog = Catalog::open(&blobs, records)?;
        let images = Self(Arc::new(Shared {
            blobs,
            catalog: Mutex::new(catalog),
            sizes: save::Sizes::default(),
            flights: Flights::default(),
        }));
        images.sweep()?;
        Ok(images)
    }

    /// Images that are on record but could not be read, and why; they are not listed. Their blobs are kept, and
    /// loading them again repairs them.
    pub fn damaged(&self) -> Vec<String> {
        self.0.catalog().damaged().to_vec()
    }

    /// By name, id, or unambiguous beginning of an id (with or without `sha256:`), as Docker resolves.
    pub fn get(&self, name: &str) -> Result<Image, Error> {
        resolve::get(&self.0.catalog(), name)
    }

    /// All of them, newest first.
    pub fn list(&self) -> Result<Vec<Image>, Error> {
        Ok(self.0.catalog().list())
    }

    /// Reads a docker-archive or oci-archive (also compressed by gzip or zstd) and stores its blobs.
    pub fn load(&self, archive: &mut dyn Read) -> Result<Vec<Staged>, Error> {
        load::load(&self.0, archive)
    }

    /// Fetches an image; its layers are handed to `unpack` while they come. What is there already is not fetched.
    pub fn pull(&self, client: &registry::Client, how: &Pull, unpack: &dyn Unpack) -> Result<Pulled, Error> {
        pull::pull(&self.0, client, how, unpack)
    }

    /// Sends an image to a registry under a name; what is there already is not sent.
    pub fn push(
        &self,
        client: &registry::Client,
        image: &Image,
        how: &Push,
        watch: Watch<'_>,
    ) -> Result<Pushed, Error> {
        push::push(&self.0, client, image, how, watch)
    }

    /// Other repositories of the registry of `name` that have layers of `image`.
    pub fn sources(&self, image: &Image, name: &Reference) -> Vec<String> {
        let mut all: Vec<_> = push::sources(&self.0, image, name).into_values().flatten().collect();
        all.sort();
        all.dedup();
        // Each is one more right that the registry has to look up.
        all.truncate(10);
        all
    }

    /// Makes an image of one layer from a file system archive (also compressed).
    pub fn import(&self, rootfs: &mut dyn Read, how: &Import) -> Result<Staged, Error> {
        import::import(&self.0, rootfs, how)
    }

    /// The uncompressed archive of a layer. The reader fails at its end if the content is not `diff_id`.
    pub fn open_layer(&self, layer: &Layer) -> Result<Box<dyn Read + Send>, Error> {
        layer::open(&self.0, layer)
    }

    /// A place to write an uncompressed layer archive to, for [`Images::derive`].
    pub fn new_layer(&self) -> Result<NewLayer, Error> {
        NewLayer::create(&self.0)
    }

    /// Makes an image of another one, or of none, and a layer, or none.
    pub fn derive(&self, layer: Option<NewLayer>, how: &Derive) -> Result<Staged, Error> {
        derive::derive(&self.0, layer, how)
    }

    /// Images for an archive, by the words of `docker save`: a name, a repository for all its tags, an id for the
    /// image without names.
    pub fn save(&self, words: &[String], format: Format) -> Result<Outgoing, Error> {
        save::outgoing(&self.0, words, format)
    }

    /// Records a staged image and gives it its names, which older images lose. The image is listed from then on.
    pub fn publish(&self, staged: Staged) -> Result<Image, Error> {
        let Staged { image, pin } = staged;
        let published = self.0.catalog().publish(image);
        drop(pin);
        published
    }

    /// Gives `image` another name.
    pub fn tag(&self, image: &Digest, name: &Reference) -> Result<(), Error> {
        self.0.catalog().tag(image, name)
    }

    /// Takes a name away; the image stays.
    pub fn untag(&self, name: &Reference) -> Result<(), Error> {
        self.0.catalog().untag(name)
    }

    /// Removes an image, its names, and every blob that no other image needs. The caller has checked that nothing
    /// uses it.
    pub fn remove(&self, image: &Digest) -> Result<(), Error> {
        let mut catalog = self.0.catalog();
        let blobs = catalog.remove(image)?;
        catalog.remove_unowned(&self.0.blobs, &blobs)
    }

    /// Removes every blob that belongs to no image and to nothing staged.
    pub fn sweep(&self) -> Result<(), Error> {
        let catalog = self.0.catalog();
        let all = self.0.blobs.all()?;
        catalog.remove_unowned(&self.0.blobs, &all)
    }
}

/// What runs here.
fn host_platform() -> Platform {
    let (architecture, variant) = match std::env::consts::ARCH {
        "x86_64" => ("amd64", None),
        "aarch64" => ("arm64", None),
        "x86" => ("386", None),
        "arm" => ("arm", Some("v7")),
        "powerpc64" => ("ppc64le", None),
        "loongarch64" => ("loong64", None),
        same => (same, None),
    };
    Platform {
        os: "linux".to_owned(),
        architecture: architecture.to_owned(),
        variant: variant.map(str::to_owned),
    }
}

impl Error {
    fn invalid(message: impl std::fmt::Display) -> Self {
        Self::Invalid(message.to_string())
    }

    /// For `map_err`.
    fn io(what: &'static str, path: &Path) -> impl Fn(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path: path.clone(), source }
    }
}
