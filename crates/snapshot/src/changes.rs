//! What a container's tree has that its image has not, and the reverse; and the layer that says so.
//!
//! Two kinds of trees are compared with a stack of lower directories: a writable layer with overlayfs' marks, which
//! only holds what was touched, and a complete tree, where a missing name is a removed one.

use std::{
    collections::HashSet,
    ffi::OsStr,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use rustix::{
    fs::{Mode, OFlags, Stat, fstat},
    io::Errno,
};
use sys::Root;

use crate::{
    Change, ChangeKind, Error, Packed, Usage,
    merged::{Found, names_of, step},
    pack::{self, Packer},
    same,
    tree::{
        self, OPAQUE, WHITEOUT, has_xattr, host_path, is_directory, is_whiteout, look, names, open_directory,
    },
};

/// What kind of tree is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Upper {
    /// A writable layer of overlayfs.
    Layer,
    /// Below an opaque directory of such a layer: everything is said here.
    Opaque,
    /// A whole tree, copied at this moment (seconds and nanoseconds of its last change of status): what has not
    /// changed since is as it was.
    Complete(i64, i64),
}

/// Every difference, directories before what is in them, names in order. What only the init layer put there is none.
pub(crate) fn changes(
    upper: &OwnedFd,
    lower: &[OwnedFd],
    init: &OwnedFd,
    kind: Upper,
) -> Result<Vec<Change>, Error> {
    let mut walk = Walk { changes: Vec::new(), path: Vec::new() };
    // A layer on top of the init layer does not hold what is in it.
    let init = matches!(kind, Upper::Complete(..)).then_some(init);
    walk.level(upper, &Below { lower, init }, kind)?;
    Ok(walk.changes)
}

/// What a directory is compared with.
struct Below<'a> {
    lower: &'a [OwnedFd],
    init: Option<&'a OwnedFd>,
}

struct Walk {
    changes: Vec<Change>,
    /// Without a slash at its start.
    path: Vec<u8>,
}

impl Walk {
    fn level(&mut self, upper: &OwnedFd, below: &Below<'_>, kind: Upper) -> Result<(), Error> {
        let mut all = names(upper).map_err(self.error("list"))?;
        if kind != Upper::Layer {
            all.extend(names_of(below.lower).map_err(self.error("list"))?);
        }
        if !matches!(kind, Upper::Complete(..)) {
            // fuse-overlayfs writes its marks twice: as overlayfs does, and as these files. No layer could hold them.
            all.retain(|name| !name.starts_with(WHITEOUT));
        }
        all.sort_unstable();
        all.dedup();
        for name in all {
            let length = self.path.len();
            if length > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(&name);
            self.name(upper, below, kind, &name)?;
            self.path.truncate(length);
        }
        Ok(())
    }

    fn name(&mut self, upper: &OwnedFd, below: &Below<'_>, kind: Upper, name: &[u8]) -> Result<(), Error> {
        let found = step(below.lower, OsStr::from_bytes(name)).map_err(self.error("look at"))?;
        let there = look(upper, name).map_err(self.error("look at"))?;
        // In a complete tree, such a device is one.
        let complete = matches!(kind, Upper::Complete(..));
        let there = there.filter(|stat| complete || !is_whiteout(stat));
        match (there, found) {
            (None, Found::Nothing) => {}
            (None, _) => self.push(ChangeKind::Deleted),
            (Some(stat), found) if is_directory(&stat) => {
                self.directory(upper, name, found, below.init, kind)?;
            }
            (Some(stat), Found::Nothing) => {
                let old = below.init.and_then(|init| Some((init, look(init, name).ok()??)));
                if !self.unchanged(name, (upper, &stat), old.as_ref().map(|(at, stat)| (*at, stat)), kind)? {
                    self.push(ChangeKind::Added);
                }
            }
            (Some(stat), Found::Other(at, old)) => {
                if !self.unchanged(name, (upper, &stat), Some((&below.lower[at], &old)), kind)? {
                    self.push(ChangeKind::Modified);
                }
            }
            (Some(_), Found::Directories(_)) => self.push(ChangeKind::Modified),
        }
        Ok(())
    }

    /// Only a complete tree holds what nobody touched.
    fn unchanged(
        &self,
        name: &[u8],
        new: (&OwnedFd, &Stat),
        old: Option<(&OwnedFd, &Stat)>,
        kind: Upper,
    ) -> Result<bool, Error> {
        match (kind, old) {
            (Upper::Complete(seconds, nanoseconds), Some(old)) => {
                same::entry(name, new, old, (seconds, nanoseconds)).map_err(self.error("compare"))
            }
            _ => Ok(false),
        }
    }

    fn directory(
        &mut self,
        upper: &OwnedFd,
        name: &[u8],
        found: Found,
        init: Option<&OwnedFd>,
        kind: Upper,
    ) -> Result<(), Error> {
        let directory = match open_directory(upper, name) {
            // The container is at work.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            opened => opened.map_err(self.error("open"))?,
        };
        let kind = match kind {
            Upper::Layer if has_xattr(&directory, OPAQUE).map_err(self.error("look at"))? => Upper::Opaque,
            same => same,
        };
        let init = init.and_then(|init| open_directory(init, name).ok());
        let before = self.changes.len();
        let (lower, like) = match (found, &init) {
            (Found::Directories(lower), _) => (lower, true),
            (Found::Nothing, Some(_)) => (Vec::new(), true),
            (Found::Nothing, None) => (Vec::new(), false),
            (Found::Other(..), _) => {
                self.push(ChangeKind::Modified);
                let kind = if kind == Upper::Layer { Upper::Opaque } else { kind };
                return self.level(&directory, &Below { lower: &[], init: None }, kind);
            }
        };
        let in_image = !lower.is_empty();
        self.push(if in_image { ChangeKind::Modified } else { ChangeKind::Added });
        let inside = if in_image || kind != Upper::Layer { kind } else { Upper::Opaque };
        self.level(&directory, &Below { lower: &lower, init: init.as_ref() }, inside)?;
        // Copied up only because something in it was opened for writing, or looked at by a complete comparison.
        let touched = self.changes.len() > before + 1;
        let old = lower.first().or(init.as_ref());
        if let (true, false, Some(old)) = (like, touched, old)
            && same::directory(&directory, old, in_image).map_err(self.error("compare"))?
        {
            self.changes.truncate(before);
        }
        Ok(())
    }

    fn push(&mut self, kind: ChangeKind) {
        let path = [b"/", &self.path[..]].concat();
        self.changes.push(Change { path, kind });
    }

    fn error<E: Into<std::io::Error>>(&self, what: &'static str) -> impl FnOnce(E) -> Error + use<E> {
        Error::at(what, host_path(&self.path))
    }
}

/// The layer archive that makes `changes`, found in the tree `upper`, to whoever has what is below.
pub(crate) fn pack(
    upper: OwnedFd,
    changes: &[Change],
    out: &mut dyn std::io::Write,
) -> Result<Packed, Error> {
    let root = Root::from_fd(upper);
    let mut packer = Packer::new(out);
    let mut cached: Option<(Vec<u8>, OwnedFd)> = None;
    for change in changes {
        let path = &change.path[1..];
        if change.kind == ChangeKind::Deleted {
            packer.whiteout(path)?;
            continue;
        }
        let (parent, name) = tree::split(path);
        let directory = match cached.take() {
            Some((have, directory)) if have == parent => directory,
            _ => {
                let inside =
                    if parent.is_empty() { Path::new("/") } else { Path::new(OsStr::from_bytes(parent)) };
                match root.get_no_links(inside, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()) {
                    Ok(directory) => directory,
                    Err(error) if vanished(&error) => continue,
                    Err(error) => return Err(Error::at("open", host_path(parent))(error)),
                }
            }
        };
        if let Some(stat) = look(&directory, name).map_err(Error::at("look at", host_path(path)))? {
            packer.entry(directory.as_fd(), name, path, &stat)?;
        }
        cached = Some((parent.to_vec(), directory));
    }
    packer.finish()
}

/// What a running container may do to a name between two looks.
fn vanished(error: &std::io::Error) -> bool {
    Errno::from_io_error(error).is_some_and(pack::is_gone)
}

/// A layer as it lies on disk, with overlayfs' marks, as the archive that it could have come from. `root_given`:
/// whether that archive said what the root directory is like.
pub(crate) fn pack_layer(
    layer: &OwnedFd,
    root_given: bool,
    out: &mut dyn std::io::Write,
) -> Result<Packed, Error> {
    let mut packer = Packer::new(out);
    if root_given {
        packer.directory(layer, b".")?;
    }
    pack_marked(layer, &mut Vec::new(), &mut packer)?;
    packer.finish()
}

fn pack_marked(directory: &OwnedFd, path: &mut Vec<u8>, packer: &mut Packer<'_>) -> Result<(), Error> {
    let length = path.len();
    if length > 0 {
        path.push(b'/');
    }
    if has_xattr(directory, OPAQUE).map_err(Error::at("look at", host_path(path)))? {
        packer.opaque(path)?;
    }
    let mut all = names(directory).map_err(Error::at("list", host_path(path)))?;
    all.sort_unstable();
    let start = path.len();
    for name in all {
        path.extend_from_slice(&name);
        let stat = look(directory, &name[..]).map_err(Error::at("look at", host_path(path)))?;
        match stat {
            None => {}
            Some(stat) if is_whiteout(&stat) => packer.whiteout(path)?,
            Some(stat) => {
                packer.entry(directory.as_fd(), &name, path, &stat)?;
                if is_directory(&stat) {
                    let child =
                        open_directory(directory, &name[..]).map_err(Error::at("open", host_path(path)))?;
                    pack_marked(&child, path, packer)?;
                }
            }
        }
        path.truncate(start);
    }
    path.truncate(length);
    Ok(())
}

/// The moment of the last change of a thing's status, for [`Upper::Complete`].
pub(crate) fn moment(of: impl AsFd) -> rustix::io::Result<Upper> {
    let stat: Stat = fstat(of)?;
    Ok(Upper::Complete(stat.st_ctime as i64, stat.st_ctime_nsec as i64))
}

/// What was added or changed in a tree takes.
pub(crate) fn usage(tree: &OwnedFd, changes: &[Change]) -> Usage {
    let mut usage = Usage::default();
    let mut linked = HashSet::new();
    for change in changes.iter().filter(|change| change.kind != ChangeKind::Deleted) {
        let path = &change.path[1..];
        // Where a link is on the way by now, there is nothing left to count.
        if let Ok(Some(stat)) = look(tree, path) {
            if stat.st_nlink > 1 && !is_directory(&stat) && !linked.insert(stat.st_ino) {
                continue;
            }
            usage.inodes += 1;
            usage.bytes += stat.st_blocks as u64 * 512;
        }
    }
    usage
}
