//! The steps of a container's own process: what each is ([`Describe`]) and who does it ([`Step::run`]).

mod copy_up;
mod devices;
mod hiding;
mod identity;
mod mounting;
mod program;
mod root;
mod scheduling;
mod terminal;
mod world;

pub(crate) use identity::raise_limits;
pub(crate) use mounting::{change, copy_path};
pub use scheduling::Scheduling;
pub(crate) use world::join;

use std::{
    ffi::CString,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use oci::{
    IdMap,
    spec::{ConsoleSize, Hook, State},
};
use rustix::process::Resource;
use sys::Root;

use crate::{
    birth,
    caps::{self, Sets},
    cgroup::{Place, Places},
    channel::Channel,
    error::{During, Error, Result},
    hooks,
    options::Options,
    plan::Join,
    rdt,
    record::{Describe, Description},
    seccomp::Program,
};

/// A mount as a step needs it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Mounting {
    /// Its place in the spec's list.
    pub number: usize,
    /// File system type.
    pub kind: String,
    /// Device, directory, or a word.
    pub source: String,
    /// Inside the root.
    pub destination: PathBuf,
    /// Sorted.
    pub options: Options,
    /// The runtime's own half must copy the source.
    pub by_parent: bool,
    /// And it stays a peer of the host's mounts.
    pub peers: bool,
    /// How ids are mapped on it; empty means as in the container.
    pub id_map: Option<IdMap>,
    /// The namespace that it shows is not the container's own.
    pub shared: bool,
}

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Inside the root.
    pub path: PathBuf,
    /// `c`, `b` or `p`.
    pub kind: char,
    /// Major and minor.
    pub number: (u32, u32),
    /// Permissions.
    pub mode: u32,
    /// User and group.
    pub owner: (u32, u32),
}

/// A resource limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// `RLIMIT_NOFILE`
    pub name: &'static str,
    /// The same for the kernel.
    pub resource: Resource,
    /// In force.
    pub soft: u64,
    /// The most it can be raised to.
    pub hard: u64,
}

/// One thing that a container's process does before it becomes the program.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)] // Each is told by its description below.
pub enum Step {
    EnterGroups,
    EnterRdt(Vec<PathBuf>),
    OomScore(i32),
    Join(Join),
    JoinContainer { others: u64, user: u64 },
    NewTimeNamespace(String),
    AwaitIdMaps,
    HideMemory,
    BecomeRoot,
    NewCgroupNamespace,
    NewSession { keyring: Option<String> },
    LoopbackUp,
    Hostname(String),
    Domainname(String),
    Root { path: PathBuf, from_host: u64 },
    Mount(Mounting),
    Bind(Mounting),
    Remount(Mounting),
    MountGroups { destination: PathBuf, places: Vec<Place>, options: Options },
    ReadonlyMount(PathBuf),
    MakeDevice(Device),
    BindDevice(Device),
    DeviceLinks,
    RootPropagation(String, u64, bool),
    OpenTerminal { size: Option<ConsoleSize>, uid: u32, console: bool },
    Sysctl { key: String, value: String },
    AwaitNetDevices,
    AwaitHooks,
    Hooks { kind: &'static str, hooks: Vec<Hook> },
    ReadonlyPath(PathBuf),
    MaskPath { path: PathBuf, label: Option<String> },
    MakeDirectory(PathBuf),
    PivotRoot,
    MoveRoot,
    ReadonlyRoot,
    Personality(u64),
    Limit(Limit),
    Scheduling(Scheduling),
    OwnStdio(u32),
    SecurityLabel { file: &'static str, value: String },
    BoundingSet(u64),
    WorkingDirectory(PathBuf),
    User { uid: u32, gid: u32, groups: Vec<u32>, umask: u32 },
    Capabilities { sets: Sets, keep_admin: bool },
    NoNewPrivileges,
    FindProgram,
    CloseOnExec(u32),
    Seccomp(Program),
    Exec { args: Vec<String>, env: Vec<String> },
}

/// What the child holds while it runs its steps.
#[derive(Debug)]
pub struct Child<'p> {
    /// To the parent.
    pub channel: &'p mut Channel,
    /// The container's groups.
    pub groups: &'p Places,
    /// The container's root, until it has become `/`.
    pub root: Option<Root>,
    /// A procfs of our own, attached nowhere (rule R3).
    pub proc: Option<OwnedFd>,
    /// The one empty read-only directory under which directories are hidden.
    pub empty: Option<OwnedFd>,
    /// The null device under which files are hidden.
    pub null: Option<OwnedFd>,
    /// Where a terminal's other end is sent.
    pub console: Option<OwnedFd>,
    /// The container to join, and which namespaces of it.
    pub container: Option<(OwnedFd, u64)>,
    /// For hooks.
    pub state: State,
    /// The program's arguments and environment, to find it by.
    pub args: Vec<String>,
    /// See `args`.
    pub env: Vec<String>,
    /// The program, once found.
    pub program: Option<CString>,
}

impl Child<'_> {
    fn root(&self) -> Result<&Root> {
        self.root.as_ref().ok_or_else(|| Error::new("the container's root has not been opened"))
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

impl Describe for Step {
    fn describe(&self) -> Description {
        let new = |what: String| Description::new(what);
        match self {
            Step::EnterGroups => new("enter cgroups".into()),
            Step::EnterRdt(groups) => new("enter resctrl groups".into()).with("count", groups.len()),
            Step::OomScore(value) => new("set oom_score_adj".into()).with("value", value),
            Step::Join(join) => new(format!("join namespace {}", join.name)).with("path", shown(&join.path)),
            Step::JoinContainer { others, user } => {
                new("join the container's namespaces".into()).with("which", birth::names(others | user))
            }
            Step::NewTimeNamespace(offsets) => {
                new("create namespace time".into()).with("offsets", offsets.trim().replace('\n', ", "))
            }
            Step::HideMemory => new("hide memory from other processes".into()),
            Step::AwaitIdMaps => new("await id maps".into()),
            Step::BecomeRoot => new("become root of the user namespace".into()),
            Step::NewCgroupNamespace => new("create namespace cgroup".into()),
            Step::NewSession { keyring } => {
                new("create session".into()).with("keyring", keyring.as_deref().unwrap_or_default())
            }
            Step::LoopbackUp => new("bring up lo".into()),
            Step::Hostname(name) => new(format!("set hostname {name}")),
            Step::Domainname(name) => new(format!("set domainname {name}")),
            Step::Root { path, .. } => new(format!("take {} as root", shown(path))),
            Step::Mount(m) => new(format!("mount {} on {}", m.kind, shown(&m.destination)))
                .with("source", &m.source)
                .with("options", m.options.words()),
            Step::Bind(m) => new(format!("bind {} on {}", m.source, shown(&m.destination)))
                .with("recursive", m.options.recursive)
                .with("options", m.options.words())
                .with("ids", m.id_map.as_ref().map(shown_map).unwrap_or_default()),
            Step::Remount(m) => {
                new(format!("remount {}", shown(&m.destination))).with("options", m.options.words())
            }
            Step::MountGroups { destination, options, .. } => {
                new(format!("mount cgroups on {}", shown(destination))).with("options", options.words())
            }
            Step::ReadonlyMount(path) => new(format!("make mount {} read-only", shown(path))),
            Step::MakeDevice(d) | Step::BindDevice(d) => describe_device(self, d),
            Step::DeviceLinks => new("link /dev/fd, stdin, stdout, stderr, ptmx".into()),
            Step::RootPropagation(word, ..) => new(format!("make the root {word}")),
            Step::OpenTerminal { size, .. } => new("open a terminal".into())
                .with("size", size.map(|size| format!("{}x{}", size.width, size.height)).unwrap_or_default()),
            Step::Sysctl { key, value } => new(format!("set sysctl {key}")).with("value", value),
            Step::AwaitNetDevices => new("await network devices".into()),
            Step::AwaitHooks => new("await prestart and createRuntime hooks".into()),
            Step::Hooks { kind, hooks } => new(format!("run {kind} hooks")).with("count", hooks.len()),
            Step::ReadonlyPath(path) => new(format!("make {} read-only", shown(path))),
            Step::MaskPath { path, .. } => new(format!("mask {}", shown(path))),
            other => other.describe_identity(),
        }
    }
}

/// Uids and gids as `inside:outside:count`.
fn shown_map(map: &IdMap) -> String {
    let lines = |lines: &[oci::IdMapping]| {
        let all = lines.iter().map(|line| format!("{}:{}:{}", line.container, line.host, line.size));
        all.collect::<Vec<_>>().join(",")
    };
    if map.is_identity() {
        return "as in the container".to_owned();
    }
    format!("{} {}", lines(&map.uids), lines(&map.gids))
}

fn describe_device(step: &Step, device: &Device) -> Description {
    let verb = if matches!(step, Step::MakeDevice(_)) { "make" } else { "bind" };
    Description::new(format!("{verb} device {}", shown(&device.path)))
        .with("number", format!("{} {}:{}", device.kind, device.number.0, device.number.1))
        .with("mode", format!("{:04o}", device.mode))
        .with("owner", format!("{}:{}", device.owner.0, device.owner.1))
}

impl Step {
    fn describe_identity(&self) -> Description {
        let new = |what: String| Description::new(what);
        let list = |list: &[u32]| list.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        match self {
            Step::MakeDirectory(path) => new(format!("make directory {}", shown(path))),
            Step::PivotRoot => new("pivot_root".into()),
            Step::MoveRoot => new("move the root to / and chroot".into()),
            Step::ReadonlyRoot => new("make / read-only".into()),
            Step::Personality(value) => new(format!("set personality {value:#x}")),
            Step::Limit(limit) => {
                new(format!("set {}", limit.name)).with("soft", limit.soft).with("hard", limit.hard)
            }
            Step::Scheduling(setting) => setting.describe(),
            Step::OwnStdio(uid) => new(format!("give standard streams to uid {uid}")),
            Step::SecurityLabel { value, .. } => new(format!("set security label {value}")),
            Step::BoundingSet(bits) => new("limit capabilities".into()).with("bounding", caps::names(*bits)),
            Step::WorkingDirectory(path) => new(format!("change directory to {}", shown(path))),
            Step::User { uid, gid, groups, umask } => new(format!("become {uid}:{gid}"))
                .with("groups", list(groups))
                .with("umask", format!("{umask:04o}")),
            Step::Capabilities { sets, keep_admin } => new("set capabilities".into())
                .with("effective", caps::names(sets.effective))
                .with("permitted", caps::names(sets.permitted))
                .with("inheritable", caps::names(sets.inheritable))
                .with("ambient", caps::names(sets.ambient))
                .with("until_filtered", if *keep_admin { "SYS_ADMIN" } else { "" }),
            Step::NoNewPrivileges => new("set no_new_privs".into()),
            Step::FindProgram => new("find the program".into()),
            Step::CloseOnExec(first) => new(format!("close descriptors from {first} on exec")),
            Step::Seccomp(program) => new("load seccomp filter".into())
                .with("instructions", program.code.len())
                .with("flags", program.flags),
            Step::Exec { args, .. } => new("exec".into()).with("args", format!("{args:?}")),
            other => new(format!("{other:?}")),
        }
    }

    /// Of a container that has any.
    pub(crate) fn enter_rdt(places: &rdt::Places) -> Option<Self> {
        (!places.groups.is_empty()).then(|| Self::EnterRdt(places.groups.clone()))
    }

    /// Does it.
    pub fn run(&self, child: &mut Child<'_>) -> Result<()> {
        match self {
            Step::EnterGroups => child.groups.enter(),
            Step::EnterRdt(groups) => rdt::enter(groups),
            Step::Join(join) => world::join(join),
            Step::JoinContainer { others, user } => world::join_container(child, *others, *user),
            Step::NewTimeNamespace(offsets) => world::new_time_namespace(offsets),
            Step::HideMemory => world::hide_memory(),
            Step::AwaitIdMaps => child.channel.ask("id-maps"),
            Step::AwaitNetDevices => child.channel.ask("network devices"),
            Step::AwaitHooks => child.channel.ask("hooks"),
            Step::BecomeRoot => world::become_root(),
            Step::NewCgroupNamespace => sys::process::unshare(crate::plan::namespace_bit("cgroup"))
                .during(|| "create namespace cgroup"),
            Step::NewSession { keyring } => world::new_session(keyring.as_deref()),
            Step::LoopbackUp => sys::process::bring_up_loopback().during(|| "bring up lo"),
            Step::Hostname(name) => {
                rustix::system::sethostname(name.as_bytes()).during(|| format!("set hostname {name:?}"))
            }
            Step::Domainname(name) => {
                rustix::system::setdomainname(name.as_bytes()).during(|| format!("set domainname {name:?}"))
            }
            Step::Root { path, from_host } => root::take_root(child, path, *from_host),
            Step::Mount(mount) => mounting::mount(child.root()?, mount),
            Step::Bind(mount) => mounting::bind(child, mount),
            Step::Remount(mount) => mounting::remount(child.root()?, mount),
            Step::MountGroups { destination, places, options } => {
                mounting::groups(child.root()?, destination, places, options)
            }
            Step::ReadonlyMount(path) => hiding::readonly_mount(child.root()?, path),
            Step::MakeDevice(device) => devices::make(child.root()?, device),
            Step::BindDevice(device) => devices::bind(child.root()?, device),
            Step::DeviceLinks => devices::links(child.root()?),
            Step::RootPropagation(_, kind, recursive) => root::propagate(*kind, *recursive),
            Step::OpenTerminal { size, uid, console } => terminal::open(child, *size, *uid, *console),
            Step::Hooks { kind, hooks } => hooks::run(kind, hooks, &hooks::state_for(kind, &child.state)),
            Step::ReadonlyPath(path) => hiding::readonly_path(child.root()?, path),
            Step::MaskPath { path, label } => hiding::mask(child, path, label.as_deref()),
            Step::MakeDirectory(path) => root::make_directory(child.root()?, path),
            Step::PivotRoot => root::pivot(child),
            Step::MoveRoot => root::move_to_slash(child),
            Step::ReadonlyRoot => root::readonly_root(),
            other => other.run_identity(child),
        }
    }

    fn run_identity(&self, child: &mut Child<'_>) -> Result<()> {
        match self {
            Step::OomScore(value) => world::oom_score(*value),
            Step::Sysctl { key, value } => world::sysctl(child, key, value),
            Step::Personality(value) => sys::process::personality(*value).during(|| "set personality"),
            Step::Limit(limit) => identity::limit(limit),
            Step::Scheduling(setting) => setting.run(),
            Step::OwnStdio(uid) => identity::own_stdio(*uid),
            Step::SecurityLabel { file, value } => world::security_label(child, file, value),
            Step::BoundingSet(bits) => identity::bounding_set(*bits),
            Step::WorkingDirectory(path) => program::change_directory(path),
            Step::User { uid, gid, groups, umask } => identity::become_user(*uid, *gid, groups, *umask),
            Step::Capabilities { sets, keep_admin } => identity::capabilities(*sets, *keep_admin),
            Step::NoNewPrivileges => rustix::thread::set_no_new_privs(true).during(|| "set no_new_privs"),
            Step::FindProgram => program::find(child),
            Step::CloseOnExec(first) => {
                sys::process::close_on_exec_from(*first).during(|| "close descriptors on exec")
            }
            Step::Seccomp(program) => program::confine(child, program),
            Step::Exec { args, env } => program::exec(child, args, env),
            other => Err(Error::new(format!("{}: is not done here", other.describe()))),
        }
    }
}
