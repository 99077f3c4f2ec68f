//! The systemd driver: a container's groups as those of a transient scope, which systemd makes, watches and lists.
//!
//! Properties come from the spec's limits alone. Annotations never become properties (CVE-2024-3154: a pod's
//! annotation became `ExecStart` of a unit of root's).

mod bus;
mod wire;

use std::{
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    time::Duration,
};

use oci::spec::Resources;
use rustix::process::{Signal, WaitId, WaitIdOptions, set_parent_process_death_signal, waitid};
use serde::{Deserialize, Serialize};

use super::{act, devices, planning, v2};
use crate::error::{During, Error, Result};
use bus::Bus;
pub use bus::Value;

/// Names and values, in order.
pub type Properties = Vec<(String, Value)>;

/// Which systemd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Manager {
    /// The host's.
    System,
    /// A user's own, of this id.
    User(u32),
}

impl Manager {
    /// The one that serves whoever calls the runtime.
    pub fn of_caller() -> Self {
        if act::is_rootless() { Self::User(host_uid()) } else { Self::System }
    }
}

/// Our user as the namespace above sees it.
pub(super) fn host_uid() -> u32 {
    let own = rustix::process::geteuid().as_raw();
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let lines = map.lines().filter_map(|line| {
        let mut numbers = line.split_whitespace().filter_map(|word| word.parse::<u32>().ok());
        let (inside, outside, count) = (numbers.next()?, numbers.next()?, numbers.next()?);
        own.checked_sub(inside).filter(|offset| *offset < count).map(|offset| outside + offset)
    });
    lines.into_iter().next().unwrap_or(own)
}

/// A transient scope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// `knarr-c1.scope`
    pub name: String,
    /// `system.slice`
    pub slice: String,
    /// Whose.
    pub manager: Manager,
}

impl Unit {
    /// Reads a `cgroupsPath` of the form `slice:prefix:name`; missing parts are `system.slice` (a user's:
    /// `user.slice`), `knarr` and the id.
    pub fn read(path: Option<&str>, id: &str, manager: Manager) -> Result<Self> {
        let path = path.unwrap_or_default();
        let bad = |why: &str| {
            Err(Error::new(format!(
                "cgroupsPath {path:?}: with --systemd-cgroup it is slice:prefix:name: {why}"
            )))
        };
        let parts: Vec<&str> = path.split(':').collect();
        let (slice, prefix, name) = match parts.as_slice() {
            [""] => ("", "knarr", id),
            [slice, prefix, name] => (*slice, *prefix, *name),
            _ => return bad("it has not three parts"),
        };
        let default = if manager == Manager::System { "system.slice" } else { "user.slice" };
        let slice = if slice.is_empty() { default } else { slice };
        let name = if prefix.is_empty() { format!("{name}.scope") } else { format!("{prefix}-{name}.scope") };
        let plain =
            |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte));
        if !plain(&name)
            || !plain(slice)
            || name.len() > 255
            || slice.len() > 255
            || name.starts_with(".scope")
        {
            return bad("a unit's name is of at most 255 letters, digits and :-_.\\@");
        }
        if expand(slice).is_none() {
            return bad("a slice's name is of the form a-b-c.slice");
        }
        Ok(Self { name, slice: slice.to_owned(), manager })
    }

    /// Where systemd puts its groups, from each hierarchy's root.
    pub fn group(&self) -> PathBuf {
        let top = match self.manager {
            Manager::System => PathBuf::from("/"),
            Manager::User(uid) => PathBuf::from(format!("/user.slice/user-{uid}.slice/user@{uid}.service")),
        };
        top.join(expand(&self.slice).unwrap_or_default()).join(&self.name)
    }
}

/// `a-b.slice` is in `a.slice`; `-.slice` is the root.
fn expand(slice: &str) -> Option<PathBuf> {
    let name = slice.strip_suffix(".slice")?;
    if name == "-" {
        return Some(PathBuf::new());
    }
    let mut path = PathBuf::new();
    let mut above = String::new();
    for part in name.split('-') {
        if part.is_empty() || part == "." || part == ".." {
            return None;
        }
        above = if above.is_empty() { part.to_owned() } else { format!("{above}-{part}") };
        path.push(format!("{above}.slice"));
    }
    Some(path)
}

/// A process that keeps a new scope alive until the container's own is in it: systemd makes none without.
#[derive(Debug)]
pub(super) struct Holder {
    pid: i32,
    pidfd: OwnedFd,
}

impl Holder {
    fn new() -> Result<Self> {
        let what = || "fork a process to begin the scope with";
        if let Some((pid, pidfd)) = sys::process::fork(sys::process::Fork::default()).during(what)? {
            return Ok(Self { pid, pidfd });
        }
        // It must not outlive us, and has nothing to do.
        let with_us = set_parent_process_death_signal(Some(Signal::KILL));
        while with_us.is_ok() {
            std::thread::sleep(Duration::from_hours(1));
        }
        std::process::exit(1);
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = sys::process::signal(self.pidfd.as_fd(), 9);
        let _ = waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED);
    }
}

const UNIT_EXISTS: &str = "org.freedesktop.systemd1.UnitExists";
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";

/// Starts the scope, and waits until it is there.
pub(super) fn start(unit: &Unit, limits: &[(String, Value)]) -> Result<Holder> {
    let mut bus = Bus::connect(unit.manager)?;
    let holder = Holder::new()?;
    let text = |text: &str| Value::Text(text.to_owned());
    let mut properties: Properties = vec![
        ("Description".to_owned(), text(&format!("container {}", unit.name))),
        ("Slice".to_owned(), text(&unit.slice)),
        ("PIDs".to_owned(), Value::Numbers(vec![holder.pid as u32])),
        // What we write into the groups, and what the container makes below, is left alone.
        ("Delegate".to_owned(), Value::Flag(true)),
        // It is for the engine to say what ends first on shutdown.
        ("DefaultDependencies".to_owned(), Value::Flag(false)),
    ];
    properties.extend_from_slice(limits);
    let what = || format!("start unit {}", unit.name);
    if let Err(error) = bus.start_unit(&unit.name, &properties) {
        if error.name != UNIT_EXISTS {
            return Err(error.during(what()));
        }
        // A failed one of the same name stays in systemd's memory until it is told to forget it.
        let _ = bus.reset_failed(&unit.name);
        bus.start_unit(&unit.name, &properties).map_err(|error| error.during(what()))?;
    }
    let group = bus.control_group(&unit.name).map_err(|error| error.during(what()))?;
    if Path::new(&group) != unit.group() {
        let _ = bus.stop_unit(&unit.name);
        let expected = unit.group();
        return Err(Error::new(format!("{}: its group is {group}, not {}", what(), expected.display())));
    }
    Ok(holder)
}

/// Changes a unit's limits, until the next boot.
pub(super) fn set_properties(unit: &Unit, properties: &[(String, Value)]) -> Result<()> {
    let mut bus = Bus::connect(unit.manager)?;
    bus.set_properties(&unit.name, properties)
        .map_err(|error| error.during(format!("set properties of unit {}", unit.name)))
}

/// Stops a unit, and makes systemd forget it.
pub(super) fn stop(unit: &Unit) -> Result<()> {
    let mut bus = Bus::connect(unit.manager)?;
    match bus.stop_unit(&unit.name) {
        Err(error) if error.name != NO_SUCH_UNIT => {
            return Err(error.during(format!("stop unit {}", unit.name)));
        }
        _ => {}
    }
    // A unit that did not fail is not known any more, which is as well.
    let _ = bus.reset_failed(&unit.name);
    Ok(())
}

/// `u64::MAX` is systemd's "infinity".
fn bytes(value: i64) -> Value {
    Value::Number(u64::try_from(value).unwrap_or(u64::MAX))
}

/// The limits that systemd knows, in its words for v1 or v2: it writes them again whenever it is reloaded.
pub(super) fn properties(only_v2: bool, resources: &Resources) -> Result<Properties> {
    let mut list = Properties::new();
    let mut add = |name: &str, value: Value| list.push((name.to_owned(), value));
    for name in ["MemoryAccounting", "CPUAccounting", "TasksAccounting"] {
        add(name, Value::Flag(true));
    }
    add(if only_v2 { "IOAccounting" } else { "BlockIOAccounting" }, Value::Flag(true));
    if let Some(memory) = &resources.memory {
        let limit = planning::set(memory.limit);
        if let Some(limit) = limit {
            add(if only_v2 { "MemoryMax" } else { "MemoryLimit" }, bytes(limit));
        }
        if only_v2 {
            if let Some(low) = planning::set(memory.reservation) {
                add("MemoryLow", bytes(low));
            }
            if let Some(swap) = v2::swap(planning::set(memory.swap), limit)? {
                add("MemorySwapMax", Value::Number(swap.parse().unwrap_or(u64::MAX)));
            }
        }
    }
    if let Some(cpu) = &resources.cpu {
        if let Some(shares) = planning::set(cpu.shares) {
            let (name, value) =
                if only_v2 { ("CPUWeight", v2::weight(shares)) } else { ("CPUShares", shares) };
            add(name, Value::Number(value));
        }
        quota(planning::set(cpu.quota), planning::set(cpu.period), &mut add);
        if only_v2 {
            for (name, list) in [("AllowedCPUs", &cpu.cpus), ("AllowedMemoryNodes", &cpu.mems)] {
                if let Some(list) = list.as_deref().filter(|list| !list.is_empty()) {
                    add(name, Value::Bytes(bits(list)?));
                }
            }
        }
    }
    if let Some(limit) = resources.pids.as_ref().and_then(|pids| pids.limit) {
        add("TasksMax", bytes(if limit > 0 { limit } else { -1 }));
    }
    let weight = resources.block_io.as_ref().and_then(|block| planning::set(block.weight));
    if let Some(weight) = weight.filter(|_| !only_v2) {
        add("BlockIOWeight", Value::Number(weight.into()));
    }
    if only_v2 {
        for (file, value) in &resources.unified {
            raw(file, value.trim(), &mut add)?;
        }
    }
    device_properties(&devices::rules(&resources.devices)?, &mut add);
    Ok(list)
}

fn quota(quota: Option<i64>, period: Option<u64>, add: &mut impl FnMut(&str, Value)) {
    if let Some(period) = period {
        add("CPUQuotaPeriodUSec", Value::Number(period));
    }
    if quota.is_some() || period.is_some() {
        let positive = quota.and_then(|quota| u64::try_from(quota).ok());
        // systemd keeps whole percents: never less than what the container's own files say.
        let per_second = positive
            .map(|quota| {
                (u128::from(quota) * 1_000_000 / u128::from(period.unwrap_or(100_000))).div_ceil(10_000)
                    * 10_000
            })
            .map_or(u64::MAX, |value| u64::try_from(value).unwrap_or(u64::MAX));
        add("CPUQuotaPerSecUSec", Value::Number(per_second));
    }
}

/// v2 files that systemd has a property for.
const RAW: [(&str, &str); 7] = [
    ("cpu.weight", "CPUWeight"),
    ("memory.high", "MemoryHigh"),
    ("memory.low", "MemoryLow"),
    ("memory.max", "MemoryMax"),
    ("memory.min", "MemoryMin"),
    ("memory.swap.max", "MemorySwapMax"),
    ("pids.max", "TasksMax"),
];

fn raw(file: &str, value: &str, add: &mut impl FnMut(&str, Value)) -> Result<()> {
    let bad = || Error::new(format!("linux.resources.unified: {file}: {value:?} is no value for systemd"));
    let number =
        |text: &str| if text == "max" { Ok(u64::MAX) } else { text.parse::<u64>().map_err(|_| bad()) };
    match file {
        "cpu.max" => {
            let (most, period) = value.split_once(' ').unwrap_or((value, "100000"));
            let most = if most == "max" { -1 } else { most.parse().map_err(|_| bad())? };
            quota(Some(most), Some(number(period).ok().filter(|period| *period > 0).ok_or_else(bad)?), add);
        }
        "cpuset.cpus" => add("AllowedCPUs", Value::Bytes(bits(value)?)),
        "cpuset.mems" => add("AllowedMemoryNodes", Value::Bytes(bits(value)?)),
        _ => {
            if let Some((_, name)) = RAW.iter().find(|(known, _)| *known == file) {
                add(name, Value::Number(number(value)?));
            }
        }
    }
    Ok(())
}

/// A list such as `0-3,7`, as bits, the lowest first.
pub(super) fn bits(list: &str) -> Result<Vec<u8>> {
    let bad = || Error::new(format!("{list:?}: is no list such as 0-3,7"));
    let mut found = Vec::new();
    for part in list.trim().split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<usize>().ok().filter(|number| *number < 8192);
        let (first, last) = (number(first).ok_or_else(bad)?, number(last).ok_or_else(bad)?);
        if first > last {
            return Err(bad());
        }
        for number in first..=last {
            if found.len() <= number / 8 {
                found.resize(number / 8 + 1, 0);
            }
            found[number / 8] |= 1 << (number % 8);
        }
    }
    Ok(found)
}

fn device_properties(rules: &[devices::Rule], add: &mut impl FnMut(&str, Value)) {
    if rules.is_empty() {
        return;
    }
    let allowed = devices::List::of(rules).ok().and_then(|list| list.allowed());
    // systemd can only list what is allowed: anything else is left to the filter that we attach ourselves.
    add("DevicePolicy", Value::Text(if allowed.is_some() { "strict" } else { "auto" }.to_owned()));
    // What was there before is emptied, then filled.
    add("DeviceAllow", Value::Pairs(Vec::new()));
    if let Some(allowed) = allowed {
        let pairs = allowed.iter().filter_map(|rule| Some((node(rule)?, rule.access.clone()))).collect();
        add("DeviceAllow", Value::Pairs(pairs));
    }
}

/// systemd's words for device nodes; none for one minor of all majors.
fn node(rule: &devices::Rule) -> Option<String> {
    let kind = if rule.kind == 'b' { "block" } else { "char" };
    match (rule.major, rule.minor) {
        (Some(major), Some(minor)) => Some(format!("/dev/{kind}/{major}:{minor}")),
        (Some(major), None) => Some(format!("{kind}-{major}")),
        (None, None) => Some(format!("{kind}-*")),
        (None, Some(_)) => None,
    }
}

#[cfg(test)]
mod tests;
