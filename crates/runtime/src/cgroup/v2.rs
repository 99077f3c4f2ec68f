//! Limits in the words of cgroup v2.

use oci::spec::{BlockIo, Cpu, Memory, Resources, ThrottleDevice};

use super::{Hierarchy, Limit, v1};
use crate::error::{Error, Result};

/// Whether a v2 hierarchy with these controllers can do what v1's `name` does.
pub(super) fn serves(controllers: &[String], name: &str) -> bool {
    let v2_name = match name {
        "devices" => return true,
        "blkio" => "io",
        other => other,
    };
    controllers.iter().any(|controller| controller == v2_name)
}

/// The controllers to pass down to a container's group: all, for their statistics; beside v1 hierarchies only those
/// that a limit needs, because a group that passes controllers down may hold no process itself.
pub(super) fn passed_down(host: &[Hierarchy], hierarchy: &Hierarchy, resources: &Resources) -> Vec<String> {
    if !hierarchy.unified {
        return Vec::new();
    }
    if host.iter().all(|other| other.unified) {
        return hierarchy.controllers.clone();
    }
    let limits = v1::limits(resources);
    let needed = |name: &String| {
        limits.iter().any(|limit| {
            serves(std::slice::from_ref(name), limit.controller) && limit.controller != "devices"
        })
    };
    hierarchy.controllers.iter().filter(|name| needed(name)).cloned().collect()
}

/// Every limit that is asked for, but devices.
pub(super) fn limits(resources: &Resources) -> Result<Vec<Limit>> {
    let mut list = Vec::new();
    let mut add = |controller: &'static str, file: &str, value: String| {
        list.push(Limit { controller, file: file.to_owned(), value });
    };
    if let Some(memory) = &resources.memory {
        memory_limits(memory, &mut add)?;
    }
    if let Some(cpu) = &resources.cpu {
        cpu_limits(cpu, &mut add);
    }
    if let Some(limit) = resources.pids.as_ref().and_then(|pids| pids.limit) {
        add("pids", "pids.max", max_or(limit, |limit| limit <= 0));
    }
    if let Some(block) = &resources.block_io {
        block_limits(block, &mut add);
    }
    for limit in &resources.hugepage_limits {
        add("hugetlb", &format!("hugetlb.{}.max", limit.page_size), limit.limit.to_string());
    }
    Ok(list)
}

fn max_or(value: i64, unlimited: impl Fn(i64) -> bool) -> String {
    if unlimited(value) { "max".to_owned() } else { value.to_string() }
}

fn memory_limits(memory: &Memory, add: &mut impl FnMut(&'static str, &str, String)) -> Result<()> {
    let set = |value: Option<i64>| value.filter(|value| *value != 0);
    if let Some(limit) = set(memory.limit) {
        add("memory", "memory.max", max_or(limit, |limit| limit < 0));
    }
    if let Some(low) = set(memory.reservation) {
        add("memory", "memory.low", max_or(low, |low| low < 0));
    }
    // The spec's swap is memory and swap together; v2's is swap alone.
    match (set(memory.swap), set(memory.limit)) {
        (None, _) => {}
        (Some(-1), _) => add("memory", "memory.swap.max", "max".to_owned()),
        (Some(both), Some(limit)) if both >= limit && limit > 0 => {
            add("memory", "memory.swap.max", (both - limit).to_string());
        }
        (Some(both), limit) => {
            let limit = limit.map_or_else(|| "no limit".to_owned(), |limit| limit.to_string());
            return Err(Error::new(format!(
                "memory.swap {both}: is memory and swap together and must be at least memory.limit ({limit})"
            )));
        }
    }
    Ok(())
}

fn cpu_limits(cpu: &Cpu, add: &mut impl FnMut(&'static str, &str, String)) {
    if let Some(shares) = cpu.shares.filter(|shares| *shares != 0) {
        // 2..=262144 shares on 1..=10000 of weight, as every runtime does.
        let weight = 1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142;
        add("cpu", "cpu.weight", weight.to_string());
    }
    let period = cpu.period.filter(|period| *period != 0);
    if let Some(quota) = cpu.quota.filter(|quota| *quota != 0) {
        let period = period.unwrap_or(100_000);
        add("cpu", "cpu.max", format!("{} {period}", max_or(quota, |quota| quota < 0)));
    } else if let Some(period) = period {
        add("cpu", "cpu.max", format!("max {period}"));
    }
    if let Some(burst) = cpu.burst {
        add("cpu", "cpu.max.burst", burst.to_string());
    }
    if let Some(idle) = cpu.idle {
        add("cpu", "cpu.idle", idle.to_string());
    }
    for (file, value) in [("cpuset.cpus", &cpu.cpus), ("cpuset.mems", &cpu.mems)] {
        if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
            add("cpuset", file, value.clone());
        }
    }
}

fn block_limits(block: &BlockIo, add: &mut impl FnMut(&'static str, &str, String)) {
    if let Some(weight) = block.weight.filter(|weight| *weight != 0) {
        // 10..=1000 on 1..=10000.
        let weight = 1 + (u64::from(weight.clamp(10, 1000)) - 10) * 9999 / 990;
        add("blkio", "io.weight", format!("default {weight}"));
    }
    let mut throttle = |key: &str, list: &[ThrottleDevice]| {
        for device in list {
            let rate = if device.rate == 0 { "max".to_owned() } else { device.rate.to_string() };
            add("blkio", "io.max", format!("{}:{} {key}={rate}", device.major, device.minor));
        }
    };
    throttle("rbps", &block.throttle_read_bps_device);
    throttle("wbps", &block.throttle_write_bps_device);
    throttle("riops", &block.throttle_read_iops_device);
    throttle("wiops", &block.throttle_write_iops_device);
}
