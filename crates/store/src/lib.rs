//! Records on disk: small versioned JSON values in one transactional file.
//!
//! A record is damaged alone: it is set aside and named, and everything else is served. A file that is damaged
//! as a whole is set aside too, and the copy made at the last good start takes its place.

mod file;
mod journal;
mod record;

use std::{
    fmt,
    fs::File,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError, RwLock},
};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableError, TableHandle};
use serde::{Serialize, de::DeserializeOwned};

use journal::{Entry, Journal, SEQUENCE, next_sequence};
use record::Unreadable;

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

/// The readable records of a table by key, and those that could not be read.
pub type All<T> = (Vec<(String, T)>, Vec<Damaged>);

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

impl Error {
    fn new(what: impl Into<String>, reason: impl fmt::Display) -> Self {
        Self::Failed { what: what.into(), reason: reason.to_string() }
    }
}

/// The records of one daemon. Cheap to share behind an `Arc`; calls are synchronous and short.
#[derive(Debug)]
pub struct Store {
    /// Absent only while it is opened anew.
    database: RwLock<Option<Database>>,
    /// One writer at a time, so that the journal is in the order of the commits.
    journal: Mutex<Journal>,
    path: PathBuf,
    set_aside: PathBuf,
    recovered: Vec<String>,
    /// Held until the end: one process at a time.
    _lock: File,
}

impl Store {
    /// Opens or makes `records.redb` under `dir`; one process at a time.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let opened = file::open(dir)?;
        let store = Self {
            database: RwLock::new(Some(opened.database)),
            journal: Mutex::new(Journal::open(&dir.join("records.journal"))?),
            path: opened.path,
            set_aside: opened.set_aside,
            recovered: opened.recovered,
            _lock: opened.lock,
        };
        store.replay()?;
        Ok(store)
    }

    /// What had to be done to open it, for the log: which file was set aside, where to, and what took its place.
    pub fn recovered(&self) -> &[String] {
        &self.recovered
    }

    /// One record. A damaged one is set aside and is an error once; one that a newer program wrote is left alone
    /// and is always an error.
    pub fn get<T: DeserializeOwned>(&self, table: Table, key: &str) -> Result<Option<T>, Error> {
        let what = || format!("read {}/{key}", table.name);
        let bytes = self.read(|database| bytes_of(database, table.name, key));
        let Some(bytes) = bytes.map_err(|e| Error::new(what(), e))? else { return Ok(None) };
        match record::read(table, &bytes) {
            Ok(value) => Ok(Some(value)),
            Err(unreadable) => {
                let damaged = self.set_aside(table, key, &unreadable, &bytes)?;
                let place = damaged.set_aside.display();
                Err(Error::new(what(), format!("{}; its bytes are in {place}", damaged.reason)))
            }
        }
    }

    /// Writes one record. A record that a newer program wrote is not overwritten.
    pub fn put<T: Serialize>(
        &self,
        table: Table,
        key: &str,
        value: &T,
        how: Durability,
    ) -> Result<(), Error> {
        let what = format!("write {}/{key}", table.name);
        let bytes = record::write(table, value).map_err(|e| Error::new(&what, e))?;
        self.write(table, key, Some(&bytes), how).map_err(|e| Error::new(what, e))?;
        Ok(())
    }

    /// Removes one record; whether it was there. A record that a newer program wrote is not removed.
    pub fn delete(&self, table: Table, key: &str, how: Durability) -> Result<bool, Error> {
        self.write(table, key, None, how).map_err(|e| Error::new(format!("delete {}/{key}", table.name), e))
    }

    /// All readable records in order of their keys, and those that had to be set aside or, if a newer program wrote
    /// them, were left where they are.
    pub fn all<T: DeserializeOwned>(&self, table: Table) -> Result<All<T>, Error> {
        let mut good = Vec::new();
        let mut bad = Vec::new();
        self.each(table.name, &mut |key, bytes| match record::read(table, bytes) {
            Ok(value) => good.push((key.to_owned(), value)),
            Err(unreadable) => bad.push((key.to_owned(), unreadable, bytes.to_vec())),
        })
        .map_err(|e| Error::new(format!("read {}", table.name), e))?;
        let damaged = bad
            .into_iter()
            .map(|(key, unreadable, bytes)| self.set_aside(table, &key, &unreadable, &bytes))
            .collect::<Result<_, _>>()?;
        Ok((good, damaged))
    }

    /// Everything, readable: `{"containers": {"3f0c…": {…}}, …}`. A damaged record is shown as its text.
    pub fn dump(&self) -> Result<String, Error> {
        self.everything().map_err(|e| Error::new(format!("read {}", self.path.display()), e))
    }

    fn everything(&self) -> Result<String, redb::Error> {
        let mut names = self.read(|database| {
            let transaction = database.begin_read()?;
            let names = transaction.list_tables()?.map(|table| table.name().to_owned());
            Ok(names.filter(|name| name != SEQUENCE.name()).collect::<Vec<_>>())
        })?;
        names.sort();
        let mut tables = serde_json::Map::new();
        for name in names {
            let mut records = serde_json::Map::new();
            self.each(&name, &mut |key, bytes| {
                records.insert(key.to_owned(), record::show(bytes));
            })?;
            tables.insert(name, records.into());
        }
        Ok(format!("{:#}", serde_json::Value::from(tables)))
    }

    fn each(&self, table: &str, visit: &mut dyn FnMut(&str, &[u8])) -> Result<(), redb::Error> {
        for (key, bytes) in self.read(|database| all_of(database, table))? {
            visit(&key, &bytes);
        }
        Ok(())
    }

    fn read<T>(&self, work: impl Fn(&Database) -> Result<T, redb::Error>) -> Result<T, redb::Error> {
        let outcome = self.with(&work);
        if !matches!(outcome, Err(redb::Error::PreviousIo)) {
            return outcome;
        }
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        self.reopen(&mut journal)?;
        self.with(&work)
    }

    fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, redb::Error> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        database.as_ref().map_or(Err(redb::Error::PreviousIo), work)
    }

    /// After a write that the disk refused, redb wants to be opened anew; what was written relaxed comes back from the
    /// journal.
    fn reopen(&self, journal: &mut Journal) -> Result<(), redb::Error> {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        *database = None;
        let opened = file::reopen(&self.path)?;
        journal.replay(&opened).map_err(|e| redb::Error::Io(std::io::Error::other(e.to_string())))?;
        *database = Some(opened);
        Ok(())
    }

    /// Writes or removes a record; whether there was one.
    fn write(
        &self,
        table: Table,
        key: &str,
        bytes: Option<&[u8]>,
        how: Durability,
    ) -> Result<bool, Box<dyn std::error::Error>> {
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        let mut outcome = self.with(|database| commit(database, &mut journal, table, key, bytes, how));
        if matches!(outcome, Err(redb::Error::PreviousIo)) {
            self.reopen(&mut journal)?;
            outcome = self.with(|database| commit(database, &mut journal, table, key, bytes, how));
        }
        match outcome? {
            Written::Newer(newer) => Err(newer.into()),
            Written::Done { there } => Ok(there),
        }
    }

    /// Brings back what was written relaxed since the last durable write of a daemon that did not end well.
    fn replay(&self) -> Result<(), Error> {
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let Some(database) = database.as_ref() else { return Ok(()) };
        journal
            .replay(database)
            .map_err(|e| Error::new(format!("replay the journal of {}", self.path.display()), e))
    }

    /// Moves the bytes of a damaged record to a file of their own. One of a newer program stays.
    fn set_aside(&self, table: Table, key: &str, why: &Unreadable, bytes: &[u8]) -> Result<Damaged, Error> {
        let reason = why.to_string();
        if matches!(why, Unreadable::Newer { .. }) {
            return Ok(Damaged { key: key.to_owned(), reason, set_aside: self.path.clone() });
        }
        let name = format!("{}-{}-{}.json", table.name, file::plain(key), file::now());
        let set_aside = file::write_aside(&self.set_aside, &name, bytes)?;
        self.delete(table, key, Durability::Durable)?;
        Ok(Damaged { key: key.to_owned(), reason, set_aside })
    }
}

/// What became of a write.
enum Written {
    Done {
        there: bool,
    },
    /// A newer program's record is in the way.
    Newer(Unreadable),
}

fn commit(
    database: &Database,
    journal: &mut Journal,
    table: Table,
    key: &str,
    bytes: Option<&[u8]>,
    how: Durability,
) -> Result<Written, redb::Error> {
    let mut transaction = database.begin_write()?;
    let sequence = next_sequence(&transaction)?;
    let (there, newer) = {
        let mut open = transaction.open_table(definition(table.name))?;
        let old = match bytes {
            Some(bytes) => open.insert(key, bytes)?,
            None => open.remove(key)?,
        };
        let newer = old.as_ref().and_then(|old| record::newer(table, old.value()));
        (old.is_some(), newer)
    };
    if let Some(newer) = newer {
        transaction.abort()?;
        return Ok(Written::Newer(newer));
    }
    if how == Durability::Relaxed && journal.has_room() {
        // redb keeps such a commit in memory only; the journal is what survives a killed daemon.
        journal.append(&Entry { sequence, table: table.name, key, record: bytes })?;
        transaction.set_durability(redb::Durability::None)?;
        transaction.commit()?;
    } else {
        transaction.commit()?;
        journal.clear();
    }
    Ok(Written::Done { there })
}

fn bytes_of(database: &Database, table: &str, key: &str) -> Result<Option<Vec<u8>>, redb::Error> {
    let open = match database.begin_read()?.open_table(definition(table)) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(None),
        open => open?,
    };
    Ok(open.get(key)?.map(|bytes| bytes.value().to_vec()))
}

type Pairs = Vec<(String, Vec<u8>)>;

fn all_of(database: &Database, table: &str) -> Result<Pairs, redb::Error> {
    let open = match database.begin_read()?.open_table(definition(table)) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        open => open?,
    };
    let pairs =
        open.iter()?.map(|entry| entry.map(|(key, bytes)| (key.value().to_owned(), bytes.value().to_vec())));
    Ok(pairs.collect::<Result<_, _>>()?)
}

fn definition(name: &str) -> TableDefinition<'_, &'static str, &'static [u8]> {
    TableDefinition::new(name)
}
