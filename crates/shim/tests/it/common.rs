//! A bundle with busybox, a shim over it, and their end whatever happens to the test.

use std::{
    fs,
    os::unix::{fs::symlink, net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use oci::{Mount, spec};
use shim::{
    client::Client,
    protocol::{Config, Event, Exit, Log, Reply, Request, State, Streams},
};

const APPLETS: &[&str] = &[
    "cat", "dd", "echo", "head", "kill", "ls", "printf", "seq", "sh", "sleep", "stty", "tail", "true", "wc",
    "yes",
];

pub(crate) const ALL: Streams = Streams { stdin: true, stdout: true, stderr: true };

pub(crate) const SHIM: &str = env!("CARGO_BIN_EXE_knarr-shim");

/// A container to be.
pub(crate) struct Bundle {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) id: String,
    pub(crate) config: Config,
    pub(crate) spec: spec::Spec,
}

/// The runtime under test: `KNARR_TEST_RUNTIME`, else Debian's runc.
pub(crate) fn runtime() -> PathBuf {
    let chosen = std::env::var_os("KNARR_TEST_RUNTIME").map(PathBuf::from);
    let runtime = chosen.unwrap_or_else(|| "/usr/sbin/runc".into());
    assert!(runtime.exists(), "{} is missing: apt-get install runc", runtime.display());
    runtime
}

impl Bundle {
    /// `sh -c SCRIPT` in a root that is a bind of one with busybox.
    pub(crate) fn sh(script: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let id = format!("shimtest-{}-{count}", std::process::id());
        let dir = tempfile::Builder::new().prefix("shimtest").tempdir().unwrap();
        fs::create_dir(dir.path().join("rootfs")).unwrap();
        busybox(&dir.path().join("image"));
        let config = Config {
            id: id.clone(),
            runtime: runtime(),
            runtime_args: vec![],
            runtime_root: dir.path().join("runtime"),
            runtime_traces: false,
            root: vec![Mount {
                destination: "/".into(),
                kind: Some("bind".into()),
                source: Some(dir.path().join("image").to_str().unwrap().into()),
                options: vec!["rbind".into(), "nosuid".into()],
                ..Mount::default()
            }],
            stdin: false,
            log: Log::JsonFile { path: dir.path().join("c.log"), max_size: 0, max_files: 1 },
        };
        let spec = spec(&id, script);
        Self { dir, id, config, spec }
    }

    pub(crate) fn stdin(mut self) -> Self {
        self.config.stdin = true;
        self
    }

    pub(crate) fn terminal(mut self) -> Self {
        self.spec.process.as_mut().unwrap().terminal = true;
        self
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Starts a shim; it answers on its first connection.
    pub(crate) fn shim(self) -> Shim {
        self.shim_by(&mut Command::new(SHIM))
    }

    /// Starts a shim by `command`, to which the directory is added.
    pub(crate) fn shim_by(self, command: &mut Command) -> Shim {
        fs::write(self.path().join("shim.json"), serde_json::to_vec(&self.config).unwrap()).unwrap();
        fs::write(self.path().join("config.json"), serde_json::to_vec(&self.spec).unwrap()).unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        command.arg(self.path()).stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)));
        let child = command.spawn().unwrap();
        Shim { child, first: Client::over(ours), bundle: self }
    }

    /// Creates, and expects that to work.
    pub(crate) fn create(self) -> Shim {
        let mut shim = self.shim();
        match shim.first.reply().unwrap() {
            Reply::State(state) => assert!(state.pid > 0 && state.started_at.is_none()),
            other => panic!("{other:?}; {}", shim.trouble()),
        }
        shim
    }
}

/// A shim that runs.
pub(crate) struct Shim {
    pub(crate) child: Child,
    pub(crate) first: Client,
    pub(crate) bundle: Bundle,
}

impl Shim {
    pub(crate) fn client(&self) -> Client {
        let client = Client::connect(self.bundle.path()).unwrap();
        client.socket().set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        client
    }

    pub(crate) fn attach(&self, streams: Streams) -> Client {
        let mut client = self.client();
        done(&mut client, &Request::Attach { session: None, streams });
        client
    }

    pub(crate) fn watch(&self) -> Client {
        let mut client = self.client();
        assert!(matches!(client.ask(&Request::Watch).unwrap(), Reply::State(_)));
        client
    }

    pub(crate) fn start(&mut self) {
        assert!(matches!(self.first.ask(&Request::Start).unwrap(), Reply::State(_)));
    }

    pub(crate) fn state(&self) -> State {
        match self.client().ask(&Request::State).unwrap() {
            Reply::State(state) => *state,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn signal(&self, signal: i32) {
        done(&mut self.client(), &Request::Signal { session: None, signal });
    }

    /// Waits for the shim's own end and returns the record.
    pub(crate) fn exit(&mut self) -> Exit {
        self.gone();
        let record = fs::read(self.bundle.path().join("exit.json")).expect("exit.json");
        serde_json::from_slice(&record).unwrap()
    }

    pub(crate) fn gone(&mut self) {
        eventually("the shim ends", || self.child.try_wait().unwrap().is_some());
    }

    pub(crate) fn log(&self) -> Vec<(String, String)> {
        log_of(&self.bundle.path().join("c.log"))
    }

    pub(crate) fn trouble(&self) -> String {
        fs::read_to_string(self.bundle.path().join("shim.log")).unwrap_or_default()
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // Over the first connection where there is no other way; what is refused is not needed.
            for request in [Request::Discard, Request::Signal { session: None, signal: 9 }] {
                let _ = match Client::connect(self.bundle.path()) {
                    Ok(mut client) => client.send(&request),
                    Err(_) => self.first.send(&request),
                };
            }
            let end = Instant::now() + Duration::from_secs(5);
            while Instant::now() < end && matches!(self.child.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(10));
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        let root = self.bundle.path().join("runtime");
        let mut delete = Command::new(runtime());
        delete.arg("--root").arg(root).args(["delete", "--force", &self.bundle.id]);
        // Usually there is nothing left to delete.
        let _ = delete.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

/// Stream and text of each line.
pub(crate) fn log_of(path: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(path).unwrap();
    let parse = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
    let word = |value: &serde_json::Value, key: &str| value[key].as_str().unwrap().to_owned();
    text.lines().map(parse).map(|value| (word(&value, "stream"), word(&value, "log"))).collect()
}

/// Asks for what has no answer but "done".
#[track_caller]
pub(crate) fn done(client: &mut Client, request: &Request) {
    match client.ask(request).unwrap() {
        Reply::Done => {}
        other => panic!("{request:?}: {other:?}"),
    }
}

/// Asks for what must fail.
#[track_caller]
pub(crate) fn refused(client: &mut Client, request: &Request) -> String {
    match client.ask(request).unwrap() {
        Reply::Error { message } => message,
        other => panic!("{request:?}: {other:?}"),
    }
}

/// All that comes until the shim closes: standard output and error.
pub(crate) fn collect(client: &mut Client) -> (Vec<u8>, Vec<u8>) {
    let (mut output, mut error) = (Vec::new(), Vec::new());
    while let Some((kind, bytes)) = client.frame().unwrap() {
        if kind == 2 { &mut error } else { &mut output }.extend(bytes);
    }
    (output, error)
}

/// Reads until `text` has come.
#[track_caller]
pub(crate) fn expect(client: &mut Client, text: &str) -> String {
    let mut seen = String::new();
    while !seen.contains(text) {
        let (_, bytes) = client.frame().unwrap().unwrap_or_else(|| panic!("ended; seen {seen:?}"));
        seen.push_str(&String::from_utf8_lossy(&bytes));
    }
    seen
}

/// The exit of the container or of a session.
pub(crate) fn exit_event(watcher: &mut Client, of: Option<&str>) -> Exit {
    loop {
        match watcher.event().unwrap() {
            Event::Exited { session, exit } if session.as_deref() == of => return exit,
            _ => {}
        }
    }
}

#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < end, "in 20 seconds: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A process for an exec session.
pub(crate) fn process(script: &str) -> spec::Process {
    spec::Process {
        args: ["/bin/sh", "-c", script].map(String::from).to_vec(),
        env: vec!["PATH=/bin".into()],
        cwd: "/".into(),
        ..spec::Process::default()
    }
}

pub(crate) fn busybox(root: &Path) {
    let bin = root.join("bin");
    fs::create_dir_all(&bin).unwrap();
    for directory in ["proc", "dev", "sys", "tmp", "etc"] {
        fs::create_dir(root.join(directory)).unwrap();
    }
    fs::copy("/bin/busybox", bin.join("busybox")).expect("apt-get install busybox-static");
    for applet in APPLETS {
        symlink("busybox", bin.join(applet)).unwrap();
    }
}

fn spec(id: &str, script: &str) -> spec::Spec {
    use spec::NamespaceKind::{Ipc, Mount as Mounts, Network, Pid, Uts};
    let mount = |destination: &str, kind: &str, options: &[&str]| Mount {
        destination: destination.into(),
        kind: Some(kind.into()),
        source: Some(kind.into()),
        options: options.iter().map(|&option| option.into()).collect(),
        ..Mount::default()
    };
    spec::Spec {
        oci_version: "1.0.2".into(),
        process: Some(process(script)),
        root: Some(spec::Root { path: "rootfs".into(), readonly: false }),
        mounts: vec![
            mount("/proc", "proc", &[]),
            mount("/dev", "tmpfs", &["nosuid", "mode=755", "size=64k"]),
            mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
        ],
        linux: Some(spec::Linux {
            namespaces: [Pid, Mounts, Uts, Ipc, Network]
                .map(|kind| spec::Namespace { kind, path: None })
                .to_vec(),
            cgroups_path: Some(format!("/knarr/{id}")),
            ..spec::Linux::default()
        }),
        ..spec::Spec::default()
    }
}

/// The cgroups of `id` that exist.
pub(crate) fn cgroups(id: &str) -> Vec<PathBuf> {
    let hierarchies = fs::read_dir("/sys/fs/cgroup").unwrap().map(|hierarchy| hierarchy.unwrap().path());
    // On a host without version 1 that directory is itself the only one.
    let all = hierarchies.chain(["/sys/fs/cgroup".into()]);
    all.map(|hierarchy| hierarchy.join("knarr").join(id)).filter(|path| path.exists()).collect()
}
