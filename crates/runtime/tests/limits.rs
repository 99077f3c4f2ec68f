//! Limits: that they are written, and that they bite; on v1, v2 and hybrid hosts, whichever this is.

#![allow(missing_docs, clippy::unwrap_used)]

mod bundle;
mod groups;

use std::{
    fs,
    io::Write,
    os::unix::fs::MetadataExt,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use bundle::{Bundle, is_ours, is_pure_v2};
use groups::{await_that, held, number, read};
use serde_json::json;

#[test]
fn limits_are_written() {
    let mut bundle = Bundle::sh("sleep 100");
    let resources = &mut bundle.spec["linux"]["resources"];
    resources["memory"] = json!({ "limit": 67_108_864, "swap": 134_217_728, "reservation": 33_554_432 });
    resources["cpu"] = json!({ "shares": 512, "quota": 50_000, "period": 100_000, "burst": 10_000, "cpus": "0", "mems": "0" });
    resources["pids"] = json!({ "limit": 20 });
    // What Debian's runc (1.1.5) does not know yet: burst.
    let newer = ["cpu.cfs_burst_us"];
    bundle.start();
    for (controller, v1, value, v2, value_v2) in [
        ("memory", "memory.limit_in_bytes", "67108864", "memory.max", "67108864"),
        ("memory", "memory.memsw.limit_in_bytes", "134217728", "memory.swap.max", "67108864"),
        ("memory", "memory.soft_limit_in_bytes", "33554432", "memory.low", "33554432"),
        ("cpu", "cpu.shares", "512", "cpu.weight", "59"),
        ("cpu", "cpu.cfs_quota_us", "50000", "cpu.max", "50000 100000"),
        ("cpu", "cpu.cfs_burst_us", "10000", "cpu.max.burst", "10000"),
        ("cpuset", "cpuset.cpus", "0", "cpuset.cpus", "0"),
        ("cpuset", "cpuset.mems", "0", "cpuset.mems", "0"),
        ("pids", "pids.max", "20", "pids.max", "20"),
    ] {
        if !is_ours() && newer.contains(&v1) {
            continue;
        }
        let value = if is_pure_v2() { value_v2 } else { value };
        assert_eq!(held(&bundle, controller, v1, v2), value, "{v1} or {v2}");
    }
    let pid = bundle.state()["pid"].to_string();
    for controller in ["cpu", "cpuset", "memory", "devices", "freezer", "pids", "systemd", "unified"] {
        if !bundle::hierarchy(controller).exists() {
            continue; // A host of v1 alone.
        }
        assert!(read(&bundle, controller, "cgroup.procs").lines().any(|line| line == pid), "{controller}");
    }
    if is_ours() && !is_pure_v2() {
        let allowed = read(&bundle, "devices", "devices.list");
        assert!(
            !allowed.contains("*:*") && allowed.contains("c 1:3 rwm") && !allowed.contains("10:200"),
            "{allowed}"
        );
    }
}

#[test]
fn limits_of_v1_alone_are_written_or_refused() {
    if !is_ours() {
        return eprintln!("skipped: runc ignores kernelTCP on newer kernels, and all of these on v2");
    }
    for (resource, file, value) in [
        (json!({ "memory": { "swappiness": 10 } }), "memory.swappiness", "10"),
        (json!({ "memory": { "disableOOMKiller": true } }), "memory.oom_control", "oom_kill_disable 1"),
        (json!({ "memory": { "kernelTCP": 16_777_216 } }), "memory.kmem.tcp.limit_in_bytes", "16777216"),
    ] {
        let mut bundle = Bundle::sh("sleep 100");
        bundle.spec["linux"]["resources"] = resource.clone();
        if is_pure_v2() {
            let said = bundle.create();
            assert!(
                said.code != 0 && said.err.contains("cgroup v2 has no such limit"),
                "{resource}: {}",
                said.err
            );
        } else {
            bundle.start();
            assert_eq!(read(&bundle, "memory", file).lines().next().unwrap(), value, "{file}");
        }
    }
}

/// One of a kind that this host has on v2 even when it is hybrid.
#[test]
fn v2_keys_and_huge_pages() {
    if !is_ours() && !is_pure_v2() {
        return eprintln!("skipped: runc does not look at v2 beside v1");
    }
    let offered = fs::read_to_string(bundle::hierarchy("unified").join("cgroup.controllers")).unwrap();
    assert!(offered.contains("hugetlb"), "the v2 hierarchy here offers no hugetlb: {offered}");
    let mut bundle = Bundle::sh("sleep 100");
    bundle.spec["linux"]["resources"]["hugepageLimits"] = json!([{ "pageSize": "2MB", "limit": 4_194_304 }]);
    bundle.spec["linux"]["resources"]["unified"] =
        json!({ "cgroup.max.descendants": "7\n", "cgroup.max.depth": "3" });
    bundle.start();
    for (file, value) in [
        ("hugetlb.2MB.max", "4194304"),
        ("hugetlb.2MB.rsvd.max", "4194304"),
        ("cgroup.max.descendants", "7"),
        ("cgroup.max.depth", "3"),
    ] {
        assert_eq!(read(&bundle, "unified", file), value, "{file}");
    }
    assert_eq!(bundle.call(&["delete", "--force"]).code, 0);
    bundle.assert_gone();
}

#[test]
fn what_the_host_lacks_is_named() {
    if !is_ours() {
        return eprintln!("skipped: the words are ours");
    }
    for (resources, why) in [
        (json!({ "rdma": { "mlx5_0": { "hcaHandles": 3 } } }), "rdma"),
        (json!({ "network": { "classID": 7 } }), "net_cls"),
        (json!({ "network": { "priorities": [{ "name": "eth0", "priority": 3 }] } }), "net_prio"),
        (json!({ "hugepageLimits": [{ "pageSize": "3MB", "limit": 1 }] }), "hugetlb.3MB"),
        (json!({ "unified": { "nope.max": "1" } }), "nope"),
        (json!({ "unified": { "cgroup.nope": "1" } }), "cgroup.nope"),
        (json!({ "unified": { "../../memory.max": "1" } }), "unified"),
        (json!({ "unified": { "memory/x.max": "1" } }), "unified"),
        (json!({ "unified": { "cgroup.procs": "1" } }), "is no limit"),
        (json!({ "hugepageLimits": [{ "pageSize": "2MB/../x", "limit": 1 }] }), "pageSize"),
        (json!({ "rdma": { "a b": { "hcaHandles": 3 } } }), "rdma"),
        (json!({ "cpu": { "cpus": "0/../1" } }), "cpu.cpus"),
        (json!({ "memory": { "swappiness": 101 } }), "swappiness"),
        (json!({ "blockIO": { "weightDevice": [{ "major": 259, "minor": 254, "weight": 500 }] } }), "weight"),
    ] {
        if why.starts_with("net_") && !is_pure_v2() && bundle::hierarchy(why).exists() {
            continue; // This host does not lack it.
        }
        let mut bundle = Bundle::sh("true");
        bundle.spec["linux"]["resources"] = resources.clone();
        let said = bundle.run();
        // A kernel may have all of them (rdma, for one): then it is the device that is not there.
        assert!(said.code != 0 && said.err.contains(why), "{resources}: {}{}", said.code, said.err);
        bundle.assert_gone();
    }
}

#[test]
fn a_fork_bomb_is_held() {
    let mut bundle = Bundle::sh("bomb() { bomb | bomb & }; bomb; sleep 100");
    bundle.spec["linux"]["resources"]["pids"] = json!({ "limit": 12 });
    bundle.start();
    await_that("the limit is hit", || {
        // v1 has the file too, since Linux 4.3.
        !read(&bundle, "pids", "pids.events").ends_with("max 0")
    });
    assert!(number(&bundle, "pids", "pids.current") <= 12);
    assert_eq!(bundle.call(&["delete", "--force"]).code, 0);
    bundle.assert_gone();
}

#[test]
fn too_many_processes_are_refused() {
    let mut bundle = Bundle::sh("for i in 1 2 3 4 5 6 7 8; do sleep 1 & done; echo all started");
    bundle.spec["linux"]["resources"]["pids"] = json!({ "limit": 5 });
    let said = bundle.run();
    assert!(said.err.contains("fork") && !said.out.contains("all started"), "{}{}", said.out, said.err);
}

#[test]
fn too_much_memory_ends_the_process() {
    let mut bundle = Bundle::sh(
        "dd if=/dev/zero of=/dev/null bs=64M count=1; echo $?; dd if=/dev/zero of=/dev/null bs=1M count=1 && echo small fits",
    );
    bundle.spec["linux"]["resources"]["memory"] = json!({ "limit": 16_777_216, "swap": 16_777_216 });
    let said = bundle.run();
    assert_eq!(said.out, "137\nsmall fits\n", "{}", said.err);
    bundle.assert_gone();
}

/// Nanoseconds of processor time, periods, and how many of them were cut short.
fn used(bundle: &Bundle) -> (f64, f64, f64) {
    let stat = read(bundle, "cpu", "cpu.stat");
    let of = |name: &str| -> f64 {
        let line = stat.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
        line.map_or(0.0, |value| value.parse().unwrap())
    };
    let time = if is_pure_v2() {
        of("usage_usec") * 1000.0
    } else {
        read(bundle, "cpuacct", "cpuacct.usage").parse().unwrap()
    };
    (time, of("nr_periods"), of("nr_throttled"))
}

#[test]
fn half_a_processor_is_half_a_processor() {
    let mut bundle = Bundle::sh("while :; do :; done");
    bundle.spec["linux"]["resources"]["cpu"] = json!({ "quota": 50_000, "period": 100_000 });
    bundle.start();
    // From the end of one period to the end of another.
    let next_period = |after: f64| {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let (time, periods, throttled) = used(&bundle);
            if periods >= after {
                return (Instant::now(), time, periods, throttled);
            }
            assert!(Instant::now() < deadline, "no period ends: {periods} of {after}");
            std::thread::sleep(Duration::from_micros(200));
        }
    };
    let first = next_period(3.0);
    let last = next_period(first.2 + 15.0);
    let elapsed = (last.0 - first.0).as_nanos() as f64;
    let share = (last.1 - first.1) / elapsed;
    assert!(share <= 0.525, "{share} of a processor");
    // A busy machine may not have given it its half: then it was not cut short in every period.
    let (periods, throttled) = (last.2 - first.2, last.3 - first.3);
    if throttled >= periods {
        assert!(share >= 0.475, "{share} of a processor");
    } else {
        eprintln!(
            "the machine is busy: cut short in {throttled} of {periods} periods, {share} of a processor"
        );
    }
}

/// Something to read and write that is on a block device which nobody else uses: a loop device of our own, or where
/// these cannot be made (in a guest) a file on a disk of no worth.
struct Disk {
    number: (u64, u64),
    path: &'static str,
    loop_device: Option<String>,
    file: tempfile::NamedTempFile,
}

impl Disk {
    fn new() -> Self {
        if Path::new("/disk").is_dir() {
            let mut file = tempfile::NamedTempFile::new_in("/disk").unwrap();
            file.write_all(&vec![7; 1 << 20]).unwrap();
            file.as_file().sync_all().unwrap();
            let device = file.as_file().metadata().unwrap().dev();
            let number = (rustix::fs::major(device).into(), rustix::fs::minor(device).into());
            return Self { number, path: "/data", loop_device: None, file };
        }
        let file = tempfile::NamedTempFile::new_in("/var/tmp").unwrap();
        file.as_file().set_len(16 << 20).unwrap();
        let output = Command::new("losetup").args(["--find", "--show"]).arg(file.path()).output().unwrap();
        assert!(output.status.success(), "losetup: {}", String::from_utf8_lossy(&output.stderr));
        let device = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        let name = device.trim_start_matches("/dev/");
        let text = fs::read_to_string(format!("/sys/block/{name}/dev")).unwrap();
        let (major, minor) = text.trim().split_once(':').unwrap();
        let number = (major.parse().unwrap(), minor.parse().unwrap());
        Self { number, path: "/dev/disk", loop_device: Some(device), file }
    }

    fn give(&self, bundle: &mut Bundle) {
        let (major, minor) = self.number;
        if self.loop_device.is_none() {
            let mount = json!({ "destination": "/data", "type": "bind", "source": self.file.path(), "options": ["bind"] });
            bundle.spec["mounts"].as_array_mut().unwrap().push(mount);
            return;
        }
        bundle.spec["linux"]["devices"] =
            json!([{ "type": "b", "path": self.path, "major": major, "minor": minor }]);
        let allow = json!({ "allow": true, "type": "b", "major": major, "minor": minor, "access": "rw" });
        bundle.spec["linux"]["resources"]["devices"] = json!([{ "allow": false, "access": "rwm" }, allow]);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Some(device) = &self.loop_device {
            let _ = Command::new("losetup").args(["--detach", device]).status();
        }
    }
}

#[test]
fn a_throttled_device_is_slow() {
    let disk = Disk::new();
    let (major, minor) = disk.number;
    let read = format!("dd if={} of=/dev/null bs=128k count=8 iflag=direct", disk.path);
    let write = format!("dd if=/dev/zero of={} bs=128k count=8 oflag=direct conv=notrunc", disk.path);
    // How long the container itself says that it took, in seconds: to start it is another matter.
    let took = |script: &str, limit: Option<(&str, u64)>| -> f64 {
        let mut bundle = Bundle::sh(&format!(
            "read a b < /proc/uptime; {script} 2>/dev/null; read c d < /proc/uptime; echo $a $c"
        ));
        disk.give(&mut bundle);
        if let Some((name, rate)) = limit {
            let rate = json!([{ "major": major, "minor": minor, "rate": rate }]);
            bundle.spec["linux"]["resources"]["blockIO"] = json!({ name: rate });
        }
        let said = bundle.output();
        let times: Vec<f64> = said.split(' ').map(|time| time.parse().unwrap()).collect();
        times[1] - times[0]
    };
    // 1 MiB at 2 MiB/s, and 8 requests at 16 a second: half a second each, of which the first slice is free.
    for (script, name, limit) in [
        (&read, "throttleReadBpsDevice", 2 << 20),
        (&write, "throttleWriteBpsDevice", 2 << 20),
        (&read, "throttleReadIOPSDevice", 16),
        (&write, "throttleWriteIOPSDevice", 16),
    ] {
        let slow = took(script, Some((name, limit)));
        assert!(slow > 0.3, "{name}: took {slow} s only");
    }
    // As many bytes without a limit are no matter of half a second; the quickest of some, for machines are busy.
    let free = (0..5).map(|_| took(&read, None)).fold(f64::INFINITY, f64::min);
    assert!(free < 0.3, "without a limit: {free} s");
}

#[test]
fn impossible_limits_are_clear_errors() {
    let mut bundle = Bundle::sh("true");
    bundle.spec["linux"]["resources"]["memory"] = json!({ "limit": 67_108_864, "swap": 1_048_576 });
    let said = bundle.run();
    assert_ne!(said.code, 0);
    assert!(said.err.contains("memsw") || said.err.contains("memory.swap"), "{}", said.err);
    bundle.assert_gone();
    let mut bundle = Bundle::sh("true");
    bundle.spec["linux"]["resources"]["cpu"] = json!({ "cpus": "4095" });
    let said = bundle.run();
    assert_ne!(said.code, 0);
    assert!(said.err.contains("cpuset.cpus"), "{}", said.err);
    bundle.assert_gone();
}
