//! The runtime's `config.json` (runtime-spec 1.3, Linux), in full: what the engine writes and the runtime reads.
//!
//! Unknown members are ignored on reading, as the spec demands; absent ones stay absent on writing. A member that is
//! there twice is refused: two readers would see two documents.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{IdMapping, Mount, strict::object};

/// The version that knarr writes: the lowest that has what it uses, since old runtimes (crun 1.8) refuse newer ones
/// unread.
pub const VERSION: &str = "1.0.0";

/// The newest version whose whole `config.json` is known here.
pub const NEWEST: &str = "1.3.0";

macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$vmeta])* #[doc = concat!("`", $word, "`")] #[serde(rename = $word)] $variant),+ }
        impl $name {
            /// Every word, in the spec's order.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];
            /// As the spec writes it.
            pub fn as_str(self) -> &'static str { match self { $($name::$variant => $word),+ } }
        }
    };
}

object! {
/// config.md: the whole document.
Spec {
    oci_version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")] process: Option<Process>,
    #[serde(default, skip_serializing_if = "Option::is_none")] root: Option<Root>,
    #[serde(default, skip_serializing_if = "Option::is_none")] hostname: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")] domainname: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")] mounts: Vec<Mount>,
    #[serde(default, skip_serializing_if = "Option::is_none")] hooks: Option<Hooks>,
    #[serde(default, deserialize_with = "crate::strict::map", skip_serializing_if = "BTreeMap::is_empty")] annotations: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")] linux: Option<Linux>,
}}

object! {
/// config.md, "Root".
Root {
    path: String,
    #[serde(default)] readonly: bool,
}}

object! {
/// config.md, "Process"; also what `exec --process` reads.
Process {
    #[serde(default)] terminal: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")] console_size: Option<ConsoleSize>,
    #[serde(default)] user: User,
    #[serde(default)] args: Vec<String>,
    #[serde(default)] env: Vec<String>,
    cwd: String,
    #[serde(default, skip_serializing_if = "Option::is_none")] capabilities: Option<Capabilities>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")] rlimits: Vec<Rlimit>,
    #[serde(default)] no_new_privileges: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")] apparmor_profile: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")] oom_score_adj: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")] selinux_label: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")] scheduler: Option<Scheduler>,
    #[serde(default, rename = "ioPriority", skip_serializing_if = "Option::is_none")] io_priority: Option<IoPriority>,
    #[serde(default, rename = "execCPUAffinity", skip_serializing_if = "Option::is_none")] exec_cpu_affinity: Option<CpuAffinity>,
}}

object! {
/// Rows and columns of a terminal.
#[derive(Copy, Eq)]
ConsoleSize { height: u16, width: u16 }}

object! {
/// Who the process is.
User {
    #[serde(default)] uid: u32,
    #[serde(default)] gid: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")] umask: Option<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")] additional_gids: Vec<u32>,
}}

object! {
/// The five sets; names as `CAP_CHOWN`.
Capabilities {
    #[serde(default, skip_serializing_if = "Vec::is_empty")] bounding: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")] effective: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")] inheritable: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")] permitted: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")] ambient: Vec<String>,
}}

object! {
/// `setrlimit(2)`; `type` as `RLIMIT_NOFILE`.
Rlimit {
    #[serde(rename = "type")] kind: String,
    hard: u64,
    soft: u64,
}}

object! {
/// `sched_setattr(2)`.
Scheduler {
    policy: String,
    #[serde(default)] nice: i32,
    #[serde(default)] priority: i32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")] flags: Vec<String>,
    #[serde(default)] runtime: u64,
    #[serde(default)] deadline: u64,
    #[serde(default)] period: u64,
}}

object! {
/// `ioprio_set(2)`.
IoPriority { class: String, #[serde(default)] priority: i32 }}

object! {
/// `sched_setaffinity(2)` for `exec`, before and after entering the cgroup.
CpuAffinity {
    #[serde(default, skip_serializing_if = "Option::is_none")] initial: Option<String>,
    #[serde(default, rename = "final", skip_serializing_if = "Option::is_none")] last: Option<String>,
}}

object! {
/// config.md, "POSIX-platform Hooks".
Hooks {
    #[serde(default, skip_serializing_if = "Vec::is_empty")] prestart: Vec<Hook>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")] create_runtime: Vec<Hook>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")] create_container: Vec<Hook>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")] start_container: Vec<Hook>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")] poststart: Vec<Hook>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")] poststop: Vec<Hook>,
}}

object! {
/// One program to run; `timeout` in seconds.
Hook {
    path: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")] args: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")] env: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")] timeout: Option<u64>,
}}

object! {
/// config-linux.md.
Linux {
    #[serde(default, skip_serializing_if = "Vec::is_empty")] namespaces: Vec<Namespace>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")] uid_mappings: Vec<IdMapping>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")] gid_mappings: Vec<IdMapping>,
    #[serde(default, deserialize_with = "crate::strict::map", skip_serializing_if = "BTreeMap::is_empty")] time_offsets: BTreeMap<String, TimeOffset>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")] devices: Vec<Device>,
    #[serde(default, deserialize_with = "crate::strict::map", skip_serializing_if = "BTreeMap::is_empty")] net_devices: BTreeMap<String, NetDevice>,
    #[serde(default, skip_serializing_if = "Option::is_none")] cgroups_path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")] resources: Option<Resources>,
    #[serde(default, skip_serializing_if = "Option::is_none")] intel_rdt: Option<IntelRdt>,
    #[serde(default, skip_serializing_if = "Option::is_none")] memory_policy: Option<MemoryPolicy>,
    #[serde(default, deserialize_with = "crate::strict::map", skip_serializing_if = "BTreeMap::is_empty")] sysctl: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")] seccomp: Option<Arc<Seccomp>>,
    #[serde(default, skip_serializing_if = "Option::is_none")] rootfs_propagation: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")] masked_paths: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")] readonly_paths: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")] mount_label: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")] personality: Option<Personality>,
}}

words! {
/// `namespaces(7)`.
NamespaceKind {
    Pid = "pid", Network = "network", Mount = "mount", Ipc = "ipc", Uts = "uts", User = "user", Cgroup = "cgroup", Time = "time",
}}

/// A namespace to create, or with a `path` to join.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Namespace {
    /// Which.
    #[serde(rename = "type")]
    pub kind: NamespaceKind,
    /// An existing one, as a file under `/proc/PID/ns` or a bind mount of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}
crate::strict::only_as_object!(Namespace);

object! {
/// Offset of `monotonic` or `boottime` in a time namespace.
TimeOffset { #[serde(default)] secs: i64, #[serde(default)] nanosecs: u32 }}

object! {
/// A device node; `type` is one of `c b u p`.
Device {
    #[serde(rename = "type")] kind: String,
    path: String,
    #[serde(default)] major: i64,
    #[serde(default)] minor: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")] file_mode: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")] uid: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")] gid: Option<u32>,
}}

object! {
/// A host interface moved into the container.
NetDevice { #[serde(default, skip_serializing_if = "Option::is_none")] name: Option<String> }}

object! {
/// config-linux.md, "Control groups".
Resources {
    #[serde(default, skip_serializing_if = "Vec::is_empty")] devices: Vec<DeviceRule>,
    #[serde(default, skip_serializing_if = "Option::is_none")] memory: Option<Memory>,
    #[serde(default, skip_serializing_if = "Option::is_none")] cpu: Option<Cpu>,
    #[serde(default, skip_serializing_if = "Option::is_none")] pids: Option<Pids>,
    #[serde(default, rename = "blockIO", skip_serializing_if = "Option::is_none")] block_io: Option<BlockIo>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")] hugepage_limits: Vec<HugepageLimit>,
    #[serde(default, skip_serializing_if = "Option::is_none")] network: Option<NetworkClass>,
    #[serde(default, deserialize_with = "crate::strict::map", skip_serializing_if = "BTreeMap::is_empty")] rdma: BTreeMap<String, Rdma>,
    #[serde(default, deserialize_with = "crate::strict::map", skip_serializing_if = "BTreeMap::is_empty")] unified: BTreeMap<String, String>,
}}

object! {
/// One line of the device list; no major or minor means all.
DeviceRule {
    allow: bool,
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")] kind: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")] major: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")] minor: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")] access: Option<String>,
}}

object! {
/// Bytes; -1 is unlimited.
Memory {
    #[serde(default, skip_serializing_if = "Option::is_none")] limit: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")] reservation: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")] swap: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")] kernel: Option<i64>,
    #[serde(default, rename = "kernelTCP", skip_serializing_if = "Option::is_none")] kernel_tcp: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")] swappiness: Option<u64>,
    #[serde(default, rename = "disableOOMKiller", skip_serializing_if = "Option::is_none")] disable_oom_killer: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")] use_hierarchy: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")] check_before_update: Option<bool>,
}}

object! {
/// Shares, microseconds, and lists as `0-3,7`.
Cpu {
    #[serde(default, skip_serializing_if = "Option::is_none")] shares: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")] quota: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")] burst: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")] period: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")] realtime_runtime: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")] realtime_period: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")] cpus: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")] mems: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")] idle: Option<i64>,
}}

object! {
/// Most processes and threads; -1 (or 0) is unlimited.
Pids { #[serde(default, skip_serializing_if = "Option::is_none")] limit: Option<i64> }}

object! {
/// Weights and throttles.
BlockIo {
    #[serde(default, skip_serializing_if = "Option::is_none")] weight: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")] leaf_weight: Option<u16>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")] weight_device: Vec<WeightDevice>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")] throttle_read_bps_device: Vec<ThrottleDevice>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")] throttle_write_bps_device: Vec<ThrottleDevice>,
    #[serde(default, rename = "throttleReadIOPSDevice", skip_serializing_if = "Vec::is_empty")] throttle_read_iops_device: Vec<ThrottleDevice>,
    #[serde(default, rename = "throttleWriteIOPSDevice", skip_serializing_if = "Vec::is_empty")] throttle_write_iops_device: Vec<ThrottleDevice>,
}}

object! {
/// A weight for one device.
WeightDevice {
    major: i64,
    minor: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")] weight: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")] leaf_weight: Option<u16>,
}}

object! {
/// A rate for one device.
ThrottleDevice { major: i64, minor: i64, rate: u64 }}

object! {
/// `pageSize` as `2MB`.
HugepageLimit { page_size: String, limit: u64 }}

object! {
/// `net_cls` and `net_prio`.
NetworkClass {
    #[serde(default, rename = "classID", skip_serializing_if = "Option::is_none")] class_id: Option<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")] priorities: Vec<InterfacePriority>,
}}

object! {
/// Priority of one interface.
InterfacePriority { name: String, priority: u32 }}

object! {
/// Limits of one RDMA device.
Rdma {
    #[serde(default, skip_serializing_if = "Option::is_none")] hca_handles: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")] hca_objects: Option<u32>,
}}

object! {
/// `resctrl`.
IntelRdt {
    #[serde(default, rename = "closID", skip_serializing_if = "Option::is_none")] clos_id: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")] schemata: Vec<String>,
    #[serde(default, rename = "l3CacheSchema", skip_serializing_if = "Option::is_none")] l3_cache_schema: Option<String>,
    #[serde(default, rename = "memBwSchema", skip_serializing_if = "Option::is_none")] mem_bw_schema: Option<String>,
    #[serde(default)] enable_monitoring: bool,
}}

object! {
/// `set_mempolicy(2)`.
MemoryPolicy {
    mode: String,
    #[serde(default)] nodes: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")] flags: Vec<String>,
}}

object! {
/// `personality(2)`.
Personality { domain: String, #[serde(default, skip_serializing_if = "Vec::is_empty")] flags: Vec<String> }}

object! {
/// config-linux.md, "Seccomp"; actions, architectures and operators by libseccomp's names.
Seccomp {
    default_action: String,
    #[serde(default, skip_serializing_if = "Option::is_none")] default_errno_ret: Option<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")] architectures: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")] flags: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")] listener_path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")] listener_metadata: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")] syscalls: Vec<SeccompRule>,
}}

object! {
/// One rule for several system calls; all `args` must hold.
SeccompRule {
    names: Vec<String>,
    action: String,
    #[serde(default, skip_serializing_if = "Option::is_none")] errno_ret: Option<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")] args: Vec<SeccompArg>,
}}

object! {
/// One comparison.
SeccompArg {
    index: u32,
    value: u64,
    #[serde(default)] value_two: u64,
    op: String,
}}

words! {
/// runtime.md, "State": the status words.
Status { Creating = "creating", Created = "created", Running = "running", Stopped = "stopped", Paused = "paused" }}

/// runtime.md, "State": what `state` prints and hooks read on stdin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Spec version.
    pub oci_version: String,
    /// The container's id.
    pub id: String,
    /// How far it is.
    pub status: Status,
    /// Its first process as the host sees it, unless stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// Absolute path of the bundle.
    pub bundle: String,
    /// From the spec.
    #[serde(default, deserialize_with = "crate::strict::map", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}
