//! Calls of the runtime. Each is a child of its own; the loop goes on while it runs.

use std::{
    fs::{self, File},
    io::{Seek, Write},
    os::{
        fd::OwnedFd,
        unix::{fs::OpenOptionsExt, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use oci::spec;
use rustix::{
    fs::{MemfdFlags, memfd_create},
    process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open},
};

use crate::{
    connection::Mode,
    ending::kill_children,
    error::{Context, Error, Result},
    oom::OomWatch,
    protocol::{Exit, Reply, Streams as Wanted},
    runtime::{last_word, read_some},
    shim::{INIT, PATIENCE, Process, Shim, Stage},
    stdio::{Streams, Theirs, console_listener},
    time,
};

/// A runtime that cannot delete in this time is killed; nobody waits for it any longer.
const DELETE: Duration = Duration::from_secs(30);

/// What a call is for.
#[derive(Debug)]
pub(crate) enum Task {
    Create {
        stdio: Made,
        /// Who wants all of it gone.
        discard: Option<u64>,
    },
    /// After a failed [`Task::Create`]: what to tell, and to whom else it is done.
    CleanUp {
        message: String,
        discard: Option<u64>,
    },
    Start,
    Exec {
        session: String,
        stdio: Made,
        attach: Option<Wanted>,
    },
    Pause,
    Resume,
    Discard,
    Delete {
        force: bool,
    },
}

/// The standard streams of what is being made.
#[derive(Debug)]
pub(crate) enum Made {
    Pipes(Streams),
    /// Where the runtime sends the terminal.
    Console(OwnedFd),
}

impl Made {
    /// Why making it failed: a runtime that had no log yet wrote to the standard error it was to hand on.
    fn last_word(self, log: &Path, error: Error) -> Error {
        match self {
            Made::Pipes(Streams { outputs: [_, Some(pipe)], .. }) => {
                Error(last_word(log, &read_some(File::from(pipe)), &error.0))
            }
            _ => error,
        }
    }
}

/// A call under way.
#[derive(Debug)]
pub(crate) struct Call {
    pid: i32,
    pub(crate) task: Task,
    /// Who waits for the answer.
    client: Option<u64>,
    began: u64,
    files: Files,
    /// What the runtime prints, when it does not have the process's own standard error.
    printed: Option<File>,
    /// It is not waited for beyond this.
    pub(crate) kill_at: Option<Instant>,
}

/// A call's files in the shim's directory; they go with the call.
#[derive(Debug)]
struct Files {
    log: PathBuf,
    pid: PathBuf,
    console: PathBuf,
    process: PathBuf,
    trace: PathBuf,
}

impl Files {
    /// Creating has plain names, for it is what people look into.
    fn new(dir: &Path, number: Option<u64>) -> Self {
        let suffix = number.map(|number| format!("-{number}")).unwrap_or_default();
        Self {
            log: dir.join(format!("runtime{suffix}.log")),
            pid: dir.join(format!("pid{suffix}")),
            console: dir.join(format!("console{suffix}.sock")),
            process: dir.join(format!("process{suffix}.json")),
            trace: dir.join(format!("trace{suffix}.json")),
        }
    }

    fn remove(&self) {
        for file in [&self.log, &self.pid, &self.console, &self.process, &self.trace] {
            // Most were never made.
            let _ = fs::remove_file(file);
        }
    }
}

impl Shim {
    /// Begins `RUNTIME create`; `client` gets the state.
    pub(crate) fn call_create(&mut self, client: u64, terminal: bool) -> Result<()> {
        let files = Files::new(&self.dir, None);
        files.remove();
        let mut command = self.traced_command(&files);
        command.arg("create").arg("--bundle").arg(&self.dir).arg("--pid-file").arg(&files.pid);
        let (stdio, theirs) = self.streams(terminal, self.config.stdin, &files, &mut command)?;
        command.arg(&self.config.id);
        self.spawn(command, theirs, Some(client), Task::Create { stdio, discard: None }, files)
    }

    /// Begins `RUNTIME exec`; `client` gets its pid.
    pub(crate) fn exec(
        &mut self,
        client: u64,
        session: String,
        process: &spec::Process,
        stdin: bool,
        attach: Option<Wanted>,
    ) -> Result<()> {
        if self.knows_session(&session) {
            return Err(Error(format!("exec session {session} exists already")));
        }
        let number = self.number();
        let files = Files::new(&self.dir, Some(number));
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&files.process)
            .cannot(format!("write {}", files.process.display()))?;
        serde_json::to_vec(process)
            .map_err(std::io::Error::from)
            .and_then(|json| file.write_all(&json))
            .cannot(format!("write {}", files.process.display()))?;
        let mut command = self.runtime.command(&files.log);
        command.args(["exec", "--detach", "--process"]).arg(&files.process).arg("--pid-file").arg(&files.pid);
        let (stdio, theirs) = self.streams(process.terminal, stdin, &files, &mut command)?;
        command.arg(&self.config.id);
        self.spawn(command, theirs, Some(client), Task::Exec { session, stdio, attach }, files)
    }

    /// Begins a call that only needs the container's id.
    pub(crate) fn call_simple(&mut self, client: Option<u64>, task: Task, words: &[&str]) -> Result<()> {
        let number = self.number();
        let files = Files::new(&self.dir, Some(number));
        let mut command = match task {
            Task::Start => self.traced_command(&files),
            _ => self.runtime.command(&files.log),
        };
        command.args(words).arg(&self.config.id);
        self.spawn(command, None, client, task, files)
    }

    /// Begins the call that ends everything.
    pub(crate) fn call_delete(&mut self, task: Task, client: Option<u64>) -> Result<()> {
        self.stage = Stage::Deleting;
        let gentle = matches!(task, Task::Delete { force: false });
        let words: &[&str] = if gentle { &["delete"] } else { &["delete", "--force"] };
        self.call_simple(client, task, words)?;
        if let Some(call) = self.calls.last_mut() {
            call.kill_at = Some(Instant::now() + DELETE);
        }
        Ok(())
    }

    fn traced_command(&self, files: &Files) -> Command {
        let mut command = self.runtime.command(&files.log);
        if self.config.runtime_traces {
            command.arg("--trace").arg(&files.trace);
        }
        command
    }

    /// Adds a call and what the runtime has traced of it.
    fn join_trace(&mut self, began: u64, what: &str, details: &[(&str, String)], files: &Files) {
        self.step(began, what, details);
        let traced = File::open(&files.trace).ok().map(read_some);
        if let Some(timeline) = traced.and_then(|text| serde_json::from_str(&text).ok()) {
            self.timeline.join(timeline);
        }
    }

    fn streams(
        &self,
        terminal: bool,
        stdin: bool,
        files: &Files,
        command: &mut Command,
    ) -> Result<(Made, Option<Theirs>)> {
        if terminal {
            let listener = console_listener(&files.console).cannot("listen for the terminal")?;
            let short = sys::fdpass::short_path(&files.console, &self.dir_handle);
            command.arg("--console-socket").arg(short);
            return Ok((Made::Console(listener), None));
        }
        let (ours, theirs) = Streams::pipes(stdin).cannot("make pipes")?;
        Ok((Made::Pipes(ours), Some(theirs)))
    }

    fn spawn(
        &mut self,
        mut command: Command,
        theirs: Option<Theirs>,
        client: Option<u64>,
        task: Task,
        files: Files,
    ) -> Result<()> {
        let began = time::monotonic();
        let mut printed = None;
        if let Some(Theirs { input, output, error }) = theirs {
            command.stdin(input).stdout(output).stderr(error);
        } else {
            let memory = memfd_create("runtime", MemfdFlags::CLOEXEC).cannot("make a memfd")?;
            let memory = File::from(memory);
            command.stdin(Stdio::null()).stdout(Stdio::null());
            command.stderr(memory.try_clone().cannot("copy a descriptor")?);
            printed = Some(memory);
        }
        // A signal to the runtime's group, or from its terminal, is none to us.
        command.process_group(0);
        let child = command.spawn().cannot(format!("run {}", self.config.runtime.display()))?;
        let pid = child.id() as i32;
        self.calls.push(Call { pid, task, client, began, files, printed, kill_at: None });
        Ok(())
    }

    /// Ends calls that took too long.
    pub(crate) fn kill_overdue(&mut self) {
        let now = Instant::now();
        for call in &mut self.calls {
            if call.kill_at.is_some_and(|time| time <= now) {
                call.kill_at = None;
                if let Some(pid) = Pid::from_raw(call.pid) {
                    // It may have ended just now; then it is reaped in the next turn.
                    let _ = kill_process(pid, Signal::KILL);
                }
            }
        }
    }

    /// Deals with the end of child `pid` if it is a call; whether it was.
    pub(crate) fn finish_call(&mut self, pid: i32, exit: Exit) -> bool {
        let Some(index) = self.calls.iter().position(|call| call.pid == pid) else {
            return false;
        };
        let call = self.calls.swap_remove(index);
        let result = if exit.code == 0 { Ok(()) } else { Err(Error(complaint(&call, exit.code))) };
        let Call { client, began, files, task, .. } = call;
        match task {
            Task::Create { stdio, discard } => self.created(result, client, began, &files, stdio, discard),
            Task::CleanUp { message, discard } => {
                let replies = client.map(|id| (id, Reply::Error { message }));
                let replies = replies.into_iter().chain(discard.map(|id| (id, Reply::Done)));
                self.abandon(replies.collect());
            }
            Task::Start => self.started(result, client, began, &files),
            Task::Exec { session, stdio, attach } => {
                self.executed(result, client, &files, stdio, session, attach);
            }
            Task::Pause | Task::Resume => {
                let paused = matches!(task, Task::Pause);
                if result.is_ok() {
                    self.paused = paused;
                }
                self.done(client, result);
            }
            Task::Discard => self.abandon(client.map(|id| (id, reply_to(result))).into_iter().collect()),
            Task::Delete { force } => self.deleted(result, force),
        }
        files.remove();
        if let Some(id) = client {
            self.understand(id);
        }
        true
    }

    fn created(
        &mut self,
        result: Result<()>,
        client: Option<u64>,
        began: u64,
        files: &Files,
        stdio: Made,
        discard: Option<u64>,
    ) {
        let made = match result {
            Ok(()) if discard.is_some() => Err(Error("the container was discarded".into())),
            Ok(()) => self.adopt(None, files, stdio),
            Err(error) => Err(stdio.last_word(&files.log, error)),
        };
        let words = [("runtime", self.config.runtime.display().to_string()), ("id", self.config.id.clone())];
        self.join_trace(began, "runtime create", &words, files);
        match made {
            Ok(_) => {
                self.stage = Stage::Serving;
                let state = self.state();
                if let Some(id) = client {
                    self.reply(id, &state);
                }
            }
            Err(Error(message)) => {
                self.processes.clear();
                let task = Task::CleanUp { message: message.clone(), discard };
                if self.call_delete(task, client).is_err() {
                    self.abandon(client.map(|id| (id, Reply::Error { message })).into_iter().collect());
                }
            }
        }
    }

    /// Takes over the process that a call has made, whose pid is in a file.
    fn adopt(&mut self, session: Option<String>, files: &Files, stdio: Made) -> Result<u64> {
        let text = fs::read_to_string(&files.pid).cannot("read the runtime's pid file")?;
        let pid: i32 = text.trim().parse().cannot("read the runtime's pid file")?;
        let handle = Pid::from_raw(pid).ok_or(Error("the runtime's pid file has no pid".into()))?;
        let streams = match stdio {
            Made::Pipes(streams) => streams,
            Made::Console(listener) => Streams::terminal(&listener).cannot("receive the terminal")?,
        };
        let id = if session.is_some() { self.number() } else { INIT };
        if id == INIT {
            self.oom = OomWatch::of(pid).unwrap_or_else(|error| {
                eprintln!("cannot watch for the OOM killer: {error}");
                None
            });
        }
        let process = Process {
            session,
            pid,
            pidfd: pidfd_open(handle, PidfdFlags::empty()).ok(),
            streams,
            exit: None,
            drain_until: None,
            announced: false,
            kills_before: self.oom.as_ref().map_or(0, OomWatch::kills),
        };
        self.processes.insert(id, process);
        if let Some(index) = self.unclaimed.iter().position(|(ended, _)| *ended == pid) {
            let (_, exit) = self.unclaimed.swap_remove(index);
            self.ended(id, exit);
        }
        Ok(id)
    }

    fn started(&mut self, result: Result<()>, client: Option<u64>, began: u64, files: &Files) {
        self.join_trace(began, "runtime start", &[], files);
        if result.is_ok() {
            self.started_at = Some(time::now());
        }
        if let Some(id) = client {
            let reply = result.map_or_else(|Error(message)| Reply::Error { message }, |()| self.state());
            self.reply(id, &reply);
        }
    }

    fn executed(
        &mut self,
        result: Result<()>,
        client: Option<u64>,
        files: &Files,
        stdio: Made,
        session: String,
        attach: Option<Wanted>,
    ) {
        let made = match result {
            Ok(()) => self.adopt(Some(session), files, stdio),
            Err(error) => Err(stdio.last_word(&files.log, error)),
        };
        let Some(client) = client else {
            return;
        };
        let pid_of = |shim: &Self, id| shim.processes.get(&id).map_or(0, |process| process.pid);
        match made {
            Ok(id) => {
                self.reply(client, &Reply::Exec { pid: pid_of(self, id) });
                if let (Some(streams), Some(connection)) = (attach, self.connections.get_mut(&client)) {
                    connection.mode = Mode::Stream { process: id, streams };
                }
            }
            Err(Error(message)) => self.reply(client, &Reply::Error { message }),
        }
    }

    fn deleted(&mut self, result: Result<()>, force: bool) {
        match result {
            Err(Error(message)) if !force => {
                eprintln!("runtime delete: {message}; trying with --force");
                if self.call_delete(Task::Delete { force: true }, None).is_err() {
                    self.leave();
                }
            }
            Err(Error(message)) => {
                eprintln!("runtime delete --force: {message}");
                self.leave();
            }
            Ok(()) => self.leave(),
        }
    }

    /// The container never came to be.
    fn abandon(&mut self, replies: Vec<(u64, Reply)>) {
        kill_children();
        self.processes.clear();
        for (id, reply) in replies {
            self.reply(id, &reply);
        }
        self.leave();
    }

    fn leave(&mut self) {
        self.stage = Stage::Leaving(Instant::now() + PATIENCE);
    }

    fn done(&mut self, client: Option<u64>, result: Result<()>) {
        if let Some(id) = client {
            self.reply(id, &reply_to(result));
        }
    }
}

fn reply_to(result: Result<()>) -> Reply {
    match result {
        Ok(()) => Reply::Done,
        Err(Error(message)) => Reply::Error { message },
    }
}

/// Why `call` failed, in the runtime's words if it had any.
fn complaint(call: &Call, code: i32) -> String {
    let printed = call.printed.as_ref().and_then(|file| {
        let mut file = file.try_clone().ok()?;
        file.rewind().ok()?;
        Some(read_some(file))
    });
    last_word(&call.files.log, &printed.unwrap_or_default(), &format!("the runtime ended with code {code}"))
}
