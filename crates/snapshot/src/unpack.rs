//! A layer archive becomes a directory that overlayfs understands. The archive is hostile: every lookup goes
//! through the path door, and nothing is created through a symbolic link that leaves the layer.

use std::{
    collections::HashMap,
    ffi::OsStr,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::FileExt},
    },
    path::{Path, PathBuf},
    rc::Rc,
};

use archive::{Entry, Header, Kind, Reader, Time, shown};
use rustix::{
    fs::{
        AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, chmodat, chownat,
        fchmod, fchown, fsetxattr, ftruncate, futimens, linkat, lsetxattr, makedev, mkdirat, mknodat, openat,
        symlinkat, utimensat,
    },
    io::Errno,
};
use sys::Root;

use crate::{
    Applied, Error,
    tree::{
        self, OPAQUE, OPAQUE_MARKER, PRIVATE, WHITEOUT, host_path, is_directory, is_whiteout, look, split,
    },
};

/// Large enough that calls cost nothing beside the copying.
const BUFFER: usize = 256 << 10;

/// What unpacking found.
pub(crate) struct Unpacked {
    pub(crate) applied: Applied,
    /// Whether the archive says what the root directory is like.
    pub(crate) root_given: bool,
}

/// Unpacks `tar`, read to its very end, into the empty directory `layer`. `aside` takes what is too deep to be
/// removed at once.
pub(crate) fn unpack(layer: OwnedFd, aside: &OwnedFd, tar: &mut dyn Read) -> Result<Unpacked, Error> {
    let mut unpacker = Unpacker {
        root: Root::from_fd(layer),
        aside,
        parent: None,
        times: HashMap::new(),
        buffer: vec![0; BUFFER],
        applied: Applied { size: 0, entries: 0 },
    };
    let mut reader = Reader::new(tar);
    while let Some(mut entry) = reader.next().map_err(read_error)? {
        unpacker.entry(&mut entry)?;
        unpacker.applied.entries += 1;
    }
    reader.finish().map_err(read_error)?;
    unpacker.finish()
}

fn read_error(error: archive::Error) -> Error {
    match error {
        archive::Error::Io(error) => Error::Read(error),
        archive::Error::Truncated(_) => Error::Read(io::Error::new(io::ErrorKind::UnexpectedEof, error)),
        other => Error::Archive(other.to_string()),
    }
}

struct Unpacker<'a> {
    root: Root,
    aside: &'a OwnedFd,
    /// The directory used last: archives walk trees in order.
    parent: Option<(Vec<u8>, Rc<OwnedFd>)>,
    /// Of directories: set last, because every new entry changes them.
    times: HashMap<Vec<u8>, Time>,
    buffer: Vec<u8>,
    applied: Applied,
}

/// Where an entry goes.
struct Place<'a> {
    /// Components without `.`, joined by `/`; empty for the root.
    path: &'a [u8],
    parent: Rc<OwnedFd>,
    name: &'a OsStr,
}

impl Place<'_> {
    fn error<E: Into<io::Error>>(&self, what: &'static str) -> impl FnOnce(E) -> Error + use<E> {
        Error::at(what, host_path(self.path))
    }

    fn refuse(&self, why: &str) -> Error {
        refuse(self.path, why)
    }
}

fn refuse(path: &[u8], why: &str) -> Error {
    Error::Archive(format!("entry \"{}\" {why}", shown(path)))
}

/// The components of a name, which must stay inside the layer and not look like whiteouts but for the last.
fn normalize(path: &[u8]) -> Result<Vec<u8>, Error> {
    if path.starts_with(b"/") {
        return Err(refuse(path, "has an absolute name; make the archive with relative names"));
    }
    let mut clean = Vec::with_capacity(path.len());
    for component in path.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => continue,
            b".." => return Err(refuse(path, "has a name with `..` in it")),
            _ => {}
        }
        if !clean.is_empty() {
            clean.push(b'/');
        }
        clean.extend_from_slice(component);
    }
    let (parent, _) = split(&clean);
    if parent.split(|byte| *byte == b'/').any(|name| name.starts_with(WHITEOUT)) {
        return Err(refuse(path, "lies in a whiteout"));
    }
    Ok(clean)
}

impl Unpacker<'_> {
    fn entry(&mut self, entry: &mut Entry<'_, impl Read>) -> Result<(), Error> {
        let path = normalize(&entry.header().path)?;
        if path.is_empty() {
            return self.root_entry(entry.header());
        }
        let (parent, name) = split(&path);
        if name.starts_with(WHITEOUT) {
            return self.whiteout(&path, entry.header().kind);
        }
        let place = Place { path: &path, parent: self.parent(parent)?, name: OsStr::from_bytes(name) };
        let header = entry.header();
        match header.kind {
            Kind::File => self.file(&place, entry),
            Kind::Directory => self.directory(&place, header),
            Kind::HardLink => self.hard_link(&place, header),
            Kind::Symlink => {
                self.create(&place, || {
                    symlinkat(OsStr::from_bytes(&header.link), &place.parent, place.name)
                })?;
                named_metadata(&place, header)
            }
            Kind::CharDevice => self.node(&place, header, FileType::CharacterDevice),
            Kind::BlockDevice => self.node(&place, header, FileType::BlockDevice),
            Kind::Fifo => self.node(&place, header, FileType::Fifo),
            Kind::Other(letter) => {
                let letter = char::from(letter).escape_debug();
                Err(place.refuse(&format!("has the type '{letter}', which layers do not have")))
            }
        }
    }

    fn root_entry(&mut self, header: &Header) -> Result<(), Error> {
        if header.kind != Kind::Directory {
            return Err(refuse(&header.path, "would replace the root by something that is not a directory"));
        }
        let root = tree::open_directory(&self.root, ".").map_err(Error::at("open", "/"))?;
        directory_metadata(&root, header, Path::new("/"))?;
        self.times.insert(Vec::new(), header.mtime);
        Ok(())
    }

    /// An existing directory stays and takes the new metadata; anything else makes way.
    fn directory(&mut self, place: &Place<'_>, header: &Header) -> Result<(), Error> {
        let there = match mkdirat(&place.parent, place.name, PRIVATE) {
            Ok(()) => false,
            Err(Errno::EXIST) => true,
            Err(error) => return Err(place.error("create directory")(error)),
        };
        if there {
            self.directory_over(place)?;
        }
        let directory = tree::open_directory(&place.parent, place.name).map_err(place.error("open"))?;
        directory_metadata(&directory, header, &host_path(place.path))?;
        self.times.insert(place.path.to_vec(), header.mtime);
        self.parent = Some((place.path.to_vec(), Rc::new(directory)));
        Ok(())
    }

    /// A directory after a whiteout of its name hides the one below: whiteouts speak of lower layers only,
    /// wherever they stand (image-spec, layer.md).
    fn directory_over(&mut self, place: &Place<'_>) -> Result<(), Error> {
        let there = look(&place.parent, place.name).map_err(place.error("stat"))?;
        if there.as_ref().is_some_and(is_directory) {
            return Ok(());
        }
        self.make_way(place)?;
        mkdirat(&place.parent, place.name, PRIVATE).map_err(place.error("create directory"))?;
        if there.as_ref().is_some_and(is_whiteout) {
            let directory = tree::open_directory(&place.parent, place.name).map_err(place.error("open"))?;
            set_opaque(&directory, place.path)?;
        }
        Ok(())
    }

    fn file(&mut self, place: &Place<'_>, entry: &mut Entry<'_, impl Read>) -> Result<(), Error> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file =
            self.create(place, || openat(&place.parent, place.name, flags, Mode::RUSR | Mode::WUSR))?;
        let file = std::fs::File::from(file);
        self.content(&file, place, entry)?;
        let header = entry.header();
        self.applied.size += header.size;
        let (uid, gid) = owner(header)?;
        fchown(&file, Some(uid), Some(gid)).map_err(place.error("change owner of"))?;
        fchmod(&file, Mode::from_raw_mode(header.mode)).map_err(place.error("change mode of"))?;
        // After the owner: changing it takes set-id bits and capabilities away.
        for (name, value) in kept_xattrs(header) {
            let set = fsetxattr(&file, name, value, XattrFlags::empty());
            tolerate(name, set).map_err(place.error("set extended attribute of"))?;
        }
        futimens(&file, &timestamps(header.mtime)).map_err(place.error("set time of"))
    }

    fn content(
        &mut self,
        mut file: &std::fs::File,
        place: &Place<'_>,
        entry: &mut Entry<'_, impl Read>,
    ) -> Result<(), Error> {
        let size = entry.header().size;
        let whole = matches!(entry.extents(), [extent] if extent.len == size);
        let extents = entry.extents().to_vec();
        let mut data = entry.data();
        for extent in extents {
            let mut done = 0;
            while done < extent.len {
                let want = usize::try_from(extent.len - done).unwrap_or(BUFFER).min(BUFFER);
                let read = match data.read(&mut self.buffer[..want]) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    other => other.map_err(Error::Read)?,
                };
                let piece = &self.buffer[..read];
                let written = if whole {
                    file.write_all(piece)
                } else {
                    file.write_all_at(piece, extent.offset + done)
                };
                written.map_err(place.error("write"))?;
                done += read as u64;
            }
        }
        if !whole && size > 0 {
            ftruncate(file, size).map_err(place.error("extend"))?;
        }
        Ok(())
    }

    /// The target must be an earlier entry of this layer, by its own name.
    fn hard_link(&mut self, place: &Place<'_>, header: &Header) -> Result<(), Error> {
        let target = normalize(&header.link)
            .map_err(|_| place.refuse(&format!("links to \"{}\", outside the layer", shown(&header.link))))?;
        let missing =
            || place.refuse(&format!("links to \"{}\", which the layer does not have", shown(&header.link)));
        let (parent, name) = split(&target);
        if name.is_empty() || name.starts_with(WHITEOUT) || target == place.path {
            return Err(missing());
        }
        let directory = OFlags::PATH | OFlags::DIRECTORY;
        let from = self.root.get_no_links(inside(parent), directory, Mode::empty()).map_err(|_| missing())?;
        match look(&from, name).map_err(place.error("stat target of"))? {
            Some(stat) if is_whiteout(&stat) => return Err(missing()),
            Some(stat) if is_directory(&stat) => return Err(place.refuse("is a hard link to a directory")),
            Some(_) => {}
            None => return Err(missing()),
        }
        self.create(place, || linkat(&from, name, &place.parent, place.name, AtFlags::empty()))
    }

    fn node(&mut self, place: &Place<'_>, header: &Header, kind: FileType) -> Result<(), Error> {
        let (major, minor) = header.device;
        if kind == FileType::CharacterDevice && (major, minor) == (0, 0) {
            return Err(place.refuse("is character device 0:0, which would remove a file of a lower layer"));
        }
        if major >= 1 << 12 || minor >= 1 << 20 {
            return Err(place.refuse("has a device number that Linux does not have"));
        }
        let device = makedev(major, minor);
        self.create(place, || mknodat(&place.parent, place.name, kind, PRIVATE, device))?;
        named_metadata(place, header)
    }

    /// `.wh.NAME` removes NAME of the lower layers; `.wh..wh..opq` all that lower layers have in its directory.
    fn whiteout(&mut self, path: &[u8], kind: Kind) -> Result<(), Error> {
        if !matches!(kind, Kind::File | Kind::HardLink) {
            return Err(refuse(path, "is a whiteout but not a file"));
        }
        let (parent, marker) = split(path);
        let parent_fd = self.parent(parent)?;
        if marker == OPAQUE_MARKER {
            let directory =
                tree::open_directory(&parent_fd, ".").map_err(Error::at("open", host_path(parent)))?;
            return set_opaque(&directory, parent);
        }
        let name = &marker[WHITEOUT.len()..];
        if matches!(name, b"" | b"." | b"..") || name.starts_with(WHITEOUT) {
            return Err(refuse(path, "is not a whiteout that the image specification knows"));
        }
        let place = Place { path, parent: parent_fd, name: OsStr::from_bytes(name) };
        match mknodat(&place.parent, name, FileType::CharacterDevice, Mode::empty(), 0) {
            Err(Errno::EXIST) => {}
            done => return done.map_err(place.error("create whiteout")),
        }
        // This layer has something of that name, which stays and hides what is below.
        match look(&place.parent, name).map_err(place.error("stat"))? {
            Some(stat) if is_directory(&stat) => {
                let directory = tree::open_directory(&place.parent, name).map_err(place.error("open"))?;
                set_opaque(&directory, path)
            }
            _ => Ok(()),
        }
    }

    /// Makes something new; what was there makes way.
    fn create<T>(&mut self, place: &Place<'_>, make: impl Fn() -> rustix::io::Result<T>) -> Result<T, Error> {
        let made = match make() {
            Err(Errno::EXIST) => {
                self.make_way(place)?;
                make()
            }
            done => done,
        };
        made.map_err(place.error("create"))
    }

    fn make_way(&mut self, place: &Place<'_>) -> Result<(), Error> {
        // It may be on the way to that directory.
        self.parent = None;
        tree::remove(place.parent.as_fd(), place.name, self.aside.as_fd()).map_err(place.error("replace"))
    }

    /// The directory for an entry, made if the archive has no entry for it.
    fn parent(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>, Error> {
        if let Some((cached, directory)) = &self.parent
            && cached == path
        {
            return Ok(Rc::clone(directory));
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let directory = match self.root.get(inside(path), flags, Mode::empty()) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                self.make_parents(path)?
            }
            found => found.map_err(Error::at("open", host_path(path)))?,
        };
        let directory = Rc::new(directory);
        self.parent = Some((path.to_vec(), Rc::clone(&directory)));
        Ok(directory)
    }

    fn make_parents(&mut self, path: &[u8]) -> Result<OwnedFd, Error> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let mut walked = Vec::new();
        let mut at = self.root.get(Path::new("/"), flags, Mode::empty()).map_err(Error::at("open", "/"))?;
        for name in path.split(|byte| *byte == b'/') {
            if !walked.is_empty() {
                walked.push(b'/');
            }
            walked.extend_from_slice(name);
            let place = Place { path: &walked, parent: Rc::new(at), name: OsStr::from_bytes(name) };
            let there = look(&place.parent, name).map_err(place.error("stat"))?;
            match &there {
                Some(stat) if is_whiteout(stat) => self.directory_over(&place)?,
                Some(_) => {}
                None => mkdirat(&place.parent, name, PRIVATE).map_err(place.error("create directory"))?,
            }
            if there.as_ref().is_none_or(is_whiteout) {
                chmodat(&place.parent, name, Mode::from_raw_mode(0o755), AtFlags::empty())
                    .map_err(place.error("change mode of"))?;
            }
            at =
                self.root.get(inside(&walked), flags, Mode::empty()).map_err(|error| match error.kind() {
                    io::ErrorKind::NotFound => {
                        refuse(path, "lies behind a symbolic link that leads nowhere in the layer")
                    }
                    io::ErrorKind::NotADirectory => {
                        refuse(path, &format!("lies in \"{}\", which is not a directory", shown(&walked)))
                    }
                    _ => place.error("open")(error),
                })?;
        }
        Ok(at)
    }

    fn finish(self) -> Result<Unpacked, Error> {
        for (path, time) in &self.times {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
            // An error: a later entry replaced it.
            if let Ok(directory) = self.root.get(inside(path), flags, Mode::empty()) {
                futimens(&directory, &timestamps(*time))
                    .map_err(Error::at("set time of", host_path(path)))?;
            }
        }
        Ok(Unpacked { applied: self.applied, root_given: self.times.contains_key(&b""[..]) })
    }
}

/// A path for the path door.
fn inside(path: &[u8]) -> &Path {
    if path.is_empty() { Path::new("/") } else { Path::new(OsStr::from_bytes(path)) }
}

fn owner(header: &Header) -> Result<(Uid, Gid), Error> {
    // To chown(2), the largest number means: leave it.
    if header.uid == u32::MAX || header.gid == u32::MAX {
        return Err(refuse(&header.path, "belongs to an id that Linux does not have"));
    }
    Ok((Uid::from_raw(header.uid), Gid::from_raw(header.gid)))
}

fn kept_xattrs(header: &Header) -> impl Iterator<Item = (&[u8], &[u8])> {
    header
        .xattrs
        .iter()
        .filter(|(name, _)| !tree::is_private(name))
        .map(|(name, value)| (&name[..], &value[..]))
}

/// Not every file system has user attributes (tmpfs before Linux 6.6); nothing depends on them.
fn tolerate(name: &[u8], set: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match set {
        Err(Errno::OPNOTSUPP) if name.starts_with(b"user.") => Ok(()),
        other => other,
    }
}

fn timestamps(time: Time) -> Timestamps {
    let time = Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}

fn directory_metadata(directory: &OwnedFd, header: &Header, path: &Path) -> Result<(), Error> {
    let (uid, gid) = owner(header)?;
    fchown(directory, Some(uid), Some(gid)).map_err(Error::at("change owner of", path))?;
    fchmod(directory, Mode::from_raw_mode(header.mode)).map_err(Error::at("change mode of", path))?;
    for (name, value) in kept_xattrs(header) {
        let set = fsetxattr(directory, name, value, XattrFlags::empty());
        tolerate(name, set).map_err(Error::at("set extended attribute of", path))?;
    }
    Ok(())
}

/// For what cannot be opened: links, devices, pipes.
fn named_metadata(place: &Place<'_>, header: &Header) -> Result<(), Error> {
    let (uid, gid) = owner(header)?;
    let (parent, name) = (&place.parent, place.name);
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    chownat(parent, name, Some(uid), Some(gid), flags).map_err(place.error("change owner of"))?;
    if header.kind != Kind::Symlink {
        let mode = Mode::from_raw_mode(header.mode);
        chmodat(parent, name, mode, AtFlags::empty()).map_err(place.error("change mode of"))?;
    }
    // setxattrat(2) came with Linux 6.13; the magic link is to a directory of ours, and the name is not followed.
    let path = PathBuf::from(format!("/proc/self/fd/{}", parent.as_raw_fd())).join(name);
    for (key, value) in kept_xattrs(header) {
        let set = lsetxattr(&path, key, value, XattrFlags::empty());
        tolerate(key, set).map_err(place.error("set extended attribute of"))?;
    }
    utimensat(parent, name, &timestamps(header.mtime), flags).map_err(place.error("set time of"))
}

fn set_opaque(directory: &OwnedFd, path: &[u8]) -> Result<(), Error> {
    fsetxattr(directory, OPAQUE, b"y", XattrFlags::empty()).map_err(Error::at("make opaque", host_path(path)))
}

#[cfg(test)]
mod tests;
