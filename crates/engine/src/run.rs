//! While a container runs: follow its shim, note its end, clean up behind it.

use std::{
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
};

use jiff::Timestamp;
use shim::protocol::{Event as ShimEvent, Exit, State as ShimState};
use tokio::sync::OwnedMutexGuard;
use trace::Timeline;

use crate::{Engine, handle::Handle, locked, shim::Line, state::Event};

const TIMELINES: usize = 64;
/// Exit code of what its shim took with it.
pub(crate) const LOST: i32 = 137;

impl Engine {
    /// Takes up a container that its shim says is started: publishes what is so, and follows what comes.
    /// `guard` is that of [`Handle::shim`].
    pub(crate) fn resume(
        &self,
        handle: &Arc<Handle>,
        line: Line,
        state: &ShimState,
        guard: OwnedMutexGuard<()>,
    ) {
        handle.shim_pid.store(state.shim_pid, Ordering::Relaxed);
        let started_at = state.started_at.and_then(|at| Timestamp::from_nanosecond(at.into()).ok());
        let passed = handle.pass(Event::Started { pid: state.pid }, |container| {
            container.last = crate::LastRun { started_at, ..crate::LastRun::default() };
            container.execs =
                state.sessions.iter().filter(|s| s.exit.is_none()).map(|s| s.id.clone()).collect();
        });
        if let Err(error) = passed {
            tracing::error!("container {}: {error}", handle.id);
        }
        if state.paused {
            let _ = handle.pass(Event::Paused, |_| {});
        }
        for session in &state.sessions {
            self.adopt_session(handle, session);
        }
        self.save(handle);
        let (engine, handle, ended) = (self.clone(), handle.clone(), state.exit);
        tokio::spawn(async move { engine.follow(handle, line, ended, guard).await });
    }

    async fn follow(
        self,
        handle: Arc<Handle>,
        mut line: Line,
        ended: Option<Exit>,
        guard: OwnedMutexGuard<()>,
    ) {
        if let Some(exit) = ended {
            self.ended(&handle, exit);
        }
        while let Some(event) = line.event().await {
            match event {
                ShimEvent::Exited { session: None, exit } => self.ended(&handle, exit),
                ShimEvent::Exited { session: Some(session), exit } => {
                    self.exec_ended(&handle, &session, exit);
                }
                ShimEvent::OutOfMemory => self.0.events.container(&handle.now(), "oom", &[]),
            }
        }
        // The shim has gone, in order or not.
        handle.shim_pid.store(0, Ordering::Relaxed);
        if handle.now().state.pid().is_some() {
            self.lost(&handle).await;
        } else if self.runtime_root().join(&handle.id).exists() {
            tracing::error!("container {}: its shim was lost before it had tidied up", handle.id);
            self.clear_runtime(&handle.id).await;
        }
        self.end_sessions(&handle.id);
        let _ = std::fs::remove_dir_all(self.bundle(&handle.id));
        drop(guard);
    }

    fn ended(&self, handle: &Arc<Handle>, exit: Exit) {
        let before = handle.now();
        let passed = handle.pass(Event::Exited, |container| {
            container.last.exit_code = exit.code;
            container.last.finished_at = Timestamp::from_nanosecond(exit.at.into()).ok();
            container.last.oom_killed = exit.oom_killed;
            container.execs.clear();
            container.attachments.clear();
            container.ports.clear();
        });
        if passed.is_err() {
            return; // Told twice: by the state and by an event.
        }
        self.leave(&before.id, &before.attachments, &before.ports);
        let container = handle.now();
        if exit.oom_killed {
            self.0.events.container(&container, "oom", &[]);
        }
        self.0.events.container(&container, "die", &[("exitCode", exit.code.to_string())]);
        if container.config.host.auto_remove {
            // Not here: a restart holds the verb, and waits for the shim that we follow. Then it stays.
            let (engine, id) = (self.clone(), container.id.clone());
            tokio::spawn(async move { engine.remove(&id, false).await });
        } else {
            self.save(handle);
        }
    }

    /// The shim died without a word: nothing holds the container's streams any more, so it is ended.
    async fn lost(&self, handle: &Arc<Handle>) {
        tracing::error!("container {}: its shim was lost; ending what is left of it", handle.id);
        self.clear_runtime(&handle.id).await;
        let exit = Exit { code: LOST, at: Timestamp::now().as_nanosecond() as i64, oom_killed: false };
        handle.change(|container| "its shim was lost".clone_into(&mut container.last.error));
        self.ended(handle, exit);
    }

    /// Ends processes and control groups that a lost shim left, by the runtime's own `delete --force`.
    pub(crate) async fn clear_runtime(&self, id: &str) {
        let program = self.runtime_of(id);
        let deleted = tokio::process::Command::new(&program)
            .arg("--root")
            .arg(self.runtime_root())
            .args(["delete", "--force", id])
            .stdin(std::process::Stdio::null())
            .output()
            .await;
        let trouble = match deleted {
            Ok(output) if output.status.success() => return,
            Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => error.to_string(),
        };
        tracing::error!("container {id}: {} delete --force: {trouble}", program.display());
    }

    /// What a bundle's shim was told to call; our own it knows by a descriptor of a daemon that may be gone.
    fn runtime_of(&self, id: &str) -> PathBuf {
        let config = std::fs::read(self.bundle(id).join("shim.json")).unwrap_or_default();
        match serde_json::from_slice::<shim::protocol::Config>(&config) {
            Ok(config) if !config.runtime_traces => config.runtime,
            _ => self.0.options.runtime.clone(),
        }
    }

    /// `--root` of every runtime.
    pub(crate) fn runtime_root(&self) -> PathBuf {
        self.0.options.exec_root.join("runtime")
    }

    /// Keeps the timeline of a start for a while, also when the container is gone.
    pub(crate) fn keep_timeline(&self, id: &str, timeline: Timeline) {
        let mut kept = locked(&self.0.timelines);
        kept.retain(|(have, _)| have != id);
        if kept.len() == TIMELINES {
            kept.pop_front();
        }
        kept.push_back((id.to_owned(), timeline));
    }
}
