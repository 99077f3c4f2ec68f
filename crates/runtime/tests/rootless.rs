//! The runtime as an ordinary user runs it: a throw-away one, known only in a mount namespace of each call's own.

#![allow(missing_docs, clippy::unwrap_used)]

mod bundle;

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::PathBuf,
    process::{Command, Stdio},
};

use bundle::{Bundle, Said, is_ours, runtime};
use serde_json::{Value, json};

/// No one on this machine; granted to it are 65536 ids from the second on.
const USER: u32 = 61_234;
const GRANTED: u32 = 1_700_000_000;

struct Rootless {
    bundle: Bundle,
    /// Whether it finds newuidmap(1).
    with_helpers: bool,
}

/// What the host knows of users is covered by files of our own, and the rest of the words is run as the user.
const AS_USER: &str = "for f in passwd group subuid subgid; do
    [ -e /etc/$f ] || continue; mount --bind $D/etc/$f /etc/$f; done
    exec setpriv --reuid 61234 --regid 61234 --clear-groups --inh-caps=-all -- \"$@\"";

impl Rootless {
    fn new(script: &str) -> Self {
        let mut bundle = Bundle::sh(script);
        let directory = bundle.path().to_owned();
        let etc = directory.join("etc");
        fs::create_dir(&etc).unwrap();
        for (name, extra) in [
            ("passwd", format!("throwaway:x:{USER}:{USER}::/:/bin/sh\n")),
            ("group", format!("throwaway:x:{USER}:\n")),
            ("subuid", format!("throwaway:{GRANTED}:65536\n")),
            ("subgid", format!("throwaway:{GRANTED}:65536\n")),
        ] {
            let host = fs::read_to_string(format!("/etc/{name}")).unwrap_or_default();
            fs::write(etc.join(name), host + &extra).unwrap();
        }
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(directory.join("run")).unwrap();
        for path in [directory.clone(), directory.join("run"), bundle.rootfs(), bundle.rootfs().join("bin")] {
            chown(path, Some(USER), Some(USER)).unwrap();
        }
        if is_ours() {
            fs::copy(runtime(), directory.join("runtime")).unwrap();
        }
        let own = json!([{ "containerID": 0, "hostID": USER, "size": 1 }]);
        let linux = bundle.spec["linux"].as_object_mut().unwrap();
        linux.insert("uidMappings".to_owned(), own.clone());
        linux.insert("gidMappings".to_owned(), own);
        linux.remove("cgroupsPath");
        linux["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
        if !is_ours() {
            // What `runc spec --rootless` leaves out, we find out ourselves.
            linux.remove("resources");
            let mounts = bundle.spec["mounts"].as_array_mut().unwrap();
            mounts.retain(|mount| mount["type"] != "cgroup");
            for mount in mounts.iter_mut().filter(|mount| mount["type"] == "devpts") {
                mount["options"] = json!(["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]);
            }
        }
        Self { bundle, with_helpers: true }
    }

    fn linux(&mut self) -> &mut Value {
        &mut self.bundle.spec["linux"]
    }

    /// Maps the user to 0, and what it was granted from 1 on.
    fn granted(mut self) -> Self {
        let map = json!([
            { "containerID": 0, "hostID": USER, "size": 1 },
            { "containerID": 1, "hostID": GRANTED, "size": 65_536 }
        ]);
        self.linux()["uidMappings"] = map.clone();
        self.linux()["gidMappings"] = map;
        self
    }

    fn program(&self) -> PathBuf {
        if is_ours() {
            return self.bundle.path().join("runtime");
        }
        // By its path: some are called without any PATH.
        let named = PathBuf::from(runtime());
        let found = ["/usr/sbin", "/usr/bin"].map(|directory| PathBuf::from(directory).join(&named));
        found.into_iter().find(|path| path.exists()).unwrap_or(named)
    }

    /// `runtime words…` as the user.
    fn command(&self, words: &[&str]) -> Command {
        self.bundle.write();
        let directory = self.bundle.path();
        // Only for the runtime: what is run before it is found by its path.
        let helpless = AS_USER.replace("\"$@\"", "env PATH= \"$@\"");
        let script = if self.with_helpers { AS_USER } else { &helpless };
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-ec", script, "sh"]);
        command.arg(self.program()).args(words).stdin(Stdio::null()).current_dir("/");
        command.env_clear().env("D", directory).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("XDG_RUNTIME_DIR", directory.join("run"));
        command
    }

    fn call(&self, words: &[&str]) -> Said {
        self.command(words).output().unwrap().into()
    }

    fn run(&self) -> Said {
        let path = self.bundle.path().display().to_string();
        self.call(&["run", "-b", &path, &self.bundle.id])
    }

    fn output(&self) -> String {
        let said = self.run();
        assert_eq!(said.code, 0, "{}{}", said.out, said.err);
        said.out
    }
}

impl Drop for Rootless {
    fn drop(&mut self) {
        self.call(&["delete", "--force", &self.bundle.id]);
    }
}

#[test]
fn with_its_own_id_alone() {
    let script = "id -u; id -g; cat /proc/self/setgroups; echo x > /dev/null && echo null; cat /proc/self/oom_score_adj;
        echo y > /new && stat -c %u /new; ls /dev/pts/ptmx; ls /sys/class/net; mount | grep -c ' on /dev/mqueue type mqueue';
        { echo 1 > /sys/fs/cgroup/pids/tasks || echo 1 > /sys/fs/cgroup/cgroup.procs; } 2>/dev/null || echo held";
    let mut rootless = Rootless::new(script);
    rootless.bundle.spec["process"]["oomScoreAdj"] = json!(500);
    // No helper is needed for that.
    rootless.with_helpers = false;
    let expected = "0\n0\ndeny\nnull\n500\n0\n/dev/pts/ptmx\nlo\n1\nheld\n";
    assert_eq!(rootless.output(), expected);
    let made = fs::metadata(rootless.bundle.rootfs().join("new")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&made), USER);
    // Its records are its own, too, and gone.
    let records = rootless.bundle.path().join(if is_ours() { "run/knarr/runtime" } else { "run/runc" });
    assert!(runtime().ends_with("crun") || fs::read_dir(records).unwrap().next().is_none());
}

#[test]
fn with_ids_that_it_was_granted() {
    let script =
        "id -u; id -g; id -G; busybox wc -l < /proc/self/uid_map; cat /proc/self/setgroups; touch /tmp/x";
    let mut rootless = Rootless::new(script).granted();
    let tmp = rootless.bundle.rootfs().join("tmp");
    fs::create_dir(&tmp).unwrap();
    fs::set_permissions(&tmp, fs::Permissions::from_mode(0o777)).unwrap();
    rootless.bundle.spec["process"]["user"] = json!({ "uid": 1000, "gid": 100, "additionalGids": [20, 30] });
    if runtime().ends_with("runc") {
        // "cannot set any additional groups in a rootless container"
        rootless.bundle.spec["process"]["user"] = json!({ "uid": 1000, "gid": 100 });
        assert_eq!(rootless.output(), "1000\n100\n100\n2\nallow\n");
        return;
    }
    assert_eq!(rootless.output(), "1000\n100\n100 20 30\n2\nallow\n");
    let made = fs::metadata(tmp.join("x")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&made), GRANTED + 999);
}

#[test]
fn a_whole_life_with_exec() {
    for granted in [false, true] {
        let mut rootless = Rootless::new("sleep 100");
        if granted {
            rootless = rootless.granted();
        }
        if is_ours() {
            let kinds = rootless.linux()["namespaces"].as_array_mut().unwrap();
            kinds.push(json!({ "type": "time" }));
            rootless.linux()["timeOffsets"] = json!({ "boottime": { "secs": 5_000_000 } });
        }
        let (id, path) = (rootless.bundle.id.clone(), rootless.bundle.path().display().to_string());
        // A pipe would stay open as long as the container.
        let mut run = rootless.command(&[
            "run",
            "--detach",
            "-b",
            &path,
            "--pid-file",
            &format!("{path}/run/pid"),
            &id,
        ]);
        assert!(run.stdout(Stdio::null()).status().unwrap().success());
        let state: Value = serde_json::from_str(&rootless.call(&["state", &id]).out).unwrap();
        assert_eq!(state["status"], "running");
        let show = "for n in pid net ipc uts mnt user time; do readlink /proc/self/ns/$n; done; id -u; cat /proc/uptime";
        let said = rootless.call(&["exec", &id, "sh", "-c", show]);
        assert_eq!(said.code, 0, "{}", said.err);
        let lines: Vec<&str> = said.out.lines().collect();
        for (line, name) in lines.iter().zip(["pid", "net", "ipc", "uts", "mnt", "user", "time"]) {
            let theirs = fs::read_link(format!("/proc/{}/ns/{name}", state["pid"])).unwrap();
            assert_eq!(theirs.to_str(), Some(*line));
        }
        assert_eq!(lines[7], "0");
        let uptime: f64 = lines[8].split(' ').next().unwrap().parse().unwrap();
        assert!(!is_ours() || uptime > 5_000_000.0, "{uptime}");
        let killed = rootless.call(&["kill", &id, "KILL"]);
        assert_eq!(killed.code, 0, "{}", killed.err);
        let deleted = rootless.call(&["delete", "--force", &id]);
        assert_eq!(deleted.code, 0, "{}", deleted.err);
    }
}

#[test]
fn what_is_missing_is_named_with_its_remedy() {
    if !is_ours() {
        return println!("SKIPPED under {}: these are our words", runtime());
    }
    let mut helpless = Rootless::new("true").granted();
    helpless.with_helpers = false;
    let said = helpless.run();
    assert!(said.code != 0 && said.err.contains("newuidmap: not found"), "{}", said.err);
    assert!(said.err.contains("package uidmap"), "{}", said.err);

    let mut greedy = Rootless::new("true").granted();
    greedy.linux()["uidMappings"][1] = json!({ "containerID": 1, "hostID": 100, "size": 10 });
    let said = greedy.run();
    assert!(said.code != 0 && said.err.contains("/etc/subuid"), "{}", said.err);

    let mut groups = Rootless::new("true");
    groups.bundle.spec["process"]["user"] = json!({ "uid": 0, "gid": 0, "additionalGids": [0] });
    let said = groups.run();
    assert!(said.code != 0 && said.err.contains("setgroups(2) is denied"), "{}", said.err);

    let mut named = Rootless::new("true");
    named.linux()["cgroupsPath"] = json!("/knarr/by-name");
    let said = named.run();
    assert!(said.code != 0 && said.err.contains("make cgroup"), "{}", said.err);

    let mut limited = Rootless::new("true");
    limited.linux()["resources"] = json!({ "memory": { "limit": 10_000_000 } });
    let said = limited.run();
    assert!(said.code != 0 && said.err.contains("delegated"), "{}", said.err);

    let mut alone = Rootless::new("true");
    let kinds = alone.linux()["namespaces"].as_array_mut().unwrap();
    kinds.retain(|kind| kind["type"] != "user");
    alone.linux().as_object_mut().unwrap().retain(|name, _| !name.ends_with("Mappings"));
    let said = alone.run();
    assert!(said.code != 0 && said.err.contains("a user namespace among them"), "{}", said.err);
}

#[test]
fn groups_are_done_without_only_when_that_is_wanted() {
    let rootless = Rootless::new("echo ran");
    let path = rootless.bundle.path().display().to_string();
    let run = |flag: &str| rootless.call(&[flag, "run", "-b", &path, &rootless.bundle.id]);
    for flag in ["--rootless=auto", "--rootless=true"] {
        assert_eq!(run(flag).out, "ran\n", "{flag}");
    }
    if is_ours() {
        let said = run("--rootless=false");
        assert!(said.code != 0 && said.err.contains("cgroup"), "{}", said.err);
        assert!(run("--rootless=perhaps").err.contains("--rootless"));
    }
}

#[test]
fn the_hosts_network_comes_with_the_hosts_sysfs() {
    let mut rootless =
        Rootless::new("ls -d /sys/class/net/lo; touch /sys/x 2>/dev/null || echo held; ls -d /sys/fs/cgroup");
    let kinds = rootless.linux()["namespaces"].as_array_mut().unwrap();
    kinds.retain(|kind| kind["type"] != "network");
    if runtime().ends_with("runc") {
        return println!("SKIPPED under runc: it wants a bind of /sys in the spec");
    }
    assert_eq!(rootless.output(), "/sys/class/net/lo\nheld\n/sys/fs/cgroup\n");
}

#[test]
fn without_user_namespaces_the_setting_is_named() {
    if !is_ours() {
        return println!("SKIPPED under {}: these are our words", runtime());
    }
    // Only for the user namespace that this is said in.
    let mut rootless = Rootless::new("true");
    for map in ["uidMappings", "gidMappings"] {
        rootless.linux()[map][0]["hostID"] = json!(0);
    }
    rootless.bundle.write();
    let mut command = Command::new("unshare");
    let script = "echo 0 > /proc/sys/user/max_user_namespaces; exec \"$@\"";
    command.args(["--user", "--map-root-user", "--mount", "sh", "-ec", script, "sh"]);
    command.arg(rootless.program()).args(["--root", "/tmp/none", "run", "-b"]);
    command.arg(rootless.bundle.path()).arg(&rootless.bundle.id);
    let said: Said = command.output().unwrap().into();
    assert!(said.code != 0 && said.err.contains("user.max_*_namespaces"), "{}", said.err);
    assert!(!std::path::Path::new("/tmp/none").join(&rootless.bundle.id).exists());
    let _ = fs::remove_dir("/tmp/none");
}
