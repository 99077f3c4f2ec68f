//! Our runtime under other engines: Debian's dockerd, podman, and containerd with its own client.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use e2e::{Client, Engine, Kind, Place, Program, Setup, busybox, program, until};

/// Its exit code and everything that it said.
fn said(command: &mut Command) -> (i32, String) {
    let output = command.stdin(Stdio::null()).output().expect("start it");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned())
}

/// A network and mounts of its own, as a command's first words.
const APART: [&str; 5] = ["unshare", "--net", "--mount", "--propagation=private", "--"];

/// dockerd with our runtime as its default.
fn dockerd() -> Engine {
    let ours = program("knarr-runtime").display().to_string();
    let args = vec![format!("--add-runtime=ours={ours}"), "--default-runtime=ours".to_owned()];
    Engine::with_busybox(Setup { kind: Some(Kind::Docker), args, ..Default::default() })
}

/// What a limit's file holds, v1 or v2.
fn limit(c: &Client, id: &str, controller: &str, files: [&str; 2]) -> String {
    let pid = c.field(id, "/State/Pid").as_u64().expect("a pid") as u32;
    let group = e2e::cgroup_of(pid, controller);
    let read = |file: &str| fs::read_to_string(group.join(file));
    read(files[0]).or_else(|_| read(files[1])).expect("its limit").trim().to_owned()
}

#[test]
fn under_dockerd() {
    let engine = dockerd();
    let c = engine.client(Program::Docker);
    let n = "--network none";
    c.run(&format!("run --rm {n} busybox sh -c 'echo out; echo err >&2; exit 3'"))
        .code(3)
        .out("out\n")
        .err_has("err\n");
    c.run(&format!("run --rm {n} busybox nonesuch")).code(127).err_has("nonesuch");
    c.run(&format!("run --rm {n} busybox /etc/passwd")).code(126).err_has("ermission denied");
    c.feed(
        &format!("run --rm -i {n} --read-only --tmpfs /tmp -u 5:6 --init busybox sh -c 'id -u; cat'"),
        b"in",
    )
    .ok()
    .out("5\nin");
    let id = c.start(&format!(
        "--name two {n} -m 64m --cpus 0.5 --pids-limit 20 busybox sh -c 'echo said; trap \"exit 9\" TERM; while :; do sleep 0.05; done'"
    ));
    c.await_log("two", "said");
    assert_eq!(c.field("two", "/HostConfig/Runtime"), "ours");
    assert_eq!(limit(&c, &id, "memory", ["memory.limit_in_bytes", "memory.max"]), "67108864");
    assert_eq!(limit(&c, &id, "pids", ["pids.max", "pids.max"]), "20");
    c.run("update -m 96m --memory-swap 96m --pids-limit 30 two").ok();
    assert_eq!(limit(&c, &id, "memory", ["memory.limit_in_bytes", "memory.max"]), "100663296");
    assert_eq!(limit(&c, &id, "pids", ["pids.max", "pids.max"]), "30");
    c.run("exec two sh -c 'echo inside; exit 5'").code(5).out("inside\n");
    c.run("exec -u 7:8 -w /tmp two sh -c 'id -u; pwd'").ok().out("7\n/tmp\n");
    c.run("exec two nonesuch").code(126).out_has("nonesuch");
    c.run("top two").ok().out_has("sleep");
    c.run("stats --no-stream --format '{{.MemUsage}} {{.PIDs}}' two").ok().out_has("96MiB");
    c.run("pause two").ok();
    assert_eq!(c.field("two", "/State/Paused"), true);
    c.run("unpause two").ok();
    c.run("stop -t 10 two").ok();
    assert_eq!(c.field("two", "/State/ExitCode"), 9);
    c.run("start two").ok();
    c.run("kill two").ok();
    c.run("wait two").ok().out("137\n");
    c.run("rm two").ok();
    let mut pty = c.terminal(&format!("run --rm -it {n} busybox sh"), 24, 80);
    pty.expect("# ");
    pty.send("stty size; exit 4\r");
    pty.expect("24 80");
    pty.code(4);
}

#[test]
fn a_memory_limit_is_told_by_dockerd() {
    let engine = dockerd();
    let c = engine.client(Program::Docker);
    c.run("run --name eater --network none -m 16m --memory-swap 16m busybox tail /dev/zero").code(137);
    assert_eq!(c.field("eater", "/State/OOMKilled"), true);
}

/// podman with directories of its own.
struct Podman {
    place: Place,
}

impl Podman {
    fn new() -> Self {
        let podman = Self { place: Place::new("podman") };
        let path = |name: &str| podman.place.dir.join(name);
        // Its default limits on open files are beyond what a root without CAP_SYS_RESOURCE may ask for.
        let limits = "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n";
        fs::write(path("containers.conf"), limits).expect("write its configuration");
        fs::write(path("busybox.tar"), busybox().docker_archive("busybox:latest")).expect("write an archive");
        let archive = path("busybox.tar").display().to_string();
        assert_eq!(podman.run(&["load", "-q", "-i", &archive]).0, 0);
        podman
    }

    fn run(&self, words: &[&str]) -> (i32, String) {
        let path = |name: &str| self.place.dir.join(name);
        let mut command = Command::new(APART[0]);
        command.args(&APART[1..]).arg("podman");
        for (flag, name) in
            [("--root", "root"), ("--runroot", "run"), ("--tmpdir", "tmp"), ("--network-config-dir", "net")]
        {
            command.arg(flag).arg(path(name));
        }
        command.args(["--storage-driver=vfs", "--cgroup-manager=cgroupfs", "--events-backend=file"]);
        command.arg("--runtime").arg(program("knarr-runtime")).args(words);
        said(command.env("CONTAINERS_CONF", path("containers.conf")).env("TMPDIR", &self.place.dir))
    }

    /// `podman run` in our cgroup, without a network.
    fn container(&self, words: &[&str]) -> (i32, String) {
        self.run(&[&["run", "--network=none", "--cgroup-parent", &self.place.cgroup], words].concat())
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        self.run(&["rm", "--all", "--force", "--time=0"]);
    }
}

#[test]
fn under_podman() {
    let podman = Podman::new();
    let text = |(code, text): (i32, String)| {
        assert_eq!(code, 0, "{text}");
        text
    };
    assert_eq!(text(podman.container(&["--rm", "busybox", "echo", "out"])), "out\n");
    assert_eq!(podman.container(&["--rm", "busybox", "sh", "-c", "exit 3"]).0, 3);
    assert_eq!(podman.container(&["--rm", "busybox", "nonesuch"]).0, 127);
    assert_eq!(podman.container(&["--rm", "busybox", "/etc/passwd"]).0, 126);
    assert_eq!(
        text(podman.container(&["--rm", "--user", "5:6", "-w", "/tmp", "busybox", "sh", "-c", "id -u; pwd"])),
        "5\n/tmp\n"
    );
    let map = text(podman.container(&[
        "--rm",
        "--uidmap",
        "0:100000:65536",
        "busybox",
        "cat",
        "/proc/self/uid_map",
    ]));
    assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", "100000", "65536"]);
    let script = "echo said; trap 'exit 9' TERM; while :; do sleep 0.05; done";
    text(podman.container(&["-d", "--name=two", "-m=64m", "--pids-limit=20", "busybox", "sh", "-c", script]));
    until("it has spoken", || podman.run(&["logs", "two"]).1 == "said\n");
    assert_eq!(text(podman.run(&["exec", "two", "echo", "inside"])), "inside\n");
    assert_eq!(podman.run(&["exec", "two", "sh", "-c", "exit 5"]).0, 5);
    assert_eq!(podman.run(&["exec", "two", "nonesuch"]).0, 127);
    assert!(text(podman.run(&["stats", "--no-stream", "--format={{.MemUsage}}", "two"])).contains("67.11MB"));
    assert!(text(podman.run(&["top", "two"])).contains("sleep"));
    text(podman.run(&["pause", "two"]));
    assert_eq!(text(podman.run(&["inspect", "--format={{.State.Status}}", "two"])), "paused\n");
    text(podman.run(&["unpause", "two"]));
    let shared = ["--rm", "--pid=container:two", "--ipc=container:two", "busybox", "cat", "/proc/1/cmdline"];
    assert!(text(podman.container(&shared)).contains("echo said"));
    text(podman.run(&["stop", "--time=10", "two"]));
    assert_eq!(text(podman.run(&["inspect", "--format={{.State.ExitCode}}", "two"])), "9\n");
    text(podman.run(&["start", "two"]));
    text(podman.run(&["kill", "two"]));
    text(podman.run(&["rm", "--force", "--time=0", "two"]));
    drop(podman.run(&["rm", "--all", "--force", "--time=0"]));
    let left: Vec<String> = podman
        .place
        .cgroups_left()
        .into_iter()
        .filter(|group| group.contains("libpod-") && !group.contains("conmon"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

/// containerd with directories of its own.
struct Containerd {
    place: Place,
    daemon: Child,
}

impl Containerd {
    fn new() -> Self {
        let place = Place::new("ctrd");
        let at = |name: &str| place.dir.join(name).display().to_string();
        let plugins =
            ["grpc.v1.cri", "snapshotter.v1.btrfs", "snapshotter.v1.devmapper", "snapshotter.v1.zfs"]
                .map(|name| format!("\"io.containerd.{name}\""));
        let config = format!(
            "version = 2\nroot = \"{}\"\nstate = \"{}\"\ndisabled_plugins = [{}]\n[grpc]\naddress = \"{}\"\n[ttrpc]\naddress = \"{}\"\n",
            at("root"),
            at("state"),
            plugins.join(","),
            at("grpc.sock"),
            at("ttrpc.sock")
        );
        fs::write(place.dir.join("config.toml"), config).expect("write its configuration");
        let rootfs = place.dir.join("rootfs");
        fs::create_dir_all(rootfs.join("bin")).expect("make a root");
        fs::copy("/bin/busybox", rootfs.join("bin/sh")).expect("busybox-static is needed at /bin/busybox");
        for name in ["sleep", "echo", "id"] {
            std::os::unix::fs::symlink("sh", rootfs.join("bin").join(name)).expect("link an applet");
        }
        let log = fs::File::create(place.dir.join("log")).expect("make a log");
        let mut command = Command::new(APART[0]);
        command.args(&APART[1..]).args(["containerd", "-c", &at("config.toml")]).stdin(Stdio::null());
        let daemon = command
            .stdout(log.try_clone().expect("share it"))
            .stderr(log)
            .spawn()
            .expect("containerd is needed");
        let containerd = Self { place, daemon };
        until("containerd answers", || containerd.ctr(&["version"]).0 == 0);
        containerd
    }

    fn ctr(&self, words: &[&str]) -> (i32, String) {
        said(Command::new("ctr").arg("-a").arg(self.place.dir.join("grpc.sock")).args(words))
    }

    fn run(&self, flags: &[&str], id: &str, args: &[&str]) -> (i32, String) {
        let path = |path: PathBuf| path.display().to_string();
        let (ours, root) = (path(program("knarr-runtime")), path(self.place.dir.join("runtime")));
        let (rootfs, group) = (path(self.place.dir.join("rootfs")), format!("{}/{id}", self.place.cgroup));
        let fixed = ["run", "--runc-binary", &ours, "--runc-root", &root, "--cgroup", &group];
        self.ctr(&[&fixed, flags, &["--rootfs", &rootfs, id], args].concat())
    }

    fn status(&self, id: &str) -> String {
        let tasks = self.ctr(&["task", "ls"]).1;
        let line = tasks.lines().find(|line| line.starts_with(id)).unwrap_or_default();
        line.split_whitespace().nth(2).unwrap_or_default().to_owned()
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        self.ctr(&["task", "delete", "--force", "two"]);
        let _ = Command::new("kill").arg(self.daemon.id().to_string()).status();
        let _ = self.daemon.wait();
    }
}

#[test]
fn under_containerd() {
    let ctrd = Containerd::new();
    assert_eq!(ctrd.run(&["--rm"], "one", &["/bin/echo", "out"]), (0, "out\n".to_owned()));
    assert_eq!(ctrd.run(&["--rm"], "one", &["/bin/sh", "-c", "exit 3"]).0, 3);
    let missing = ctrd.run(&["--rm"], "one", &["/nonesuch"]);
    assert!(missing.0 != 0 && missing.1.contains("nonesuch"), "{missing:?}");
    let script = "trap 'exit 9' TERM; while :; do sleep 0.05; done";
    let started = ctrd.run(&["-d", "--memory-limit", "67108864"], "two", &["/bin/sh", "-c", script]);
    assert_eq!(started.0, 0, "{}", started.1);
    let group = ctrd.place.cgroup_roots().iter().any(|root| {
        let read = |file: &str| fs::read_to_string(root.join("two").join(file)).unwrap_or_default();
        read("memory.limit_in_bytes").trim() == "67108864" || read("memory.max").trim() == "67108864"
    });
    assert!(group, "the limit is set");
    let inside = ["task", "exec", "--exec-id", "e1", "two", "/bin/echo", "inside"];
    assert_eq!(ctrd.ctr(&inside), (0, "inside\n".to_owned()));
    assert_eq!(ctrd.ctr(&["task", "exec", "--exec-id", "e2", "two", "/bin/sh", "-c", "exit 5"]).0, 5);
    assert!(ctrd.ctr(&["task", "metrics", "two"]).1.contains("67108864"));
    assert_eq!(ctrd.ctr(&["task", "pause", "two"]).0, 0);
    assert_eq!(ctrd.status("two"), "PAUSED");
    assert_eq!(ctrd.ctr(&["task", "resume", "two"]).0, 0);
    assert_eq!(ctrd.ctr(&["task", "kill", "--signal", "TERM", "two"]).0, 0);
    until("it has ended", || ctrd.status("two") == "STOPPED");
    let deleted = ctrd.ctr(&["task", "delete", "two"]).1;
    assert!(deleted.contains('9'), "{deleted}");
    assert_eq!(ctrd.ctr(&["container", "rm", "two"]).0, 0);
    let left: Vec<_> = fs::read_dir(ctrd.place.dir.join("runtime/default")).expect("its root").collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(!Path::new("/sys/fs/cgroup/memory").join(&ctrd.place.cgroup[1..]).join("two").exists());
}
