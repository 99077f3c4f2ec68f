//! What a container is asked to be: one value, kept in its record, never changed by running it.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

use oci::{Digest, IdMap};
use serde::{Deserialize, Serialize};

/// The whole request. After `create`, image defaults are merged in (`env`, `command`, `entrypoint`, …).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// As the user wrote it.
    pub image: String,
    /// Set by `create`: what `image` meant then.
    pub image_id: Option<Digest>,
    /// Docker's `Cmd`; none takes the image's (unless an entrypoint is given).
    pub command: Option<Vec<String>>,
    /// None takes the image's; an empty one (or one empty word) resets it.
    pub entrypoint: Option<Vec<String>>,
    /// `KEY=value`; a bare `KEY` removes the image's.
    pub env: Vec<String>,
    /// Empty takes the image's.
    pub working_dir: String,
    /// `USER[:GROUP]`, names or numbers; empty takes the image's.
    pub user: String,
    /// Empty: the short id.
    pub hostname: String,
    /// NIS domain.
    pub domainname: String,
    /// Labels; the image's are merged in.
    pub labels: BTreeMap<String, String>,
    /// `80/tcp`, …
    pub exposed_ports: Vec<String>,
    /// Paths that the image declares as volumes.
    pub volumes: Vec<String>,
    /// A terminal.
    pub tty: bool,
    /// Rows and columns of the first paint, if known.
    pub console_size: Option<(u16, u16)>,
    /// Keep standard input open.
    pub open_stdin: bool,
    /// Close it when the first attached client leaves.
    pub stdin_once: bool,
    /// What `docker run` attached; recorded for `inspect`.
    pub attach: Attach,
    /// Name or number; empty takes the image's, else SIGTERM.
    pub stop_signal: String,
    /// Seconds; none is 10.
    pub stop_timeout: Option<i64>,
    /// How it sits on the host.
    pub host: Host,
    /// Ids inside and outside.
    pub ids: IdMap,
}

/// Streams that the creating client meant to attach.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attach {
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
}

/// How the container sits on the host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Host {
    /// Bind mounts.
    pub binds: Vec<Bind>,
    /// `(path inside, options)`, options as `size=64m,mode=1777`.
    pub tmpfs: Vec<(String, String)>,
    /// Which network.
    pub network: Network,
    /// What is wished of networks, that of `network` and others, by name or id.
    pub networks: BTreeMap<String, Wish>,
    /// Ports to publish.
    pub ports: Vec<PortWish>,
    /// Publish every exposed port.
    pub publish_all: bool,
    /// Name servers instead of the host's.
    pub dns: Vec<String>,
    /// Search domains instead of the host's.
    pub dns_search: Vec<String>,
    /// Resolver options instead of the host's.
    pub dns_options: Vec<String>,
    /// `NAME:ADDRESS`, or `host-gateway` for the address.
    pub extra_hosts: Vec<String>,
    /// Limits.
    pub resources: Resources,
    /// Mount the root read-only.
    pub read_only_root: bool,
    /// Remove the container when it ends.
    pub auto_remove: bool,
    /// Run a small init as pid 1.
    pub init: bool,
    /// Name of an OCI runtime known to the daemon; empty is knarr's own.
    pub runtime: String,
    /// Overrides the daemon's.
    pub cgroup_parent: String,
    /// Where output is kept.
    pub log: Log,
    /// Free notes.
    pub annotations: BTreeMap<String, String>,
    /// Most bytes of its writable layer (`--storage-opt size=`).
    pub size: Option<u64>,
    /// Bytes of `/dev/shm`; 0 is 64 MiB.
    pub shm_size: u64,
}

/// A directory or file of the host in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// Absolute, on the host.
    pub source: PathBuf,
    /// Absolute, inside.
    pub target: String,
    /// Read-only.
    pub read_only: bool,
    /// `rprivate` (default), `private`, `rslave`, `slave`, `rshared`, `shared`.
    pub propagation: String,
    /// Make a missing source as a directory (Docker's `-v`); else it is an error (`--mount`).
    pub create_source: bool,
}

/// Which network a container begins in; [`Host::networks`] may name more.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// The network `bridge`.
    #[default]
    Default,
    /// Loopback only.
    None,
    /// The host's.
    Host,
    /// That of another container, by name or id.
    Container(String),
    /// One that somebody made, by name or id.
    Named(String),
}

/// What a container wishes of one network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Wish {
    /// Further names there.
    pub aliases: Vec<String>,
    /// A static address.
    pub v4: Option<IpAddr>,
    /// A static address.
    pub v6: Option<IpAddr>,
    /// Hardware address.
    pub mac: Option<[u8; 6]>,
    /// `CONTAINER:ALIAS`
    pub links: Vec<String>,
    /// `com.docker.network.…`
    pub options: BTreeMap<String, String>,
    /// The highest one's gateway is the way out.
    pub gateway_priority: i64,
}

/// A port to publish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortWish {
    /// The container's.
    pub port: u16,
    /// Which protocol.
    pub protocol: network::Protocol,
    /// An address of the host; all of them if none.
    pub host: Option<IpAddr>,
    /// The first free one of these; any if none.
    pub ports: Option<(u16, u16)>,
}

/// Limits; 0, empty or none is "no limit".
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Bytes, at least 6 MiB.
    pub memory: i64,
    /// Bytes of memory and swap together; -1 is unlimited swap; 0 is twice `memory`.
    pub memory_swap: i64,
    /// Bytes, soft limit.
    pub memory_reservation: i64,
    /// Billionths of a CPU.
    pub nano_cpus: i64,
    /// Microseconds; instead of `nano_cpus`.
    pub cpu_period: i64,
    /// Microseconds a period; instead of `nano_cpus`.
    pub cpu_quota: i64,
    /// Relative weight, 2 to 262144.
    pub cpu_shares: i64,
    /// `0-3,7`
    pub cpuset_cpus: String,
    /// `0-1`
    pub cpuset_mems: String,
    /// Processes and threads; 0 or -1 is unlimited.
    pub pids_limit: Option<i64>,
}

/// Where output is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "driver")]
pub enum Log {
    /// Docker's json-file.
    JsonFile {
        /// Bytes; 0 is unlimited.
        max_size: u64,
        /// Files in all.
        max_files: u32,
    },
    /// Nowhere; `logs` says so.
    None,
}

impl Default for Log {
    fn default() -> Self {
        Self::JsonFile { max_size: 0, max_files: 1 }
    }
}
