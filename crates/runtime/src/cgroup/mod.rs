//! Control groups: which hierarchies this host has, and one container's place in each.
//!
//! v1, v2 and the hybrid of both are told apart at run time from what is mounted. Everything that will be made and
//! written is computed first ([`plan`]), as text; [`apply`] does it.

mod act;
mod devices;
mod enter;
mod filter;
mod freeze;
mod host;
mod oom;
mod planning;
mod remove;
mod stats;
mod systemd;
mod update;
mod v1;
mod v2;

pub use act::{Held, apply};
pub use devices::Rule as DeviceRule;
pub use enter::{Places, SubGroups};
pub use freeze::{freeze, is_frozen};
pub use host::{Hierarchy, detect};
pub use oom::Watch;
pub use planning::{Wanted, check, plan};
pub use remove::{group_pids, kill_all, remove};
pub use stats::stats;
pub use systemd::{Manager, Properties, Unit, Value};
pub use update::{Standing, merge, update};

use std::path::PathBuf;

use crate::record::{Describe, Description};

/// Something to be done to a container's groups before its first process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Ask systemd for a unit, and wait until it is there.
    StartUnit {
        /// Which.
        unit: Unit,
        /// Its limits in systemd's words.
        properties: systemd::Properties,
    },
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
        /// A limit wants it, or it was named: without it there is no container, also not for a user who may not make
        /// groups.
        needed: bool,
    },
    /// Set a value.
    Write(Write),
    /// Load and attach a device filter (v2), in place of those that are there.
    FilterDevices {
        /// The group's directory.
        group: PathBuf,
        /// In the order in which they are to be read; for each of `r`, `w` and `m` the last match decides.
        rules: Vec<devices::Rule>,
    },
    /// Let a user of the container's manage groups below this one (v2).
    Delegate {
        /// The group's directory.
        group: PathBuf,
        /// The user, as the host sees it.
        owner: u32,
    },
}

/// A value for a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Write {
    /// The file.
    pub file: PathBuf,
    /// Its value; each line is written on its own.
    pub value: String,
    /// Where a kernel that lacks the file has the same, in other words.
    pub instead: Option<(PathBuf, String)>,
    /// A kernel that lacks it lacks nothing that was asked for.
    pub optional: bool,
}

impl Describe for Action {
    fn describe(&self) -> Description {
        match self {
            Action::StartUnit { unit, properties } => {
                let names: Vec<&str> = properties.iter().map(|(name, _)| name.as_str()).collect();
                Description::new(format!("start unit {}", unit.name))
                    .with("slice", &unit.slice)
                    .with("properties", names.join(" "))
            }
            Action::Make { group, .. } => Description::new(format!("make cgroup {}", group.display())),
            Action::Write(Write { file, value, .. }) => {
                Description::new(format!("write {}", file.display())).with("value", value)
            }
            Action::FilterDevices { group, rules } => {
                Description::new(format!("filter devices of {}", group.display()))
                    .with("rules", rules.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
            }
            Action::Delegate { group, owner } => {
                Description::new(format!("delegate cgroup {}", group.display())).with("owner", owner)
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

impl Place {
    /// Whether it is the v1 hierarchy that has `controller`.
    fn is_of(&self, controller: &str) -> bool {
        !self.unified && self.name.split(',').any(|name| name == controller)
    }
}

/// The v1 group of `controller`, or else the v2 group.
fn place_of<'p>(places: &'p [Place], controller: &str) -> Option<&'p Place> {
    let v1 = places.iter().find(|place| place.is_of(controller));
    v1.or_else(|| places.iter().find(|place| place.unified))
}

/// What will be made, and where the container will be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// In order.
    pub actions: Vec<Action>,
    /// One for each hierarchy.
    pub places: Vec<Place>,
    /// The systemd unit that the groups belong to, if systemd makes them.
    pub unit: Option<Unit>,
}

#[cfg(test)]
mod tests;
