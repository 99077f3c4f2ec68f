//! A look at one file of a stack of layers without mounting it: a mount that comes and goes waits for the kernel's
//! namespace lock and for RCU, a few milliseconds in the path of every start.

use std::{
    ffi::OsStr,
    fs::File,
    os::fd::OwnedFd,
    path::{Component, Path},
};

use rustix::{
    fs::{FileType, Mode, OFlags, openat},
    io::Result,
};

use crate::tree::{OPAQUE, has_xattr, is_whiteout, look, open_directory};

/// What one layer says of a path.
pub(super) enum Found {
    /// This regular file.
    File(File),
    /// Nothing: ask the next layer.
    Nothing,
    /// That no lower layer's file of this name is seen.
    Hidden,
    /// Something that only a real lookup can follow: a link, a device.
    Other,
}

/// Looks for `path` in the directory of one layer by overlayfs' rules (overlayfs.rst, "whiteouts and opaque
/// directories").
pub(super) fn peek(layer: OwnedFd, path: &Path) -> Result<Found> {
    let names: Vec<&OsStr> = path
        .components()
        .filter_map(|part| if let Component::Normal(name) = part { Some(name) } else { None })
        .collect();
    let Some((file, parents)) = names.split_last() else {
        return Ok(Found::Other);
    };
    let (mut directory, mut opaque) = (layer, false);
    let absent = |opaque| if opaque { Found::Hidden } else { Found::Nothing };
    for name in parents {
        let Some(stat) = look(&directory, *name)? else {
            return Ok(absent(opaque));
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => directory = open_directory(&directory, *name)?,
            FileType::Symlink => return Ok(Found::Other),
            _ => return Ok(Found::Hidden),
        }
        opaque |= has_xattr(&directory, OPAQUE)?;
    }
    match look(&directory, *file)? {
        None => Ok(absent(opaque)),
        Some(stat) if is_whiteout(&stat) => Ok(Found::Hidden),
        Some(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            Ok(Found::File(openat(&directory, *file, flags, Mode::empty())?.into()))
        }
        Some(_) => Ok(Found::Other),
    }
}
