//! The kernel's texts, read: pure functions from `&str` to values.

use std::net::{Ipv4Addr, Ipv6Addr};

/// One line of `/proc/self/mountinfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    /// The part of the file system that is mounted.
    pub(crate) root: String,
    /// Where.
    pub(crate) at: String,
    /// `rw,nosuid,…`
    pub(crate) options: String,
    /// `overlay`, `proc`, …
    pub(crate) kind: String,
    /// The options of the file system itself, still escaped.
    pub(crate) super_options: String,
}

/// The mounts, in the kernel's order: of two on one place the later covers the earlier.
pub(crate) fn mounts(mountinfo: &str) -> Vec<Mount> {
    mountinfo.lines().filter_map(mount).collect()
}

fn mount(line: &str) -> Option<Mount> {
    let (place, file_system) = line.split_once(" - ")?;
    let place: Vec<&str> = place.split(' ').collect();
    let mut file_system = file_system.split(' ');
    Some(Mount {
        root: unescape(place.get(3)?),
        at: unescape(place.get(4)?),
        options: (*place.get(5)?).to_owned(),
        kind: file_system.next()?.to_owned(),
        super_options: file_system.nth(1).unwrap_or_default().to_owned(),
    })
}

/// Undoes the kernel's `\040` for characters that would break the line.
pub(crate) fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let octal = bytes.get(at + 1..at + 4).filter(|_| bytes[at] == b'\\');
        let value = octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        out.push(value.unwrap_or(bytes[at]));
        at += if value.is_some() { 4 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// An overlay's layers by its options: how many lower (read-only) ones, and whether there is an upper one.
pub(crate) fn overlay_layers(super_options: &str) -> (usize, bool) {
    let mut lower = 0;
    let mut upper = false;
    for option in super_options.split(',') {
        let Some((name, value)) = option.split_once('=') else {
            continue;
        };
        match name {
            "lowerdir" => lower += colons(&unescape(value)),
            // Since Linux 6.5 layers can be added one by one, and are shown so.
            "lowerdir+" | "datadir+" => lower += 1,
            "upperdir" => upper = true,
            _ => {}
        }
    }
    (lower, upper)
}

/// How many paths a colon-separated list holds; `\:` is part of a path, `::` sets data-only layers apart.
fn colons(list: &str) -> usize {
    list.replace("\\:", "").split(':').filter(|path| !path.is_empty()).count()
}

/// `KEY:<tab>VALUE` of `/proc/self/status`.
pub(crate) fn status<'a>(status: &'a str, key: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::trim)
}

/// One range of `/proc/self/uid_map`: inside, outside, how many.
pub(crate) fn id_map(map: &str) -> Vec<(u64, u64, u64)> {
    let range = |line: &str| {
        let mut numbers = line.split_whitespace().map(str::parse);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?))
    };
    map.lines().filter_map(range).collect()
}

/// The inode number in `mnt:[4026531841]`.
pub(crate) fn inode(link: &str) -> Option<u64> {
    link.split_once(":[")?.1.strip_suffix(']')?.parse().ok()
}

/// The first two numbers of `6.1.0-30-amd64`.
pub(crate) fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// `mnt=4026531841,pid=4026531836`
pub(crate) fn host_namespaces(list: &str) -> Vec<(&str, u64)> {
    list.split(',')
        .filter_map(|pair| pair.split_once('='))
        .filter_map(|(n, i)| Some((n, i.parse().ok()?)))
        .collect()
}

/// One line of `/proc/self/cgroup`: the hierarchy's controllers (none for v2) and the path in it.
pub(crate) fn cgroups(text: &str) -> Vec<(Vec<&str>, &str)> {
    text.lines()
        .filter_map(|line| line.split_once(':')?.1.split_once(':'))
        .map(|(controllers, path)| (controllers.split(',').filter(|name| !name.is_empty()).collect(), path))
        .collect()
}

/// A limit as the kernel writes it; `max`, `-1` and what v1 shows for "none" are `None`.
pub(crate) fn limit(text: &str) -> Option<u64> {
    // v1 has no word for "none": it shows the largest multiple of the page size.
    text.trim().parse().ok().filter(|&value| value < 1 << 62)
}

/// The interfaces of `/proc/net/dev`.
pub(crate) fn interfaces(dev: &str) -> Vec<String> {
    dev.lines()
        .skip(2)
        .filter_map(|line| line.split_once(':'))
        .map(|(name, _)| name.trim().to_owned())
        .collect()
}

/// This host's own IPv4 addresses by `/proc/net/fib_trie`, in order, each once.
pub(crate) fn own_addresses(fib_trie: &str) -> Vec<Ipv4Addr> {
    let mut own = Vec::new();
    let mut last = None;
    for line in fib_trie.lines() {
        if let Some((_, address)) = line.split_once("|-- ") {
            last = address.trim().parse().ok();
        } else if line.contains("/32 host LOCAL") {
            own.extend(last.filter(|address| !own.contains(address)));
        }
    }
    own
}

/// One IPv4 route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    /// The interface.
    pub(crate) by: String,
    /// The network.
    pub(crate) to: Ipv4Addr,
    /// 0 to 32.
    pub(crate) prefix: u32,
    /// None for what lies on the link.
    pub(crate) via: Option<Ipv4Addr>,
}

/// The routes of `/proc/net/route`.
pub(crate) fn routes(text: &str) -> Vec<Route> {
    // The numbers are the kernel's words in network order, printed as if they were of this machine's order.
    let address = |hex: &str| Some(Ipv4Addr::from(u32::from_str_radix(hex, 16).ok()?.to_ne_bytes()));
    let route = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        Some(Route {
            by: (*words.first()?).to_owned(),
            to: address(words.get(1)?)?,
            prefix: u32::from(address(words.get(7)?)?).leading_ones(),
            via: address(words.get(2)?).filter(|via| !via.is_unspecified()),
        })
    };
    text.lines().skip(1).filter_map(route).collect()
}

/// The interface that an own IPv4 address most likely belongs to, and the length of its network's prefix.
///
/// `/proc` does not tell; the network on the link that the address lies in does.
pub(crate) fn home(address: Ipv4Addr, routes: &[Route]) -> Option<(&str, u32)> {
    if address.is_loopback() {
        return Some(("lo", 8));
    }
    let holds = |route: &&Route| {
        let mask = u32::MAX.checked_shl(32 - route.prefix).unwrap_or(0);
        route.via.is_none() && route.prefix > 0 && u32::from(address) & mask == u32::from(route.to)
    };
    let nearest = routes.iter().filter(holds).max_by_key(|route| route.prefix)?;
    Some((&nearest.by, nearest.prefix))
}

/// The lines of `/proc/net/if_inet6`: interface, address, prefix length.
pub(crate) fn inet6(text: &str) -> Vec<(String, Ipv6Addr, u32)> {
    let entry = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let address = u128::from_str_radix(words.first()?, 16).ok()?;
        let prefix = u32::from_str_radix(words.get(2)?, 16).ok()?;
        Some(((*words.get(5)?).to_owned(), Ipv6Addr::from(address), prefix))
    };
    text.lines().filter_map(entry).collect()
}

/// The kernel's capabilities by number (`linux/capability.h`, Linux 5.9 and later).
const CAPABILITIES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

/// The names in a set of capabilities, as `/proc/self/status` shows it.
pub(crate) fn capabilities(hex: &str) -> Vec<String> {
    let set = u64::from_str_radix(hex, 16).unwrap_or(0);
    let name = |bit: usize| match CAPABILITIES.get(bit) {
        Some(name) => (*name).to_owned(),
        None => format!("number {bit}"),
    };
    (0..64).filter(|bit| set >> bit & 1 == 1).map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_with_optional_fields_and_a_space_in_its_name() {
        let text = "36 35 0:41 / /a\\040b rw,nosuid shared:1 master:2 - overlay overlay rw,lowerdir=/x\n";
        let [mount] = &mounts(text)[..] else { panic!() };
        assert_eq!((mount.at.as_str(), mount.kind.as_str()), ("/a b", "overlay"));
        assert_eq!(mount.super_options, "rw,lowerdir=/x");
        assert_eq!(mounts("no mount\n\n1 2 3 - \n"), []);
    }

    #[test]
    fn escapes_that_are_none_stay() {
        assert_eq!(unescape(r"a\134b\9\04"), r"a\b\9\04");
        assert_eq!(unescape("\\"), "\\");
    }

    #[test]
    fn layers_in_both_notations() {
        assert_eq!(overlay_layers("rw,lowerdir=/a:/b\\134:c:/d,upperdir=/u,workdir=/w"), (3, true));
        assert_eq!(overlay_layers("ro,lowerdir+=/a,lowerdir+=/b,datadir+=/c"), (3, false));
        assert_eq!(overlay_layers("ro,lowerdir=/a::/data"), (2, false));
        assert_eq!(overlay_layers("rw,seclabel"), (0, false));
    }

    #[test]
    fn status_and_maps() {
        let text = "Name:\thello\nCapEff:\t00000000a80425fb\nSeccomp:\t2\nSeccomp_filters:\t1\n";
        assert_eq!(status(text, "Seccomp"), Some("2"));
        assert_eq!(status(text, "Cap"), None);
        assert_eq!(id_map("         0     100000      65536\nbroken\n"), [(0, 100_000, 65_536)]);
        assert_eq!(inode("mnt:[4026531841]"), Some(4_026_531_841));
        assert_eq!(inode("socket"), None);
        assert_eq!(version("6.18-rc1"), Some((6, 18)));
        assert_eq!(version("unknown"), None);
        assert_eq!(host_namespaces("mnt=1,pid=x,,net=3"), [("mnt", 1), ("net", 3)]);
    }

    #[test]
    fn cgroups_of_both_versions() {
        assert_eq!(
            cgroups("4:memory:/a:b\n2:cpu,cpuacct:/\n0::/c\n"),
            [(vec!["memory"], "/a:b"), (vec!["cpu", "cpuacct"], "/"), (vec![], "/c")]
        );
        assert_eq!(limit("67108864\n"), Some(67_108_864));
        for none in ["max", "-1", "9223372036854771712", ""] {
            assert_eq!(limit(none), None, "{none}");
        }
    }

    #[test]
    fn addresses_find_their_interface() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 127.0.0.1\n        /32 host LOCAL\n     |-- 172.17.0.0\n        \
                    /16 link UNICAST\n     |-- 172.17.0.2\n        /32 host LOCAL\nLocal:\n     |-- 172.17.0.2\n        \
                    /32 host LOCAL\n";
        let own = own_addresses(trie);
        assert_eq!(own, [Ipv4Addr::LOCALHOST, Ipv4Addr::new(172, 17, 0, 2)]);
        let hex = |a: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(a));
        let (zero, gateway) = (hex([0; 4]), hex([172, 17, 0, 1]));
        let (net, mask) = (hex([172, 17, 0, 0]), hex([255, 255, 0, 0]));
        let routes = routes(&format!(
            "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU\n\
             eth0 {zero} {gateway} 0003 0 0 0 {zero} 0\neth0 {net} {zero} 0001 0 0 0 {mask} 0\n"
        ));
        assert_eq!(routes[0].via, Some(Ipv4Addr::new(172, 17, 0, 1)));
        assert_eq!(home(own[0], &routes), Some(("lo", 8)));
        assert_eq!(home(own[1], &routes), Some(("eth0", 16)));
        assert_eq!(home(Ipv4Addr::new(10, 0, 0, 1), &routes), None);
    }

    #[test]
    fn addresses_of_version_6() {
        let text = "00000000000000000000000000000001 01 80 10 80       lo\nbroken\n";
        assert_eq!(inet6(text), [("lo".to_owned(), Ipv6Addr::LOCALHOST, 128)]);
        assert_eq!(interfaces("Inter-|\n face |\n    lo: 0 0\n  eth0:1 2\n"), ["lo", "eth0"]);
    }

    #[test]
    fn capabilities_by_name() {
        assert_eq!(capabilities("0000000000000401"), ["chown", "net_bind_service"]);
        assert_eq!(capabilities("000001ffffffffff").len(), 41);
        assert_eq!(capabilities("0000020000000000"), ["number 41"]);
        assert!(capabilities("no hex").is_empty());
    }
}
