//! What overlayfs would show of a stack of directories, found without a mount: a mount costs milliseconds, and one
//! more over a directory that a container writes to has no defined behaviour (overlayfs.rst, "Sharing and copying
//! layers").

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
};

use rustix::{fs::Stat, io::Errno};

use crate::{
    Error,
    pack::Packer,
    tree::{OPAQUE, has_xattr, host_path, is_directory, is_whiteout, look, names, open_directory},
};

/// What the merged view has under a name.
pub(crate) enum Found {
    /// Nothing, or a whiteout.
    Nothing,
    /// Something that is no directory: in which of the directories above, and what.
    Other(usize, Stat),
    /// The directories of that name, uppermost first, never none.
    Directories(Vec<OwnedFd>),
}

/// One step down from the directories `above`, uppermost first.
pub(crate) fn step(above: &[OwnedFd], name: &OsStr) -> rustix::io::Result<Found> {
    let mut directories = Vec::new();
    for (at, directory) in above.iter().enumerate() {
        match look(directory, name)? {
            None => {}
            Some(stat) if is_directory(&stat) => {
                let found = match open_directory(directory, name) {
                    // Removed meanwhile by the container that it belongs to.
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                    found => found?,
                };
                let opaque = has_xattr(&found, OPAQUE)?;
                directories.push(found);
                if opaque {
                    break;
                }
            }
            Some(stat) => {
                if directories.is_empty() && !is_whiteout(&stat) {
                    return Ok(Found::Other(at, stat));
                }
                break;
            }
        }
    }
    Ok(if directories.is_empty() { Found::Nothing } else { Found::Directories(directories) })
}

/// All names in a stack of directories, whiteouts' too, sorted.
pub(crate) fn names_of(stack: &[OwnedFd]) -> rustix::io::Result<BTreeSet<Vec<u8>>> {
    let mut all = BTreeSet::new();
    for directory in stack {
        all.extend(names(directory)?);
    }
    Ok(all)
}

/// Packs everything that the merged view shows, but for its root.
pub(crate) fn pack(stack: &[OwnedFd], path: &mut Vec<u8>, packer: &mut Packer<'_>) -> Result<(), Error> {
    let all = names_of(stack).map_err(Error::at("list", host_path(path)))?;
    for name in all {
        let length = path.len();
        if length > 0 {
            path.push(b'/');
        }
        path.extend_from_slice(&name);
        let found = step(stack, OsStr::from_bytes(&name)).map_err(Error::at("look at", host_path(path)))?;
        match found {
            Found::Nothing => {}
            Found::Other(at, stat) => packer.entry(stack[at].as_fd(), &name, path, &stat)?,
            Found::Directories(directories) => {
                packer.directory(&directories[0], path)?;
                pack(&directories, path, packer)?;
            }
        }
        path.truncate(length);
    }
    Ok(())
}
