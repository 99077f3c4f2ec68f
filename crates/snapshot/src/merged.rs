//! What overlayfs would show of a stack of directories, found without a mount: a mount costs milliseconds, and one
//! more over a directory that a container writes to has no defined behaviour (overlayfs.rst, "Sharing and copying
//! layers").

use std::{
    collections::{BTreeSet, HashSet},
    ffi::OsStr,
    fs::File,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
    rc::Rc,
};

use rustix::{
    fs::{FileType, Mode, OFlags, Stat, openat, readlinkat},
    io::Errno,
};

use crate::{
    Change, ChangeKind, Error,
    pack::Packer,
    tree::WHITEOUT,
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
        // Marks of fuse-overlayfs, which no layer of an image can hold.
        all.extend(names(directory)?.into_iter().filter(|name| !name.starts_with(WHITEOUT)));
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

/// Packs of one whole tree what the image below has too or what was changed: not what only the init layer put there.
pub(crate) fn pack_some(
    tree: &OwnedFd,
    image: &[OwnedFd],
    changes: &[Change],
    path: &mut Vec<u8>,
    packer: &mut Packer<'_>,
) -> Result<(), Error> {
    let changed: HashSet<&[u8]> = changes
        .iter()
        .filter(|change| change.kind != ChangeKind::Deleted)
        .map(|change| &change.path[1..])
        .collect();
    pack_level(tree, image, &changed, path, packer)
}

fn pack_level(
    tree: &OwnedFd,
    image: &[OwnedFd],
    changed: &HashSet<&[u8]>,
    path: &mut Vec<u8>,
    packer: &mut Packer<'_>,
) -> Result<(), Error> {
    let mut all = names(tree).map_err(Error::at("list", host_path(path)))?;
    all.sort_unstable();
    for name in all {
        let length = path.len();
        if length > 0 {
            path.push(b'/');
        }
        path.extend_from_slice(&name);
        let below = step(image, OsStr::from_bytes(&name)).map_err(Error::at("look at", host_path(path)))?;
        let there = look(tree, &name[..]).map_err(Error::at("look at", host_path(path)))?;
        let ours = !matches!(below, Found::Nothing) || changed.contains(&path[..]);
        if let Some(stat) = there.filter(|_| ours) {
            packer.entry(tree.as_fd(), &name, path, &stat)?;
            if is_directory(&stat) {
                let child = open_directory(tree, &name[..]).map_err(Error::at("open", host_path(path)))?;
                let below =
                    if let Found::Directories(directories) = below { directories } else { Vec::new() };
                pack_level(&child, &below, changed, path, packer)?;
            }
        }
        path.truncate(length);
    }
    Ok(())
}

/// The kernel's own bound on links in one lookup (`path_resolution(7)`).
const MOST_LINKS: usize = 40;

/// Opens the regular file `path`, absolute, in the merged view of a stack whose first is `/`; links on the way stay
/// inside.
pub(crate) fn open(root: Vec<OwnedFd>, path: &Path) -> rustix::io::Result<Option<File>> {
    let mut walked = vec![Rc::new(root)];
    // What is still to be walked, the last first.
    let mut left: Vec<Vec<u8>> = components(path.as_os_str().as_bytes()).collect();
    let mut links = 0;
    while let Some(name) = left.pop() {
        if name == b".." {
            if walked.len() > 1 {
                walked.pop();
            }
            continue;
        }
        let at = walked.last().map(Rc::clone).unwrap_or_default();
        let (layer, stat) = match step(&at, OsStr::from_bytes(&name))? {
            Found::Nothing => return Ok(None),
            Found::Directories(directories) => {
                walked.push(Rc::new(directories));
                continue;
            }
            Found::Other(layer, stat) => (layer, stat),
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => {
                links += 1;
                if links > MOST_LINKS {
                    return Err(Errno::LOOP);
                }
                let target = readlinkat(&at[layer], &name[..], Vec::new())?.into_bytes();
                if target.starts_with(b"/") {
                    walked.truncate(1);
                }
                left.extend(components(&target));
            }
            FileType::RegularFile if left.is_empty() => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                return openat(&at[layer], &name[..], flags, Mode::empty()).map(|file| Some(file.into()));
            }
            // A file on the way.
            _ if !left.is_empty() => return Ok(None),
            _ => return Err(Errno::INVAL),
        }
    }
    Err(Errno::ISDIR)
}

/// The last first.
fn components(path: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let names = path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b"."));
    names.rev().map(<[u8]>::to_vec).collect::<Vec<_>>().into_iter()
}
