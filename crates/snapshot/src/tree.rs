//! Directory trees on disk that nobody but us made sure to be sane: removed and measured with few descriptors,
//! however deep they are, and never through a symbolic link.

use std::{
    collections::HashSet,
    ffi::{CStr, CString, OsStr},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use rustix::{
    fs::{
        AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, Stat, Timespec, Timestamps, UTIME_OMIT,
        XattrFlags, fchmod, fchown, fgetxattr, flistxattr, fsetxattr, fstat, futimens, openat, renameat_with,
        statat, unlinkat,
    },
    io::{Errno, Result},
    process::{Gid, Uid},
};

use crate::Usage;

/// Deeper directories are dealt with by other means than recursion.
const DEEP: usize = 64;

/// Nobody but root may look into what the engine keeps (rule R15).
pub(crate) const PRIVATE: Mode = Mode::RWXU;

/// Marks a directory that hides what is below it; set by whiteout entries only.
pub(crate) const OPAQUE: &CStr = c"trusted.overlay.opaque";

/// What an archive's names for removals begin with (AUFS's habit, which the OCI kept: image-spec, layer.md).
pub(crate) const WHITEOUT: &[u8] = b".wh.";
pub(crate) const OPAQUE_MARKER: &[u8] = b".wh..wh..opq";

/// Parent and last component.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

/// A name from an archive or a container, for messages.
pub(crate) fn host_path(path: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(path))
}

pub(crate) fn open_directory(at: impl AsFd, name: impl rustix::path::Arg) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(at, name, flags, Mode::empty())
}

/// Overlayfs' mark of a removed name.
pub(crate) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

pub(crate) fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// Like `statat`, with nothing there as `None`.
pub(crate) fn look(at: impl AsFd, name: impl rustix::path::Arg) -> Result<Option<Stat>> {
    match statat(at, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(crate) fn has_xattr(directory: impl AsFd, name: &CStr) -> Result<bool> {
    match fgetxattr(directory, name, &mut [0_u8; 8]) {
        Ok(_) | Err(Errno::RANGE) => Ok(true),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(false),
        Err(error) => Err(error),
    }
}

/// A name that is nowhere in use.
pub(crate) fn unique() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{:x}-{count:x}", now.as_nanos())
}

/// Names in a directory, without `.` and `..`.
pub(crate) fn names(directory: impl AsFd) -> Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}

/// Removes `name`, whatever it is. What lies too deep for recursion is moved to `aside`, to be removed there later.
pub(crate) fn remove(at: BorrowedFd<'_>, name: &OsStr, aside: BorrowedFd<'_>) -> Result<()> {
    remove_level(at, name, aside, 0)
}

fn remove_level(at: BorrowedFd<'_>, name: &OsStr, aside: BorrowedFd<'_>, level: usize) -> Result<()> {
    match unlinkat(at, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(error) => return Err(error),
    }
    // A subvolume goes in one call.
    let subvolume = look(at, name)?.is_some_and(|stat| stat.st_ino == sys::btrfs::ROOT_INODE);
    if subvolume
        && let Ok(name) = CString::new(name.as_bytes())
        && sys::btrfs::destroy(at, &name).is_ok()
    {
        return Ok(());
    }
    if level == DEEP {
        return renameat_with(at, name, aside, unique(), RenameFlags::NOREPLACE);
    }
    match open_directory(at, name) {
        Ok(directory) => {
            for child in names(&directory)? {
                remove_level(directory.as_fd(), OsStr::from_bytes(&child), aside, level + 1)?;
            }
        }
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error),
    }
    match unlinkat(at, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

/// What is in a directory, itself left out; files of several names count once. Others may change it meanwhile;
/// what vanishes or lies deeper than descriptors reach is not counted.
pub(crate) fn usage(directory: OwnedFd) -> Result<Usage> {
    let mut usage = Usage::default();
    let mut linked = HashSet::new();
    // A stack of open directories and the names still to visit in each.
    let mut stack = vec![(names(&directory)?, directory)];
    while let Some((left, directory)) = stack.last_mut() {
        let Some(name) = left.pop() else {
            stack.pop();
            continue;
        };
        let Some(stat) = look(&*directory, &name[..])? else {
            continue;
        };
        if stat.st_nlink > 1 && !is_directory(&stat) && !linked.insert(stat.st_ino) {
            continue;
        }
        usage.inodes += 1;
        usage.bytes += stat.st_blocks as u64 * 512;
        if is_directory(&stat) && stack.len() < DEEP {
            let (_, directory) = &stack[stack.len() - 1];
            if let Ok(child) = open_directory(directory, &name[..]) {
                let children = names(&child).unwrap_or_default();
                stack.push((children, child));
            }
        }
    }
    Ok(usage)
}

/// Gives directory `to` the owner, mode and attributes of `from`, whose status it returns for [`set_mtime`].
pub(crate) fn copy_attributes(from: impl AsFd, to: impl AsFd) -> Result<Stat> {
    let stat = fstat(&from)?;
    fchown(&to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    fchmod(&to, Mode::from_raw_mode(stat.st_mode))?;
    let mut list = vec![0_u8; 4096];
    let length = match flistxattr(&from, &mut list[..]) {
        Err(Errno::RANGE) => {
            // The kernel's own limit, XATTR_LIST_MAX.
            list.resize(65_536, 0);
            flistxattr(&from, &mut list[..])?
        }
        Err(Errno::OPNOTSUPP) => 0,
        other => other?,
    };
    let mut value = Vec::new();
    for name in list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        if is_private(name) {
            continue;
        }
        value.resize(65_536, 0);
        let length = fgetxattr(&from, name, &mut value[..])?;
        fsetxattr(&to, name, &value[..length], XattrFlags::empty())?;
    }
    Ok(stat)
}

/// Attributes that mean something to overlayfs or to us, and so never come from an image.
pub(crate) fn is_private(name: &[u8]) -> bool {
    [&b"trusted.overlay."[..], b"user.overlay.", b"user.fuseoverlayfs.", b"trusted.knarr."]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

pub(crate) fn set_mtime(directory: impl AsFd, of: &Stat) -> Result<()> {
    futimens(
        directory,
        &Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT as _ },
            last_modification: Timespec { tv_sec: of.st_mtime as _, tv_nsec: of.st_mtime_nsec as _ },
        },
    )
}
