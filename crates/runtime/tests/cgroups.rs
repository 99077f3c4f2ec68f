//! A container's place in the control groups: what may name it, what may be done from inside, who follows it there,
//! and that nothing of it is left.

#![allow(missing_docs, clippy::unwrap_used)]

mod bundle;
mod groups;

use std::{fs, path::Path, process::Command};

use bundle::{Bundle, hierarchies, hierarchy, is_ours, is_pure_v2};
use groups::{await_that, read};
use serde_json::json;

/// The paths of a process, hierarchy by hierarchy.
fn paths_of(pid: &str) -> Vec<String> {
    let table = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    table.lines().map(|line| line.splitn(3, ':').nth(2).unwrap().to_owned()).collect()
}

/// S-703
#[test]
fn a_path_leads_nowhere_else() {
    if !is_ours() {
        return eprintln!(
            "skipped: runc takes \"/\" for a container's group, and this machine's groups are at stake"
        );
    }
    for path in [
        "/",
        "//",
        ".",
        "..",
        "../x",
        "/..",
        "/../x",
        "/knarr/../x",
        "knarr/../../x",
        "./x",
        "/./",
        "/knarr/x/..",
        "/a\nb",
        "/a\u{0}b",
    ] {
        let mut bundle = Bundle::sh("true");
        bundle.spec["linux"]["cgroupsPath"] = json!(path);
        let said = bundle.run();
        assert!(said.code != 0 && said.err.contains("cgroupsPath"), "{path:?}: {}{}", said.code, said.err);
        bundle.assert_gone();
    }
}

/// S-703: annotations of other runtimes' that place a container, or become properties of a unit.
#[test]
fn annotations_place_nothing() {
    let mut bundle = Bundle::sh("sleep 100");
    bundle.spec["annotations"] = json!({
        "run.oci.systemd.subgroup": "../../x",
        "run.oci.delegate-cgroup": "../x",
        "org.systemd.property.ExecStopPost": "[(\"/bin/touch\", [\"touch\", \"/tmp/escaped\"], false)]",
        "org.systemd.property.Slice": "'evil.slice'",
        "io.katacontainers.config.cgroup": "/x",
    });
    bundle.start();
    let pid = bundle.state()["pid"].to_string();
    let wanted = format!("/knarr/{}", bundle.id);
    assert!(paths_of(&pid).iter().all(|path| *path == wanted), "{:?}", paths_of(&pid));
}

/// Whether a process is on its way out (`PF_EXITING`): it is shown in v1's root groups then.
fn is_ending(pid: &str) -> bool {
    const EXITING: u64 = 4;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let flags = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(6)?.parse::<u64>().ok());
    flags.is_none_or(|flags| flags & EXITING != 0)
}

/// S-703
#[test]
fn every_process_stays_below_its_group() {
    let bundle = Bundle::sh("while :; do sleep 0.01; done");
    bundle.start();
    let wanted = format!("/knarr/{}", bundle.id);
    let processes = || read(&bundle, "pids", "cgroup.procs");
    for round in 0..12 {
        let limit = (round % 7 + 50).to_string();
        assert_eq!(bundle.call(&["update", "--pids-limit", &limit]).code, 0);
        assert_eq!(bundle.call_with(&["exec", "-d"], &["sleep", "0.05"]).code, 0);
        if round % 5 == 0 {
            assert_eq!(bundle.call(&["pause"]).code, 0);
            assert_eq!(bundle.call(&["resume"]).code, 0);
        }
        for pid in processes().lines() {
            let Ok(table) = fs::read_to_string(format!("/proc/{pid}/cgroup")) else { continue };
            let outside = table.lines().find(|line| line.splitn(3, ':').nth(2) != Some(wanted.as_str()));
            assert!(outside.is_none() || is_ending(pid), "process {pid}: {outside:?}");
        }
    }
}

/// Writes to every file there; prints those that could be opened for it.
const WRITE_ALL: &str = r#"
seen=0
for file in $(find /sys/fs/cgroup/ -type f 2>/dev/null); do
    seen=$((seen + 1))
    (: >> $file) 2>/dev/null && echo "writable: $file"
done
for group in $(find /sys/fs/cgroup/ -type d 2>/dev/null); do
    mkdir $group/made 2>/dev/null && echo "made: $group/made"
done
[ $seen -gt 10 ] && echo looked"#;

/// S-213
#[test]
fn groups_cannot_be_written_from_inside() {
    for kinds in [
        vec!["pid", "network", "ipc", "uts", "mount", "cgroup"],
        vec!["pid", "network", "ipc", "uts", "mount"],
    ] {
        let mut bundle = Bundle::sh(WRITE_ALL);
        std::os::unix::fs::symlink("busybox", bundle.rootfs().join("bin/find")).unwrap();
        let list: Vec<_> = kinds.iter().map(|kind| json!({ "type": kind })).collect();
        bundle.spec["linux"]["namespaces"] = json!(list);
        let found = bundle.output();
        // Debian's runc leaves the tmpfs above v1's hierarchies writable.
        let found = if is_ours() { found } else { found.replace("made: /sys/fs/cgroup//made\n", "") };
        assert_eq!(found, "looked", "{kinds:?}");
        if is_ours() {
            // It bites: the same finds much to write where the mount is not read-only.
            let mounts = bundle.spec["mounts"].as_array_mut().unwrap();
            let mount = mounts.iter_mut().find(|mount| mount["type"] == "cgroup").unwrap();
            mount["options"] = json!(["nosuid", "noexec", "nodev"]);
            let found = bundle.output();
            assert!(found.contains("writable: ") && found.contains("made: "), "{kinds:?}: {found}");
        }
    }
}

/// A bundle whose groups may be written from inside.
fn open_bundle(script: &str, only_v2: bool) -> Bundle {
    let mut bundle = Bundle::sh(script);
    bundle.only_v2 = only_v2;
    let mounts = bundle.spec["mounts"].as_array_mut().unwrap();
    let mount = mounts.iter_mut().find(|mount| mount["type"] == "cgroup").unwrap();
    mount["options"] = json!(["nosuid", "noexec", "nodev"]);
    bundle
}

/// Where the container's groups are from inside, with a file that takes processes.
fn inside(only_v2: bool) -> &'static str {
    if is_pure_v2() || only_v2 { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/pids" }
}

#[test]
fn groups_that_a_container_made_go_with_it() {
    for only_v2 in [false, true] {
        let top = inside(only_v2);
        let bundle = open_bundle(
            &format!(
                "mkdir -p {top}/a/b/c {top}/d; for g in a a/b/c d; do (echo 0 > {top}/$g/cgroup.procs; exec sleep 100) & done; echo ready; sleep 100"
            ),
            only_v2,
        );
        bundle.start();
        await_that("the groups are there", || bundle.printed().contains("ready"));
        assert_eq!(bundle.call(&["kill", "--all"]).code, 0);
        assert_eq!(bundle.call_with(&["kill", "--all"], &["KILL"]).code, 0);
        await_that("it has ended", || bundle.status() == "stopped");
        let said = bundle.call(&["delete"]);
        assert_eq!(said.code, 0, "{}", said.err);
        bundle.assert_gone();
        assert!(!hierarchy("unified").join("knarr").join(&bundle.id).exists());
    }
}

/// Threads of one process in groups of their own: such groups have no list of processes.
#[test]
fn threaded_groups_go_with_it() {
    let bundle = open_bundle(
        "cd /sys/fs/cgroup; mkdir t; echo threaded > t/cgroup.type; echo 0 > t/cgroup.threads; echo ready; sleep 100",
        true,
    );
    bundle.start();
    await_that("the group is there", || bundle.printed().contains("ready"));
    assert_eq!(bundle.call(&["delete", "--force"]).code, 0);
    bundle.assert_gone();
    assert!(!hierarchy("unified").join("knarr").join(&bundle.id).exists());
}

/// Without a pid namespace nothing ends with the first process; and what forks while it is ended is ended as well.
#[test]
fn all_that_forks_is_ended() {
    for only_v2 in [false, true] {
        let mut bundle = Bundle::sh("more() { while :; do sleep 0.01 & done; }; more & more & sleep 100");
        bundle.only_v2 = only_v2;
        bundle.spec["linux"]["namespaces"] =
            json!(["network", "ipc", "uts", "mount", "cgroup"].map(|kind| json!({ "type": kind })));
        if !only_v2 {
            bundle.spec["linux"]["resources"]["pids"] = json!({ "limit": 50 });
        }
        bundle.start();
        let said = bundle.call_with(&["kill", "--all"], &["KILL"]);
        assert_eq!(said.code, 0, "{}", said.err);
        let left = || -> String {
            let group = if only_v2 { "unified" } else { "pids" };
            fs::read_to_string(hierarchy(group).join("knarr").join(&bundle.id).join("cgroup.procs"))
                .unwrap_or_default()
        };
        await_that("none is left", || left().is_empty());
        assert_eq!(bundle.call(&["delete", "--force"]).code, 0);
        bundle.assert_gone();
    }
}

#[test]
fn exec_enters_a_group_below() {
    for only_v2 in [false, true] {
        let top = inside(only_v2);
        let bundle = open_bundle(&format!("mkdir -p {top}/second/deep; echo ready; sleep 100"), only_v2);
        bundle.start();
        await_that("the group is there", || bundle.printed().contains("ready"));
        let v2 = is_pure_v2() || only_v2;
        let path = if v2 { "second/deep".to_owned() } else { "pids:second/deep".to_owned() };
        let said = bundle.call_with(&["exec", "--cgroup", &path], &["cat", "/proc/self/cgroup"]);
        let line = if v2 { "0::/second/deep" } else { ":pids:/second/deep" };
        assert!(said.code == 0 && said.out.contains(line), "{}{}", said.out, said.err);
        if !v2 {
            assert!(said.out.contains(":memory:/\n"), "{}", said.out);
        }
        for wrong in ["../x", "nope", "pids:a/../../x", "nonsense:second", ":second"] {
            if !is_ours() && wrong == ":second" {
                continue; // An empty name of a controller is any, to Debian's runc.
            }
            let said = bundle.call_with(&["exec", "--cgroup", wrong], &["true"]);
            assert_ne!(said.code, 0, "{wrong}");
        }
    }
}

/// The leaf rule of v2: once the container passes controllers down, its top group takes no process.
#[test]
fn exec_finds_a_place_where_the_top_group_takes_none() {
    let bundle = open_bundle(
        "cd /sys/fs/cgroup; mkdir leaf; echo 0 > leaf/cgroup.procs; echo +hugetlb > cgroup.subtree_control && echo ready; sleep 100",
        true,
    );
    // Passed down to the container, beside v1 too.
    let mut bundle = bundle;
    bundle.spec["linux"]["resources"]["hugepageLimits"] = json!([{ "pageSize": "2MB", "limit": 0 }]);
    bundle.start();
    await_that("the controller is passed down", || bundle.printed().contains("ready"));
    let said = bundle.call_with(&["exec"], &["cat", "/proc/self/cgroup"]);
    assert!(said.code == 0 && said.out.contains("0::/leaf\n"), "{}{}", said.out, said.err);
    let named = bundle.call_with(&["exec", "--cgroup", "leaf"], &["true"]);
    assert_eq!(named.code, 0, "{}", named.err);
}

/// v2: who is not root inside may manage groups if the container may at all.
#[test]
fn a_user_gets_the_group_of_his_container() {
    if !is_ours() {
        return eprintln!("skipped: runc does so on pure v2 only");
    }
    let mut bundle = open_bundle(
        "cd /sys/fs/cgroup && mkdir mine && echo 0 > mine/cgroup.procs && cat /proc/self/cgroup; stat -c %u . cgroup.procs cgroup.max.depth",
        true,
    );
    bundle.spec["process"]["user"] = json!({ "uid": 1234, "gid": 1234 });
    let printed = bundle.output();
    let lines: Vec<&str> = printed.lines().collect();
    assert!(lines.contains(&"0::/mine"), "{printed}");
    assert_eq!(lines[lines.len() - 3..], ["1234", "1234", "0"], "{printed}");
}

/// A user may make no groups here: a container without limits has none, one with limits, or with a group by name, is
/// refused.
#[test]
fn without_the_right_to_make_groups() {
    if !is_ours() {
        return eprintln!("skipped: Debian's runc takes a read-only file system for an error");
    }
    let run = |resources: serde_json::Value, by_name: bool| {
        let mut bundle = Bundle::sh("cat /proc/self/cgroup");
        if !by_name {
            bundle.spec["linux"]["cgroupsPath"].take();
        }
        bundle.spec["linux"]["resources"] = resources;
        bundle.spec["mounts"] = json!([{ "destination": "/proc", "type": "proc", "source": "proc" }]);
        bundle.spec["linux"]["namespaces"] =
            json!(["pid", "ipc", "uts", "mount", "user", "network"].map(|kind| json!({ "type": kind })));
        let map = json!([{ "containerID": 0, "hostID": 0, "size": 1 }]);
        (bundle.spec["linux"]["uidMappings"], bundle.spec["linux"]["gidMappings"]) = (map.clone(), map);
        fs::write(bundle.path().join("config.json"), bundle.spec.to_string()).unwrap();
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
        // Root of a namespace of ours would still be the owner of the groups: they are made read-only.
        command.arg(
            "for at in /sys/fs/cgroup /sys/fs/cgroup/*; do mount -o remount,bind,ro $at 2>/dev/null; done; exec \"$@\"",
        );
        command.args(["sh", bundle::runtime().as_str(), "--root"]).arg(bundle.path().join("state"));
        command.args(["run", "-b"]).arg(bundle.path()).arg(&bundle.id);
        let said = bundle::Said::from(command.output().unwrap());
        bundle.assert_gone();
        said
    };
    let devices = json!({ "devices": [{ "allow": false, "access": "rwm" }] });
    let said = run(devices.clone(), false);
    assert!(said.code == 0 && !said.out.contains("knarr-test"), "{}{}", said.out, said.err);
    for said in [run(devices, true), run(json!({ "pids": { "limit": 5 } }), false)] {
        assert!(
            said.code != 0 && (said.err.contains("make cgroup") || said.err.contains("make no groups")),
            "{}{}",
            said.out,
            said.err
        );
    }
}

#[test]
fn somebody_elses_group_is_left_alone() {
    if !is_ours() {
        return eprintln!("skipped: Debian's runc only warns, as newer ones do not");
    }
    let first = Bundle::sh("sleep 100");
    first.start();
    let mut second = Bundle::sh("true");
    second.spec["linux"]["cgroupsPath"] = first.spec["linux"]["cgroupsPath"].clone();
    let said = second.run();
    assert!(said.code != 0 && said.err.contains("has processes already"), "{}", said.err);
    assert_eq!(first.status(), "running");
    for name in hierarchies().iter().filter(|name| Path::new("/sys/fs/cgroup").join(name).is_dir()) {
        assert!(first.group(name).exists(), "{name}");
    }
}
