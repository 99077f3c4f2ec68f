//! The systemd driver, beside a real systemd that is the first process: `cargo xtask vm test`.

#![allow(missing_docs, clippy::unwrap_used)]

mod bundle;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use bundle::{Bundle, Said};
use serde_json::json;

/// A container whose groups systemd makes; its unit is gone with the value.
struct Scope {
    bundle: Bundle,
    slice: &'static str,
}

impl Scope {
    fn sh(script: &str) -> Self {
        Self::below("", script)
    }

    /// In this slice; the default one, if it has no name.
    fn below(slice: &'static str, script: &str) -> Self {
        let mut bundle = Bundle::sh(script);
        bundle.spec["linux"]["cgroupsPath"] = json!(format!("{slice}:test:{}", bundle.id));
        Self { bundle, slice }
    }

    fn unit(&self) -> String {
        format!("test-{}.scope", self.bundle.id)
    }

    fn group(&self) -> PathBuf {
        let top = Path::new("/sys/fs/cgroup");
        match self.slice {
            "" => top.join("system.slice"),
            "guest-a-b.slice" => top.join("guest.slice/guest-a.slice/guest-a-b.slice"),
            other => panic!("{other}"),
        }
        .join(self.unit())
    }

    #[track_caller]
    fn read(&self, file: &str) -> String {
        let path = self.group().join(file);
        fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
            .trim()
            .to_owned()
    }

    fn call(&self, verb: &str) -> Said {
        fs::write(self.bundle.path().join("config.json"), self.bundle.spec.to_string()).unwrap();
        let path = self.bundle.path().to_str().unwrap();
        let mut command = self.bundle.command(&["--systemd-cgroup", verb, "-b", path, &self.bundle.id]);
        let (out, err) = (self.bundle.path().join("out"), self.bundle.path().join("err"));
        command.stdout(fs::File::create(&out).unwrap()).stderr(fs::File::create(&err).unwrap());
        let mut said = Said::from(command.output().unwrap());
        (said.out, said.err) = (fs::read_to_string(out).unwrap(), fs::read_to_string(err).unwrap());
        said
    }

    #[track_caller]
    fn start(&self) {
        let created = self.call("create");
        assert_eq!(created.code, 0, "{}", created.err);
        let started = self.bundle.call(&["start"]);
        assert_eq!(started.code, 0, "{}", started.err);
    }

    /// What systemd says about the unit.
    fn properties(&self) -> BTreeMap<String, String> {
        let said = systemctl(&["show", &self.unit()]);
        said.lines()
            .filter_map(|line| line.split_once('='))
            .map(|(key, value)| (key.into(), value.into()))
            .collect()
    }

    #[track_caller]
    fn assert_properties(&self, wanted: &[(&str, &str)]) {
        let properties = self.properties();
        for (name, value) in wanted {
            assert_eq!(properties.get(*name).map(String::as_str), Some(*value), "{name}");
        }
    }

    #[track_caller]
    fn assert_gone(&self) {
        bundle::until("systemd forgets the unit", || self.properties()["LoadState"] == "not-found");
        assert!(!self.group().exists());
        self.bundle.assert_gone();
    }
}

fn systemctl(words: &[&str]) -> String {
    let output = Command::new("systemctl").args(words).output().expect("systemctl (package systemd)");
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn limited(script: &str) -> Scope {
    let mut scope = Scope::sh(script);
    let resources = &mut scope.bundle.spec["linux"]["resources"];
    resources["memory"] = json!({ "limit": 67_108_864, "swap": 100_663_296, "reservation": 33_554_432 });
    resources["cpu"] = json!({ "shares": 512, "quota": 50_000, "period": 100_000, "cpus": "0" });
    resources["pids"] = json!({ "limit": 20 });
    scope
}

#[test]
fn limits_are_the_units_and_the_groups() {
    let scope = limited("cat /proc/self/cgroup; sleep 100");
    scope.start();
    scope.assert_properties(&[
        ("ActiveState", "active"),
        ("Slice", "system.slice"),
        ("Delegate", "yes"),
        ("Transient", "yes"),
        ("ControlGroup", &format!("/system.slice/{}", scope.unit())),
        ("MemoryMax", "67108864"),
        ("MemorySwapMax", "33554432"),
        ("MemoryLow", "33554432"),
        ("CPUWeight", "59"),
        ("CPUQuotaPerSecUSec", "500ms"),
        ("AllowedCPUs", "0"),
        ("TasksMax", "20"),
    ]);
    let check = || {
        for (file, value) in [
            ("memory.max", "67108864"),
            ("memory.swap.max", "33554432"),
            ("memory.low", "33554432"),
            ("cpu.weight", "59"),
            ("cpu.max", "50000 100000"),
            ("cpuset.cpus", "0"),
            ("pids.max", "20"),
        ] {
            assert_eq!(scope.read(file), value, "{file}");
        }
    };
    check();
    // systemd writes again what it knows.
    systemctl(&["daemon-reload"]);
    check();
    let pid = scope.bundle.state()["pid"].to_string();
    let own = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert!(own.trim().starts_with(&format!("0::/system.slice/{}", scope.unit())), "{own}");
    bundle::until("it tells its group", || !scope.bundle.printed().is_empty());
    assert_eq!(scope.bundle.printed(), "0::/\n");
    assert_eq!(scope.bundle.call(&["delete", "--force"]).code, 0);
    scope.assert_gone();
}

#[test]
fn a_slice_in_slices() {
    let scope = Scope::below("guest-a-b.slice", "sleep 100");
    scope.start();
    assert!(scope.group().exists(), "{}", scope.group().display());
    scope.assert_properties(&[("Slice", "guest-a-b.slice")]);
    assert_eq!(scope.bundle.call(&["delete", "--force"]).code, 0);
    scope.assert_gone();
    systemctl(&["stop", "guest.slice"]);
}

#[test]
fn update_changes_the_unit_too() {
    let scope = limited("sleep 100");
    scope.start();
    let flags =
        ["update", "--memory", "128m", "--memory-swap", "128m", "--pids-limit", "30", "--cpu-quota", "20000"];
    let said = scope.bundle.call(&flags);
    assert_eq!(said.code, 0, "{}", said.err);
    for reloaded in [false, true] {
        if reloaded {
            systemctl(&["daemon-reload"]);
        }
        for (file, value) in [("memory.max", "134217728"), ("pids.max", "30"), ("cpu.max", "20000 100000")] {
            assert_eq!(scope.read(file), value, "{file}");
        }
    }
    scope.assert_properties(&[
        ("MemoryMax", "134217728"),
        ("TasksMax", "30"),
        ("CPUQuotaPerSecUSec", "200ms"),
    ]);
}

#[test]
fn run_leaves_no_unit_however_it_ends() {
    let ended = limited("exit 3");
    assert_eq!(ended.call("run").code, 3);
    ended.assert_gone();
    let killed = limited("tail /dev/zero");
    assert_eq!(killed.call("run").code, 137);
    killed.assert_gone();
    let mut refused = limited("true");
    refused.bundle.spec["process"]["args"] = json!(["/nosuch"]);
    assert_ne!(refused.call("run").code, 0);
    refused.assert_gone();
}

#[test]
fn a_unit_whose_processes_end_can_be_deleted() {
    let scope = limited("sleep 100");
    scope.start();
    systemctl(&["stop", &scope.unit()]);
    scope.bundle.await_status("stopped");
    assert_eq!(scope.bundle.call(&["delete"]).code, 0);
    scope.assert_gone();
}

#[test]
fn devices_are_denied_before_and_after_a_reload() {
    let scope = limited("sleep 100");
    scope.start();
    let script = "test -e /disk || mknod /disk b 254 0; head -c 1 /disk; head -c 1 /dev/zero | wc -c";
    for reloaded in [false, true] {
        if reloaded {
            systemctl(&["daemon-reload"]);
        }
        let said = scope.bundle.call_with(&["exec"], &["sh", "-c", script]);
        assert!(said.err.contains("not permitted"), "reloaded: {reloaded}: {}{}", said.out, said.err);
        assert!(said.out.ends_with("1\n"), "reloaded: {reloaded}: {}{}", said.out, said.err);
    }
}

#[test]
fn exec_pause_and_events_find_the_scope() {
    let scope = limited("sleep 100");
    scope.start();
    let said = scope.bundle.call_with(&["exec"], &["cat", "/proc/self/cgroup"]);
    assert_eq!(said.out, "0::/\n", "{}", said.err);
    assert_eq!(scope.bundle.call(&["pause"]).code, 0);
    assert!(scope.read("cgroup.events").contains("frozen 1"));
    assert_eq!(scope.bundle.status(), "paused");
    assert_eq!(scope.bundle.call(&["resume"]).code, 0);
    let said = scope.bundle.call(&["events", "--stats"]);
    assert!(said.out.contains("67108864"), "{}{}", said.out, said.err);
}

#[test]
fn what_is_no_unit_is_a_clear_error() {
    for path in ["/knarr/x", "a:b", "no-slice:p:n", "system.slice:../x:n"] {
        let mut scope = Scope::sh("true");
        scope.bundle.spec["linux"]["cgroupsPath"] = json!(path);
        let said = scope.call("run");
        assert_eq!(said.code, 1, "{path}");
        assert!(said.err.contains("slice:prefix:name") && said.err.contains(path), "{}", said.err);
    }
    let first = Scope::sh("sleep 100");
    first.start();
    let mut second = Scope::sh("true");
    second.bundle.spec["linux"]["cgroupsPath"] = first.bundle.spec["linux"]["cgroupsPath"].clone();
    let said = second.call("run");
    assert_eq!(said.code, 1, "{}", said.err);
    assert!(said.err.contains(&first.unit()), "{}", said.err);
    assert_eq!(first.bundle.status(), "running");
}
