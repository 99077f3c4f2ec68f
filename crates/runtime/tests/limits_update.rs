//! `update`: limits of a container that runs; all of a change, or nothing of it.

#![allow(missing_docs, clippy::unwrap_used)]

mod bundle;
mod groups;

use std::{io::Write, process::Stdio};

use bundle::{Bundle, Said, is_ours, is_pure_v2};
use groups::{held, read};
use serde_json::{Value, json};

const MIB: u64 = 1 << 20;

fn started() -> Bundle {
    let mut bundle = Bundle::sh("sleep 100");
    let resources = &mut bundle.spec["linux"]["resources"];
    resources["memory"] = json!({ "limit": 64 * MIB, "swap": 96 * MIB });
    resources["cpu"] = json!({ "quota": 50_000, "period": 100_000, "cpus": "0" });
    resources["pids"] = json!({ "limit": 20 });
    bundle.start();
    bundle
}

/// Memory, and memory and swap together.
fn memory(bundle: &Bundle) -> (u64, u64) {
    let number = |text: String| text.parse::<u64>().unwrap_or(u64::MAX);
    let limit = number(held(bundle, "memory", "memory.limit_in_bytes", "memory.max"));
    let swap = number(held(bundle, "memory", "memory.memsw.limit_in_bytes", "memory.swap.max"));
    (limit, if is_pure_v2() { limit.saturating_add(swap) } else { swap })
}

fn quota(bundle: &Bundle) -> String {
    if is_pure_v2() {
        return read(bundle, "cpu", "cpu.max");
    }
    format!("{} {}", read(bundle, "cpu", "cpu.cfs_quota_us"), read(bundle, "cpu", "cpu.cfs_period_us"))
}

fn record(bundle: &Bundle) -> Value {
    let path = bundle.path().join("state").join(&bundle.id).join("state.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[track_caller]
fn update(bundle: &Bundle, words: &[&str]) {
    let said = bundle.call(&[&["update"], words].concat());
    assert_eq!(said.code, 0, "{words:?}: {}", said.err);
}

#[test]
fn memory_goes_up_and_down_in_any_order() {
    let bundle = started();
    for (limit, swap) in [(128, 256), (32, 48), (300, 300), (64, 128)] {
        update(&bundle, &["--memory", &format!("{limit}m"), "--memory-swap", &(swap * MIB).to_string()]);
        assert_eq!(memory(&bundle), (limit * MIB, swap * MIB));
    }
    // Swap is memory and swap together: it stays where it was.
    update(&bundle, &["--memory", "100m"]);
    assert_eq!(memory(&bundle), (100 * MIB, 128 * MIB));
    update(&bundle, &["--memory", "-1"]);
    assert!(memory(&bundle).0 > 1 << 60 && memory(&bundle).1 > 1 << 60, "{:?}", memory(&bundle));
}

#[test]
fn quota_and_period_are_changed_alone_or_together() {
    let bundle = started();
    for (words, wanted) in [
        (vec!["--cpu-quota", "25000"], "25000 100000"),
        (vec!["--cpu-period", "50000"], "25000 50000"),
        (vec!["--cpu-quota", "300000", "--cpu-period", "1000000"], "300000 1000000"),
        (vec!["--cpu-quota", "2000", "--cpu-period", "1000"], "2000 1000"),
    ] {
        update(&bundle, &words);
        assert_eq!(quota(&bundle), wanted, "{words:?}");
    }
    // 0 leaves everything as it is.
    update(&bundle, &["--cpu-quota", "0", "--memory", "0", "--pids-limit", "0"]);
    assert_eq!(quota(&bundle), "2000 1000");
    update(&bundle, &["--cpu-quota", "-1"]);
    assert_eq!(quota(&bundle), if is_pure_v2() { "max 1000" } else { "-1 1000" });
}

#[test]
fn each_flag_is_written() {
    let bundle = started();
    update(&bundle, &["--cpu-share", "2048", "--pids-limit", "33", "--memory-reservation", "16m"]);
    update(&bundle, &["--cpuset-cpus", "0-1", "--cpuset-mems", "0"]);
    if is_ours() {
        // Newer than Debian's runc.
        update(&bundle, &["--cpu-burst", "5000"]);
        assert_eq!(held(&bundle, "cpu", "cpu.cfs_burst_us", "cpu.max.burst"), "5000");
    }
    for (controller, v1, value, v2, value_v2) in [
        ("cpu", "cpu.shares", "2048", "cpu.weight", "174"),
        ("pids", "pids.max", "33", "pids.max", "33"),
        ("memory", "memory.soft_limit_in_bytes", "16777216", "memory.low", "16777216"),
        ("cpuset", "cpuset.cpus", "0-1", "cpuset.cpus", "0-1"),
    ] {
        assert_eq!(held(&bundle, controller, v1, v2), if is_pure_v2() { value_v2 } else { value }, "{v1}");
    }
    if is_ours() {
        update(&bundle, &["--cpu-idle", "1"]);
        assert_eq!(read(&bundle, "cpu", "cpu.idle"), "1");
        let resources = &record(&bundle)["resources"];
        assert_eq!(resources["cpu"]["shares"], 2048);
        assert_eq!(resources["cpu"]["quota"], 50_000, "what was there before is kept");
        assert_eq!(resources["pids"]["limit"], 33);
    }
}

fn from_json(bundle: &Bundle, change: &Value) -> Said {
    let mut child = bundle
        .command(&["update", "--resources", "-"])
        .arg(&bundle.id)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(change.to_string().as_bytes()).unwrap();
    child.wait_with_output().unwrap().into()
}

#[test]
fn resources_come_from_a_file_or_standard_input() {
    let bundle = started();
    let said = from_json(&bundle, &json!({ "memory": { "limit": 80 * MIB }, "pids": { "limit": 7 } }));
    assert_eq!(said.code, 0, "{}", said.err);
    assert_eq!((memory(&bundle).0, read(&bundle, "pids", "pids.max").as_str()), (80 * MIB, "7"));
    let file = bundle.path().join("change.json");
    std::fs::write(&file, json!({ "cpu": { "quota": 10_000 } }).to_string()).unwrap();
    update(&bundle, &["-r", file.to_str().unwrap()]);
    assert_eq!(quota(&bundle), "10000 100000");
    for wrong in [json!({ "memory": { "limit": "much" } }), json!("64m")] {
        assert_ne!(from_json(&bundle, &wrong).code, 0, "{wrong}");
    }
}

#[test]
fn a_change_that_fails_changes_nothing() {
    if !is_ours() {
        return eprintln!("skipped: runc leaves what it wrote before it failed");
    }
    let bundle = started();
    let all = |bundle: &Bundle| {
        let shares = held(bundle, "cpu", "cpu.shares", "cpu.weight");
        let cpus = read(bundle, "cpuset", "cpuset.cpus");
        (memory(bundle), quota(bundle), read(bundle, "pids", "pids.max"), shares, cpus, record(bundle))
    };
    let before = all(&bundle);
    for change in [
        json!({ "memory": { "limit": 80 * MIB, "swap": 160 * MIB }, "cpu": { "quota": 10_000, "shares": 7, "cpus": "4095" } }),
        json!({ "pids": { "limit": 3 }, "memory": { "limit": 200 * MIB } }),
        json!({ "pids": { "limit": 3 }, "unified": { "cgroup.max.depth": "minus one" } }),
        json!({ "pids": { "limit": 3 }, "cpu": { "quota": 1 } }),
        json!({ "pids": { "limit": 3 }, "hugepageLimits": [{ "pageSize": "3MB", "limit": 3 }] }),
        json!({ "pids": { "limit": 3 }, "devices": [{ "allow": true, "type": "q", "major": 1 }] }),
    ] {
        let said = from_json(&bundle, &change);
        assert_ne!(said.code, 0, "{change}");
        assert!(!said.err.contains("taken back"), "{change}: {}", said.err);
        assert_eq!(all(&bundle), before, "{change}: {}", said.err);
    }
    let said = bundle.call(&["update", "--l3-cache-schema", "L3:0=f", "--pids-limit", "3"]);
    assert!(said.code != 0 && said.err.contains("Intel RDT"), "{}", said.err);
    assert_eq!(all(&bundle), before);
}

#[test]
fn devices_are_exchanged_while_the_container_runs() {
    if !is_ours() {
        return eprintln!("skipped: runc's update leaves devices alone");
    }
    for only_v2 in [false, true] {
        let mut bundle = Bundle::sh("mknod /disk b 7 77 2>/dev/null; sleep 100");
        bundle.only_v2 = only_v2;
        bundle.spec["linux"]["resources"] = json!({ "devices": [
            { "allow": false, "access": "rwm" },
            { "allow": true, "type": "c", "major": 10, "minor": 237, "access": "rwm" }
        ] });
        bundle.start();
        let can = |node: &str| {
            bundle.call_with(&["exec"], &["mknod", &format!("/{node}-{}", rand()), "c", "10", node])
        };
        assert_eq!(can("237").code, 0);
        assert_ne!(can("229").code, 0);
        let change = json!({ "devices": [
            { "allow": false, "access": "rwm" },
            { "allow": true, "type": "c", "major": 10, "minor": 229, "access": "rwm" }
        ] });
        let said = from_json(&bundle, &change);
        assert_eq!(said.code, 0, "{}", said.err);
        assert_eq!(can("229").code, 0);
        assert_ne!(can("237").code, 0);
        assert_eq!(bundle.call_with(&["exec"], &["sh", "-c", ": > /dev/null"]).code, 0);
    }
}

fn rand() -> u32 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

#[test]
fn only_what_lives_is_updated() {
    let bundle = Bundle::sh("true");
    bundle.start();
    bundle.await_status("stopped");
    assert_ne!(bundle.call(&["update", "--pids-limit", "5"]).code, 0);
    assert_ne!(started().call(&["update", "--memory", "lots"]).code, 0);
}
