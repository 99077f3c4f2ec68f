//! A private engine: knarr's daemon, or Debian's dockerd to try the tests themselves.

use std::{
    env, fs,
    io::{Read, Write},
    os::fd::AsFd,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
    thread,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{Client, Place, Program, busybox, until};

/// Whose engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Ours.
    Knarr,
    /// The oracle.
    Docker,
}

impl Kind {
    /// What `E2E_ENGINE` says.
    pub fn chosen() -> Self {
        match env::var("E2E_ENGINE").as_deref() {
            Err(_) | Ok("" | "knarr") => Self::Knarr,
            Ok("docker") => Self::Docker,
            Ok(other) => panic!("E2E_ENGINE={other}: it is knarr or docker"),
        }
    }
}

/// How to start an engine.
#[derive(Debug, Default, Clone)]
pub struct Setup {
    /// Whose; none is what `E2E_ENGINE` says.
    pub kind: Option<Kind>,
    /// More arguments for the daemon.
    pub args: Vec<String>,
    /// Words before the daemon's program, which they must execute with the arguments after them; `{data}` stands
    /// for the data root, `{socket}` for the socket's path.
    pub wrapper: Vec<String>,
    /// What `--host` says; none is the socket.
    pub host: Option<String>,
}

/// One running daemon and everything that belongs to it.
#[derive(Debug)]
pub struct Engine {
    /// Whose.
    pub kind: Kind,
    /// Where.
    pub place: Place,
    setup: Setup,
    namespaces: Namespaces,
    daemon: Mutex<Option<Child>>,
}

impl Engine {
    /// The one that all tests of this program share, with `busybox` in it; taken down when the last has let go.
    pub(crate) fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Engine>> = Mutex::new(Weak::new());
        static STARTS: OnceLock<()> = OnceLock::new();
        let mut shared = SHARED
            .lock()
            .unwrap_or_else(|_| panic!("the shared engine did not start; see the first failure"));
        if let Some(engine) = shared.upgrade() {
            return engine;
        }
        let engine = Arc::new(Self::with_busybox(Setup::default()));
        STARTS.get_or_init(|| ());
        *shared = Arc::downgrade(&engine);
        engine
    }

    /// A fresh one with nothing in it.
    #[track_caller]
    pub fn start(setup: Setup) -> Self {
        let engine = Self::prepare(setup);
        engine.start_daemon();
        engine
    }

    /// A place for one that is yet to be started.
    pub fn prepare(setup: Setup) -> Self {
        let kind = setup.kind.unwrap_or_else(Kind::chosen);
        let label = env::current_exe()
            .ok()
            .and_then(|path| Some(path.file_name()?.to_string_lossy().split('-').next()?.to_owned()))
            .unwrap_or_default();
        let engine = Self {
            kind,
            place: Place::new(&label),
            setup,
            namespaces: Namespaces::new(kind),
            daemon: Mutex::new(None),
        };
        fs::create_dir(engine.data_root()).expect("make the data root");
        engine
    }

    /// A fresh one with `busybox` in it.
    #[track_caller]
    pub fn with_busybox(setup: Setup) -> Self {
        let engine = Self::start(setup);
        let path = engine.place.dir.join("busybox.tar");
        fs::write(&path, busybox().docker_archive("busybox:latest")).expect("write an archive");
        engine.any_client().run(&format!("load -i {}", path.display())).ok();
        engine
    }

    /// `--data-root`
    pub fn data_root(&self) -> PathBuf {
        self.place.dir.join("data")
    }

    /// `--exec-root`
    pub fn exec_root(&self) -> PathBuf {
        self.place.dir.join("run")
    }

    /// The socket.
    pub fn socket(&self) -> PathBuf {
        self.place.dir.join("engine.sock")
    }

    /// What the daemon wrote.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.place.dir.join("daemon.log")
    }

    /// A client for it.
    pub fn client(&self, program: Program) -> Client {
        Client::new(program, &self.socket(), &self.place.dir)
    }

    /// By the client that `E2E_CLIENT` names, else docker's.
    pub fn any_client(&self) -> Client {
        self.client(Program::preferred())
    }

    /// Starts the daemon (again) and waits until it answers.
    #[track_caller]
    pub fn start_daemon(&self) {
        let child = self.spawn_daemon();
        *self.daemon.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
        until(&format!("the daemon answers ({})", self.log_path().display()), || {
            assert!(self.is_up(), "the daemon ended:\n{}", self.log());
            self.answers()
        });
    }

    /// Starts the daemon and waits until it answers or has given up; tells which.
    #[track_caller]
    pub fn try_start_daemon(&self) -> bool {
        let child = self.spawn_daemon();
        *self.daemon.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
        until("the daemon answers or ends", || self.answers() || !self.is_up());
        self.answers()
    }

    /// Does `work` in the daemon's network.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let path = format!("/proc/{}/ns/net", self.namespaces.holder.id());
        let namespace = fs::File::open(path).expect("open the daemon's network");
        let enter = move || {
            let kind = Some(rustix::thread::LinkNameSpaceType::Network);
            rustix::thread::move_into_link_name_space(namespace.as_fd(), kind).expect("enter the network");
            work()
        };
        std::thread::scope(|scope| scope.spawn(enter).join().expect("work in the daemon's network"))
    }

    /// Starts the daemon; the caller sees how it fares.
    pub fn spawn_daemon(&self) -> Child {
        let log = fs::File::options().append(true).create(true).open(self.log_path()).expect("open the log");
        let data = self.data_root().display().to_string();
        let (run, socket) = (self.exec_root(), self.socket());
        let wrapper = self
            .setup
            .wrapper
            .iter()
            .map(|word| word.replace("{data}", &data).replace("{socket}", &socket.display().to_string()));
        let own: Vec<String> = match self.kind {
            Kind::Knarr => {
                wrapper.chain([knarr_program("knarr").display().to_string(), "daemon".into()]).collect()
            }
            Kind::Docker => {
                // A containerd that died with a killed dockerd is taken for alive as long as nobody has reaped it.
                let _ = fs::remove_file(run.join("containerd/containerd.pid"));
                let pid_file = format!("--pidfile={}", self.place.dir.join("pid").display());
                let fixed = ["dockerd", &pid_file].map(str::to_owned);
                wrapper.chain(fixed).collect()
            }
        };
        let mut words = self.namespaces.enter();
        words.extend(own);
        words.extend([
            format!("--data-root={data}"),
            format!("--exec-root={}", run.display()),
            format!("--host={}", self.setup.host.clone().unwrap_or(format!("unix://{}", socket.display()))),
            format!("--cgroup-parent={}", self.place.cgroup),
        ]);
        words.extend(self.setup.args.iter().cloned());
        Command::new(&words[0])
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("share the log"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("start {}: {error}", words[0]))
    }

    /// Whether the daemon's process lives.
    pub fn is_up(&self) -> bool {
        let mut daemon = self.daemon.lock().unwrap_or_else(PoisonError::into_inner);
        daemon.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Whether it answers `_ping`.
    pub fn answers(&self) -> bool {
        self.get("/_ping").is_ok_and(|(status, _)| status == 200)
    }

    /// The daemon's process.
    pub fn pid(&self) -> u32 {
        let daemon = self.daemon.lock().unwrap_or_else(PoisonError::into_inner);
        daemon.as_ref().expect("the daemon runs").id()
    }

    /// SIGKILL, as the kernel's OOM killer would.
    pub fn kill_daemon(&self) {
        self.end_daemon(Signal::KILL);
    }

    /// SIGTERM, as systemd does; returns what it exited with.
    pub fn stop_daemon(&self) -> Option<i32> {
        self.end_daemon(Signal::TERM)
    }

    fn end_daemon(&self, signal: Signal) -> Option<i32> {
        let mut child = self.daemon.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let _ = Pid::from_raw(child.id() as i32).map(|pid| kill_process(pid, signal));
        let mut status = None;
        until("the daemon ends", || {
            status = child.try_wait().ok().flatten();
            status.is_some()
        });
        status.and_then(|status| status.code())
    }

    /// `GET` by hand: status and body.
    pub fn get(&self, path: &str) -> std::io::Result<(u16, Value)> {
        self.request("GET", path, "")
    }

    /// A request by hand: status and body. HTTP/1.0, so that the answer ends with the connection.
    pub fn request(&self, method: &str, path: &str, body: &str) -> std::io::Result<(u16, Value)> {
        let mut stream = UnixStream::connect(self.socket())?;
        stream.set_read_timeout(Some(crate::PATIENCE))?;
        let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nHost: e2e\r\n{kind}Content-Length: {length}\r\n\r\n{body}"
        )?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        let body = serde_json::from_str(body).unwrap_or_else(|_| Value::String(body.to_owned()));
        Ok((status, body))
    }

    /// Removes every container and then looks for what they left.
    #[track_caller]
    pub fn assert_clean(&self) {
        let client = self.any_client();
        for id in client.run("ps -aq").ok().lines() {
            client.run(&format!("rm -f {id}"));
        }
        let mut left = Vec::new();
        for _ in 0..100 {
            left = self.place.cgroups_left();
            left.extend(self.directories_left());
            if self.kind == Kind::Knarr {
                left.extend(self.place.mounts_left());
            }
            if left.is_empty() {
                return;
            }
            thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("left behind by containers that are gone:\n{}", left.join("\n"));
    }

    /// Directories of containers.
    pub fn directories_left(&self) -> Vec<String> {
        let roots: &[PathBuf] = &[
            self.data_root().join("containers"),
            self.data_root().join("overlay/snapshots"),
            self.exec_root().join("containers"),
            self.exec_root().join("runtime"),
        ];
        let entries = roots.iter().flat_map(|root| fs::read_dir(root).into_iter().flatten().flatten());
        entries.map(|entry| format!("directory {}", entry.path().display())).collect()
    }

    fn shut_down(&self) {
        if !self.is_up() {
            return;
        }
        self.assert_clean();
        let code = self.stop_daemon();
        assert_eq!(code, Some(0), "the daemon did not end well:\n{}", self.log());
        let left = self.place.leaks();
        assert!(left.is_empty(), "left behind by the engine:\n{}", left.join("\n"));
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(15).collect();
            eprintln!("-- the daemon's last words --");
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        } else {
            self.shut_down();
        }
    }
}

/// Namespaces for a daemon, kept over its restarts: a network of its own keeps it from the host's links and firewall;
/// for dockerd, mounts of its own from the host's table.
#[derive(Debug)]
struct Namespaces {
    holder: Child,
    flags: &'static [&'static str],
}

impl Namespaces {
    fn new(kind: Kind) -> Self {
        let (make, flags): (&[&str], &[&str]) = match kind {
            Kind::Knarr => (&["-n"], &["-n"]),
            Kind::Docker => (&["-nm", "--propagation=private"], &["-n", "-m"]),
        };
        let script = "ip link set lo up && echo ready && exec cat";
        let mut holder = Command::new("unshare")
            .args(make)
            .args(["sh", "-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start unshare");
        let mut ready = [0; 6];
        let read = holder.stdout.as_mut().map(|out| out.read_exact(&mut ready));
        assert!(matches!(read, Some(Ok(()))), "namespaces for a daemon cannot be made");
        Self { holder, flags }
    }

    /// What a program's name is put behind to run inside.
    fn enter(&self) -> Vec<String> {
        let target = ["-t".to_owned(), self.holder.id().to_string()];
        let flags = self.flags.iter().map(|&flag| flag.to_owned());
        std::iter::once("nsenter".to_owned()).chain(flags).chain(target).collect()
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

/// One of knarr's programs.
pub fn knarr_program(name: &str) -> PathBuf {
    let dir = env::var_os("KNARR_BIN_DIR").map_or_else(
        || {
            let exe = env::current_exe().expect("know the own program");
            exe.ancestors().nth(2).map(Path::to_owned).unwrap_or_default()
        },
        PathBuf::from,
    );
    let program = dir.join(name);
    assert!(program.exists(), "{} is not there: cargo build, or set KNARR_BIN_DIR", program.display());
    program
}
