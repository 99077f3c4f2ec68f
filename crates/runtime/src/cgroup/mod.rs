//! Control groups: which hierarchies this host has, and one container's place in each.
//!
//! v1, v2 and the hybrid of both are told apart at run time from what is mounted. Everything that will be made and
//! written is computed first ([`plan`]), as text.

mod act;
mod devices;
mod filter;
mod v1;
mod v2;

pub use act::{Places, freeze, group_pids, is_frozen, remove};
pub use devices::Rule as DeviceRule;

use std::{
    os::unix::fs::MetadataExt,
    path::{Component, Path, PathBuf},
};

use oci::spec::Resources;

use crate::{
    error::{During, Error, Result},
    record::{Describe, Description},
};

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

    fn has(&self, controller: &str) -> bool {
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
fn parse(mountinfo: &str, own: &str, is_seen: impl Fn(&str, &str) -> bool) -> Vec<Hierarchy> {
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

/// Something to be done to a container's groups before its first process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Make a group and what is missing above it. For a v1 cpuset, fill empty lists from the parent; for v2, pass
    /// these controllers down.
    Make {
        /// Where the hierarchy is mounted; existing groups above are never below this.
        mount: PathBuf,
        /// The group's directory.
        group: PathBuf,
        /// v1 cpuset: lists are inherited by hand.
        cpuset: bool,
        /// v2: what `cgroup.subtree_control` gets on the way.
        controllers: Vec<String>,
    },
    /// Set a value.
    Write {
        /// The file.
        file: PathBuf,
        /// Its value.
        value: String,
    },
    /// Load and attach a device filter (v2).
    FilterDevices {
        /// The group's directory.
        group: PathBuf,
        /// In the order in which they are to be read; the last match wins.
        rules: Vec<devices::Rule>,
    },
}

impl Describe for Action {
    fn describe(&self) -> Description {
        match self {
            Action::Make { group, .. } => Description::new(format!("make cgroup {}", group.display())),
            Action::Write { file, value } => {
                Description::new(format!("write {}", file.display())).with("value", value)
            }
            Action::FilterDevices { group, rules } => {
                Description::new(format!("filter devices of {}", group.display()))
                    .with("rules", rules.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
            }
        }
    }
}

/// A container's place in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Place {
    /// The hierarchy's name, as [`Hierarchy::name`].
    pub name: String,
    /// The group's directory.
    pub group: PathBuf,
    /// Whether it is the v2 hierarchy.
    pub unified: bool,
}

/// What will be made, and where the container will be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// In order.
    pub actions: Vec<Action>,
    /// One for each hierarchy.
    pub places: Vec<Place>,
}

/// Computes a container's groups; `path` is the spec's `cgroupsPath`: from each hierarchy's root if absolute, else
/// (or missing: the id) below the runtime's own group.
pub fn plan(host: &[Hierarchy], path: Option<&str>, id: &str, resources: &Resources) -> Result<Plan> {
    let path = Path::new(path.filter(|path| !path.is_empty()).unwrap_or(id));
    if path.components().any(|part| part == Component::ParentDir) || path == Path::new("/") {
        return Err(Error::new(format!(
            "cgroupsPath {}: must name a group of its own, without `..`",
            path.display()
        )));
    }
    let mut plan = Plan::default();
    for hierarchy in host {
        let group = match path.strip_prefix("/") {
            Ok(absolute) => hierarchy.mount.join(absolute),
            Err(_) => hierarchy.mount.join(&hierarchy.own).join(path),
        };
        plan.actions.push(Action::Make {
            mount: hierarchy.mount.clone(),
            group: group.clone(),
            cpuset: !hierarchy.unified && hierarchy.has("cpuset"),
            controllers: v2::passed_down(host, hierarchy, resources),
        });
        plan.places.push(Place { name: hierarchy.name(), group, unified: hierarchy.unified });
    }
    limits(host, &mut plan, resources)?;
    Ok(plan)
}

fn limits(host: &[Hierarchy], plan: &mut Plan, resources: &Resources) -> Result<()> {
    let mut wanted: Vec<Limit> = v1::limits(resources);
    let mut used = vec![false; wanted.len()];
    for (hierarchy, place) in host.iter().zip(&plan.places) {
        if hierarchy.unified {
            continue;
        }
        for (limit, used) in wanted.iter().zip(&mut used) {
            if hierarchy.has(limit.controller) {
                *used = true;
                plan.actions.push(limit.at(&place.group));
            }
        }
    }
    let pairs = wanted.drain(..).zip(used);
    let missing: Vec<&str> = pairs.filter(|(_, used)| !used).map(|(limit, _)| limit.controller).collect();
    if missing.is_empty() && resources.unified.is_empty() {
        return Ok(());
    }
    let unified = host.iter().position(|hierarchy| hierarchy.unified);
    let on_v2 = unified.is_some_and(|index| {
        let controllers = &host[index].controllers;
        missing.iter().all(|name| v2::serves(controllers, name))
    });
    match unified {
        Some(index) if on_v2 => {
            let group = plan.places[index].group.clone();
            let limits = v2::limits(resources)?;
            let left = limits.iter().filter(|limit| missing.contains(&limit.controller));
            plan.actions.extend(left.map(|limit| limit.at(&group)));
            if missing.contains(&"devices") {
                let rules = devices::rules(&resources.devices)?;
                plan.actions.push(Action::FilterDevices { group, rules });
            }
            let raw = resources.unified.iter();
            let group = &plan.places[index].group;
            plan.actions.extend(
                raw.map(|(file, value)| Action::Write { file: group.join(file), value: value.clone() }),
            );
            Ok(())
        }
        _ if missing.is_empty() => Err(Error::new("linux.resources.unified: needs cgroup v2")),
        _ => Err(Error::new(format!(
            "limit of {}: no hierarchy of this host has that cgroup controller",
            missing[0]
        ))),
    }
}

/// A value for a file of whichever hierarchy has the controller.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Limit {
    /// By its v1 name.
    controller: &'static str,
    file: String,
    value: String,
}

impl Limit {
    fn at(&self, group: &Path) -> Action {
        Action::Write { file: group.join(&self.file), value: self.value.clone() }
    }
}

/// Refuses resources that cannot be understood.
pub fn check(resources: Option<&Resources>) -> Result<()> {
    let Some(resources) = resources else {
        return Ok(());
    };
    if !resources.rdma.is_empty() {
        return Err(Error::new("linux.resources.rdma: not supported"));
    }
    devices::rules(&resources.devices).map(drop)
}

#[cfg(test)]
mod tests;
