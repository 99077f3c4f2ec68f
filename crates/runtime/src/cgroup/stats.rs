//! What a container has used, as `runc events --stats` prints it.

use std::{fs, path::Path, str::FromStr};

use serde_json::{Map, Value, json};

use super::{Place, place_of};

/// The statistics of a container's groups, with runc's members; what a hierarchy does not have is left out.
pub fn stats(places: &[Place]) -> Value {
    let of =
        |controller: &str, v1: fn(&Path) -> Value, v2: fn(&Path) -> Value| match place_of(places, controller)
        {
            Some(place) if place.unified => v2(&place.group),
            Some(place) => v1(&place.group),
            None => json!({}),
        };
    let mut cpu = of("cpu", cpu_throttling, cpu_v2);
    if let Some(place) = place_of(places, "cpuacct").filter(|place| !place.unified) {
        cpu["usage"] = cpu_usage(&place.group);
    }
    json!({
        "cpu": cpu,
        "cpuset": of("cpuset", cpuset, |_| cpuset_numbers(Path::new(""))),
        "memory": of("memory", memory, memory_v2),
        "pids": of("pids", pids, pids),
        "blkio": of("blkio", block, block_v2),
        "hugetlb": of("hugetlb", |group| huge_pages(group, &HUGE_V1), |group| huge_pages(group, &HUGE_V2)),
        "intel_rdt": {},
        "network_interfaces": null,
    })
}

fn text(group: &Path, file: &str) -> Option<String> {
    fs::read_to_string(group.join(file)).ok()
}

fn number<N: FromStr>(group: &Path, file: &str) -> Option<N> {
    text(group, file)?.trim().parse().ok()
}

/// A limit; `max` is the largest number.
fn limit(group: &Path, file: &str) -> u64 {
    match text(group, file).as_deref().map(str::trim) {
        Some("max") => u64::MAX,
        Some(text) => text.parse().unwrap_or(0),
        None => 0,
    }
}

/// Lines of a name and a number.
fn table(group: &Path, file: &str) -> Map<String, Value> {
    let text = text(group, file).unwrap_or_default();
    let pairs = text.lines().filter_map(|line| line.split_once(' '));
    pairs.filter_map(|(name, value)| Some((name.to_owned(), value.parse::<u64>().ok()?.into()))).collect()
}

fn entry(table: &Map<String, Value>, name: &str) -> u64 {
    table.get(name).and_then(Value::as_u64).unwrap_or(0)
}

/// An object without the members that are 0 or empty, as Go's `omitempty` makes it.
fn omit_empty(members: &[(&str, Value)]) -> Value {
    let kept = members.iter().filter(|(_, value)| {
        *value != 0 && !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty())
    });
    Value::Object(kept.map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
}

fn cpu_throttling(group: &Path) -> Value {
    let stat = table(group, "cpu.stat");
    json!({ "usage": {}, "throttling": throttling(&stat, entry(&stat, "throttled_time")) })
}

fn throttling(stat: &Map<String, Value>, nanoseconds: u64) -> Value {
    omit_empty(&[
        ("periods", entry(stat, "nr_periods").into()),
        ("throttledPeriods", entry(stat, "nr_throttled").into()),
        ("throttledTime", nanoseconds.into()),
    ])
}

fn cpu_usage(group: &Path) -> Value {
    // Ticks of USER_HZ, which is 100 on every architecture that knarr runs on.
    let stat = table(group, "cpuacct.stat");
    let ticks = |name: &str| entry(&stat, name) * (1_000_000_000 / 100);
    let each: Vec<u64> = text(group, "cpuacct.usage_percpu")
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|number| number.parse().ok())
        .collect();
    let all = text(group, "cpuacct.usage_all").unwrap_or_default();
    let column = |index: usize| -> Vec<u64> {
        let lines = all.lines().skip(1).filter_map(|line| line.split(' ').nth(index));
        lines.filter_map(|number| number.parse().ok()).collect()
    };
    let mut usage = omit_empty(&[
        ("total", number::<u64>(group, "cpuacct.usage").into()),
        ("percpu", each.into()),
        ("percpu_kernel", column(2).into()),
        ("percpu_user", column(1).into()),
    ]);
    usage["kernel"] = ticks("system").into();
    usage["user"] = ticks("user").into();
    usage
}

fn cpu_v2(group: &Path) -> Value {
    let stat = table(group, "cpu.stat");
    let nanoseconds = |name: &str| entry(&stat, name) * 1000;
    let mut usage = omit_empty(&[("total", nanoseconds("usage_usec").into())]);
    usage["kernel"] = nanoseconds("system_usec").into();
    usage["user"] = nanoseconds("user_usec").into();
    let throttling = throttling(&stat, nanoseconds("throttled_usec"));
    with_pressure(json!({ "usage": usage, "throttling": throttling }), group, "cpu.pressure")
}

/// Pressure stall information, where the kernel keeps it.
fn with_pressure(mut object: Value, group: &Path, file: &str) -> Value {
    let mut found = Map::new();
    for line in text(group, file).unwrap_or_default().lines() {
        let mut words = line.split(' ');
        let kind = words.next().unwrap_or_default().to_owned();
        let pairs = words.filter_map(|word| word.split_once('='));
        let values =
            pairs.filter_map(|(name, value)| Some((name.to_owned(), serde_json::from_str(value).ok()?)));
        found.insert(kind, Value::Object(values.collect()));
    }
    if !found.is_empty() {
        object["psi"] = Value::Object(found);
    }
    object
}

/// `0-2,5` as numbers.
fn list(group: &Path, file: &str) -> Vec<u16> {
    let text = text(group, file).unwrap_or_default();
    let ranges = text.trim().split(',').filter_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<u16>().ok()?..=last.parse::<u16>().ok()?)
    });
    ranges.flatten().collect()
}

fn cpuset(group: &Path) -> Value {
    let mut object = cpuset_numbers(group);
    for (name, file) in [("cpus", "cpuset.cpus"), ("mems", "cpuset.mems")] {
        let list = list(group, file);
        if !list.is_empty() {
            object[name] = list.into();
        }
    }
    object
}

fn cpuset_numbers(group: &Path) -> Value {
    const NAMES: [&str; 8] = [
        "cpu_exclusive",
        "mem_exclusive",
        "mem_hardwall",
        "memory_migrate",
        "memory_pressure",
        "memory_spread_page",
        "memory_spread_slab",
        "sched_load_balance",
    ];
    let numbers = NAMES.iter().map(|name| {
        ((*name).to_owned(), number::<u64>(group, &format!("cpuset.{name}")).unwrap_or(0).into())
    });
    let mut object: Map<String, Value> = numbers.collect();
    let level = number::<i64>(group, "cpuset.sched_relax_domain_level").unwrap_or(0);
    object.insert("sched_relax_domain_level".to_owned(), level.into());
    Value::Object(object)
}

fn amount(limit: u64, usage: u64, most: u64, failed: u64) -> Value {
    let mut amount = omit_empty(&[("usage", usage.into()), ("max", most.into())]);
    amount["limit"] = limit.into();
    amount["failcnt"] = failed.into();
    amount
}

fn memory(group: &Path) -> Value {
    let raw = table(group, "memory.stat");
    let of = |part: &str| {
        let value = |name: &str| number(group, &format!("memory.{part}{name}")).unwrap_or(0);
        amount(
            value("limit_in_bytes"),
            value("usage_in_bytes"),
            value("max_usage_in_bytes"),
            value("failcnt"),
        )
    };
    let mut object = omit_empty(&[("cache", entry(&raw, "cache").into())]);
    for (name, part) in [("usage", ""), ("swap", "memsw."), ("kernel", "kmem."), ("kernelTCP", "kmem.tcp.")] {
        object[name] = of(part);
    }
    object["raw"] = Value::Object(raw);
    object
}

fn memory_v2(group: &Path) -> Value {
    let raw = table(group, "memory.stat");
    let value = |file: &str| number(group, file).unwrap_or(0);
    let (most, usage) = (limit(group, "memory.max"), value("memory.current"));
    let mut object = omit_empty(&[("cache", entry(&raw, "file").into())]);
    object["usage"] = amount(most, usage, value("memory.peak"), 0);
    // As v1 has it: memory and swap together.
    let swap = limit(group, "memory.swap.max").saturating_add(most);
    object["swap"] = amount(swap, value("memory.swap.current") + usage, 0, 0);
    object["kernel"] = amount(0, 0, 0, 0);
    object["kernelTCP"] = amount(0, 0, 0, 0);
    object["raw"] = Value::Object(raw);
    with_pressure(object, group, "memory.pressure")
}

fn pids(group: &Path) -> Value {
    let limit = number::<u64>(group, "pids.max");
    omit_empty(&[("current", number::<u64>(group, "pids.current").into()), ("limit", limit.into())])
}

fn block_entry(device: &str, operation: &str, value: &str) -> Option<Value> {
    let (major, minor) = device.split_once(':')?;
    Some(omit_empty(&[
        ("major", major.parse::<u64>().ok()?.into()),
        ("minor", minor.parse::<u64>().ok()?.into()),
        ("op", operation.into()),
        ("value", value.parse::<u64>().ok()?.into()),
    ]))
}

fn block(group: &Path) -> Value {
    let lines = |files: [&str; 2]| -> Vec<Value> {
        let read = |file: &&str| -> Vec<Value> {
            let text = text(group, file).unwrap_or_default();
            let words = text.lines().map(|line| line.split(' ').collect::<Vec<_>>());
            words
                .filter_map(|words| match words.as_slice() {
                    [device, operation, value] => block_entry(device, operation, value),
                    [device, value] => block_entry(device, "", value),
                    _ => None,
                })
                .collect()
        };
        // BFQ counts what goes through it; the throttle counts everything, where it is compiled in.
        files.iter().map(read).find(|found| !found.is_empty()).unwrap_or_default()
    };
    omit_empty(&[
        (
            "ioServiceBytesRecursive",
            lines(["blkio.bfq.io_service_bytes_recursive", "blkio.throttle.io_service_bytes_recursive"])
                .into(),
        ),
        (
            "ioServicedRecursive",
            lines(["blkio.bfq.io_serviced_recursive", "blkio.throttle.io_serviced_recursive"]).into(),
        ),
        ("ioQueueRecursive", lines(["blkio.bfq.io_queued_recursive", "blkio.io_queued_recursive"]).into()),
        (
            "ioServiceTimeRecursive",
            lines(["blkio.bfq.io_service_time_recursive", "blkio.io_service_time_recursive"]).into(),
        ),
        (
            "ioWaitTimeRecursive",
            lines(["blkio.bfq.io_wait_time_recursive", "blkio.io_wait_time_recursive"]).into(),
        ),
        ("ioMergedRecursive", lines(["blkio.bfq.io_merged_recursive", "blkio.io_merged_recursive"]).into()),
        ("ioTimeRecursive", lines(["blkio.bfq.time_recursive", "blkio.time_recursive"]).into()),
        ("sectorsRecursive", lines(["blkio.bfq.sectors_recursive", "blkio.sectors_recursive"]).into()),
    ])
}

fn block_v2(group: &Path) -> Value {
    let text = text(group, "io.stat").unwrap_or_default();
    let pick = |reads: &str, writes: &str| -> Vec<Value> {
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        lines
            .flat_map(|(device, rest)| {
                let pairs = rest.split(' ').filter_map(|pair| pair.split_once('='));
                pairs.filter_map(move |(key, value)| {
                    let operation =
                        [(reads, "Read"), (writes, "Write")].into_iter().find(|(name, _)| *name == key)?;
                    block_entry(device, operation.1, value)
                })
            })
            .collect()
    };
    let found = omit_empty(&[
        ("ioServiceBytesRecursive", pick("rbytes", "wbytes").into()),
        ("ioServicedRecursive", pick("rios", "wios").into()),
    ]);
    with_pressure(found, group, "io.pressure")
}

/// Ends of file names: usage, most, and how often a limit was hit.
type HugeNames = [&'static str; 3];
const HUGE_V1: HugeNames = [".usage_in_bytes", ".max_usage_in_bytes", ".failcnt"];
const HUGE_V2: HugeNames = [".current", "", ".events"];

fn huge_pages(group: &Path, [usage, most, failed]: &HugeNames) -> Value {
    let entries = fs::read_dir(group).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let sizes = names.filter_map(|name| {
        let size = name.strip_prefix("hugetlb.")?.strip_suffix(usage)?;
        (!size.contains('.')).then(|| size.to_owned())
    });
    let of = |size: &str| {
        let file = |end: &str| format!("hugetlb.{size}{end}");
        let hit = number(group, &file(failed)).unwrap_or_else(|| entry(&table(group, &file(failed)), "max"));
        let mut pages = omit_empty(&[
            ("usage", number::<u64>(group, &file(usage)).into()),
            ("max", number::<u64>(group, &file(most)).into()),
        ]);
        pages["failcnt"] = hit.into();
        pages
    };
    Value::Object(sizes.map(|size| (size.clone(), of(&size))).collect())
}
