//! What the doors hand in and get back: plain values.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::{Config, LastRun, State, Storage, config::Wish};

/// Where one engine lives; several live side by side with different roots.
#[derive(Debug, Clone)]
pub struct Options {
    /// What must survive a reboot: `/var/lib/knarr`.
    pub data_root: PathBuf,
    /// What must not: `/run/knarr`.
    pub exec_root: PathBuf,
    /// Absolute, below each hierarchy's root: `/knarr`.
    pub cgroup_parent: String,
    /// `knarr-shim`, absolute.
    pub shim: PathBuf,
    /// `knarr-runtime`, absolute.
    pub runtime: PathBuf,
    /// How layers are kept.
    pub storage: Storage,
    /// Further OCI runtimes by name.
    pub runtimes: BTreeMap<String, PathBuf>,
    /// Link of the network `bridge`; chosen if none.
    pub bridge: Option<String>,
    /// Where images come from and go to.
    pub registries: Registries,
}

/// Where images come from and go to, and how many of their layers at once.
#[derive(Debug, Clone)]
pub struct Registries {
    /// Mirrors, insecure registries, directories with certificates and `hosts.toml`.
    pub hosts: registry::Config,
    /// `max-concurrent-downloads`: layers of one pull.
    pub downloads: usize,
    /// `max-concurrent-uploads`: layers of one push.
    pub uploads: usize,
}

impl Default for Registries {
    fn default() -> Self {
        Self { hosts: registry::Config::default(), downloads: 3, uploads: 5 }
    }
}

/// A published snapshot of one container.
#[derive(Debug, Clone)]
pub struct Container {
    /// 64 hex digits.
    pub id: String,
    /// Without Docker's leading slash.
    pub name: String,
    /// When it was created.
    pub created: Timestamp,
    /// What it was asked to be, with the image's defaults.
    pub config: Config,
    /// How it is.
    pub state: State,
    /// Its last run.
    pub last: LastRun,
    /// Exec sessions that run.
    pub execs: Vec<String>,
    /// Where its output is kept, if in a file.
    pub log_path: Option<PathBuf>,
    /// Which driver keeps its layers.
    pub storage_driver: &'static str,
    /// Directories on disk by Docker's names (`LowerDir`, …).
    pub storage: BTreeMap<String, String>,
    /// The networks that it is in while it runs, the one that it leaves by first.
    pub attachments: Vec<Attachment>,
    /// Ports of the host that lead to it while it runs.
    pub ports: Vec<PublishedPort>,
    /// Files that the engine mounts into it: `hostname`, `hosts`, `resolv.conf` on the host.
    pub files: Files,
}

/// A container's place in one network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Its id.
    pub network: String,
    /// The network's name.
    pub name: String,
    /// Of the place itself; 64 hex digits.
    pub id: String,
    /// What was wished.
    pub wish: Wish,
    /// What was made of it.
    pub endpoint: network::Endpoint,
    /// Addresses of the network's bridge.
    pub gateways: Vec<IpAddr>,
}

impl Attachment {
    /// Its address of one family, with the prefix of the subnet.
    pub fn address(&self, v6: bool) -> Option<ipnet::IpNet> {
        self.endpoint.addresses.iter().copied().find(|net| net.addr().is_ipv6() == v6)
    }

    /// The network's gateway of one family.
    pub fn gateway(&self, v6: bool) -> Option<IpAddr> {
        self.gateways.iter().copied().find(|address| address.is_ipv6() == v6)
    }
}

/// A port of the host that leads to a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPort {
    /// The container's.
    pub port: u16,
    /// Which protocol.
    pub protocol: network::Protocol,
    /// The host's address; all of its family if unspecified.
    pub host: IpAddr,
    /// The host's.
    pub host_port: u16,
    /// The container's address.
    pub target: IpAddr,
}

/// The host side of the files that the engine mounts into a container.
#[derive(Debug, Clone, Default)]
pub struct Files {
    /// For `/etc/hostname`.
    pub hostname: PathBuf,
    /// For `/etc/hosts`.
    pub hosts: PathBuf,
    /// For `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
}

impl Container {
    /// Entrypoint and command together; the first word is the program.
    pub fn words(&self) -> Vec<String> {
        let config = &self.config;
        config.entrypoint.iter().flatten().chain(config.command.iter().flatten()).cloned().collect()
    }
}

/// What `create` answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// 64 hex digits.
    pub id: String,
    /// For people.
    pub warnings: Vec<String>,
}

/// How a wait ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waited {
    /// The exit code.
    pub code: i32,
    /// Why it could not be told, if so.
    pub error: Option<String>,
}

/// What to wait for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WaitFor {
    /// Not running (at once, if it is not).
    #[default]
    NotRunning,
    /// The next time it exits, even if it does not run now.
    NextExit,
    /// It is gone.
    Removed,
}

/// The live streams of a process: the container's, or an exec session's. Dropping it leaves the process alone.
#[derive(Debug)]
pub struct Streams {
    /// Whether it has a terminal: then all output is [`Frame::Stdout`] and raw.
    pub tty: bool,
    /// What it writes. Ends when the process has ended and everything was delivered. A container that does not run
    /// yet delivers nothing until it does; not reading slows the process down.
    pub output: mpsc::Receiver<Frame>,
    /// What it reads.
    pub input: mpsc::Sender<Input>,
}

/// A piece of output, at most 64 KiB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Or all of a terminal.
    Stdout(Bytes),
    /// Never of a terminal.
    Stderr(Bytes),
}

/// A piece of input. Dropping the sender is not closing: a client that vanishes must not end the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Bytes.
    Data(Bytes),
    /// End of file.
    Close,
}

/// Which streams to join.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AttachOptions {
    /// Send input.
    pub stdin: bool,
    /// Receive output.
    pub stdout: bool,
    /// Receive errors.
    pub stderr: bool,
}

/// Which lines of the log.
#[derive(Debug, Clone, Default)]
pub struct LogQuery {
    /// Lines of standard output.
    pub stdout: bool,
    /// Lines of standard error.
    pub stderr: bool,
    /// Go on with what is written later, until the container ends.
    pub follow: bool,
    /// Not before.
    pub since: Option<Timestamp>,
    /// Not after.
    pub until: Option<Timestamp>,
    /// The last so many; none is all.
    pub tail: Option<u64>,
}

/// One line of the log (its newline included, unless it was cut at 16 KiB or the output ended without one).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// When it was read.
    pub at: Timestamp,
    /// Standard error, else output.
    pub stderr: bool,
    /// The line.
    pub text: Bytes,
}

/// What to run in a container that runs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ExecConfig {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Added to the container's.
    pub env: Vec<String>,
    /// Empty: the container's.
    pub working_dir: String,
    /// Empty: the container's.
    pub user: String,
    /// A terminal.
    pub tty: bool,
    /// Rows and columns.
    pub console_size: Option<(u16, u16)>,
    /// All capabilities.
    pub privileged: bool,
    /// Streams that will be joined.
    pub attach: AttachOptions,
    /// As the client wrote them; kept for whoever joins.
    pub detach_keys: String,
}

/// An exec session as `inspect` sees it.
#[derive(Debug, Clone)]
pub struct Exec {
    /// 64 hex digits.
    pub id: String,
    /// Of which container.
    pub container: String,
    /// What.
    pub config: ExecConfig,
    /// Whether it runs now.
    pub running: bool,
    /// As the host sees it; 0 before it was started.
    pub pid: i32,
    /// Once it has ended.
    pub exit_code: Option<i32>,
}

/// Something that happened, for `events`.
#[derive(Debug, Clone)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// `container` or `image`.
    pub kind: &'static str,
    /// Docker's word: `create`, `start`, `die`, `destroy`, `exec_create: …`, `pull`, …
    pub action: String,
    /// Id of the object.
    pub id: String,
    /// Name, image, labels, exit code, …
    pub attributes: BTreeMap<String, String>,
}

/// Facts for `info` and `version` that only the engine knows.
#[derive(Debug, Clone)]
pub struct Info {
    /// Random, made once for the data root.
    pub engine_id: String,
    /// As given.
    pub options: Options,
    /// The layer driver.
    pub storage_driver: &'static str,
    /// `1` (also hybrid) or `2`.
    pub cgroup_version: u8,
    /// Controllers in use.
    pub controllers: Vec<String>,
    /// Images.
    pub images: usize,
    /// Things the user should know.
    pub warnings: Vec<String>,
}

/// One line of `rmi`'s answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemovedImage {
    /// A name.
    Untagged(String),
    /// An image or layer.
    Deleted(String),
}
