//! From the spec's resources to what will be made and written, on this host.

use std::{
    fmt::Display,
    path::{Component, Path, PathBuf},
};

use oci::spec::{Memory, Rdma, Resources};

use super::{Action, Hierarchy, Manager, Place, Plan, Unit, Write, devices, systemd, v1, v2};
use crate::error::{Error, Result};

/// What a container asks for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The spec's `cgroupsPath`: from each hierarchy's root if absolute, else (or missing: the id) below the runtime's
    /// own group. With `systemd`: `slice:prefix:name`.
    pub path: Option<&'a str>,
    /// The container's id.
    pub id: &'a str,
    /// The spec's limits.
    pub resources: &'a Resources,
    /// `--systemd-cgroup`: whose systemd makes them.
    pub systemd: Option<Manager>,
    /// Who, as the host sees it, may make groups below the container's (v2).
    pub owner: Option<u32>,
}

/// Computes a container's groups.
pub fn plan(host: &[Hierarchy], wanted: &Wanted<'_>) -> Result<Plan> {
    let unit = wanted.systemd.map(|manager| Unit::read(wanted.path, wanted.id, manager)).transpose()?;
    let mut plan = Plan { unit, ..Plan::default() };
    let path = match &plan.unit {
        Some(unit) => unit.group(),
        None => named(wanted.path, wanted.id)?,
    };
    let only_v2 = host.iter().all(|hierarchy| hierarchy.unified);
    for hierarchy in host {
        let group = match path.strip_prefix("/") {
            Ok(absolute) => hierarchy.mount.join(absolute),
            // On v2 a group with processes, such as ours, passes no controller down: beside it, as runc does.
            Err(_) if only_v2 => {
                hierarchy.mount.join(hierarchy.own.parent().unwrap_or(Path::new(""))).join(&path)
            }
            Err(_) => hierarchy.mount.join(&hierarchy.own).join(&path),
        };
        plan.places.push(Place { name: hierarchy.name(), group, unified: hierarchy.unified });
    }
    let values = values(host, &plan.places, wanted.resources)?;
    if let Some(unit) = &plan.unit {
        let properties = systemd::properties(only_v2, wanted.resources)?;
        plan.actions.push(Action::StartUnit { unit: unit.clone(), properties });
    }
    // As under runc: who names a group wants it.
    let by_name = wanted.systemd.is_none() && wanted.path.is_some_and(|path| !path.is_empty());
    for (hierarchy, place) in host.iter().zip(&plan.places) {
        plan.actions.push(make(hierarchy, place, only_v2, by_name, &values));
    }
    plan.actions.extend(values.into_iter().map(|(_, action)| action));
    if let Some(owner) = wanted.owner {
        let unified = plan.places.iter().find(|place| place.unified);
        plan.actions.extend(unified.map(|place| Action::Delegate { group: place.group.clone(), owner }));
    }
    Ok(plan)
}

fn named(path: Option<&str>, id: &str) -> Result<PathBuf> {
    let path = Path::new(path.filter(|path| !path.is_empty()).unwrap_or(id));
    let plain = path.components().all(|part| matches!(part, Component::Normal(_) | Component::RootDir));
    let names_one = path.components().any(|part| matches!(part, Component::Normal(_)));
    let text = path.to_string_lossy();
    if !plain || !names_one || text.contains(['\0', '\n']) {
        return Err(Error::new(format!(
            "cgroupsPath {text:?}: must name a group of its own, without `..` or `.` and on one line"
        )));
    }
    Ok(path.to_owned())
}

/// An action for each limit, with the (v1) name of its controller.
type Values = Vec<(&'static str, Action)>;

fn make(hierarchy: &Hierarchy, place: &Place, only_v2: bool, by_name: bool, values: &Values) -> Action {
    let here = |action: &Action| match action {
        Action::Write(Write { file, .. }) => file.parent() == Some(&place.group),
        _ => false,
    };
    let limits: Vec<&(&str, Action)> = values.iter().filter(|(_, action)| here(action)).collect();
    let controllers = match hierarchy.unified {
        false => Vec::new(),
        // All of them, for their statistics.
        true if only_v2 => hierarchy.controllers.clone(),
        // Beside v1 only those that a limit needs: a group that passes controllers down may hold no process itself.
        true => {
            let needed =
                |name: &&String| limits.iter().any(|(controller, _)| v2::controller(controller) == *name);
            hierarchy.controllers.iter().filter(needed).cloned().collect()
        }
    };
    Action::Make {
        mount: hierarchy.mount.clone(),
        group: place.group.clone(),
        cpuset: !hierarchy.unified && hierarchy.has("cpuset"),
        controllers,
        // That no device may be opened is no wish that a user could not do without, who cannot make one.
        needed: by_name || limits.iter().any(|(controller, _)| *controller != "devices"),
    }
}

/// Every limit, each on v1 where its controller is there, else on v2.
pub(super) fn values(host: &[Hierarchy], places: &[Place], resources: &Resources) -> Result<Values> {
    check(Some(resources))?;
    let v1_place = |controller: &str| {
        let mut v1 = host.iter().zip(places).filter(|(hierarchy, _)| !hierarchy.unified);
        v1.find(|(hierarchy, _)| hierarchy.has(controller)).map(|(_, place)| place)
    };
    let mut values = Values::new();
    let mut missing: Vec<&'static str> = Vec::new();
    for limit in v1::limits(resources) {
        match v1_place(limit.controller) {
            Some(place) => values.push((limit.controller, limit.at(&place.group))),
            None => missing.push(limit.controller),
        }
    }
    let rules = devices::rules(&resources.devices)?;
    let unified = host.iter().zip(places).find(|(hierarchy, _)| hierarchy.unified);
    if !missing.is_empty() {
        let served = |name: &str| unified.is_some_and(|(hierarchy, _)| hierarchy.has(v2::controller(name)));
        if let Some(name) = missing.iter().find(|name| !served(name)) {
            return Err(Error::new(format!(
                "limit of {name}: no hierarchy of this host has that cgroup controller"
            )));
        }
        let limits = v2::limits(resources, |name| missing.contains(&name))?;
        let group = unified.map(|(_, place)| place.group.clone()).unwrap_or_default();
        values.extend(limits.into_iter().map(|limit| (limit.controller, limit.at(&group))));
    }
    if !rules.is_empty() {
        match (v1_place("devices"), unified) {
            (Some(place), _) => {
                let lines = devices::List::of(&rules)?.lines(&rules);
                values.extend(lines.iter().map(|line| ("devices", device_line(&place.group, line))));
            }
            (None, Some((_, place))) => {
                values.push(("devices", Action::FilterDevices { group: place.group.clone(), rules }));
            }
            (None, None) => {
                return Err(Error::new("linux.resources.devices: this host has no cgroup hierarchy"));
            }
        }
    }
    raw(resources, unified, &mut values)?;
    Ok(values)
}

pub(super) fn device_line(group: &Path, rule: &devices::Rule) -> Action {
    let file = group.join(if rule.allow { "devices.allow" } else { "devices.deny" });
    Action::Write(Write { file, value: rule.line(), ..Write::default() })
}

/// v2 files by their names.
fn raw(resources: &Resources, unified: Option<(&Hierarchy, &Place)>, values: &mut Values) -> Result<()> {
    let bad = |file: &str, why: &str| Err(Error::new(format!("linux.resources.unified: {file:?} {why}")));
    for (file, value) in &resources.unified {
        let Some((hierarchy, place)) = unified else {
            return bad(file, "needs cgroup v2, which is not mounted");
        };
        let controller = file.split('.').next().unwrap_or_default();
        let offered = hierarchy.controllers.iter().find(|name| *name == controller);
        if offered.is_none() && controller != "cgroup" {
            return bad(
                file,
                &format!("needs the controller {controller}, which the v2 hierarchy does not have"),
            );
        }
        // The static name of the controller, which `make` looks for to pass it down.
        let known = CONTROLLERS.iter().find(|name| v2::controller(name) == controller).unwrap_or(&"");
        let write =
            Write { file: place.group.join(file), value: value.trim().to_owned(), ..Write::default() };
        values.push((known, Action::Write(write)));
    }
    Ok(())
}

/// By their v1 names.
const CONTROLLERS: [&str; 9] =
    ["blkio", "cpu", "cpuset", "dmem", "hugetlb", "memory", "misc", "pids", "rdma"];

/// A value for a file of whichever hierarchy has the controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Limit {
    /// By its v1 name.
    pub(super) controller: &'static str,
    file: String,
    value: String,
    instead: Option<(String, String)>,
    /// Nothing is lost without the file.
    pub(super) optional: bool,
}

impl Limit {
    fn at(self, group: &Path) -> Action {
        Action::Write(Write {
            file: group.join(self.file),
            value: self.value,
            instead: self.instead.map(|(file, value)| (group.join(file), value)),
            optional: self.optional,
        })
    }

    /// Where a kernel without the file has the same.
    pub(super) fn instead(&mut self, file: &str, value: impl Display) {
        self.instead = Some((file.to_owned(), value.to_string()));
    }
}

/// Limits in the order in which they will be written.
#[derive(Default)]
pub(super) struct Limits(pub(super) Vec<Limit>);

impl Limits {
    pub(super) fn add(&mut self, controller: &'static str, file: &str, value: impl Display) -> &mut Limit {
        let index = self.0.len();
        self.0.push(Limit {
            controller,
            file: file.to_owned(),
            value: value.to_string(),
            instead: None,
            optional: false,
        });
        &mut self.0[index]
    }

    pub(super) fn maybe(&mut self, controller: &'static str, file: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.add(controller, file, value);
        }
    }
}

/// 0 means "not set" in Docker's and runc's words.
pub(super) fn set<N: Default + PartialEq>(value: Option<N>) -> Option<N> {
    value.filter(|value| *value != N::default())
}

/// Docker's -1, which is the largest number here, means "not set".
pub(super) fn swappiness(memory: &Memory) -> Option<u64> {
    memory.swappiness.filter(|value| *value != u64::MAX)
}

pub(super) fn device(major: i64, minor: i64) -> String {
    format!("{major}:{minor}")
}

pub(super) fn rdma_line(name: &str, rdma: &Rdma) -> String {
    let part =
        |key: &str, value: Option<u32>| value.map(|value| format!(" {key}={value}")).unwrap_or_default();
    format!("{name}{}{}", part("hca_handle", rdma.hca_handles), part("hca_object", rdma.hca_objects))
}

/// Refuses resources that cannot be understood, whatever the host.
pub fn check(resources: Option<&Resources>) -> Result<()> {
    let Some(resources) = resources else {
        return Ok(());
    };
    let bad = |what: String| Err(Error::new(format!("linux.resources.{what}")));
    let word = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
    for (name, rdma) in &resources.rdma {
        if !word(name) || (rdma.hca_handles.is_none() && rdma.hca_objects.is_none()) {
            return bad(format!("rdma: {name:?} needs a device's name, and hcaHandles or hcaObjects"));
        }
    }
    for limit in &resources.hugepage_limits {
        if !is_page_size(&limit.page_size) {
            return bad(format!(
                "hugepageLimits: pageSize {:?} is none such as 64KB, 2MB, 1GB",
                limit.page_size
            ));
        }
    }
    for priority in resources.network.iter().flat_map(|network| &network.priorities) {
        if !word(&priority.name) {
            return bad(format!("network.priorities: {:?} is no interface's name", priority.name));
        }
    }
    if let Some(value) = resources.memory.as_ref().and_then(swappiness).filter(|value| *value > 100) {
        return bad(format!("memory.swappiness: {value} is not in 0..=100"));
    }
    if let Some(cpu) = &resources.cpu {
        for (name, list) in [("cpus", &cpu.cpus), ("mems", &cpu.mems)] {
            let list = list.as_deref().unwrap_or_default();
            if !list.bytes().all(|byte| byte.is_ascii_digit() || b",- \n".contains(&byte)) {
                return bad(format!("cpu.{name}: {list:?} is no list such as 0-3,7"));
            }
        }
    }
    for file in resources.unified.keys() {
        let plain = file.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        let two_parts =
            file.split_once('.').is_some_and(|(controller, rest)| !controller.is_empty() && !rest.is_empty());
        if !plain || !two_parts || file.contains("..") {
            return bad(format!("unified: {file:?} is no file's name as CONTROLLER.PARAMETER"));
        }
        // These move and end processes; no limit is in them.
        if ["cgroup.procs", "cgroup.threads", "cgroup.kill"].contains(&file.as_str()) {
            return bad(format!("unified: {file:?} is no limit"));
        }
    }
    devices::rules(&resources.devices).map(drop)
}

fn is_page_size(text: &str) -> bool {
    let unit = text.trim_start_matches(|letter: char| letter.is_ascii_digit());
    unit.len() < text.len() && ["B", "KB", "MB", "GB"].contains(&unit)
}
