//! Spec → plan: everything that will be done, in order, as data. A pure function; nothing here asks the kernel.

mod child;
mod process;
mod scheduling;

use std::{collections::BTreeMap, fmt, path::PathBuf};

use oci::{
    IdMapping,
    spec::{DeviceRule, NamespaceKind, NetDevice, Spec},
};

use crate::{cgroup, error::Result, rdt, record::Describe, seccomp, steps::Step};

pub use process::{Joining, exec_process, identity};
pub use scheduling::cpus;

/// What the host is like, as far as plans depend on it.
#[derive(Debug, Clone, Default)]
pub struct Host {
    /// Mounted cgroup hierarchies.
    pub cgroups: Vec<cgroup::Hierarchy>,
    /// Security modules in force, from `/sys/kernel/security/lsm` or what is known otherwise.
    pub modules: Vec<String>,
    /// Where `resctrl` is mounted; asked for only by who wants a part of it.
    pub resctrl: Option<PathBuf>,
    /// An ordinary user runs this, whose only power is over user namespaces of its own.
    pub unprivileged: bool,
    /// Groups that this user may not make are done without, and device lists, which only root's may be.
    pub rootless: bool,
    /// Capabilities that the runtime itself lacks, and so cannot give without a user namespace.
    pub lacking: u64,
}

/// What the command line asks for beyond the spec.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The container's id.
    pub id: String,
    /// Absolute path of the bundle.
    pub bundle: PathBuf,
    /// `--preserve-fds`
    pub preserve_fds: u32,
    /// `--no-new-keyring`
    pub no_new_keyring: bool,
    /// `--systemd-cgroup`: whose systemd makes the groups.
    pub systemd: Option<cgroup::Manager>,
    /// `--no-pivot`
    pub no_pivot: bool,
}

/// A namespace that is there already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    /// Which, as under `/proc/PID/ns`.
    pub name: &'static str,
    /// The file that stands for it.
    pub path: PathBuf,
}

/// All of one container.
#[derive(Debug, Default)]
pub struct Plan {
    /// Groups and limits: done first, by the parent.
    pub cgroups: cgroup::Plan,
    /// Shares of cache and memory bandwidth: done after the groups.
    pub rdt: rdt::Plan,
    /// `CLONE_NEW*` bits of the one `clone3`.
    pub namespaces: u64,
    /// Joined before that `clone3`, and left afterwards: what only children can enter (pid, time), everything when the
    /// child is born into a user namespace that has no power over them, or with a proxy everything that is joined.
    pub parent_joins: Vec<Join>,
    /// A user namespace is joined, to which belongs what is created: see [`crate::birth`].
    pub through_proxy: bool,
    /// A time namespace with these offsets, which must be written before its first process.
    pub time_offsets: Option<String>,
    /// Written by the parent to `/proc/PID/{uid,gid}_map`.
    pub id_maps: Option<(Vec<IdMapping>, Vec<IdMapping>)>,
    /// Moved by the parent into the container's network namespace: names on the host, and in the container.
    pub net_devices: BTreeMap<String, NetDevice>,
    /// Done by the child, before it says that it is ready.
    pub setup: Vec<Step>,
    /// Done by the child once it is started.
    pub start: Vec<Step>,
    /// Things that are not done and that the user should know of.
    pub warnings: Vec<String>,
}

/// The name under `/proc/PID/ns`.
pub fn namespace_name(kind: NamespaceKind) -> &'static str {
    match kind {
        NamespaceKind::Network => "net",
        NamespaceKind::Mount => "mnt",
        other => other.as_str(),
    }
}

/// The `CLONE_NEW*` bit of a name under `/proc/PID/ns`.
pub fn namespace_bit(name: &str) -> u64 {
    let found = sys::process::NAMESPACES.iter().find(|(known, _)| *known == name);
    found.map_or(0, |(_, bit)| *bit)
}

/// What the spec's namespaces come to.
#[derive(Debug, Default)]
struct Namespaces {
    create: u64,
    join: Vec<Join>,
}

impl Namespaces {
    fn read(spec: &Spec) -> Self {
        let mut found = Self::default();
        for namespace in spec.linux.iter().flat_map(|linux| &linux.namespaces) {
            let name = namespace_name(namespace.kind);
            match namespace.path.as_deref().filter(|path| !path.is_empty()) {
                Some(path) => found.join.push(Join { name, path: PathBuf::from(path) }),
                None => found.create |= namespace_bit(name),
            }
        }
        found
    }

    fn creates(&self, name: &str) -> bool {
        self.create & namespace_bit(name) != 0
    }

    /// Who joins what: the rest is for the child.
    fn share_out(&self, plan: &mut Plan, new_user: bool, unprivileged: bool) -> Vec<Join> {
        let (user, others): (Vec<Join>, Vec<Join>) =
            self.join.iter().cloned().partition(|join| join.name == "user");
        plan.through_proxy = !user.is_empty();
        if plan.through_proxy {
            // Root of the host has power over all of them until it enters the user namespace, a user only then.
            plan.parent_joins = if unprivileged { [user, others] } else { [others, user] }.concat();
            return Vec::new();
        }
        let (parent, child) =
            others.into_iter().partition(|join| new_user || matches!(join.name, "pid" | "time"));
        plan.parent_joins = parent;
        child
    }

    fn is_private(&self, name: &str) -> bool {
        self.creates(name) || self.join.iter().any(|join| join.name == name)
    }
}

/// Plans a container. The spec has been checked by [`crate::spec::check`].
pub fn plan(spec: &Spec, host: &Host, request: &Request) -> Result<Plan> {
    let linux = spec.linux.clone().unwrap_or_default();
    let namespaces = Namespaces::read(spec);
    let mut resources = linux.resources.clone().unwrap_or_default();
    if host.rootless {
        resources.devices.clear();
    }
    if !resources.devices.is_empty() {
        // The child makes its nodes in its own groups; a list that lets a node be opened need not let it be made.
        resources.devices.extend(linux.devices.iter().filter(|device| device.kind != "p").map(|device| {
            DeviceRule {
                allow: true,
                kind: Some(device.kind.clone()),
                major: Some(device.major),
                minor: Some(device.minor),
                access: Some("m".to_owned()),
            }
        }));
    }
    let wanted = cgroup::Wanted {
        path: linux.cgroups_path.as_deref(),
        id: &request.id,
        resources: &resources,
        systemd: request.systemd,
        owner: group_owner(spec, &namespaces),
    };
    let cgroups = cgroup::plan(&host.cgroups, &wanted).map_err(|error| {
        let hint = "this user may make no groups there; have them delegated, or do without the limit";
        if host.rootless { error.hint(hint) } else { error }
    })?;
    let lines = linux.time_offsets.iter();
    let lines = lines.map(|(clock, offset)| format!("{clock} {} {}\n", offset.secs, offset.nanosecs));
    let time_offsets = lines.collect::<Vec<_>>().concat();
    let new_user = namespaces.creates("user");
    let mut plan = Plan {
        cgroups,
        // The cgroup namespace is made after the groups are entered, so that they are its root.
        namespaces: namespaces.create & !namespace_bit("cgroup"),
        // In a new user namespace the child makes it, so that it belongs there.
        time_offsets: (!time_offsets.is_empty() && !new_user).then_some(time_offsets.clone()),
        net_devices: linux.net_devices.clone(),
        id_maps: new_user.then(|| (linux.uid_mappings.clone(), linux.gid_mappings.clone())),
        ..Plan::default()
    };
    if let Some(wanted) = &linux.intel_rdt {
        plan.rdt = rdt::plan(wanted, host.resctrl.as_deref(), &request.id, std::path::Path::exists)?;
    }
    let child = namespaces.share_out(&mut plan, new_user, host.unprivileged);
    if !time_offsets.is_empty() {
        plan.namespaces &= !namespace_bit("time");
        plan.setup.extend(new_user.then_some(Step::NewTimeNamespace(time_offsets)));
    }
    let program = linux.seccomp.as_deref().map(seccomp::compile).transpose()?;
    child::plan(&mut plan, spec, host, request, &namespaces, child, program)?;
    Ok(plan)
}

/// Who may manage groups below a container's: its user, if it sees them as its own and may write there.
fn group_owner(spec: &Spec, namespaces: &Namespaces) -> Option<u32> {
    let writable = |mount: &oci::Mount| {
        mount.kind.as_deref().is_some_and(|kind| kind.starts_with("cgroup"))
            && !mount.options.iter().any(|word| word == "ro")
    };
    if !namespaces.creates("cgroup") || !spec.mounts.iter().any(writable) {
        return None;
    }
    let uid = spec.process.as_ref().map_or(0, |process| process.user.uid);
    if !namespaces.creates("user") {
        // Root has them anyway.
        return (uid != 0).then_some(uid);
    }
    let mut maps = spec.linux.iter().flat_map(|linux| &linux.uid_mappings);
    maps.find_map(|map| {
        uid.checked_sub(map.container).filter(|offset| *offset < map.size).map(|offset| map.host + offset)
    })
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "parent:")?;
        for action in &self.cgroups.actions {
            writeln!(f, "  {}", action.describe())?;
        }
        for action in &self.rdt.actions {
            writeln!(f, "  {}", action.describe())?;
        }
        for (name, device) in &self.net_devices {
            let inside = device.name.as_deref().unwrap_or(name);
            writeln!(f, "  move network device {name} into the container as {inside}")?;
        }
        for join in &self.parent_joins {
            let who = if self.through_proxy { "in a child that clones" } else { "until cloned" };
            writeln!(f, "  join namespace {} {} {who}", join.name, join.path.display())?;
        }
        if let Some(offsets) = &self.time_offsets {
            writeln!(f, "  create namespace time with offsets {}", offsets.trim().replace('\n', ", "))?;
        }
        writeln!(f, "clone3 {}", crate::birth::names(self.namespaces))?;
        writeln!(f, "child:")?;
        for step in &self.setup {
            writeln!(f, "  {}", step.describe())?;
        }
        writeln!(f, "child, when started:")?;
        for step in &self.start {
            writeln!(f, "  {}", step.describe())?;
        }
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        Ok(())
    }
}
