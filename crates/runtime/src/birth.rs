//! The clone: which namespaces a process is born into, and who has to enter what before.
//!
//! What a process creates belongs to the user namespace that it is in, and what only children enter (pid, time) must
//! be entered by whoever clones. A parent that enters a user namespace never comes back, so that one is entered by a
//! child that is only there for that: it makes the container's process its sibling (`CLONE_PARENT`) and ends.

use std::{
    io::{Read, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{Mode, OFlags, open, openat},
    io::{Errno, write},
    pipe::{PipeFlags, pipe_with},
    process::{Pid, PidfdFlags, WaitOptions, pidfd_open, waitpid},
};
use sys::process::Fork;

use crate::{
    error::{During, Error, Result},
    plan::{Plan, namespace_bit},
    steps,
};

/// What a birth needs: the plan, the v2 group to begin in, and for `exec` the container and which namespaces of it.
#[derive(Debug, Clone, Copy)]
pub struct Birth<'a> {
    /// What to create and to join.
    pub plan: &'a Plan,
    /// For `CLONE_INTO_CGROUP`.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// A pidfd, and the namespaces that its process does not share with us.
    pub container: Option<(BorrowedFd<'a>, u64)>,
}

/// `None` in the child; its pid and pidfd in the parent, which is in the same namespaces as before.
pub fn clone(birth: Birth<'_>) -> Result<Option<(i32, OwnedFd)>> {
    steps::raise_limits(&birth.plan.setup)?;
    if birth.plan.through_proxy {
        return through_proxy(birth);
    }
    let mut before = Vec::new();
    for join in &birth.plan.parent_joins {
        before.push(own_namespace(join.name)?);
        steps::join(join)?;
    }
    let pid_bit = namespace_bit("pid");
    if let Some((container, kinds)) = birth.container
        && kinds & pid_bit != 0
    {
        before.push(own_namespace("pid")?);
        sys::process::setns(container, pid_bit).during(|| "join the container's pid namespace")?;
    }
    if birth.plan.time_offsets.is_some() {
        before.push(own_namespace("time")?);
        new_time_namespace(birth.plan)?;
    }
    let forked = fork(birth, false)?;
    if forked.is_some() {
        for (name, namespace) in before.into_iter().rev() {
            sys::process::setns(namespace.as_fd(), namespace_bit(name))
                .during(|| format!("go back to namespace {name}"))?;
        }
    }
    Ok(forked)
}

fn fork(birth: Birth<'_>, sibling: bool) -> Result<Option<(i32, OwnedFd)>> {
    let namespaces = birth.plan.namespaces;
    let how = Fork { namespaces, cgroup: birth.cgroup, sibling };
    sys::process::fork(how).map_err(|error| {
        let what = format!("clone3 {}", names(namespaces));
        let user = namespaces & namespace_bit("user") != 0;
        let forbidden = if user {
            "this system does not let its users make user namespaces: see kernel.unprivileged_userns_clone and \
             kernel.apparmor_restrict_unprivileged_userns, or run as root"
        } else {
            "making namespaces needs root (CAP_SYS_ADMIN), or a user namespace among them (linux.namespaces)"
        };
        Error::refused(what, &error)
            .hint_on(Errno::PERM, forbidden)
            .hint_on(Errno::NOSPC, "no more namespaces may be made: raise user.max_*_namespaces (/proc/sys/user)")
    })
}

/// Their names, separated by blanks.
pub fn names(bits: u64) -> String {
    let named = sys::process::NAMESPACES.iter().filter(|(_, bit)| bits & bit != 0);
    named.map(|(name, _)| *name).collect::<Vec<_>>().join(" ")
}

/// The offsets must be written before the namespace has its first process.
fn new_time_namespace(plan: &Plan) -> Result<()> {
    let Some(offsets) = &plan.time_offsets else {
        return Ok(());
    };
    sys::process::unshare(namespace_bit("time")).during(|| "create namespace time")?;
    write_time_offsets(offsets)
}

/// For the time namespace of the next children.
pub(crate) fn write_time_offsets(offsets: &str) -> Result<()> {
    std::fs::write("/proc/self/timens_offsets", offsets).map_err(|error| {
        Error::refused(format!("write time offsets {offsets:?}"), &error).hint_on(
            Errno::RANGE,
            "linux.timeOffsets: a clock would stand before the boot, or after 146 years",
        )
    })
}

fn own_namespace(name: &'static str) -> Result<(&'static str, OwnedFd)> {
    let file = match name {
        "pid" => "pid_for_children",
        "time" => "time_for_children",
        other => other,
    };
    let path = format!("/proc/self/ns/{file}");
    let fd =
        open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).during(|| format!("open {path}"))?;
    Ok((name, fd))
}

/// Lets a child enter what there is no way back from; the process that it makes is a child of this one.
fn through_proxy(birth: Birth<'_>) -> Result<Option<(i32, OwnedFd)>> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).during(|| "make a pipe")?;
    let proxy = sys::process::fork(Fork::default()).during(|| "fork to enter a user namespace")?;
    let Some((proxy, _)) = proxy else {
        drop(reader);
        let born = enter(birth).and_then(|birth| fork(birth, true));
        let answer = match born {
            Ok(None) => return Ok(None),
            Ok(Some((pid, _))) => Ok(pid),
            Err(error) => Err(error),
        };
        let text = serde_json::to_vec(&answer).unwrap_or_default();
        let _ = std::fs::File::from(writer).write_all(&text);
        std::process::exit(0);
    };
    drop(writer);
    let mut text = Vec::new();
    let heard = std::fs::File::from(reader).read_to_end(&mut text);
    let _ = waitpid(Pid::from_raw(proxy), WaitOptions::empty());
    heard.during(|| "hear from the process that enters the user namespace")?;
    let answer: std::result::Result<i32, Error> = serde_json::from_slice(&text)
        .map_err(|_| Error::new("the process that enters the user namespace ended without a word"))?;
    let pid = answer?;
    let handle = Pid::from_raw(pid).ok_or_else(|| Error::new("clone3: no pid"))?;
    // It is our child and nobody has taken its exit, so the number is still its own.
    let pidfd = pidfd_open(handle, PidfdFlags::empty()).during(|| "open the pidfd of the new process")?;
    Ok(Some((pid, pidfd)))
}

/// Hands back what is left for the birth to do.
fn enter(birth: Birth<'_>) -> Result<Birth<'_>> {
    let joins = &birth.plan.parent_joins;
    let group = birth.cgroup.filter(|_| joins.iter().any(|join| join.name == "cgroup"));
    if let Some(group) = group {
        // Out of a joined cgroup namespace no group outside of it can be left or entered (`nsdelegate`, cgroups(7)).
        enter_group(group)?;
    }
    joins.iter().try_for_each(steps::join)?;
    if let Some((container, kinds)) = birth.container {
        for kind in ["user", "pid"].map(namespace_bit).into_iter().filter(|kind| kinds & kind != 0) {
            sys::process::setns(container, kind)
                .during(|| format!("join the container's {} namespace", names(kind)))?;
        }
    }
    new_time_namespace(birth.plan)?;
    Ok(Birth { cgroup: birth.cgroup.filter(|_| group.is_none()), ..birth })
}

fn enter_group(group: BorrowedFd<'_>) -> Result<()> {
    let doing = || "enter the container's group";
    let procs =
        openat(group, "cgroup.procs", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).during(doing)?;
    write(&procs, b"0").during(doing)?;
    Ok(())
}
