//! Nothing to set up: where our daemon should answer and nobody does, the first command of root starts it.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::host::Host;

/// The first argument that makes this program a daemon in a session of its own.
pub const DETACHED_DAEMON: &str = "daemon-detached";

/// How long the daemon may take until it listens.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether a daemon may be started, and what this program is called.
#[derive(Debug, Clone)]
pub(crate) struct Autostart {
    /// Neither `--no-autostart` nor `KNARR_NO_AUTOSTART` was said.
    pub(crate) allowed: bool,
    /// `knarr` or `docker`.
    pub(crate) program: &'static str,
}

impl Autostart {
    /// Whether starting a daemon would cure `error`.
    pub(crate) fn helps(&self, host: &Host, error: &io::Error) -> bool {
        let nobody = matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused);
        self.allowed && nobody && host.is_default() && rustix::process::geteuid().is_root()
    }

    /// Starts `knarr daemon` in a session of its own and waits until it listens. Two commands that do so at once
    /// are harmless: the daemon's lock lets one win, and both wait for the same socket.
    pub(crate) async fn start(&self, host: &Host) -> Result<()> {
        let Host::Unix(socket) = host else { return Ok(()) };
        let Some(home) = socket.parent() else {
            return Ok(());
        };
        let fail = |what: &str, e: &io::Error| {
            Error::Connect(format!(
                "cannot start the knarr daemon: {what}: {e}; start it with 'knarr daemon'"
            ))
        };
        let log_path = home.join("daemon.log");
        let made = DirBuilder::new().recursive(true).mode(0o711).create(home);
        made.map_err(|e| fail(&home.display().to_string(), &e))?;
        let log = File::options().create(true).append(true).open(&log_path);
        let log = log.map_err(|e| fail(&log_path.display().to_string(), &e))?;
        let said_before = log.metadata().map_or(0, |meta| meta.len());
        let program = std::env::current_exe().map_err(|e| fail("this program's own path", &e))?;
        let mut daemon = launch(&program, &log).map_err(|e| fail(&program.display().to_string(), &e))?;
        let end = Instant::now() + PATIENCE;
        while UnixStream::connect(socket).is_err() {
            // One that lost the race to another daemon ends too; that other one is then waited for.
            let ended = daemon.try_wait().ok().flatten().is_some_and(|status| !status.success());
            if Instant::now() > end || (ended && !soon(socket)) {
                let why = if ended { "it ended" } else { "it does not listen after 5 s" };
                return Err(Error::Connect(format!(
                    "the knarr daemon was started, but {why}; the end of {}:\n{}",
                    log_path.display(),
                    tail(&log_path, said_before, 10)
                )));
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    /// What to say when nobody answers.
    pub(crate) fn unreachable(&self, host: &Host, error: &io::Error) -> String {
        if self.program == "docker" {
            return match error.kind() {
                io::ErrorKind::PermissionDenied => {
                    format!("permission denied while trying to connect to the docker API at {host}")
                }
                _ => format!("Cannot connect to the Docker daemon at {host}. Is the docker daemon running?"),
            };
        }
        let why = match error.kind() {
            io::ErrorKind::NotFound => "there is no such socket".to_owned(),
            io::ErrorKind::ConnectionRefused => "nobody listens".to_owned(),
            io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            _ => error.to_string(),
        };
        let remedy = match error.kind() {
            io::ErrorKind::PermissionDenied => "run this as root, or join the group that owns the socket",
            _ => "start it as root with 'knarr daemon', or name another with -H or DOCKER_HOST",
        };
        format!("cannot connect to the knarr daemon at {host}: {why}; is it running? {remedy}")
    }
}

fn launch(program: &Path, log: &File) -> io::Result<std::process::Child> {
    // The child leaves this session by itself before it becomes the daemon: see the program's `main`.
    Command::new(program)
        .arg(DETACHED_DAEMON)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log.try_clone()?)
        .current_dir("/")
        .spawn()
}

/// Whether somebody else's daemon comes up shortly.
fn soon(socket: &Path) -> bool {
    (0..50).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        UnixStream::connect(socket).is_ok()
    })
}

/// The last lines of what was written after the first `skip` bytes.
fn tail(path: &Path, skip: u64, lines: usize) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(text.get(skip as usize..).unwrap_or_default()).into_owned();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
