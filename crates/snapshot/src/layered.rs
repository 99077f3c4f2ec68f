//! What all drivers have in common: layers unpacked with overlayfs' marks, init layers, snapshots that know theirs.
//!
//! ```text
//! ROOT/                       0700, one process at a time
//!   layers/<diff id>/         one layer's files; needs no parents, so its own digest is its name
//!   init/<hash>/files/        what containers need in an image, shared by all with the same wishes
//!              /record.json   which layers are below, and the id map
//!   snapshots/<key>/          a container's own; an attribute names the init layer
//!   trees/<hash>/tree/        an image's whole tree, for drivers that copy it
//!   tmp/  trash/              on their way in and out
//! ```
//!
//! What a snapshot knows stands in an attribute, not in a file: file systems journal attributes and names, so that
//! nothing has to be synced when a container is created, and a power cut leaves either all of it or nothing.

use std::{
    collections::BTreeMap,
    ffi::CStr,
    io::{self, Read, Write},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use oci::{Digest, Mount};
use rustix::{
    fs::{Mode, XattrFlags, fchmod, fgetxattr, fsetxattr},
    io::Errno,
};

use crate::{
    Applied, Change, Driver, Error, Packed, Prepare, Usage,
    changes::{self, Upper},
    disk::{Area, Disk, Stage},
    init::{self, FILES},
    merged,
    pack::Packer,
    settle::{self, Standing},
    tree::{self, open_directory},
    unpack,
};

/// On a snapshot: its init layer and, if a crash of the machine may lose it, a space and the boot it lives in.
/// Short enough for ext4 to keep it in the inode.
const MARK: &CStr = c"trusted.knarr.init";

/// On a layer that was measured: its bytes and inodes. A layer never changes.
const USAGE: &CStr = c"trusted.knarr.usage";

fn parse_usage(text: &[u8]) -> Option<Usage> {
    let (bytes, inodes) = std::str::from_utf8(text).ok()?.split_once(' ')?;
    Some(Usage { bytes: bytes.parse().ok()?, inodes: inodes.parse().ok()? })
}

/// What the drivers differ in.
pub(crate) trait Flavor: Send + Sync + std::fmt::Debug {
    fn name(&self) -> &'static str;

    /// A place for a new snapshot.
    fn stage<'d>(&self, disk: &'d Disk) -> Result<Stage<'d>, Error>;

    /// Fills it.
    fn make(&self, stack: &Stack<'_>, stage: &Stage<'_>, request: &Prepare<'_>) -> Result<(), Error>;

    /// See [`Driver::mounts`].
    fn mounts(&self, stack: &Stack<'_>, snapshot: &Snapshot) -> Result<Vec<Mount>, Error>;

    /// See [`Driver::view`].
    fn view(&self, stack: &Stack<'_>, snapshot: &Snapshot) -> Result<OwnedFd, Error>;

    /// The container's own tree, and what kind of tree it is.
    fn upper(&self, snapshot: &Snapshot) -> Result<(OwnedFd, Upper), Error>;

    /// See [`Driver::describe`].
    fn describe(&self, stack: &Stack<'_>, snapshot: &Snapshot) -> BTreeMap<String, String>;

    /// An init layer has gone, and with it what was made of it.
    fn forget(&self, _disk: &Disk, _init: &str) -> Result<(), Error> {
        Ok(())
    }

    /// Most layers of one image.
    fn most_layers(&self) -> usize {
        usize::MAX
    }
}

/// A snapshot on disk.
pub(crate) struct Snapshot {
    pub(crate) path: PathBuf,
    pub(crate) directory: OwnedFd,
    /// The init layer's name.
    pub(crate) init: String,
    /// For a volatile one.
    pub(crate) boot: Option<String>,
}

/// What is below a snapshot.
pub(crate) struct Stack<'d> {
    pub(crate) disk: &'d Disk,
    pub(crate) init: String,
    pub(crate) record: init::Record,
}

impl Stack<'_> {
    /// Init layer and layers, uppermost first.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        let init = self.disk.path(Area::Init, &self.init).join(FILES);
        let layers = self.record.layers.iter().map(|layer| self.disk.path(Area::Layers, layer.hex()));
        std::iter::once(init).chain(layers).collect()
    }

    /// The same, open: the init layer, and the layers.
    pub(crate) fn open(&self) -> Result<(OwnedFd, Vec<OwnedFd>), Error> {
        let open = |path: &PathBuf| open_directory(rustix::fs::CWD, path).map_err(Error::at("open", path));
        let mut all = self.paths().iter().map(open).collect::<Result<Vec<_>, _>>()?;
        let init = all.remove(0);
        Ok((init, all))
    }
}

/// A driver of some flavor.
#[derive(Debug)]
pub(crate) struct Layered<F> {
    disk: Disk,
    flavor: F,
    /// This boot's name, shortened.
    boot: String,
}

impl<F: Flavor> Layered<F> {
    pub(crate) fn new(disk: Disk, flavor: F) -> Result<Self, Error> {
        let layered = Self { disk, flavor, boot: boot()? };
        layered.sweep_doubtful_layers()?;
        layered.sweep_init_layers()?;
        Ok(layered)
    }

    /// What a crash of the machine may have damaged; see [`settle`].
    fn sweep_doubtful_layers(&self) -> Result<(), Error> {
        for name in self.disk.list(Area::Layers)? {
            let layer = self.disk.open_in(Area::Layers, &name)?;
            let path = || self.disk.path(Area::Layers, &name);
            match settle::standing(layer, &self.boot).map_err(Error::at("look at", path()))? {
                Standing::Settled => {}
                Standing::OfThisBoot => self.disk.settle(&name),
                Standing::Doubtful => self.disk.discard(Area::Layers, &name)?,
            }
        }
        Ok(())
    }

    /// Init layers of images that are gone: a crash came between the removal of the one and of the other.
    fn sweep_init_layers(&self) -> Result<(), Error> {
        let mut used = Vec::new();
        for key in self.disk.list(Area::Snapshots)? {
            used.extend(self.snapshot(&key).map(|snapshot| snapshot.init));
        }
        for name in self.disk.list(Area::Init)? {
            let whole = init::read_record(&self.disk, &name).is_ok_and(|record| {
                record.layers.iter().all(|layer| self.disk.has(Area::Layers, layer.hex()))
            });
            if !whole && !used.contains(&name) {
                self.discard_init(&name)?;
            }
        }
        for name in self.disk.list(Area::Trees)? {
            if !self.disk.has(Area::Init, &name) {
                self.disk.discard(Area::Trees, &name)?;
            }
        }
        Ok(())
    }

    fn discard_init(&self, name: &str) -> Result<(), Error> {
        self.disk.discard(Area::Init, name)?;
        self.flavor.forget(&self.disk, name)
    }

    fn snapshot(&self, key: &str) -> Result<Snapshot, Error> {
        check_key(key)?;
        let path = self.disk.path(Area::Snapshots, key);
        let directory = match open_directory(self.disk.area(Area::Snapshots), key) {
            Err(Errno::NOENT) => return Err(Error::Missing(format!("snapshot {key}"))),
            opened => opened.map_err(Error::at("open", &path))?,
        };
        let mut value = [0; 128];
        let length =
            fgetxattr(&directory, MARK, &mut value[..]).map_err(Error::at("read the mark of", &path))?;
        let text = String::from_utf8_lossy(&value[..length]);
        let (init, boot) = match text.split_once(' ') {
            Some((init, boot)) => (init.to_owned(), Some(boot.to_owned())),
            None => (text.into_owned(), None),
        };
        Ok(Snapshot { path, directory, init, boot })
    }

    fn stack(&self, init: &str) -> Result<Stack<'_>, Error> {
        let record = init::read_record(&self.disk, init)?;
        Ok(Stack { disk: &self.disk, init: init.to_owned(), record })
    }

    fn both(&self, key: &str) -> Result<(Snapshot, Stack<'_>), Error> {
        let snapshot = self.snapshot(key)?;
        let stack = self.stack(&snapshot.init)?;
        Ok((snapshot, stack))
    }

    fn layer(&self, chain: &[Digest]) -> Result<OwnedFd, Error> {
        let digest = uppermost(chain)?;
        if !self.disk.has(Area::Layers, digest.hex()) {
            return Err(Error::Missing(format!("layer {digest}")));
        }
        self.disk.open_in(Area::Layers, digest.hex())
    }

    fn layer_path(&self, chain: &[Digest]) -> PathBuf {
        self.disk.path(Area::Layers, self.layer_name(chain))
    }
}

/// This boot's name, shortened.
pub(crate) fn boot() -> Result<String, Error> {
    let path = "/proc/sys/kernel/random/boot_id";
    let name = std::fs::read_to_string(path).map_err(Error::at("read", path))?;
    Ok(name.replace('-', "").chars().take(16).collect())
}

/// Gives a snapshot its mark.
pub(crate) fn set_mark(snapshot: &OwnedFd, init: &str, boot: Option<&str>) -> rustix::io::Result<()> {
    let mark = boot.map_or_else(|| init.to_owned(), |boot| format!("{init} {boot}"));
    fsetxattr(snapshot, MARK, mark.as_bytes(), XattrFlags::empty())
}

/// Keys become file names.
fn check_key(key: &str) -> Result<(), Error> {
    let fits = (1..=200).contains(&key.len())
        && !key.starts_with('.')
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    if fits {
        return Ok(());
    }
    let why = "a snapshot's key has letters, digits, `_`, `.` and `-`, and starts with no dot";
    Err(Error::at("use", key)(io::Error::new(io::ErrorKind::InvalidInput, why)))
}

fn uppermost(chain: &[Digest]) -> Result<&Digest, Error> {
    chain.last().ok_or_else(|| Error::Missing("the uppermost layer of no layers".to_owned()))
}

impl<F: Flavor> Driver for Layered<F> {
    fn name(&self) -> &'static str {
        self.flavor.name()
    }

    fn has(&self, chain: &[Digest]) -> bool {
        chain.last().is_none_or(|digest| self.disk.has(Area::Layers, digest.hex()))
    }

    fn apply(&self, chain: &[Digest], tar: &mut dyn Read) -> Result<Applied, Error> {
        let name = uppermost(chain)?.hex();
        let stage = self.disk.stage()?;
        let path = stage.path();
        let root = stage.directory();
        fchmod(root, Mode::from_raw_mode(0o755)).map_err(Error::at("change mode of", &path))?;
        let layer = open_directory(root, ".").map_err(Error::at("open", &path))?;
        let trash = self.disk.open_in(Area::Trash, ".")?;
        let unpacked = unpack::unpack(layer, &trash, tar)?;
        if !unpacked.root_given {
            fsetxattr(root, init::IMPLIED, b"y", XattrFlags::empty()).map_err(Error::at("mark", &path))?;
        }
        settle::mark(root, &self.boot).map_err(Error::at("mark", &path))?;
        // If another one was faster, it has the same content.
        if stage.publish(Area::Layers, name)? {
            self.disk.settle(name);
        }
        Ok(unpacked.applied)
    }

    fn prepare(&self, key: &str, request: &Prepare<'_>) -> Result<(), Error> {
        check_key(key)?;
        let (layers, most) = (request.chain.len(), self.flavor.most_layers());
        if layers > most {
            let why = format!("{layers} layers are more than {} can stack ({most})", self.name());
            return Err(Error::at("prepare", key)(io::Error::new(io::ErrorKind::Unsupported, why)));
        }
        let init = init::name(request);
        if !self.disk.has(Area::Init, &init) {
            init::create(&self.disk, &init, request)?;
        }
        let stage = self.flavor.stage(&self.disk)?;
        self.flavor.make(&self.stack(&init)?, &stage, request)?;
        let boot = request.volatile.then_some(&*self.boot);
        set_mark(stage.directory(), &init, boot).map_err(Error::at("create", stage.path()))?;
        if stage.publish(Area::Snapshots, key)? {
            return Ok(());
        }
        let taken = io::Error::from(io::ErrorKind::AlreadyExists);
        Err(Error::at("create", self.disk.path(Area::Snapshots, key))(taken))
    }

    fn mounts(&self, key: &str) -> Result<Vec<Mount>, Error> {
        let (snapshot, stack) = self.both(key)?;
        self.flavor.mounts(&stack, &snapshot)
    }

    fn view(&self, key: &str) -> Result<OwnedFd, Error> {
        let (snapshot, stack) = self.both(key)?;
        self.flavor.view(&stack, &snapshot)
    }

    fn read(&self, key: &str, path: &Path, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        let (snapshot, stack) = self.both(key)?;
        let all = match self.flavor.upper(&snapshot)? {
            (tree, Upper::Complete(..)) => vec![tree],
            (upper, _) => {
                let (init, layers) = stack.open()?;
                [upper, init].into_iter().chain(layers).collect()
            }
        };
        let Some(file) = merged::open(all, path).map_err(Error::at("look for the container's", path))? else {
            return Ok(None);
        };
        let content = sys::rooted::read_bounded(file, limit, path);
        content.map(Some).map_err(Error::at("read the container's", path))
    }

    fn remove(&self, key: &str) -> Result<(), Error> {
        check_key(key)?;
        self.disk.discard(Area::Snapshots, key)
    }

    fn forget(&self, layer: &str) -> Result<(), Error> {
        check_key(layer)?;
        let rests_on = |record: &init::Record| record.layers.iter().any(|digest| digest.hex() == layer);
        for name in self.disk.list(Area::Init)? {
            if init::read_record(&self.disk, &name).is_ok_and(|record| rests_on(&record)) {
                self.discard_init(&name)?;
            }
        }
        self.disk.discard(Area::Layers, layer)
    }

    fn snapshots(&self) -> Result<Vec<String>, Error> {
        self.disk.list(Area::Snapshots)
    }

    fn layers(&self) -> Result<Vec<String>, Error> {
        self.disk.list(Area::Layers)
    }

    fn layer_name(&self, chain: &[Digest]) -> String {
        chain.last().map(|digest| digest.hex().to_owned()).unwrap_or_default()
    }

    fn changes(&self, key: &str) -> Result<Vec<Change>, Error> {
        let (snapshot, stack) = self.both(key)?;
        let ((upper, kind), (init, layers)) = (self.flavor.upper(&snapshot)?, stack.open()?);
        changes::changes(&upper, &layers, &init, kind)
    }

    fn diff(&self, key: &str, out: &mut dyn Write) -> Result<Packed, Error> {
        let (snapshot, stack) = self.both(key)?;
        let ((upper, kind), (init, layers)) = (self.flavor.upper(&snapshot)?, stack.open()?);
        let changes = changes::changes(&upper, &layers, &init, kind)?;
        changes::pack(upper, &changes, out)
    }

    fn export(&self, key: &str, with_init: bool, out: &mut dyn Write) -> Result<Packed, Error> {
        let (snapshot, stack) = self.both(key)?;
        let ((upper, kind), (init, layers)) = (self.flavor.upper(&snapshot)?, stack.open()?);
        let mut packer = Packer::new(out);
        match (kind, with_init) {
            (Upper::Complete(..), true) => merged::pack(&[upper], &mut Vec::new(), &mut packer)?,
            (Upper::Complete(..), false) => {
                let changed = changes::changes(&upper, &layers, &init, kind)?;
                merged::pack_some(&upper, &layers, &changed, &mut Vec::new(), &mut packer)?;
            }
            _ => {
                let init = with_init.then_some(init);
                let all: Vec<_> = std::iter::once(upper).chain(init).chain(layers).collect();
                merged::pack(&all, &mut Vec::new(), &mut packer)?;
            }
        }
        packer.finish()
    }

    fn layer_tar(&self, chain: &[Digest], out: &mut dyn Write) -> Result<Packed, Error> {
        let layer = self.layer(chain)?;
        let implied =
            tree::has_xattr(&layer, init::IMPLIED).map_err(Error::at("look at", self.layer_path(chain)))?;
        changes::pack_layer(&layer, !implied, out)
    }

    fn layer_usage(&self, chain: &[Digest]) -> Result<Usage, Error> {
        let layer = self.layer(chain)?;
        let mut known = [0; 64];
        if let Ok(length) = fgetxattr(&layer, USAGE, &mut known[..])
            && let Some(usage) = parse_usage(&known[..length])
        {
            return Ok(usage);
        }
        let at = || self.layer_path(chain);
        let again = open_directory(&layer, ".").map_err(Error::at("open", at()))?;
        let usage = tree::usage(again).map_err(Error::at("measure", at()))?;
        let text = format!("{} {}", usage.bytes, usage.inodes);
        // Where that fails, it is measured again.
        let _ = fsetxattr(&layer, USAGE, text.as_bytes(), XattrFlags::empty());
        Ok(usage)
    }

    fn usage(&self, key: &str) -> Result<Usage, Error> {
        let (snapshot, stack) = self.both(key)?;
        let (upper, kind) = self.flavor.upper(&snapshot)?;
        if let Upper::Complete(..) = kind {
            let (init, layers) = stack.open()?;
            let changes = changes::changes(&upper, &layers, &init, kind)?;
            return Ok(changes::usage(&upper, &changes));
        }
        tree::usage(upper).map_err(Error::at("measure", snapshot.path))
    }

    fn describe(&self, key: &str) -> Result<BTreeMap<String, String>, Error> {
        let (snapshot, stack) = self.both(key)?;
        Ok(self.flavor.describe(&stack, &snapshot))
    }
}
