//! The overlayfs driver.
//!
//! ```text
//! ROOT/                       0700, one process at a time
//!   layers/<diff id>/         one layer's files; needs no parents, so its own digest is its name
//!   init/<hash>/files/        what containers need in an image, shared by all with the same wishes
//!              /record.json   which layers are below, and the id map
//!   snapshots/<key>/upper/    a container's own files
//!                  /work/     overlayfs' own
//!                  /init      link to the init layer
//!                  /volatile  link to the boot it may live in, if its crash may lose it
//!   tmp/  trash/              on their way in and out
//! ```
//!
//! What a snapshot knows stands in links, not in files: file systems journal names, so that nothing has to be
//! synced when a container is created, and a power cut leaves either all of it or nothing.

mod disk;
mod init;
mod stack;

use std::{
    collections::BTreeMap,
    io::{self, Read},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use oci::{Digest, Mount};
use rustix::{
    fs::{
        AtFlags, RenameFlags, XattrFlags, fchmod, fsetxattr, mkdirat, readlinkat, renameat_with, symlinkat,
        unlinkat,
    },
    io::Errno,
};

use self::{
    disk::{Area, Disk},
    init::FILES,
    stack::{Dialect, MOST_LAYERS},
};
use crate::{
    Applied, Driver, Error, Prepare, Usage,
    tree::{self, PRIVATE, copy_attributes, open_directory, set_mtime},
    unpack,
};

const UPPER: &str = "upper";
const WORK: &str = "work";
const INIT: &str = "init";
const VOLATILE: &str = "volatile";
/// Left by a volatile mount; overlayfs refuses to mount again over it.
const INCOMPATIBLE: &str = "work/work/incompat";

/// Layers and snapshots for overlayfs.
#[derive(Debug)]
pub(crate) struct Overlay {
    disk: Disk,
    dialect: Dialect,
    /// This boot's name.
    boot: String,
}

impl Overlay {
    pub(crate) fn open(root: &Path) -> Result<Self, Error> {
        let disk = Disk::open(root)?;
        let dialect = Dialect::of_this_kernel(&disk.path(Area::Layers, ""))
            .map_err(Error::at("use overlayfs in", root))?;
        let boot = "/proc/sys/kernel/random/boot_id";
        let boot = std::fs::read_to_string(boot).map_err(Error::at("read", boot))?;
        let overlay = Self {
            disk,
            dialect,
            boot: boot.trim().to_owned(),
        };
        overlay.sweep_init_layers()?;
        Ok(overlay)
    }

    /// Init layers of images that are gone: a crash came between the removal of the one and of the other.
    fn sweep_init_layers(&self) -> Result<(), Error> {
        let mut used = Vec::new();
        for key in self.disk.list(Area::Snapshots)? {
            used.extend(self.init_of(&key));
        }
        for name in self.disk.list(Area::Init)? {
            let whole = init::read_record(&self.disk, &name).is_ok_and(|record| {
                record
                    .layers
                    .iter()
                    .all(|layer| self.disk.has(Area::Layers, layer.hex()))
            });
            if !whole && !used.contains(&name) {
                self.disk.discard(Area::Init, &name)?;
            }
        }
        Ok(())
    }

    /// The init layer of a snapshot.
    fn init_of(&self, key: &str) -> Result<String, Error> {
        check_key(key)?;
        let link = Path::new(key).join(INIT);
        match readlinkat(self.disk.area(Area::Snapshots), &link, Vec::new()) {
            Ok(target) => Ok(target
                .to_string_lossy()
                .trim_start_matches("../../init/")
                .to_owned()),
            Err(Errno::NOENT) => Err(Error::Missing(format!("snapshot {key}"))),
            Err(error) => Err(Error::at("read", self.disk.path(Area::Snapshots, link))(error)),
        }
    }

    /// What is below the writable layer, uppermost first.
    fn lower(&self, key: &str) -> Result<(Vec<PathBuf>, init::Record), Error> {
        let name = self.init_of(key)?;
        let record = init::read_record(&self.disk, &name)?;
        let mut lower = vec![self.disk.path(Area::Init, name).join(FILES)];
        lower.extend(
            record
                .layers
                .iter()
                .map(|layer| self.disk.path(Area::Layers, layer.hex())),
        );
        Ok((lower, record))
    }

    /// An empty writable layer that looks like the image's root.
    fn make_upper(&self, snapshot: &OwnedFd, init: &str) -> rustix::io::Result<()> {
        mkdirat(snapshot, WORK, PRIVATE)?;
        mkdirat(snapshot, UPPER, PRIVATE)?;
        let like = open_directory(self.disk.area(Area::Init), Path::new(init).join(FILES))?;
        let upper = open_directory(snapshot, UPPER)?;
        set_mtime(&upper, &copy_attributes(like, &upper)?)
    }

    /// Makes a volatile snapshot ready for another mount. After a crash of the machine its files may be damaged
    /// (overlayfs.rst, "Volatile mount"), so it starts again from nothing.
    fn refresh(&self, key: &str, snapshot: &OwnedFd) -> Result<bool, Error> {
        let path = self.disk.path(Area::Snapshots, key);
        let boot = match readlinkat(snapshot, VOLATILE, Vec::new()) {
            Ok(boot) => boot,
            Err(Errno::NOENT) => return Ok(false),
            Err(error) => return Err(Error::at("read", path.join(VOLATILE))(error)),
        };
        if boot.to_bytes() == self.boot.as_bytes() {
            let name = std::ffi::OsStr::new(INCOMPATIBLE);
            return tree::remove(snapshot.as_fd(), name, self.disk.area(Area::Trash))
                .map(|()| true)
                .map_err(Error::at("remove", path.join(INCOMPATIBLE)));
        }
        for old in [UPPER, WORK] {
            let trash = self.disk.area(Area::Trash);
            match renameat_with(snapshot, old, trash, tree::unique(), RenameFlags::NOREPLACE) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(Error::at("remove", path.join(old))(error)),
            }
        }
        self.make_upper(snapshot, &self.init_of(key)?)
            .map_err(Error::at("create", path.join(UPPER)))?;
        unlinkat(snapshot, VOLATILE, AtFlags::empty())
            .and_then(|()| symlinkat(&*self.boot, snapshot, VOLATILE))
            .map_err(Error::at("renew", path.join(VOLATILE)))?;
        Ok(true)
    }
}

/// Keys become file names.
fn check_key(key: &str) -> Result<(), Error> {
    let fits = (1..=200).contains(&key.len())
        && !key.starts_with('.')
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    if fits {
        return Ok(());
    }
    let why = "a snapshot's key has letters, digits, `_`, `.` and `-`, and starts with no dot";
    Err(Error::at("use", key)(io::Error::new(
        io::ErrorKind::InvalidInput,
        why,
    )))
}

fn uppermost(chain: &[Digest]) -> Result<&Digest, Error> {
    chain
        .last()
        .ok_or_else(|| Error::Missing("the uppermost layer of no layers".to_owned()))
}

impl Driver for Overlay {
    fn name(&self) -> &'static str {
        "overlay"
    }

    fn has(&self, chain: &[Digest]) -> bool {
        chain
            .last()
            .is_none_or(|digest| self.disk.has(Area::Layers, digest.hex()))
    }

    fn apply(&self, chain: &[Digest], tar: &mut dyn Read) -> Result<Applied, Error> {
        let name = uppermost(chain)?.hex();
        let stage = self.disk.stage()?;
        let path = stage.path();
        let root = stage.directory();
        fchmod(root, rustix::fs::Mode::from_raw_mode(0o755)).map_err(Error::at("change mode of", &path))?;
        let layer = open_directory(root, ".").map_err(Error::at("open", &path))?;
        let trash = self.disk.open_in(Area::Trash, ".")?;
        let unpacked = unpack::unpack(layer, &trash, tar)?;
        if !unpacked.root_given {
            fsetxattr(root, init::IMPLIED, b"y", XattrFlags::empty()).map_err(Error::at("mark", &path))?;
        }
        stage.sync()?;
        // If another one was faster, it has the same content.
        stage.publish_durably(Area::Layers, name)?;
        Ok(unpacked.applied)
    }

    fn prepare(&self, key: &str, request: &Prepare<'_>) -> Result<(), Error> {
        check_key(key)?;
        // One for the init layer.
        if request.chain.len() >= MOST_LAYERS {
            let why = format!(
                "{} layers are more than overlayfs can stack ({MOST_LAYERS})",
                request.chain.len()
            );
            return Err(Error::at("prepare", key)(io::Error::new(
                io::ErrorKind::Unsupported,
                why,
            )));
        }
        let init = init::name(request);
        if !self.disk.has(Area::Init, &init) {
            init::create(&self.disk, &init, request)?;
        }
        let stage = self.disk.stage()?;
        let link = format!("../../init/{init}");
        self.make_upper(stage.directory(), &init)
            .and_then(|()| symlinkat(link, stage.directory(), INIT))
            .and_then(|()| {
                if request.volatile {
                    symlinkat(&*self.boot, stage.directory(), VOLATILE)
                } else {
                    Ok(())
                }
            })
            .map_err(Error::at("create", stage.path()))?;
        if stage.publish(Area::Snapshots, key)? {
            return Ok(());
        }
        let taken = io::Error::from(io::ErrorKind::AlreadyExists);
        Err(Error::at("create", self.disk.path(Area::Snapshots, key))(taken))
    }

    fn mounts(&self, key: &str) -> Result<Vec<Mount>, Error> {
        let path = self.disk.path(Area::Snapshots, key);
        let (lower, record) = self.lower(key)?;
        let snapshot = self.disk.open_in(Area::Snapshots, key)?;
        let volatile = self.refresh(key, &snapshot)?;
        let mut options = self.dialect.options(&lower).map_err(Error::at("mount", &path))?;
        options.push(format!("upperdir={}", path.join(UPPER).display()));
        options.push(format!("workdir={}", path.join(WORK).display()));
        if volatile {
            options.push(VOLATILE.to_owned());
        }
        Ok(vec![Mount {
            destination: "/".to_owned(),
            kind: Some("overlay".to_owned()),
            source: Some("overlay".to_owned()),
            options,
            uid_mappings: record.ids.uids,
            gid_mappings: record.ids.gids,
        }])
    }

    fn view(&self, key: &str) -> Result<OwnedFd, Error> {
        let upper = self.disk.path(Area::Snapshots, key).join(UPPER);
        let (lower, _) = self.lower(key)?;
        let mut directories = Vec::new();
        for path in std::iter::once(&upper).chain(&lower) {
            directories.push(open_directory(rustix::fs::CWD, path).map_err(Error::at("open", path))?);
        }
        self.dialect.view(&directories).map_err(Error::at("mount", upper))
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
                self.disk.discard(Area::Init, &name)?;
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
        chain
            .last()
            .map(|digest| digest.hex().to_owned())
            .unwrap_or_default()
    }

    fn usage(&self, key: &str) -> Result<Usage, Error> {
        self.init_of(key)?;
        let path = self.disk.path(Area::Snapshots, key).join(UPPER);
        let upper = open_directory(rustix::fs::CWD, &path).map_err(Error::at("open", &path))?;
        tree::usage(upper).map_err(Error::at("measure", path))
    }

    fn describe(&self, key: &str) -> Result<BTreeMap<String, String>, Error> {
        let path = self.disk.path(Area::Snapshots, key);
        let (lower, _) = self.lower(key)?;
        let lower: Vec<_> = lower.iter().map(|path| path.display().to_string()).collect();
        Ok(BTreeMap::from([
            ("LowerDir".to_owned(), lower.join(":")),
            ("UpperDir".to_owned(), path.join(UPPER).display().to_string()),
            ("WorkDir".to_owned(), path.join(WORK).display().to_string()),
        ]))
    }
}
