//! `exec`: another process in a container that runs.

use std::{path::Path, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use oci::spec;
use shim::protocol::{self, Exit, Reply, Request};
use sys::Root;
use tokio::sync::watch;

use crate::{
    AttachOptions, Container, Engine, Exec, ExecConfig, State, Streams,
    attach::{channels, expect_done},
    blocking,
    error::{Error, Kind, Result},
    handle::Handle,
    locked, names,
    run::LOST,
    spec::{capabilities, default_capabilities, override_env},
    stop::unless_ended,
    user,
};

/// A session that nobody has started for so long will not be started.
const ABANDONED: SignedDuration = SignedDuration::from_mins(5);
/// Ended sessions that are remembered of one container.
const REMEMBERED: usize = 128;
/// Most sessions of one container, running or not, that a client can pin (rule R13).
const MOST: usize = 4096;

/// One exec session. Lives in memory: a daemon that restarts learns of those that run from the shim.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) container: String,
    id: String,
    created: Timestamp,
    config: ExecConfig,
    progress: watch::Sender<Progress>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Created,
    Starting,
    Running { pid: i32 },
    Ended { pid: i32, code: i32 },
}

impl Engine {
    /// Prepares a session; it runs by [`Engine::exec_start`].
    pub async fn exec_create(&self, key: &str, config: ExecConfig) -> Result<String> {
        let handle = self.0.containers.find(key)?;
        let container = handle.settled().await;
        running(&container)?;
        if config.command.first().is_none_or(String::is_empty) {
            return Err(Error::new(Kind::Invalid, "No exec command specified"));
        }
        if !config.working_dir.is_empty() && !config.working_dir.starts_with('/') {
            let message = format!(
                "the working directory '{}' is invalid, it needs to be an absolute path",
                config.working_dir
            );
            return Err(Error::new(Kind::Invalid, message));
        }
        let id = names::id()?;
        let action = format!("exec_create: {}", config.command.join(" "));
        let session = Session {
            container: container.id.clone(),
            id: id.clone(),
            created: Timestamp::now(),
            config,
            progress: watch::Sender::new(Progress::Created),
        };
        self.remember_session(session)?;
        self.0.events.container(&container, &action, &[("execID", id.clone())]);
        Ok(id)
    }

    /// Runs a session, once. With `attach`, its streams from the first byte.
    pub async fn exec_start(&self, id: &str, attach: Option<AttachOptions>) -> Result<Option<Streams>> {
        let session = self.session(id)?;
        let handle = self.0.containers.find(&session.container)?;
        let _entering = handle.freezing.read().await;
        let container = handle.now();
        running(&container)?;
        let mut first = false;
        session.progress.send_if_modified(|progress| {
            first = *progress == Progress::Created;
            if first {
                *progress = Progress::Starting;
            }
            first
        });
        if !first {
            return Err(Error::new(Kind::Conflict, format!("exec session {id} has already run")));
        }
        let outcome = self.run_session(&session, &handle, &container, attach).await;
        let outcome = outcome.map_err(as_the_callers_fault);
        let outcome = unless_ended(&handle, container.state.pid(), outcome).await;
        if let Err(error) = &outcome {
            let missing = ["executable file not found", "no such file or directory"];
            let code = if missing.iter().any(|words| error.message.contains(words)) { 127 } else { 126 };
            session.progress.send_replace(Progress::Ended { pid: 0, code });
        }
        outcome
    }

    async fn run_session(
        &self,
        session: &Arc<Session>,
        handle: &Handle,
        container: &Arc<Container>,
        attach: Option<AttachOptions>,
    ) -> Result<Option<Streams>> {
        let process = self.exec_process(container, &session.config).await?;
        let request = Request::Exec {
            session: session.id.clone(),
            process: Box::new(process),
            stdin: attach.is_some_and(|streams| streams.stdin),
            attach: attach.map(Into::into),
        };
        let mut line = self.line(&container.id).await?;
        let Reply::Exec { pid } = line.ask(&request).await? else {
            return Err(Error::internal("the shim answers out of turn"));
        };
        // A short one may have ended, and been noted, before this reply was read.
        session.progress.send_if_modified(|progress| {
            let runs = *progress == Progress::Starting;
            if runs {
                *progress = Progress::Running { pid };
                handle.change(|container| container.execs.push(session.id.clone()));
            }
            runs
        });
        let action = format!("exec_start: {}", session.config.command.join(" "));
        self.0.events.container(container, &action, &[("execID", session.id.clone())]);
        Ok(attach.map(|options| {
            let (streams, attachment) = channels(session.config.tty, options);
            let mut ends = session.progress.subscribe();
            line.pump(attachment.output, attachment.input, async move {
                let _ = ends.wait_for(|progress| matches!(progress, Progress::Ended { .. })).await;
            });
            streams
        }))
    }

    async fn exec_process(&self, container: &Arc<Container>, config: &ExecConfig) -> Result<spec::Process> {
        let bundle = self.bundle(&container.id).join("config.json");
        let (pid, words) = (container.state.pid().unwrap_or_default(), config.user.clone());
        let inherited = config.user.is_empty();
        let (base, identity) = blocking(move || {
            let text = std::fs::read(&bundle).map_err(|error| Error::at("read", &bundle, &error))?;
            let spec: spec::Spec = serde_json::from_slice(&text).map_err(Error::internal)?;
            let base = spec.process.unwrap_or_default();
            if inherited {
                return Ok((base, None));
            }
            let root = Path::new("/proc").join(pid.to_string()).join("root");
            let root = Root::open(&root).map_err(|error| Error::at("open", &root, &error))?;
            let read = |path: &str| match root.read_regular(Path::new(path), user::MAX_FILE) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
                read => read.map_err(|error| Error::at("read the container's", Path::new(path), &error)),
            };
            Ok::<_, Error>((base, Some(user::of(&words, read)?)))
        })
        .await??;
        let mut env = base.env;
        if config.tty {
            override_env(&mut env, &["TERM=xterm".to_owned()]);
        }
        let mut user = base.user;
        if let Some(identity) = identity {
            override_env(&mut env, &[format!("HOME={}", identity.home)]);
            user = identity.user;
        }
        override_env(&mut env, &config.env);
        Ok(spec::Process {
            terminal: config.tty,
            console_size: config.console_size.map(|(height, width)| spec::ConsoleSize { height, width }),
            capabilities: Some(capabilities(user.uid, default_capabilities())),
            user,
            args: config.command.clone(),
            env,
            cwd: if config.working_dir.is_empty() { base.cwd } else { config.working_dir.clone() },
            no_new_privileges: base.no_new_privileges,
            ..spec::Process::default()
        })
    }

    /// Sets the size of a session's terminal.
    pub async fn exec_resize(&self, id: &str, rows: u16, columns: u16) -> Result<()> {
        let session = self.session(id)?;
        let Progress::Running { .. } = *session.progress.borrow() else {
            return Err(Error::new(Kind::Conflict, format!("exec session {id} is not running")));
        };
        let size = spec::ConsoleSize { height: rows, width: columns };
        let request = Request::Resize { session: Some(session.id.clone()), size };
        let handle = self.0.containers.find(&session.container)?;
        expect_done(&self.ask(&handle, &request).await?)
    }

    /// A session as it is now.
    pub fn exec_inspect(&self, id: &str) -> Result<Exec> {
        let session = self.session(id)?;
        let (running, pid, exit_code) = match *session.progress.borrow() {
            Progress::Created | Progress::Starting => (false, 0, None),
            Progress::Running { pid } => (true, pid, None),
            Progress::Ended { pid, code } => (false, pid, Some(code)),
        };
        let (container, config) = (session.container.clone(), session.config.clone());
        Ok(Exec { id: session.id.clone(), container, config, running, pid, exit_code })
    }

    fn session(&self, id: &str) -> Result<Arc<Session>> {
        let found = locked(&self.0.execs).get(id).cloned();
        found.ok_or_else(|| Error::new(Kind::NotFound, format!("No such exec instance: {id}")))
    }

    /// The shim has gone: what it has not told of its sessions, nobody will.
    pub(crate) fn end_sessions(&self, container: &str) {
        for session in locked(&self.0.execs).values().filter(|session| session.container == container) {
            session.progress.send_modify(|progress| {
                if let Progress::Running { pid } = *progress {
                    *progress = Progress::Ended { pid, code: LOST };
                }
            });
        }
    }

    /// Keeps a session, and lets go of the container's oldest that are over.
    fn remember_session(&self, session: Session) -> Result<()> {
        let mut all = locked(&self.0.execs);
        let of_container = || all.values().filter(|other| other.container == session.container);
        if of_container().count() >= MOST {
            let message =
                format!("container {} has {MOST} exec sessions: wait until some end", session.container);
            return Err(Error::new(Kind::Unavailable, message));
        }
        let over = |other: &Session| match *other.progress.borrow() {
            Progress::Ended { .. } => true,
            // Its client has vanished between create and start.
            Progress::Created => Timestamp::now().duration_since(other.created) > ABANDONED,
            Progress::Starting | Progress::Running { .. } => false,
        };
        let mut ended: Vec<(Timestamp, String)> = of_container()
            .filter(|other| over(other))
            .map(|other| (other.created, other.id.clone()))
            .collect();
        ended.sort();
        for (_, old) in ended.iter().take(ended.len().saturating_sub(REMEMBERED)) {
            all.remove(old);
        }
        all.insert(session.id.clone(), Arc::new(session));
        Ok(())
    }

    /// A session that a shim tells of, after the daemon has restarted.
    pub(crate) fn adopt_session(&self, handle: &Handle, told: &protocol::Session) {
        let progress = match told.exit {
            None => Progress::Running { pid: told.pid },
            Some(exit) => Progress::Ended { pid: told.pid, code: exit.code },
        };
        if let Ok(known) = self.session(&told.id) {
            known.progress.send_replace(progress);
            return;
        }
        let (container, id, config) = (handle.id.clone(), told.id.clone(), ExecConfig::default());
        let _ = self.remember_session(Session {
            container,
            id,
            created: Timestamp::now(),
            config,
            progress: watch::Sender::new(progress),
        });
    }

    pub(crate) fn exec_ended(&self, handle: &Handle, id: &str, exit: Exit) {
        if let Ok(session) = self.session(id) {
            session.progress.send_modify(|progress| {
                let pid = if let Progress::Running { pid } = *progress { pid } else { 0 };
                *progress = Progress::Ended { pid, code: exit.code };
            });
        }
        handle.change(|container| container.execs.retain(|running| running != id));
        let more = [("execID", id.to_owned()), ("exitCode", exit.code.to_string())];
        self.0.events.container(&handle.now(), "exec_die", &more);
    }
}

fn running(container: &Container) -> Result<()> {
    match container.state {
        State::Running { .. } => Ok(()),
        State::Paused { .. } => {
            let message = format!("Container {} is paused, unpause the container before exec", container.id);
            Err(Error::new(Kind::Conflict, message))
        }
        _ => Err(Error::new(Kind::Conflict, format!("Container {} is not running", container.id))),
    }
}

/// A command that is not there, or cannot be executed, is for the caller to mend.
pub(crate) fn as_the_callers_fault(error: Error) -> Error {
    let words =
        ["executable file not found", "no such file or directory", "permission denied", "is a directory"];
    let theirs = words.iter().any(|word| error.message.contains(word));
    Error { kind: if theirs { Kind::Invalid } else { error.kind }, ..error }
}
