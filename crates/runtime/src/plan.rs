//! Spec → plan: everything that will be done, in order, as data. A pure function; nothing here asks the kernel.

mod child;
mod process;

use std::{fmt, path::PathBuf};

use oci::{
    IdMapping,
    spec::{NamespaceKind, Spec},
};

use crate::{
    cgroup,
    error::{Error, Result},
    record::Describe,
    seccomp,
    steps::Step,
};

pub use process::{exec_process, identity};

/// What the host is like, as far as plans depend on it.
#[derive(Debug, Clone, Default)]
pub struct Host {
    /// Mounted cgroup hierarchies.
    pub cgroups: Vec<cgroup::Hierarchy>,
    /// Security modules in force, from `/sys/kernel/security/lsm` or what is known otherwise.
    pub modules: Vec<String>,
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
    /// `CLONE_NEW*` bits of the one `clone3`.
    pub namespaces: u64,
    /// Joined by the parent before that `clone3`, and left by it afterwards: what only children can enter (pid, time),
    /// or everything when the child is born into a user namespace that has no power over them.
    pub parent_joins: Vec<Join>,
    /// A time namespace with these offsets, which must be written before its first process.
    pub time_offsets: Option<String>,
    /// Written by the parent to `/proc/PID/{uid,gid}_map`.
    pub id_maps: Option<(Vec<IdMapping>, Vec<IdMapping>)>,
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

    fn is_private(&self, name: &str) -> bool {
        self.creates(name) || self.join.iter().any(|join| join.name == name)
    }
}

/// Plans a container. The spec has been checked by [`crate::spec::check`].
pub fn plan(spec: &Spec, host: &Host, request: &Request) -> Result<Plan> {
    let linux = spec.linux.clone().unwrap_or_default();
    let namespaces = Namespaces::read(spec);
    if !namespaces.creates("mnt") {
        return Err(Error::new(
            "linux.namespaces: a container needs a mount namespace of its own (one without path)",
        ));
    }
    let resources = linux.resources.clone().unwrap_or_default();
    let cgroups = cgroup::plan(&host.cgroups, linux.cgroups_path.as_deref(), &request.id, &resources)?;
    let lines = linux.time_offsets.iter();
    let lines = lines.map(|(clock, offset)| format!("{clock} {} {}\n", offset.secs, offset.nanosecs));
    let time_offsets = lines.collect::<Vec<_>>().concat();
    let new_user = namespaces.creates("user");
    let mut plan = Plan {
        cgroups,
        // The cgroup namespace is made after the groups are entered, so that they are its root.
        namespaces: namespaces.create & !namespace_bit("cgroup"),
        time_offsets: (!time_offsets.is_empty()).then_some(time_offsets),
        id_maps: new_user.then(|| (linux.uid_mappings.clone(), linux.gid_mappings.clone())),
        ..Plan::default()
    };
    let (parent, child): (Vec<Join>, Vec<Join>) =
        namespaces.join.iter().cloned().partition(|join| new_user || matches!(join.name, "pid" | "time"));
    plan.parent_joins = parent;
    if plan.time_offsets.is_some() {
        plan.namespaces &= !namespace_bit("time");
    }
    let program = linux.seccomp.as_deref().map(seccomp::compile).transpose()?;
    child::plan(&mut plan, spec, host, request, &namespaces, child, program)?;
    Ok(plan)
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "parent:")?;
        for action in &self.cgroups.actions {
            writeln!(f, "  {}", action.describe())?;
        }
        for join in &self.parent_joins {
            writeln!(f, "  join namespace {} {} until cloned", join.name, join.path.display())?;
        }
        if let Some(offsets) = &self.time_offsets {
            writeln!(f, "  create namespace time with offsets {}", offsets.trim().replace('\n', ", "))?;
        }
        let created = sys::process::NAMESPACES.iter().filter(|(_, bit)| self.namespaces & bit != 0);
        let names: Vec<&str> = created.map(|(name, _)| *name).collect();
        writeln!(f, "clone3 {}", names.join(" "))?;
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
