//! Making groups and writing their limits.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags, open},
    io::Errno,
};

use super::{Action, Plan, Write, systemd};
use crate::{
    error::{During, Error, Result},
    record::{Describe, Recorder},
};

/// What must live until the container's process is in its groups.
#[derive(Debug, Default)]
pub struct Held {
    unit: Option<systemd::Holder>,
}

/// Does all of a plan, in order. With `rootless` (None: for whoever is not root), places that may not be made, and that
/// no limit needs, are taken out of it: a user who is not root has only the groups that were delegated to him.
///
/// If it fails, a unit that it started is stopped; groups are for the caller to remove.
pub fn apply(plan: &mut Plan, rootless: Option<bool>, recorder: &mut Recorder) -> Result<Held> {
    let mut held = Held::default();
    match apply_all(plan, rootless, recorder, &mut held) {
        Ok(()) => Ok(held),
        Err(error) => {
            // Only one of our own: one of that name that was there before is somebody else's.
            if let (Some(_), Some(unit)) = (&held.unit, &plan.unit) {
                let _ = systemd::stop(unit);
            }
            Err(error)
        }
    }
}

fn apply_all(
    plan: &mut Plan,
    rootless: Option<bool>,
    recorder: &mut Recorder,
    held: &mut Held,
) -> Result<()> {
    // Asked only when something is refused.
    let may_do_without = |error: &Error| is_forbidden(error) && rootless.unwrap_or_else(is_rootless);
    let mut skipped: Vec<PathBuf> = Vec::new();
    let mut again = Vec::new();
    for action in &plan.actions {
        if skipped.iter().any(|group| action.group() == Some(group)) {
            continue;
        }
        match recorder.step(|| action.describe(), || action.run(held)) {
            Ok(()) => {}
            Err(error) => match action {
                Action::Make { group, needed: false, .. } if may_do_without(&error) => {
                    skipped.push(group.clone());
                }
                Action::FilterDevices { .. } if may_do_without(&error) => {}
                Action::Write(_) if is_pair(&error) => again.push(action),
                _ => return Err(error),
            },
        }
    }
    for action in again {
        recorder.step(|| action.describe(), || action.run(held))?;
    }
    plan.places.retain(|place| !skipped.contains(&place.group));
    Ok(())
}

/// Values that the kernel holds against each other (memory and memory+swap, quota and period and burst) are refused
/// as long as the other one is the old one; they are written once more after all others.
pub(super) fn is_pair(error: &Error) -> bool {
    error.errno == Some(Errno::INVAL.raw_os_error())
}

fn is_forbidden(error: &Error) -> bool {
    [Errno::ACCESS, Errno::PERM, Errno::ROFS].iter().any(|errno| error.errno == Some(errno.raw_os_error()))
}

/// Not root, or root of a user namespace that is not the whole host's.
pub(super) fn is_rootless() -> bool {
    let whole = fs::read_to_string("/proc/self/uid_map")
        .is_ok_and(|map| map.split_whitespace().eq(["0", "0", "4294967295"]));
    !rustix::process::geteuid().is_root() || !whole
}

impl Action {
    /// The group that it is done to.
    fn group(&self) -> Option<&Path> {
        match self {
            Action::StartUnit { .. } => None,
            Action::Make { group, .. }
            | Action::FilterDevices { group, .. }
            | Action::Delegate { group, .. } => Some(group),
            Action::Write(write) => write.file.parent(),
        }
    }

    /// Does it.
    pub fn run(&self, held: &mut Held) -> Result<()> {
        match self {
            Action::StartUnit { unit, properties } => {
                held.unit = Some(systemd::start(unit, properties)?);
                Ok(())
            }
            Action::Make { mount, group, cpuset, controllers, .. } => {
                make(mount, group, *cpuset, controllers)
            }
            Action::Write(write) => write.run(),
            Action::FilterDevices { group, rules } => super::filter::attach(group, rules),
            Action::Delegate { group, owner } => delegate_to(group, *owner),
        }
    }
}

impl Write {
    /// Writes the value.
    pub(super) fn run(&self) -> Result<()> {
        let missing = Some(Errno::NOENT.raw_os_error());
        match (write_lines(&self.file, &self.value), &self.instead) {
            (Err(error), Some((file, value))) if error.errno == missing => {
                write_lines(file, value).map_err(|_| error.hint(format!("nor is there {}", file.display())))
            }
            (Err(error), _) if error.errno == missing && self.optional => Ok(()),
            (result, _) => result,
        }
    }

    /// The file that the value goes to, which depends on the kernel.
    pub(super) fn target(&self) -> &Path {
        match &self.instead {
            Some((instead, _)) if !self.file.exists() => instead,
            _ => &self.file,
        }
    }
}

/// Files that take one line at a write.
pub(super) fn write_lines(file: &Path, value: &str) -> Result<()> {
    if value.contains('\n') {
        value.lines().filter(|line| !line.is_empty()).try_for_each(|line| write(file, line))
    } else {
        write(file, value)
    }
}

/// Without `O_CREAT`, which a cgroup file system would answer with a misleading EACCES.
pub(super) fn write(file: &Path, value: &str) -> Result<()> {
    let what = || format!("write {value:?} to {}", file.display());
    let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let fd = open(file, flags, Mode::empty()).map_err(|error| {
        let refused = Error::refused(what(), &error.into());
        if error == Errno::NOENT { refused.hint(why_missing(file)) } else { refused }
    })?;
    // A zero-length write would say nothing; an empty line empties a list.
    let text = if value.is_empty() { "\n" } else { value };
    rustix::io::write(&fd, text.as_bytes()).map(drop).map_err(|error| {
        Error::refused(what(), &error.into())
            .hint_on(Errno::BUSY, BUSY)
            .hint_on(Errno::OPNOTSUPP, "this kernel no longer has that limit")
    })
}

const BUSY: &str = "the limit is below what is in use";

/// Why a group lacks a file: on v2 often because a group above does not pass the controller down.
fn why_missing(file: &Path) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let controller = name.split('.').next().unwrap_or_default();
    let group = file.parent().unwrap_or(file);
    match fs::read_to_string(group.join("cgroup.controllers")) {
        Ok(passed) if controller != "cgroup" && !passed.split_whitespace().any(|name| name == controller) => {
            format!(
                "the controller {controller} is not passed down to this group: a group above it holds processes, or \
                 does not name it in cgroup.subtree_control"
            )
        }
        _ => "this kernel has no such limit".to_owned(),
    }
}

fn make(mount: &Path, group: &Path, cpuset: bool, controllers: &[String]) -> Result<()> {
    if !cpuset && controllers.is_empty() && fs::create_dir(group).is_ok() {
        return Ok(());
    }
    let below = group.strip_prefix(mount).unwrap_or(group);
    let mut directory = mount.to_owned();
    for part in below.components() {
        if !controllers.is_empty() {
            pass_down(&directory, controllers)?;
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
fn pass_down(directory: &Path, controllers: &[String]) -> Result<()> {
    let file = directory.join("cgroup.subtree_control");
    let passed = fs::read_to_string(&file).during(|| format!("read {}", file.display()))?;
    for controller in controllers {
        if !passed.split_whitespace().any(|name| name == controller) {
            let _ = write(&file, &format!("+{controller}"));
        }
    }
    Ok(())
}

/// Which files the kernel lets another user have is in `/sys/kernel/cgroup/delegate` (Linux 4.15).
fn delegate_to(group: &Path, owner: u32) -> Result<()> {
    let names = fs::read_to_string("/sys/kernel/cgroup/delegate")
        .unwrap_or_else(|_| "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n".to_owned());
    for name in names.lines().chain([""]) {
        let path = group.join(name);
        match std::os::unix::fs::lchown(&path, Some(owner), None) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result.during(|| format!("give {} to user {owner}", path.display()))?,
        }
    }
    Ok(())
}
