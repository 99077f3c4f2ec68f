//! Namespaces, and what needs one of the container's own.

use std::{fs, path::Path};

use oci::spec::{Linux, NamespaceKind, Spec};

use super::{fault, ids, place};
use crate::{
    error::{During, Result},
    plan::namespace_name,
};

/// Checks the list for itself, and everything that depends on it.
pub(super) fn check(spec: &Spec, linux: &Linux) -> Result<()> {
    let list = &linux.namespaces;
    for (index, namespace) in list.iter().enumerate() {
        if list[..index].iter().any(|earlier| earlier.kind == namespace.kind) {
            let at = format!("linux.namespaces[{index}].type");
            return Err(fault(at, format!("{} is there twice", namespace.kind.as_str())));
        }
        if namespace.path.as_deref().is_some_and(|path| !path.is_empty() && !path.starts_with('/')) {
            let at = format!("linux.namespaces[{index}].path");
            return Err(fault(at, "must be absolute"));
        }
    }
    let path = |kind| list.iter().find(|namespace| namespace.kind == kind).map(|found| found.path.as_deref());
    let has = |kind| path(kind).is_some();
    let creates = |kind| path(kind).is_some_and(|path| path.is_none_or(str::is_empty));
    if !creates(NamespaceKind::Mount) {
        let why = "a container needs a mount namespace of its own (one without path)";
        return Err(fault("linux.namespaces", why));
    }
    let given = |name: &Option<String>| name.as_deref().is_some_and(|name| !name.is_empty());
    let needs = [
        ("hostname", given(&spec.hostname), NamespaceKind::Uts),
        ("domainname", given(&spec.domainname), NamespaceKind::Uts),
        ("linux.netDevices", !linux.net_devices.is_empty(), NamespaceKind::Network),
    ];
    if let Some((name, _, kind)) = needs.iter().find(|(_, given, kind)| *given && !has(*kind)) {
        return Err(fault(name, format!("needs a {} namespace", kind.as_str())));
    }
    crate::netdev::check(&linux.net_devices)?;
    check_offsets(linux, creates(NamespaceKind::Time))?;
    ids::check_maps(spec, creates(NamespaceKind::User), has(NamespaceKind::User))?;
    for (key, value) in &linux.sysctl {
        check_sysctl(key, value, &has).map_err(|why| fault(place::member("linux.sysctl", key), why))?;
    }
    Ok(())
}

fn check_offsets(linux: &Linux, creates: bool) -> Result<()> {
    for (clock, offset) in &linux.time_offsets {
        let at = place::member("linux.timeOffsets", clock);
        if !matches!(clock.as_str(), "monotonic" | "boottime") {
            return Err(fault(at, "is none of monotonic and boottime"));
        }
        if offset.nanosecs > 999_999_999 {
            return Err(fault(format!("{at}.nanosecs"), "is more than a second"));
        }
        if !creates {
            return Err(fault(at, "needs a new time namespace (one without path)"));
        }
    }
    Ok(())
}

/// What is to be joined must be there, and a namespace of that kind. Nothing is joined yet.
pub(super) fn check_paths(linux: &Linux) -> Result<()> {
    for (index, namespace) in linux.namespaces.iter().enumerate() {
        let Some(path) = namespace.path.as_deref().filter(|path| !path.is_empty()) else { continue };
        let at = || format!("linux.namespaces[{index}].path");
        let kind = kind_of(Path::new(path)).during(|| format!("{}: {path}", at()))?;
        let wanted = namespace_name(namespace.kind);
        if kind.as_deref() != Some(wanted) {
            let is = kind.map_or_else(|| "no namespace".to_owned(), |kind| format!("a {kind} namespace"));
            return Err(fault(at(), format!("{path} is {is}, not {wanted}")));
        }
    }
    Ok(())
}

/// The kernel names what a descriptor of a namespace stands for: `net:[4026531840]`.
fn kind_of(path: &Path) -> std::io::Result<Option<String>> {
    use rustix::fs::{Mode, OFlags, open};
    use std::os::fd::AsRawFd;
    // Not opened for reading: what hostile callers name may be a device or a fifo.
    let file = open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let shown = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    let shown = shown.to_string_lossy();
    let name = shown.split_once(":[").filter(|(_, rest)| rest.ends_with(']')).map(|(name, _)| name);
    Ok(name.filter(|name| !name.contains('/')).map(str::to_owned))
}

/// Only what belongs to a namespace of the container's own, spelled plainly (CVE-2022-0811).
fn check_sysctl(
    key: &str,
    value: &str,
    has: &impl Fn(NamespaceKind) -> bool,
) -> std::result::Result<(), String> {
    const IPC: &[&str] = &[
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "._-/".contains(letter);
    if key.is_empty() || !key.chars().all(plain) || key.contains("..") || key.starts_with(['.', '/']) {
        return Err("is no plain name".to_owned());
    }
    if value.contains(['\0', '\n']) {
        return Err("its value has a line break or a NUL byte".to_owned());
    }
    let dotted = key.replace('/', ".");
    let (belongs, kind) = match dotted.as_str() {
        name if IPC.contains(&name) || name.starts_with("fs.mqueue.") => (true, NamespaceKind::Ipc),
        name if name.starts_with("net.") => (true, NamespaceKind::Network),
        "kernel.domainname" => (true, NamespaceKind::Uts),
        _ => (false, NamespaceKind::Uts),
    };
    if !belongs {
        return Err("is not kept apart for each namespace".to_owned());
    }
    if !has(kind) {
        return Err(format!("needs a {} namespace", kind.as_str()));
    }
    Ok(())
}
