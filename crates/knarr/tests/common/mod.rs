//! A private dockerd in a network namespace of its own, and the two clients that talk to it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A daemon that ends, with everything it left, when this goes out of scope.
pub(crate) struct Dockerd {
    child: Child,
    dir: tempfile::TempDir,
    cgroup: String,
    bin: PathBuf,
}

impl Dockerd {
    /// Starts a daemon that has the image `busybox`.
    pub(crate) fn start(name: &str) -> Dockerd {
        let dir = tempfile::Builder::new().prefix("knarr-cli-").tempdir().expect("a temporary directory");
        let root = dir.path().display().to_string();
        let cgroup = format!("/knarr/cli-{name}-{}", std::process::id());
        let log = std::fs::File::create(dir.path().join("log")).expect("a log file");
        let script = format!(
            "ip link set lo up && exec dockerd --data-root {root}/data --exec-root {root}/exec --pidfile {root}/pid \
             -H unix://{root}/sock --bridge=none --iptables=false --ip-masq=false --cgroup-parent={cgroup}"
        );
        let child = Command::new("unshare")
            .args(["-n", "--", "sh", "-c", &script])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor"))
            .stderr(log)
            .spawn()
            .expect("unshare and dockerd (packages util-linux, docker.io)");
        let bin = dir.path().join("bin");
        std::fs::create_dir(&bin).expect("a directory");
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_knarr"), bin.join("docker")).expect("a link");
        let daemon = Dockerd { child, dir, cgroup, bin };
        daemon.wait();
        daemon.import();
        daemon
    }

    fn wait(&self) {
        let end = Instant::now() + Duration::from_mins(1);
        while !self.docker(&["version"]).status.success() {
            let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < end, "dockerd does not answer:\n{log}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn import(&self) {
        let root = self.dir.path().join("root");
        std::fs::create_dir_all(root.join("bin")).expect("a directory");
        std::fs::create_dir_all(root.join("tmp")).expect("a directory");
        std::fs::copy("/bin/busybox", root.join("bin/busybox"))
            .expect("/bin/busybox (package busybox-static)");
        let list = Command::new("/bin/busybox").arg("--list").output().expect("/bin/busybox");
        for applet in String::from_utf8_lossy(&list.stdout).lines().filter(|applet| *applet != "busybox") {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).expect("a link");
        }
        let tar = self.dir.path().join("root.tar");
        let made =
            Command::new("tar").arg("-cf").arg(&tar).arg("-C").arg(&root).arg(".").status().expect("tar");
        assert!(made.success(), "tar failed");
        let tar = tar.display().to_string();
        let made = self.knarr(&["import", "-c", "CMD [\"sh\"]", "-m", "a test's", &tar, "busybox"]);
        assert!(made.status.success(), "{made:?}");
    }

    /// Where it listens.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}/sock", self.dir.path().display())
    }

    /// A directory that goes with the daemon.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn command(&self, program: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args).env("DOCKER_HOST", self.host()).env_remove("KNARR_HOST").stdin(Stdio::null());
        command
    }

    /// Docker's own client.
    pub(crate) fn docker(&self, args: &[&str]) -> Output {
        self.command(Path::new("/usr/local/bin/docker"), args)
            .output()
            .expect("docker's client at /usr/local/bin/docker")
    }

    /// Our program, called as `docker`.
    pub(crate) fn knarr(&self, args: &[&str]) -> Output {
        self.command(&self.bin.join("docker"), args).output().expect("knarr")
    }

    /// Our program, with something to read.
    pub(crate) fn knarr_reads(&self, input: &[u8], args: &[&str]) -> Output {
        let mut child = self
            .command(&self.bin.join("docker"), args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("knarr");
        let mut stdin = child.stdin.take().expect("its input");
        let input = input.to_vec();
        let writer = std::thread::spawn(move || stdin.write_all(&input));
        let output = child.wait_with_output().expect("its output");
        // It may end before it has read everything.
        let _ = writer.join();
        output
    }

    /// Our program, left running.
    pub(crate) fn knarr_runs(&self, args: &[&str]) -> Child {
        self.command(&self.bin.join("docker"), args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("knarr")
    }

    /// A shell on a terminal of 33 rows and 77 columns, in which `docker` is our program; `keys` are typed, each
    /// after its pause.
    pub(crate) fn terminal(&self, script: &str, keys: &[(u64, &[u8])]) -> String {
        let script = format!("stty rows 33 cols 77; {script}");
        let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", self.bin.display());
        let mut child = Command::new("script")
            .args(["-qefc", &script, "/dev/null"])
            .env("DOCKER_HOST", self.host())
            .env("PATH", path)
            .env("SHELL", "/bin/sh")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script (package bsdutils)");
        let mut stdin = child.stdin.take().expect("its input");
        for (pause, bytes) in keys {
            std::thread::sleep(Duration::from_millis(*pause));
            stdin.write_all(bytes).expect("typing");
        }
        let output = child.wait_with_output().expect("its output");
        drop(stdin);
        String::from_utf8_lossy(&output.stdout).replace('\r', "")
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        let all = self.docker(&["ps", "-aq"]);
        let ids = String::from_utf8_lossy(&all.stdout).into_owned();
        let mut remove = vec!["rm", "-f"];
        remove.extend(ids.lines());
        if remove.len() > 2 {
            self.docker(&remove);
        }
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id() as i32) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.child.wait();
        for controller in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let _ = std::fs::remove_dir(controller.path().join(self.cgroup.trim_start_matches('/')));
        }
    }
}

/// What a client said, with everything taken out that differs between two runs.
pub(crate) fn said(output: &Output) -> String {
    let text = [output.stdout.as_slice(), b"|", output.stderr.as_slice()].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    let digits = |word: &str| word.len() >= 12 && word.bytes().all(|b| b.is_ascii_hexdigit());
    let words: Vec<String> = text
        .split_inclusive(|c: char| !c.is_ascii_alphanumeric())
        .map(|word| {
            let bare = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
            if digits(bare) { word.replacen(bare, "ID", 1) } else { word.to_owned() }
        })
        .collect();
    format!("{}\n[{}]", words.concat(), output.status.code().unwrap_or(-1))
}
