//! Whatever is made of a config: reading, checking and planning it answer, and never panic.

#![allow(missing_docs, clippy::unwrap_used)]

mod bundle;

use std::path::PathBuf;

use bundle::Bundle;
use runtime::{
    cgroup::Hierarchy,
    plan::{self, Host, Request},
    spec,
};
use serde_json::{Value, json};

/// xorshift: the same numbers in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides.max(1) as u64) as usize
    }
}

/// Values that have been somebody's downfall.
fn nasty() -> Vec<Value> {
    vec![
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(1),
        json!(4_294_967_295_u64),
        json!(4_294_967_296_u64),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(0.5),
        json!(1e300),
        json!(""),
        json!("/"),
        json!("/../.."),
        json!("a"),
        json!("a\0b"),
        json!("é\u{10ffff}"),
        json!("x".repeat(5000)),
        json!("SCMP_ACT_ERRNO"),
        json!("SCMP_CMP_MASKED_EQ"),
        json!("0-3,9999999999"),
        json!("-"),
        json!([]),
        json!([[]]),
        json!({}),
        json!({ "": "" }),
        json!(["ro", "rbind"]),
        json!({ "path": "/x", "type": "user" }),
        json!([{ "containerID": 0, "hostID": u32::MAX, "size": u32::MAX }]),
        json!({ "limit": i64::MIN, "swap": i64::MAX }),
        json!({ "quota": -1, "period": 0, "burst": u64::MAX }),
        json!([{ "allow": true, "type": "a", "major": -1, "minor": i64::MAX, "access": "rwmrwm" }]),
        json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{ "names": ["open", "x"], "action": "SCMP_ACT_ERRNO",
            "errnoRet": u32::MAX, "args": [{ "index": 5, "value": u64::MAX, "valueTwo": u64::MAX, "op": "SCMP_CMP_GE" }] }] }),
    ]
}

/// A full config, so that there is something everywhere.
fn full() -> Value {
    let mut spec = Bundle::sh("true").spec.clone();
    spec["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 1, "hard": 2 }]);
    spec["process"]["ioPriority"] = json!({ "class": "IOPRIO_CLASS_BE", "priority": 1 });
    spec["process"]["consoleSize"] = json!({ "height": 1, "width": 2 });
    spec["hooks"] = json!({ "prestart": [{ "path": "/x", "args": ["a"], "env": ["A=1"], "timeout": 1 }] });
    spec["linux"]["timeOffsets"] = json!({ "boottime": { "secs": -5, "nanosecs": 1 } });
    spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "time" }));
    spec["linux"]["devices"] =
        json!([{ "type": "c", "path": "/dev/x", "major": 1, "minor": 1, "fileMode": 438 }]);
    spec["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1" });
    spec["linux"]["personality"] = json!({ "domain": "LINUX32" });
    spec["linux"]["seccomp"] = nasty().pop().unwrap();
    spec["linux"]["resources"] = json!({
        "devices": [{ "allow": true, "type": "c", "major": 1, "access": "r" }],
        "memory": { "limit": 1, "swap": 2, "reservation": 1, "swappiness": 3 },
        "cpu": { "shares": 2, "quota": 3, "period": 4, "burst": 1, "cpus": "0", "mems": "0", "idle": 0 },
        "pids": { "limit": 9 },
        "blockIO": { "weight": 10, "throttleReadBpsDevice": [{ "major": 1, "minor": 2, "rate": 3 }] },
        "hugepageLimits": [{ "pageSize": "2MB", "limit": 9 }], "network": { "classID": 1 }
    });
    spec
}

/// Changes one member somewhere.
fn change(value: &mut Value, dice: &mut Dice, nasty: &[Value]) {
    match value {
        Value::Object(object) if !object.is_empty() && dice.roll(6) != 0 => {
            let key = object.keys().nth(dice.roll(object.len())).unwrap().clone();
            match dice.roll(12) {
                0 => drop(object.remove(&key)),
                _ => change(&mut object[&key], dice, nasty),
            }
        }
        Value::Array(list) if !list.is_empty() && dice.roll(6) != 0 => {
            let index = dice.roll(list.len());
            match dice.roll(8) {
                0 => drop(list.remove(index)),
                1 => list.push(list[index].clone()),
                _ => change(&mut list[index], dice, nasty),
            }
        }
        _ => {
            // Mostly of its own kind, or reading would refuse it and nothing else be tried.
            let same = |other: &&Value| std::mem::discriminant(*other) == std::mem::discriminant(value);
            let alike: Vec<&Value> = nasty.iter().filter(same).collect();
            let any = alike.is_empty() || dice.roll(8) == 0;
            *value = if any {
                nasty[dice.roll(nasty.len())].clone()
            } else {
                alike[dice.roll(alike.len())].clone()
            };
        }
    }
}

fn hosts() -> Vec<Host> {
    let hierarchy = |names: &[&str], unified| Hierarchy {
        mount: PathBuf::from("/nonexistent"),
        controllers: names.iter().map(|name| (*name).to_owned()).collect(),
        unified,
        own: PathBuf::from("own"),
    };
    let v1 = ["cpu", "memory", "pids", "devices", "blkio", "cpuset", "freezer", "net_cls", "hugetlb"];
    let all = ["cpu", "memory", "pids", "io", "cpuset", "hugetlb"];
    let host = |cgroups| Host { cgroups, ..Host::default() };
    vec![
        host(v1.iter().map(|name| hierarchy(&[name], false)).collect()),
        host(vec![hierarchy(&all, true)]),
        host(vec![hierarchy(&["memory"], false), hierarchy(&["pids"], true)]),
        host(vec![]),
    ]
}

/// Reads, checks and plans; how far it came.
fn consider(text: &[u8], hosts: &[Host], request: &Request) -> usize {
    let Ok(spec) = spec::parse::<oci::spec::Spec>(text) else { return 0 };
    if let Err(error) = spec::check(&spec) {
        assert!(!error.to_string().is_empty());
        return 1;
    }
    let plans = hosts.iter().map(|host| plan::plan(&spec, host, request));
    if plans.filter(|plan| plan.as_ref().is_ok_and(|plan| !plan.to_string().is_empty())).count() > 0 {
        3
    } else {
        2
    }
}

fn rounds(count: usize) {
    let (nasty, hosts, full) = (nasty(), hosts(), full());
    let request = Request { id: "x".to_owned(), bundle: "/nonexistent".into(), ..Request::default() };
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut reached = [0; 4];
    let whole = spec::parse::<oci::spec::Spec>(full.to_string().as_bytes()).unwrap();
    spec::check(&whole).unwrap();
    for host in &hosts[..1] {
        plan::plan(&whole, host, &request).unwrap();
    }
    for round in 0..count {
        let mut spec = full.clone();
        for _ in 0..=dice.roll(3) {
            change(&mut spec, &mut dice, &nasty);
        }
        let mut text = spec.to_string().into_bytes();
        if round % 4 == 0 {
            for _ in 0..=dice.roll(3) {
                let (index, byte) = (dice.roll(text.len()), dice.roll(256) as u8);
                match dice.roll(3) {
                    0 => text[index] = byte,
                    1 => text.insert(index, byte),
                    _ => text.truncate(index.max(1)),
                }
            }
        }
        reached[consider(&text, &hosts, &request)] += 1;
    }
    assert!(reached.iter().all(|times| *times > count / 200), "only one end is tried: {reached:?}");
}

#[test]
fn no_config_makes_the_runtime_panic() {
    rounds(4_000);
}

#[test]
#[ignore = "takes a minute; cargo xtask test --all"]
fn no_config_of_very_many_makes_the_runtime_panic() {
    rounds(200_000);
}
