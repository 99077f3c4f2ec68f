//! Opening an engine: take the roots, open the records, adopt what runs, sweep what nobody owns.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, RwLock, atomic::Ordering},
    time::Duration,
};

use image::Images;
use jiff::Timestamp;
use rustix::fs::{FlockOperation, MemfdFlags, SealFlags, fcntl_add_seals, flock, memfd_create};
use shim::protocol::{self, Exit, Request};
use snapshot::Driver;
use store::{Damaged, Durability, Store, Table};
use tokio::sync::OwnedMutexGuard;
use trace::Timeline;

use crate::{
    Container, Engine, Files, Options, State,
    config::Log,
    directories::Directories,
    disk::{make_directory, write_json},
    error::{Error, Kind, Result},
    events::Events,
    exec::Session,
    handle::{CONTAINERS, Handle, Record},
    host::Host,
    locked, names,
    networks::{Networks, default_link},
    registry::Registry,
    run::LOST,
    shim::Line,
};

/// What stands behind a record when the engine opens.
enum Found {
    Running(Line, Box<protocol::State>),
    Unstarted,
    Nobody,
}

/// Facts about the engine itself.
const ENGINE: Table = Table { name: "engine", version: 1 };
/// Of a container's record, in its directory under the data root.
const COPY: &str = "record.json";
/// Docker's exit code for what a reboot ended.
const ENDED_BY_REBOOT: i32 = 255;
/// For a shim to answer when the engine opens.
const PATIENCE: Duration = Duration::from_secs(2);
const AGAIN: Duration = Duration::from_millis(10);
/// How a socket says that nobody listens at it.
const NOBODY: [io::ErrorKind; 2] = [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused];
const LOCK_TRIES: u32 = 25;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// What all clones of an [`Engine`] share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) options: Options,
    pub(crate) store: Arc<Store>,
    pub(crate) images: Arc<Images>,
    pub(crate) snapshots: Arc<dyn Driver>,
    /// Read-locked while layers are unpacked that no image owns yet; whoever forgets unowned layers write-locks it.
    pub(crate) arriving: RwLock<()>,
    pub(crate) networks: Networks,
    pub(crate) containers: Registry,
    pub(crate) execs: Mutex<BTreeMap<String, Arc<Session>>>,
    pub(crate) events: Events,
    pub(crate) directories: Directories,
    /// The last few starts, newest last, also of containers that are gone.
    pub(crate) timelines: Mutex<VecDeque<(String, Timeline)>>,
    pub(crate) host: Host,
    pub(crate) engine_id: String,
    /// What was damaged at start, for `info`.
    pub(crate) warnings: Vec<String>,
    /// knarr's own runtime, sealed: no container can change what the next one is started by (CVE-2019-5736).
    pub(crate) runtime: OwnedFd,
    _lock: fs::File,
}

impl Engine {
    /// Takes the roots (one engine each), opens the records, and adopts what runs.
    pub async fn open(options: Options) -> Result<Self> {
        let lock = take_roots(&options)?;
        let store = Arc::new(Store::open(&options.data_root).map_err(Error::internal)?);
        let images = Arc::new(Images::open(&options.data_root, store.clone())?);
        let snapshots: Arc<dyn Driver> = snapshot::open(&options.data_root, &options.storage)?.into();
        let runtime = seal(&options.runtime)
            .map_err(|error| Error::at("load the runtime", &options.runtime, &error))?;
        let (records, damaged) = store.all::<Record>(CONTAINERS).map_err(Error::internal)?;
        let engine_id = engine_id(&store)?;
        let link = options.bridge.clone().unwrap_or_else(|| default_link(&options.data_root, &engine_id));
        let engine = Self(Arc::new(Inner {
            networks: Networks::open(&store, &link, &engine_id)?,
            engine_id,
            warnings: warnings(&store, &images, &damaged),
            host: Host::look(),
            events: Events::new(),
            directories: Directories::new().map_err(Error::internal)?,
            containers: Registry::default(),
            execs: Mutex::default(),
            timelines: Mutex::default(),
            options,
            store,
            images,
            snapshots,
            arriving: RwLock::default(),
            runtime,
            _lock: lock,
        }));
        for warning in &engine.0.warnings {
            tracing::error!("{warning}");
        }
        engine.mend_layers().await;
        let (recovered, unreadable) = engine.copies_without_record(&records);
        let adoptions = records.into_iter().chain(recovered).map(|(id, record)| engine.adopt(id, record));
        futures_util::future::join_all(adoptions).await;
        engine.restore_networks().await;
        // What an unreadable record owned must not be swept: it is all that is left of the container.
        if unreadable == 0 {
            engine.sweep().await;
        }
        Ok(engine)
    }

    /// Containers whose record was lost with the store, by the readable copy that lies beside their data; and how
    /// many copies cannot be read either.
    fn copies_without_record(&self, known: &[(String, Record)]) -> (Vec<(String, Record)>, usize) {
        let (mut recovered, mut unreadable) = (Vec::new(), 0);
        for id in directories(&self.0.options.data_root.join("containers")) {
            if known.iter().any(|(have, _)| *have == id) {
                continue;
            }
            let Ok(text) = fs::read(self.home(&id).join(COPY)) else {
                continue; // A creation that never finished.
            };
            match serde_json::from_slice::<Record>(&text) {
                Ok(record) => {
                    tracing::warn!("container {id}: its record was lost and is restored from its copy");
                    recovered.push((id, record));
                }
                Err(error) => {
                    unreadable += 1;
                    tracing::error!("container {id}: its record is lost, and its copy is damaged: {error}");
                }
            }
        }
        (recovered, unreadable)
    }

    /// Brings one container back as it is now: running under its shim, ended while nobody looked, or at rest.
    async fn adopt(&self, id: String, record: Record) {
        let inner = &self.0;
        if let Err(error) = inner.containers.take_name(Some(&record.name), &id) {
            tracing::error!("container {id}: {error}; it is left as it is");
            return;
        }
        let (kept, container) = (record.state.clone(), self.container(id, &record));
        let handle = Arc::new(Handle::new(container, record.chain));
        inner.containers.insert(handle.clone());
        let guard = handle.shim.clone().lock_owned().await;
        if let Ok(found) = tokio::time::timeout(PATIENCE, self.find_shim(&handle)).await {
            return self.take_up(&handle, found, &kept, guard).await;
        }
        let shim = handle.shim_pid.load(Ordering::Relaxed);
        tracing::error!(
            "container {}: its shim (process {shim}) does not answer; going on without",
            handle.id
        );
        // Its process lives with its shim, so what was known of it is still so.
        handle.change(|container| container.state.clone_from(&kept));
        let engine = self.clone();
        tokio::spawn(async move {
            let found = engine.find_shim(&handle).await;
            engine.take_up(&handle, found, &kept, guard).await;
        });
    }

    async fn take_up(&self, handle: &Arc<Handle>, found: Found, kept: &State, guard: OwnedMutexGuard<()>) {
        match found {
            Found::Running(line, state) => return self.resume(handle, line, &state, guard),
            Found::Unstarted => drop(fs::remove_dir_all(self.bundle(&handle.id))),
            Found::Nobody => self.settle(handle, kept, &self.bundle(&handle.id)).await,
        }
        handle.shim_pid.store(0, Ordering::Relaxed);
        drop(guard);
        self.forget_if_over(handle).await;
    }

    /// However long its shim takes to answer.
    async fn find_shim(&self, handle: &Handle) -> Found {
        let directory = self.bundle(&handle.id);
        loop {
            match Line::connect(&directory).await {
                Ok(mut line) => {
                    handle.shim_pid.store(line.peer(), Ordering::Relaxed);
                    let state = line.ask_state_for_ever(&Request::State).await;
                    if state.as_ref().is_ok_and(|state| state.started_at.is_some()) {
                        if let Ok(state) = line.ask_state_for_ever(&Request::Watch).await {
                            return Found::Running(line, state.into());
                        }
                    } else if state.is_ok() && line.ask(&Request::Discard).await.is_ok() {
                        // It waited for a start that the dead daemon will not send any more.
                        line.farewell().await;
                        return Found::Unstarted;
                    }
                }
                Err(error) if NOBODY.contains(&error.kind()) => return Found::Nobody,
                // More clients wait for it than its socket holds.
                Err(_) => {}
            }
            // It is about to be started, or to end.
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// No shim is there: it ended in order, was lost, or the machine was restarted.
    async fn settle(&self, handle: &Arc<Handle>, kept: &State, directory: &Path) {
        if self.runtime_root().join(&handle.id).exists() {
            self.clear_runtime(&handle.id).await;
        }
        let exit = exit_record(directory);
        let was_running = kept.pid().is_some();
        let last = match exit {
            Some(exit) => {
                Some((exit.code, Timestamp::from_nanosecond(exit.at.into()).ok(), exit.oom_killed, ""))
            }
            None if directory.exists() && was_running => Some((LOST, None, false, "its shim was lost")),
            None if was_running => Some((ENDED_BY_REBOOT, None, false, "")),
            None => None,
        };
        if let Some((code, at, oom_killed, error)) = last {
            handle.change(|container| {
                container.attachments.clear();
                container.ports.clear();
                container.state = State::Exited;
                container.last.exit_code = code;
                container.last.finished_at = Some(at.unwrap_or_else(Timestamp::now));
                container.last.oom_killed = oom_killed;
                error.clone_into(&mut container.last.error);
            });
            self.save(handle);
        }
        let _ = fs::remove_dir_all(directory);
    }

    /// A container that was to vanish on exit, and has ended while no daemon was there.
    async fn forget_if_over(&self, handle: &Arc<Handle>) {
        let container = handle.now();
        if container.config.host.auto_remove && matches!(container.state, State::Exited | State::Removing) {
            let _ = self.remove(&handle.id, false).await;
        }
    }

    fn container(&self, id: String, record: &Record) -> Container {
        let home = self.home(&id);
        let state = match record.state {
            // Whether it runs is found again, never believed.
            State::Running { .. } | State::Paused { .. } => State::Exited,
            ref state => state.clone(),
        };
        Container {
            name: record.name.clone(),
            created: record.created,
            config: record.config.clone(),
            state,
            last: record.last.clone(),
            execs: Vec::new(),
            attachments: record.attachments.clone(),
            ports: record.ports.clone(),
            log_path: self.log_path(&id, &record.config.host.log),
            storage_driver: self.0.snapshots.name(),
            storage: self.0.snapshots.describe(&id).unwrap_or_default(),
            files: Files {
                hostname: home.join("hostname"),
                hosts: home.join("hosts"),
                resolv_conf: home.join("resolv.conf"),
            },
            id,
        }
    }

    /// A container that was just made.
    pub(crate) fn fresh(&self, id: &str, record: &Record) -> Container {
        self.container(id.to_owned(), record)
    }

    /// Snapshots, directories and layers that no record knows are left-overs of a crash.
    async fn sweep(&self) {
        let known: BTreeSet<String> =
            self.0.containers.all().iter().map(|handle| handle.id.clone()).collect();
        for id in directories(&self.0.options.exec_root.join("containers")).difference(&known) {
            tracing::warn!("container {id} has no record: ending what is left of it");
            self.clear_runtime(id).await;
            let _ = fs::remove_dir_all(self.bundle(id));
        }
        for id in directories(&self.0.options.data_root.join("containers")).difference(&known) {
            let _ = fs::remove_dir_all(self.home(id));
        }
        for key in self.0.snapshots.snapshots().unwrap_or_default() {
            if !known.contains(&key) {
                let _ = self.0.snapshots.remove(&key);
            }
        }
        self.forget_layers();
    }

    /// Where what survives a reboot is kept of a container: its log and its files.
    pub(crate) fn home(&self, id: &str) -> PathBuf {
        self.0.options.data_root.join("containers").join(id)
    }

    /// Where a running container's bundle lies.
    pub(crate) fn bundle(&self, id: &str) -> PathBuf {
        self.0.options.exec_root.join("containers").join(id)
    }

    fn log_path(&self, id: &str, log: &Log) -> Option<PathBuf> {
        matches!(log, Log::JsonFile { .. }).then(|| self.home(id).join(format!("{id}-json.log")))
    }

    /// Writes a container's record; a failure is reported, and the next write tries again.
    pub(crate) fn save(&self, handle: &Handle) {
        // Whoever follows the shim may be about to write when a removal has just taken everything away.
        let forgotten = locked(&handle.forgotten);
        if *forgotten {
            return;
        }
        if let Err(error) = self.write_record(&handle.id, &handle.record()) {
            tracing::error!("container {}: {error}", handle.id);
        }
    }

    /// The record in the store, and a copy beside the container's data for the day when the store is lost.
    pub(crate) fn write_record(&self, id: &str, record: &Record) -> Result<()> {
        let how = crate::handle::durability(&record.config);
        self.0.store.put(CONTAINERS, id, record, how).map_err(Error::internal)?;
        write_json(&self.home(id).join(COPY), record)
    }
}

fn take_roots(options: &Options) -> Result<fs::File> {
    let Options { data_root, exec_root, .. } = options;
    make_directory(data_root, 0o710)?;
    make_directory(exec_root, 0o711)?;
    make_directory(&exec_root.join("containers"), 0o700)?;
    make_directory(&data_root.join("containers"), 0o700)?;
    let path = exec_root.join("lock");
    let lock = fs::File::create(&path).map_err(|error| Error::at("create", &path, &error))?;
    for _ in 0..LOCK_TRIES {
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(lock),
            // A child of a daemon that was just killed holds its lock between fork and exec.
            Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(LOCK_PAUSE),
            Err(error) => return Err(Error::at("lock", &path, &error.into())),
        }
    }
    let place = exec_root.display();
    let remedy = "stop it, or choose other roots with --exec-root and --data-root";
    Err(Error::new(Kind::Conflict, format!("another knarr daemon uses {place}: {remedy}")))
}

/// A copy of `program` that nobody can change any more.
fn seal(program: &Path) -> io::Result<OwnedFd> {
    let memfd = memfd_create("knarr-runtime", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut copy = fs::File::from(memfd);
    io::copy(&mut fs::File::open(program)?, &mut copy)?;
    fcntl_add_seals(&copy, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
    Ok(copy.into())
}

fn engine_id(store: &Store) -> Result<String> {
    if let Some(id) = store.get(ENGINE, "id").map_err(Error::internal)? {
        return Ok(id);
    }
    let id = names::id()?;
    store.put(ENGINE, "id", &id, Durability::Durable).map_err(Error::internal)?;
    Ok(id)
}

/// What was damaged when the engine opened, and what became of it.
fn warnings(store: &Store, images: &Images, damaged: &[Damaged]) -> Vec<String> {
    let of_store = store.recovered().iter().cloned();
    of_store.chain(images.damaged()).chain(damaged.iter().map(describe_damage)).collect()
}

fn describe_damage(damaged: &Damaged) -> String {
    format!(
        "the record of container {} is damaged ({}); its bytes are kept in {}",
        damaged.key,
        damaged.reason,
        damaged.set_aside.display()
    )
}

/// How a container ended while no daemon was there. A damaged record counts as none, and is named.
fn exit_record(directory: &Path) -> Option<Exit> {
    let path = directory.join("exit.json");
    let text = fs::read(&path).ok()?;
    let read = serde_json::from_slice(&text);
    read.inspect_err(|error| tracing::error!("{}: {error}; its exit code is lost", path.display())).ok()
}

fn directories(path: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}
