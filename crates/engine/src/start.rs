//! `start`: from a record to a process, in the order of ARCHITECTURE's table; each step pushes its undo.

use std::{
    fs, io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use oci::spec;
use rustix::process::{Pid, Signal, kill_process};
use shim::protocol::{self, Reply, Request};
use tokio::{net::UnixStream, sync::OwnedMutexGuard};
use trace::Room;

use crate::{
    Container, Engine, State, blocking,
    config::Log,
    disk::{make_directory, write_json},
    error::{Error, Kind, Result},
    etc,
    handle::Handle,
    host,
    join::Joined,
    locked,
    recorder::Recorder,
    shim::Line,
    spec::{self as bundle, Facts},
    undo::Undo,
    user::{self, Identity},
};

/// Where the runtimes that Debian and others install are found; `PATH` is not asked (rule R11).
const RUNTIME_DIRECTORIES: [&str; 5] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin"];

/// For the shim of the run before to end; its runtime gives up after 10 s.
const TIDYING: Duration = Duration::from_secs(12);

/// An OCI runtime.
pub(crate) struct Runtime {
    program: PathBuf,
    /// Knows `--trace` and time namespaces.
    own: bool,
}

impl Engine {
    /// Starts a container that does not run. Fails with [`Kind::NotModified`] if it does.
    pub async fn start(&self, key: &str) -> Result<()> {
        let handle = self.0.containers.find(key)?;
        let _verb = handle.hold(key).await?;
        self.start_held(&handle).await
    }

    /// The same, by a verb that already holds the container.
    pub(crate) async fn start_held(&self, handle: &Arc<Handle>) -> Result<()> {
        startable(&handle.now().state)?;
        // The shim of the last run may still be tidying up.
        let guard = tokio::time::timeout(TIDYING, handle.shim.clone().lock_owned()).await.map_err(|_| {
            let (seconds, shim) = (TIDYING.as_secs(), handle.shim_pid.load(Ordering::Relaxed));
            let message = format!(
                "container {}: the shim of its last run (process {shim}) has not ended within {seconds} s",
                handle.id
            );
            Error::new(Kind::Unavailable, message)
        })?;
        let outcome = self.begin(handle, guard).await;
        if let Err(error) = &outcome {
            self.start_failed(handle, error);
        }
        outcome
    }

    async fn begin(&self, handle: &Arc<Handle>, guard: OwnedMutexGuard<()>) -> Result<()> {
        let container = handle.now();
        let mut undo = Undo::default();
        let mut steps = Recorder::start();
        let joined = self.join(&container).await?;
        undo.push({
            let (engine, id) = (self.clone(), container.id.clone());
            let (attachments, ports) = (joined.attachments.clone(), joined.ports.clone());
            move || engine.leave(&id, &attachments, &ports)
        });
        steps.step(Room::Network, "join networks", network_details(&joined));
        let directory = self.lay_out(&container, &joined, &mut steps).await?;
        undo.push({
            let directory = directory.clone();
            move || drop(fs::remove_dir_all(directory))
        });
        let (line, state) = self.launch(handle, &directory, &mut steps).await?;
        undo.defuse();
        let Joined { attachments, ports, .. } = joined;
        handle.change(|container| (container.attachments, container.ports) = (attachments, ports));
        let mut timeline = std::mem::take(&mut *locked(&handle.creation));
        timeline.join(steps.timeline);
        timeline.join(state.timeline.clone());
        self.keep_timeline(&container.id, timeline);
        self.resume(handle, line, &state, guard);
        self.0.events.container(&container, "start", &[]);
        Ok(())
    }

    /// Everything that a shim needs to know, in the bundle's directory.
    async fn lay_out(&self, container: &Container, joined: &Joined, steps: &mut Recorder) -> Result<PathBuf> {
        let runtime = self.runtime(&container.config.host.runtime)?;
        check_sources(container)?;
        let identity = self.identity(container).await?;
        let facts = self.facts(container, identity, joined, &runtime);
        etc::write(container, joined, &facts.hostname)?;
        steps.step(Room::Engine, "resolve user, write /etc files", user_details(&facts.identity));

        let root = self.0.snapshots.mounts(&container.id)?;
        let layers = root.iter().flat_map(|mount| &mount.options).map(|option| ("option", option.clone()));
        steps.step(Room::Snapshot, "compose layers", layers.collect());

        let directory = self.write_bundle(container, &facts, root, &runtime)?;
        steps.step(Room::Engine, "write bundle", vec![("directory", directory.display().to_string())]);
        Ok(directory)
    }

    /// From the bundle to a process that runs, under a shim that is watched.
    async fn launch(
        &self,
        handle: &Arc<Handle>,
        directory: &Path,
        steps: &mut Recorder,
    ) -> Result<(Line, protocol::State)> {
        let (mut line, shim) = self.spawn_shim(directory)?;
        // A failing shim has taken back whatever it and the runtime made before it answers.
        let created = match line.created(shim).await {
            Ok(created) => created,
            Err(error) => {
                self.end_failed(&handle.id, line, shim, &error).await;
                return Err(crate::exec::as_the_callers_fault(in_dockers_words(error)));
            }
        };
        let details = vec![("shim", created.shim_pid.to_string()), ("pid", created.pid.to_string())];
        steps.step(Room::Engine, "start shim", details);
        let released = self.release(handle, directory, &mut line).await;
        steps.step(Room::Engine, "release the process", Vec::new());
        if released.is_err() {
            let _ = line.ask(&Request::Discard).await;
            line.farewell().await;
        }
        released.map_err(in_dockers_words)
    }

    /// Joins who waits for output and who watches, then lets the process go: it may end at once, and its shim with it.
    async fn release(
        &self,
        handle: &Arc<Handle>,
        directory: &Path,
        line: &mut Line,
    ) -> Result<(Line, protocol::State)> {
        self.attach_waiting(handle, directory).await?;
        let mut watch = self.line(&handle.id).await?;
        watch.ask_state(&Request::Watch).await?;
        let state = line.ask_state(&Request::Start).await?;
        Ok((watch, state))
    }

    /// Nothing of a failed shim may get into the way of the next start.
    async fn end_failed(&self, id: &str, line: Line, shim: i32, error: &Error) {
        if let (Kind::Unavailable, Some(shim)) = (error.kind, Pid::from_raw(shim)) {
            let _ = kill_process(shim, Signal::KILL);
        }
        line.farewell().await;
        if self.runtime_root().join(id).exists() {
            self.clear_runtime(id).await;
        }
    }

    /// Docker keeps why in the container, as an exit code too, and removes it if it was to vanish.
    fn start_failed(&self, handle: &Arc<Handle>, error: &Error) {
        locked(&handle.waiting).clear();
        handle.change(|container| {
            container.last.exit_code = exit_code(&error.message);
            error.message.clone_into(&mut container.last.error);
        });
        if handle.now().config.host.auto_remove {
            let _ = self.remove_held(handle);
        } else {
            self.save(handle);
        }
    }

    /// The runtime of that name: knarr's own, one named to the daemon, or a known one that is installed.
    pub(crate) fn runtime(&self, name: &str) -> Result<Runtime> {
        if name.is_empty() || name == "knarr" {
            let program = format!("/proc/{}/fd/{}", std::process::id(), self.0.runtime.as_raw_fd());
            return Ok(Runtime { program: program.into(), own: true });
        }
        let installed = || {
            let known = matches!(name, "runc" | "crun" | "youki");
            RUNTIME_DIRECTORIES
                .iter()
                .map(|directory| Path::new(directory).join(name))
                .find(|path| known && path.is_file())
        };
        let program = self.0.options.runtimes.get(name).cloned().or_else(installed);
        let unknown = || {
            let hint = "name it to the daemon: knarr daemon --add-runtime NAME=PATH";
            Error::new(Kind::Invalid, format!("unknown or invalid runtime name: {name} ({hint})"))
        };
        Ok(Runtime { program: program.ok_or_else(unknown)?, own: false })
    }

    /// Who the process is, by the files in the container as it would start now.
    async fn identity(&self, container: &Container) -> Result<Identity> {
        let (snapshots, id, words) =
            (self.0.snapshots.clone(), container.id.clone(), container.config.user.clone());
        blocking(move || {
            let read =
                |path: &str| Ok(snapshots.read(&id, Path::new(path), user::MAX_FILE)?.unwrap_or_default());
            user::of(&words, read)
        })
        .await?
    }

    fn facts(&self, container: &Container, identity: Identity, joined: &Joined, runtime: &Runtime) -> Facts {
        let Container { id, config, files, .. } = container;
        let parent = match config.host.cgroup_parent.as_str() {
            "" => &self.0.options.cgroup_parent,
            given => given,
        };
        let files = joined.host.as_ref().map_or(files, |host| &host.files);
        let hostname = match (&joined.host, config.hostname.as_str(), &config.host.network) {
            (Some(_), ..) => fs::read_to_string(&files.hostname).unwrap_or_default().trim().to_owned(),
            (None, "", crate::config::Network::Host) => host::name(),
            (None, "", _) => id[..12].to_owned(),
            (None, given, _) => given.to_owned(),
        };
        Facts {
            identity,
            network: joined.plan.clone(),
            hostname,
            files: files.clone(),
            cgroup: format!("/{}/{id}", parent.trim_matches('/')),
            init: self.0.options.runtime.clone(),
            time_namespace: runtime.own && Path::new("/proc/self/ns/time").exists(),
            thermal: self.0.host.thermal.clone(),
        }
    }

    fn write_bundle(
        &self,
        container: &Container,
        facts: &Facts,
        root: Vec<oci::Mount>,
        runtime: &Runtime,
    ) -> Result<PathBuf> {
        let directory = self.bundle(&container.id);
        let _ = fs::remove_dir_all(&directory);
        make_directory(&directory.join("rootfs"), 0o700)?;
        let log = match &container.config.host.log {
            Log::None => protocol::Log::None,
            Log::JsonFile { max_size, max_files } => protocol::Log::JsonFile {
                path: container.log_path.clone().unwrap_or_default(),
                max_size: *max_size,
                max_files: *max_files,
            },
        };
        let shim = protocol::Config {
            id: container.id.clone(),
            runtime: runtime.program.clone(),
            runtime_args: Vec::new(),
            runtime_root: self.runtime_root(),
            runtime_traces: runtime.own,
            root,
            stdin: container.config.open_stdin,
            log,
        };
        write_json(&directory.join("config.json"), &bundle::bundle(container, facts)?)?;
        write_json(&directory.join("shim.json"), &shim)?;
        Ok(directory)
    }

    fn spawn_shim(&self, directory: &Path) -> Result<(Line, i32)> {
        let program = &self.0.options.shim;
        let failed = |error: io::Error| Error::at("start", program, &error);
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(failed)?;
        let child = tokio::process::Command::new(program)
            .arg(directory)
            .env_clear()
            .stdin(std::os::fd::OwnedFd::from(theirs))
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let pid = child.id().unwrap_or_default() as i32;
        // Dropped, not forgotten: tokio reaps it if it ends while the daemon lives.
        drop(child);
        ours.set_nonblocking(true).map_err(failed)?;
        Ok((Line::new(UnixStream::from_std(ours).map_err(failed)?), pid))
    }

    /// Joins whoever attached before there was a process; nothing is written before `Start`, so nothing is missed.
    async fn attach_waiting(&self, handle: &Handle, directory: &Path) -> Result<()> {
        let waiting = std::mem::take(&mut *locked(&handle.waiting));
        for attachment in waiting {
            let mut line = Line::connect(directory)
                .await
                .map_err(|error| Error::at("connect to the shim in", directory, &error))?;
            let streams = attachment.options.into();
            match line.ask(&Request::Attach { session: None, streams }).await? {
                Reply::Done => line.pump(attachment.output, attachment.input, std::future::ready(())),
                other => {
                    return Err(Error::internal(format!("the shim answers out of turn: {other:?}")));
                }
            }
        }
        Ok(())
    }
}

/// Docker's clients tell a missing program from others by words that not every runtime writes the same way (crun: "No
/// such file or directory").
fn in_dockers_words(error: Error) -> Error {
    let lowered = ["No such file or directory", "Permission denied", "Is a directory"]
        .iter()
        .fold(error.message, |message, words| message.replace(words, &words.to_lowercase()));
    Error { message: lowered, ..error }
}

fn startable(state: &State) -> Result<()> {
    let (kind, message) = match state {
        State::Created | State::Exited => return Ok(()),
        State::Running { .. } => (Kind::NotModified, "container is already running"),
        State::Paused { .. } => (Kind::Conflict, "cannot start a paused container, try unpause instead"),
        State::Removing | State::Dead => {
            (Kind::Conflict, "container is marked for removal and cannot be started")
        }
    };
    Err(Error::new(kind, message))
}

fn user_details(identity: &Identity) -> Vec<(&'static str, String)> {
    let spec::User { uid, gid, additional_gids, .. } = &identity.user;
    vec![("uid", uid.to_string()), ("gid", gid.to_string()), ("groups", format!("{additional_gids:?}"))]
}

/// Docker's `-v` makes a missing directory, `--mount` refuses.
pub(crate) fn check_sources(container: &Container) -> Result<()> {
    for bind in &container.config.host.binds {
        if bind.source.exists() {
            continue;
        }
        if !bind.create_source {
            let path = bind.source.display();
            let message =
                format!("invalid mount config for type \"bind\": bind source path does not exist: {path}");
            return Err(Error::new(Kind::Invalid, message));
        }
        make_directory(&bind.source, 0o755)?;
    }
    Ok(())
}

fn network_details(joined: &Joined) -> Vec<(&'static str, String)> {
    let mut details = vec![("namespace", joined.plan.namespace.to_string())];
    for place in &joined.attachments {
        let addresses: Vec<String> = place.endpoint.addresses.iter().map(ToString::to_string).collect();
        details.push(("address", format!("{} {}", place.name, addresses.join(" "))));
    }
    details.extend(joined.ports.iter().map(|port| ("port", format!("{}:{}", port.host, port.host_port))));
    details
}

/// Docker's exit code of a container that could not start, by the words of the error.
fn exit_code(message: &str) -> i32 {
    let says = |words: &[&str]| words.iter().any(|&word| message.contains(word));
    if says(&["executable file not found", "no such file or directory"]) {
        127
    } else if says(&["permission denied", "is a directory"]) {
        126
    } else {
        128
    }
}
