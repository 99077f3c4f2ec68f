//! The facts as a person reads them.

use super::facts::{Facts, Limits, Namespace, Root};

/// Columns of the left margin, where the headings stand.
const MARGIN: usize = 14;
/// Where long lists wrap.
const WIDTH: usize = 100;

/// Several lines, the last one ended.
pub(crate) fn render(facts: &Facts) -> String {
    let mut out = String::from(if facts.contained() {
        "Hello from inside a container! This is what I see from here:\n\n"
    } else {
        "Hello! I see no container around me: every namespace I know of is the host's own.\n\n"
    });
    let user = &facts.user;
    let groups = if user.groups.is_empty() { "none".into() } else { join(&user.groups, ", ") };
    section(&mut out, "process", &[format!("pid {}", facts.pid)]);
    section(&mut out, "hostname", std::slice::from_ref(&facts.hostname));
    section(&mut out, "kernel", &[format!("Linux {}", facts.kernel)]);
    section(&mut out, "user", &[format!("uid {}, gid {}, groups {groups}", user.uid, user.gid)]);
    section(&mut out, "uid map", &map(&user.uid_map));
    section(&mut out, "gid map", &map(&user.gid_map));
    section(&mut out, "namespaces", &facts.namespaces.iter().map(namespace).collect::<Vec<_>>());
    section(&mut out, "root", &[facts.root.as_ref().map_or("not in sight".into(), root)]);
    section(&mut out, "limits", &limits(&facts.limits));
    section(&mut out, "network", &network(facts));
    section(&mut out, "capabilities", &capabilities(&facts.capabilities));
    section(&mut out, "seccomp", &[facts.seccomp.to_owned()]);
    let privileges =
        if facts.no_new_privileges { "never (no_new_privs)" } else { "possible, by set-uid programs" };
    section(&mut out, "new privileges", &[privileges.to_owned()]);
    section(&mut out, "mounts", &mounts(facts));
    out
}

fn section(out: &mut String, heading: &str, lines: &[String]) {
    for (at, line) in lines.iter().enumerate() {
        let heading = if at == 0 { heading } else { "" };
        out.push_str(format!("{heading:MARGIN$}  {line}").trim_end());
        out.push('\n');
    }
}

fn join<T: ToString>(items: &[T], between: &str) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(between)
}

fn map(ranges: &[(u64, u64, u64)]) -> Vec<String> {
    let line = |&(inside, outside, count): &(u64, u64, u64)| {
        if (inside, outside) == (0, 0) && count >= u64::from(u32::MAX) {
            return "identity: a number in here is the same number outside".to_owned();
        }
        format!(
            "{inside}…{} in here is {outside}…{} outside",
            inside + count.max(1) - 1,
            outside + count.max(1) - 1
        )
    };
    if ranges.is_empty() { vec!["empty".into()] } else { ranges.iter().map(line).collect() }
}

fn namespace(namespace: &Namespace) -> String {
    let whose = match namespace.own {
        Some(true) => "its own",
        Some(false) => "the host's",
        None => "the host's number is not known here",
    };
    format!("{:<6}  {}  {whose}", namespace.name, namespace.inode)
}

fn root(root: &Root) -> String {
    let access = if root.read_only { "read-only" } else { "writable" };
    match root.layers {
        None => format!("{}, {access}", root.kind),
        Some((lower, upper)) => {
            let top = if upper { " under one writable layer" } else { "" };
            let plural = if lower == 1 { "" } else { "s" };
            format!("{}, {access}: {lower} read-only layer{plural}{top}", root.kind)
        }
    }
}

fn limits(limits: &Limits) -> Vec<String> {
    let none = || "no limit".to_owned();
    let cpu = limits.cpu.map_or_else(none, |(quota, period)| {
        let hundredths = quota * 100 / period.max(1);
        format!("{}.{:02} of a processor ({quota} of every {period} µs)", hundredths / 100, hundredths % 100)
    });
    let swap = if limits.version == "v2" { "swap" } else { "mem+swap" };
    let mut lines = vec![
        format!("memory    {}", limits.memory.map_or_else(none, size)),
        format!("{swap:<8}  {}", limits.swap.map_or_else(none, size)),
        format!("cpu       {cpu}"),
    ];
    lines.extend(limits.cpu_weight.map(|weight| format!("weight    {weight}")));
    lines.extend(limits.cpuset.as_ref().map(|set| format!("cpuset    {set}")));
    lines.push(format!("pids      {}", limits.pids.map_or_else(none, |pids| pids.to_string())));
    lines.push(format!("cgroups   {}", limits.version));
    lines
}

fn size(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match units.iter().find(|(_, shift)| bytes >= 1 << shift && bytes.trailing_zeros() >= shift - 7) {
        // Three digits after the point are exact here: the seven lowest bits are eighths of eighths.
        Some((unit, shift)) => format!("{} {unit}", bytes as f64 / f64::from(1u32 << shift)),
        None => format!("{bytes} bytes"),
    }
}

fn network(facts: &Facts) -> Vec<String> {
    let address = |(address, prefix): &(std::net::IpAddr, u32)| format!("{address}/{prefix}");
    let mut lines: Vec<String> = facts
        .interfaces
        .iter()
        .map(|interface| {
            let addresses: Vec<_> = interface.addresses.iter().map(address).collect();
            let shown = if addresses.is_empty() { "no address".into() } else { addresses.join("  ") };
            format!("{:<8}  {shown}", interface.name)
        })
        .collect();
    if !facts.other_addresses.is_empty() {
        lines.push(format!("{:<8}  {}", "others", join(&facts.other_addresses, "  ")));
    }
    lines.extend(facts.gateway.map(|gateway| format!("{:<8}  {gateway}", "gateway")));
    if lines.is_empty() { vec!["no interface".into()] } else { lines }
}

/// Each set once; one that equals an earlier set only names it.
fn capabilities(sets: &[(&'static str, Vec<String>)]) -> Vec<String> {
    let mut lines = Vec::new();
    for (at, (name, set)) in sets.iter().enumerate() {
        let twin = sets[..at].iter().find(|(_, earlier)| earlier == set && !set.is_empty());
        let words: Vec<&str> = match (set.len(), twin) {
            (0, _) => vec!["none"],
            (_, Some((twin, _))) => vec!["as", twin],
            (41.., _) => vec!["all"],
            _ => set.iter().map(String::as_str).collect(),
        };
        for (at, line) in wrap(&words, WIDTH - MARGIN - 15).into_iter().enumerate() {
            let name = if at == 0 { name } else { "" };
            lines.push(format!("{name:<11}  {line}"));
        }
    }
    lines
}

fn wrap(words: &[&str], width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in words {
        let line = lines.last_mut().filter(|line| line.is_empty() || line.len() + 1 + word.len() <= width);
        match line {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) => line.extend([" ", word]),
            None => lines.push((*word).to_owned()),
        }
    }
    lines
}

fn mounts(facts: &Facts) -> Vec<String> {
    let longest = |of: fn(&super::parse::Mount) -> usize| facts.mounts.iter().map(of).max().unwrap_or(0);
    let at = longest(|mount| mount.at.chars().count()).min(40);
    let kind = longest(|mount| mount.kind.len());
    facts
        .mounts
        .iter()
        .map(|mount| format!("{:<at$}  {:<kind$}  {}", mount.at, mount.kind, mount.options))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_and_sizes() {
        assert_eq!(map(&[(0, 100_000, 65_536)]), ["0…65535 in here is 100000…165535 outside"]);
        assert!(map(&[(0, 0, 4_294_967_295)])[0].starts_with("identity"));
        assert_eq!(size(64 << 20), "64 MiB");
        assert_eq!(size((1 << 30) + (1 << 29)), "1.5 GiB");
        assert_eq!(size(1025), "1025 bytes");
    }

    #[test]
    fn roots() {
        let root_of = |layers| root(&Root { kind: "overlay".into(), read_only: false, layers });
        assert_eq!(root_of(Some((1, true))), "overlay, writable: 1 read-only layer under one writable layer");
        assert_eq!(root_of(None), "overlay, writable");
    }

    #[test]
    fn a_set_like_an_earlier_one_names_it() {
        let set = vec!["chown".to_owned()];
        let lines = capabilities(&[("effective", set.clone()), ("permitted", set), ("ambient", vec![])]);
        assert_eq!(lines, ["effective    chown", "permitted    as effective", "ambient      none"]);
    }

    #[test]
    fn words_wrap() {
        assert_eq!(wrap(&["aa", "bb", "cccccc"], 5), ["aa bb", "cccccc"]);
    }
}
