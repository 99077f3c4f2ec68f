//! Making, entering, freezing and removing groups.

use std::{
    fs, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::fs::{Mode, OFlags, open};

use super::{Action, Place};
use crate::error::{During, Error, Result};

impl Action {
    /// Does it.
    pub fn run(&self) -> Result<()> {
        match self {
            Action::Make { mount, group, cpuset, controllers } => make(mount, group, *cpuset, controllers),
            Action::Write { file, value } => write(file, value),
            Action::FilterDevices { group, rules } => super::filter::attach(group, rules),
        }
    }
}

/// Without `O_CREAT`, which a cgroup file system would answer with a misleading EACCES.
fn write(file: &Path, value: &str) -> Result<()> {
    let what = || format!("write {value:?} to {}", file.display());
    let fd = open(file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).map_err(|error| {
        Error::refused(what(), &error.into())
            .hint_on(rustix::io::Errno::NOENT, "this kernel has no such limit")
    })?;
    rustix::io::write(&fd, value.as_bytes())
        .map(drop)
        .map_err(|error| Error::refused(what(), &error.into()).hint_on(rustix::io::Errno::BUSY, BUSY))
}

const BUSY: &str = "the limit is below what is in use";

fn make(mount: &Path, group: &Path, cpuset: bool, controllers: &[String]) -> Result<()> {
    if !cpuset && controllers.is_empty() && fs::create_dir(group).is_ok() {
        return Ok(());
    }
    let below = group.strip_prefix(mount).unwrap_or(group);
    let mut directory = mount.to_owned();
    for part in below.components() {
        if !controllers.is_empty() {
            delegate(&directory, controllers)?;
        }
        let parent = directory.clone();
        directory.push(part);
        match fs::create_dir(&directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Error::refused(format!("make cgroup {}", directory.display()), &error));
            }
            _ => {}
        }
        if cpuset {
            inherit(&parent, &directory, "cpuset.cpus")?;
            inherit(&parent, &directory, "cpuset.mems")?;
        }
    }
    Ok(())
}

/// A v1 cpuset group begins with empty lists and takes no process until they are filled.
fn inherit(parent: &Path, group: &Path, file: &str) -> Result<()> {
    let read = |directory: &Path| {
        let path = directory.join(file);
        fs::read_to_string(&path).during(|| format!("read {}", path.display()))
    };
    if read(group)?.trim().is_empty() {
        write(&group.join(file), read(parent)?.trim())?;
    }
    Ok(())
}

/// Passes controllers down, each on its own so that one that cannot be passed does not hold up the others; a limit
/// that then has no file says so itself.
fn delegate(directory: &Path, controllers: &[String]) -> Result<()> {
    let file = directory.join("cgroup.subtree_control");
    let passed = fs::read_to_string(&file).during(|| format!("read {}", file.display()))?;
    for controller in controllers {
        if !passed.split_whitespace().any(|name| name == controller) {
            let _ = write(&file, &format!("+{controller}"));
        }
    }
    Ok(())
}

/// A container's groups, open for entering: through these descriptors also a process that may no longer name them.
#[derive(Debug)]
pub struct Places {
    /// v1 `tasks` files.
    tasks: Vec<(String, OwnedFd)>,
    /// The v2 directory.
    unified: Option<OwnedFd>,
}

impl Places {
    /// Opens them.
    pub fn open(places: &[Place]) -> Result<Self> {
        let mut opened = Self { tasks: Vec::new(), unified: None };
        for place in places {
            if place.unified {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let fd = open(&place.group, flags, Mode::empty());
                opened.unified = Some(fd.during(|| format!("open {}", place.group.display()))?);
            } else {
                let file = place.group.join("tasks");
                let fd = open(&file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
                opened.tasks.push((place.name.clone(), fd.during(|| format!("open {}", file.display()))?));
            }
        }
        Ok(opened)
    }

    /// The v2 group, for `CLONE_INTO_CGROUP`.
    pub fn unified(&self) -> Option<BorrowedFd<'_>> {
        self.unified.as_ref().map(AsFd::as_fd)
    }

    /// Moves this process, which has one thread, into every v1 group.
    ///
    /// A thread that writes `0` to `tasks` needs no lock over all forks of the system, and so none of the RCU grace
    /// periods that `cgroup.procs` waits for.
    pub fn enter(&self) -> Result<()> {
        for (name, tasks) in &self.tasks {
            rustix::io::write(tasks, b"0").during(|| format!("enter cgroup {name}"))?;
        }
        Ok(())
    }
}

/// Every process in a container's groups and in groups below them.
pub fn group_pids(places: &[Place]) -> Vec<i32> {
    fn collect(group: &Path, pids: &mut Vec<i32>) {
        let listed = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
        pids.extend(listed.lines().filter_map(|line| line.parse::<i32>().ok()));
        for child in children(group) {
            collect(&child, pids);
        }
    }
    let mut pids = Vec::new();
    if let Some(place) = places.iter().find(|place| place.name == "devices").or(places.first()) {
        collect(&place.group, &mut pids);
    }
    pids
}

fn children(group: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(group).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// Stops or continues every process of a container, and waits until it is so.
pub fn freeze(places: &[Place], frozen: bool) -> Result<()> {
    let v1 = places.iter().find(|place| place.name.split(',').any(|name| name == "freezer"));
    let unified = places.iter().find(|place| place.unified);
    let (file, value, seen, wanted) = match (v1, unified) {
        (Some(place), _) => {
            let value = if frozen { "FROZEN" } else { "THAWED" };
            (place.group.join("freezer.state"), value, place.group.join("freezer.state"), value)
        }
        (None, Some(place)) => {
            let wanted = if frozen { "frozen 1" } else { "frozen 0" };
            let value = if frozen { "1" } else { "0" };
            (place.group.join("cgroup.freeze"), value, place.group.join("cgroup.events"), wanted)
        }
        (None, None) => return Err(Error::new("pause: the container has no freezer cgroup")),
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    write(&file, value)?;
    while !fs::read_to_string(&seen).unwrap_or_default().contains(wanted) {
        if Instant::now() > deadline {
            let _ = write(&file, if value == "FROZEN" { "THAWED" } else { "0" });
            return Err(Error::new(format!("{}: did not become {wanted} in 10 s", seen.display())));
        }
        sleep(Duration::from_millis(1));
        // A v1 freezer may need asking again while processes fork.
        write(&file, value)?;
    }
    Ok(())
}

/// Whether a container is frozen.
pub fn is_frozen(places: &[Place]) -> bool {
    places.iter().any(|place| {
        if place.unified {
            let events = fs::read_to_string(place.group.join("cgroup.events"));
            events.is_ok_and(|events| events.contains("frozen 1"))
        } else if place.name.split(',').any(|name| name == "freezer") {
            let state = fs::read_to_string(place.group.join("freezer.state"));
            state.is_ok_and(|state| !state.starts_with("THAWED"))
        } else {
            false
        }
    })
}

/// Ends what is left in a container's groups and removes them, and those below.
pub fn remove(places: &[Place]) -> Result<()> {
    let mut patience = Patience::new();
    loop {
        let left: Vec<&Place> = places.iter().filter(|place| remove_tree(&place.group).is_err()).collect();
        let Some(place) = left.first() else {
            return Ok(());
        };
        if !patience.wait() {
            let error = remove_tree(&place.group).err().unwrap_or_else(|| io::ErrorKind::TimedOut.into());
            return Err(Error::refused(format!("remove cgroup {}", place.group.display()), &error));
        }
        end_all(places);
    }
}

fn end_all(places: &[Place]) {
    let unified = places.iter().find(|place| place.unified);
    if unified.is_some_and(|place| write(&place.group.join("cgroup.kill"), "1").is_ok()) {
        return;
    }
    for pid in group_pids(places) {
        // A pid read from our own group a moment ago; cgroup v1 has no better handle.
        let _ = sys::process::kill(pid, 9);
    }
    let _ = is_frozen(places) && freeze(places, false).is_ok();
}

fn remove_tree(group: &Path) -> io::Result<()> {
    match fs::remove_dir(group) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.raw_os_error() != Some(rustix::io::Errno::BUSY.raw_os_error()) => {
            return Err(error);
        }
        Ok(()) => return Ok(()),
        Err(_) => {}
    }
    for child in children(group) {
        remove_tree(&child)?;
    }
    fs::remove_dir(group)
}

/// Waits a little longer each time, ten seconds in all.
struct Patience {
    next: Duration,
    until: Instant,
}

impl Patience {
    fn new() -> Self {
        Self { next: Duration::from_micros(100), until: Instant::now() + Duration::from_secs(10) }
    }

    fn wait(&mut self) -> bool {
        sleep(self.next);
        self.next = (self.next * 2).min(Duration::from_millis(20));
        Instant::now() < self.until
    }
}
