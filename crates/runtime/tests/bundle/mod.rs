//! A bundle of busybox, a runtime to run it with, and what a container leaves behind.

#![allow(dead_code, unreachable_pub, missing_docs)] // Each test program uses its part of this.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// `RUNTIME`, so that the same tests run with other runtimes; else ours.
pub fn runtime() -> String {
    std::env::var("RUNTIME").unwrap_or_else(|_| env!("CARGO_BIN_EXE_knarr-runtime").to_owned())
}

/// Whether it is ours that is tested.
pub fn is_ours() -> bool {
    std::env::var_os("RUNTIME").is_none()
}

/// Asks again and again until the answer is `true`.
#[track_caller]
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        sleep(Duration::from_millis(5));
    }
}

/// A bundle and a container id; both are gone when it is dropped.
pub struct Bundle {
    directory: tempfile::TempDir,
    pub id: String,
    pub spec: Value,
    /// Runs the runtime where only cgroup v2 is to be seen, also on a hybrid host.
    pub only_v2: bool,
    /// Words that the runtime is called through, as `nsenter …`.
    pub through: Vec<String>,
    /// More of its global flags.
    pub global: Vec<String>,
}

/// What a finished call said.
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let signal = output.status.signal().unwrap_or(0);
        Self {
            code: output.status.code().unwrap_or(128 + signal),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Bundle {
    /// busybox, every default namespace, mounts, masks.
    pub fn new(args: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = tempfile::Builder::new().prefix("knarr-bundle-").tempdir().unwrap();
        let bin = directory.path().join("rootfs/bin");
        fs::create_dir_all(&bin).unwrap();
        fs::copy("/bin/busybox", bin.join("busybox")).expect("busybox-static is needed at /bin/busybox");
        for applet in APPLETS {
            symlink("busybox", bin.join(applet)).unwrap();
        }
        let id = format!("knarr-test-{}-{number}", std::process::id());
        let spec = spec(&id, args);
        Self { directory, id, spec, only_v2: false, through: Vec::new(), global: Vec::new() }
    }

    /// A shell script.
    pub fn sh(script: &str) -> Self {
        Self::new(&["/bin/sh", "-c", script])
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn rootfs(&self) -> PathBuf {
        self.path().join("rootfs")
    }

    /// Where this container's group is: in the v1 hierarchy of `controller`, or on v2 the only one.
    pub fn group(&self, controller: &str) -> PathBuf {
        hierarchy(controller).join("knarr").join(&self.id)
    }

    pub fn write(&self) {
        fs::write(self.path().join("config.json"), self.spec.to_string()).unwrap();
    }

    /// The runtime with its global flags.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = if self.only_v2 && Path::new("/sys/fs/cgroup/unified").exists() {
            let mut view = Command::new("unshare");
            view.args(["--mount", "--propagation", "private", "sh", "-c", ONLY_V2, "sh"]).arg(runtime());
            view
        } else if let Some((first, rest)) = self.through.split_first() {
            let mut through = Command::new(first);
            through.args(rest).arg(runtime());
            through
        } else {
            Command::new(runtime())
        };
        command
            .args(&self.global)
            .arg("--root")
            .arg(self.path().join("state"))
            .args(words)
            .stdin(Stdio::null());
        command
    }

    /// Runs `runtime words… ID`.
    pub fn call(&self, words: &[&str]) -> Said {
        self.command(words).arg(&self.id).output().unwrap().into()
    }

    /// Runs `runtime words… ID more…`.
    pub fn call_with(&self, words: &[&str], more: &[&str]) -> Said {
        self.command(words).arg(&self.id).args(more).output().unwrap().into()
    }

    /// Runs to the end.
    pub fn run(&self) -> Said {
        self.write();
        let bundle = self.path().display().to_string();
        self.call(&["run", "-b", &bundle])
    }

    /// Runs to the end and gives its output; fails the test if it fails.
    pub fn output(&self) -> String {
        let said = self.run();
        assert_eq!(said.code, 0, "{}{}", said.out, said.err);
        said.out.trim_end().to_owned()
    }

    /// `create`, with output to a file: a pipe would stay open as long as the container.
    pub fn create(&self) -> Said {
        self.create_with(&[])
    }

    pub fn create_with(&self, flags: &[&str]) -> Said {
        self.write();
        let bundle = self.path().display().to_string();
        let (out, err) = (self.path().join("out"), self.path().join("err"));
        let mut command = self.command(&["create", "-b", &bundle]);
        command.args(flags).arg(&self.id);
        command.stdout(fs::File::create(&out).unwrap()).stderr(fs::File::create(&err).unwrap());
        let status = command.status().unwrap();
        Said {
            code: status.code().unwrap_or(-1),
            out: fs::read_to_string(&out).unwrap(),
            err: fs::read_to_string(&err).unwrap(),
        }
    }

    /// `create` and `start`.
    pub fn start(&self) {
        let created = self.create();
        assert_eq!(created.code, 0, "{}", created.err);
        let started = self.call(&["start"]);
        assert_eq!(started.code, 0, "{}", started.err);
    }

    /// What the created container has printed.
    pub fn printed(&self) -> String {
        fs::read_to_string(self.path().join("out")).unwrap()
    }

    pub fn state(&self) -> Value {
        let said = self.call(&["state"]);
        assert_eq!(said.code, 0, "{}", said.err);
        serde_json::from_str(&said.out).unwrap()
    }

    pub fn status(&self) -> String {
        self.state()["status"].as_str().unwrap().to_owned()
    }

    /// Waits until `state` says so.
    pub fn await_status(&self, wanted: &str) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.status() != wanted {
            assert!(Instant::now() < deadline, "never became {wanted}; is {}", self.status());
            sleep(Duration::from_millis(5));
        }
    }

    /// Fails unless nothing of the container is left.
    pub fn assert_gone(&self) {
        let left: Vec<PathBuf> =
            hierarchies().iter().map(|name| self.group(name)).filter(|group| group.exists()).collect();
        assert!(left.is_empty(), "left behind: {left:?}");
        assert!(!self.path().join("state").join(&self.id).exists(), "its record is left behind");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&self.path().display().to_string()), "a mount is left behind");
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let _ = self.call(&["delete", "--force"]);
    }
}

const ONLY_V2: &str = "mount --bind /sys/fs/cgroup/unified /sys/fs/cgroup && exec \"$@\"";

/// Whether this host has cgroup v2 and nothing else.
pub fn is_pure_v2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// Where the hierarchy of a controller is mounted; `unified` is v2's.
pub fn hierarchy(controller: &str) -> PathBuf {
    let top = Path::new("/sys/fs/cgroup");
    if is_pure_v2() { top.to_owned() } else { top.join(controller) }
}

/// Names under `/sys/fs/cgroup`; on v2 one that stands for all.
pub fn hierarchies() -> Vec<String> {
    if is_pure_v2() {
        return vec!["unified".to_owned()];
    }
    let entries = fs::read_dir("/sys/fs/cgroup").unwrap().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

const APPLETS: &[&str] = &[
    "sh", "true", "cat", "ls", "id", "mount", "sleep", "echo", "mkdir", "touch", "stat", "env", "hostname",
    "readlink", "head", "grep", "kill", "ip", "tty", "stty", "dd", "wc", "mknod", "umount", "ln", "rm",
    "pwd", "tail", "chmod", "test",
];

/// The capabilities that Docker gives.
pub const CAPABILITIES: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

fn spec(id: &str, args: &[&str]) -> Value {
    let mount = |destination: &str, kind: &str, options: &[&str]| json!({ "destination": destination, "type": kind, "source": kind, "options": options });
    let kinds = ["pid", "network", "ipc", "uts", "mount", "cgroup"];
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": args,
            "env": ["PATH=/bin", "HOME=/"],
            "cwd": "/",
            "capabilities": { "bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES }
        },
        "root": { "path": "rootfs" },
        "hostname": "ship",
        "mounts": [
            mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
            mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            mount("/sys/fs/cgroup", "cgroup", &["ro", "nosuid", "noexec", "nodev"]),
            mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"])
        ],
        "linux": {
            "cgroupsPath": format!("/knarr/{id}"),
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": kinds.map(|kind| json!({ "type": kind })),
            "maskedPaths": ["/proc/acpi", "/proc/keys", "/proc/kcore", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        }
    })
}
