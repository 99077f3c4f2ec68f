//! Being told when the kernel ends a process of a container for want of memory.

use std::{
    fs,
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::PathBuf,
};

use rustix::{
    event::{EventfdFlags, eventfd},
    fs::{Mode, OFlags, inotify, open},
};

use super::{Place, act::write, place_of};
use crate::error::{During, Error, Result};

/// A bell that rings when something may have happened; [`Watch::heard`] says whether it has.
#[derive(Debug)]
pub struct Watch {
    bell: OwnedFd,
    group: PathBuf,
    unified: bool,
    seen: u64,
}

impl Watch {
    /// Begins to listen.
    pub fn new(places: &[Place]) -> Result<Self> {
        let place = place_of(places, "memory")
            .ok_or_else(|| Error::new("notices of OOM: the container has no memory cgroup"))?;
        let bell = if place.unified { inotify_on(place)? } else { eventfd_on(place)? };
        let mut watch = Self { bell, group: place.group.clone(), unified: place.unified, seen: 0 };
        watch.seen = watch.kills();
        Ok(watch)
    }

    /// To poll for reading.
    pub fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// Silences the bell: how often it has happened since the last time, or None if the group is gone.
    pub fn heard(&mut self) -> Option<u64> {
        let mut buffer = [MaybeUninit::<u8>::uninit(); 1024];
        let _ = rustix::io::read(&self.bell, &mut buffer);
        if !self.group.exists() {
            return None;
        }
        if !self.unified {
            // The kernel rings it once for each time that a process hit the limit.
            return Some(1);
        }
        let now = self.kills();
        let before = std::mem::replace(&mut self.seen, now);
        Some(now.saturating_sub(before))
    }

    fn kills(&self) -> u64 {
        let events = fs::read_to_string(self.group.join("memory.events")).unwrap_or_default();
        let line = events.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.and_then(|count| count.parse().ok()).unwrap_or(0)
    }
}

/// v1: an eventfd is bound to `memory.oom_control`. It rings too when the group is removed.
fn eventfd_on(place: &Place) -> Result<OwnedFd> {
    let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).during(|| "make an eventfd")?;
    let file = place.group.join("memory.oom_control");
    let control = open(&file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .during(|| format!("open {}", file.display()))?;
    let order = format!("{} {}", bell.as_raw_fd(), control.as_raw_fd());
    write(&place.group.join("cgroup.event_control"), &order)?;
    Ok(bell)
}

/// v2: `memory.events` counts, and is marked as modified.
fn inotify_on(place: &Place) -> Result<OwnedFd> {
    let bell = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)
        .during(|| "make an inotify")?;
    let file = place.group.join("memory.events");
    inotify::add_watch(&bell, &file, inotify::WatchFlags::MODIFY)
        .during(|| format!("watch {}", file.display()))?;
    Ok(bell)
}
