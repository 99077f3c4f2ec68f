//! Hooks: programs of the engine's, run at fixed points with the container's state on their standard input.

use std::{
    io::Write,
    os::{fd::AsFd, unix::process::CommandExt},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use oci::spec::{Hook, State};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};

use crate::error::{During, Error, Result};

/// Runs `hooks` in order; the first that fails fails all.
pub fn run(kind: &str, hooks: &[Hook], state: &State) -> Result<()> {
    let state = serde_json::to_vec(state).map_err(|error| Error::new(format!("encode state: {error}")))?;
    for hook in hooks {
        run_one(hook, &state).map_err(|error| error.during(format!("{kind} hook {}", hook.path)))?;
    }
    Ok(())
}

fn run_one(hook: &Hook, state: &[u8]) -> Result<()> {
    let mut command = Command::new(&hook.path);
    if let Some((name, args)) = hook.args.split_first() {
        command.arg0(name).args(args);
    }
    let env = hook.env.iter().filter_map(|entry| entry.split_once('='));
    command.env_clear().envs(env).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::inherit());
    let mut running = command.spawn().during(|| "start")?;
    if let Some(mut stdin) = running.stdin.take() {
        // A hook that does not read its state is in its right.
        let _ = stdin.write_all(state);
    }
    let pid = Pid::from_raw(running.id() as i32).ok_or_else(|| Error::new("no pid"))?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).during(|| "open its pidfd")?;
    let deadline = hook.timeout.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let timeout =
            left.map(|left| Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() });
        match poll(&mut [PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)], timeout.as_ref()) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(0) => {
                let _ = running.kill();
                let _ = running.wait();
                return Err(Error::new(format!("did not end in {} s", hook.timeout.unwrap_or_default())));
            }
            _ => break,
        }
    }
    let status = running.wait().during(|| "wait")?;
    if status.success() { Ok(()) } else { Err(Error::new(status.to_string())) }
}
