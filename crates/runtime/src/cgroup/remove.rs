//! Ending what is in a container's groups, and removing them.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use super::{Place, Unit, act::write, freeze, is_frozen, place_of, systemd};
use crate::error::{Error, Result};

/// Every process in a container's groups and in groups below them.
pub fn group_pids(places: &[Place]) -> Vec<i32> {
    fn collect(group: &Path, pids: &mut Vec<i32>) {
        // A threaded v2 group has no list of processes; `cgroup.threads` names them by their threads.
        let listed = fs::read_to_string(group.join("cgroup.procs"))
            .or_else(|_| fs::read_to_string(group.join("cgroup.threads")))
            .unwrap_or_default();
        pids.extend(listed.lines().filter_map(|line| line.parse::<i32>().ok()));
        for child in children(group) {
            collect(&child, pids);
        }
    }
    let mut pids = Vec::new();
    if let Some(place) = place_of(places, "devices").or(places.first()) {
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

/// Ends every process in a container's groups, also while they fork.
///
/// By `cgroup.kill` (Linux 5.14), else by signals to what stands still in the freezer.
pub fn kill_all(places: &[Place]) {
    let unified = places.iter().find(|place| place.unified);
    if unified.is_some_and(|place| write(&place.group.join("cgroup.kill"), "1").is_ok()) {
        // A frozen v1 freezer holds even what is killed.
        let _ = is_frozen(places) && freeze(places, false).is_ok();
        return;
    }
    let frozen = freeze(places, true);
    for pid in group_pids(places) {
        // A pid read from our own group a moment ago; cgroup v1 has no better handle.
        let _ = sys::process::kill(pid, 9);
    }
    if frozen.is_ok() || is_frozen(places) {
        let _ = freeze(places, false);
    }
}

/// Ends what is left in a container's groups and removes them, and those below; and the unit they belong to.
pub fn remove(places: &[Place], unit: Option<&Unit>) -> Result<()> {
    let stopped = unit.map_or(Ok(()), |unit| {
        if !group_pids(places).is_empty() {
            kill_all(places);
        }
        systemd::stop(unit)
    });
    let mut patience = Patience::new();
    loop {
        let left: Vec<&Place> = places.iter().filter(|place| remove_tree(&place.group).is_err()).collect();
        let Some(place) = left.first() else {
            return stopped;
        };
        if !patience.wait() {
            let error = remove_tree(&place.group).err().unwrap_or_else(|| io::ErrorKind::TimedOut.into());
            return Err(Error::refused(format!("remove cgroup {}", place.group.display()), &error));
        }
        kill_all(places);
    }
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
    match fs::remove_dir(group) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
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
