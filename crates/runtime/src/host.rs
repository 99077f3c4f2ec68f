//! What of the host plans depend on: asked for once, and only what this container wants to know.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use oci::spec::{Process, Spec};
use rustix::{
    fs::{Access, AtFlags, CWD, accessat},
    process::geteuid,
    thread::capabilities,
};

use crate::{
    caps,
    cgroup::{self, Hierarchy},
    error::{During, Error, Result},
    plan::Host,
    rdt,
};

/// `PROC_USER_INIT_INO` of `linux/proc_ns.h`: the inode number of the first user namespace.
const FIRST_USER_NAMESPACE: u64 = 0xefff_fffd;

/// For a new container. `rootless` says whether groups that cannot be made are done without; else it is found out.
pub fn for_container(spec: &Spec, rootless: Option<bool>) -> Result<Host> {
    let process = spec.process.clone().unwrap_or_default();
    let mut host = for_process(&process)?;
    host.rootless = match rootless {
        Some(rootless) => rootless,
        None => host.unprivileged || in_user_namespace()?,
    };
    host.cgroups = cgroup::detect()?;
    if spec.linux.as_ref().is_some_and(|linux| linux.intel_rdt.is_some()) {
        host.resctrl = rdt::mounted()?;
    }
    let named = spec.linux.as_ref().and_then(|linux| linux.cgroups_path.as_deref());
    // As under runc: a group that is asked for by name must be made, or the error be told.
    if host.rootless && named.is_none_or(str::is_empty) {
        host.cgroups.retain(may_make_groups);
    }
    Ok(host)
}

/// For a process that is added to a container.
pub fn for_process(process: &Process) -> Result<Host> {
    let held = capabilities(None).during(|| "read capabilities")?.permitted.bits();
    let labels = [&process.apparmor_profile, &process.selinux_label];
    let labelled = labels.into_iter().flatten().any(|label| !label.is_empty());
    Ok(Host {
        modules: if labelled { modules() } else { Vec::new() },
        unprivileged: !geteuid().is_root(),
        lacking: caps::ALL & !held,
        ..Host::default()
    })
}

fn in_user_namespace() -> Result<bool> {
    let path = Path::new("/proc/self/ns/user");
    let found = fs::metadata(path).during(|| format!("look at {}", path.display()))?;
    Ok(found.ino() != FIRST_USER_NAMESPACE)
}

fn may_make_groups(hierarchy: &Hierarchy) -> bool {
    let own = hierarchy.mount.join(&hierarchy.own);
    accessat(CWD, &own, Access::WRITE_OK, AtFlags::EACCESS).is_ok()
}

/// Security modules in force.
fn modules() -> Vec<String> {
    let modules = fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    let mut modules: Vec<String> = modules.trim().split(',').map(str::to_owned).collect();
    // securityfs may not be mounted.
    for (name, sign) in
        [("apparmor", "/sys/module/apparmor/parameters/enabled"), ("selinux", "/sys/fs/selinux/enforce")]
    {
        if fs::read_to_string(sign).is_ok_and(|text| name == "selinux" || text.starts_with('Y')) {
            modules.push(name.to_owned());
        }
    }
    modules
}

/// Where containers' records are unless `--root` says so: an ordinary user has no place in `/run`.
pub fn default_root() -> Result<std::path::PathBuf> {
    if geteuid().is_root() {
        return Ok("/run/knarr/runtime".into());
    }
    let own = std::env::var_os("XDG_RUNTIME_DIR").filter(|path| Path::new(path).is_absolute());
    let own =
        own.ok_or_else(|| Error::new("XDG_RUNTIME_DIR is not set: log in, or name a directory with --root"))?;
    Ok(Path::new(&own).join("knarr/runtime"))
}
