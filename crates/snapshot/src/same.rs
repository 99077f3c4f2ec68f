//! Whether two things on disk are the same to somebody who looks through the file system.

use std::{
    io::{self, Read},
    os::fd::OwnedFd,
};

use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, openat, readlinkat};

use crate::{pack::Attributes, tree::is_directory};

const BUFFER: usize = 64 << 10;

/// A directory, what is in it left aside; `timed`: its time too.
pub(crate) fn directory(new: &OwnedFd, old: &OwnedFd, timed: bool) -> io::Result<bool> {
    let (mut one, other) = (fstat(new)?, fstat(old)?);
    if !timed {
        (one.st_mtime, one.st_mtime_nsec) = (other.st_mtime, other.st_mtime_nsec);
    }
    Ok(same_stat(&one, &other) && Attributes::of(new)?.0 == Attributes::of(old)?.0)
}

/// Anything but a directory. `since`: what has not changed since then is a copy of the old.
pub(crate) fn entry(
    name: &[u8],
    (at, new): (&OwnedFd, &Stat),
    (old_at, old): (&OwnedFd, &Stat),
    since: (i64, i64),
) -> io::Result<bool> {
    if is_directory(new) != is_directory(old) || !same_stat(new, old) {
        return Ok(false);
    }
    if (new.st_ctime, new.st_ctime_nsec as i64) < since {
        return Ok(true);
    }
    match FileType::from_raw_mode(new.st_mode) {
        FileType::RegularFile => same_content(name, at, old_at),
        FileType::Symlink => Ok(readlinkat(at, name, Vec::new())? == readlinkat(old_at, name, Vec::new())?),
        FileType::CharacterDevice | FileType::BlockDevice => Ok(new.st_rdev == old.st_rdev),
        _ => Ok(true),
    }
}

fn same_stat(new: &Stat, old: &Stat) -> bool {
    let size = |stat: &Stat| if is_directory(stat) { 0 } else { stat.st_size };
    let links = |stat: &Stat| if is_directory(stat) { 0 } else { stat.st_nlink };
    (new.st_mode, new.st_uid, new.st_gid, size(new), links(new))
        == (old.st_mode, old.st_uid, old.st_gid, size(old), links(old))
        && (new.st_mtime, new.st_mtime_nsec) == (old.st_mtime, old.st_mtime_nsec)
}

fn same_content(name: &[u8], at: &OwnedFd, old_at: &OwnedFd) -> io::Result<bool> {
    let open = |at: &OwnedFd| {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        openat(at, name, flags, Mode::empty()).map(std::fs::File::from)
    };
    let (mut new, mut old) = (open(at)?, open(old_at)?);
    if Attributes::of(&new)?.0 != Attributes::of(&old)?.0 {
        return Ok(false);
    }
    let (mut one, mut other) = (vec![0; BUFFER], vec![0; BUFFER]);
    loop {
        let length = fill(&mut new, &mut one)?;
        if fill(&mut old, &mut other)? != length || one[..length] != other[..length] {
            return Ok(false);
        }
        if length == 0 {
            return Ok(true);
        }
    }
}

fn fill(file: &mut std::fs::File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
