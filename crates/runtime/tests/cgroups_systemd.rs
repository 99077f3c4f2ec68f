//! `--systemd-cgroup` against a real systemd: this machine's, or one of our own in namespaces of its own.

#![allow(missing_docs, clippy::unwrap_used)]

mod bundle;
mod groups;

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
};

use bundle::Bundle;
use groups::await_that;
use serde_json::json;

/// A systemd, and the words that lead to where it is.
struct Systemd {
    own: Option<(Child, String)>,
    through: Vec<String>,
}

/// In groups of its own; it has no units but the target that it begins with.
const BOOT: &str = r#"
for hierarchy in /sys/fs/cgroup/*/; do
    group=$hierarchy$GROUP
    mkdir -p $group
    if [ -e $group/cpuset.cpus ]; then
        for name in cpuset.cpus cpuset.mems; do
            cat $hierarchy/$name > ${group%/*}/$name; cat $hierarchy/$name > $group/$name
        done
    fi
    echo $$ > $group/cgroup.procs
done
exec unshare --mount --pid --cgroup --uts --ipc --net --fork --kill-child=KILL --propagation private --mount-proc sh -c '
    mount -t tmpfs tmpfs /run
    list=$(ls /sys/fs/cgroup)
    mount -t tmpfs tmpfs /sys/fs/cgroup
    for name in $list; do
        mkdir /sys/fs/cgroup/$name
        case $name in
            systemd) mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/$name ;;
            unified) mount -t cgroup2 cgroup2 /sys/fs/cgroup/$name ;;
            *) mount -t cgroup -o $name cgroup /sys/fs/cgroup/$name ;;
        esac
    done
    mkdir /run/units
    printf "[Unit]\nDefaultDependencies=no\n" > /run/units/default.target
    export container=test SYSTEMD_UNIT_PATH=/run/systemd/system.control:/run/systemd/transient:/run/units
    exec /usr/lib/systemd/systemd --system --log-target=console --log-level=notice --show-status=0
'"#;

impl Systemd {
    fn here() -> Self {
        if Path::new("/run/systemd/system").exists() {
            return Self { own: None, through: Vec::new() };
        }
        assert!(Path::new("/usr/lib/systemd/systemd").exists(), "needs systemd (package systemd)");
        let group = format!("knarr/systemd-{}", std::process::id());
        let mut boot = Command::new("sh");
        boot.args(["-c", BOOT]).env("GROUP", &group).stdin(Stdio::null()).stdout(Stdio::null());
        let child = boot.spawn().unwrap();
        let children = format!("/proc/{0}/task/{0}/children", child.id());
        let mut systemd = Self { own: Some((child, group)), through: Vec::new() };
        await_that("systemd listens", || {
            let pid = fs::read_to_string(&children).unwrap_or_default().trim().to_owned();
            let words = ["nsenter", "--target", &pid, "-m", "-p", "-C", "-u", "-i", "-n"];
            systemd.through = words.map(str::to_owned).to_vec();
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            name == "systemd\n" && systemd.says(&["systemctl", "is-active", "default.target"]).0 == 0
        });
        systemd
    }

    /// Code and output of a program in there.
    fn says(&self, words: &[&str]) -> (i32, String) {
        let words: Vec<&str> = self.through.iter().map(String::as_str).chain(words.iter().copied()).collect();
        let output = Command::new(words[0]).args(&words[1..]).stderr(Stdio::null()).output().unwrap();
        (output.status.code().unwrap_or(-1), String::from_utf8(output.stdout).unwrap().trim().to_owned())
    }

    fn property(&self, unit: &str, name: &str) -> String {
        self.says(&["systemctl", "show", "--value", "--property", name, unit]).1
    }

    fn bundle(&self, path: &str) -> Bundle {
        let mut bundle = Bundle::sh("trap exit TERM; while :; do sleep 0.1; done");
        bundle.through.clone_from(&self.through);
        bundle.global = vec!["--systemd-cgroup".to_owned()];
        bundle.spec["linux"]["cgroupsPath"] = json!(path);
        bundle
    }

    fn groups_of(&self, bundle: &Bundle) -> Vec<String> {
        let table = self.says(&["cat", &format!("/proc/{}/cgroup", bundle.state()["pid"])]).1;
        table.lines().map(|line| line.splitn(3, ':').nth(2).unwrap().to_owned()).collect()
    }

    /// A file of a group, by its v1 and its v2 name.
    fn file(&self, group: &str, controller: &str, v1: &str, v2: &str) -> String {
        let top = if bundle::is_pure_v2() {
            "/sys/fs/cgroup".to_owned()
        } else {
            format!("/sys/fs/cgroup/{controller}")
        };
        let name = if bundle::is_pure_v2() { v2 } else { v1 };
        self.says(&["cat", &format!("{top}{group}/{name}")]).1
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        let Some((child, group)) = &mut self.own else {
            // systemd keeps a slice until it is told to let it go.
            let slices = ["knarr-a.slice", "knarr-b.slice", "knarr-test.slice", "knarr.slice"];
            self.says(&[["systemctl", "stop"].as_slice(), &slices].concat());
            return;
        };
        let _ = child.kill();
        let _ = child.wait();
        // Its groups are empty once the last process of its pid namespace is gone.
        let script = "for try in $(seq 200); do
            find /sys/fs/cgroup/*/$0 -depth -type d -exec rmdir {} + 2>/dev/null
            ls -d /sys/fs/cgroup/*/$0 >/dev/null 2>&1 || exit 0
            sleep 0.05
        done; exit 1";
        let gone = Command::new("sh").args(["-c", script, group]).status();
        assert!(gone.is_ok_and(|gone| gone.success()), "{group} is left behind");
    }
}

/// One systemd for all, because to start one takes longer than the rest.
#[test]
fn systemd_makes_the_groups() {
    let systemd = Systemd::here();
    a_scope_has_the_limits_and_the_update(&systemd);
    a_container_that_ended_by_itself_is_deleted(&systemd);
    a_unit_of_that_name_is_left_alone(&systemd);
    what_fails_leaves_no_unit(&systemd);
    everything_is_allowed_if_so_asked(&systemd);
}

fn unit(bundle: &Bundle) -> String {
    let path = bundle.spec["linux"]["cgroupsPath"].as_str().unwrap();
    let parts: Vec<&str> = path.split(':').collect();
    format!("{}-{}.scope", parts[1], parts[2])
}

fn a_scope_has_the_limits_and_the_update(systemd: &Systemd) {
    let mut bundle = systemd.bundle("knarr-test.slice:kn:limits");
    bundle.spec["linux"]["resources"]["memory"] = json!({ "limit": 64 << 20 });
    bundle.spec["linux"]["resources"]["cpu"] = json!({ "shares": 512, "quota": 33_333, "period": 100_000 });
    bundle.spec["linux"]["resources"]["pids"] = json!({ "limit": 20 });
    // CVE-2024-3154: what would be root's program on the host, or another unit's business.
    bundle.spec["annotations"] = json!({
        "org.systemd.property.Description": "'taken over'",
        "org.systemd.property.TasksMax": "uint64 77",
        "org.systemd.property.ExecStopPost": "[('/bin/sh', ['sh', '-c', 'touch /run/taken-over'], false)]",
    });
    bundle.start();
    let unit = unit(&bundle);
    let group = "/knarr.slice/knarr-test.slice/kn-limits.scope";
    assert!(systemd.groups_of(&bundle).iter().all(|path| path == group), "{:?}", systemd.groups_of(&bundle));
    let v2 = bundle::is_pure_v2();
    for (name, value) in [
        ("ActiveState", "active"),
        ("Slice", "knarr-test.slice"),
        ("Delegate", "yes"),
        ("Description", "container kn-limits.scope"),
        (if v2 { "MemoryMax" } else { "MemoryLimit" }, "67108864"),
        (if v2 { "CPUWeight" } else { "CPUShares" }, if v2 { "59" } else { "512" }),
        ("CPUQuotaPerSecUSec", "340ms"),
        ("TasksMax", "20"),
        ("DevicePolicy", "strict"),
    ] {
        assert_eq!(systemd.property(&unit, name), value, "{name}");
    }
    assert!(systemd.property(&unit, "DeviceAllow").contains("/dev/char/1:3 rwm"));
    assert_eq!(systemd.file(group, "pids", "pids.max", "pids.max"), "20");
    let said = bundle.call(&["update", "--memory", "100m", "--pids-limit", "30"]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert_eq!(systemd.property(&unit, "TasksMax"), "30");
    assert_eq!(systemd.property(&unit, if v2 { "MemoryMax" } else { "MemoryLimit" }), "104857600");
    assert_eq!(systemd.file(group, "memory", "memory.limit_in_bytes", "memory.max"), "104857600");
    // What systemd knows is what it writes again; what we wrote and it does not know, it leaves alone.
    assert_eq!(systemd.says(&["systemctl", "daemon-reload"]).0, 0);
    assert_eq!(systemd.file(group, "pids", "pids.max", "pids.max"), "30");
    let denied = bundle.call_with(&["exec"], &["mknod", "/x", "c", "10", "200"]);
    assert_ne!(denied.code, 0, "the device list holds after a reload");
    let said = bundle.call(&["update", "--pids-limit", "40", "--cpuset-cpus", "4095"]);
    assert_ne!(said.code, 0);
    assert_eq!(systemd.property(&unit, "TasksMax"), "30", "a change that fails is taken back: {}", said.err);
    for verb in ["pause", "resume"] {
        assert_eq!(bundle.call(&[verb]).code, 0);
    }
    let said = bundle.call(&["delete", "--force"]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert_gone(systemd, &unit, group);
    assert_ne!(systemd.says(&["test", "-e", "/run/taken-over"]).0, 0);
}

#[track_caller]
fn assert_gone(systemd: &Systemd, unit: &str, group: &str) {
    assert_eq!(systemd.property(unit, "LoadState"), "not-found");
    let left = systemd.says(&["sh", "-c", &format!("ls -d /sys/fs/cgroup{group} /sys/fs/cgroup/*{group}")]).1;
    assert_eq!(left, "");
}

fn a_container_that_ended_by_itself_is_deleted(systemd: &Systemd) {
    for code in [0, 1] {
        let mut bundle = systemd.bundle(":kn:short");
        bundle.spec["process"]["args"] = json!(["/bin/sh", "-c", format!("exit {code}")]);
        bundle.start();
        bundle.await_status("stopped");
        let said = bundle.call(&["delete"]);
        assert_eq!(said.code, 0, "{}", said.err);
        assert_gone(systemd, "kn-short.scope", "/system.slice/kn-short.scope");
    }
}

fn a_unit_of_that_name_is_left_alone(systemd: &Systemd) {
    let first = systemd.bundle("knarr-a.slice:kn:same");
    first.start();
    let second = systemd.bundle("knarr-b.slice:kn:same");
    let said = second.create();
    assert!(said.code != 0 && said.err.contains("UnitExists"), "{}", said.err);
    assert_eq!(first.status(), "running");
    assert_eq!(systemd.property("kn-same.scope", "Slice"), "knarr-a.slice");
}

fn what_fails_leaves_no_unit(systemd: &Systemd) {
    for (member, value) in [
        ("resources", json!({ "cpu": { "cpus": "4095" } })),
        ("maskedPaths", json!(["not/absolute"])),
        ("sysctl", json!({ "net.no.such": "1" })),
    ] {
        let mut bundle = systemd.bundle(":kn:fails");
        bundle.spec["linux"][member] = value;
        let said = bundle.create();
        assert_ne!(said.code, 0, "{member}");
        assert_gone(systemd, "kn-fails.scope", "/system.slice/kn-fails.scope");
    }
    for path in ["/knarr/x", "a:b", "../x.slice:a:b", "a.slice:b:../c"] {
        let said = systemd.bundle(path).create();
        assert!(said.code != 0 && said.err.contains("slice:prefix:name"), "{path}: {}", said.err);
    }
}

fn everything_is_allowed_if_so_asked(systemd: &Systemd) {
    let mut bundle = systemd.bundle(":kn:privileged");
    bundle.spec["linux"]["resources"]["devices"] = json!([{ "allow": true, "access": "rwm" }]);
    bundle.start();
    assert_eq!(systemd.property("kn-privileged.scope", "DevicePolicy"), "auto");
    assert_eq!(bundle.call_with(&["exec"], &["mknod", "/x", "c", "10", "200"]).code, 0);
}

#[test]
fn without_systemd_it_says_so() {
    if Path::new("/run/systemd/system").exists() {
        return eprintln!("skipped: this machine has a systemd");
    }
    let mut bundle = Bundle::sh("true");
    bundle.global = vec!["--systemd-cgroup".to_owned()];
    bundle.spec["linux"]["cgroupsPath"] = json!("knarr.slice:a:b");
    let said = bundle.create();
    assert!(said.code != 0 && said.err.contains("needs a running systemd"), "{}", said.err);
    bundle.assert_gone();
}
