//! Which hierarchies this host has: from what is mounted, and from where the runtime itself is.

use std::{os::unix::fs::MetadataExt, path::PathBuf};

use crate::error::{During, Result};

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Where it is mounted.
    pub mount: PathBuf,
    /// `cpu`, `memory`, …, `name=systemd`; on v2 the controllers that its root offers.
    pub controllers: Vec<String>,
    /// Whether it is the v2 one.
    pub unified: bool,
    /// The runtime's own group in it, relative to `mount`.
    pub own: PathBuf,
}

impl Hierarchy {
    /// The directory name below `/sys/fs/cgroup` that programs look for.
    pub fn name(&self) -> String {
        if self.unified {
            return "unified".to_owned();
        }
        self.controllers.join(",").replace("name=", "")
    }

    pub(super) fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|name| name == controller)
    }
}

/// What is mounted, from `/proc/self/mountinfo` and `/proc/self/cgroup`.
pub fn detect() -> Result<Vec<Hierarchy>> {
    let read = |path: &str| std::fs::read_to_string(path).during(|| format!("read {path}"));
    let mut found = parse(&read("/proc/self/mountinfo")?, &read("/proc/self/cgroup")?, is_seen);
    for hierarchy in found.iter_mut().filter(|hierarchy| hierarchy.unified) {
        let offered = std::fs::read_to_string(hierarchy.mount.join("cgroup.controllers")).unwrap_or_default();
        hierarchy.controllers = offered.split_whitespace().map(str::to_owned).collect();
    }
    Ok(found)
}

/// Whether the file system `device` (`MAJOR:MINOR`) is what one finds at `target`: another mount may cover it.
fn is_seen(target: &str, device: &str) -> bool {
    let at = std::fs::metadata(target).map(|found| found.dev()).ok();
    at.is_some_and(|at| format!("{}:{}", rustix::fs::major(at), rustix::fs::minor(at)) == device)
}

/// A controller mounted twice counts once, at its first place; one that is covered does not count.
pub(super) fn parse(mountinfo: &str, own: &str, is_seen: impl Fn(&str, &str) -> bool) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mountinfo.lines() {
        let Some((mount, file_system)) = line.split_once(" - ") else {
            continue;
        };
        let mut words = file_system.split(' ');
        let (kind, options) = (words.next().unwrap_or_default(), words.nth(1).unwrap_or_default());
        let fields: Vec<&str> = mount.split(' ').collect();
        let &[_, _, device, _, target, ..] = fields.as_slice() else { continue };
        let controllers: Vec<String> = match kind {
            "cgroup2" => Vec::new(),
            "cgroup" => options
                .split(',')
                .filter(|word| !NOT_CONTROLLERS.contains(word) && !word.starts_with("release_agent="))
                .map(str::to_owned)
                .collect(),
            _ => continue,
        };
        let unified = kind == "cgroup2";
        if !is_seen(target, device) {
            continue;
        }
        if found.iter().any(|known| known.unified == unified && known.controllers == controllers) {
            continue;
        }
        found.push(Hierarchy {
            own: own_group(own, &controllers).unwrap_or_default(),
            mount: PathBuf::from(target),
            controllers,
            unified,
        });
    }
    found
}

/// Words among a v1 superblock's options that are no controller.
const NOT_CONTROLLERS: &[&str] =
    &["rw", "ro", "xattr", "noprefix", "clone_children", "cpuset_v2_mode", "none"];

fn own_group(own: &str, controllers: &[String]) -> Option<PathBuf> {
    own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, names, path) = (fields.next()?, fields.next()?, fields.next()?);
        let same = match controllers.first() {
            None => names.is_empty(),
            Some(first) => names.split(',').any(|name| name == first),
        };
        same.then(|| PathBuf::from(path.trim_start_matches('/')))
    })
}
