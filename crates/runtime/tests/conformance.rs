//! What the OCI runtime specification asks of every runtime, by the subjects of runtime-tools' validation programs, as
//! far as no other file here has them; `COMPAT.md` says where each is. `cargo xtask conformance` runs it against peers.

#![allow(missing_docs, clippy::unwrap_used)]

mod bundle;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use bundle::{Bundle, hierarchies, until};
use serde_json::{Value, json};

/// A hook that notes that it ran, and what it read, below the bundle; then it ends with `code`.
fn hook(bundle: &Bundle, name: &str, code: u8) -> Value {
    let path = bundle.path().join(format!("hook-{name}"));
    let script = format!(
        "#!/bin/sh\necho {name} >>{0}/order\ncat >{0}/state-{name}\nexit {code}\n",
        bundle.path().display()
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    json!({ "path": path, "args": ["hook"], "env": ["PATH=/usr/bin:/bin"] })
}

fn read(bundle: &Bundle, name: &str) -> String {
    fs::read_to_string(bundle.path().join(name)).unwrap_or_default()
}

#[test]
fn create() {
    let bundle = Bundle::sh("true");
    bundle.write();
    let path = bundle.path().to_str().unwrap();
    assert_ne!(
        bundle.command(&["create", "-b", path]).output().unwrap().status.code(),
        Some(0),
        "without an id"
    );
    assert_eq!(bundle.create().code, 0);
    assert_eq!(bundle.status(), "created");
    assert_ne!(bundle.create().code, 0, "the id is taken");
    assert_eq!(bundle.status(), "created", "and whose it is does not suffer");
}

#[test]
fn start() {
    let bundle = Bundle::sh("echo ran; sleep 100");
    assert_ne!(bundle.call(&["start"]).code, 0, "before it is created");
    bundle.start();
    until("it runs", || bundle.printed() == "ran\n");
    assert_ne!(bundle.call(&["start"]).code, 0, "while it runs");
    assert_eq!(bundle.status(), "running", "and it does not suffer");
    assert_eq!(bundle.call_with(&["kill"], &["KILL"]).code, 0);
    bundle.await_status("stopped");
    assert_ne!(bundle.call(&["start"]).code, 0, "when it has ended");
}

#[test]
fn state() {
    let mut bundle = Bundle::sh("sleep 100");
    bundle.spec["annotations"] = json!({ "org.example.key": "value" });
    assert_ne!(bundle.call(&["state"]).code, 0, "before it is created");
    bundle.start();
    let state = bundle.state();
    assert!(state["ociVersion"].as_str().unwrap().starts_with("1."));
    assert_eq!(state["id"], bundle.id.as_str());
    assert_eq!(state["status"], "running");
    assert_eq!(state["bundle"], bundle.path().to_str().unwrap());
    assert_eq!(state["annotations"]["org.example.key"], "value");
    let line = fs::read_to_string(format!("/proc/{}/cmdline", state["pid"])).unwrap();
    assert!(line.contains("sleep"), "the pid is that of the host: {line}");
}

#[test]
fn kill() {
    let bundle = Bundle::sh("sleep 100");
    assert_ne!(bundle.call_with(&["kill"], &["KILL"]).code, 0, "before it is created");
    assert_eq!(bundle.create().code, 0);
    assert_eq!(bundle.call_with(&["kill"], &["KILL"]).code, 0, "a created one");
    bundle.await_status("stopped");
}

#[test]
fn kill_no_effect() {
    let bundle = Bundle::sh("exit 0");
    bundle.start();
    bundle.await_status("stopped");
    assert_ne!(bundle.call_with(&["kill"], &["TERM"]).code, 0);
    assert_eq!(bundle.status(), "stopped");
}

#[test]
fn killsig() {
    let script = "for signal in HUP INT QUIT USR1 USR2 TERM WINCH; do trap \"echo $signal\" $signal; done; \
        echo ready; while :; do sleep 0.01; done";
    let bundle = Bundle::sh(script);
    bundle.start();
    let mut wanted = "ready\n".to_owned();
    until("it listens", || bundle.printed() == wanted);
    for (signal, name) in [
        ("HUP", "HUP"),
        ("SIGINT", "INT"),
        ("3", "QUIT"),
        ("USR1", "USR1"),
        ("12", "USR2"),
        ("TERM", "TERM"),
        ("28", "WINCH"),
    ] {
        assert_eq!(bundle.call_with(&["kill"], &[signal]).code, 0, "{signal}");
        wanted.extend([name, "\n"]);
        until(&format!("{signal} arrives"), || bundle.printed() == wanted);
    }
}

#[test]
fn delete() {
    let bundle = Bundle::sh("sleep 100");
    assert_ne!(bundle.call(&["delete"]).code, 0, "before it is created");
    bundle.start();
    assert_ne!(bundle.call(&["delete"]).code, 0, "while it runs");
    assert_eq!(bundle.status(), "running", "and it does not suffer");
    assert_eq!(bundle.call_with(&["kill"], &["KILL"]).code, 0);
    bundle.await_status("stopped");
    assert_eq!(bundle.call(&["delete"]).code, 0);
    assert_ne!(bundle.call(&["state"]).code, 0);
    bundle.assert_gone();
    assert_eq!(bundle.create().code, 0, "the id is free again");
}

#[test]
fn delete_only_create_resources() {
    let bundle = Bundle::sh("true");
    let parents: Vec<PathBuf> = hierarchies()
        .iter()
        .map(|name| bundle.group(name))
        .filter_map(|group| Some(group.parent()?.to_owned()))
        .collect();
    assert_eq!(bundle.run().code, 0);
    bundle.assert_gone();
    // What is above the container's group is not its own.
    assert!(parents.iter().any(|parent| parent.exists()));
    assert!(bundle.rootfs().join("bin/busybox").exists());
}

#[test]
fn config_updates_without_affect() {
    let mut bundle = Bundle::sh("echo first; sleep 100");
    assert_eq!(bundle.create().code, 0);
    bundle.spec["process"]["args"] = json!(["/bin/echo", "second"]);
    bundle.spec["hostname"] = "other".into();
    bundle.write();
    assert_eq!(bundle.call(&["start"]).code, 0);
    until("it has spoken", || !bundle.printed().is_empty());
    assert_eq!(bundle.printed(), "first\n", "what was read at creation is what counts");
}

#[test]
fn misc_props() {
    let mut bundle = Bundle::sh("echo ran");
    bundle.spec["unknown"] = json!({ "a": [1, 2, 3] });
    bundle.spec["annotations"] = json!({ "org.example.unknown": "1" });
    assert_eq!(bundle.output(), "ran", "what is not known is passed over");
    let bundle = Bundle::sh("true");
    fs::write(bundle.path().join("config.json"), "{ \"ociVersion\": ").unwrap();
    let path = bundle.path().to_str().unwrap();
    assert_ne!(bundle.call(&["create", "-b", path]).code, 0, "what is no JSON is refused");
    bundle.assert_gone();
}

#[test]
fn pidfile() {
    let bundle = Bundle::sh("sleep 100");
    let path = bundle.path().join("a.pid");
    assert_eq!(bundle.create_with(&["--pid-file", path.to_str().unwrap()]).code, 0);
    assert_eq!(fs::read_to_string(&path).unwrap(), bundle.state()["pid"].to_string());
}

#[test]
fn hooks() {
    let mut bundle = Bundle::sh("echo program >>/dev/null");
    let kinds = ["prestart", "createRuntime", "poststart", "poststop"];
    let hooks: serde_json::Map<String, Value> =
        kinds.iter().map(|kind| ((*kind).to_owned(), json!([hook(&bundle, kind, 0)]))).collect();
    bundle.spec["hooks"] = hooks.into();
    assert_eq!(bundle.create().code, 0);
    assert_eq!(read(&bundle, "order"), "prestart\ncreateRuntime\n");
    assert_eq!(bundle.call(&["start"]).code, 0);
    bundle.await_status("stopped");
    until("poststart has run", || read(&bundle, "order").ends_with("poststart\n"));
    assert_eq!(bundle.call(&["delete"]).code, 0);
    assert_eq!(read(&bundle, "order"), "prestart\ncreateRuntime\npoststart\npoststop\n");
}

#[test]
fn hooks_stdin() {
    let mut bundle = Bundle::sh("sleep 100");
    bundle.spec["annotations"] = json!({ "org.example.key": "value" });
    bundle.spec["hooks"] = json!({
        "createRuntime": [hook(&bundle, "createRuntime", 0)], "poststart": [hook(&bundle, "poststart", 0)],
        "poststop": [hook(&bundle, "poststop", 0)]
    });
    bundle.start();
    let pid = bundle.state()["pid"].clone();
    assert_eq!(bundle.call(&["delete", "--force"]).code, 0);
    for (kind, status) in [("createRuntime", "creating"), ("poststart", "running"), ("poststop", "stopped")] {
        let state: Value = serde_json::from_str(&read(&bundle, &format!("state-{kind}"))).unwrap();
        assert_eq!(state["id"], bundle.id.as_str(), "{kind}");
        assert_eq!(state["bundle"], bundle.path().to_str().unwrap(), "{kind}");
        assert_eq!(state["annotations"]["org.example.key"], "value", "{kind}");
        assert_eq!(state["status"], status, "{kind}");
        assert!(kind == "poststop" || state["pid"] == pid, "{kind} {state}");
    }
}

#[test]
fn prestart_fail() {
    let mut bundle = Bundle::sh("true");
    bundle.spec["hooks"] =
        json!({ "prestart": [hook(&bundle, "bad", 1)], "poststop": [hook(&bundle, "poststop", 0)] });
    assert_ne!(bundle.create().code, 0);
    assert!(read(&bundle, "order").starts_with("bad\n"));
    bundle.assert_gone();
}

#[test]
fn poststop_fail() {
    let mut bundle = Bundle::sh("true");
    bundle.spec["hooks"] = json!({ "poststop": [hook(&bundle, "bad", 1), hook(&bundle, "next", 0)] });
    assert_eq!(bundle.create().code, 0);
    assert_eq!(bundle.call(&["delete", "--force"]).code, 0);
    assert_eq!(read(&bundle, "order"), "bad\nnext\n", "one that fails is told of, and the next is run");
    bundle.assert_gone();
}

#[test]
fn linux_cgroups_relative() {
    let mut bundle = Bundle::sh("cat /proc/self/cgroup");
    bundle.spec["linux"]["cgroupsPath"] = format!("knarr-relative-{}", bundle.id).into();
    bundle.spec["linux"]["resources"]["pids"] = json!({ "limit": 33 });
    bundle.spec["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "cgroup");
    let groups = bundle.output();
    let lines = groups.lines().filter(|line| line.contains("pids") || line.starts_with("0::"));
    let mut named = lines.filter(|line| line.ends_with(&format!("knarr-relative-{}", bundle.id)));
    assert!(named.next().is_some(), "{groups}");
}

#[test]
fn linux_cgroups_outside_of_a_container_are_not_its_own() {
    let bundle = Bundle::sh("cat /proc/self/cgroup");
    let groups = bundle.output();
    assert!(groups.lines().all(|line| line.ends_with(":/")), "the namespace hides what is above: {groups}");
}

#[test]
fn linux_ns_nopath_and_itype() {
    const KINDS: [(&str, &str); 6] = [
        ("pid", "pid"),
        ("network", "net"),
        ("ipc", "ipc"),
        ("uts", "uts"),
        ("mount", "mnt"),
        ("cgroup", "cgroup"),
    ];
    let link = |of: &str, name: &str| fs::read_link(format!("/proc/{of}/ns/{name}")).unwrap();
    for left_out in [None, Some("network"), Some("ipc"), Some("uts")] {
        let mut bundle = Bundle::sh("sleep 100");
        if let Some(kind) = left_out {
            bundle.spec["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != kind);
            if kind == "uts" {
                bundle.spec.as_object_mut().unwrap().remove("hostname");
            }
            // What belongs to the host's cannot be mounted anew.
            let taken = if kind == "network" { "/sys" } else { "/dev/mqueue" };
            bundle.spec["mounts"]
                .as_array_mut()
                .unwrap()
                .retain(|mount| !mount["destination"].as_str().unwrap().starts_with(taken));
        }
        bundle.start();
        let pid = bundle.state()["pid"].to_string();
        for (kind, name) in KINDS {
            let own = link(&pid, name) != link("self", name);
            assert_eq!(own, left_out != Some(kind), "{kind}, without {left_out:?}");
        }
    }
}

#[test]
fn linux_seccomp() {
    let mut bundle = Bundle::sh("mkdir /tmp/x 2>&1; echo $?; echo still here");
    fs::create_dir(bundle.rootfs().join("tmp")).unwrap();
    bundle.spec["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 30 }]
    });
    let text = bundle.output();
    assert!(text.contains("Read-only file system") && text.ends_with("1\nstill here"), "{text}");
}

#[test]
fn process_rlimits_fail() {
    let mut bundle = Bundle::sh("true");
    bundle.spec["process"]["rlimits"] = json!([{ "type": "RLIMIT_TEST", "soft": 1, "hard": 1 }]);
    assert_ne!(bundle.create().code, 0);
    bundle.assert_gone();
}

#[test]
fn process_capabilities_fail() {
    let mut bundle = Bundle::sh("grep CapBnd /proc/self/status");
    bundle.spec["process"]["capabilities"] = json!({ "bounding": ["CAP_KILL", "CAP_TEST"] });
    // Those that this kernel or runtime does not know are told of and left out, or nothing runs: never more than was asked.
    let said = bundle.run();
    assert!(said.code != 0 || said.out.trim_end().ends_with("0000000000000020"), "{}{}", said.out, said.err);
}

#[test]
fn process() {
    let mut bundle = Bundle::sh("pwd; echo $ONE; echo \"$0 $1\"");
    bundle.spec["process"]["args"] =
        json!(["/bin/sh", "-c", "pwd; echo $ONE; echo \"$0 $1\"", "zero", "with space"]);
    bundle.spec["process"]["env"] = json!(["PATH=/bin", "ONE=a=b"]);
    // A directory that is not there is made.
    bundle.spec["process"]["cwd"] = "/made/for/it".into();
    assert_eq!(bundle.output(), "/made/for/it\na=b\nzero with space");
}

#[test]
fn root_readonly() {
    for readonly in [true, false] {
        let mut bundle = Bundle::sh("touch /file && echo written");
        bundle.spec["root"]["readonly"] = readonly.into();
        let said = bundle.run();
        assert_eq!(said.out, if readonly { "" } else { "written\n" }, "{}", said.err);
        assert_eq!(Path::exists(&bundle.rootfs().join("file")), !readonly);
    }
}

#[test]
fn root_path_absolute_and_relative() {
    let mut bundle = Bundle::sh("echo ran");
    for path in [bundle.rootfs().display().to_string(), "rootfs".to_owned(), "./rootfs".to_owned()] {
        bundle.spec["root"]["path"] = path.clone().into();
        assert_eq!(bundle.output(), "ran", "{path}");
    }
}

#[test]
fn mounts_in_their_order() {
    let mut bundle = Bundle::sh("cat /data/file /data/in/file");
    for (name, text) in [("one", "one\n"), ("two", "two\n")] {
        fs::create_dir_all(bundle.path().join(name).join("in")).unwrap();
        fs::write(bundle.path().join(name).join("file"), text).unwrap();
    }
    for (source, destination) in [("one", "/data"), ("two", "/data/in")] {
        let source = bundle.path().join(source);
        let mount = json!({ "destination": destination, "type": "bind", "source": source, "options": ["rbind", "rw"] });
        bundle.spec["mounts"].as_array_mut().unwrap().push(mount);
    }
    assert_eq!(bundle.output(), "one\ntwo");
}

#[test]
fn poststart_fail() {
    let mut bundle = Bundle::sh("sleep 100");
    bundle.spec["hooks"] = json!({ "poststart": [hook(&bundle, "bad", 1)] });
    assert_eq!(bundle.create().code, 0);
    // Older runtimes end the container then, newer ones tell of it; the container is known and can be deleted.
    bundle.call(&["start"]);
    assert_eq!(read(&bundle, "order"), "bad\n");
    assert_eq!(bundle.call(&["delete", "--force"]).code, 0);
    bundle.assert_gone();
}
