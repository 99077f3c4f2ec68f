//! What a process is given: who it is, what it may use, when and where it runs.

#![allow(missing_docs, clippy::unwrap_used)]

mod bundle;

use std::{fs, process::Command};

use bundle::{Bundle, is_ours, runtime};
use serde_json::{Value, json};

/// What a container with this in its spec prints; `path` as `process.scheduler`.
fn with(path: &str, value: Value, script: &str) -> bundle::Said {
    let mut bundle = Bundle::sh(script);
    set(&mut bundle.spec, path, value);
    bundle.run()
}

fn set(spec: &mut Value, path: &str, value: Value) {
    let pointer = format!("/{}", path.replace('.', "/"));
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    spec.pointer_mut(parent).unwrap()[name] = value;
}

fn is_crun() -> bool {
    runtime().ends_with("crun")
}

/// Fails unless the container is refused with an error that names `path`, and nothing is left.
fn refused(path: &str, value: &Value) {
    let mut bundle = Bundle::sh("echo ran");
    set(&mut bundle.spec, path, value.clone());
    let said = bundle.run();
    assert!(said.code != 0 && !said.out.contains("ran"), "{path} {value}: {}", said.out);
    let name = path.rsplit('.').next().unwrap();
    assert!(!is_ours() || said.err.contains(name), "{path} {value}: {}", said.err);
    bundle.assert_gone();
}

#[test]
fn every_scheduling_policy() {
    if !is_ours() {
        return println!("SKIPPED under {}: runc and crun learnt process.scheduler later", runtime());
    }
    // With CONFIG_RT_GROUP_SCHED a group of v1 has no realtime of its own, unless it is given some.
    let budgeted = std::path::Path::new("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").exists();
    for (policy, scheduler) in [
        (0, json!({ "policy": "SCHED_OTHER", "nice": 7 })),
        (1, json!({ "policy": "SCHED_FIFO", "priority": 9 })),
        (2, json!({ "policy": "SCHED_RR", "priority": 3, "flags": ["SCHED_FLAG_RESET_ON_FORK"] })),
        (3, json!({ "policy": "SCHED_BATCH", "nice": -3 })),
        (5, json!({ "policy": "SCHED_IDLE" })),
        (
            6,
            json!({ "policy": "SCHED_DEADLINE", "runtime": 1_000_000, "deadline": 10_000_000, "period": 10_000_000 }),
        ),
    ] {
        // The program itself: what it forks may be scheduled otherwise, or may not be forked at all.
        let mut bundle = Bundle::new(&["/bin/cat", "/proc/self/stat"]);
        bundle.spec["process"]["scheduler"] = scheduler.clone();
        if matches!(policy, 1 | 2) && budgeted {
            let said = bundle.run();
            assert!(said.err.contains("linux.resources.cpu.realtimeRuntime"), "{}{}", said.out, said.err);
            continue;
        }
        let stat = bundle.output();
        let fields: Vec<i128> = stat
            .rsplit_once(") ")
            .unwrap()
            .1
            .split(' ')
            .skip(1)
            .map(|field| field.parse().unwrap())
            .collect();
        // proc_pid_stat(5) counts from 1, and these begin with the fourth.
        let (nice, priority, shown) = (fields[19 - 4], fields[40 - 4], fields[41 - 4]);
        assert_eq!(shown, policy, "{scheduler}");
        assert_eq!(priority, i128::from(scheduler["priority"].as_i64().unwrap_or(0)), "{scheduler}");
        assert_eq!(nice, i128::from(scheduler["nice"].as_i64().unwrap_or(0)), "{scheduler}");
    }
    for wrong in [
        json!({ "policy": "SCHED_FAST" }),
        json!({ "policy": "SCHED_OTHER", "priority": 1 }),
        json!({ "policy": "SCHED_FIFO", "priority": 100 }),
        json!({ "policy": "SCHED_OTHER", "nice": 20 }),
        json!({ "policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_X"] }),
        json!({ "policy": "SCHED_BATCH", "runtime": 1 }),
    ] {
        refused("process.scheduler", &wrong);
    }
    // Values that only the kernel can judge: a runtime above its deadline.
    let wrong = json!({ "policy": "SCHED_DEADLINE", "runtime": 20_000_000, "deadline": 10_000_000 });
    let said = with("process.scheduler", wrong, "true");
    assert!(said.code != 0 && said.err.contains("SCHED_DEADLINE"), "{}", said.err);
}

#[test]
fn io_priorities() {
    if !is_ours() {
        return println!("SKIPPED under {}: runc 1.1 has no process.ioPriority", runtime());
    }
    for (class, level, shown) in [
        ("IOPRIO_CLASS_RT", 2, "realtime: prio 2"),
        ("IOPRIO_CLASS_BE", 6, "best-effort: prio 6"),
        ("IOPRIO_CLASS_IDLE", 0, "idle"),
    ] {
        let priority = json!({ "class": class, "priority": level });
        let said = with("process.ioPriority", priority, "busybox ionice -p 1");
        assert!(said.out.contains(shown), "{class}: {}{}", said.out, said.err);
    }
    refused("process.ioPriority", &json!({ "class": "IOPRIO_CLASS_BE", "priority": 8 }));
    refused("process.ioPriority", &json!({ "class": "BE", "priority": 0 }));
}

#[test]
fn memory_policies() {
    if !is_ours() {
        return println!("SKIPPED under {}: linux.memoryPolicy is of runtime-spec 1.3", runtime());
    }
    for (policy, shown) in [
        (json!({ "mode": "MPOL_BIND", "nodes": "0" }), "bind:0"),
        (json!({ "mode": "MPOL_PREFERRED", "nodes": "0" }), "prefer:0"),
        (
            json!({ "mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"] }),
            "interleave=static:0",
        ),
        (json!({ "mode": "MPOL_PREFERRED_MANY", "nodes": "0" }), "prefer (many):0"),
        (json!({ "mode": "MPOL_LOCAL" }), "local"),
        (json!({ "mode": "MPOL_DEFAULT" }), "default"),
    ] {
        let said = with("linux.memoryPolicy", policy.clone(), "grep stack /proc/self/numa_maps");
        assert!(said.out.contains(shown), "{policy}: {}{}", said.out, said.err);
    }
    let mut bundle = Bundle::sh("sleep 100");
    bundle.spec["linux"]["memoryPolicy"] = json!({ "mode": "MPOL_BIND", "nodes": "0" });
    bundle.start();
    let said = bundle.call_with(&["exec"], &["grep", "stack", "/proc/self/numa_maps"]);
    assert!(said.out.contains("bind:0"), "{}{}", said.out, said.err);
    for wrong in [
        json!({ "mode": "MPOL_NEAR" }),
        json!({ "mode": "MPOL_BIND" }),
        json!({ "mode": "MPOL_BIND", "nodes": "0-" }),
        json!({ "mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_X"] }),
    ] {
        refused("linux.memoryPolicy", &wrong);
    }
    let said = with("linux.memoryPolicy", json!({ "mode": "MPOL_BIND", "nodes": "1000" }), "true");
    assert!(said.code != 0 && said.err.contains("MPOL_BIND"), "{}", said.err);
}

#[test]
fn the_runtimes_own_cpus_do_not_bind_the_container() {
    if !is_ours() {
        return println!("SKIPPED under {}: runc gives CPUs back since 1.3", runtime());
    }
    let bundle = Bundle::sh("busybox nproc");
    let all = bundle.output();
    let path = bundle.path().display().to_string();
    let run = bundle.command(&["run", "-b", &path]);
    let mut bound = Command::new("taskset");
    bound.args(["-c", "0"]).arg(run.get_program()).args(run.get_args()).arg(&bundle.id);
    let said: bundle::Said = bound.output().unwrap().into();
    assert_eq!(said.out.trim(), all, "{}", said.err);
    // And a cpuset still does.
    let mut bundle = Bundle::sh("busybox nproc");
    bundle.spec["linux"]["resources"]["cpu"] = json!({ "cpus": "0" });
    assert_eq!(bundle.output(), "1");
}

#[test]
fn exec_begins_and_ends_on_the_cpus_it_is_told() {
    if !is_ours() {
        return println!("SKIPPED under {}: runc learnt execCPUAffinity in 1.3", runtime());
    }
    let bundle = Bundle::sh("sleep 100");
    bundle.start();
    let process = bundle.path().join("process.json");
    let exec = |affinity: Value| {
        let document = json!({ "args": ["grep", "Cpus_allowed_list", "/proc/self/status"], "env": ["PATH=/bin"],
            "cwd": "/", "user": { "uid": 0, "gid": 0 }, "execCPUAffinity": affinity });
        fs::write(&process, document.to_string()).unwrap();
        bundle.call(&["exec", "--process", process.to_str().unwrap()])
    };
    let said = exec(json!({ "initial": "0", "final": "1" }));
    assert_eq!(said.out, "Cpus_allowed_list:\t1\n", "{}", said.err);
    let every = exec(json!({ "initial": "0" }));
    assert_ne!(every.out, "Cpus_allowed_list:\t0\n", "{}", every.err);
    for wrong in [json!({ "initial": "x" }), json!({ "final": "1-0" })] {
        let said = exec(wrong);
        assert!(said.code == 255 && said.err.contains("execCPUAffinity"), "{}", said.err);
    }
    refused("process.execCPUAffinity", &json!({ "initial": "x" }));
}

#[test]
fn every_limit_by_its_name() {
    let names = [
        "CPU",
        "FSIZE",
        "DATA",
        "STACK",
        "CORE",
        "RSS",
        "NPROC",
        "NOFILE",
        "MEMLOCK",
        "AS",
        "LOCKS",
        "SIGPENDING",
        "MSGQUEUE",
        "NICE",
        "RTPRIO",
        "RTTIME",
    ];
    // None above what this machine grants: all are lowered.
    let limits = names.map(|name| {
        let (soft, hard) = match name {
            "AS" | "DATA" | "STACK" | "FSIZE" | "RSS" => (1_u64 << 30, 1_u64 << 31),
            "NICE" | "RTPRIO" => (0, 0),
            _ => (50, 60),
        };
        json!({ "type": format!("RLIMIT_{name}"), "soft": soft, "hard": hard })
    });
    let said = with("process.rlimits", json!(limits), "cat /proc/self/limits");
    assert_eq!(said.code, 0, "{}", said.err);
    let line = |name: &str| said.out.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    for (name, soft, hard) in [
        ("Max cpu time", "50", "60"),
        ("Max open files", "50", "60"),
        ("Max realtime timeout", "50", "60"),
        ("Max address space", "1073741824", "2147483648"),
        ("Max pending signals", "50", "60"),
    ] {
        let line = line(name);
        let words: Vec<&str> = line[name.len()..].split_whitespace().collect();
        assert_eq!(words[..2], [soft, hard], "{line}");
    }
    if is_ours() {
        refused("process.rlimits", &json!([{ "type": "RLIMIT_FOO", "soft": 1, "hard": 1 }]));
        refused("process.rlimits", &json!([{ "type": "RLIMIT_CORE", "soft": 2, "hard": 1 }]));
        let twice = json!({ "type": "RLIMIT_CORE", "soft": 0, "hard": 0 });
        refused("process.rlimits", &json!([twice, twice]));
    }
}

#[test]
fn raising_a_limit_without_the_power_for_it_is_told() {
    let said = Command::new("prlimit").args(["--core=0:0", "--"]).args(["true"]).status();
    assert!(said.unwrap().success(), "prlimit(1) is needed");
    let mut bundle = Bundle::sh("true");
    bundle.spec["process"]["rlimits"] = json!([{ "type": "RLIMIT_CORE", "soft": 5, "hard": 5 }]);
    bundle.write();
    let path = bundle.path().display().to_string();
    let run = bundle.command(&["run", "-b", &path]);
    let mut weak = Command::new("prlimit");
    weak.args(["--core=0:0", "--", "setpriv", "--bounding-set=-sys_resource", "--"]);
    weak.arg(run.get_program()).args(run.get_args()).arg(&bundle.id);
    let said: bundle::Said = weak.output().unwrap().into();
    assert_ne!(said.code, 0);
    assert!(!is_ours() || said.err.contains("needs CAP_SYS_RESOURCE"), "{}", said.err);
    bundle.assert_gone();
}

#[test]
fn capabilities_that_cannot_be_had() {
    let mut bundle = Bundle::sh("grep -E 'Cap(Inh|Prm|Eff|Bnd|Amb)' /proc/self/status");
    let caps = json!(["CAP_CHOWN", "CAP_NOPE"]);
    bundle.spec["process"]["capabilities"] =
        json!({ "bounding": caps, "effective": caps, "permitted": caps, "ambient": ["CAP_CHOWN"] });
    let said = bundle.run();
    if is_ours() {
        assert!(said.err.contains("ignoring ambient") && said.err.contains("CHOWN"), "{}", said.err);
        assert_eq!(said.code, 0, "{}", said.err);
        let sets: Vec<&str> = said.out.lines().map(|line| line.rsplit('\t').next().unwrap()).collect();
        assert_eq!(
            sets,
            [
                "0000000000000000",
                "0000000000000001",
                "0000000000000001",
                "0000000000000001",
                "0000000000000000"
            ]
        );
    }
    assert!(is_crun() || said.err.contains("CAP_NOPE"), "a warning: {}", said.err);
    if is_ours() {
        refused("process.capabilities", &json!({ "effective": ["CAP_CHOWN"] }));
    }
}

#[test]
fn a_later_variable_wins_and_odd_ones_are_refused() {
    let mut bundle = Bundle::sh("busybox env");
    bundle.spec["process"]["env"] = json!(["PATH=/bin", "A=1", "B=x=y", "A=2", "HOME=/h"]);
    let output = bundle.output();
    let mut lines: Vec<&str> =
        output.lines().filter(|line| !line.starts_with("PWD") && !line.starts_with("SHLVL")).collect();
    lines.sort_unstable();
    assert_eq!(lines, ["A=2", "B=x=y", "HOME=/h", "PATH=/bin"]);
    if is_crun() {
        return; // It hands them on as they are.
    }
    for odd in ["NAKED", "=x"] {
        refused("process.env", &json!(["PATH=/bin", odd]));
    }
}

#[test]
fn a_home_of_its_own() {
    let mut bundle = Bundle::sh("echo $HOME");
    bundle.spec["process"]["env"] = json!(["PATH=/bin"]);
    bundle.spec["process"]["user"] = json!({ "uid": 77, "gid": 0 });
    assert_eq!(bundle.output(), "/");
    fs::create_dir_all(bundle.rootfs().join("etc")).unwrap();
    let passwd = bundle.rootfs().join("etc/passwd");
    fs::write(&passwd, "root:x:0:0::/root:/bin/sh\nseven:x:77:0::/home/seven:/bin/sh\n").unwrap();
    assert_eq!(bundle.output(), "/home/seven");
    if is_ours() {
        // Hostile: a gigabyte that is not there, a pipe that nobody writes to.
        fs::File::create(&passwd).unwrap().set_len(1 << 30).unwrap();
        assert_eq!(bundle.output(), "/");
        fs::remove_file(&passwd).unwrap();
        assert!(Command::new("mkfifo").arg(&passwd).status().unwrap().success());
        assert_eq!(bundle.output(), "/");
    }
}

#[test]
fn no_id_stands_for_staying_root() {
    for (member, value) in
        [("uid", json!(u32::MAX)), ("gid", json!(u32::MAX)), ("additionalGids", json!([u32::MAX]))]
    {
        let mut user = json!({ "uid": 5, "gid": 5 });
        user[member] = value;
        let said = with("process.user", user, "id -u; id -g");
        if is_crun() {
            // As which it stays root: what this test is for.
            assert!(member != "uid" || said.out.starts_with("0\n"), "{}", said.out);
            continue;
        }
        assert!(said.code != 0 && said.out.is_empty(), "{member}: {}", said.out);
    }
}

#[test]
fn personalities() {
    let said = with("linux.personality", json!({ "domain": "LINUX32" }), "busybox uname -m");
    if is_ours() {
        assert_eq!(said.out, "i686\n", "{}", said.err);
        refused("linux.personality", &json!({ "domain": "PLAN9" }));
        refused("linux.personality", &json!({ "domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"] }));
        let mut bundle = Bundle::sh("sleep 100");
        bundle.spec["linux"]["personality"] = json!({ "domain": "LINUX32" });
        bundle.start();
        assert_eq!(bundle.call_with(&["exec"], &["busybox", "uname", "-m"]).out, "i686\n");
    }
}

#[test]
fn keys_are_its_own_and_exec_shares_them() {
    if is_crun() {
        return println!("SKIPPED under crun: its exec has a keyring of its own");
    }
    let mut bundle = Bundle::sh("cat /proc/keys; sleep 100");
    bundle.spec["linux"]["maskedPaths"] = json!([]);
    bundle.start();
    let name = format!("_ses.{}", bundle.id);
    let keyring = |keys: &str| {
        keys.lines().find(|line| line.contains(&name)).map(|line| line.split(' ').next().unwrap().to_owned())
    };
    let said = bundle.call_with(&["exec"], &["cat", "/proc/keys"]);
    let own = keyring(&said.out);
    assert!(own.is_some(), "{}", said.out);
    assert_eq!(own, keyring(&bundle.printed()));
    let created = Bundle::sh("cat /proc/keys");
    assert!(!created.output().contains(&name), "another container sees the keyring");
}

#[test]
fn intel_rdt_without_the_hardware_is_refused_with_its_remedy() {
    if !is_ours() {
        return println!("SKIPPED under {}: it has its own words", runtime());
    }
    if fs::read_to_string("/proc/self/mountinfo").unwrap().contains(" - resctrl ") {
        let said = with("linux.intelRdt", json!({ "enableMonitoring": true }), "true");
        assert_eq!(said.code, 0, "{}", said.err);
        return;
    }
    let said = with("linux.intelRdt", json!({ "l3CacheSchema": "L3:0=f" }), "echo ran");
    assert!(said.code != 0 && said.out.is_empty() && said.err.contains("mount -t resctrl"), "{}", said.err);
}
