//! Init layers: what every container needs in its image (places to mount on, device links), one for each image
//! and wish, shared by all its containers.
//!
//! Which entries it has depends on what the image shows, so names are looked up through the chain as overlayfs
//! would. A directory that it makes where the image has one carries that one's mode, owner, time and attributes,
//! because overlayfs shows those of the uppermost.

use std::{
    ffi::CStr,
    io::Read,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use oci::{Digest, IdMap};
use rustix::{
    fs::{AtFlags, Gid, Mode, OFlags, Stat, Uid, chmodat, fchmod, fchown, fsync, mkdirat, openat, symlinkat},
    io::Errno,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    Error, InitEntry, InitKind, Prepare,
    disk::{Area, Disk},
    merged::{Found, step},
    tree::{self, OPAQUE, copy_attributes, has_xattr, open_directory, set_mtime},
};

/// On the root of a layer whose archive does not say what the root is like.
pub(crate) const IMPLIED: &CStr = c"trusted.knarr.implied";
/// The layer itself.
pub(crate) const FILES: &str = "files";
const RECORD: &str = "record.json";
const VERSION: u32 = 1;
/// Far above the largest record: 500 layers.
const RECORD_LIMIT: u64 = 1 << 20;

/// What a snapshot needs to know again at each start, beside its init layer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    version: u32,
    /// The layers that matter, uppermost first.
    pub(crate) layers: Vec<Digest>,
    /// Layers, init layer and writable layer hold ids as they are inside; the mount maps them.
    pub(crate) ids: IdMap,
}

/// The name of the init layer for `request`; short, for the mark on each snapshot.
pub(crate) fn name(request: &Prepare<'_>) -> String {
    let mut hash = Sha256::new();
    hash.update([VERSION as u8]);
    for digest in request.chain {
        hash.update(digest.as_str());
    }
    for InitEntry { path, kind } in request.init {
        let (letter, target) = match kind {
            InitKind::Directory => ("d", ""),
            InitKind::File => ("f", ""),
            InitKind::Link(target) => ("l", *target),
        };
        for part in [letter, path, target] {
            hash.update(part);
            hash.update([0]);
        }
    }
    for line in request
        .ids
        .uids
        .iter()
        .chain([&oci::IdMapping { container: 0, host: 0, size: 0 }])
        .chain(&request.ids.gids)
    {
        for number in [line.container, line.host, line.size] {
            hash.update(number.to_be_bytes());
        }
    }
    Digest::sha256(hash.finalize().into()).hex()[..32].to_owned()
}

pub(crate) fn read_record(disk: &Disk, name: &str) -> Result<Record, Error> {
    let path = disk.path(Area::Init, name).join(RECORD);
    let mut bytes = Vec::new();
    std::fs::File::open(&path)
        .and_then(|file| file.take(RECORD_LIMIT).read_to_end(&mut bytes))
        .map_err(Error::at("read", &path))?;
    let record: Record = serde_json::from_slice(&bytes).map_err(Error::at("read", &path))?;
    if record.version != VERSION {
        let why = format!("version {} is not known to this program", record.version);
        return Err(Error::at("read", path)(std::io::Error::other(why)));
    }
    Ok(record)
}

/// Makes the init layer `name` for `request` and publishes it.
pub(crate) fn create(disk: &Disk, name: &str, request: &Prepare<'_>) -> Result<(), Error> {
    let image = Image::open(disk, request.chain)?;
    let stage = disk.stage()?;
    let path = stage.path();
    mkdirat(stage.directory(), FILES, tree::PRIVATE).map_err(Error::at("create", path.join(FILES)))?;
    let files = open_directory(stage.directory(), FILES).map_err(Error::at("open", path.join(FILES)))?;
    let mut layer = Layer {
        made: vec![image.root_attributes(&files).map_err(Error::at("create", path.join(FILES)))?],
        image: &image,
        files,
    };
    for entry in request.init {
        layer.add(entry).map_err(Error::at("create", path.join(FILES).join(&entry.path[1..])))?;
    }
    layer.finish().map_err(Error::at("set time of", path.join(FILES)))?;
    let record = Record { version: VERSION, layers: image.layers, ids: request.ids.clone() };
    write_record(stage.directory(), &record).map_err(Error::at("write", path.join(RECORD)))?;
    // If another one was faster, it made the same.
    stage.publish_durably(Area::Init, name)?;
    Ok(())
}

fn write_record(directory: &OwnedFd, record: &Record) -> std::io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let mut file = std::fs::File::from(openat(directory, RECORD, flags, Mode::RUSR | Mode::WUSR)?);
    serde_json::to_writer(&mut file, record)?;
    fsync(&file)?;
    Ok(())
}

/// The layers of a chain as overlayfs would merge them.
struct Image {
    layers: Vec<Digest>,
    /// Roots, uppermost first.
    roots: Vec<OwnedFd>,
}

impl Image {
    fn open(disk: &Disk, chain: &[Digest]) -> Result<Self, Error> {
        let mut image = Image { layers: Vec::new(), roots: Vec::new() };
        for digest in chain.iter().rev() {
            // Again below itself, a layer has nothing that does not show above; overlayfs refuses it.
            if image.layers.contains(digest) {
                continue;
            }
            if !disk.has(Area::Layers, digest.hex()) {
                return Err(Error::Missing(format!("layer {digest}")));
            }
            let root = disk.open_in(Area::Layers, digest.hex())?;
            // On a root, overlayfs does not look for it.
            let opaque =
                has_xattr(&root, OPAQUE).map_err(Error::at("read", disk.path(Area::Layers, digest.hex())))?;
            image.layers.push(digest.clone());
            image.roots.push(root);
            if opaque {
                break;
            }
        }
        Ok(image)
    }

    fn look(&self, path: &Path) -> rustix::io::Result<Found> {
        let mut merged: Option<Vec<OwnedFd>> = None;
        for component in path.components().skip(1) {
            let above = merged.as_ref().unwrap_or(&self.roots);
            match step(above, component.as_os_str())? {
                Found::Directories(directories) => merged = Some(directories),
                other => return Ok(other),
            }
        }
        Ok(Found::Directories(merged.unwrap_or_default()))
    }

    /// Gives `files` what the image's root has, or the usual.
    fn root_attributes(&self, files: &OwnedFd) -> rustix::io::Result<(String, Option<Stat>)> {
        for root in &self.roots {
            if !has_xattr(root, IMPLIED)? {
                return Ok((".".to_owned(), Some(copy_attributes(root, files)?)));
            }
        }
        fchown(files, Some(Uid::ROOT), Some(Gid::ROOT))?;
        fchmod(files, Mode::from_raw_mode(0o755))?;
        Ok((".".to_owned(), None))
    }
}

/// The init layer in the making.
struct Layer<'a> {
    image: &'a Image,
    files: OwnedFd,
    /// Directories made, and what each is to look like in the end.
    made: Vec<(String, Option<Stat>)>,
}

impl Layer<'_> {
    fn add(&mut self, entry: &InitEntry) -> std::io::Result<()> {
        let path = Path::new(entry.path);
        if !matches!(self.image.look(path)?, Found::Nothing) {
            return Ok(());
        }
        let parents: Vec<_> = path.parent().into_iter().flat_map(Path::ancestors).collect();
        for parent in &parents {
            if matches!(self.image.look(parent)?, Found::Other(..)) {
                return Ok(());
            }
        }
        for parent in parents.iter().rev().skip(1) {
            self.directory(parent)?;
        }
        let below = below_root(path);
        match entry.kind {
            InitKind::Directory => return Ok(self.directory(path)?),
            InitKind::File => {
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = openat(&self.files, below, flags, Mode::RUSR)?;
                fchmod(&file, Mode::from_raw_mode(0o755))?;
            }
            InitKind::Link(target) => symlinkat(target, &self.files, below)?,
        }
        Ok(())
    }

    fn directory(&mut self, path: &Path) -> rustix::io::Result<()> {
        let below = below_root(path);
        match mkdirat(&self.files, below, tree::PRIVATE) {
            Err(Errno::EXIST) => return Ok(()),
            made => made?,
        }
        let like = match self.image.look(path)? {
            Found::Directories(directories) if !directories.is_empty() => {
                let made = open_directory(&self.files, below)?;
                Some(copy_attributes(&directories[0], &made)?)
            }
            _ => {
                chmodat(&self.files, below, Mode::from_raw_mode(0o755), AtFlags::empty())?;
                None
            }
        };
        self.made.push((below.to_string_lossy().into_owned(), like));
        Ok(())
    }

    /// Times, when nothing changes them any more.
    fn finish(self) -> rustix::io::Result<()> {
        for (path, like) in &self.made {
            if let Some(stat) = like {
                set_mtime(open_directory(self.files.as_fd(), &**path)?, stat)?;
            }
        }
        Ok(())
    }
}

fn below_root(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}
