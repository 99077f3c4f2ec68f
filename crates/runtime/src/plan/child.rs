//! The child's steps of a container: from the clone to the program.

use std::path::{Path, PathBuf};

use oci::{IdMap, IdMapping, Mount, spec::Spec};

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
    let label = mount_label(spec, host)?;
    root_file_system(plan, &mut steps, spec, namespaces, request, label.as_deref())?;
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
    let masked = linux.masked_paths.iter();
    steps.extend(masked.map(|path| Step::MaskPath { path: path.into(), label: label.clone() }));
    steps.push(Step::MakeDirectory(PathBuf::from(&process.cwd)));
    steps.push(if request.no_pivot { Step::MoveRoot } else { Step::PivotRoot });
    // Not before: pivot_root(2) takes no shared mount.
    let (word, (kind, recursive)) = root_propagation(spec)?;
    if matches!(kind, propagation::SHARED | propagation::UNBINDABLE) || word == "slave" {
        steps.push(Step::RootPropagation(word.to_owned(), kind, recursive));
    }
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
    if !plan.net_devices.is_empty() {
        steps.push(Step::AwaitNetDevices);
    }
    let given = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
    steps.extend(given(&spec.hostname).map(Step::Hostname));
    steps.extend(given(&spec.domainname).map(Step::Domainname));
    steps
}

/// The label of file systems that the runtime makes.
fn mount_label(spec: &Spec, host: &Host) -> Result<Option<String>> {
    let label = spec.linux.as_ref().and_then(|linux| linux.mount_label.clone());
    let label = label.filter(|label| !label.is_empty());
    // As with runc, where the kernel refuses the option.
    if label.is_some() && !host.modules.iter().any(|module| module == "selinux") {
        return Err(Error::new("linux.mountLabel: SELinux is not in force"));
    }
    Ok(label)
}

fn root_file_system(
    plan: &Plan,
    steps: &mut Vec<Step>,
    spec: &Spec,
    namespaces: &Namespaces,
    request: &Request,
    label: Option<&str>,
) -> Result<()> {
    let (_, kind) = root_propagation(spec)?;
    // What the container mounts must never appear on the host by accident; that the host's mounts are seen by the
    // container is for the spec to say.
    let from_host = if kind.0 == propagation::PRIVATE { propagation::PRIVATE } else { propagation::SLAVE };
    let root = spec.root.clone().unwrap_or_default();
    steps.push(Step::Root { path: request.bundle.join(root.path), from_host });
    let world = World { plan, namespaces, request, label, peers: kind.0 == propagation::SHARED };
    let mut later = Vec::new();
    for (number, mount) in spec.mounts.iter().enumerate() {
        let planned = world.mounting(number, mount);
        let (step, readonly) = planned.map_err(|error| error.during(format!("mounts[{number}]")))?;
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
    Ok(())
}

fn root_propagation(spec: &Spec) -> Result<(&str, (u64, bool))> {
    let word = spec.linux.as_ref().and_then(|linux| linux.rootfs_propagation.as_deref());
    let word = word.filter(|word| !word.is_empty()).unwrap_or("rslave");
    let kind = options::propagation_kind(word)
        .ok_or_else(|| Error::new(format!("linux.rootfsPropagation: {word:?} is no propagation kind")))?;
    Ok((word, kind))
}

fn is_bind(mount: &Mount) -> bool {
    mount.kind.as_deref() == Some("bind")
        || mount.options.iter().any(|word| word == "bind" || word == "rbind")
}

/// What a mount's step depends on beside the mount.
struct World<'w> {
    plan: &'w Plan,
    namespaces: &'w Namespaces,
    request: &'w Request,
    label: Option<&'w str>,
    /// Mounts may spread to the host where the spec asks for it.
    peers: bool,
}

impl World<'_> {
    /// The step, and the destination of a tmpfs that becomes read-only once mount points inside it have been made.
    fn mounting(&self, number: usize, mount: &Mount) -> Result<(Step, Option<PathBuf>)> {
        let destination = Path::new("/").join(&mount.destination);
        let mut options = options::parse(mount.options.iter().map(String::as_str))?;
        let kind = mount.kind.clone().unwrap_or_default();
        options.bind |= kind == "bind";
        if options.copy_up && (kind != "tmpfs" || options.bind) {
            return Err(Error::new("tmpcopyup: is for a tmpfs"));
        }
        let id_map = id_map(mount, &options, self.namespaces)?;
        let source = mount.source.clone().filter(|source| !source.is_empty()).unwrap_or_else(|| kind.clone());
        let mounting = Mounting { number, kind, source, destination, options, id_map, ..Mounting::default() };
        if mounting.options.remount {
            no_data(&mounting.options)?;
            return Ok((Step::Remount(mounting), None));
        }
        if mounting.options.bind {
            return self.bind(mounting).map(|step| (step, None));
        }
        self.new_file_system(mounting)
    }

    fn bind(&self, mut mounting: Mounting) -> Result<Step> {
        no_data(&mounting.options)?;
        let source = self.request.bundle.join(&mounting.source);
        let source = source.to_str().ok_or_else(|| Error::new("its source is not UTF-8"))?;
        source.clone_into(&mut mounting.source);
        let spreads = |kind: &(u64, bool)| kind.0 == propagation::SHARED;
        mounting.peers = self.peers && mounting.options.propagation.iter().any(spreads);
        mounting.by_parent = mounting.peers || mounting.id_map.is_some();
        Ok(Step::Bind(mounting))
    }

    fn new_file_system(&self, mut mounting: Mounting) -> Result<(Step, Option<PathBuf>)> {
        let Mounting { kind, options, destination, id_map, .. } = &mut mounting;
        if kind.is_empty() {
            return Err(Error::new("has neither a type nor `bind`"));
        }
        if id_map.is_some() {
            return Err(Error::new(format!("id-mapped mounts are for bind mounts; this is a {kind}")));
        }
        options.close_tree();
        // Neither takes a label (selinux(8)); nor does cgroupfs, whose files have their own.
        if let Some(label) = self.label
            && !["proc", "sysfs"].contains(&kind.as_str())
        {
            options.data.push(("context".to_owned(), Some(label.to_owned())));
        }
        if let (Some((_, gids)), "devpts") = (&self.plan.id_maps, kind.as_str()) {
            options.data.retain(|(key, value)| key != "gid" || is_mapped(value.as_deref(), gids));
        }
        let groups = kind == "cgroup" || kind == "cgroup2";
        if groups && self.plan.cgroups.places.is_empty() {
            return Ok((Step::Bind(hosts_groups(mounting)), None));
        }
        if groups {
            let places = self.plan.cgroups.places.clone();
            let (destination, options) = (destination.clone(), options.clone());
            return Ok((Step::MountGroups { destination, places, options }, None));
        }
        let readonly = kind == "tmpfs" && options.mount.set & attr::RDONLY != 0;
        if readonly {
            options.mount.set &= !attr::RDONLY;
        }
        let later = readonly.then(|| destination.clone());
        let namespace = OF_NAMESPACES.iter().find(|(name, _)| name == kind);
        mounting.shared = namespace.is_some_and(|(_, namespace)| !self.namespaces.creates(namespace));
        Ok((Step::Mount(mounting), later))
    }
}

/// Terminals are given to group 5 by habit, which the map of an ordinary user seldom has; the kernel would refuse the
/// whole mount (crun leaves it out as well).
fn is_mapped(gid: Option<&str>, gids: &[IdMapping]) -> bool {
    gid.and_then(|gid| gid.parse().ok()).is_none_or(|gid| idmaps::holds(gids, gid))
}

/// Who could make no groups is shown the host's, read-only.
fn hosts_groups(mounting: Mounting) -> Mounting {
    let tree = Change { set: attr::RDONLY, clear: 0 };
    let mount = mounting.options.mount;
    let options = Options { bind: true, recursive: true, tree, mount, ..Options::default() };
    Mounting { kind: "bind".to_owned(), source: "/sys/fs/cgroup".to_owned(), options, ..mounting }
}

/// File systems that show a namespace, and which.
const OF_NAMESPACES: [(&str, &str); 3] = [("proc", "pid"), ("sysfs", "net"), ("mqueue", "ipc")];

/// The id map of a mount; an empty one is the container's own.
fn id_map(mount: &Mount, options: &Options, namespaces: &Namespaces) -> Result<Option<IdMap>> {
    let map = IdMap { uids: mount.uid_mappings.clone(), gids: mount.gid_mappings.clone() };
    match (map.uids.is_empty(), map.gids.is_empty()) {
        (true, true) if options.id_map.is_none() => Ok(None),
        (true, true) if !namespaces.is_private("user") => {
            Err(Error::new("idmap: needs uidMappings and gidMappings, or a user namespace to take them from"))
        }
        (true, true) | (false, false) => Ok(Some(map)),
        _ => Err(Error::new("uidMappings and gidMappings: both are needed, or none")),
    }
}

/// Only a file system takes other words than the known ones.
fn no_data(options: &Options) -> Result<()> {
    match options.data.first() {
        Some((word, _)) => {
            Err(Error::new(format!("option {word:?} is not known for a bind mount or remount")))
        }
        None => Ok(()),
    }
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
