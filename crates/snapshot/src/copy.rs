//! Trees that are copied: what a stack of directories shows becomes one directory, sharing its blocks with them
//! where the file system can.

use std::{
    collections::HashMap,
    ffi::{CString, OsStr},
    fs::File,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
};

use rustix::{
    fs::{
        AtFlags, FileType, Gid, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps, Uid, XattrFlags, chmodat,
        chownat, copy_file_range, ftruncate, ioctl_ficlone, linkat, lsetxattr, mkdirat, mknodat, openat,
        readlinkat, seek, symlinkat, utimensat,
    },
    io::Errno,
};

use crate::{
    Error,
    merged::{Found, names_of, step},
    pack::Attributes,
    tree::{PRIVATE, copy_attributes, host_path, open_directory, set_mtime},
};

/// Fills the empty directory `to` with what `stack`, uppermost first, shows.
pub(crate) fn merged(stack: &[OwnedFd], to: &OwnedFd) -> Result<(), Error> {
    Copy { root: to, linked: HashMap::new(), path: Vec::new(), clones: true }.level(stack, to)
}

struct Copy<'a> {
    root: &'a OwnedFd,
    /// Where files with several names are, by device and inode.
    linked: HashMap<(u64, u64), Vec<u8>>,
    path: Vec<u8>,
    /// Until the file system said that it cannot.
    clones: bool,
}

impl Copy<'_> {
    fn level(&mut self, stack: &[OwnedFd], to: &OwnedFd) -> Result<(), Error> {
        for name in names_of(stack).map_err(self.error("list"))? {
            let length = self.path.len();
            if length > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(&name);
            match step(stack, OsStr::from_bytes(&name)).map_err(self.error("look at"))? {
                Found::Nothing => {}
                Found::Other(at, stat) => {
                    self.entry(&stack[at], to, &name, &stat).map_err(self.error("copy"))?;
                }
                Found::Directories(directories) => {
                    mkdirat(to, &name[..], PRIVATE).map_err(self.error("create"))?;
                    let made = open_directory(to, &name[..]).map_err(self.error("open"))?;
                    self.level(&directories, &made)?;
                    let stat = copy_attributes(&directories[0], &made).map_err(self.error("copy"))?;
                    set_mtime(&made, &stat).map_err(self.error("set time of"))?;
                }
            }
            self.path.truncate(length);
        }
        Ok(())
    }

    fn error<E: Into<std::io::Error>>(&self, what: &'static str) -> impl FnOnce(E) -> Error + use<E> {
        Error::at(what, host_path(&self.path))
    }

    fn entry(&mut self, from: &OwnedFd, to: &OwnedFd, name: &[u8], stat: &Stat) -> rustix::io::Result<()> {
        if stat.st_nlink > 1 {
            let key = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.linked.get(&key) {
                return linkat(self.root, &first[..], to, name, AtFlags::empty());
            }
            self.linked.insert(key, self.path.clone());
        }
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => return self.file(from, to, name, stat),
            FileType::Symlink => symlinkat(readlinkat(from, name, Vec::new())?, to, name)?,
            kind => mknodat(to, name, kind, PRIVATE, stat.st_rdev)?,
        }
        let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
        chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            chmodat(to, name, Mode::from_raw_mode(stat.st_mode), AtFlags::empty())?;
        }
        // The magic link leads to a directory of ours, and the name is not followed (setxattrat(2): Linux 6.13).
        let path = [format!("/proc/self/fd/{}/", to.as_raw_fd()).as_bytes(), name].concat();
        let path = CString::new(path).map_err(|_| Errno::INVAL)?;
        for (key, value) in Attributes::of_named(from.as_fd(), name)?.0 {
            lsetxattr(&*path, &key[..], &value, XattrFlags::empty())?;
        }
        let time = Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ };
        let times = Timestamps { last_access: time, last_modification: time };
        utimensat(to, name, &times, AtFlags::SYMLINK_NOFOLLOW)
    }

    fn file(&mut self, from: &OwnedFd, to: &OwnedFd, name: &[u8], stat: &Stat) -> rustix::io::Result<()> {
        let safe = OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let old = File::from(openat(from, name, OFlags::RDONLY | OFlags::NONBLOCK | safe, Mode::empty())?);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | safe;
        let new = File::from(openat(to, name, flags, Mode::RUSR | Mode::WUSR)?);
        if stat.st_size > 0 {
            self.clones = self.clones && ioctl_ficlone(&new, &old).is_ok();
            if !self.clones {
                copy_data(&old, &new, stat.st_size as u64)?;
            }
        }
        let stat = copy_attributes(&old, &new)?;
        set_mtime(&new, &stat)
    }
}

/// What is there; holes stay holes.
fn copy_data(old: &File, new: &File, size: u64) -> rustix::io::Result<()> {
    let mut at = 0;
    while at < size {
        let start = match seek(old, SeekFrom::Data(at)) {
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL) => at,
            found => found?,
        };
        let end = match seek(old, SeekFrom::Hole(start)) {
            Err(Errno::INVAL) => size,
            found => found?,
        };
        let (mut read, mut write) = (start, start);
        while read < end {
            let want = usize::try_from(end - read).unwrap_or(usize::MAX);
            match copy_file_range(old, Some(&mut read), new, Some(&mut write), want) {
                Ok(0) => break,
                Ok(_) => {}
                // Between two file systems, or on one that cannot.
                Err(Errno::XDEV | Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => {
                    read = copy_slowly(old, new, read, end)?;
                    write = read;
                    if read < end {
                        break;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        at = end.max(at + 1);
    }
    ftruncate(new, size)
}

fn copy_slowly(old: &File, new: &File, mut at: u64, end: u64) -> rustix::io::Result<u64> {
    use std::os::unix::fs::FileExt;
    let mut buffer = vec![0; 128 << 10];
    let fault = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    while at < end {
        let want = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
        let read = old.read_at(&mut buffer[..want], at).map_err(fault)?;
        if read == 0 {
            break;
        }
        new.write_all_at(&buffer[..read], at).map_err(fault)?;
        at += read as u64;
    }
    Ok(at)
}
