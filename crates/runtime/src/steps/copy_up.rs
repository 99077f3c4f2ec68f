//! `tmpcopyup`: a new tmpfs begins with what the image has in the directory that it covers.

use std::{
    collections::HashMap,
    ffi::CStr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{
        AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
        chmodat, chownat, fgetxattr, flistxattr, fsetxattr, linkat, mkdirat, mknodat, openat, openat2,
        readlinkat, sendfile, statat, symlinkat, utimensat,
    },
    io::Errno,
};

use crate::error::{During, Error, Result};

/// Directories inside each other: each is held open, and an image may have any number.
const DEEPEST: usize = 200;
/// What `listxattr(2)` and one value may have at most (`XATTR_LIST_MAX`).
const LARGEST_ATTRIBUTE: usize = 64 << 10;

/// Copies what is in the directory `from` to `to`, on the same file system only, with owners, modes, times, attributes
/// and hard links. Nothing is opened through a link.
pub(super) fn copy(from: &OwnedFd, to: &OwnedFd) -> Result<()> {
    let mut walk = Walk { links: HashMap::new(), top: to.as_fd() };
    walk.directory(from.as_fd(), to.as_fd(), "", 0).map_err(|error| error.during("tmpcopyup"))
}

struct Walk<'t> {
    /// Files with several names, by inode: where the first stands in the copy.
    links: HashMap<(u64, u64), String>,
    top: BorrowedFd<'t>,
}

const NO_LINK: OFlags = OFlags::NOFOLLOW.union(OFlags::CLOEXEC);

impl Walk<'_> {
    fn directory(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        path: &str,
        depth: usize,
    ) -> Result<()> {
        if depth > DEEPEST {
            return Err(Error::new(format!("{path}: more than {DEEPEST} directories inside each other")));
        }
        let what = || format!("read {path}/");
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | NO_LINK;
        let opened = openat(from, c".", flags, Mode::empty()).during(what)?;
        for entry in Dir::read_from(&opened).during(what)? {
            let entry = entry.during(what)?;
            let name = entry.file_name();
            if name != c"." && name != c".." {
                let path = format!("{path}/{}", name.to_string_lossy());
                self.entry(opened.as_fd(), to, name, &path, depth)?;
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &CStr,
        path: &str,
        depth: usize,
    ) -> Result<()> {
        let what = || format!("copy {path}");
        let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW).during(what)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::Directory && stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) {
                return linkat(self.top, first.as_str(), to, name, AtFlags::empty()).during(what);
            }
            self.links.insert((stat.st_dev, stat.st_ino), path.trim_start_matches('/').to_owned());
        }
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        match kind {
            FileType::Directory => {
                mkdirat(to, name, Mode::RWXU).during(what)?;
                let below = openat(to, name, OFlags::PATH | NO_LINK, Mode::empty()).during(what)?;
                match beneath(from, name, OFlags::RDONLY | OFlags::DIRECTORY) {
                    Ok(source) => {
                        let made = openat(to, name, OFlags::RDONLY | NO_LINK, Mode::empty()).during(what)?;
                        self.directory(source.as_fd(), below.as_fd(), path, depth + 1)?;
                        attributes(&source, &made).during(what)?;
                    }
                    // Something is mounted there: only its mount point is copied.
                    Err(Errno::XDEV) => {}
                    Err(error) => return Err(Error::refused(what(), &error.into())),
                }
            }
            FileType::RegularFile => file(from, to, name, &stat).during(what)?,
            FileType::Symlink => {
                let target = readlinkat(from, name, Vec::new()).during(what)?;
                symlinkat(target, to, name).during(what)?;
            }
            kind => mknodat(to, name, kind, mode, stat.st_rdev).during(what)?,
        }
        dress(to, name, kind, mode, &stat).during(what)
    }
}

/// Opens an entry of a directory on the same mount, and no link.
fn beneath(from: BorrowedFd<'_>, name: &CStr, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let strict = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    openat2(from, name, flags | OFlags::CLOEXEC, Mode::empty(), strict)
}

fn file(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> rustix::io::Result<()> {
    let new = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | NO_LINK;
    let target = openat(to, name, new, Mode::RUSR | Mode::WUSR)?;
    let source = match beneath(from, name, OFlags::RDONLY | OFlags::NONBLOCK) {
        Err(Errno::XDEV) => return Ok(()),
        other => other?,
    };
    let mut left = stat.st_size as u64;
    while left > 0 {
        match sendfile(&target, &source, None, left.min(1 << 30) as usize)? {
            0 => break,
            sent => left -= sent as u64,
        }
    }
    attributes(&source, &target)
}

/// Extended attributes, as far as a tmpfs takes them.
fn attributes(from: &OwnedFd, to: &OwnedFd) -> rustix::io::Result<()> {
    let mut names = vec![0; LARGEST_ATTRIBUTE];
    let length = match flistxattr(from, &mut names[..]) {
        Err(Errno::NOTSUP) => return Ok(()),
        other => other?,
    };
    let mut value = Vec::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        value.resize(LARGEST_ATTRIBUTE, 0);
        let length = fgetxattr(from, name, &mut value[..])?;
        match fsetxattr(to, name, &value[..length], XattrFlags::empty()) {
            Ok(()) | Err(Errno::NOTSUP | Errno::PERM) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn dress(to: BorrowedFd<'_>, name: &CStr, kind: FileType, mode: Mode, stat: &Stat) -> rustix::io::Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    match chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW) {
        // An id that the user namespace does not know.
        Ok(()) | Err(Errno::INVAL) => {}
        Err(error) => return Err(error),
    }
    if kind != FileType::Symlink {
        // After the owner, for a change of that takes the set-user-ID bit away.
        chmodat(to, name, mode, AtFlags::empty())?;
    }
    let time = |seconds: i64, nanoseconds: u64| Timespec { tv_sec: seconds, tv_nsec: nanoseconds as i64 };
    let times = Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    };
    utimensat(to, name, &times, AtFlags::SYMLINK_NOFOLLOW)
}
