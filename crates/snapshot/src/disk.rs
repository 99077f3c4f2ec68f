//! The driver's directories. Everything appears by one rename out of `tmp` and disappears by one rename into
//! `trash`, which a thread of its own empties; so a crash at any moment leaves whole things, and rubbish that the
//! next start knows as such. The same thread keeps a few empty snapshots at hand: making an inode costs a file
//! system far more than renaming one.

use std::{
    ffi::OsStr,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Sender, channel},
    },
    thread::JoinHandle,
};

use rustix::{
    fs::{FlockOperation, RenameFlags, chmodat, flock, fsync, mkdirat, renameat_with, syncfs},
    io::Errno,
};

use crate::{
    Error,
    settle::Settler,
    tree::{self, PRIVATE, open_directory},
};

/// The directories under the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Area {
    Layers,
    Snapshots,
    Init,
    /// Whole trees of images, for drivers that copy them.
    Trees,
    Tmp,
    Trash,
}

/// Directories of a snapshot.
pub(crate) const UPPER: &str = "upper";
pub(crate) const WORK: &str = "work";

impl Area {
    const ALL: [(Area, &str); 6] = [
        (Area::Layers, "layers"),
        (Area::Snapshots, "snapshots"),
        (Area::Init, "init"),
        (Area::Trees, "trees"),
        (Area::Tmp, "tmp"),
        (Area::Trash, "trash"),
    ];

    fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

#[derive(Debug)]
pub(crate) struct Disk {
    root: PathBuf,
    /// Keeps the lock.
    _lock: OwnedFd,
    /// By `Area`.
    areas: Vec<Arc<OwnedFd>>,
    janitor: Janitor,
    settler: Settler,
}

impl Disk {
    /// With so many empty snapshots at hand.
    pub(crate) fn open(root: &Path, spares: usize) -> Result<Self, Error> {
        std::fs::create_dir_all(root).map_err(Error::at("create", root))?;
        let root = root.canonicalize().map_err(Error::at("open", root))?;
        let lock = open_directory(rustix::fs::CWD, &root).map_err(Error::at("open", &root))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|error| {
            let error = match error {
                Errno::WOULDBLOCK => io::Error::other("another process has it open"),
                other => other.into(),
            };
            Error::at("lock", &root)(error)
        })?;
        chmodat(rustix::fs::CWD, &root, PRIVATE, rustix::fs::AtFlags::empty())
            .map_err(Error::at("protect", &root))?;
        let mut areas = Vec::new();
        for (_, name) in Area::ALL {
            match mkdirat(&lock, name, PRIVATE) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(Error::at("create", root.join(name))(error)),
            }
            areas.push(Arc::new(open_directory(&lock, name).map_err(Error::at("open", root.join(name)))?));
        }
        let janitor = Janitor::new(&areas[Area::Tmp as usize], &areas[Area::Trash as usize], spares);
        let settler = Settler::new(Arc::clone(&areas[Area::Layers as usize]));
        let disk = Self { root, _lock: lock, areas, janitor, settler };
        for left in disk.list(Area::Tmp)? {
            disk.discard(Area::Tmp, &left)?;
        }
        disk.janitor.wake();
        Ok(disk)
    }

    /// Makes a layer durable soon.
    pub(crate) fn settle(&self, layer: &str) {
        self.settler.wish(layer);
    }

    pub(crate) fn area(&self, area: Area) -> BorrowedFd<'_> {
        self.areas[area as usize].as_fd()
    }

    pub(crate) fn path(&self, area: Area, name: impl AsRef<Path>) -> PathBuf {
        self.root.join(area.name()).join(name)
    }

    pub(crate) fn has(&self, area: Area, name: &str) -> bool {
        matches!(tree::look(self.area(area), name), Ok(Some(_)))
    }

    pub(crate) fn open_in(&self, area: Area, name: &str) -> Result<OwnedFd, Error> {
        open_directory(self.area(area), name).map_err(Error::at("open", self.path(area, name)))
    }

    /// Names in an area, sorted.
    pub(crate) fn list(&self, area: Area) -> Result<Vec<String>, Error> {
        let names = tree::names(self.area(area)).map_err(Error::at("list", self.path(area, "")))?;
        let mut names: Vec<_> = names.into_iter().filter_map(|name| String::from_utf8(name).ok()).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Frees a name at once and its space soon; what is not there is fine.
    pub(crate) fn discard(&self, area: Area, name: &str) -> Result<(), Error> {
        match renameat_with(
            self.area(area),
            name,
            self.area(Area::Trash),
            tree::unique(),
            RenameFlags::NOREPLACE,
        ) {
            Ok(()) => self.janitor.wake(),
            Err(Errno::NOENT) => {}
            Err(error) => return Err(Error::at("remove", self.path(area, name))(error)),
        }
        Ok(())
    }

    /// A directory to build something in, thrown away unless it is published.
    pub(crate) fn stage(&self) -> Result<Stage<'_>, Error> {
        let name = tree::unique();
        let tmp = self.area(Area::Tmp);
        mkdirat(tmp, &*name, PRIVATE).map_err(Error::at("create", self.path(Area::Tmp, &name)))?;
        self.staged(name)
    }

    /// A stage with an empty `upper` and `work`, both still private.
    pub(crate) fn stage_snapshot(&self) -> Result<Stage<'_>, Error> {
        let spare = self.janitor.spares.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let name = match spare {
            Some(name) => name,
            None => make_spare(self.area(Area::Tmp))
                .map_err(Error::at("create snapshot in", self.path(Area::Tmp, "")))?,
        };
        self.janitor.wake();
        self.staged(name)
    }

    fn staged(&self, name: String) -> Result<Stage<'_>, Error> {
        let directory = self.open_in(Area::Tmp, &name)?;
        Ok(Stage { disk: self, name, directory, published: false })
    }
}

#[derive(Debug)]
pub(crate) struct Stage<'d> {
    disk: &'d Disk,
    name: String,
    directory: OwnedFd,
    published: bool,
}

impl Stage<'_> {
    pub(crate) fn directory(&self) -> &OwnedFd {
        &self.directory
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.disk.path(Area::Tmp, &self.name)
    }

    /// Makes all that was staged survive a power cut: one call for thousands of files.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        syncfs(&self.directory).map_err(Error::at("sync", self.path()))
    }

    /// Gives it its name. `false`: the name is taken, and what was staged is thrown away.
    pub(crate) fn publish(mut self, area: Area, name: &str) -> Result<bool, Error> {
        let (from, to) = (self.disk.area(Area::Tmp), self.disk.area(area));
        match renameat_with(from, &*self.name, to, name, RenameFlags::NOREPLACE) {
            Ok(()) => {
                self.published = true;
                Ok(true)
            }
            Err(Errno::EXIST | Errno::NOTEMPTY) => Ok(false),
            Err(error) => Err(Error::at("create", self.disk.path(area, name))(error)),
        }
    }

    /// Like [`Stage::publish`], and the name survives a power cut.
    pub(crate) fn publish_durably(self, area: Area, name: &str) -> Result<bool, Error> {
        let disk = self.disk;
        let published = self.publish(area, name)?;
        fsync(disk.area(area)).map_err(Error::at("sync", disk.path(area, "")))?;
        Ok(published)
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        if !self.published {
            // If this fails, the next start sweeps it.
            let _ = self.disk.discard(Area::Tmp, &self.name);
        }
    }
}

/// Makes `upper` and `work`.
pub(crate) fn make_writable(snapshot: impl AsFd) -> rustix::io::Result<()> {
    mkdirat(&snapshot, UPPER, PRIVATE)?;
    mkdirat(&snapshot, WORK, PRIVATE)
}

fn make_spare(tmp: impl AsFd) -> rustix::io::Result<String> {
    let name = tree::unique();
    mkdirat(&tmp, &*name, PRIVATE)?;
    make_writable(open_directory(&tmp, &*name)?)?;
    Ok(name)
}

/// Empties the trash and makes spares on its own thread; stops at the next file when dropped.
#[derive(Debug)]
struct Janitor {
    /// Names in `tmp`.
    spares: Arc<Mutex<Vec<String>>>,
    wake: Option<Sender<()>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Janitor {
    fn new(tmp: &Arc<OwnedFd>, trash: &Arc<OwnedFd>, most: usize) -> Self {
        let (wake, woken) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let spares = Arc::new(Mutex::new(Vec::new()));
        let (tmp, trash) = (Arc::clone(tmp), Arc::clone(trash));
        let (stopped, stock) = (Arc::clone(&stop), Arc::clone(&spares));
        let thread = std::thread::Builder::new().name("knarr-trash".to_owned()).spawn(move || {
            while woken.recv().is_ok() {
                make_spares(&tmp, &stock, most);
                empty_trash(&trash, &stopped);
            }
        });
        Self {
            spares,
            wake: Some(wake),
            stop,
            // Without a thread (a process limit), the next start empties the trash.
            thread: thread.ok(),
        }
    }

    fn wake(&self) {
        if let Some(wake) = &self.wake {
            let _ = wake.send(());
        }
    }
}

/// What fails here (a full disk) fails again, with a message, when a snapshot is wanted.
fn make_spares(tmp: &OwnedFd, stock: &Mutex<Vec<String>>, most: usize) {
    let stock = || stock.lock().unwrap_or_else(PoisonError::into_inner);
    while stock().len() < most {
        match make_spare(tmp) {
            Ok(name) => stock().push(name),
            Err(_) => return,
        }
    }
}

fn empty_trash(trash: &OwnedFd, stop: &AtomicBool) {
    // What is very deep is put beside and found by another look.
    let mut before = Vec::new();
    loop {
        let names = tree::names(trash).unwrap_or_default();
        if names.is_empty() || names == before {
            return;
        }
        for name in &names {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            // What cannot be removed stays for the next start.
            let _ = tree::remove(trash.as_fd(), OsStr::from_bytes(name), trash.as_fd());
        }
        before = names;
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
