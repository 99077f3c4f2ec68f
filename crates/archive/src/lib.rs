//! Tar archives as streams of entries: the one parser and the one writer of the engine (rule R14).
//!
//! Knows headers (ustar, GNU, PAX) and nothing of files on disk. Where readers of the field disagree about what a
//! header means, an archive that depends on it is refused: two programs that see different entries in one archive
//! are how content is smuggled past a check (CVE-2025-62518).
//!
//! ```
//! use std::io::Read;
//! # let mut bytes = Vec::new();
//! # let mut writer = archive::Writer::new(&mut bytes);
//! # writer.append(&archive::Header { path: b"etc/motd".to_vec(), size: 2, ..Default::default() }, &b"hi"[..])?;
//! # writer.finish()?;
//! let mut reader = archive::Reader::new(&bytes[..]);
//! while let Some(mut entry) = reader.next()? {
//!     assert_eq!(entry.header().path, b"etc/motd");
//!     let mut content = String::new();
//!     entry.read_to_string(&mut content)?;
//!     assert_eq!(content, "hi");
//! }
//! reader.finish()?;
//! # Ok::<(), archive::Error>(())
//! ```

mod block;
mod pax;
mod reader;
mod sparse;
mod writer;

use std::{collections::BTreeMap, io};

pub use reader::{Data, Entry, Reader};
pub use sparse::Extent;
pub use writer::Writer;

/// Longest path or link target, in bytes: the kernel's `PATH_MAX`.
pub const MAX_PATH: usize = 4096;
/// Longest extended header, in bytes.
pub const MAX_EXTENDED: u64 = 1 << 20;
/// Most records of one extended header; extents of a sparse map are counted by [`MAX_EXTENTS`].
pub const MAX_RECORDS: usize = 1 << 14;
/// Most extents of one sparse file.
pub const MAX_EXTENTS: usize = 1 << 20;

/// What one entry says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Header {
    /// As it stands in the archive: may be absolute, hold `..`, end in `/`; never empty, never with a NUL.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission, set-id and sticky bits.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Name of the owner; empty if the archive has none.
    pub user: Vec<u8>,
    /// Name of the group.
    pub group: Vec<u8>,
    /// Last modification.
    pub mtime: Time,
    /// Bytes of content, holes included; 0 for all but files.
    pub size: u64,
    /// Target of a hard or symbolic link, as it stands in the archive.
    pub link: Vec<u8>,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Extended attributes by name, from `SCHILY.xattr.` and `LIBARCHIVE.xattr.` records.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The extended header's records as read, without sparse maps. The writer makes its own.
    pub pax: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Kind of an entry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Regular file, also sparse.
    #[default]
    File,
    /// Another name of an earlier entry.
    HardLink,
    /// Symbolic link.
    Symlink,
    /// Directory.
    Directory,
    /// Character device.
    CharDevice,
    /// Block device.
    BlockDevice,
    /// Named pipe.
    Fifo,
    /// A type that only its maker knows (`V` volume label, `M` continuation, …), by its letter.
    Other(u8),
}

/// A moment, in seconds since 1970 and nanoseconds (0..1,000,000,000) after that second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time {
    /// Whole seconds, rounded down.
    pub seconds: i64,
    /// The rest.
    pub nanoseconds: u32,
}

/// Why an archive cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The source or destination failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The source ended too early.
    #[error("the archive is cut short: it ends inside {0}")]
    Truncated(String),
    /// Something that no proper archive holds, or that readers disagree about.
    #[error("malformed archive, header at byte {offset}: {what}")]
    Malformed {
        /// Where the header starts.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// A header that cannot be written.
    #[error("cannot write entry {path:?}: {what}")]
    Unwritable {
        /// Of which entry.
        path: String,
        /// Why.
        what: &'static str,
    },
}

/// Bytes of an archive in a message: lossy, escaped, short.
pub fn shown(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(200)];
    let tail = if cut.len() < bytes.len() { "…" } else { "" };
    format!("{}{tail}", String::from_utf8_lossy(cut).escape_debug())
}
