//! The child's steps of a container: from the clone to the program.

use std::path::{Path, PathBuf};

use oci::{
    IdMapping, Mount,
    spec::{NamespaceKind, Spec},
};

use super::{Host, Join, Namespaces, Plan, Request, identity};
use crate::{
    error::{Error, Result},
    idmaps,
    options::{self, Change, Options, attr, propagation},
    seccomp::Program,
    steps::{Device, Mounting, Step},
};

#[allow(clippy::too_many_arguments)] // One caller; each is a different thing.
pub(super) fn plan(
    plan: &mut Plan,
    spec: &Spec,
    host: &Host,
    request: &Request,
    namespaces: &Namespaces,
    joins: Vec<Join>,
    program: Option<Program>,
) -> Result<()> {
    let process = spec.process.clone().unwrap_or_default();
    let hooks = spec.hooks.clone().unwrap_or_default();
    let mut steps = std::mem::take(&mut plan.setup);
    steps.extend(world(plan, spec, host, request, namespaces, joins));
    root_file_system(plan, &mut steps, spec, namespaces, request)?;
    if process.terminal {
        steps.push(Step::OpenTerminal { size: process.console_size, uid: process.user.uid, console: true });
    }
    let linux = spec.linux.clone().unwrap_or_default();
    steps.extend(
        linux.sysctl.iter().map(|(key, value)| Step::Sysctl { key: key.clone(), value: value.clone() }),
    );
    if !hooks.prestart.is_empty() || !hooks.create_runtime.is_empty() {
        steps.push(Step::AwaitHooks);
    }
    if !hooks.create_container.is_empty() {
        steps.push(Step::Hooks { kind: "createContainer", hooks: hooks.create_container });
    }
    steps.extend(linux.readonly_paths.iter().map(|path| Step::ReadonlyPath(path.into())));
    steps.extend(linux.masked_paths.iter().map(|path| Step::MaskPath(path.into())));
    steps.push(Step::MakeDirectory(PathBuf::from(&process.cwd)));
    steps.push(Step::PivotRoot);
    if spec.root.as_ref().is_some_and(|root| root.readonly) {
        steps.push(Step::ReadonlyRoot);
    }
    plan.setup = steps;
    super::process::kept(plan, linux.personality.as_ref(), linux.memory_policy.as_ref())?;
    let lacking = if namespaces.is_private("user") { 0 } else { host.lacking };
    let host = Host { lacking, ..host.clone() };
    identity(plan, &process, &host, program, request.preserve_fds)?;
    if !hooks.start_container.is_empty() {
        plan.start.insert(0, Step::Hooks { kind: "startContainer", hooks: hooks.start_container });
    }
    Ok(())
}

/// A container is set up as root of its user namespace, and ends up as somebody that this one knows.
pub(super) fn check_ids(spec: &Spec, new_user: bool) -> Result<()> {
    let linux = spec.linux.clone().unwrap_or_default();
    let user = spec.process.clone().unwrap_or_default().user;
    let kinds = [
        ("uid", &linux.uid_mappings, vec![user.uid]),
        ("gid", &linux.gid_mappings, [vec![user.gid], user.additional_gids].concat()),
    ];
    for (kind, map, ids) in kinds {
        let path = format!("linux.{kind}Mappings");
        idmaps::check(&path, map)?;
        let joined = || linux.namespaces.iter().any(|namespace| namespace.kind == NamespaceKind::User);
        if !new_user && !map.is_empty() && !joined() {
            return Err(Error::new(format!("{path}: needs a user namespace")));
        }
        if !new_user {
            continue;
        }
        if !idmaps::holds(map, 0) {
            return Err(Error::new(format!("{path}: must map {kind} 0, as which the container is set up")));
        }
        if let Some(id) = ids.into_iter().find(|id| !idmaps::holds(map, *id)) {
            return Err(Error::new(format!("process.user: {kind} {id} is not mapped by {path}")));
        }
    }
    Ok(())
}

/// Groups, namespaces, session, names: everything before the file system.
fn world(
    plan: &Plan,
    spec: &Spec,
    host: &Host,
    request: &Request,
    namespaces: &Namespaces,
    joins: Vec<Join>,
) -> Vec<Step> {
    let mut steps = vec![Step::EnterGroups, super::scheduling::every_cpu()];
    steps.extend(Step::enter_rdt(&plan.rdt.places));
    let oom_score = spec.process.as_ref().and_then(|process| process.oom_score_adj);
    steps.extend(oom_score.map(Step::OomScore));
    steps.extend(joins.into_iter().map(Step::Join));
    if plan.id_maps.is_some() {
        steps.push(Step::AwaitIdMaps);
    }
    if host.unprivileged {
        steps.push(Step::HideMemory);
    }
    if namespaces.is_private("user") {
        steps.push(Step::BecomeRoot);
    }
    if namespaces.creates("cgroup") {
        steps.push(Step::NewCgroupNamespace);
    }
    let keyring = (!request.no_new_keyring).then(|| request.id.clone());
    steps.push(Step::NewSession { keyring });
    if namespaces.creates("net") {
        steps.push(Step::LoopbackUp);
    }
    let given = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
    steps.extend(given(&spec.hostname).map(Step::Hostname));
    steps.extend(given(&spec.domainname).map(Step::Domainname));
    steps
}

fn root_file_system(
    plan: &Plan,
    steps: &mut Vec<Step>,
    spec: &Spec,
    namespaces: &Namespaces,
    request: &Request,
) -> Result<()> {
    let linux = spec.linux.clone().unwrap_or_default();
    let word = linux.rootfs_propagation.as_deref().unwrap_or("rslave");
    let kind = options::propagation_kind(word)
        .ok_or_else(|| Error::new(format!("linux.rootfsPropagation: {word:?} is no propagation kind")))?;
    // What the container mounts must never appear on the host by accident; that the host's mounts are seen by the
    // container is for the spec to say.
    let from_host = if kind.0 == propagation::PRIVATE { propagation::PRIVATE } else { propagation::SLAVE };
    let root = spec.root.clone().unwrap_or_default();
    steps.push(Step::Root { path: request.bundle.join(root.path), from_host });
    let mut later = Vec::new();
    for mount in &spec.mounts {
        let (step, readonly) = mounting(plan, mount, namespaces, request)?;
        later.extend(readonly.map(Step::ReadonlyMount));
        steps.push(step);
    }
    let in_user_namespace = namespaces.is_private("user");
    let bound_dev =
        spec.mounts.iter().any(|mount| Path::new(&mount.destination) == Path::new("/dev") && is_bind(mount));
    if !bound_dev {
        let devices = devices(spec);
        steps.extend(devices.into_iter().map(|device| {
            if in_user_namespace { Step::BindDevice(device) } else { Step::MakeDevice(device) }
        }));
        steps.push(Step::DeviceLinks);
    }
    steps.extend(later);
    if matches!(kind.0, propagation::SHARED | propagation::UNBINDABLE) || word == "slave" {
        steps.push(Step::RootPropagation(word.to_owned(), kind.0, kind.1));
    }
    Ok(())
}

fn is_bind(mount: &Mount) -> bool {
    mount.kind.as_deref() == Some("bind")
        || mount.options.iter().any(|word| word == "bind" || word == "rbind")
}

/// The step, and the destination of a tmpfs that becomes read-only once mount points inside it have been made.
fn mounting(
    plan: &Plan,
    mount: &Mount,
    namespaces: &Namespaces,
    request: &Request,
) -> Result<(Step, Option<PathBuf>)> {
    let destination = PathBuf::from(&mount.destination);
    let mut options = options::parse(mount.options.iter().map(String::as_str))
        .map_err(|error| error.during(format!("mount on {}", mount.destination)))?;
    let kind = mount.kind.clone().unwrap_or_default();
    options.bind |= kind == "bind";
    let groups = kind == "cgroup" || kind == "cgroup2";
    if groups && plan.cgroups.places.is_empty() {
        return Ok((Step::Bind(shown_by_host("/sys/fs/cgroup", &destination, &options)), None));
    }
    if groups {
        let places = plan.cgroups.places.clone();
        return Ok((Step::MountGroups { destination, places, options }, None));
    }
    if let (Some((_, gids)), "devpts") = (&plan.id_maps, kind.as_str()) {
        options.data.retain(|(key, value)| key != "gid" || is_mapped(value.as_deref(), gids));
    }
    let source = mount.source.clone().unwrap_or_else(|| kind.clone());
    if options.bind {
        check_bind(&options, &mount.destination)?;
        let source = request.bundle.join(source);
        let maps = (mount.uid_mappings.clone(), mount.gid_mappings.clone());
        if options.id_map.is_some() || !maps.0.is_empty() || !maps.1.is_empty() {
            return Err(Error::new(format!(
                "mount on {}: id-mapped mounts are not supported",
                mount.destination
            )));
        }
        return Ok((
            Step::Bind(Mounting { kind, source: source.display().to_string(), destination, options }),
            None,
        ));
    }
    if kind.is_empty() {
        return Err(Error::new(format!("mount on {}: has neither a type nor `bind`", mount.destination)));
    }
    let readonly = kind == "tmpfs" && options.mount.set & attr::RDONLY != 0;
    if readonly {
        options.mount.set &= !attr::RDONLY;
    }
    let later = readonly.then(|| destination.clone());
    if let Some(seen) = seen_on_host(namespaces, &kind) {
        let instead = shown_by_host(seen, &destination, &options);
        return Ok((Step::MountOrShow(Mounting { kind, source, destination, options }, instead), later));
    }
    Ok((Step::Mount(Mounting { kind, source, destination, options }), later))
}

fn check_bind(options: &Options, destination: &str) -> Result<()> {
    match options.data.first() {
        Some((word, _)) => {
            Err(Error::new(format!("bind mount on {destination}: option {word:?} is not known")))
        }
        None => Ok(()),
    }
}

/// Terminals are given to group 5 by habit, which the map of an ordinary user seldom has; the kernel would refuse the
/// whole mount (crun leaves it out as well).
fn is_mapped(gid: Option<&str>, gids: &[IdMapping]) -> bool {
    gid.and_then(|gid| gid.parse().ok()).is_none_or(|gid| idmaps::holds(gids, gid))
}

/// What a user namespace may not mount, because the namespace that is shown belongs to others.
fn seen_on_host(namespaces: &Namespaces, kind: &str) -> Option<&'static str> {
    match kind {
        _ if !namespaces.is_private("user") => None,
        "sysfs" if !namespaces.creates("net") => Some("/sys"),
        "mqueue" if !namespaces.creates("ipc") => Some("/dev/mqueue"),
        _ => None,
    }
}

/// The same as the host shows it, read-only: crun's way out.
fn shown_by_host(source: &str, destination: &Path, options: &Options) -> Mounting {
    let tree = Change { set: attr::RDONLY, clear: 0 };
    let options = Options { bind: true, recursive: true, tree, mount: options.mount, ..Options::default() };
    let (source, destination) = (source.to_owned(), destination.to_owned());
    Mounting { kind: "bind".to_owned(), source, destination, options }
}

/// Path, major, minor.
const DEVICES: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

fn devices(spec: &Spec) -> Vec<Device> {
    let default = DEVICES.iter().map(|(path, major, minor)| Device {
        path: PathBuf::from(path),
        kind: 'c',
        number: (*major, *minor),
        mode: 0o666,
        owner: (0, 0),
    });
    let wanted: Vec<Device> = spec
        .linux
        .iter()
        .flat_map(|linux| &linux.devices)
        .map(|device| Device {
            path: PathBuf::from(&device.path),
            kind: device.kind.chars().next().unwrap_or('c'),
            number: (device.major as u32, device.minor as u32),
            mode: device.file_mode.unwrap_or(0o666) & 0o7777,
            owner: (device.uid.unwrap_or(0), device.gid.unwrap_or(0)),
        })
        .collect();
    let named = |path: &PathBuf| wanted.iter().any(|device| device.path == *path);
    let mut all: Vec<Device> = default.filter(|device| !named(&device.path)).collect();
    all.extend(wanted);
    all
}
