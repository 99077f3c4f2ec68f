//! From a fresh process to a serving shim.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
    process::ExitCode,
};

use rustix::{
    fs::{AtFlags, unlinkat},
    io::fcntl_dupfd_cloexec,
    net::sockopt::socket_type,
    process::{Pid, Signal, chdir, set_child_subreaper, setsid},
    stdio::{dup2_stderr, dup2_stdin, dup2_stdout, stdin},
};
use serde::{Deserialize, de::DeserializeOwned};
use trace::Timeline;

use crate::{
    connection::{Connection, Mode},
    error::{Context, Error, Result},
    log::JsonFile,
    program::release,
    protocol::{Config, Log, Reply},
    root::assemble,
    runtime::Runtime,
    shim::{Shim, Stage, step},
    stdio::unblock,
    time,
};

/// The first connection's number.
const FIRST: u64 = 1;
/// Clients that may wait to be accepted.
const BACKLOG: i32 = 64;

/// The part of `config.json` that a shim needs.
#[derive(Deserialize)]
struct Bundle {
    process: Option<BundleProcess>,
}

#[derive(Deserialize)]
struct BundleProcess {
    #[serde(default)]
    terminal: bool,
}

/// The whole life of the shim of the container in `dir`, whose first client is behind standard input.
pub fn run(dir: &Path) -> ExitCode {
    let began = time::monotonic();
    let started =
        sys::descriptors::close_from(3).cannot("close inherited descriptors").and_then(|()| first_client());
    let client = match started {
        Ok(client) => client,
        Err(error) => {
            eprintln!("knarr-shim: {error}");
            return ExitCode::from(2);
        }
    };
    let mut first = Connection::new(client);
    first.mode = Mode::Waiting;
    let prepared = detach(dir).and_then(|dir| prepare(dir, began));
    match prepared {
        Ok((mut shim, terminal)) => {
            shim.connections.insert(FIRST, first);
            if let Err(Error(message)) = shim.call_create(FIRST, terminal) {
                shim.reply(FIRST, &Reply::Error { message });
                return ExitCode::FAILURE;
            }
            shim.serve();
            release(&shim.dir.join("rootfs"), &shim.config.root);
            // A client that finds no socket reads exit.json. By the handle: the name may be the next run's by now.
            let _ = unlinkat(&shim.dir_handle, "shim.sock", AtFlags::empty());
            ExitCode::SUCCESS
        }
        Err(Error(message)) => {
            first.tell(&Reply::Error { message });
            ExitCode::FAILURE
        }
    }
}

/// Takes the socket away from standard input, for children inherit that.
fn first_client() -> Result<OwnedFd> {
    socket_type(stdin()).map_err(|_| {
        Error("standard input must be a socket: the engine starts this program, people do not".into())
    })?;
    let client = fcntl_dupfd_cloexec(stdin(), 3).cannot("copy standard input")?;
    unblock(&client).cannot("use standard input")?;
    let null = File::open("/dev/null").cannot("open /dev/null")?;
    dup2_stdin(null).cannot("leave standard input")?;
    Ok(client)
}

/// Leaves everything of the starter's: session, terminal, directory, and children's fate.
fn detach(dir: &Path) -> Result<PathBuf> {
    let dir = fs::canonicalize(dir).cannot(format!("find {}", dir.display()))?;
    // Refused to the leader of a process group, which then has its own already.
    let _ = setsid();
    chdir("/").cannot("go to /")?;
    // Any pid but none means yes.
    set_child_subreaper(Some(Pid::INIT)).cannot("become a child subreaper")?;
    let signals = [
        Signal::HUP,
        Signal::INT,
        Signal::QUIT,
        Signal::TERM,
        Signal::USR1,
        Signal::USR2,
        Signal::PIPE,
        Signal::XFSZ,
    ];
    sys::signals::begin_anew();
    sys::signals::shrug_off(&signals.map(Signal::as_raw)).cannot("catch signals")?;
    let trouble = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(dir.join("shim.log"))
        .cannot("open shim.log")?;
    dup2_stdout(&trouble).cannot("use shim.log")?;
    dup2_stderr(&trouble).cannot("use shim.log")?;
    Ok(dir)
}

fn prepare(dir: PathBuf, began: u64) -> Result<(Shim, bool)> {
    let config: Config = read_json(&dir.join("shim.json"))?;
    let bundle: Bundle = read_json(&dir.join("config.json"))?;
    let runtime = Runtime::open(&config).cannot(format!("open the runtime {}", config.runtime.display()))?;
    for stale in ["shim.sock", "exit.json"] {
        // Of an earlier run in this directory.
        let _ = fs::remove_file(dir.join(stale));
    }
    let mut timeline = Timeline::default();
    timeline.steps.push(step(began, "begin shim", &[("pid", std::process::id().to_string())]));
    mount_root(&dir, &config, &mut timeline)?;
    let log = match &config.log {
        Log::None => None,
        Log::JsonFile { path, max_size, max_files } => Some(
            JsonFile::open(path, *max_size, *max_files).cannot(format!("open the log {}", path.display()))?,
        ),
    };
    let listener = sys::fdpass::listen_at(&dir.join("shim.sock"), BACKLOG).cannot("listen on shim.sock")?;
    let shim = Shim {
        dir_handle: File::open(&dir).cannot(format!("open {}", dir.display()))?,
        dir,
        config,
        runtime,
        bell: sys::signals::ring_on_child().cannot("catch SIGCHLD")?,
        listener,
        connections: BTreeMap::new(),
        processes: BTreeMap::new(),
        calls: Vec::new(),
        unclaimed: Vec::new(),
        log,
        oom: None,
        timeline,
        started_at: None,
        paused: false,
        stage: Stage::Creating,
        numbers: FIRST,
        scratch: Vec::new(),
        busy: true,
    };
    Ok((shim, bundle.process.is_some_and(|process| process.terminal)))
}

fn mount_root(dir: &Path, config: &Config, timeline: &mut Timeline) -> Result<()> {
    let began = time::monotonic();
    sys::fsmount::leave_hosts_mounts(dir).cannot("enter a mount namespace of its own")?;
    let namespace = fs::read_link("/proc/self/ns/mnt").unwrap_or_default();
    let details = [("namespace", namespace.display().to_string())];
    timeline.steps.push(step(began, "unshare mounts", &details));
    let rootfs = dir.join("rootfs");
    for mount in &config.root {
        let began = time::monotonic();
        let kind = mount.kind.as_deref().unwrap_or("bind");
        assemble(&rootfs, mount)
            .cannot(format!("mount {kind} on {} of the container's root", mount.destination))?;
        let details = [("on", mount.destination.clone()), ("options", mount.options.join(","))];
        timeline.steps.push(step(began, &format!("mount {kind}"), &details));
    }
    Ok(())
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read(path).cannot(format!("read {}", path.display()))?;
    serde_json::from_slice(&text).cannot(format!("understand {}", path.display()))
}
