//! Limits in the words of cgroup v1.

use oci::spec::{BlockIo, Cpu, Memory, Resources, ThrottleDevice};

use super::planning::{Limit, Limits, device, set};

/// Every limit that is asked for but devices, in an order in which the kernel takes them in a new group.
pub(super) fn limits(resources: &Resources) -> Vec<Limit> {
    let mut list = Limits::default();
    if let Some(memory) = &resources.memory {
        memory_limits(memory, &mut list);
    }
    if let Some(cpu) = &resources.cpu {
        cpu_limits(cpu, &mut list);
    }
    if let Some(limit) = resources.pids.as_ref().and_then(|pids| pids.limit) {
        let value = if limit > 0 { limit.to_string() } else { "max".to_owned() };
        list.add("pids", "pids.max", value);
    }
    if let Some(block) = &resources.block_io {
        block_limits(block, &mut list);
    }
    for limit in &resources.hugepage_limits {
        let file = |kind: &str| format!("hugetlb.{}.{kind}limit_in_bytes", limit.page_size);
        list.add("hugetlb", &file(""), limit.limit);
        // Reservations are counted since Linux 5.7.
        list.add("hugetlb", &file("rsvd."), limit.limit).optional = true;
    }
    for (name, rdma) in &resources.rdma {
        list.add("rdma", "rdma.max", super::planning::rdma_line(name, rdma));
    }
    if let Some(network) = &resources.network {
        list.maybe("net_cls", "net_cls.classid", network.class_id.filter(|id| *id != 0));
        for priority in &network.priorities {
            let value = format!("{} {}", priority.name, priority.priority);
            list.add("net_prio", "net_prio.ifpriomap", value);
        }
    }
    list.0
}

fn memory_limits(memory: &Memory, list: &mut Limits) {
    // 0 means "not set" in Docker's and runc's words. Memory and swap together must never be below memory alone: in a
    // new group, memory first; elsewhere the one that is refused is tried again after the other.
    list.maybe("memory", "memory.limit_in_bytes", set(memory.limit));
    list.maybe("memory", "memory.memsw.limit_in_bytes", set(memory.swap));
    if memory.limit == Some(-1) && set(memory.swap).is_none() {
        list.add("memory", "memory.memsw.limit_in_bytes", -1).optional = true;
    }
    list.maybe("memory", "memory.soft_limit_in_bytes", set(memory.reservation));
    list.maybe("memory", "memory.kmem.limit_in_bytes", memory.kernel.filter(|limit| *limit > 0));
    list.maybe("memory", "memory.kmem.tcp.limit_in_bytes", set(memory.kernel_tcp));
    list.maybe("memory", "memory.swappiness", super::planning::swappiness(memory));
    if let Some(hierarchy) = memory.use_hierarchy {
        list.add("memory", "memory.use_hierarchy", u8::from(hierarchy)).optional = hierarchy;
    }
    list.maybe("memory", "memory.oom_control", memory.disable_oom_killer.map(u8::from));
}

fn cpu_limits(cpu: &Cpu, list: &mut Limits) {
    list.maybe("cpu", "cpu.shares", set(cpu.shares));
    list.maybe("cpu", "cpu.cfs_period_us", set(cpu.period));
    list.maybe("cpu", "cpu.cfs_burst_us", cpu.burst);
    list.maybe("cpu", "cpu.cfs_quota_us", set(cpu.quota));
    list.maybe("cpu", "cpu.idle", cpu.idle);
    list.maybe("cpu", "cpu.rt_period_us", set(cpu.realtime_period));
    list.maybe("cpu", "cpu.rt_runtime_us", set(cpu.realtime_runtime));
    let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    list.maybe("cpuset", "cpuset.cpus", text(&cpu.cpus));
    list.maybe("cpuset", "cpuset.mems", text(&cpu.mems));
}

fn block_limits(block: &BlockIo, list: &mut Limits) {
    // The files of CFQ, which Linux 5.0 dropped, or BFQ's.
    if let Some(weight) = set(block.weight) {
        list.add("blkio", "blkio.weight", weight).instead("blkio.bfq.weight", weight);
    }
    list.maybe("blkio", "blkio.leaf_weight", set(block.leaf_weight));
    for line in &block.weight_device {
        let at = device(line.major, line.minor);
        if let Some(weight) = set(line.weight) {
            let value = format!("{at} {weight}");
            list.add("blkio", "blkio.weight_device", &value).instead("blkio.bfq.weight_device", &value);
        }
        let leaf = set(line.leaf_weight).map(|weight| format!("{at} {weight}"));
        list.maybe("blkio", "blkio.leaf_weight_device", leaf);
    }
    let mut throttle = |file: &str, lines: &[ThrottleDevice]| {
        for line in lines {
            list.add("blkio", file, format!("{} {}", device(line.major, line.minor), line.rate));
        }
    };
    throttle("blkio.throttle.read_bps_device", &block.throttle_read_bps_device);
    throttle("blkio.throttle.write_bps_device", &block.throttle_write_bps_device);
    throttle("blkio.throttle.read_iops_device", &block.throttle_read_iops_device);
    throttle("blkio.throttle.write_iops_device", &block.throttle_write_iops_device);
}
