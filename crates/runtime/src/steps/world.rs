//! Namespaces, session, kernel settings: the world that the container's process lives in.

use rustix::{
    fs::{Gid, Mode, OFlags, Uid, open},
    io::Errno,
    process::{DumpableBehavior, set_dumpable_behavior},
    thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};
use std::{ffi::CString, os::fd::AsFd, path::Path};

use super::{Child, mounting};
use crate::{
    birth,
    error::{During, Error, Result},
    plan::{Join, namespace_bit},
};

/// Joins a namespace by its file.
pub(crate) fn join(join: &Join) -> Result<()> {
    let what = || format!("join namespace {} at {}", join.name, join.path.display());
    let file = open(&join.path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).during(what)?;
    sys::process::setns(file.as_fd(), namespace_bit(join.name)).map_err(|error| {
        Error::refused(what(), &error).hint_on(Errno::INVAL, format!("is no {} namespace", join.name))
    })
}

/// Joins a running container by its pidfd, so that all its namespaces belong together.
pub(super) fn join_container(child: &mut Child<'_>, others: u64, user: u64) -> Result<()> {
    let (pidfd, _) =
        child.container.as_ref().ok_or_else(|| Error::new("join the container: no container"))?;
    for kinds in [others, user].into_iter().filter(|kinds| *kinds != 0) {
        sys::process::setns(pidfd.as_fd(), kinds).during(|| "join the container's namespaces")?;
    }
    rustix::process::chdir("/").during(|| "change directory to /")
}

/// Makes a time namespace with these offsets and enters it at once.
pub(super) fn new_time_namespace(offsets: &str) -> Result<()> {
    let time = namespace_bit("time");
    sys::process::unshare(time).during(|| "create namespace time")?;
    birth::write_time_offsets(offsets)?;
    let made = Path::new("/proc/self/ns/time_for_children");
    let made = open(made, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    sys::process::setns(made.during(|| "open the new time namespace")?.as_fd(), time)
        .during(|| "enter the new time namespace")
}

/// From here on others who share a namespace with this process may not look into it (CVE-2016-9962). An ordinary user's
/// process is hidden no sooner, because what is hidden is root's: its id maps and its `oom_score_adj`.
pub(super) fn hide_memory() -> Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable).during(|| "hide memory")
}

/// Takes on the ids of a user namespace's root.
pub(super) fn become_root() -> Result<()> {
    match set_thread_groups(&[]) {
        Ok(()) | Err(Errno::PERM) => {} // Denied by setgroups(7): there are none then.
        Err(error) => return Err(Error::refused("clear groups", &error.into())),
    }
    set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT).during(|| "become gid 0 of the user namespace")?;
    set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).during(|| "become uid 0 of the user namespace")
}

/// A session of its own, and a keyring that shares no key with the host's; named as runc names it, so that what `exec`
/// adds has it too.
pub(super) fn new_session(container: Option<&str>) -> Result<()> {
    rustix::process::setsid().during(|| "create session")?;
    let Some(name) = container.and_then(|id| CString::new(format!("_ses.{id}")).ok()) else {
        return Ok(());
    };
    sys::process::join_session_keyring(&name).or_else(|error| {
        // A kernel without keys shares none.
        if error.raw_os_error() == Some(Errno::NOSYS.raw_os_error()) {
            return Ok(());
        }
        let full = "see /proc/sys/kernel/keys/maxkeys, or use --no-new-keyring";
        Err(Error::refused("join session keyring", &error).hint_on(Errno::DQUOT, full))
    })
}

/// How readily the kernel ends the program when memory runs out. In the host's procfs, before anything is joined.
pub(super) fn oom_score(value: i32) -> Result<()> {
    std::fs::write("/proc/self/oom_score_adj", value.to_string()).map_err(|error| {
        let error = Error::refused(format!("set oom_score_adj to {value}"), &error);
        error.hint_on(Errno::ACCESS, "lowering it needs CAP_SYS_RESOURCE")
    })
}

/// Sets a kernel parameter of the container's namespaces.
pub(super) fn sysctl(child: &mut Child<'_>, key: &str, value: &str) -> Result<()> {
    let path = format!("sys/{}", key.replace('.', "/"));
    mounting::write_proc(child, &path, value).map_err(|error| error.during(format!("set sysctl {key}")))
}

/// Sets the label that the program will run under.
pub(super) fn security_label(child: &mut Child<'_>, file: &str, value: &str) -> Result<()> {
    let path = format!("{}/task/{}/attr/{file}", rustix::process::getpid(), rustix::thread::gettid());
    mounting::write_proc(child, &path, value)
}
