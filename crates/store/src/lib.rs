//! Records on disk: small versioned JSON values in one transactional file.
//!
//! A record is damaged alone: it is set aside and named, and everything else is served. A file that is damaged
//! as a whole is set aside too, and the copy made at the last good start takes its place.

use std::path::{Path, PathBuf};

use serde::{Serialize, de::DeserializeOwned};

/// A table: what kind of thing its records describe. The schema's version is part of every record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Table {
    /// As in the file: `containers`, `images`, `tags`, …
    pub name: &'static str,
    /// Version of the values that this program writes.
    pub version: u32,
}

/// Whether a write must survive a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// On disk when the call returns.
    Durable,
    /// On disk with the next durable write at the latest; survives the daemon's death, not the machine's.
    Relaxed,
}

/// One record that could not be read; its bytes were moved to `set_aside`.
#[derive(Debug, Clone)]
pub struct Damaged {
    /// Which.
    pub key: String,
    /// Why.
    pub reason: String,
    /// Where its bytes are now.
    pub set_aside: PathBuf,
}

/// What went wrong, and with which file or record.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file or a record in it.
    #[error("{what}: {reason}")]
    Failed {
        /// `open /var/lib/knarr/records.redb`, `write containers/3f0c…`
        what: String,
        /// The cause.
        reason: String,
    },
}

/// The records of one daemon. Cheap to share behind an `Arc`; calls are synchronous and short.
#[derive(Debug)]
pub struct Store {}

impl Store {
    /// Opens or makes `records.redb` under `dir`; one process at a time.
    pub fn open(_dir: &Path) -> Result<Self, Error> {
        unimplemented!()
    }

    /// One record.
    pub fn get<T: DeserializeOwned>(&self, _table: Table, _key: &str) -> Result<Option<T>, Error> {
        unimplemented!()
    }

    /// Writes one record.
    pub fn put<T: Serialize>(
        &self,
        _table: Table,
        _key: &str,
        _value: &T,
        _how: Durability,
    ) -> Result<(), Error> {
        unimplemented!()
    }

    /// Removes one record; whether it was there.
    pub fn delete(&self, _table: Table, _key: &str, _how: Durability) -> Result<bool, Error> {
        unimplemented!()
    }

    /// All readable records in order of their keys, and those that had to be set aside.
    pub fn all<T: DeserializeOwned>(&self, _table: Table) -> Result<(Vec<(String, T)>, Vec<Damaged>), Error> {
        unimplemented!()
    }

    /// Everything, readable: `{"containers": {"3f0c…": {…}}, …}`.
    pub fn dump(&self) -> Result<String, Error> {
        unimplemented!()
    }
}
