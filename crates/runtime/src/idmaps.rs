//! Id maps of a new user namespace: checked as data, written by the parent, or for a user of the system by
//! `newuidmap(1)` and `newgidmap(1)`, which know what it was granted in `/etc/subuid` and `/etc/subgid`.

use std::{
    io::ErrorKind,
    process::{Command, Stdio},
};

use oci::IdMapping;
use rustix::io::Errno;

use crate::error::{During, Error, Result};

/// The most lines that the kernel takes (`UID_GID_MAP_MAX_EXTENTS`, Linux 4.15).
const MOST_LINES: usize = 340;

/// Refuses maps that the kernel would, naming the fault by its JSON path.
pub fn check(path: &str, map: &[IdMapping]) -> Result<()> {
    let bad = |index: usize, why: &str| Err(Error::new(format!("{path}[{index}]: {why}")));
    if map.len() > MOST_LINES {
        return Err(Error::new(format!("{path}: has {} lines, and {MOST_LINES} are the most", map.len())));
    }
    // One write is all that the kernel takes, and of that less than a page (user_namespaces(7)).
    let (length, page) = (text(map).len(), rustix::param::page_size());
    if length >= page {
        return Err(Error::new(format!("{path}: is {length} bytes long as text, and must be below {page}")));
    }
    for (index, line) in map.iter().enumerate() {
        let end = |first: u32| u64::from(first) + u64::from(line.size);
        // 4294967295 stands for no id at all.
        if line.size == 0 || end(line.container).max(end(line.host)) > u64::from(u32::MAX) {
            return bad(index, "its size must be 1 or more, and its last id below 4294967295");
        }
        let overlap = |first: fn(&IdMapping) -> u32, other: &IdMapping| {
            let (here, there) = (u64::from(first(line)), u64::from(first(other)));
            here < there + u64::from(other.size) && there < here + u64::from(line.size)
        };
        for (earlier, other) in map[..index].iter().enumerate() {
            if overlap(|line| line.container, other) || overlap(|line| line.host, other) {
                return bad(index, &format!("overlaps with line {earlier}"));
            }
        }
    }
    Ok(())
}

/// As the kernel reads and writes them.
pub fn text(map: &[IdMapping]) -> String {
    let line = |line: &IdMapping| format!("{} {} {}\n", line.container, line.host, line.size);
    map.iter().map(line).collect::<Vec<_>>().concat()
}

/// Whether `id` is an id inside.
pub fn holds(map: &[IdMapping], id: u32) -> bool {
    map.iter().any(|line| id.checked_sub(line.container).is_some_and(|offset| offset < line.size))
}

/// Writes both maps of the user namespace of process `pid`.
pub fn write(pid: i32, uids: &[IdMapping], gids: &[IdMapping]) -> Result<()> {
    let privileged = rustix::process::geteuid().is_root();
    // A user may map itself alone without help, if its process gives up setgroups(2) (user_namespaces(7)).
    let only = |map: &[IdMapping], own: u32| matches!(map, [line] if line.size == 1 && line.host == own);
    let own_gid = only(gids, rustix::process::getegid().as_raw());
    if !privileged && own_gid {
        let path = format!("/proc/{pid}/setgroups");
        std::fs::write(&path, "deny").during(|| format!("write \"deny\" to {path}"))?;
    }
    let own_uid = only(uids, rustix::process::geteuid().as_raw());
    one(pid, "uid", uids, privileged || own_uid)?;
    one(pid, "gid", gids, privileged || own_gid)
}

/// One map, in one write: the kernel takes no second one.
fn one(pid: i32, kind: &str, map: &[IdMapping], directly: bool) -> Result<()> {
    let path = format!("/proc/{pid}/{kind}_map");
    if directly {
        match std::fs::write(&path, text(map)) {
            Ok(()) => return Ok(()),
            // Root of a user namespace without a grant of its own.
            Err(error) if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) => {}
            Err(error) => {
                let error = Error::refused(format!("write {:?} to {path}", shown(map)), &error);
                return Err(error.hint_on(Errno::INVAL, "the map goes beyond the ids of this user namespace"));
            }
        }
    }
    with_help(pid, kind, map)
}

fn shown(map: &[IdMapping]) -> String {
    let text = text(map);
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default().to_owned();
    match lines.count() {
        0 => first,
        more => format!("{first} and {more} more lines"),
    }
}

fn with_help(pid: i32, kind: &str, map: &[IdMapping]) -> Result<()> {
    let program = format!("new{kind}map");
    let numbers = map.iter().flat_map(|line| [line.container, line.host, line.size]);
    let said = Command::new(&program)
        .arg(pid.to_string())
        .args(numbers.map(|number| number.to_string()))
        .stdin(Stdio::null())
        .output()
        .map_err(|error| {
            let error = if error.kind() == ErrorKind::NotFound {
                Error::new(format!("{program}: not found"))
            } else {
                Error::refused(format!("run {program}"), &error)
            };
            error.hint(format!(
                "only root may map more than its own id ({}); install Debian's package uidmap (elsewhere \
                 shadow-utils), or map the own id alone",
                shown(map)
            ))
        })?;
    if said.status.success() {
        return Ok(());
    }
    let reason = String::from_utf8_lossy(&said.stderr);
    let reason = reason.trim();
    Err(Error::new(format!(
        "{program} {}: {reason}: the ids must be granted to this user in /etc/sub{kind}",
        shown(map)
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(container: u32, host: u32, size: u32) -> IdMapping {
        IdMapping { container, host, size }
    }

    #[test]
    fn faults_are_named_by_their_line() {
        check("x", &[line(0, 1000, 1), line(1, 100_000, 65_536)]).unwrap();
        for (map, fault) in [
            (vec![line(0, 0, 0)], "x[0]"),
            (vec![line(0, u32::MAX - 1, 2)], "x[0]"),
            (vec![line(0, 1000, 10), line(9, 2000, 1)], "x[1]: overlaps with line 0"),
            (vec![line(0, 1000, 10), line(10, 1009, 1)], "x[1]: overlaps with line 0"),
            (vec![line(0, 0, 1); 341], "x: has 341 lines"),
            (vec![line(1 << 31, 1 << 31, 1); 200], "x: is 4800 bytes long"),
        ] {
            let error = check("x", &map).unwrap_err().to_string();
            assert!(error.starts_with(fault), "{error}");
        }
    }

    #[test]
    fn ids_inside_are_found() {
        let map = [line(0, 1000, 1), line(5, 100_000, 2)];
        assert_eq!([0, 1, 5, 6, 7].map(|id| holds(&map, id)), [true, false, true, true, false]);
        assert_eq!(text(&map), "0 1000 1\n5 100000 2\n");
    }
}
