//! Image names, manifests and blobs. Knows no mounts, no snapshots, no containers.
//!
//! Everything read here comes from outside and is hostile until its digest and shape are checked (rules R10, R12,
//! R13). A blob is visible only under its digest and only when whole; a name is given last.

use std::{
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

use oci::{Digest, Platform, Reference};
use store::Store;

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
#[derive(Debug, Clone)]
pub struct Staged {
    /// What will be published.
    pub image: Image,
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
    /// What was handed in is not acceptable; says which part and why.
    #[error("{0}")]
    Invalid(String),
    /// A short id that several images share, or an image that several names hold.
    #[error("{0}")]
    Conflict(String),
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
pub struct Images {}

impl Images {
    /// Opens or makes the blob store under `root` (an OCI layout: `blobs/sha256/…`) and sweeps what a crash left.
    pub fn open(_root: &Path, _records: Arc<Store>) -> Result<Self, Error> {
        unimplemented!()
    }

    /// By name, id, or unambiguous beginning of an id (with or without `sha256:`), as Docker resolves.
    pub fn get(&self, _name: &str) -> Result<Image, Error> {
        unimplemented!()
    }

    /// All of them, newest first.
    pub fn list(&self) -> Result<Vec<Image>, Error> {
        unimplemented!()
    }

    /// Reads a docker-archive or oci-archive (also compressed by gzip or zstd) and stores its blobs.
    pub fn load(&self, _archive: &mut dyn Read) -> Result<Vec<Staged>, Error> {
        unimplemented!()
    }

    /// Makes an image of one layer from a file system archive (also compressed).
    pub fn import(&self, _rootfs: &mut dyn Read, _how: &Import) -> Result<Staged, Error> {
        unimplemented!()
    }

    /// The uncompressed archive of a layer. The reader fails at its end if the content is not `diff_id`.
    pub fn open_layer(&self, _layer: &Layer) -> Result<Box<dyn Read + Send>, Error> {
        unimplemented!()
    }

    /// Records a staged image and gives it its names, which older images lose. The image is listed from then on.
    pub fn publish(&self, _staged: Staged) -> Result<Image, Error> {
        unimplemented!()
    }

    /// Lets go of staged images that will not be published: blobs that nobody else needs go.
    pub fn discard(&self, _staged: Vec<Staged>) -> Result<(), Error> {
        unimplemented!()
    }

    /// Gives `image` another name.
    pub fn tag(&self, _image: &Digest, _name: &Reference) -> Result<(), Error> {
        unimplemented!()
    }

    /// Takes a name away; the image stays.
    pub fn untag(&self, _name: &Reference) -> Result<(), Error> {
        unimplemented!()
    }

    /// Removes an image and every blob that no other image needs. The caller has checked that nothing uses it.
    pub fn remove(&self, _image: &Digest) -> Result<(), Error> {
        unimplemented!()
    }
}
