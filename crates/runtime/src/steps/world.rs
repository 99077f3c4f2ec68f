//! Namespaces, session, kernel settings: the world that the container's process lives in.

use rustix::{
    fs::{Gid, Mode, OFlags, Uid, open},
    io::Errno,
    thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};
use std::os::fd::AsFd;

use super::{Child, mounting};
use crate::{
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

/// Joins a running container: all its namespaces by one call on its pidfd, so that they belong together.
pub(super) fn join_container(child: &mut Child<'_>) -> Result<()> {
    let (pidfd, kinds) =
        child.container.as_ref().ok_or_else(|| Error::new("join the container: no container"))?;
    sys::process::setns(pidfd.as_fd(), *kinds).during(|| "join the container's namespaces")?;
    if kinds & namespace_bit("user") != 0 {
        become_root()?;
    }
    rustix::process::chdir("/").during(|| "change directory to /")
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

/// A session of its own, and a keyring that shares no key with the host's.
pub(super) fn new_session(keyring: bool) -> Result<()> {
    rustix::process::setsid().during(|| "create session")?;
    if keyring {
        match sys::process::new_session_keyring() {
            // A kernel without keys, or out of quota for them: nothing is shared then either, or no key is kept.
            Err(error) if error.raw_os_error() != Some(Errno::NOSYS.raw_os_error()) => {
                return Err(Error::refused("create session keyring", &error)
                    .hint_on(Errno::DQUOT, "see /proc/sys/kernel/keys/maxkeys, or use --no-new-keyring"));
            }
            _ => {}
        }
    }
    Ok(())
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
