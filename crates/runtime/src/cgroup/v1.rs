//! Limits in the words of cgroup v1.

use oci::spec::{BlockIo, Cpu, Memory, Resources, ThrottleDevice};

use super::{Limit, devices};

/// Every limit that is asked for, in an order in which the kernel takes them in a new group.
pub(super) fn limits(resources: &Resources) -> Vec<Limit> {
    let mut list = List::default();
    if let Some(memory) = &resources.memory {
        list.memory(memory);
    }
    if let Some(cpu) = &resources.cpu {
        list.cpu(cpu);
    }
    if let Some(limit) = resources.pids.as_ref().and_then(|pids| pids.limit) {
        let value = if limit > 0 { limit.to_string() } else { "max".to_owned() };
        list.add("pids", "pids.max", value);
    }
    if let Some(block) = &resources.block_io {
        list.block(block);
    }
    for limit in &resources.hugepage_limits {
        let file = format!("hugetlb.{}.limit_in_bytes", limit.page_size);
        list.add("hugetlb", &file, limit.limit);
    }
    if let Some(network) = &resources.network {
        list.maybe("net_cls", "net_cls.classid", network.class_id);
        for priority in &network.priorities {
            let value = format!("{} {}", priority.name, priority.priority);
            list.add("net_prio", "net_prio.ifpriomap", value);
        }
    }
    // A malformed rule has been refused by `spec::check`.
    for rule in devices::rules(&resources.devices).unwrap_or_default() {
        let file = if rule.allow { "devices.allow" } else { "devices.deny" };
        list.add("devices", file, rule.line());
    }
    list.0
}

#[derive(Default)]
struct List(Vec<Limit>);

impl List {
    fn add(&mut self, controller: &'static str, file: &str, value: impl std::fmt::Display) {
        self.0.push(Limit { controller, file: file.to_owned(), value: value.to_string() });
    }

    fn maybe(&mut self, controller: &'static str, file: &str, value: Option<impl std::fmt::Display>) {
        if let Some(value) = value {
            self.add(controller, file, value);
        }
    }

    fn memory(&mut self, memory: &Memory) {
        // 0 means "not set" in Docker's and runc's words.
        let set = |value: Option<i64>| value.filter(|value| *value != 0);
        // Memory and swap together must never be below memory alone: in a new group, memory first.
        self.maybe("memory", "memory.limit_in_bytes", set(memory.limit));
        self.maybe("memory", "memory.memsw.limit_in_bytes", set(memory.swap));
        self.maybe("memory", "memory.soft_limit_in_bytes", set(memory.reservation));
        self.maybe("memory", "memory.kmem.tcp.limit_in_bytes", set(memory.kernel_tcp));
        self.maybe("memory", "memory.swappiness", memory.swappiness.filter(|value| *value <= 100));
        if memory.disable_oom_killer == Some(true) {
            self.add("memory", "memory.oom_control", 1);
        }
    }

    fn cpu(&mut self, cpu: &Cpu) {
        let set = |value: Option<u64>| value.filter(|value| *value != 0);
        self.maybe("cpu", "cpu.shares", set(cpu.shares));
        self.maybe("cpu", "cpu.cfs_period_us", set(cpu.period));
        self.maybe("cpu", "cpu.cfs_quota_us", cpu.quota.filter(|quota| *quota != 0));
        self.maybe("cpu", "cpu.cfs_burst_us", cpu.burst);
        self.maybe("cpu", "cpu.rt_period_us", set(cpu.realtime_period));
        self.maybe("cpu", "cpu.rt_runtime_us", cpu.realtime_runtime.filter(|runtime| *runtime != 0));
        self.maybe("cpu", "cpu.idle", cpu.idle);
        let list = |list: &Option<String>| list.clone().filter(|list| !list.is_empty());
        self.maybe("cpuset", "cpuset.cpus", list(&cpu.cpus));
        self.maybe("cpuset", "cpuset.mems", list(&cpu.mems));
    }

    fn block(&mut self, block: &BlockIo) {
        self.maybe("blkio", "blkio.weight", block.weight.filter(|weight| *weight != 0));
        self.maybe("blkio", "blkio.leaf_weight", block.leaf_weight.filter(|weight| *weight != 0));
        for device in &block.weight_device {
            let weight = device.weight.map(|weight| format!("{}:{} {weight}", device.major, device.minor));
            self.maybe("blkio", "blkio.weight_device", weight);
        }
        let mut throttle = |file: &str, list: &[ThrottleDevice]| {
            for device in list {
                let value = format!("{}:{} {}", device.major, device.minor, device.rate);
                self.add("blkio", file, value);
            }
        };
        throttle("blkio.throttle.read_bps_device", &block.throttle_read_bps_device);
        throttle("blkio.throttle.write_bps_device", &block.throttle_write_bps_device);
        throttle("blkio.throttle.read_iops_device", &block.throttle_read_iops_device);
        throttle("blkio.throttle.write_iops_device", &block.throttle_write_iops_device);
    }
}
