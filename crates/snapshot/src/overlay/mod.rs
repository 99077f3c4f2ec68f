//! The overlayfs driver.
//!
//! ```text
//! ROOT/                       0700, one process at a time
//!   layers/<diff id>/         one layer's files; needs no parents, so its own digest is its name
//!   init/<hash>/files/        what containers need in an image, shared by all with the same wishes
//!              /record.json   which layers are below, and the id map
//!   snapshots/<key>/upper/    a container's own files; on <key>, an attribute names the init layer
//!                  /work/     overlayfs' own
//!   tmp/  trash/              on their way in and out
//! ```
//!
//! What a snapshot knows stands in an attribute, not in a file: file systems journal attributes and names, so that
//! nothing has to be synced when a container is created, and a power cut leaves either all of it or nothing.

mod disk;
mod init;
mod peek;
mod stack;

use std::{
    collections::BTreeMap,
    ffi::{CStr, OsStr},
    io::{self, Read, Write},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use oci::{Digest, Mount};
use rustix::{
    fs::{Mode, RenameFlags, XattrFlags, fchmod, fgetxattr, fsetxattr, renameat_with},
    io::Errno,
};

use self::{
    disk::{Area, Disk, UPPER, WORK, make_writable},
    init::FILES,
    peek::{Found, peek},
    stack::{Dialect, MOST_LAYERS},
};
use crate::{
    Applied, Change, Driver, Error, Packed, Prepare, Usage,
    changes::{self, Upper},
    merged,
    pack::Packer,
    tree::{self, copy_attributes, open_directory, set_mtime},
    unpack,
};

/// On a snapshot: its init layer and, if a crash of the machine may lose it, a space and the boot it lives in.
/// Short enough for ext4 to keep it in the inode.
const MARK: &CStr = c"trusted.knarr.init";
const VOLATILE: &str = "volatile";
/// Left by a volatile mount; overlayfs refuses to mount again over it.
const INCOMPATIBLE: &str = "work/work/incompat";

/// Layers and snapshots for overlayfs.
#[derive(Debug)]
pub(crate) struct Overlay {
    disk: Disk,
    dialect: Dialect,
    /// This boot's name, shortened.
    boot: String,
}

impl Overlay {
    pub(crate) fn open(root: &Path) -> Result<Self, Error> {
        let disk = Disk::open(root)?;
        let dialect = Dialect::of_this_kernel(&disk.path(Area::Layers, ""))
            .map_err(Error::at("use overlayfs in", root))?;
        let boot = "/proc/sys/kernel/random/boot_id";
        let boot = std::fs::read_to_string(boot).map_err(Error::at("read", boot))?;
        let overlay = Self { disk, dialect, boot: boot.replace('-', "").chars().take(16).collect() };
        overlay.sweep_init_layers()?;
        Ok(overlay)
    }

    /// Init layers of images that are gone: a crash came between the removal of the one and of the other.
    fn sweep_init_layers(&self) -> Result<(), Error> {
        let mut used = Vec::new();
        for key in self.disk.list(Area::Snapshots)? {
            used.extend(self.mark(&key).map(|mark| mark.init));
        }
        for name in self.disk.list(Area::Init)? {
            let whole = init::read_record(&self.disk, &name).is_ok_and(|record| {
                record.layers.iter().all(|layer| self.disk.has(Area::Layers, layer.hex()))
            });
            if !whole && !used.contains(&name) {
                self.disk.discard(Area::Init, &name)?;
            }
        }
        Ok(())
    }

    /// What stands on a snapshot.
    fn mark(&self, key: &str) -> Result<Mark, Error> {
        check_key(key)?;
        let snapshot = match open_directory(self.disk.area(Area::Snapshots), key) {
            Err(Errno::NOENT) => return Err(Error::Missing(format!("snapshot {key}"))),
            opened => opened.map_err(Error::at("open", self.disk.path(Area::Snapshots, key)))?,
        };
        let mut value = [0; 128];
        let length = fgetxattr(&snapshot, MARK, &mut value[..])
            .map_err(Error::at("read the mark of", self.disk.path(Area::Snapshots, key)))?;
        let text = String::from_utf8_lossy(&value[..length]);
        let (init, boot) = match text.split_once(' ') {
            Some((init, boot)) => (init, Some(boot.to_owned())),
            None => (&*text, None),
        };
        Ok(Mark { snapshot, init: init.to_owned(), boot })
    }

    fn set_mark(&self, snapshot: &OwnedFd, init: &str, volatile: bool) -> rustix::io::Result<()> {
        let mark = if volatile { format!("{init} {}", self.boot) } else { init.to_owned() };
        fsetxattr(snapshot, MARK, mark.as_bytes(), XattrFlags::empty())
    }

    /// What is below the writable layer, uppermost first.
    fn lower(&self, mark: &Mark) -> Result<(Vec<PathBuf>, init::Record), Error> {
        let record = init::read_record(&self.disk, &mark.init)?;
        let mut lower = vec![self.disk.path(Area::Init, &mark.init).join(FILES)];
        lower.extend(record.layers.iter().map(|layer| self.disk.path(Area::Layers, layer.hex())));
        Ok((lower, record))
    }

    /// The writable layer, the image's layers, uppermost first, and the init layer of a snapshot.
    fn stack(&self, key: &str) -> Result<(OwnedFd, Vec<OwnedFd>, OwnedFd), Error> {
        let mark = self.mark(key)?;
        let path = self.disk.path(Area::Snapshots, key).join(UPPER);
        let upper = open_directory(&mark.snapshot, UPPER).map_err(Error::at("open", path))?;
        let (lower, _) = self.lower(&mark)?;
        let mut lower = lower
            .iter()
            .map(|path| open_directory(rustix::fs::CWD, path).map_err(Error::at("open", path)))
            .collect::<Result<Vec<_>, _>>()?;
        let init = lower.remove(0);
        Ok((upper, lower, init))
    }

    fn layer(&self, chain: &[Digest]) -> Result<OwnedFd, Error> {
        let digest = uppermost(chain)?;
        if !self.disk.has(Area::Layers, digest.hex()) {
            return Err(Error::Missing(format!("layer {digest}")));
        }
        self.disk.open_in(Area::Layers, digest.hex())
    }

    /// Makes an empty writable layer look like the image's root. Its mode is 0755 whatever the image says, as in
    /// Docker: a tree that was packed in a private directory would be of use to nobody but root.
    fn dress(&self, snapshot: &OwnedFd, init: &str) -> rustix::io::Result<()> {
        let like = open_directory(self.disk.area(Area::Init), Path::new(init).join(FILES))?;
        let upper = open_directory(snapshot, UPPER)?;
        let stat = copy_attributes(like, &upper)?;
        fchmod(&upper, Mode::from_raw_mode(0o755))?;
        set_mtime(&upper, &stat)
    }

    /// Makes a volatile snapshot ready for another mount. After a crash of the machine its files may be damaged
    /// (overlayfs.rst, "Volatile mount"), so it starts again from nothing.
    fn refresh(&self, key: &str, mark: &Mark) -> Result<(), Error> {
        let path = self.disk.path(Area::Snapshots, key);
        let trash = self.disk.area(Area::Trash);
        if mark.boot.as_ref() == Some(&self.boot) {
            return tree::remove(mark.snapshot.as_fd(), OsStr::new(INCOMPATIBLE), trash)
                .map_err(Error::at("remove", path.join(INCOMPATIBLE)));
        }
        for old in [UPPER, WORK] {
            match renameat_with(&mark.snapshot, old, trash, tree::unique(), RenameFlags::NOREPLACE) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(Error::at("remove", path.join(old))(error)),
            }
        }
        make_writable(&mark.snapshot)
            .and_then(|()| self.dress(&mark.snapshot, &mark.init))
            .and_then(|()| self.set_mark(&mark.snapshot, &mark.init, true))
            .map_err(Error::at("renew", path))
    }
}

/// See [`MARK`].
struct Mark {
    snapshot: OwnedFd,
    init: String,
    boot: Option<String>,
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

impl Driver for Overlay {
    fn name(&self) -> &'static str {
        "overlay"
    }

    fn has(&self, chain: &[Digest]) -> bool {
        chain.last().is_none_or(|digest| self.disk.has(Area::Layers, digest.hex()))
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
        if request.size.is_some() {
            return Err(Error::Unusable(
                "--storage-opt size is not supported by the storage driver overlay on this file system"
                    .to_owned(),
            ));
        }
        // One for the init layer.
        if request.chain.len() >= MOST_LAYERS {
            let why =
                format!("{} layers are more than overlayfs can stack ({MOST_LAYERS})", request.chain.len());
            return Err(Error::at("prepare", key)(io::Error::new(io::ErrorKind::Unsupported, why)));
        }
        let init = init::name(request);
        if !self.disk.has(Area::Init, &init) {
            init::create(&self.disk, &init, request)?;
        }
        let stage = self.disk.stage_snapshot()?;
        self.dress(stage.directory(), &init)
            .and_then(|()| self.set_mark(stage.directory(), &init, request.volatile))
            .map_err(Error::at("create", stage.path()))?;
        if stage.publish(Area::Snapshots, key)? {
            return Ok(());
        }
        let taken = io::Error::from(io::ErrorKind::AlreadyExists);
        Err(Error::at("create", self.disk.path(Area::Snapshots, key))(taken))
    }

    fn mounts(&self, key: &str) -> Result<Vec<Mount>, Error> {
        let path = self.disk.path(Area::Snapshots, key);
        let mark = self.mark(key)?;
        let (lower, record) = self.lower(&mark)?;
        let mut options = self.dialect.options(&lower).map_err(Error::at("mount", &path))?;
        options.push(format!("upperdir={}", path.join(UPPER).display()));
        options.push(format!("workdir={}", path.join(WORK).display()));
        if mark.boot.is_some() {
            self.refresh(key, &mark)?;
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
        let (lower, _) = self.lower(&self.mark(key)?)?;
        let mut directories = Vec::new();
        for path in std::iter::once(&upper).chain(&lower) {
            directories.push(open_directory(rustix::fs::CWD, path).map_err(Error::at("open", path))?);
        }
        self.dialect.view(&directories).map_err(Error::at("mount", upper))
    }

    fn read(&self, key: &str, path: &Path, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        let upper = self.disk.path(Area::Snapshots, key).join(UPPER);
        let (lower, _) = self.lower(&self.mark(key)?)?;
        for layer in std::iter::once(&upper).chain(&lower) {
            let directory = open_directory(rustix::fs::CWD, layer).map_err(Error::at("open", layer))?;
            match peek(directory, path).map_err(Error::at("look into", layer))? {
                Found::Nothing => {}
                Found::Hidden => return Ok(None),
                Found::Other => return crate::read_in(self.view(key)?, path, limit),
                Found::File(file) => {
                    let content = sys::rooted::read_bounded(file, limit, path);
                    return content.map(Some).map_err(Error::at("read the container's", path));
                }
            }
        }
        Ok(None)
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
        chain.last().map(|digest| digest.hex().to_owned()).unwrap_or_default()
    }

    fn changes(&self, key: &str) -> Result<Vec<Change>, Error> {
        let (upper, image, _) = self.stack(key)?;
        changes::changes(&upper, &image, Upper::Layer)
    }

    fn diff(&self, key: &str, out: &mut dyn Write) -> Result<Packed, Error> {
        let (upper, image, _) = self.stack(key)?;
        let changes = changes::changes(&upper, &image, Upper::Layer)?;
        changes::pack(upper, &changes, out)
    }

    fn export(&self, key: &str, with_init: bool, out: &mut dyn Write) -> Result<Packed, Error> {
        let (upper, image, init) = self.stack(key)?;
        let init = with_init.then_some(init);
        let stack: Vec<_> = std::iter::once(upper).chain(init).chain(image).collect();
        let mut packer = Packer::new(out);
        merged::pack(&stack, &mut Vec::new(), &mut packer)?;
        packer.finish()
    }

    fn layer_tar(&self, chain: &[Digest], out: &mut dyn Write) -> Result<Packed, Error> {
        let layer = self.layer(chain)?;
        let implied = tree::has_xattr(&layer, init::IMPLIED)
            .map_err(Error::at("look at", self.disk.path(Area::Layers, self.layer_name(chain))))?;
        changes::pack_layer(&layer, !implied, out)
    }

    fn layer_usage(&self, chain: &[Digest]) -> Result<Usage, Error> {
        let path = self.disk.path(Area::Layers, self.layer_name(chain));
        tree::usage(self.layer(chain)?).map_err(Error::at("measure", path))
    }

    fn usage(&self, key: &str) -> Result<Usage, Error> {
        let mark = self.mark(key)?;
        let path = self.disk.path(Area::Snapshots, key).join(UPPER);
        let upper = open_directory(&mark.snapshot, UPPER).map_err(Error::at("open", &path))?;
        tree::usage(upper).map_err(Error::at("measure", path))
    }

    fn describe(&self, key: &str) -> Result<BTreeMap<String, String>, Error> {
        let path = self.disk.path(Area::Snapshots, key);
        let (lower, _) = self.lower(&self.mark(key)?)?;
        let lower: Vec<_> = lower.iter().map(|path| path.display().to_string()).collect();
        Ok(BTreeMap::from([
            ("LowerDir".to_owned(), lower.join(":")),
            ("UpperDir".to_owned(), path.join(UPPER).display().to_string()),
            ("WorkDir".to_owned(), path.join(WORK).display().to_string()),
        ]))
    }
}
