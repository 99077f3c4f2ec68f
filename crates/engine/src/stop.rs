//! `stop`, `kill`, `restart`, `pause`, `unpause`, `rename`: verbs on a container that is there.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use shim::protocol::{Reply, Request};

use crate::{
    Engine, State,
    error::{Error, Kind, Result},
    handle::{Handle, Published},
    signal,
    state::Event,
};

const DEFAULT_TIMEOUT: i64 = 10;
/// How long after SIGKILL a process may take; longer is a kernel that holds it (uninterruptible sleep).
const AFTER_KILL: Duration = Duration::from_secs(10);
/// How long a process that ends may still look as if it did not.
const DYING: Duration = Duration::from_millis(200);
/// How long after a process's end its shim may tell of it: it waits 2 s for output that others hold open.
const TOLD: Duration = Duration::from_secs(5);

impl Engine {
    /// Sends the stop signal, waits, sends SIGKILL. `signal` and `timeout` (seconds, -1 for ever) override the
    /// container's. Fails with [`Kind::NotModified`] if it does not run.
    pub async fn stop(&self, key: &str, signal: Option<&str>, timeout: Option<i64>) -> Result<()> {
        let handle = self.0.containers.find(key)?;
        let _verb = handle.hold(key).await?;
        self.stop_held(&handle, signal, timeout).await?;
        self.0.events.container(&handle.now(), "stop", &[]);
        Ok(())
    }

    /// Stops if it runs, and starts.
    pub async fn restart(&self, key: &str, signal: Option<&str>, timeout: Option<i64>) -> Result<()> {
        let handle = self.0.containers.find(key)?;
        let _verb = handle.hold(key).await?;
        match self.stop_held(&handle, signal, timeout).await {
            Err(error) if error.kind != Kind::NotModified => return Err(error),
            _ => {}
        }
        self.start_held(&handle).await?;
        self.0.events.container(&handle.now(), "restart", &[]);
        Ok(())
    }

    async fn stop_held(&self, handle: &Arc<Handle>, given: Option<&str>, timeout: Option<i64>) -> Result<()> {
        let container = handle.now();
        if container.state.pid().is_none() {
            return Err(Error::new(Kind::NotModified, "container is not running"));
        }
        let configured = Some(container.config.stop_signal.as_str()).filter(|name| !name.is_empty());
        let number = given.or(configured).map_or(Ok(signal::TERM), signal::parse)?;
        let seconds = timeout.or(container.config.stop_timeout).unwrap_or(DEFAULT_TIMEOUT);
        self.signal(handle, number).await?;
        if matches!(container.state, State::Paused { .. })
            && let Err(error) = self.thaw(handle).await
            && handle.now().state.pid().is_some()
        {
            return Err(error);
        }
        let patience = u64::try_from(seconds).ok().map(Duration::from_secs);
        if ended(handle, patience).await { Ok(()) } else { self.end(handle).await }
    }

    /// Sends a signal: name with or without SIG, or number.
    pub async fn kill(&self, key: &str, name: &str) -> Result<()> {
        let handle = self.0.containers.find(key)?;
        let number = signal::parse(name)?;
        let container = handle.settled().await;
        if container.state.pid().is_none() {
            let message = format!("cannot kill container: {key}: container {} is not running", container.id);
            return Err(Error::new(Kind::Conflict, message));
        }
        if number == signal::KILL {
            self.end(&handle).await?;
        } else {
            self.signal(&handle, number).await?;
        }
        self.0.events.container(&container, "kill", &[("signal", number.to_string())]);
        Ok(())
    }

    /// Ends it now, for a forced removal; if its shim does not do it, with the shim.
    pub(crate) async fn kill_held(&self, handle: &Arc<Handle>) -> Result<()> {
        let outcome = self.end(handle).await;
        let Err(error) = &outcome else { return outcome };
        let shim = Pid::from_raw(handle.shim_pid.load(Ordering::Relaxed));
        let (Kind::Unavailable, Some(shim)) = (error.kind, shim) else { return outcome };
        tracing::error!("container {}: {error}; ending it with its shim", handle.id);
        // A stopped process dies of it all the same.
        let killed = kill_process(shim, Signal::KILL).is_ok();
        if killed && ended(handle, Some(AFTER_KILL)).await { Ok(()) } else { outcome }
    }

    /// SIGKILL, and the end.
    async fn end(&self, handle: &Handle) -> Result<()> {
        let mut follow = handle.follow();
        let exits = follow.borrow().exits;
        self.signal(handle, signal::KILL).await?;
        let dying = async {
            loop {
                let Published { container, exits: now, gone, .. } = follow.borrow_and_update().clone();
                match container.state {
                    _ if gone || now > exits => return,
                    // A frozen process does not die before it is thawed (cgroup v1), and a pause may still be
                    // under way.
                    State::Paused { .. } => drop(self.thaw(handle).await),
                    State::Running { .. } => {}
                    _ => return,
                }
                if follow.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(AFTER_KILL, dying).await.map_err(|_| {
            let message = format!(
                "container {} did not end within 10 s of SIGKILL: the kernel holds a process of it",
                handle.id
            );
            Error::new(Kind::Internal, message)
        })
    }

    pub(crate) async fn signal(&self, handle: &Handle, signal: i32) -> Result<()> {
        let asked = self.ask(handle, &Request::Signal { session: None, signal }).await;
        // It may have ended on its own in the meantime: then the signal has nothing left to do.
        asked.map(drop).or_else(|error| if handle.now().state.pid().is_none() { Ok(()) } else { Err(error) })
    }

    /// Freezes every process of it.
    pub async fn pause(&self, key: &str) -> Result<()> {
        let handle = self.0.containers.find(key)?;
        let _verb = handle.hold(key).await?;
        match handle.now().state {
            State::Running { .. } => {}
            State::Paused { .. } => return Err(conflict(&format!("Container {key} is already paused"))),
            _ => return Err(conflict(&format!("Container {} is not running", handle.id))),
        }
        let _alone = handle.freezing.write().await;
        self.ask(&handle, &Request::Pause).await?;
        handle.pass(Event::Paused, |_| {})?;
        self.0.events.container(&handle.now(), "pause", &[]);
        Ok(())
    }

    /// Lets a frozen one go on.
    pub async fn unpause(&self, key: &str) -> Result<()> {
        let handle = self.0.containers.find(key)?;
        let _verb = handle.hold(key).await?;
        if !matches!(handle.now().state, State::Paused { .. }) {
            return Err(conflict(&format!("Container {} is not paused", handle.id)));
        }
        self.thaw(&handle).await?;
        self.0.events.container(&handle.now(), "unpause", &[]);
        Ok(())
    }

    async fn thaw(&self, handle: &Handle) -> Result<()> {
        self.ask(handle, &Request::Resume).await?;
        // It may have ended at once, by a signal that waited.
        let _ = handle.pass(Event::Resumed, |_| {});
        Ok(())
    }

    /// Gives it another name.
    pub async fn rename(&self, key: &str, name: &str) -> Result<()> {
        let handle = self.0.containers.find(key)?;
        let _verb = handle.hold(key).await?;
        let old = handle.now().name.clone();
        let new = self.0.containers.take_name(Some(name), &handle.id)?;
        handle.change(|container| container.name.clone_from(&new));
        self.save(&handle);
        self.0.containers.free_name(&old);
        let container = handle.now();
        container.attachments.iter().for_each(|place| self.enter_names(&container, place));
        self.0.events.container(&handle.now(), "rename", &[("oldName", format!("/{old}"))]);
        Ok(())
    }

    /// One request on a connection of its own.
    pub(crate) async fn ask(&self, handle: &Handle, request: &Request) -> Result<Reply> {
        let pid = handle.now().state.pid();
        let reply = async { self.line(&handle.id).await?.ask(request).await };
        unless_ended(handle, pid, reply.await).await
    }
}

/// What failed because the process, `pid` when it was asked, was about to end says so: its shim knows before we are
/// told, and the runtime before its shim.
pub(crate) async fn unless_ended<T>(handle: &Handle, pid: Option<i32>, outcome: Result<T>) -> Result<T> {
    let Err(error) = outcome else { return outcome };
    if error.kind != Kind::Internal {
        return Err(error);
    }
    let is_same = || handle.now().state.pid() == pid;
    let dead = async {
        while is_same() && pid.is_some_and(lives) {
            tokio::time::sleep(DYING / 20).await;
        }
    };
    if tokio::time::timeout(DYING, dead).await.is_err() {
        return Err(error);
    }
    if is_same() {
        ended(handle, Some(TOLD)).await;
    }
    Err(conflict(&format!("Container {} is not running", handle.id)))
}

/// Whether a process is there and not merely unburied.
fn lives(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name is in parentheses and may contain anything, also parentheses.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Waits until it does not run, or has not for a moment; without patience for ever. Whether it came to that.
async fn ended(handle: &Handle, patience: Option<Duration>) -> bool {
    let mut follow = handle.follow();
    let exits = follow.borrow().exits;
    let over = |seen: &Published| seen.gone || seen.exits > exits || seen.container.state.pid().is_none();
    let wait = follow.wait_for(over);
    match patience {
        Some(patience) => tokio::time::timeout(patience, wait).await.is_ok(),
        None => wait.await.is_ok(),
    }
}

fn conflict(message: &str) -> Error {
    Error::new(Kind::Conflict, message)
}
