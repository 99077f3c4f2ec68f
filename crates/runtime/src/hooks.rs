//! Hooks: programs of the engine's, run at fixed points with the container's state on their standard input.

use std::{
    ffi::CString,
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use oci::spec::{Hook, State, Status};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Mode, OFlags, fcntl_setfl},
    io::{Errno, read, write},
    pipe::{PipeFlags, pipe_with},
    process::{WaitId, WaitIdOptions, setpgid, umask, waitid},
};
use sys::process::Fork;

use crate::error::{During, Error, Result};

/// How much of what a failing hook printed is told.
const TOLD: usize = 4096;

/// Runs `hooks` in order; the first that fails fails all.
pub fn run(kind: &str, hooks: &[Hook], state: &State) -> Result<()> {
    // As under runc; a path of the host's means nothing in the container's root.
    let directory = if kind == "startContainer" { "" } else { &state.bundle };
    hooks.iter().try_for_each(|hook| {
        let text = serde_json::to_vec(state).map_err(|error| Error::new(format!("encode state: {error}")))?;
        run_one(hook, &text, directory).map_err(|error| error.during(format!("{kind} hook {}", hook.path)))
    })
}

/// Runs all of `hooks`, whatever becomes of each; `warn` is told of those that fail.
pub fn run_all(kind: &str, hooks: &[Hook], state: &State, mut warn: impl FnMut(&str)) {
    for hook in hooks {
        if let Err(error) = run(kind, std::slice::from_ref(hook), state) {
            warn(&error.to_string());
        }
    }
}

/// A container's state as its hooks of this kind are to see it.
pub fn state_for(kind: &str, state: &State) -> State {
    let status = if kind == "startContainer" { Status::Created } else { Status::Creating };
    State { status, ..state.clone() }
}

/// A hook that runs.
struct Running {
    pid: i32,
    pidfd: OwnedFd,
    /// Until all of the state is written; a hook that does not read it is in its right.
    input: Option<OwnedFd>,
    output: Option<OwnedFd>,
    said: Vec<u8>,
}

fn run_one(hook: &Hook, state: &[u8], directory: &str) -> Result<()> {
    let mut running = spawn(hook, directory)?;
    let deadline = hook.timeout.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut rest = state;
    while !running.wait(&mut rest, deadline)? {
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            // With whatever it has started: its whole group.
            let _ = sys::process::kill(-running.pid, 9);
            let _ = running.exit();
            return Err(Error::new(format!("did not end in {} s", hook.timeout.unwrap_or_default())));
        }
    }
    let code = running.exit()?;
    if code == 0 {
        return Ok(());
    }
    running.listen();
    let how =
        if code > 128 { format!("ended by signal {}", code - 128) } else { format!("exit status {code}") };
    let said = String::from_utf8_lossy(&running.said);
    Err(Error::new(if said.trim().is_empty() { how } else { format!("{how}: {}", said.trim()) }))
}

/// By a fork of our own: the environment reaches the hook exactly as it is given, also when it is odd.
fn spawn(hook: &Hook, directory: &str) -> Result<Running> {
    let strings = |list: &mut dyn Iterator<Item = &String>| {
        let all: std::result::Result<Vec<_>, _> = list.map(|text| CString::new(text.as_str())).collect();
        all.map_err(|_| Error::new("contains a NUL byte"))
    };
    let path = strings(&mut std::iter::once(&hook.path))?.remove(0);
    let args = if hook.args.is_empty() { vec![path.clone()] } else { strings(&mut hook.args.iter())? };
    let env = strings(&mut hook.env.iter())?;
    let pipe = || pipe_with(PipeFlags::CLOEXEC).during(|| "make a pipe");
    let ((stdin, input), (output, stdout)) = (pipe()?, pipe()?);
    let forked = sys::process::fork(Fork::default()).during(|| "fork")?;
    let Some((pid, pidfd)) = forked else {
        let error =
            become_hook([&stdin, &stdout, &stdout], directory, || sys::process::exec(&path, &args, &env));
        eprintln!("{error}");
        std::process::exit(127);
    };
    for end in [&input, &output] {
        fcntl_setfl(end, OFlags::NONBLOCK).during(|| "prepare a pipe")?;
    }
    Ok(Running { pid, pidfd, input: Some(input), output: Some(output), said: Vec::new() })
}

/// In the child; returns only to say what went wrong.
fn become_hook(
    stdio: [&OwnedFd; 3],
    directory: &str,
    exec: impl FnOnce() -> std::io::Error,
) -> std::io::Error {
    let prepared = || -> std::io::Result<()> {
        setpgid(None, None)?;
        for (number, stream) in (0..).zip(stdio) {
            sys::process::install_stdio(stream.as_fd(), number)?;
        }
        sys::process::close_on_exec_from(3)
    };
    if let Err(error) = prepared() {
        return error;
    }
    // A bundle may be gone by the time of the last hooks.
    let _ = rustix::process::chdir(directory);
    // A container's process that is being set up has none of its own.
    let mask = umask(Mode::from_raw_mode(0o022));
    if !mask.is_empty() {
        umask(mask);
    }
    sys::process::reset_signals();
    exec()
}

impl Running {
    /// Hands over state and takes output until something has happened; whether it has ended.
    fn wait(&mut self, rest: &mut &[u8], deadline: Option<Instant>) -> Result<bool> {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let timeout =
            left.map(|left| Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() });
        let mut fds = vec![PollFd::new(&self.pidfd, PollFlags::IN)];
        fds.extend(self.input.iter().map(|end| PollFd::new(end, PollFlags::OUT)));
        fds.extend(self.output.iter().map(|end| PollFd::new(end, PollFlags::IN)));
        match poll(&mut fds, timeout.as_ref()) {
            Err(Errno::INTR) | Ok(_) => {}
            Err(error) => return Err(Error::refused("poll", &error.into())),
        }
        let ended = !fds[0].revents().is_empty();
        drop(fds);
        self.tell(rest);
        self.listen();
        Ok(ended)
    }

    fn tell(&mut self, rest: &mut &[u8]) {
        let Some(input) = &self.input else { return };
        match write(input, rest) {
            Ok(written) => *rest = &rest[written..],
            Err(Errno::AGAIN | Errno::INTR) => return,
            Err(_) => *rest = &[],
        }
        if rest.is_empty() {
            self.input = None;
        }
    }

    fn listen(&mut self) {
        let mut buffer = [0; 1024];
        while let Some(output) = &self.output {
            match read(output, &mut buffer) {
                Ok(length @ 1..) => {
                    let room = TOLD.saturating_sub(self.said.len());
                    self.said.extend_from_slice(&buffer[..length.min(room)]);
                }
                Err(Errno::AGAIN | Errno::INTR) => return,
                Ok(_) | Err(_) => self.output = None,
            }
        }
    }

    /// Takes its exit: its code, or 128 and the signal that ended it.
    fn exit(&self) -> Result<i32> {
        let status = waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED).during(|| "wait")?;
        let status = status.ok_or_else(|| Error::new("wait: nothing there"))?;
        let signal = status.terminating_signal().unwrap_or(0);
        Ok(status.exit_status().unwrap_or(128 + signal))
    }
}
