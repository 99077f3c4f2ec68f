//! `stop`, `kill`, `restart`, `pause`, `unpause`, `rename`: verbs on a container that is there.

use std::{sync::Arc, time::Duration};

use shim::protocol::{Reply, Request};

use crate::{
    Engine, State,
    error::{Error, Kind, Result},
    handle::Handle,
    shim::Line,
    signal,
    state::Event,
};

const DEFAULT_TIMEOUT: i64 = 10;
/// How long after SIGKILL a process may take; longer is a kernel that holds it (uninterruptible sleep).
const AFTER_KILL: Duration = Duration::from_secs(10);

impl Engine {
    /// Sends the stop signal, waits, sends SIGKILL. `signal` and `timeout` (seconds, -1 for ever) override the
    /// container's. Fails with [`Kind::NotModified`] if it does not run.
    pub async fn stop(&self, key: &str, signal: Option<&str>, timeout: Option<i64>) -> Result<()> {
        let handle = self.0.containers.find(key)?;
        let _verb = handle.verb.lock().await;
        self.stop_held(&handle, signal, timeout).await?;
        self.0.events.container(&handle.now(), "stop", &[]);
        Ok(())
    }

    /// Stops if it runs, and starts.
    pub async fn restart(&self, key: &str, signal: Option<&str>, timeout: Option<i64>) -> Result<()> {
        let handle = self.0.containers.find(key)?;
        let _verb = handle.verb.lock().await;
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
        if matches!(container.state, State::Paused { .. }) {
            self.thaw(handle).await?;
        }
        let patience = u64::try_from(seconds).ok().map(Duration::from_secs);
        if !ended(handle, patience).await {
            self.signal(handle, signal::KILL).await?;
            if !ended(handle, Some(AFTER_KILL)).await {
                let message = format!(
                    "container {} did not end within 10 s of SIGKILL: the kernel holds a process of it",
                    handle.id
                );
                return Err(Error::new(Kind::Internal, message));
            }
        }
        Ok(())
    }

    /// Sends a signal: name with or without SIG, or number.
    pub async fn kill(&self, key: &str, name: &str) -> Result<()> {
        let handle = self.0.containers.find(key)?;
        let number = signal::parse(name)?;
        let container = handle.now();
        if container.state.pid().is_none() {
            let message = format!("cannot kill container: {key}: container {} is not running", container.id);
            return Err(Error::new(Kind::Conflict, message));
        }
        self.signal(&handle, number).await?;
        if number == signal::KILL {
            // A frozen process does not die before it is thawed (cgroup v1).
            if matches!(container.state, State::Paused { .. }) {
                self.thaw(&handle).await?;
            }
            ended(&handle, Some(AFTER_KILL)).await;
        }
        self.0.events.container(&container, "kill", &[("signal", number.to_string())]);
        Ok(())
    }

    /// Ends it now, for a forced removal.
    pub(crate) async fn kill_held(&self, handle: &Arc<Handle>) -> Result<()> {
        let frozen = matches!(handle.now().state, State::Paused { .. });
        let sent = self.signal(handle, signal::KILL).await;
        if frozen {
            self.thaw(handle).await?;
        }
        if ended(handle, Some(AFTER_KILL)).await {
            return Ok(());
        }
        sent?;
        let message = format!(
            "container {} did not end within 10 s of SIGKILL: the kernel holds a process of it",
            handle.id
        );
        Err(Error::new(Kind::Internal, message))
    }

    async fn signal(&self, handle: &Handle, signal: i32) -> Result<()> {
        let asked = self.ask(handle, &Request::Signal { session: None, signal }).await;
        // It may have ended on its own in the meantime: then the signal has nothing left to do.
        asked.map(drop).or_else(|error| if handle.now().state.pid().is_none() { Ok(()) } else { Err(error) })
    }

    /// Freezes every process of it.
    pub async fn pause(&self, key: &str) -> Result<()> {
        let handle = self.0.containers.find(key)?;
        let _verb = handle.verb.lock().await;
        match handle.now().state {
            State::Running { .. } => {}
            State::Paused { .. } => return Err(conflict(&format!("Container {key} is already paused"))),
            _ => return Err(conflict(&format!("Container {} is not running", handle.id))),
        }
        self.ask(&handle, &Request::Pause).await?;
        handle.pass(Event::Paused, |_| {})?;
        self.0.events.container(&handle.now(), "pause", &[]);
        Ok(())
    }

    /// Lets a frozen one go on.
    pub async fn unpause(&self, key: &str) -> Result<()> {
        let handle = self.0.containers.find(key)?;
        let _verb = handle.verb.lock().await;
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
        let _verb = handle.verb.lock().await;
        let old = handle.now().name.clone();
        let new = self.0.containers.take_name(Some(name), &handle.id)?;
        handle.change(|container| container.name.clone_from(&new));
        self.save(&handle);
        self.0.containers.free_name(&old);
        self.0.events.container(&handle.now(), "rename", &[("oldName", format!("/{old}"))]);
        Ok(())
    }

    /// One request on a connection of its own.
    pub(crate) async fn ask(&self, handle: &Handle, request: &Request) -> Result<Reply> {
        let directory = self.bundle(&handle.id);
        let mut line = Line::connect(&directory)
            .await
            .map_err(|error| Error::at("connect to the shim in", &directory, &error))?;
        line.ask(request).await
    }
}

/// Waits until it does not run; without patience for ever. Whether it came to that.
async fn ended(handle: &Handle, patience: Option<Duration>) -> bool {
    let mut follow = handle.follow();
    let wait = follow.wait_for(|seen| seen.gone || seen.container.state.pid().is_none());
    match patience {
        Some(patience) => tokio::time::timeout(patience, wait).await.is_ok(),
        None => wait.await.is_ok(),
    }
}

fn conflict(message: &str) -> Error {
    Error::new(Kind::Conflict, message)
}
