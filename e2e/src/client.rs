//! The `docker` or `knarr` command, and what it said.

use std::{
    env,
    io::{BufRead, BufReader, Read, Write},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{Engine, Kind, PATIENCE, Pty, engine::knarr_program, until};

/// Whose command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// Docker's own.
    Docker,
    /// Ours.
    Knarr,
}

impl Program {
    fn chosen() -> Option<Self> {
        match env::var("E2E_CLIENT").as_deref() {
            Err(_) | Ok("") => None,
            Ok("docker") => Some(Self::Docker),
            Ok("knarr") => Some(Self::Knarr),
            Ok(other) => panic!("E2E_CLIENT={other}: it is docker or knarr"),
        }
    }

    pub(crate) fn preferred() -> Self {
        Self::chosen().unwrap_or(Self::Docker)
    }

    fn path(self) -> PathBuf {
        match self {
            Self::Docker => "docker".into(),
            Self::Knarr => knarr_program("knarr"),
        }
    }
}

/// A client of one engine. Commands are written as one line, as a person types them; quotes group words.
#[derive(Debug, Clone)]
pub struct Client {
    /// Whose.
    pub program: Program,
    socket: PathBuf,
    config: PathBuf,
    engine: Option<Arc<Engine>>,
}

impl Client {
    pub(crate) fn new(program: Program, socket: &Path, config: &Path) -> Self {
        Self { program, socket: socket.to_owned(), config: config.to_owned(), engine: None }
    }

    /// By this program, on the engine that all tests of a file share; none if `E2E_CLIENT` names the other.
    pub fn shared(program: Program) -> Option<Self> {
        if Program::chosen().is_some_and(|chosen| chosen != program) {
            return None;
        }
        let engine = Engine::shared();
        let mut client = engine.client(program);
        client.engine = Some(engine);
        Some(client)
    }

    /// By the client that `E2E_CLIENT` names, else docker's, on the shared engine.
    pub fn any() -> Self {
        Self::shared(Program::preferred()).expect("the preferred client is not excluded")
    }

    /// The shared engine.
    pub fn engine(&self) -> &Engine {
        self.engine.as_deref().expect("a client of the shared engine")
    }

    /// Whether this is Docker's own client.
    pub fn is_docker(&self) -> bool {
        self.program == Program::Docker
    }

    /// Whether the engine is ours.
    #[allow(clippy::unused_self)]
    pub fn is_knarr_engine(&self) -> bool {
        Kind::chosen() == Kind::Knarr
    }

    /// A container name that no other test uses.
    #[allow(clippy::unused_self)]
    pub fn name(&self, stem: &str) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        format!("{stem}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
    }

    /// The command, ready to start.
    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new(self.program.path());
        self.dress(command.args(words(line)));
        command
    }

    fn dress<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("DOCKER_")) {
            command.env_remove(name);
        }
        command
            .env("DOCKER_HOST", format!("unix://{}", self.socket.display()))
            .env("DOCKER_CONFIG", &self.config)
            .env("DOCKER_CLI_HINTS", "false")
    }

    /// Runs it to its end with nothing to read.
    #[track_caller]
    pub fn run(&self, line: &str) -> Output {
        self.feed(line, b"")
    }

    /// Runs it to its end with this on standard input.
    #[track_caller]
    pub fn feed(&self, line: &str, input: &[u8]) -> Output {
        let mut running = self.spawn(line);
        let mut stdin = running.stdin.take().expect("standard input is a pipe");
        let input = input.to_vec();
        // On a thread: a command that does not read must not hold the test up.
        thread::spawn(move || stdin.write_all(&input));
        running.output()
    }

    /// Starts it and lets it run.
    #[track_caller]
    pub fn spawn(&self, line: &str) -> Running {
        let child = self
            .command(line)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("start {}: {error}", self.program.path().display()));
        Running::new(format!("{:?} {line}", self.program), child)
    }

    /// Starts it on a terminal of its own.
    #[track_caller]
    pub fn terminal(&self, line: &str, rows: u16, columns: u16) -> Pty {
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait"]).arg(self.program.path()).args(words(line));
        self.dress(&mut command).env("TERM", "xterm");
        Pty::spawn(&mut command, rows, columns)
    }

    /// `run -d`, returning the id.
    #[track_caller]
    pub fn start(&self, line: &str) -> String {
        self.run(&format!("run -d {line}")).ok().line()
    }

    /// `inspect` of a container.
    #[track_caller]
    pub fn inspect(&self, key: &str) -> Value {
        self.run(&format!("inspect {key}")).ok().json()[0].clone()
    }

    /// A JSON pointer into `inspect`: `/State/Pid`.
    #[track_caller]
    pub fn field(&self, key: &str, pointer: &str) -> Value {
        let all = self.inspect(key);
        all.pointer(pointer).unwrap_or_else(|| panic!("no {pointer} in {all:#}")).clone()
    }

    /// The container's first process as the host sees it.
    #[track_caller]
    pub fn pid(&self, key: &str) -> u32 {
        let pid = self.field(key, "/State/Pid").as_u64().unwrap_or(0) as u32;
        assert!(pid > 0, "{key} does not run");
        pid
    }

    /// Waits until the container is `running`, `exited`, ….
    #[track_caller]
    pub fn await_status(&self, key: &str, status: &str) {
        until(&format!("{key} is {status}"), || self.field(key, "/State/Status") == status);
    }

    /// Waits until the container is there and runs.
    #[track_caller]
    pub fn await_running(&self, key: &str) {
        let question = format!("inspect --format {{{{.State.Status}}}} {key}");
        until(&format!("{key} runs"), || self.run(&question).stdout == "running\n");
    }

    /// Waits until the container's log has this.
    #[track_caller]
    pub fn await_log(&self, key: &str, text: &str) {
        until(&format!("{key} logs {text:?}"), || self.run(&format!("logs {key}")).all().contains(text));
    }
}

/// Splits a line into words as a shell does; single and double quotes group, nothing is expanded.
pub fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(q), _) if c == q => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ' | '\n') => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// A command that runs. Dropping it ends it.
#[derive(Debug)]
pub struct Running {
    line: String,
    child: Child,
    /// Its standard input.
    pub stdin: Option<ChildStdin>,
    stdout: Receiver<Vec<u8>>,
    stderr: Receiver<Vec<u8>>,
    seen: Vec<u8>,
}

impl Running {
    fn new(line: String, mut child: Child) -> Self {
        let stdout = lines_of(child.stdout.take());
        let stderr = lines_of(child.stderr.take());
        let stdin = child.stdin.take();
        Self { line, child, stdin, stdout, stderr, seen: Vec::new() }
    }

    /// Its next line of output.
    #[track_caller]
    pub fn line(&mut self) -> String {
        match self.stdout.recv_timeout(PATIENCE) {
            Ok(line) => {
                self.seen.extend(&line);
                String::from_utf8_lossy(&line).trim_end().to_owned()
            }
            Err(error) => panic!(
                "{}: no further line ({error}) after:\n{}",
                self.line,
                String::from_utf8_lossy(&self.seen)
            ),
        }
    }

    /// Whether no line of output comes within this time.
    pub fn is_silent_for(&mut self, milliseconds: u64) -> bool {
        self.stdout.recv_timeout(Duration::from_millis(milliseconds)) == Err(RecvTimeoutError::Timeout)
    }

    /// Writes to its standard input.
    #[track_caller]
    pub fn send(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().expect("standard input is open");
        stdin.write_all(text.as_bytes()).expect("write to the command");
        stdin.flush().expect("write to the command");
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let _ = Pid::from_raw(self.child.id() as i32).map(|pid| kill_process(pid, signal));
    }

    /// Closes its input, waits for its end, and returns what is still unread.
    #[track_caller]
    pub fn output(mut self) -> Output {
        drop(self.stdin.take());
        let started = Instant::now();
        let status = loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                break status;
            }
            assert!(
                started.elapsed() < PATIENCE,
                "{} hangs; so far it said:\n{}\n{}",
                self.line,
                String::from_utf8_lossy(&self.stdout.try_iter().flatten().collect::<Vec<_>>()),
                String::from_utf8_lossy(&self.stderr.try_iter().flatten().collect::<Vec<_>>()),
            );
            thread::sleep(Duration::from_millis(3));
        };
        Output {
            line: self.line.clone(),
            code: code(status),
            stdout: drain(&self.stdout),
            stderr: drain(&self.stderr),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

fn lines_of(stream: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    let mut stream = BufReader::new(stream.expect("a pipe"));
    thread::spawn(move || {
        loop {
            let mut line = Vec::new();
            match stream.read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) if sender.send(line).is_err() => return,
                Ok(_) => {}
            }
        }
    });
    receiver
}

/// Everything until the stream ends. A background process that inherited the stream must not hold the test up.
fn drain(stream: &Receiver<Vec<u8>>) -> String {
    let mut all = Vec::new();
    while let Ok(line) = stream.recv_timeout(Duration::from_secs(5)) {
        all.extend(line);
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// What a command said, and how it ended. The checks return it, so that they can be strung together.
#[derive(Debug, Clone)]
pub struct Output {
    line: String,
    /// Exit code, or 128 + signal.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

#[allow(missing_docs)]
impl Output {
    #[track_caller]
    fn check(self, is_so: bool, what: &str) -> Self {
        let Self { line, code, stdout, stderr } = &self;
        assert!(is_so, "{what}\n  {line}\n  exit code {code}\n  stdout: {stdout:?}\n  stderr: {stderr:?}");
        self
    }

    /// It exited with 0.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.code(0)
    }

    #[track_caller]
    pub fn code(self, code: i32) -> Self {
        let is_so = self.code == code;
        self.check(is_so, &format!("not exit code {code}"))
    }

    /// Standard output is exactly this.
    #[track_caller]
    pub fn out(self, text: &str) -> Self {
        let is_so = self.stdout == text;
        self.check(is_so, &format!("standard output is not {text:?}"))
    }

    #[track_caller]
    pub fn out_has(self, text: &str) -> Self {
        let is_so = self.stdout.contains(text);
        self.check(is_so, &format!("standard output lacks {text:?}"))
    }

    #[track_caller]
    pub fn out_lacks(self, text: &str) -> Self {
        let is_so = !self.stdout.contains(text);
        self.check(is_so, &format!("standard output has {text:?}"))
    }

    #[track_caller]
    pub fn err_has(self, text: &str) -> Self {
        let is_so = self.stderr.contains(text);
        self.check(is_so, &format!("standard error lacks {text:?}"))
    }

    #[track_caller]
    pub fn err_lacks(self, text: &str) -> Self {
        let is_so = !self.stderr.contains(text);
        self.check(is_so, &format!("standard error has {text:?}"))
    }

    /// On either stream.
    #[track_caller]
    pub fn has(self, text: &str) -> Self {
        let is_so = self.stdout.contains(text) || self.stderr.contains(text);
        self.check(is_so, &format!("neither stream has {text:?}"))
    }

    /// It exited with anything but 0.
    #[track_caller]
    pub fn fails(self) -> Self {
        let is_so = self.code != 0;
        self.check(is_so, "it did not fail")
    }

    /// Standard output without its last newline.
    pub fn line(&self) -> String {
        self.stdout.trim_end().to_owned()
    }

    pub fn lines(&self) -> Vec<String> {
        self.stdout.lines().map(str::to_owned).collect()
    }

    /// Both streams.
    pub fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{}: {error}: {}", self.line, self.stdout))
    }
}
