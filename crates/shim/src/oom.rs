//! The kernel's OOM killer: whether it struck in a container's cgroup.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::{
    event::{EventfdFlags, PollFlags, eventfd},
    io::pread,
};

/// The kernel takes no longer to kill somebody, once it has said that memory is out.
const KILLING: Duration = Duration::from_secs(2);

/// Watches one memory cgroup.
#[derive(Debug)]
pub(crate) struct OomWatch {
    /// Has a line `oom_kill N`: `memory.events` (v2) or `memory.oom_control` (v1).
    counter: File,
    /// Rings on v1; on v2 the counter's own file does.
    bell: Option<OwnedFd>,
    seen: u64,
    /// v1 rings before it kills: the counter is looked at until it has moved, or this time.
    pub(crate) look_until: Option<Instant>,
}

impl OomWatch {
    /// Watches the memory cgroup that `pid` is in. None where there is no such thing, or `pid` is in its root.
    pub(crate) fn of(pid: i32) -> io::Result<Option<Self>> {
        let membership = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let Some((group, v1)) = locate(&membership, &mounts) else {
            return Ok(None);
        };
        let name = if v1 { "memory.oom_control" } else { "memory.events" };
        let counter = match File::open(group.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let bell = if v1 { Some(ring(&group, &counter)?) } else { None };
        let mut watch = Self { counter, bell, seen: 0, look_until: None };
        watch.seen = watch.kills();
        Ok(Some(watch))
    }

    /// How often it struck, since the cgroup was made.
    pub(crate) fn kills(&self) -> u64 {
        let mut text = [0; 512];
        let length = pread(&self.counter, &mut text, 0).unwrap_or_default();
        let text = String::from_utf8_lossy(&text[..length]);
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.and_then(|count| count.trim().parse().ok()).unwrap_or(self.seen)
    }

    /// Whether it struck since the last call.
    pub(crate) fn struck(&mut self) -> bool {
        let kills = self.kills();
        let struck = std::mem::replace(&mut self.seen, kills) < kills;
        if struck || self.look_until.is_some_and(|until| Instant::now() >= until) {
            self.look_until = None;
        }
        struck
    }

    /// What to poll, and for what.
    pub(crate) fn interest(&self) -> (BorrowedFd<'_>, PollFlags) {
        match &self.bell {
            Some(bell) => (bell.as_fd(), PollFlags::IN),
            None => (self.counter.as_fd(), PollFlags::PRI),
        }
    }

    /// Silences the bell; false when the cgroup is gone and there is nothing more to hear.
    pub(crate) fn answer(&mut self) -> bool {
        self.look_until = Some(Instant::now() + KILLING);
        if let Some(bell) = &self.bell {
            let _ = rustix::io::read(bell, &mut [0; 8]);
        }
        pread(&self.counter, &mut [0; 512], 0).is_ok()
    }
}

/// v1 rings an eventfd when a task hits the limit with nothing to reclaim, and when the cgroup is removed.
fn ring(group: &Path, counter: &File) -> io::Result<OwnedFd> {
    let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let order = format!("{} {}", bell.as_raw_fd(), counter.as_raw_fd());
    OpenOptions::new().write(true).open(group.join("cgroup.event_control"))?.write_all(order.as_bytes())?;
    Ok(bell)
}

/// The directory of the memory cgroup named in `/proc/PID/cgroup`, and whether it is of v1.
fn locate(membership: &str, mounts: &str) -> Option<(PathBuf, bool)> {
    let lines = membership.lines().map(|line| line.splitn(3, ':').collect::<Vec<_>>());
    let mut v2 = None;
    for line in lines {
        match line[..] {
            [_, controllers, path] if controllers.split(',').any(|word| word == "memory") => {
                return Some((below_mount(path, "cgroup", "memory", mounts)?, true));
            }
            ["0", "", path] => v2 = Some(path),
            _ => {}
        }
    }
    Some((below_mount(v2?, "cgroup2", "", mounts)?, false))
}

/// `path` of a hierarchy, where that hierarchy is mounted. The root cgroup has no limit, so none for it.
fn below_mount(path: &str, kind: &str, controller: &str, mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut filesystem = filesystem.split(' ');
        let fits = filesystem.next() == Some(kind)
            && (controller.is_empty() || filesystem.nth(1)?.split(',').any(|word| word == controller));
        let fields: Vec<_> = mount.split(' ').collect();
        let (root, point) = (fields.get(3)?, fields.get(4)?);
        let below = path.strip_prefix(root.trim_end_matches('/'))?.trim_start_matches('/');
        (fits && !below.is_empty()).then(|| Path::new(point).join(below))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
        35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
    const UNIFIED: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";

    #[test]
    fn the_group_is_found_in_every_layout() {
        let hybrid = locate("4:memory:/knarr/c\n1:cpu:/x\n0::/y\n", HYBRID);
        assert_eq!(hybrid, Some(("/sys/fs/cgroup/memory/knarr/c".into(), true)));
        assert_eq!(locate("0::/knarr/c\n", UNIFIED), Some(("/sys/fs/cgroup/knarr/c".into(), false)));
        assert_eq!(locate("0::/\n", UNIFIED), None);
        assert_eq!(locate("", UNIFIED), None);
    }
}
