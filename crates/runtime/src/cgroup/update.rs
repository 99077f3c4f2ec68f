//! Changing the limits of a container that runs: all of a change, or nothing of it.

use std::{fs, path::Path};

use oci::spec::{BlockIo, Cpu, Memory, Resources, ThrottleDevice, WeightDevice};

use super::{Action, Hierarchy, Place, Unit, Write, act, devices, place_of, planning, systemd};
use crate::error::{Error, Result};

/// `old` with what `change` says instead.
pub fn merge(old: &Resources, change: &Resources) -> Resources {
    let mut new = old.clone();
    if let Some(memory) = &change.memory {
        merge_memory(new.memory.get_or_insert_default(), memory);
    }
    if let Some(cpu) = &change.cpu {
        merge_cpu(new.cpu.get_or_insert_default(), cpu);
    }
    if let Some(block) = &change.block_io {
        merge_block(new.block_io.get_or_insert_default(), block);
    }
    over(&mut new.pids, change.pids.as_ref());
    over(&mut new.network, change.network.as_ref());
    if !change.devices.is_empty() {
        new.devices.clone_from(&change.devices);
    }
    by_key(&mut new.hugepage_limits, &change.hugepage_limits, |limit| limit.page_size.clone());
    new.rdma.extend(change.rdma.clone());
    new.unified.extend(change.unified.clone());
    new
}

fn over<T: Clone>(old: &mut Option<T>, change: Option<&T>) {
    if let Some(change) = change {
        *old = Some(change.clone());
    }
}

/// 0 leaves what is there, as under runc.
fn over_set<T: Copy + Default + PartialEq>(old: &mut Option<T>, change: Option<T>) {
    if planning::set(change).is_some() {
        *old = change;
    }
}

fn by_key<T: Clone, K: PartialEq>(old: &mut Vec<T>, change: &[T], key: impl Fn(&T) -> K) {
    for line in change {
        old.retain(|known| key(known) != key(line));
        old.push(line.clone());
    }
}

fn merge_memory(old: &mut Memory, change: &Memory) {
    over_set(&mut old.limit, change.limit);
    over_set(&mut old.swap, change.swap);
    // Without a limit of memory there is none of memory and swap, unless it is named.
    if change.limit == Some(-1) && planning::set(change.swap).is_none() && old.swap.is_some() {
        old.swap = Some(-1);
    }
    over_set(&mut old.reservation, change.reservation);
    over_set(&mut old.kernel, change.kernel);
    over_set(&mut old.kernel_tcp, change.kernel_tcp);
    over(&mut old.swappiness, change.swappiness.as_ref());
    over(&mut old.disable_oom_killer, change.disable_oom_killer.as_ref());
    over(&mut old.use_hierarchy, change.use_hierarchy.as_ref());
    over(&mut old.check_before_update, change.check_before_update.as_ref());
}

fn merge_cpu(old: &mut Cpu, change: &Cpu) {
    over_set(&mut old.shares, change.shares);
    over_set(&mut old.quota, change.quota);
    over_set(&mut old.period, change.period);
    over(&mut old.burst, change.burst.as_ref());
    over_set(&mut old.realtime_runtime, change.realtime_runtime);
    over_set(&mut old.realtime_period, change.realtime_period);
    over(&mut old.idle, change.idle.as_ref());
    for (old, change) in [(&mut old.cpus, &change.cpus), (&mut old.mems, &change.mems)] {
        if change.as_deref().is_some_and(|list| !list.is_empty()) {
            old.clone_from(change);
        }
    }
}

fn merge_block(old: &mut BlockIo, change: &BlockIo) {
    over_set(&mut old.weight, change.weight);
    over_set(&mut old.leaf_weight, change.leaf_weight);
    by_key(&mut old.weight_device, &change.weight_device, |line: &WeightDevice| (line.major, line.minor));
    let key = |line: &ThrottleDevice| (line.major, line.minor);
    by_key(&mut old.throttle_read_bps_device, &change.throttle_read_bps_device, key);
    by_key(&mut old.throttle_write_bps_device, &change.throttle_write_bps_device, key);
    by_key(&mut old.throttle_read_iops_device, &change.throttle_read_iops_device, key);
    by_key(&mut old.throttle_write_iops_device, &change.throttle_write_iops_device, key);
}

/// What is to be written for a change: what it names, and what the kernel or v2 counts together with that.
fn touched(change: &Resources, new: &Resources) -> Resources {
    let mut touched = change.clone();
    touched.devices.clear();
    if let (Some(memory), Some(new)) = (&mut touched.memory, &new.memory)
        && (planning::set(memory.limit).is_some() || planning::set(memory.swap).is_some())
    {
        (memory.limit, memory.swap) = (new.limit, new.swap);
    }
    if let (Some(cpu), Some(new)) = (&mut touched.cpu, &new.cpu)
        && (planning::set(cpu.quota).is_some() || planning::set(cpu.period).is_some())
    {
        (cpu.quota, cpu.period) = (new.quota, new.period);
    }
    touched
}

/// A container's groups, as they are.
#[derive(Debug, Clone, Copy)]
pub struct Standing<'a> {
    /// The host's hierarchies.
    pub host: &'a [Hierarchy],
    /// Where the container is in them.
    pub places: &'a [Place],
    /// Its unit, if systemd made them.
    pub unit: Option<&'a Unit>,
    /// Its limits until now.
    pub resources: &'a Resources,
}

/// Writes a change of a container's limits; then `keep` is told what they are now. If either fails, what was there
/// before is written back.
pub fn update(
    standing: Standing<'_>,
    change: &Resources,
    keep: impl FnOnce(&Resources) -> Result<()>,
) -> Result<()> {
    let new = merge(standing.resources, change);
    planning::check(Some(&new))?;
    let (host, places): (Vec<Hierarchy>, Vec<Place>) = standing
        .places
        .iter()
        .filter_map(|place| {
            let hierarchy = standing.host.iter().find(|hierarchy| hierarchy.name() == place.name)?;
            Some((hierarchy.clone(), place.clone()))
        })
        .unzip();
    let touched = touched(change, &new);
    let values = planning::values(&host, &places, &touched)?;
    let (forth, back) = device_change(standing.places, standing.resources, change)?;
    if new.memory.as_ref().is_some_and(|memory| memory.check_before_update == Some(true)) {
        check_usage(&places, touched.memory.as_ref())?;
    }
    let mut undo = Undo { written: Vec::new(), devices: Vec::new(), unit: None };
    let only_v2 = host.iter().all(|hierarchy| hierarchy.unified);
    let result = standing
        .unit
        .map_or(Ok(()), |unit| {
            let properties = systemd::properties(only_v2, &touched)?;
            undo.unit = Some((unit, systemd::properties(only_v2, standing.resources)?));
            systemd::set_properties(unit, &properties)
        })
        .and_then(|()| undo.write_all(values.into_iter().map(|(_, action)| action)))
        .and_then(|()| {
            undo.devices = back;
            forth.iter().try_for_each(|action| action.run(&mut act::Held::default()))
        })
        .and_then(|()| keep(&new));
    result.map_err(|error| undo.take_back(error))
}

/// Device lists cannot be read back on v2: the way there, and the way back.
fn device_change(
    places: &[Place],
    old: &Resources,
    change: &Resources,
) -> Result<(Vec<Action>, Vec<Action>)> {
    if change.devices.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let place = place_of(places, "devices")
        .ok_or_else(|| Error::new("linux.resources.devices: the container has no group for them"))?;
    let (old, new) = (devices::rules(&old.devices)?, devices::rules(&change.devices)?);
    let group = &place.group;
    if place.unified {
        let filter = |rules| vec![Action::FilterDevices { group: group.clone(), rules }];
        return Ok((filter(new), filter(old)));
    }
    let (old, new) = (devices::List::of(&old)?, devices::List::of(&new)?);
    let lines = |from: &devices::List, to: &devices::List| -> Vec<Action> {
        from.transition(to).iter().map(|line| planning::device_line(group, line)).collect()
    };
    Ok((lines(&old, &new), lines(&new, &old)))
}

/// `checkBeforeUpdate`: v1's kernel refuses a limit below what is in use; v2's would end processes for it.
fn check_usage(places: &[Place], memory: Option<&Memory>) -> Result<()> {
    let limit = memory.and_then(|memory| memory.limit).filter(|limit| *limit > 0);
    let (Some(place), Some(limit)) = (place_of(places, "memory").filter(|place| place.unified), limit) else {
        return Ok(());
    };
    let usage = fs::read_to_string(place.group.join("memory.current")).unwrap_or_default();
    match usage.trim().parse::<i64>() {
        Ok(usage) if limit < usage => Err(Error::new(format!(
            "memory.limit {limit}: is below the {usage} bytes in use (checkBeforeUpdate)"
        ))),
        _ => Ok(()),
    }
}

/// What leads back.
struct Undo<'a> {
    written: Vec<Write>,
    devices: Vec<Action>,
    unit: Option<(&'a Unit, systemd::Properties)>,
}

impl Undo<'_> {
    fn write_all(&mut self, actions: impl Iterator<Item = Action>) -> Result<()> {
        let mut again = Vec::new();
        for action in actions {
            let Action::Write(write) = action else { continue };
            self.written.extend(before(&write));
            match write.run() {
                Err(error) if act::is_pair(&error) => again.push(write),
                result => result?,
            }
        }
        again.iter().try_for_each(Write::run)
    }

    /// Goes back as far as the kernel lets us, and says where it does not.
    fn take_back(self, error: Error) -> Error {
        let mut left: Vec<String> = Vec::new();
        for action in &self.devices {
            left.extend(action.run(&mut act::Held::default()).err().map(|error| error.to_string()));
        }
        let mut again: Vec<&Write> = Vec::new();
        for write in self.written.iter().rev() {
            match write.run() {
                Err(error) if act::is_pair(&error) => again.push(write),
                result => left.extend(result.err().map(|error| error.to_string())),
            }
        }
        left.extend(again.iter().filter_map(|write| write.run().err()).map(|error| error.to_string()));
        if let Some((unit, properties)) = &self.unit {
            left.extend(systemd::set_properties(unit, properties).err().map(|error| error.to_string()));
        }
        if left.is_empty() {
            error
        } else {
            error.hint(format!("and not all could be taken back: {}", left.join("; ")))
        }
    }
}

/// What would bring back the values that a write is about to replace.
fn before(write: &Write) -> Vec<Write> {
    let file = write.target();
    let Ok(text) = fs::read_to_string(file) else {
        return Vec::new();
    };
    let back = |value: String| Write { file: file.to_owned(), value, ..Write::default() };
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let lines = |key: &str| text.lines().find(|line| line.split(' ').next() == Some(key));
    if name == "memory.oom_control" {
        let line = lines("oom_kill_disable").and_then(|line| line.split(' ').nth(1));
        return line.map(|value| back(value.to_owned())).into_iter().collect();
    }
    let mut found = Vec::new();
    for line in write.value.lines() {
        let key = line.split(' ').next().unwrap_or_default();
        let keyed =
            key.contains(':') || key == "default" || name == "rdma.max" || name == "net_prio.ifpriomap";
        found.push(if keyed {
            back(lines(key).map_or_else(|| format!("{key} {}", unlimited(file)), str::to_owned))
        } else {
            back(text.trim().to_owned())
        });
    }
    found
}

/// What a line for a device says when there is no limit for it.
fn unlimited(file: &Path) -> &'static str {
    match file.file_name().unwrap_or_default().to_string_lossy().as_ref() {
        "io.max" => "rbps=max wbps=max riops=max wiops=max",
        "rdma.max" => "hca_handle=max hca_object=max",
        "io.weight" => "default",
        _ => "0",
    }
}
