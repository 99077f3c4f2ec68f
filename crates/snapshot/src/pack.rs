//! Things on disk become entries of an archive: the same tree always gives the same bytes.
//!
//! A container may be at work in the tree. Nothing is opened but by its name in an open directory, and no link is
//! ever followed; what is gone when its turn comes is left out, and a file's content has the length that its header
//! says, whatever happens to it meanwhile.

use std::{
    collections::{BTreeMap, HashMap},
    ffi::CString,
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::fs::FileExt,
    },
};

use archive::{Extent, Header, Kind, Time, Writer};
use rustix::{
    fs::{
        FileType, Mode, OFlags, SeekFrom, Stat, fgetxattr, flistxattr, fstat, lgetxattr, llistxattr, major,
        minor, openat, readlinkat, seek,
    },
    io::Errno,
};

use crate::{
    Error, Packed,
    tree::{self, host_path},
};

/// As many bytes of zeros in a row are left out of an archive: below, the map costs more than it saves.
const HOLE: u64 = 1 << 20;
/// The kernel's own limits, `XATTR_LIST_MAX` and `XATTR_SIZE_MAX`.
const MOST_XATTRS: usize = 65_536;

/// Writes entries, and remembers what has several names.
pub(crate) struct Packer<'w> {
    writer: Writer<&'w mut dyn Write>,
    /// First names of files with several, by device and inode.
    linked: HashMap<(u64, u64), Vec<u8>>,
    packed: Packed,
}

impl<'w> Packer<'w> {
    pub(crate) fn new(out: &'w mut dyn Write) -> Self {
        Self {
            writer: Writer::new(out).sub_second(true),
            linked: HashMap::new(),
            packed: Packed { size: 0, entries: 0 },
        }
    }

    /// Adds what is called `name` in the directory `at`, as `path`.
    pub(crate) fn entry(
        &mut self,
        at: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        stat: &Stat,
    ) -> Result<(), Error> {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let opened =
                    gone(tree::open_directory(at, name)).map_err(Error::at("open", host_path(path)))?;
                opened.map_or(Ok(()), |directory| self.directory(directory, path))
            }
            FileType::RegularFile => self.file(at, name, path, stat),
            // No archive has them, and nobody answers at them.
            FileType::Socket => Ok(()),
            other => self.special(at, name, path, stat, other),
        }
    }

    /// Adds a directory, but nothing of what is in it.
    pub(crate) fn directory(&mut self, directory: impl AsFd, path: &[u8]) -> Result<(), Error> {
        let stat = fstat(&directory).map_err(Error::at("look at", host_path(path)))?;
        let xattrs = Attributes::of(&directory).map_err(Error::at("read attributes of", host_path(path)))?;
        let header = Header { kind: Kind::Directory, xattrs: xattrs.0, ..header(path, &stat) };
        self.append(&header, io::empty())
    }

    /// Says that the lower layers' `path` is gone.
    pub(crate) fn whiteout(&mut self, path: &[u8]) -> Result<(), Error> {
        let (parent, name) = tree::split(path);
        let mut marker = parent.to_vec();
        if !parent.is_empty() {
            marker.push(b'/');
        }
        marker.extend_from_slice(tree::WHITEOUT);
        marker.extend_from_slice(name);
        self.append(&Header { path: marker, ..Header::default() }, io::empty())
    }

    /// Says that all that lower layers have in the directory `path`, empty or with its slash, is gone.
    pub(crate) fn opaque(&mut self, path: &[u8]) -> Result<(), Error> {
        let marker = [path, tree::OPAQUE_MARKER].concat();
        self.append(&Header { path: marker, ..Header::default() }, io::empty())
    }

    pub(crate) fn finish(self) -> Result<Packed, Error> {
        self.writer.finish().map_err(write_error)?;
        Ok(self.packed)
    }

    fn append(&mut self, header: &Header, content: impl Read) -> Result<(), Error> {
        self.packed.entries += 1;
        self.packed.size += header.size;
        self.writer.append(header, content).map_err(write_error)
    }

    /// Whether it was there before under another name, which is written then.
    fn other_name(&mut self, path: &[u8], stat: &Stat) -> Result<bool, Error> {
        if stat.st_nlink < 2 {
            return Ok(false);
        }
        let first = self.linked.entry((stat.st_dev, stat.st_ino)).or_insert_with(|| path.to_vec());
        if first == path {
            return Ok(false);
        }
        let link = first.clone();
        let header = Header { kind: Kind::HardLink, link, size: 0, ..header(path, stat) };
        self.append(&header, io::empty()).map(|()| true)
    }

    fn file(&mut self, at: BorrowedFd<'_>, name: &[u8], path: &[u8], stat: &Stat) -> Result<(), Error> {
        if self.other_name(path, stat)? {
            return Ok(());
        }
        // NONBLOCK: it may have become a pipe.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let opened =
            gone(openat(at, name, flags, Mode::empty())).map_err(Error::at("open", host_path(path)))?;
        let Some(file) = opened.map(File::from) else {
            return Ok(());
        };
        let stat = fstat(&file).map_err(Error::at("look at", host_path(path)))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(());
        }
        let xattrs = Attributes::of(&file).map_err(Error::at("read attributes of", host_path(path)))?;
        let header = Header { size: stat.st_size as u64, xattrs: xattrs.0, ..header(path, &stat) };
        match extents(&file, &stat).map_err(Error::at("look for holes in", host_path(path)))? {
            None => self.append(&header, Exactly { file: &file, at: 0, left: header.size }),
            Some(extents) => {
                self.packed.entries += 1;
                self.packed.size += header.size;
                let pieces = extents.iter().map(|extent| (*extent, file_part(&file, extent)));
                self.writer.append_sparse(&header, pieces).map_err(write_error)
            }
        }
    }

    fn special(
        &mut self,
        at: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        stat: &Stat,
        kind: FileType,
    ) -> Result<(), Error> {
        if self.other_name(path, stat)? {
            return Ok(());
        }
        let mut header = Header { size: 0, ..header(path, stat) };
        header.kind = match kind {
            FileType::Symlink => {
                let read =
                    gone(readlinkat(at, name, Vec::new())).map_err(Error::at("read", host_path(path)))?;
                let Some(target) = read else { return Ok(()) };
                header.link = target.into_bytes();
                Kind::Symlink
            }
            FileType::CharacterDevice => Kind::CharDevice,
            FileType::BlockDevice => Kind::BlockDevice,
            FileType::Fifo => Kind::Fifo,
            _ => return Ok(()),
        };
        if matches!(header.kind, Kind::CharDevice | Kind::BlockDevice) {
            header.device = (major(stat.st_rdev), minor(stat.st_rdev));
        }
        header.xattrs =
            Attributes::of_named(at, name).map_err(Error::at("read attributes of", host_path(path)))?.0;
        self.append(&header, io::empty())
    }
}

fn header(path: &[u8], stat: &Stat) -> Header {
    Header {
        path: path.to_vec(),
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: Time { seconds: stat.st_mtime, nanoseconds: stat.st_mtime_nsec as u32 },
        ..Header::default()
    }
}

fn write_error(error: archive::Error) -> Error {
    match error {
        archive::Error::Io(error) => Error::Write(error),
        other => Error::Archive(other.to_string()),
    }
}

/// What was there a moment ago, and is not, or not as what it was.
pub(crate) fn is_gone(error: Errno) -> bool {
    matches!(error, Errno::NOENT | Errno::LOOP | Errno::NOTDIR | Errno::NXIO | Errno::STALE)
}

fn gone<T>(result: rustix::io::Result<T>) -> rustix::io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_gone(error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where a file with large holes has data; `None` if it has no such holes.
fn extents(file: &File, stat: &Stat) -> rustix::io::Result<Option<Vec<Extent>>> {
    let size = stat.st_size as u64;
    if stat.st_blocks as u64 * 512 + HOLE > size {
        return Ok(None);
    }
    let mut extents: Vec<Extent> = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match seek(file, SeekFrom::Data(at)) {
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL) => return Ok(None),
            found => found?,
        };
        let end = seek(file, SeekFrom::Hole(start))?.min(size);
        if start >= size || end <= start {
            break;
        }
        match extents.last_mut() {
            Some(last) if start - (last.offset + last.len) < HOLE => last.len = end - last.offset,
            _ => extents.push(Extent { offset: start, len: end - start }),
        }
        at = end;
    }
    // A reader refuses longer maps.
    Ok((extents.len() < archive::MAX_EXTENTS).then_some(extents))
}

fn file_part<'f>(file: &'f File, extent: &Extent) -> Exactly<'f> {
    Exactly { file, at: extent.offset, left: extent.len }
}

/// A part of a file, with zeros where it has become shorter.
struct Exactly<'f> {
    file: &'f File,
    at: u64,
    left: u64,
}

impl Read for Exactly<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if want == 0 {
            return Ok(0);
        }
        let read = match self.file.read_at(&mut buffer[..want], self.at)? {
            0 => {
                buffer[..want].fill(0);
                want
            }
            read => read,
        };
        self.at += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}

/// Extended attributes that belong into an archive: neither overlayfs' nor ours, nor labels that only this host's
/// security module understands.
pub(crate) struct Attributes(pub(crate) BTreeMap<Vec<u8>, Vec<u8>>);

impl Attributes {
    pub(crate) fn of(thing: impl AsFd) -> rustix::io::Result<Self> {
        Self::collect(|list| flistxattr(&thing, list), |name, value| fgetxattr(&thing, name, value))
    }

    /// Of what cannot be opened. The magic link leads to a directory of ours, and the name is not followed
    /// (`getxattrat(2)` came with Linux 6.13).
    pub(crate) fn of_named(at: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<Self> {
        let path = [format!("/proc/self/fd/{}/", at.as_raw_fd()).as_bytes(), name].concat();
        let path = CString::new(path).map_err(|_| Errno::INVAL)?;
        Self::collect(|list| llistxattr(&*path, list), |name, value| lgetxattr(&*path, name, value))
    }

    fn collect(
        list: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
        get: impl Fn(&[u8], &mut [u8]) -> rustix::io::Result<usize>,
    ) -> rustix::io::Result<Self> {
        let mut names = vec![0_u8; 512];
        let length = match list(&mut names) {
            Err(Errno::RANGE) => {
                names.resize(MOST_XATTRS, 0);
                list(&mut names)?
            }
            Err(Errno::OPNOTSUPP | Errno::NOENT) => 0,
            other => other?,
        };
        let mut xattrs = BTreeMap::new();
        let mut value = Vec::new();
        for name in names[..length].split(|byte| *byte == 0).filter(|name| is_kept(name)) {
            value.resize(MOST_XATTRS, 0);
            match get(name, &mut value) {
                Ok(length) => drop(xattrs.insert(name.to_vec(), value[..length].to_vec())),
                Err(Errno::NODATA | Errno::NOENT) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self(xattrs))
    }
}

fn is_kept(name: &[u8]) -> bool {
    const LABELS: [&[u8]; 5] =
        [b"security.selinux", b"security.ima", b"security.evm", b"security.apparmor", b"security.SMACK64"];
    !name.is_empty() && !tree::is_private(name) && !LABELS.iter().any(|label| name.starts_with(label))
}
