//! What is seen from inside, as one value.

use std::{env, fs, net::IpAddr};

use super::parse::{self, Mount};

/// Everything that the program tells.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) pid: u32,
    pub(crate) hostname: String,
    pub(crate) kernel: String,
    pub(crate) user: User,
    pub(crate) namespaces: Vec<Namespace>,
    pub(crate) root: Option<Root>,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) limits: Limits,
    pub(crate) interfaces: Vec<Interface>,
    pub(crate) gateway: Option<IpAddr>,
    /// Own addresses that no interface could be found for.
    pub(crate) other_addresses: Vec<IpAddr>,
    pub(crate) capabilities: Vec<(&'static str, Vec<String>)>,
    pub(crate) seccomp: &'static str,
    pub(crate) no_new_privileges: bool,
}

/// Who the process is.
#[derive(Debug)]
pub(crate) struct User {
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    pub(crate) groups: Vec<u64>,
    pub(crate) uid_map: Vec<(u64, u64, u64)>,
    pub(crate) gid_map: Vec<(u64, u64, u64)>,
}

/// One namespace.
#[derive(Debug)]
pub(crate) struct Namespace {
    pub(crate) name: &'static str,
    pub(crate) inode: u64,
    /// Whether it is another than the host's; `None` where the program cannot know.
    pub(crate) own: Option<bool>,
}

/// The root file system.
#[derive(Debug)]
pub(crate) struct Root {
    pub(crate) kind: String,
    pub(crate) read_only: bool,
    /// For an overlay: how many read-only layers, and whether a writable one lies over them.
    pub(crate) layers: Option<(usize, bool)>,
}

/// The limits of the process's own control groups; `None` is no limit, or no group in sight.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    /// `v1`, `v2`, `hybrid`, or `none in sight`.
    pub(crate) version: &'static str,
    /// Bytes.
    pub(crate) memory: Option<u64>,
    /// Bytes of memory and swap together on v1, of swap alone on v2: see `version`.
    pub(crate) swap: Option<u64>,
    /// Microseconds in each period, and the period.
    pub(crate) cpu: Option<(u64, u64)>,
    /// `cpu.shares` on v1, `cpu.weight` on v2.
    pub(crate) cpu_weight: Option<u64>,
    pub(crate) cpuset: Option<String>,
    pub(crate) pids: Option<u64>,
}

/// One network interface and its addresses with the lengths of their prefixes.
#[derive(Debug)]
pub(crate) struct Interface {
    pub(crate) name: String,
    pub(crate) addresses: Vec<(IpAddr, u32)>,
}

/// The inode numbers that the kernel fixes for its first namespaces (`PROC_*_INIT_INO` in `linux/proc_ns.h`).
const INITIAL: [(&str, u64); 6] = [
    ("ipc", 0xEFFF_FFFF),
    ("uts", 0xEFFF_FFFE),
    ("user", 0xEFFF_FFFD),
    ("pid", 0xEFFF_FFFC),
    ("cgroup", 0xEFFF_FFFB),
    ("time", 0xEFFF_FFFA),
];

/// Those that it fixes since Linux 6.18; before, they come in order of creation.
const INITIAL_LATER: [(&str, u64); 2] = [("net", 0xEFFF_FFF9), ("mnt", 0xEFFF_FFF8)];

const NAMESPACES: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];

const SETS: [(&str, &str); 5] = [
    ("effective", "CapEff"),
    ("permitted", "CapPrm"),
    ("inheritable", "CapInh"),
    ("bounding", "CapBnd"),
    ("ambient", "CapAmb"),
];

impl Facts {
    /// Looks around. What cannot be read is left out: a container may hide any of it.
    pub(crate) fn gather() -> Self {
        let status = read("/proc/self/status");
        let mounts = parse::mounts(&read("/proc/self/mountinfo"));
        let routes = parse::routes(&read("/proc/net/route"));
        let (interfaces, other_addresses) = interfaces(&routes);
        let set = |(name, key)| (name, parse::capabilities(parse::status(&status, key).unwrap_or("0")));
        let kernel = read("/proc/sys/kernel/osrelease");
        Self {
            pid: std::process::id(),
            hostname: read("/proc/sys/kernel/hostname").trim().to_owned(),
            user: user(&status),
            namespaces: namespaces(&env::var("KNARR_HOST_NAMESPACES").unwrap_or_default(), &kernel),
            kernel: kernel.trim().to_owned(),
            root: mounts.iter().rfind(|mount| mount.at == "/").map(root),
            limits: limits(&read("/proc/self/cgroup"), &mounts),
            mounts,
            interfaces,
            gateway: routes
                .iter()
                .find(|route| route.prefix == 0)
                .and_then(|route| route.via)
                .map(IpAddr::V4),
            other_addresses,
            capabilities: SETS.map(set).into(),
            seccomp: match parse::status(&status, "Seccomp") {
                Some("0") => "off",
                Some("1") => "strict",
                Some("2") => "filter",
                _ => "unknown",
            },
            no_new_privileges: parse::status(&status, "NoNewPrivs") == Some("1"),
        }
    }

    /// Whether any namespace is another than the host's.
    pub(crate) fn contained(&self) -> bool {
        self.namespaces.iter().any(|namespace| namespace.own == Some(true))
    }
}

fn read(path: &str) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

fn user(status: &str) -> User {
    let numbers = |key| -> Vec<u64> {
        let words = parse::status(status, key).unwrap_or_default().split_whitespace();
        words.filter_map(|word| word.parse().ok()).collect()
    };
    // Real, effective, saved, file system: the second is the one that counts.
    let effective = |key| numbers(key).get(1).copied().unwrap_or_default();
    User {
        uid: effective("Uid"),
        gid: effective("Gid"),
        groups: numbers("Groups"),
        uid_map: parse::id_map(&read("/proc/self/uid_map")),
        gid_map: parse::id_map(&read("/proc/self/gid_map")),
    }
}

fn namespaces(host: &str, kernel: &str) -> Vec<Namespace> {
    let mut known = parse::host_namespaces(host);
    known.extend(INITIAL);
    if parse::version(kernel) >= Some((6, 18)) {
        known.extend(INITIAL_LATER);
    }
    let namespace = |name: &'static str| {
        let link = fs::read_link(format!("/proc/self/ns/{name}")).ok()?;
        let inode = parse::inode(link.to_str()?)?;
        let host = known.iter().find(|(other, _)| *other == name);
        Some(Namespace { name, inode, own: host.map(|(_, host)| *host != inode) })
    };
    NAMESPACES.into_iter().filter_map(namespace).collect()
}

fn root(mount: &Mount) -> Root {
    let read_only = |options: &str| options.split(',').any(|option| option == "ro");
    Root {
        kind: mount.kind.clone(),
        read_only: read_only(&mount.options) || read_only(&mount.super_options),
        layers: (mount.kind == "overlay").then(|| parse::overlay_layers(&mount.super_options)),
    }
}

/// The directory of one of the process's control groups, if a mount shows it.
///
/// `controller` is a v1 controller's name, or none for v2.
fn group(controller: Option<&str>, cgroups: &str, mounts: &[Mount]) -> Option<String> {
    let groups = parse::cgroups(cgroups);
    let (_, path) = groups.iter().find(|(names, _)| match controller {
        Some(name) => names.contains(&name),
        None => names.is_empty(),
    })?;
    let mount = mounts.iter().rfind(|mount| match controller {
        Some(name) => mount.kind == "cgroup" && mount.super_options.split(',').any(|option| option == name),
        None => mount.kind == "cgroup2",
    })?;
    // Without a cgroup namespace the mount's root is usually the group itself; with one both are `/`.
    let below = if mount.root == "/" { path } else { path.strip_prefix(mount.root.as_str()).unwrap_or("") };
    Some(format!("{}/{}", mount.at.trim_end_matches('/'), below.trim_start_matches('/')))
}

fn limits(cgroups: &str, mounts: &[Mount]) -> Limits {
    let v1 = |controller, file: &str| {
        let text = read(&format!("{}/{file}", group(Some(controller), cgroups, mounts)?));
        (!text.is_empty()).then(|| text.trim().to_owned())
    };
    let v2 = |file: &str| {
        let text = read(&format!("{}/{file}", group(None, cgroups, mounts)?));
        (!text.is_empty()).then(|| text.trim().to_owned())
    };
    let number = |text: Option<String>| parse::limit(&text?);
    let cpu_v1 = || Some((number(v1("cpu", "cpu.cfs_quota_us"))?, number(v1("cpu", "cpu.cfs_period_us"))?));
    let cpu_v2 = || {
        let text = v2("cpu.max")?;
        let (quota, period) = text.split_once(' ')?;
        Some((parse::limit(quota)?, parse::limit(period)?))
    };
    let has = |kind| mounts.iter().any(|mount| mount.kind == kind);
    Limits {
        version: match (has("cgroup"), has("cgroup2")) {
            (true, true) => "hybrid",
            (true, false) => "v1",
            (false, true) => "v2",
            (false, false) => "none in sight",
        },
        memory: number(v1("memory", "memory.limit_in_bytes")).or_else(|| number(v2("memory.max"))),
        swap: number(v1("memory", "memory.memsw.limit_in_bytes")).or_else(|| number(v2("memory.swap.max"))),
        cpu: cpu_v1().or_else(cpu_v2),
        cpu_weight: number(v1("cpu", "cpu.shares")).or_else(|| number(v2("cpu.weight"))),
        cpuset: v1("cpuset", "cpuset.cpus").or_else(|| v2("cpuset.cpus.effective")),
        pids: number(v1("pids", "pids.max")).or_else(|| number(v2("pids.max"))),
    }
}

fn interfaces(routes: &[parse::Route]) -> (Vec<Interface>, Vec<IpAddr>) {
    let bare = |name| Interface { name, addresses: Vec::new() };
    let mut interfaces: Vec<_> = parse::interfaces(&read("/proc/net/dev")).into_iter().map(bare).collect();
    let mut others = Vec::new();
    let mut put = |name: Option<&str>, address: IpAddr, prefix: u32| match interfaces
        .iter_mut()
        .find(|interface| Some(interface.name.as_str()) == name)
    {
        Some(interface) => interface.addresses.push((address, prefix)),
        None => others.push(address),
    };
    for address in parse::own_addresses(&read("/proc/net/fib_trie")) {
        let home = parse::home(address, routes);
        put(home.map(|(name, _)| name), IpAddr::V4(address), home.map_or(32, |(_, prefix)| prefix));
    }
    for (name, address, prefix) in parse::inet6(&read("/proc/net/if_inet6")) {
        put(Some(&name), IpAddr::V6(address), prefix);
    }
    (interfaces, others)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_found_through_its_mount() {
        let mounts = parse::mounts(
            "1 0 0:1 /knarr/x /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n\
             2 0 0:2 / /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n\
             3 0 0:3 / /sys/fs/cgroup/unified ro - cgroup2 cgroup2 rw\n",
        );
        let cgroups = "4:memory:/knarr/x/y\n2:cpu,cpuacct:/knarr/x\n0::/\n";
        let of = |controller| group(controller, cgroups, &mounts);
        assert_eq!(of(Some("memory")).as_deref(), Some("/sys/fs/cgroup/memory/y"));
        assert_eq!(of(Some("cpu")).as_deref(), Some("/sys/fs/cgroup/cpu,cpuacct/knarr/x"));
        assert_eq!(of(None).as_deref(), Some("/sys/fs/cgroup/unified/"));
        assert_eq!(of(Some("pids")), None);
    }

    #[test]
    fn a_namespace_without_a_known_host_is_not_guessed() {
        let own = |name: &str, kernel: &str| {
            let seen = namespaces("net=1", kernel);
            seen.iter().find(|namespace| namespace.name == name).unwrap().own
        };
        assert_eq!(own("net", "6.1.0-30-amd64"), Some(true));
        assert_eq!(own("mnt", "6.1.0-30-amd64"), None);
        assert!(own("mnt", "6.18.1").is_some());
        assert!(own("uts", "").is_some());
    }
}
