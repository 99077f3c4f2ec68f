//! Id maps: whole, without overlap, and within what this process was granted itself.

use std::fs;

use oci::{IdMapping, spec::Spec};

use super::fault;
use crate::{
    error::{During, Result},
    idmaps,
};

/// Lines that the kernel takes (Linux 4.15).
const LINES: usize = 340;

/// Checks the maps of a new user namespace for themselves.
pub(super) fn check(path: &str, map: &[IdMapping]) -> Result<()> {
    if map.len() > LINES {
        return Err(fault(path, format!("{} lines; the kernel takes {LINES}", map.len())));
    }
    // One write is all that it takes, and of that less than a page (user_namespaces(7)).
    let (length, page) = (idmaps::text(map).len(), rustix::param::page_size());
    if length >= page {
        return Err(fault(path, format!("{length} bytes as text; the kernel takes less than {page}")));
    }
    for (index, line) in map.iter().enumerate() {
        let at = format!("{path}[{index}]");
        if line.size == 0 {
            return Err(fault(format!("{at}.size"), "must be at least 1"));
        }
        for (name, first) in [("containerID", line.container), ("hostID", line.host)] {
            // The last id of all means none.
            if u64::from(first) + u64::from(line.size) > u64::from(u32::MAX) {
                return Err(fault(
                    format!("{at}.{name}"),
                    format!("{first} and {} ids are too many", line.size),
                ));
            }
        }
    }
    overlap(path, "containerID", map, |line| line.container)?;
    overlap(path, "hostID", map, |line| line.host)
}

fn overlap(path: &str, name: &str, map: &[IdMapping], first: impl Fn(&IdMapping) -> u32) -> Result<()> {
    let mut order: Vec<usize> = (0..map.len()).collect();
    order.sort_by_key(|index| first(&map[*index]));
    match order.windows(2).find(|pair| first(&map[pair[0]]) + map[pair[0]].size > first(&map[pair[1]])) {
        Some(pair) => {
            let (one, other) = (pair[0].min(pair[1]), pair[0].max(pair[1]));
            Err(fault(format!("{path}[{other}].{name}"), format!("overlaps {path}[{one}]")))
        }
        None => Ok(()),
    }
}

/// Who the process is to be must be somebody there, as must root, as whom the container is set up.
pub(super) fn check_users(spec: &Spec, uids: &[IdMapping], gids: &[IdMapping]) -> Result<()> {
    let user = spec.process.as_ref().map(|process| process.user.clone()).unwrap_or_default();
    let wanted = [
        ("linux.uidMappings", uids, 0),
        ("linux.gidMappings", gids, 0),
        ("process.user.uid", uids, user.uid),
        ("process.user.gid", gids, user.gid),
    ];
    if let Some((path, _, id)) = wanted.into_iter().find(|(_, map, id)| !idmaps::holds(map, *id)) {
        return Err(fault(path, format!("id {id} of the container is not mapped")));
    }
    match user.additional_gids.iter().position(|gid| !idmaps::holds(gids, *gid)) {
        Some(index) => Err(fault(format!("process.user.additionalGids[{index}]"), "is not mapped")),
        None => Ok(()),
    }
}

/// Ids from `first` on.
#[derive(Debug, Clone, Copy)]
struct Range {
    first: u32,
    size: u32,
}

/// Ids outside must be ours to give: within our own user namespace, and for somebody without privileges their own id or
/// what `/etc/subuid` and `/etc/subgid` grant them.
pub(super) fn check_grant(uids: &[IdMapping], gids: &[IdMapping]) -> Result<()> {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    for (path, map, own, file, grants) in [
        ("linux.uidMappings", uids, uid.as_raw(), "/proc/self/uid_map", "/etc/subuid"),
        ("linux.gidMappings", gids, gid.as_raw(), "/proc/self/gid_map", "/etc/subgid"),
    ] {
        let text = fs::read_to_string(file).during(|| format!("read {file}"))?;
        let granted = if uid.is_root() {
            whole(&text)
        } else {
            let mut granted = subordinate(grants, uid.as_raw());
            granted.push(Range { first: own, size: 1 });
            granted
        };
        let inside = |line: &IdMapping| {
            granted.iter().any(|range| {
                let offset = line.host.checked_sub(range.first);
                offset.is_some_and(|offset| u64::from(offset) + u64::from(line.size) <= u64::from(range.size))
            })
        };
        if let Some(index) = map.iter().position(|line| !inside(line)) {
            let (IdMapping { host, size, .. }, by) = (map[index], if uid.is_root() { file } else { grants });
            let why = format!("{size} ids from {host} on are not granted by {by}");
            return Err(fault(format!("{path}[{index}].hostID"), why));
        }
    }
    Ok(())
}

/// The ids that are there in this user namespace, neighbours joined.
fn whole(map: &str) -> Vec<Range> {
    let mut lines: Vec<Range> = map
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace().map(str::parse);
            let (Some(Ok(first)), Some(Ok(size))) = (fields.next(), fields.nth(1)) else { return None };
            Some(Range { first, size })
        })
        .collect();
    lines.sort_by_key(|range| range.first);
    lines.into_iter().fold(Vec::new(), |mut joined: Vec<Range>, range| {
        match joined.last_mut() {
            Some(last) if last.first.checked_add(last.size) == Some(range.first) => last.size += range.size,
            _ => joined.push(range),
        }
        joined
    })
}

/// `subuid(5)`: lines of a name or number, the first id, and how many.
fn subordinate(file: &str, uid: u32) -> Vec<Range> {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    });
    let text = fs::read_to_string(file).unwrap_or_default();
    let lines = text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let who = fields.next()?;
        let (first, size) = (fields.next()?.parse().ok()?, fields.next()?.trim().parse().ok()?);
        (Some(who) == name || who.parse() == Ok(uid)).then_some(Range { first, size })
    });
    lines.collect()
}

/// Both maps of the container's new user namespace, or of none; containerd describes a joined one by them as well.
pub(super) fn check_maps(spec: &Spec, creates: bool, has: bool) -> Result<()> {
    let linux = spec.linux.clone().unwrap_or_default();
    let maps = [("linux.uidMappings", &linux.uid_mappings), ("linux.gidMappings", &linux.gid_mappings)];
    for (path, map) in maps {
        match (creates, map.is_empty()) {
            (true, true) => return Err(fault(path, "is missing: a new user namespace needs both maps")),
            (false, false) if !has => {
                return Err(fault(path, "needs a user namespace in linux.namespaces"));
            }
            _ => check(path, map)?,
        }
    }
    if creates { check_users(spec, &linux.uid_mappings, &linux.gid_mappings) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_ids_are_joined() {
        let joined = whole("0 1000 1\n1 100000 65535\n70000 5 2\n");
        let ends: Vec<(u32, u32)> = joined.iter().map(|range| (range.first, range.size)).collect();
        assert_eq!(ends, [(0, 65_536), (70_000, 2)]);
    }
}
