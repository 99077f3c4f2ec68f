//! Limits in the words of cgroup v2.

use oci::spec::{BlockIo, Cpu, Memory, Resources, ThrottleDevice};

use super::planning::{Limit, Limits, device, set};
use crate::error::{Error, Result};

/// The v2 controller that does what v1's `name` does.
pub(super) fn controller(name: &str) -> &str {
    if name == "blkio" { "io" } else { name }
}

/// Every limit of the controllers (by their v1 names) for which `ours` holds, but devices.
pub(super) fn limits(resources: &Resources, ours: impl Fn(&str) -> bool) -> Result<Vec<Limit>> {
    let mut list = Limits::default();
    if let Some(memory) = resources.memory.as_ref().filter(|_| ours("memory")) {
        memory_limits(memory, &mut list)?;
    }
    if let Some(cpu) = &resources.cpu {
        cpu_limits(cpu, &mut list, &ours)?;
    }
    if let Some(limit) = resources.pids.as_ref().and_then(|pids| pids.limit).filter(|_| ours("pids")) {
        list.add("pids", "pids.max", max_or(limit, limit <= 0));
    }
    if let Some(block) = resources.block_io.as_ref().filter(|_| ours("blkio")) {
        block_limits(block, &mut list)?;
    }
    for limit in resources.hugepage_limits.iter().filter(|_| ours("hugetlb")) {
        list.add("hugetlb", &format!("hugetlb.{}.max", limit.page_size), limit.limit);
        // Reservations are counted since Linux 5.7.
        list.add("hugetlb", &format!("hugetlb.{}.rsvd.max", limit.page_size), limit.limit).optional = true;
    }
    for (name, rdma) in resources.rdma.iter().filter(|_| ours("rdma")) {
        list.add("rdma", "rdma.max", super::planning::rdma_line(name, rdma));
    }
    Ok(list.0)
}

fn max_or(value: i64, unlimited: bool) -> String {
    if unlimited { "max".to_owned() } else { value.to_string() }
}

fn lacking(what: &str) -> Error {
    Error::new(format!("linux.resources.{what}: cgroup v2 has no such limit"))
}

fn refuse(lacking_here: &[(&str, bool)]) -> Result<()> {
    match lacking_here.iter().find(|(_, wanted)| *wanted) {
        Some((what, _)) => Err(lacking(what)),
        None => Ok(()),
    }
}

fn memory_limits(memory: &Memory, list: &mut Limits) -> Result<()> {
    refuse(&[
        ("memory.swappiness", super::planning::swappiness(memory).is_some()),
        ("memory.kernel", memory.kernel.is_some_and(|limit| limit > 0)),
        ("memory.kernelTCP", memory.kernel_tcp.is_some_and(|limit| limit > 0)),
        ("memory.disableOOMKiller", memory.disable_oom_killer == Some(true)),
        ("memory.useHierarchy=false", memory.use_hierarchy == Some(false)),
    ])?;
    let limit = set(memory.limit);
    if let Some(swap) = swap(set(memory.swap), limit)? {
        let write = list.add("memory", "memory.swap.max", &swap);
        // A kernel without swap keeps to these two by itself.
        write.optional = swap == "max" || swap == "0";
    }
    if let Some(limit) = limit {
        list.add("memory", "memory.max", max_or(limit, limit < 0));
    }
    if let Some(low) = set(memory.reservation) {
        list.add("memory", "memory.low", max_or(low, low < 0));
    }
    Ok(())
}

/// The spec's swap is memory and swap together; v2's is swap alone.
pub(super) fn swap(both: Option<i64>, limit: Option<i64>) -> Result<Option<String>> {
    match (both, limit) {
        (None, Some(limit)) if limit < 0 => Ok(Some("max".to_owned())),
        (None, _) => Ok(None),
        (Some(-1), _) => Ok(Some("max".to_owned())),
        (Some(both), Some(limit)) if both >= limit && limit > 0 => Ok(Some((both - limit).to_string())),
        (Some(both), limit) => {
            let limit = limit.map_or_else(|| "no limit".to_owned(), |limit| limit.to_string());
            Err(Error::new(format!(
                "memory.swap {both}: is memory and swap together and must be at least memory.limit ({limit})"
            )))
        }
    }
}

/// Shares of 2, 1024 and 262144 are weights of 1, 100 and 10000, with a curve through these three: runc's and crun's
/// since 2025. The straight line that they had before made 39 of the default.
pub(super) fn weight(shares: u64) -> u64 {
    if shares <= 2 {
        return 1;
    }
    if shares >= 262_144 {
        return 10_000;
    }
    let log = (shares as f64).log2();
    10_f64.powf((log * log + 125.0 * log) / 612.0 - 7.0 / 34.0).ceil() as u64
}

fn cpu_limits(cpu: &Cpu, list: &mut Limits, ours: &impl Fn(&str) -> bool) -> Result<()> {
    if ours("cpu") {
        refuse(&[
            ("cpu.realtimeRuntime", set(cpu.realtime_runtime).is_some()),
            ("cpu.realtimePeriod", set(cpu.realtime_period).is_some()),
        ])?;
        list.maybe("cpu", "cpu.idle", cpu.idle);
        list.maybe("cpu", "cpu.weight", set(cpu.shares).map(weight));
        list.maybe("cpu", "cpu.max.burst", cpu.burst);
        let quota = set(cpu.quota);
        if quota.is_some() || set(cpu.period).is_some() {
            let period = set(cpu.period).unwrap_or(100_000);
            let quota = quota.unwrap_or(-1);
            list.add("cpu", "cpu.max", format!("{} {period}", max_or(quota, quota < 0)));
        }
    }
    if ours("cpuset") {
        let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        list.maybe("cpuset", "cpuset.cpus", text(&cpu.cpus));
        list.maybe("cpuset", "cpuset.mems", text(&cpu.mems));
    }
    Ok(())
}

/// 10..=1000 on 1..=10000.
fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight.clamp(10, 1000)) - 10) * 9999 / 990
}

fn block_limits(block: &BlockIo, list: &mut Limits) -> Result<()> {
    refuse(&[
        ("blockIO.leafWeight", set(block.leaf_weight).is_some()),
        (
            "blockIO.weightDevice.leafWeight",
            block.weight_device.iter().any(|line| set(line.leaf_weight).is_some()),
        ),
    ])?;
    // BFQ counts as v1 did; the kernel's own cost model does not.
    if let Some(weight) = set(block.weight) {
        list.add("blkio", "io.bfq.weight", format!("default {weight}"))
            .instead("io.weight", format!("default {}", io_weight(weight)));
    }
    for line in &block.weight_device {
        if let Some(weight) = set(line.weight) {
            let at = device(line.major, line.minor);
            list.add("blkio", "io.bfq.weight", format!("{at} {weight}"))
                .instead("io.weight", format!("{at} {}", io_weight(weight)));
        }
    }
    let mut throttle = |key: &str, lines: &[ThrottleDevice]| {
        for line in lines {
            let rate = if line.rate == 0 { "max".to_owned() } else { line.rate.to_string() };
            list.add("blkio", "io.max", format!("{} {key}={rate}", device(line.major, line.minor)));
        }
    };
    throttle("rbps", &block.throttle_read_bps_device);
    throttle("wbps", &block.throttle_write_bps_device);
    throttle("riops", &block.throttle_read_iops_device);
    throttle("wiops", &block.throttle_write_iops_device);
    Ok(())
}
