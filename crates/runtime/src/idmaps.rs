//! Id maps of a new user namespace: written by the parent, or for a user of the system by
//! `newuidmap(1)` and `newgidmap(1)`, which know what it was granted in `/etc/subuid` and `/etc/subgid`.

use std::{
    io::ErrorKind,
    process::{Command, Stdio},
};

use oci::IdMapping;
use rustix::io::Errno;

use crate::error::{During, Error, Result};

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
    fn ids_inside_are_found() {
        let map = [line(0, 1000, 1), line(5, 100_000, 2)];
        assert_eq!([0, 1, 5, 6, 7].map(|id| holds(&map, id)), [true, false, true, true, false]);
        assert_eq!(text(&map), "0 1000 1\n5 100000 2\n");
    }
}
