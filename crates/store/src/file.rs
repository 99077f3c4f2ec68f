//! The file: locked, checked when it is opened, replaced by the last good copy when it is damaged.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use redb::{Database, DatabaseError, StorageError};

use crate::Error;

pub(crate) struct Opened {
    pub(crate) database: Database,
    pub(crate) path: PathBuf,
    pub(crate) set_aside: PathBuf,
    pub(crate) recovered: Vec<String>,
    pub(crate) lock: File,
}

pub(crate) fn open(dir: &Path) -> Result<Opened, Error> {
    make_dir(dir, 0o710)?;
    let lock = lock(dir)?;
    let path = dir.join("records.redb");
    let good = dir.join("records.redb.good");
    let set_aside = dir.join("set-aside");
    let mut recovered = Vec::new();
    // redb makes a new database of an empty file; where there was one before, that would forget everything silently.
    let first = if is_empty(&path) && good.exists() {
        Err("it is missing or empty".to_owned())
    } else {
        open_one(&path)?
    };
    let database = match first {
        Ok(database) => database,
        Err(reason) => {
            recovered.push(put_aside(&path, &set_aside, &reason)?);
            let (database, note) = replace(&path, &good, &set_aside)?;
            recovered.push(note);
            database
        }
    };
    keep_copy(&path, &good).map_err(|e| Error::new(format!("copy {}", path.display()), e))?;
    Ok(Opened { database, path, set_aside, recovered, lock })
}

/// redb locks its file too, but a damaged file may be moved away below another process.
fn lock(dir: &Path) -> Result<File, Error> {
    let path = dir.join("records.lock");
    let what = || format!("lock {}", path.display());
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|e| Error::new(what(), e))?;
    match patiently(|| file.try_lock(), |result| matches!(result, Err(TryLockError::WouldBlock))) {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::new(
            format!("open {}", dir.display()),
            "in use by another knarr daemon; stop it, or give this one another --data-root",
        )),
        Err(TryLockError::Error(e)) => Err(Error::new(what(), e)),
    }
}

/// A lock belongs to the open file, and a child has that until its exec: a daemon that was killed while it started
/// a program holds its locks for some milliseconds more.
fn patiently<T>(attempt: impl Fn() -> T, is_taken: impl Fn(&T) -> bool) -> T {
    let end = Instant::now() + Duration::from_millis(500);
    loop {
        let result = attempt();
        if !is_taken(&result) || Instant::now() > end {
            return result;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// The database, or why its file is damaged. An error is neither: then nothing may be moved.
fn open_one(path: &Path) -> Result<Result<Database, String>, Error> {
    let what = || format!("open {}", path.display());
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|e| Error::new(what(), e))?;
    // A plain open trusts the file, and redb may panic later on what it finds there.
    let open = || Database::builder().set_cache_size(CACHE).set_check_integrity_on_open(true).create(path);
    match patiently(open, |result| matches!(result, Err(DatabaseError::DatabaseAlreadyOpen))) {
        Ok(database) => Ok(Ok(database)),
        Err(DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch) => {
            Err(Error::new(what(), "in use by another knarr daemon"))
        }
        Err(e @ (DatabaseError::Storage(StorageError::Corrupted(_)) | DatabaseError::RepairAborted)) => {
            Ok(Err(e.to_string()))
        }
        Err(DatabaseError::Storage(StorageError::Io(e)))
            if matches!(e.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) =>
        {
            Ok(Err(e.to_string()))
        }
        Err(e) => Err(Error::new(what(), e)),
    }
}

/// Opens again what this process has just closed and still holds the lock of.
pub(crate) fn reopen(path: &Path) -> Result<Database, redb::Error> {
    Ok(Database::builder().set_cache_size(CACHE).create(path)?)
}

/// Records are a few kilobytes each and are held by their owners; redb's default of 1 GiB would be all of them twice.
const CACHE: usize = 4 << 20;

fn is_empty(path: &Path) -> bool {
    fs::metadata(path).map_or(true, |m| m.len() == 0)
}

fn put_aside(path: &Path, set_aside: &Path, reason: &str) -> Result<String, Error> {
    if is_empty(path) {
        return Ok(format!("{} is damaged ({reason})", path.display()));
    }
    make_dir(set_aside, 0o700)?;
    let place = set_aside.join(format!("records-{}.redb", now()));
    fs::rename(path, &place).map_err(|e| Error::new(format!("set aside {}", path.display()), e))?;
    Ok(format!("{} is damaged ({reason}); it was moved to {}", path.display(), place.display()))
}

fn replace(path: &Path, good: &Path, set_aside: &Path) -> Result<(Database, String), Error> {
    if good.exists() {
        fs::copy(good, path).map_err(|e| Error::new(format!("copy {}", good.display()), e))?;
        match open_one(path)? {
            Ok(database) => {
                return Ok((database, "the copy made at the last good start took its place".to_owned()));
            }
            Err(reason) => drop(put_aside(path, set_aside, &reason)?),
        }
    }
    match open_one(path)? {
        Ok(database) => Ok((database, "there is no good copy: the records start empty".to_owned())),
        Err(reason) => Err(Error::new(format!("create {}", path.display()), reason)),
    }
}

/// `fs::copy` shares the blocks where the file system can.
fn keep_copy(path: &Path, good: &Path) -> io::Result<()> {
    let temporary = good.with_extension("tmp");
    fs::copy(path, &temporary)?;
    File::open(&temporary)?.sync_all()?;
    fs::rename(&temporary, good)?;
    // For the names: of the copy, and of the file when it is new.
    good.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

pub(crate) fn write_aside(dir: &Path, name: &str, bytes: &[u8]) -> Result<PathBuf, Error> {
    make_dir(dir, 0o700)?;
    let path = dir.join(name);
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|e: io::Error| Error::new(format!("write {}", path.display()), e))?;
    Ok(path)
}

fn make_dir(dir: &Path, mode: u32) -> Result<(), Error> {
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(dir)
        .map_err(|e| Error::new(format!("create {}", dir.display()), e))
}

/// A key as a part of a file name.
pub(crate) fn plain(key: &str) -> String {
    key.chars()
        .take(100)
        .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' })
        .collect()
}

/// For file names: sorts by time, unique enough for one process at a time.
pub(crate) fn now() -> String {
    jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S.%9fZ").to_string()
}
