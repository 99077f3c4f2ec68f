//! What a container's tree has that its image has not, and the reverse; and the layer that says so.
//!
//! Two kinds of trees are compared with a stack of lower directories: a writable layer with overlayfs' marks, which
//! only holds what was touched, and a complete tree, where a missing name is a removed one.

use std::{
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
    Change, ChangeKind, Error, Packed,
    merged::{Found, names_of, step},
    pack::{self, Packer},
    same,
    tree::{self, OPAQUE, has_xattr, host_path, is_directory, is_whiteout, look, names, open_directory},
};

/// What kind of tree is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Upper {
    /// A writable layer of overlayfs.
    Layer,
    /// Below an opaque directory of such a layer: everything is said here.
    Opaque,
    #[allow(dead_code, reason = "for the drivers of whole trees, which follow")]
    /// A whole tree, copied at this moment (seconds and nanoseconds of its last change of status): what has not
    /// changed since is as it was.
    Complete(i64, i64),
}

/// Every difference, directories before what is in them, names in order.
pub(crate) fn changes(upper: &OwnedFd, lower: &[OwnedFd], kind: Upper) -> Result<Vec<Change>, Error> {
    let mut walk = Walk { changes: Vec::new(), path: Vec::new() };
    walk.level(upper, lower, kind)?;
    Ok(walk.changes)
}

struct Walk {
    changes: Vec<Change>,
    /// Without a slash at its start.
    path: Vec<u8>,
}

impl Walk {
    fn level(&mut self, upper: &OwnedFd, lower: &[OwnedFd], kind: Upper) -> Result<(), Error> {
        let mut all = names(upper).map_err(self.error("list"))?;
        if kind != Upper::Layer {
            all.extend(names_of(lower).map_err(self.error("list"))?);
        }
        all.sort_unstable();
        all.dedup();
        for name in all {
            let length = self.path.len();
            if length > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(&name);
            self.name(upper, lower, kind, &name)?;
            self.path.truncate(length);
        }
        Ok(())
    }

    fn name(&mut self, upper: &OwnedFd, lower: &[OwnedFd], kind: Upper, name: &[u8]) -> Result<(), Error> {
        let below = step(lower, OsStr::from_bytes(name)).map_err(self.error("look at"))?;
        let there = look(upper, name).map_err(self.error("look at"))?;
        // In a complete tree, such a device is one.
        let complete = matches!(kind, Upper::Complete(..));
        let there = there.filter(|stat| complete || !is_whiteout(stat));
        match (there, below) {
            (None, Found::Nothing) => {}
            (None, _) => self.push(ChangeKind::Deleted),
            (Some(stat), below) if is_directory(&stat) => self.directory(upper, name, below, kind)?,
            (Some(_), Found::Nothing) => self.push(ChangeKind::Added),
            (Some(stat), Found::Other(at, old)) => {
                let (new, old) = ((upper, &stat), (&lower[at], &old));
                let unchanged = match kind {
                    Upper::Complete(seconds, nanoseconds) => {
                        same::entry(name, new, old, (seconds, nanoseconds)).map_err(self.error("compare"))?
                    }
                    _ => false,
                };
                if !unchanged {
                    self.push(ChangeKind::Modified);
                }
            }
            (Some(_), Found::Directories(_)) => self.push(ChangeKind::Modified),
        }
        Ok(())
    }

    fn directory(&mut self, upper: &OwnedFd, name: &[u8], below: Found, kind: Upper) -> Result<(), Error> {
        let directory = match open_directory(upper, name) {
            // The container is at work.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            opened => opened.map_err(self.error("open"))?,
        };
        let kind = match kind {
            Upper::Layer if has_xattr(&directory, OPAQUE).map_err(self.error("look at"))? => Upper::Opaque,
            same => same,
        };
        let Found::Directories(lower) = below else {
            let new = matches!(below, Found::Nothing);
            self.push(if new { ChangeKind::Added } else { ChangeKind::Modified });
            return self.level(&directory, &[], if kind == Upper::Layer { Upper::Opaque } else { kind });
        };
        let before = self.changes.len();
        self.push(ChangeKind::Modified);
        self.level(&directory, &lower, kind)?;
        // Copied up only because something in it was opened for writing, or looked at by a complete comparison.
        let touched = self.changes.len() > before + 1;
        if !touched && same::directory(&directory, &lower[0]).map_err(self.error("compare"))? {
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

#[allow(dead_code, reason = "for the drivers of whole trees, which follow")]
/// The moment of the last change of a thing's status, for [`Upper::Complete`].
pub(crate) fn moment(of: impl AsFd) -> rustix::io::Result<Upper> {
    let stat: Stat = fstat(of)?;
    Ok(Upper::Complete(stat.st_ctime as i64, stat.st_ctime_nsec as i64))
}
