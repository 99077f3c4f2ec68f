//! Limits: that they are written, and that they bite. For hosts with cgroup v1 controllers, as the test machine.

#![allow(missing_docs, clippy::unwrap_used)]

mod bundle;

use std::fs;

use bundle::{Bundle, is_ours};
use serde_json::json;

fn read(bundle: &Bundle, controller: &str, file: &str) -> String {
    let path = bundle.group(controller).join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
}

#[test]
fn limits_are_written() {
    let mut bundle = Bundle::sh("sleep 100");
    let resources = &mut bundle.spec["linux"]["resources"];
    resources["memory"] =
        json!({ "limit": 67_108_864, "swap": 134_217_728, "reservation": 33_554_432, "swappiness": 10 });
    resources["cpu"] = json!({ "shares": 512, "quota": 50_000, "period": 100_000, "cpus": "0", "mems": "0" });
    resources["pids"] = json!({ "limit": 20 });
    bundle.start();
    for (controller, file, value) in [
        ("memory", "memory.limit_in_bytes", "67108864"),
        ("memory", "memory.memsw.limit_in_bytes", "134217728"),
        ("memory", "memory.soft_limit_in_bytes", "33554432"),
        ("memory", "memory.swappiness", "10"),
        ("cpu", "cpu.shares", "512"),
        ("cpu", "cpu.cfs_quota_us", "50000"),
        ("cpu", "cpu.cfs_period_us", "100000"),
        ("cpuset", "cpuset.cpus", "0"),
        ("cpuset", "cpuset.mems", "0"),
        ("pids", "pids.max", "20"),
    ] {
        assert_eq!(read(&bundle, controller, file), value, "{file}");
    }
    let pid = bundle.state()["pid"].to_string();
    for controller in ["cpu", "cpuset", "memory", "devices", "freezer", "pids", "systemd", "unified"] {
        assert!(read(&bundle, controller, "cgroup.procs").lines().any(|line| line == pid), "{controller}");
    }
    if is_ours() {
        let allowed = read(&bundle, "devices", "devices.list");
        assert!(
            !allowed.contains("*:*") && allowed.contains("c 1:3 rwm") && !allowed.contains("10:200"),
            "{allowed}"
        );
    }
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

#[test]
fn impossible_limits_are_clear_errors() {
    let mut bundle = Bundle::sh("true");
    bundle.spec["linux"]["resources"]["memory"] = json!({ "limit": 67_108_864, "swap": 1_048_576 });
    let said = bundle.run();
    assert_ne!(said.code, 0);
    assert!(said.err.contains("memsw"), "{}", said.err);
    bundle.assert_gone();
    let mut bundle = Bundle::sh("true");
    bundle.spec["linux"]["resources"]["cpu"] = json!({ "cpus": "4095" });
    let said = bundle.run();
    assert_ne!(said.code, 0);
    assert!(said.err.contains("cpuset.cpus"), "{}", said.err);
    bundle.assert_gone();
    if is_ours() {
        let mut bundle = Bundle::sh("true");
        bundle.spec["linux"]["cgroupsPath"] = json!("/knarr/../up");
        assert!(bundle.run().err.contains("without `..`"));
    }
}
