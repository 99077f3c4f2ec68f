//! Layers on disk, and the mounts made of them.
//!
//! A **layer** is an unpacked, read-only directory, known by the chain of diff ids below and including it. A
//! **snapshot** is one container's stack: read-only layers, an init layer, a writable layer. Drivers make mounts;
//! they never mount anything where the host can see it. Knows no names, registries or containers.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use oci::{Digest, IdMap, Mount};

mod changes;
mod copy;
mod disk;
mod init;
mod layered;
mod merged;
mod overlay;
mod pack;
mod quota;
mod same;
mod settle;
pub mod suite;
mod tree;
mod unpack;
mod whole;

/// Which driver, and how; from `--storage-driver` and `--storage-opt`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choice {
    /// By [`Driver::name`]; the best that works under the data root if none.
    pub driver: Option<String>,
    /// Words of the driver's own, as Docker's `overlay2.size=10G`, in order.
    pub options: Vec<(String, String)>,
}

/// The names of all drivers, best first.
pub const DRIVERS: [&str; 4] = ["overlay", "btrfs", "fuse-overlayfs", "vfs"];

/// The driver for layers and snapshots under `root`, where it keeps a directory of its name that belongs to one
/// process at a time. What a crash left half done there is swept away.
///
/// # Errors
/// [`Error::Unusable`] if `choice` names a driver that does not exist or does not work here, or if what lies under
/// `root` was made by another driver: its images and containers would seem lost.
pub fn open(root: &Path, choice: &Choice) -> Result<Box<dyn Driver>, Error> {
    let asked = choice.driver.as_deref().map(|name| if name == "overlay2" { "overlay" } else { name });
    let before = DRIVERS.into_iter().find(|name| is_used(&root.join(name)));
    match (asked, before) {
        (Some(asked), Some(before)) if asked != before => Err(Error::Unusable(format!(
            "what is in {} was made by the storage driver {before}, and {asked} would see nothing of it: say \
             --storage-driver {before}, or choose another data root",
            root.display()
        ))),
        (Some(name), _) | (None, Some(name)) => open_driver(name, &root.join(name), &choice.options),
        (None, None) => best(root, choice),
    }
}

/// Whether a driver has kept something there.
fn is_used(directory: &Path) -> bool {
    ["layers", "snapshots"]
        .iter()
        .any(|area| std::fs::read_dir(directory.join(area)).is_ok_and(|mut names| names.next().is_some()))
}

/// The first that works. Copying everything is nobody's wish: it has to be asked for.
fn best(root: &Path, choice: &Choice) -> Result<Box<dyn Driver>, Error> {
    let mut reasons = Vec::new();
    for name in &DRIVERS[..3] {
        match open_driver(name, &root.join(name), &choice.options) {
            Ok(driver) => return Ok(driver),
            Err(error) => {
                // What it made before it knew.
                let _ = std::fs::remove_dir(root.join(name));
                reasons.push(format!("{name}: {error}"));
            }
        }
    }
    let reasons = reasons.join("; ");
    let remedy = "--storage-driver vfs works anywhere, but copies everything";
    Err(Error::Unusable(format!("no storage driver works in {}: {reasons}; {remedy}", root.display())))
}

/// The driver `name` in this very directory.
///
/// # Errors
/// As [`open`].
pub fn open_driver(
    name: &str,
    directory: &Path,
    options: &[(String, String)],
) -> Result<Box<dyn Driver>, Error> {
    let size = size_option(name, options)?;
    Ok(match name {
        "overlay" => Box::new(overlay::Overlay::open(directory, size)?),
        "fuse-overlayfs" => Box::new(overlay::Overlay::open_fuse(directory, size)?),
        "btrfs" => Box::new(whole::Whole::open_btrfs(directory, size)?),
        "vfs" if size.is_some() => {
            let text =
                "the storage driver vfs cannot limit sizes: use overlay or btrfs, or leave the option out";
            return Err(Error::Unusable(text.to_owned()));
        }
        "vfs" => Box::new(whole::Whole::open_vfs(directory)?),
        other => {
            let known = DRIVERS.join(", ");
            return Err(Error::Unusable(format!("there is no storage driver {other:?}; there are: {known}")));
        }
    })
}

/// `size`, also with the driver's name before it (`overlay2.size`), is the size of every container that asks for none.
fn size_option(driver: &str, options: &[(String, String)]) -> Result<Option<u64>, Error> {
    let mut size = None;
    for (key, value) in options {
        let name = key.rsplit('.').next().unwrap_or(key);
        if name != "size" {
            return Err(Error::Unusable(format!(
                "storage option {key:?} is not known to the driver {driver}"
            )));
        }
        let bytes = parse_size(value).filter(|bytes| *bytes > 0);
        size = Some(
            bytes.ok_or_else(|| Error::Unusable(format!("invalid size in storage option {key}={value}")))?,
        );
    }
    Ok(size)
}

/// Bytes of `10G`, `512m`, `1.5GiB`: units are binary, as in all of Docker's limits.
pub fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let power = match unit.trim_start().trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let bytes = number.parse::<f64>().ok()? * 1024_f64.powi(power);
    (bytes.is_finite() && bytes < 9e18).then_some(bytes as u64)
}

/// How layers are kept and stacked. Every driver passes the conformance suite beside this trait.
pub trait Driver: Send + Sync + std::fmt::Debug {
    /// `overlay`, …
    fn name(&self) -> &'static str;

    /// Whether the uppermost layer of `chain` (diff ids, lowest first) is there and whole.
    fn has(&self, chain: &[Digest]) -> bool;

    /// Unpacks an uncompressed layer archive as the uppermost layer of `chain`. The layers below need not be there
    /// yet, and several layers, also the same one twice, may be applied at once by several threads. Reads `tar` to
    /// its very end, where a verifying reader reports a wrong digest, before anything becomes visible; on error
    /// nothing is left. After a crash of the machine soon after, the layer may be gone again, never damaged.
    fn apply(&self, chain: &[Digest], tar: &mut dyn Read) -> Result<Applied, Error>;

    /// Makes the snapshot `key` over the layers of a chain: an init layer of `init` and an empty writable layer.
    fn prepare(&self, key: &str, request: &Prepare<'_>) -> Result<(), Error>;

    /// What makes the root of snapshot `key`; destinations are absolute inside it.
    fn mounts(&self, key: &str) -> Result<Vec<Mount>, Error>;

    /// The root of snapshot `key` as a detached, read-only mount for a look inside; not while it is mounted
    /// writable elsewhere. A driver whose mounts are a program's has none.
    fn view(&self, key: &str) -> Result<OwnedFd, Error>;

    /// A regular file in the root of snapshot `key`, at most `limit` bytes; `None` if there is no such file. Links are
    /// followed inside. Nothing is mounted for it.
    fn read(&self, key: &str, path: &Path, limit: u64) -> Result<Option<Vec<u8>>, Error>;

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

    /// What the container `key` has changed, as `docker diff` tells: directories before what is in them, names in
    /// byte order. The init layer never counts. The container may be running; what it does meanwhile may or may not
    /// be told.
    fn changes(&self, key: &str) -> Result<Vec<Change>, Error>;

    /// The same as an uncompressed layer archive: explicit whiteouts, no marks of this driver, nothing of the init
    /// layer; entries in the order of [`Driver::changes`], and the same tree always gives the same bytes.
    fn diff(&self, key: &str, out: &mut dyn Write) -> Result<Packed, Error>;

    /// The whole root of `key` as an archive without removals; with what only the init layer has, as `docker export`
    /// shows it, or without.
    fn export(&self, key: &str, with_init: bool, out: &mut dyn Write) -> Result<Packed, Error>;

    /// The uppermost layer of `chain` as a layer archive again: the same content, but not the same bytes, and so
    /// not the same digest, as what it was unpacked from.
    fn layer_tar(&self, chain: &[Digest], out: &mut dyn Write) -> Result<Packed, Error>;

    /// What the uppermost layer of `chain` takes on disk, what it shares with others left out.
    fn layer_usage(&self, chain: &[Digest]) -> Result<Usage, Error>;

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
    /// Most bytes that the writable layer may take (`--storage-opt size=`): by project quota or qgroup. A file system
    /// without one is an error that says so.
    pub size: Option<u64>,
}

/// One path of a container that its image has not, or not so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Absolute inside the root; any bytes but NUL.
    pub path: Vec<u8>,
    /// What happened to it.
    pub kind: ChangeKind,
}

/// Docker's three.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// In the image too, and other than there; or a directory in which something has changed.
    Modified,
    /// Not in the image.
    Added,
    /// In the image only.
    Deleted,
}

/// What an archive was made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Packed {
    /// Bytes of file content, holes included.
    pub size: u64,
    /// Entries written, whiteouts too.
    pub entries: u64,
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
    /// Whoever wanted the archive did not take it.
    #[error("writing layer: {0}")]
    Write(std::io::Error),
    /// A driver or an option that does not exist, or does not work here; says which and what to do.
    #[error("{0}")]
    Unusable(String),
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
