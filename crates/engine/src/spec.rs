//! The OCI bundle's `config.json`: the contract between engine and runtime, made of a [`Config`] and of what the
//! start has found out. Pure: nothing here looks at the host.

use std::path::PathBuf;

use network::Namespace as NetworkNamespace;
use oci::{Mount, spec, spec::NamespaceKind};

use crate::{
    Container, Files,
    config::{Bind, Config, Resources},
    error::Result,
    seccomp,
    user::Identity,
};

/// What a start has found out.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) identity: Identity,
    pub(crate) network: network::Plan,
    pub(crate) hostname: String,
    pub(crate) files: Files,
    /// Absolute below each hierarchy's root.
    pub(crate) cgroup: String,
    /// The program that is pid 1 with `--init`, on the host.
    pub(crate) init: PathBuf,
    /// Time namespaces came to runtimes late (runc 1.2); knarr's own has them.
    pub(crate) time_namespace: bool,
    /// Thermal files of each CPU, where the host has them (GHSA-6fw5-f8r9-fgfm).
    pub(crate) thermal: Vec<String>,
}

/// Where the small init is seen inside.
pub(crate) const INIT: &str = "/sbin/docker-init";
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const DEFAULT_SHM: u64 = 64 << 20;
const DEFAULT_PERIOD: u64 = 100_000;

/// Docker's fourteen.
const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The whole document.
pub(crate) fn bundle(container: &Container, facts: &Facts) -> Result<spec::Spec> {
    let config = &container.config;
    Ok(spec::Spec {
        oci_version: spec::VERSION.to_owned(),
        process: Some(process(container, facts)),
        root: Some(spec::Root { path: "rootfs".to_owned(), readonly: config.host.read_only_root }),
        hostname: Some(facts.hostname.clone()),
        domainname: Some(config.domainname.clone()).filter(|name| !name.is_empty()),
        mounts: mounts(config, facts),
        hooks: None,
        annotations: config.host.annotations.clone(),
        linux: Some(linux(config, facts)?),
    })
}

fn process(container: &Container, facts: &Facts) -> spec::Process {
    let config = &container.config;
    let mut args = container.words();
    if config.host.init {
        args.splice(0..0, [INIT.to_owned(), "--".to_owned()]);
    }
    spec::Process {
        terminal: config.tty,
        console_size: config.console_size.map(|(height, width)| spec::ConsoleSize { height, width }),
        user: facts.identity.user.clone(),
        args,
        env: environment(config, facts),
        cwd: if config.working_dir.is_empty() { "/".to_owned() } else { config.working_dir.clone() },
        capabilities: Some(capabilities(facts.identity.user.uid, &CAPABILITIES)),
        ..spec::Process::default()
    }
}

/// Inheritable and ambient stay empty (CVE-2022-24769); who is not root gets none but the bounding set.
pub(crate) fn capabilities(uid: u32, names: &[&str]) -> spec::Capabilities {
    let all: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let active = if uid == 0 { all.clone() } else { Vec::new() };
    spec::Capabilities {
        bounding: all,
        effective: active.clone(),
        permitted: active,
        ..spec::Capabilities::default()
    }
}

/// What every process in the container may do at most.
pub(crate) fn default_capabilities() -> &'static [&'static str] {
    &CAPABILITIES
}

fn environment(config: &Config, facts: &Facts) -> Vec<String> {
    let mut env = vec![PATH.to_owned(), format!("HOSTNAME={}", facts.hostname)];
    if config.tty {
        env.push("TERM=xterm".to_owned());
    }
    env.push(format!("HOME={}", facts.identity.home));
    override_env(&mut env, &config.env);
    env
}

/// `KEY=value` replaces, a bare `KEY` removes.
pub(crate) fn override_env(env: &mut Vec<String>, with: &[String]) {
    for entry in with {
        let key = entry.split_once('=').map_or(entry.as_str(), |(key, _)| key);
        let place = env.iter().position(|have| have.split_once('=').is_some_and(|(name, _)| name == key));
        match (place, entry.contains('=')) {
            (Some(place), true) => env[place].clone_from(entry),
            (Some(place), false) => drop(env.remove(place)),
            (None, true) => env.push(entry.clone()),
            (None, false) => {}
        }
    }
}

fn mounts(config: &Config, facts: &Facts) -> Vec<Mount> {
    let shm_size = if config.host.shm_size == 0 { DEFAULT_SHM } else { config.host.shm_size };
    let shm = format!("mode=1777,size={shm_size}");
    let mut mounts = vec![
        mount("/proc", "proc", "proc", "nosuid,noexec,nodev"),
        mount("/dev", "tmpfs", "tmpfs", "nosuid,strictatime,mode=755,size=65536k"),
        mount("/dev/pts", "devpts", "devpts", "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5"),
        mount("/sys", "sysfs", "sysfs", "nosuid,noexec,nodev,ro"),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", "ro,nosuid,noexec,nodev"),
        mount("/dev/mqueue", "mqueue", "mqueue", "nosuid,noexec,nodev"),
        mount("/dev/shm", "tmpfs", "shm", &format!("nosuid,noexec,nodev,{shm}")),
    ];
    let files = &facts.files;
    let own = [
        ("/etc/resolv.conf", &files.resolv_conf),
        ("/etc/hostname", &files.hostname),
        ("/etc/hosts", &files.hosts),
    ];
    let mut users: Vec<Mount> = config.host.binds.iter().map(bind).collect();
    users.extend(config.host.tmpfs.iter().map(|(path, options)| tmpfs(path, options)));
    for (path, source) in own {
        if !users.iter().any(|user| user.destination == path) {
            mounts.push(bind_mount(path, source.display().to_string(), &["rbind", "rprivate"]));
        }
    }
    // A mount on `/a` must come before one on `/a/b`.
    users.sort_by_key(|user| user.destination.split('/').filter(|part| !part.is_empty()).count());
    mounts.retain(|own| !users.iter().any(|user| user.destination == own.destination));
    mounts.extend(users);
    if config.host.init {
        mounts.push(bind_mount(INIT, facts.init.display().to_string(), &["bind", "ro", "nosuid", "nodev"]));
    }
    mounts
}

fn mount(destination: &str, kind: &str, source: &str, options: &str) -> Mount {
    Mount {
        destination: destination.to_owned(),
        kind: Some(kind.to_owned()),
        source: Some(source.to_owned()),
        options: options.split(',').filter(|option| !option.is_empty()).map(str::to_owned).collect(),
        ..Mount::default()
    }
}

fn bind_mount(destination: &str, source: String, options: &[&str]) -> Mount {
    Mount {
        destination: destination.to_owned(),
        kind: Some("bind".to_owned()),
        source: Some(source),
        options: options.iter().map(|&option| option.to_owned()).collect(),
        ..Mount::default()
    }
}

fn bind(bind: &Bind) -> Mount {
    let propagation = if bind.propagation.is_empty() { "rprivate" } else { &bind.propagation };
    let mut options = vec!["rbind", propagation];
    if bind.read_only {
        // What is mounted below is read-only too (Linux 5.12), as in Docker since 25.
        options.extend(["ro", "rro"]);
    }
    bind_mount(&bind.target, bind.source.display().to_string(), &options)
}

/// As Docker: where one bind is to carry mounts from or to the host, the root must not stand in the way.
fn root_propagation(binds: &[Bind]) -> Option<&'static str> {
    let has = |words: [&str; 2]| binds.iter().any(|bind| words.contains(&bind.propagation.as_str()));
    if has(["shared", "rshared"]) {
        return Some("shared");
    }
    has(["slave", "rslave"]).then_some("rslave")
}

fn tmpfs(path: &str, options: &str) -> Mount {
    let given = if options.is_empty() { String::new() } else { format!(",{options}") };
    mount(path, "tmpfs", "tmpfs", &format!("noexec,nosuid,nodev{given}"))
}

fn linux(config: &Config, facts: &Facts) -> Result<spec::Linux> {
    let host_network = facts.network.namespace == NetworkNamespace::Host;
    let mut sysctl = std::collections::BTreeMap::new();
    if !host_network {
        // So that ping and port 80 need no capability.
        sysctl.insert("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned());
        if config.ids.is_identity() {
            sysctl.insert("net.ipv4.ping_group_range".to_owned(), "0 2147483647".to_owned());
        }
    }
    let bounding: Vec<String> = CAPABILITIES.iter().map(|&name| name.to_owned()).collect();
    Ok(spec::Linux {
        namespaces: namespaces(config, facts),
        uid_mappings: config.ids.uids.clone(),
        gid_mappings: config.ids.gids.clone(),
        cgroups_path: Some(facts.cgroup.clone()),
        resources: Some(resources(&config.host.resources)),
        sysctl,
        seccomp: Some(seccomp::default_filter(&bounding)?.into()),
        masked_paths: MASKED
            .iter()
            .map(|&path| path.to_owned())
            .chain(facts.thermal.iter().cloned())
            .collect(),
        rootfs_propagation: root_propagation(&config.host.binds).map(str::to_owned),
        readonly_paths: READ_ONLY.iter().map(|&path| path.to_owned()).collect(),
        ..spec::Linux::default()
    })
}

fn namespaces(config: &Config, facts: &Facts) -> Vec<spec::Namespace> {
    let new = |kind| spec::Namespace { kind, path: None };
    let mut namespaces: Vec<_> = [
        NamespaceKind::Mount,
        NamespaceKind::Uts,
        NamespaceKind::Pid,
        NamespaceKind::Ipc,
        NamespaceKind::Cgroup,
    ]
    .map(new)
    .into();
    match &facts.network.namespace {
        NetworkNamespace::New => namespaces.push(new(NamespaceKind::Network)),
        NetworkNamespace::Path(path) => {
            namespaces.push(spec::Namespace {
                kind: NamespaceKind::Network,
                path: Some(path.display().to_string()),
            });
        }
        NetworkNamespace::Host => {}
    }
    if !config.ids.is_identity() {
        namespaces.push(new(NamespaceKind::User));
    }
    if facts.time_namespace {
        namespaces.push(new(NamespaceKind::Time));
    }
    namespaces
}

fn resources(limits: &Resources) -> spec::Resources {
    let set = |value: i64| (value != 0).then_some(value);
    let memory = spec::Memory {
        limit: set(limits.memory),
        reservation: set(limits.memory_reservation),
        swap: set(limits.memory_swap).or_else(|| set(limits.memory.saturating_mul(2))),
        ..spec::Memory::default()
    };
    let quota = if limits.nano_cpus > 0 {
        Some(limits.nano_cpus.saturating_mul(DEFAULT_PERIOD as i64) / 1_000_000_000)
    } else {
        set(limits.cpu_quota)
    };
    let period = if limits.nano_cpus > 0 {
        Some(DEFAULT_PERIOD)
    } else {
        set(limits.cpu_period).map(|period| period as u64)
    };
    let cpu = spec::Cpu {
        shares: set(limits.cpu_shares).map(|shares| shares as u64),
        quota,
        period,
        cpus: Some(limits.cpuset_cpus.clone()).filter(|list| !list.is_empty()),
        mems: Some(limits.cpuset_mems.clone()).filter(|list| !list.is_empty()),
        ..spec::Cpu::default()
    };
    spec::Resources {
        devices: device_rules(),
        memory: (memory != spec::Memory::default()).then_some(memory),
        cpu: (cpu != spec::Cpu::default()).then_some(cpu),
        pids: limits.pids_limit.filter(|&limit| limit > 0).map(|limit| spec::Pids { limit: Some(limit) }),
        ..spec::Resources::default()
    }
}

/// Everything is denied; the runtime adds the devices that every container has (config-linux.md, "Default Devices").
fn device_rules() -> Vec<spec::DeviceRule> {
    vec![spec::DeviceRule { allow: false, access: Some("rwm".to_owned()), ..spec::DeviceRule::default() }]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment_is_overridden_in_place() {
        let mut env = vec!["A=1".to_owned(), "B=2".to_owned()];
        override_env(&mut env, &["B=3".to_owned(), "A".to_owned(), "C=".to_owned(), "D".to_owned()]);
        assert_eq!(env, ["B=3", "C="]);
    }

    #[test]
    fn limits_become_the_kernels_units() {
        let limits = Resources {
            memory: 64 << 20,
            nano_cpus: 500_000_000,
            pids_limit: Some(-1),
            ..Resources::default()
        };
        let spec = resources(&limits);
        let (memory, cpu) = (spec.memory.unwrap(), spec.cpu.unwrap());
        assert_eq!((memory.limit, memory.swap), (Some(64 << 20), Some(128 << 20)));
        assert_eq!((cpu.quota, cpu.period), (Some(50_000), Some(100_000)));
        assert!(spec.pids.is_none());
    }

    #[test]
    fn the_root_spreads_as_its_binds_need() {
        let bind = |word: &str| Bind {
            propagation: word.to_owned(),
            source: "/s".into(),
            target: "/t".into(),
            read_only: false,
            create_source: false,
        };
        assert_eq!(root_propagation(&[bind(""), bind("rprivate")]), None);
        assert_eq!(root_propagation(&[bind("rslave"), bind("")]), Some("rslave"));
        assert_eq!(root_propagation(&[bind("slave"), bind("rshared")]), Some("shared"));
    }

    #[test]
    fn nobody_but_root_has_active_capabilities() {
        let plain = capabilities(1000, default_capabilities());
        assert_eq!((plain.bounding.len(), plain.effective.len(), plain.permitted.len()), (14, 0, 0));
        assert!(plain.inheritable.is_empty() && plain.ambient.is_empty());
        assert_eq!(capabilities(0, default_capabilities()).effective.len(), 14);
    }
}
