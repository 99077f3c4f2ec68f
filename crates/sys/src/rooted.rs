//! The path door (rule R1): nothing inside a container's root, a layer or an archive is ever opened but here.
//!
//! `openat2(2)` with `RESOLVE_IN_ROOT` (Linux 5.6) treats a directory as `/` for one lookup: symbolic links and
//! `..` stay inside, magic links are refused. Classes of escapes that end here: CVE-2018-15664, CVE-2021-30465,
//! CVE-2024-45310.

use std::{
    ffi::OsStr,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Component, Path},
};

use rustix::{
    fs::{
        AtFlags, FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, open, openat, openat2, readlinkat,
        statat,
    },
    io::Errno,
};

/// The kernel's own bound on links in one lookup (`path_resolution(7)`).
const MOST_LINKS: u32 = 40;

/// A directory that is `/` for every lookup through it.
#[derive(Debug)]
pub struct Root(OwnedFd);

impl Root {
    /// The directory at `path` of the host; `path` itself must come from the engine, never from a container.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?))
    }

    /// An open directory.
    pub fn from_fd(directory: OwnedFd) -> Self {
        Self(directory)
    }

    /// Opens `path` below this root, following links inside it. `CLOEXEC` is added.
    pub fn get(&self, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        self.resolve(path, flags, mode, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
    }

    /// Like [`Root::get`], but a symbolic link anywhere on the way, also last, is an error.
    pub fn get_no_links(&self, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let strict = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
        self.resolve(path, flags, mode, strict)
    }

    fn resolve(&self, path: &Path, flags: OFlags, mode: Mode, how: ResolveFlags) -> io::Result<OwnedFd> {
        loop {
            match openat2(&self.0, path, flags | OFlags::CLOEXEC, mode, how) {
                // A rename elsewhere raced the walk through `..`; the kernel asks for another try.
                Err(Errno::AGAIN) => {}
                Err(Errno::NOSYS) => {
                    let text = "this kernel has no openat2(2): knarr needs Linux 5.6 or later";
                    return Err(io::Error::new(io::ErrorKind::Unsupported, text));
                }
                other => return Ok(other?),
            }
        }
    }

    /// The directory that holds `path`'s last component, and that component; links on the way are followed
    /// inside. The component itself is not looked at, and is never `.`, `..` or empty.
    pub fn parent_of<'p>(&self, path: &'p Path) -> io::Result<(OwnedFd, &'p OsStr)> {
        let Some(Component::Normal(name)) = path.components().next_back() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "path has no last component"));
        };
        Ok((self.get(above(path), OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?, name))
    }

    /// Makes `path` and what is missing above it, each with `mode`, and opens it. What exists may be reached through
    /// links; what a dangling link points to is made, inside.
    pub fn create_dir_all(&self, path: &Path, mode: Mode) -> io::Result<OwnedFd> {
        self.make_dir_all(path, mode).map(|(directory, _)| directory)
    }

    /// Like [`Root::create_dir_all`]; also tells whether the directory was made by this call.
    pub fn make_dir_all(&self, path: &Path, mode: Mode) -> io::Result<(OwnedFd, bool)> {
        self.create(path, mode, MOST_LINKS)
    }

    fn create(&self, path: &Path, mode: Mode, links: u32) -> io::Result<(OwnedFd, bool)> {
        let directory = OFlags::PATH | OFlags::DIRECTORY;
        match self.get(path, directory, Mode::empty()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && links > 0 => {}
            done => return done.map(|found| (found, false)),
        }
        let above = above(path);
        let (parent, _) = self.create(above, mode, links)?;
        let Some(Component::Normal(name)) = path.components().next_back() else {
            // `..`: what it goes up from is there now.
            return Ok((self.get(path, directory, Mode::empty())?, false));
        };
        let is_new = match mkdirat(&parent, name, mode) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(error.into()),
        };
        match openat(&parent, name, directory | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
            Ok(found) => Ok((found, is_new)),
            Err(error) => match readlinkat(&parent, name, Vec::new()) {
                Ok(target) => self.create(&above.join(OsStr::from_bytes(target.as_bytes())), mode, links - 1),
                Err(_) => Err(error.into()),
            },
        }
    }

    /// Opens the file at `path` for its place (`O_PATH`), whatever its type; makes an empty one with `mode`, and what
    /// is missing above it, if there is none. What a dangling link points to is made, inside.
    pub fn create_file(&self, path: &Path, mode: Mode) -> io::Result<OwnedFd> {
        let mut path = path.to_owned();
        for _ in 0..MOST_LINKS {
            match self.get(&path, OFlags::PATH, Mode::empty()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                found => return found,
            }
            let Some(Component::Normal(name)) = path.components().next_back() else {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "path has no last component"));
            };
            let above = above(&path);
            let parent = self.create_dir_all(above, Mode::from_raw_mode(0o755))?;
            let new = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match openat(&parent, name, new, mode) {
                Err(Errno::EXIST) => {}
                done => return Ok(done?),
            }
            let target = readlinkat(&parent, name, Vec::new())?;
            path = above.join(OsStr::from_bytes(target.as_bytes()));
        }
        Err(Errno::LOOP.into())
    }

    /// Reads a small regular file below this root: at most `limit` bytes, never a device or a pipe (rule R9).
    pub fn read_regular(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        // NONBLOCK: opening a pipe that an image put there must not wait for its other end.
        let file = self.get(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY, Mode::empty())?;
        let stat = fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{} is not a regular file", path.display()),
            ));
        }
        read_bounded(file.into(), limit, path)
    }

    /// Whether something (also a dangling link) is at `path`.
    pub fn has(&self, path: &Path) -> io::Result<bool> {
        let found = self.parent_of(path).and_then(|(parent, name)| {
            Ok(statat(parent, OsStr::from_bytes(name.as_bytes()), AtFlags::SYMLINK_NOFOLLOW)?)
        });
        match found {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

/// The path of the directory that holds `path`.
fn above(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("/"))
}

/// All of `file`, if that is at most `limit` bytes; `path` is for the error.
pub fn read_bounded(file: std::fs::File, limit: u64, path: &Path) -> io::Result<Vec<u8>> {
    use std::io::Read;
    let mut content = Vec::new();
    file.take(limit + 1).read_to_end(&mut content)?;
    if content.len() as u64 > limit {
        let text = format!("{} is larger than {limit} bytes", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok(content)
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    #[test]
    fn links_and_dots_stay_inside() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "outside").unwrap();
        let inside = outside.path().join("root");
        fs::create_dir_all(inside.join("etc")).unwrap();
        symlink(outside.path(), inside.join("absolute")).unwrap();
        symlink("../..", inside.join("etc/relative")).unwrap();
        symlink("/etc", inside.join("good")).unwrap();
        fs::write(inside.join("etc/passwd"), "inside").unwrap();
        let root = Root::open(&inside).unwrap();

        for escape in ["absolute/secret", "../secret", "etc/relative/secret", "/../../secret"] {
            assert_eq!(
                root.read_regular(Path::new(escape), 99).unwrap_err().kind(),
                io::ErrorKind::NotFound,
                "{escape}"
            );
        }
        assert_eq!(root.read_regular(Path::new("good/passwd"), 99).unwrap(), b"inside");
        assert!(root.read_regular(Path::new("etc/passwd"), 2).is_err());

        let make = |path: &str| root.create_dir_all(Path::new(path), Mode::from_raw_mode(0o755));
        make("/good/a/b").unwrap();
        assert!(inside.join("etc/a/b").is_dir());
        make("absolute/new").unwrap();
        assert!(!outside.path().join("new").exists());
        let meant = inside.join(outside.path().strip_prefix("/").unwrap()).join("new");
        assert!(meant.is_dir(), "a link out of the root leads to the same path inside");
        symlink("loop", inside.join("loop")).unwrap();
        assert!(make("loop/x").is_err());

        let file = |path: &str| root.create_file(Path::new(path), Mode::from_raw_mode(0o644));
        file("etc/passwd").unwrap();
        assert_eq!(fs::read(inside.join("etc/passwd")).unwrap(), b"inside", "what exists is left alone");
        symlink("../../../made/by/link", inside.join("etc/dangling")).unwrap();
        file("good/dangling").unwrap();
        assert!(inside.join("made/by/link").is_file(), "what a dangling link points to is made inside");
        assert!(file("loop").is_err() && file("etc/passwd/x").is_err());
    }
}
