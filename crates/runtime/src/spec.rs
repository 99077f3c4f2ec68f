//! Reading `config.json`, and refusing what cannot be done before anything has been done: each refusal begins with the
//! place of the fault, as `linux.namespaces[2].path`.

mod ids;
mod namespaces;
mod place;

use std::{
    collections::BTreeSet,
    fmt::Display,
    path::{Component, Path},
};

use oci::spec::{Hook, Hooks, Linux, Process, Spec};

use crate::error::{During, Error, Result};

/// A config larger than this is an attack or an accident.
const LIMIT: u64 = 16 << 20;

/// More than the kernel takes in one mount namespace (`fs.mount-max`).
const MOUNTS: usize = 100_000;

/// `HOST_NAME_MAX`
const NAME: usize = 64;

/// Reads and checks a bundle's `config.json`.
pub fn load(bundle: &Path) -> Result<Spec> {
    let path = bundle.join("config.json");
    let mut spec: Spec = read_json(&path)?;
    let checked = check(&spec).and_then(|()| check_host(&spec, bundle));
    checked.map_err(|error| error.during(path.display()))?;
    for mount in spec.mounts.iter_mut().filter(|mount| !mount.destination.starts_with('/')) {
        mount.destination.insert(0, '/');
    }
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
    parse(&text).map_err(|error| error.during(path.display()))
}

/// Reads JSON; what is wrong with it is told with its place.
pub fn parse<T: serde::de::DeserializeOwned>(text: &[u8]) -> Result<T> {
    let utf8 = std::str::from_utf8(text)
        .map_err(|error| fault(place::at(text, error.valid_up_to() + 1), "is not UTF-8"))?;
    if let Some(index) = place::nul(utf8) {
        return Err(fault(place::at(text, index), "contains a NUL byte"));
    }
    serde_json::from_str(utf8).map_err(|error| {
        let at = place::at(text, place::offset(text, error.line(), error.column()));
        let all = error.to_string();
        let why = all.rsplit_once(" at line ").map_or(all.as_str(), |(why, _)| why);
        let missing = why.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
        match missing {
            Some(name) => fault(place::member(&at, name), "is missing"),
            None => fault(at, format!("{why} (line {}, column {})", error.line(), error.column())),
        }
    })
}

/// What is wrong, and where.
fn fault(path: impl Display, why: impl Display) -> Error {
    let path = path.to_string();
    if path.is_empty() { Error::new(why.to_string()) } else { Error::new(format!("{path}: {why}")) }
}

/// Checks what can be checked without the kernel.
pub fn check(spec: &Spec) -> Result<()> {
    check_version(&spec.oci_version)?;
    match &spec.root {
        Some(root) if !root.path.is_empty() => {}
        _ => return Err(fault("root.path", "is missing")),
    }
    let process = spec.process.as_ref().ok_or_else(|| fault("process", "is missing"))?;
    check_process(process)?;
    for (path, name) in [("hostname", &spec.hostname), ("domainname", &spec.domainname)] {
        if name.as_deref().is_some_and(|name| name.len() > NAME) {
            return Err(fault(path, format!("is longer than {NAME} bytes")));
        }
    }
    if spec.mounts.len() > MOUNTS {
        return Err(fault("mounts", format!("{} are more than {MOUNTS}", spec.mounts.len())));
    }
    for (index, mount) in spec.mounts.iter().enumerate() {
        check_destination(&mount.destination)
            .map_err(|why| fault(format!("mounts[{index}].destination"), why))?;
    }
    check_hooks(&spec.hooks.clone().unwrap_or_default())?;
    if spec.annotations.contains_key("") {
        return Err(fault("annotations", "a key is empty"));
    }
    let linux = spec.linux.clone().unwrap_or_default();
    check_linux(&linux)?;
    namespaces::check(spec, &linux)?;
    crate::cgroup::check(linux.resources.as_ref())
}

/// Checks what depends on the host; nothing is changed there.
fn check_host(spec: &Spec, bundle: &Path) -> Result<()> {
    let root = spec.root.as_ref().map(|root| bundle.join(&root.path)).unwrap_or_default();
    let found = std::fs::metadata(&root).during(|| format!("root.path: {}", root.display()))?;
    if !found.is_dir() {
        return Err(fault("root.path", format!("{}: is not a directory", root.display())));
    }
    let linux = spec.linux.clone().unwrap_or_default();
    namespaces::check_paths(&linux)?;
    if linux.uid_mappings.is_empty() && linux.gid_mappings.is_empty() {
        return Ok(());
    }
    ids::check_grant(&linux.uid_mappings, &linux.gid_mappings)
}

/// `1.MINOR.PATCH`, perhaps with something after it.
fn check_version(version: &str) -> Result<()> {
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let numbers: Vec<&str> = core.split('.').collect();
    let plain = |number: &&str| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    if numbers.len() != 3 || !numbers.iter().all(plain) {
        return Err(fault("ociVersion", format!("{version:?} is no version, such as 1.0.2")));
    }
    if numbers[0] == "1" {
        Ok(())
    } else {
        Err(fault("ociVersion", format!("{version:?}: 1.x is supported")))
    }
}

/// Those that a profile may name, whether this machine can run them or not (libseccomp 2.6).
pub(crate) const ARCHITECTURES: [&str; 25] = [
    "NATIVE",
    "X86",
    "X86_64",
    "X32",
    "ARM",
    "AARCH64",
    "LOONGARCH64",
    "M68K",
    "MIPS",
    "MIPSEL",
    "MIPS64",
    "MIPSEL64",
    "MIPS64N32",
    "MIPSEL64N32",
    "PARISC",
    "PARISC64",
    "PPC",
    "PPC64",
    "PPC64LE",
    "RISCV64",
    "S390",
    "S390X",
    "SHEB",
    "SH",
    "ARC",
];

fn check_linux(linux: &Linux) -> Result<()> {
    let named = linux.seccomp.iter().flat_map(|seccomp| &seccomp.architectures).enumerate();
    let known =
        |name: &str| name.strip_prefix("SCMP_ARCH_").is_some_and(|name| ARCHITECTURES.contains(&name));
    if let Some((index, name)) = named.into_iter().find(|(_, name)| !known(name)) {
        let at = format!("linux.seccomp.architectures[{index}]");
        return Err(fault(at, format!("{name:?} is not known")));
    }
    for (name, paths) in [("maskedPaths", &linux.masked_paths), ("readonlyPaths", &linux.readonly_paths)] {
        if let Some(index) = paths.iter().position(|path| !path.starts_with('/')) {
            return Err(fault(
                format!("linux.{name}[{index}]"),
                format!("{:?} must be absolute", paths[index]),
            ));
        }
    }
    for (index, device) in linux.devices.iter().enumerate() {
        let at = |member: &str| format!("linux.devices[{index}].{member}");
        if !matches!(device.kind.as_str(), "c" | "b" | "u" | "p") {
            return Err(fault(at("type"), format!("{:?} is none of c, b, u and p", device.kind)));
        }
        for (name, number) in [("major", device.major), ("minor", device.minor)] {
            if u32::try_from(number).is_err() {
                return Err(fault(at(name), format!("{number} is no device number")));
            }
        }
        if device.file_mode.is_some_and(|mode| mode & !0o177_777 != 0) {
            return Err(fault(at("fileMode"), "has more bits than a mode"));
        }
        check_destination(&device.path).map_err(|why| fault(at("path"), why))?;
    }
    Ok(())
}

/// A mount over the root would hide it; one outside cannot be written down. Old tools leave the first slash out, and
/// the spec lets them.
fn check_destination(destination: &str) -> std::result::Result<(), String> {
    let path = Path::new(destination);
    let named = path.components().any(|part| matches!(part, Component::Normal(_)));
    if !named || path.components().any(|part| part == Component::ParentDir) {
        return Err(format!("{destination:?} must be an absolute path below / without `..`"));
    }
    Ok(())
}

fn check_hooks(hooks: &Hooks) -> Result<()> {
    let kinds: [(&str, &[Hook]); 6] = [
        ("prestart", &hooks.prestart),
        ("createRuntime", &hooks.create_runtime),
        ("createContainer", &hooks.create_container),
        ("startContainer", &hooks.start_container),
        ("poststart", &hooks.poststart),
        ("poststop", &hooks.poststop),
    ];
    for (kind, hooks) in kinds {
        for (index, hook) in hooks.iter().enumerate() {
            let at = |member: &str| format!("hooks.{kind}[{index}].{member}");
            if !hook.path.starts_with('/') {
                return Err(fault(at("path"), format!("{:?} must be absolute", hook.path)));
            }
            if hook.timeout == Some(0) {
                return Err(fault(at("timeout"), "must be at least 1 second"));
            }
            if hook.args.iter().chain(&hook.env).chain([&hook.path]).any(|text| text.contains('\0')) {
                return Err(fault(at("args"), "contain a NUL byte"));
            }
            check_env(&at("env"), &hook.env)?;
        }
    }
    Ok(())
}

/// Each entry is a name and a value.
fn check_env(path: &str, env: &[String]) -> Result<()> {
    match env.iter().position(|entry| entry.find('=').is_none_or(|index| index == 0)) {
        Some(index) => Err(fault(format!("{path}[{index}]"), format!("{:?} is not NAME=VALUE", env[index]))),
        None => Ok(()),
    }
}

/// Checks a process, of a spec or of `exec`.
pub fn check_process(process: &Process) -> Result<()> {
    if process.args.first().is_none_or(String::is_empty) {
        return Err(fault("process.args", "must name a program"));
    }
    if !process.cwd.starts_with('/') {
        return Err(fault("process.cwd", format!("{:?} must be absolute", process.cwd)));
    }
    check_env("process.env", &process.env)?;
    let texts = process.args.iter().chain(&process.env).chain([&process.cwd]);
    if let Some(text) = texts.into_iter().find(|text| text.contains('\0')) {
        return Err(fault("process", format!("{text:?} contains a NUL byte")));
    }
    let user = &process.user;
    let ids = [("uid", user.uid), ("gid", user.gid)];
    if let Some((name, _)) = ids.into_iter().find(|(_, id)| *id == u32::MAX) {
        return Err(fault(format!("process.user.{name}"), "4294967295 is nobody's id"));
    }
    if let Some(index) = user.additional_gids.iter().position(|gid| *gid == u32::MAX) {
        return Err(fault(format!("process.user.additionalGids[{index}]"), "4294967295 is nobody's id"));
    }
    if user.umask.is_some_and(|umask| umask > 0o777) {
        return Err(fault("process.user.umask", "has more bits than permissions"));
    }
    let mut seen = BTreeSet::new();
    if let Some(index) = process.rlimits.iter().position(|limit| !seen.insert(&limit.kind)) {
        let at = format!("process.rlimits[{index}].type");
        return Err(fault(at, format!("{} is there twice", process.rlimits[index].kind)));
    }
    match process.oom_score_adj {
        Some(score) if !(-1000..=1000).contains(&score) => {
            Err(fault("process.oomScoreAdj", format!("{score} is not between -1000 and 1000")))
        }
        _ => Ok(()),
    }
}
