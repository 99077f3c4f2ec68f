//! Layers on disk, and the mounts made of them.
//!
//! A **layer** is an unpacked, read-only directory, known by the chain of diff ids below and including it. A
//! **snapshot** is one container's stack: read-only layers, an init layer, a writable layer. Drivers make mounts;
//! they never mount anything where the host can see it. Knows no names, registries or containers.

use std::{
    collections::BTreeMap,
    io::Read,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use oci::{Digest, IdMap, Mount};

mod overlay;
pub mod suite;
mod tree;
mod unpack;

/// The driver for layers and snapshots under `root`, which is made if it is not there and belongs to one process
/// at a time. What a crash left half done there is swept away.
pub fn open(root: &Path) -> Result<Box<dyn Driver>, Error> {
    Ok(Box::new(overlay::Overlay::open(root)?))
}

/// How layers are kept and stacked. Every driver passes the conformance suite beside this trait.
pub trait Driver: Send + Sync + std::fmt::Debug {
    /// `overlay`, …
    fn name(&self) -> &'static str;

    /// Whether the uppermost layer of `chain` (diff ids, lowest first) is there and whole.
    fn has(&self, chain: &[Digest]) -> bool;

    /// Unpacks an uncompressed layer archive as the uppermost layer of `chain`; the layers below need not be there
    /// yet. Reads `tar` to its very end, where a verifying reader reports a wrong digest, before anything
    /// becomes visible; on error nothing is left.
    fn apply(&self, chain: &[Digest], tar: &mut dyn Read) -> Result<Applied, Error>;

    /// Makes the snapshot `key` over the layers of a chain: an init layer of `init` and an empty writable layer.
    fn prepare(&self, key: &str, request: &Prepare<'_>) -> Result<(), Error>;

    /// What makes the root of snapshot `key`; destinations are absolute inside it.
    fn mounts(&self, key: &str) -> Result<Vec<Mount>, Error>;

    /// The root of snapshot `key` as a detached, read-only mount for a look inside; not while it is mounted
    /// writable elsewhere.
    fn view(&self, key: &str) -> Result<OwnedFd, Error>;

    /// A regular file in the root of snapshot `key`, at most `limit` bytes; `None` if there is no such file. Under the
    /// conditions of [`Driver::view`], but cheaper where the driver knows how.
    fn read(&self, key: &str, path: &Path, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        read_in(self.view(key)?, path, limit)
    }

    /// Frees the name `key` at once and its space soon after. Unknown keys are fine.
    fn remove(&self, key: &str) -> Result<(), Error>;

    /// Removes a layer by its name on disk (see [`Driver::layer_name`]). The caller knows that nobody uses it.
    fn forget(&self, layer: &str) -> Result<(), Error>;

    /// Every snapshot on disk.
    fn snapshots(&self) -> Result<Vec<String>, Error>;

    /// Every layer on disk, as the driver names it (see [`Driver::layer_name`]).
    fn layers(&self) -> Result<Vec<String>, Error>;

    /// The name under which this driver keeps the uppermost layer of `chain`.
    fn layer_name(&self, chain: &[Digest]) -> String;

    /// What the writable layer of `key` holds.
    fn usage(&self, key: &str) -> Result<Usage, Error>;

    /// The directories behind `key`, by their usual names (`LowerDir`, `UpperDir`, `WorkDir`, `MergedDir` as
    /// `docker inspect` calls them).
    fn describe(&self, key: &str) -> Result<BTreeMap<String, String>, Error>;
}

/// What a new snapshot is made of.
#[derive(Debug, Clone)]
pub struct Prepare<'a> {
    /// Diff ids, lowest first; may be empty.
    pub chain: &'a [Digest],
    /// What the init layer holds where the image does not have it already.
    pub init: &'a [InitEntry],
    /// Ids of the container.
    pub ids: &'a IdMap,
    /// Nothing in it must survive a crash of the machine: no syncing (overlayfs' `volatile`, Linux 5.10).
    pub volatile: bool,
}

/// One entry of an init layer; parents are made as needed. An entry is left out where the image has something of
/// that name, or where a parent of it is not a plain directory in the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct InitEntry {
    /// Absolute path inside the root.
    pub path: &'static str,
    /// What.
    pub kind: InitKind,
}

/// Kind of an init entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InitKind {
    /// Directory, 0755.
    Directory,
    /// Empty file, 0755 as Docker's, a place to mount on.
    File,
    /// Symbolic link to this.
    Link(&'static str),
}

/// What unpacking a layer brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// Bytes of file content.
    pub size: u64,
    /// Entries read.
    pub entries: u64,
}

/// Space.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes on disk.
    pub bytes: u64,
    /// Files, directories, links.
    pub inodes: u64,
}

/// What went wrong, with which path.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The layer's archive is not acceptable.
    #[error("layer archive: {0}")]
    Archive(String),
    /// Reading the archive failed: it is truncated, or its digest is not what was promised.
    #[error("reading layer: {0}")]
    Read(std::io::Error),
    /// A layer or snapshot that is not there.
    #[error("{0} does not exist")]
    Missing(String),
    /// The host's file system refused.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// In the infinitive: `create`, `mount`.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl Error {
    /// For `map_err` after a system call: what was done, and to what.
    pub(crate) fn at<E: Into<std::io::Error>>(
        what: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(E) -> Self {
        let path = path.into();
        move |source| Error::Io { what, path, source: source.into() }
    }
}

/// A regular file below the directory `root`.
fn read_in(root: OwnedFd, path: &Path, limit: u64) -> Result<Option<Vec<u8>>, Error> {
    match sys::Root::from_fd(root).read_regular(path, limit) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::at("read the container's", path)(error)),
    }
}
