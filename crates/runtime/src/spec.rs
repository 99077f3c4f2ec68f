//! Reading `config.json`, and refusing what cannot be done before anything has been done.

use std::path::{Component, Path};

use oci::spec::{Linux, Namespace, NamespaceKind, Process, Spec};

use crate::error::{During, Error, Result};

/// A config larger than this is an attack or an accident.
const LIMIT: u64 = 16 << 20;

/// Reads and checks a bundle's `config.json`.
pub fn load(bundle: &Path) -> Result<Spec> {
    let path = bundle.join("config.json");
    let spec: Spec = read_json(&path)?;
    check(&spec).map_err(|error| error.during(path.display()))?;
    Ok(spec)
}

/// Reads a JSON file.
pub fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    use std::io::Read;
    let mut text = Vec::new();
    let file = std::fs::File::open(path).during(|| format!("open {}", path.display()))?;
    file.take(LIMIT + 1).read_to_end(&mut text).during(|| format!("read {}", path.display()))?;
    if text.len() as u64 > LIMIT {
        return Err(Error::new(format!("{}: is larger than {LIMIT} bytes", path.display())));
    }
    serde_json::from_slice(&text).map_err(|error| Error::new(format!("{}: {error}", path.display())))
}

/// Checks what can be checked without the kernel.
pub fn check(spec: &Spec) -> Result<()> {
    if !spec.oci_version.starts_with("1.") {
        return Err(Error::new(format!("ociVersion {:?}: 1.x is supported", spec.oci_version)));
    }
    match &spec.root {
        Some(root) if !root.path.is_empty() => {}
        _ => return Err(Error::new("root.path: is missing")),
    }
    let process = spec.process.as_ref().ok_or_else(|| Error::new("process: is missing"))?;
    check_process(process)?;
    spec.hooks.as_ref().map_or(Ok(()), crate::hooks::check)?;
    for mount in &spec.mounts {
        check_destination(&mount.destination)?;
    }
    let linux = spec.linux.clone().unwrap_or_default();
    for path in linux.masked_paths.iter().chain(&linux.readonly_paths) {
        if !path.starts_with('/') {
            return Err(Error::new(format!(
                "linux: path {path:?} to mask or make read-only: must be absolute"
            )));
        }
    }
    for device in &linux.devices {
        let number = |number: i64| u32::try_from(number).is_ok();
        if !matches!(device.kind.as_str(), "c" | "b" | "u" | "p")
            || !number(device.major)
            || !number(device.minor)
        {
            return Err(Error::new(format!("linux.devices: {}: bad type or number", device.path)));
        }
        check_destination(&device.path)?;
    }
    let unsupported = [
        ("linux.netDevices", !linux.net_devices.is_empty()),
        ("linux.mountLabel", linux.mount_label.as_deref().is_some_and(|label| !label.is_empty())),
    ];
    if let Some((name, _)) = unsupported.iter().find(|(_, present)| *present) {
        return Err(Error::new(format!("{name}: not supported")));
    }
    let mut kinds: Vec<NamespaceKind> = linux.namespaces.iter().map(|namespace| namespace.kind).collect();
    kinds.sort_unstable();
    if let Some(pair) = kinds.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Error::new(format!("linux.namespaces: {} is there twice", pair[0].as_str())));
    }
    check_namespaces(spec, &kinds)?;
    crate::cgroup::check(linux.resources.as_ref())
}

/// A mount over the root would hide it; one outside cannot be written down.
fn check_destination(destination: &str) -> Result<()> {
    let path = Path::new(destination);
    let named = path.components().any(|part| matches!(part, Component::Normal(_)));
    if !path.is_absolute() || !named || path.components().any(|part| part == Component::ParentDir) {
        return Err(Error::new(format!(
            "destination {destination:?}: must be an absolute path below / without `..`"
        )));
    }
    Ok(())
}

/// Checks a process, of a spec or of `exec`.
pub fn check_process(process: &Process) -> Result<()> {
    if process.args.first().is_none_or(String::is_empty) {
        return Err(Error::new("process.args: must name a program"));
    }
    if !process.cwd.starts_with('/') {
        return Err(Error::new(format!("process.cwd {:?}: must be absolute", process.cwd)));
    }
    let user = &process.user;
    // 4294967295 is -1 for the kernel: setresuid(2) would leave the process root.
    if [user.uid, user.gid].iter().chain(&user.additional_gids).any(|id| *id == u32::MAX) {
        return Err(Error::new("process.user: 4294967295 is no user or group id"));
    }
    if user.umask.is_some_and(|mask| mask > 0o777) {
        return Err(Error::new("process.user.umask: is above 0777"));
    }
    let unnamed = |entry: &&String| entry.split_once('=').is_none_or(|(name, _)| name.is_empty());
    if let Some(entry) = process.env.iter().find(unnamed) {
        return Err(Error::new(format!("process.env: {entry:?} is not NAME=value")));
    }
    for (index, limit) in process.rlimits.iter().enumerate() {
        if process.rlimits[..index].iter().any(|other| other.kind == limit.kind) {
            return Err(Error::new(format!("process.rlimits: {} is there twice", limit.kind)));
        }
    }
    let texts = process.args.iter().chain(&process.env).chain([&process.cwd]);
    match texts.into_iter().find(|text| text.contains('\0')) {
        Some(text) => Err(Error::new(format!("process: {text:?} contains a NUL byte"))),
        None => Ok(()),
    }
}

fn check_namespaces(spec: &Spec, kinds: &[NamespaceKind]) -> Result<()> {
    let has = |kind| kinds.contains(&kind);
    if spec.hostname.as_deref().is_some_and(|name| !name.is_empty()) && !has(NamespaceKind::Uts) {
        return Err(Error::new("hostname: needs a uts namespace"));
    }
    if spec.domainname.as_deref().is_some_and(|name| !name.is_empty()) && !has(NamespaceKind::Uts) {
        return Err(Error::new("domainname: needs a uts namespace"));
    }
    let linux = spec.linux.clone().unwrap_or_default();
    if !linux.time_offsets.is_empty() && !has(NamespaceKind::Time) {
        return Err(Error::new("linux.timeOffsets: needs a time namespace"));
    }
    check_time(&linux)?;
    for (key, value) in &linux.sysctl {
        check_sysctl(key, value, &has)?;
    }
    Ok(())
}

fn check_time(linux: &Linux) -> Result<()> {
    let joined = |namespace: &Namespace| namespace.kind == NamespaceKind::Time && namespace.path.is_some();
    if !linux.time_offsets.is_empty() && linux.namespaces.iter().any(joined) {
        return Err(Error::new("linux.timeOffsets: the joined time namespace has its own"));
    }
    for (clock, offset) in &linux.time_offsets {
        if !matches!(clock.as_str(), "monotonic" | "boottime") {
            return Err(Error::new(format!(
                "linux.timeOffsets.{clock}: only monotonic and boottime have any"
            )));
        }
        if offset.nanosecs > 999_999_999 {
            return Err(Error::new(format!("linux.timeOffsets.{clock}.nanosecs: is above 999999999")));
        }
    }
    Ok(())
}

/// Only what belongs to a namespace of the container's own, spelled plainly (CVE-2022-0811).
fn check_sysctl(key: &str, value: &str, has: &impl Fn(NamespaceKind) -> bool) -> Result<()> {
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
    let bad = |why: &str| Err(Error::new(format!("linux.sysctl: {key:?}: {why}")));
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "._-/".contains(letter);
    if key.is_empty() || !key.chars().all(plain) || key.contains("..") || key.starts_with(['.', '/']) {
        return bad("is no plain name");
    }
    if value.contains(['\0', '\n']) {
        return bad("its value has a line break or a NUL byte");
    }
    let dotted = key.replace('/', ".");
    let (belongs, kind) = match dotted.as_str() {
        name if IPC.contains(&name) || name.starts_with("fs.mqueue.") => (true, NamespaceKind::Ipc),
        name if name.starts_with("net.") => (true, NamespaceKind::Network),
        "kernel.domainname" => (true, NamespaceKind::Uts),
        _ => (false, NamespaceKind::Uts),
    };
    if !belongs {
        return bad("is not kept apart for each namespace");
    }
    if !has(kind) {
        return bad(&format!("needs a {} namespace", kind.as_str()));
    }
    Ok(())
}
