//! What the engine and a shim say to each other: the border between them, in full.
//!
//! A shim is started as `knarr-shim DIR`, where DIR (`<exec-root>/containers/<id>`, 0700) holds [`Config`] as
//! `shim.json` and is the OCI bundle (`config.json`, an empty `rootfs/`). Its standard input is one end of a
//! socket pair: the first connection. It
//! 1. enters a mount namespace of its own and assembles [`Config::root`] on `DIR/rootfs`,
//! 2. listens on `DIR/shim.sock` for every further connection (reach it by [`sys`]' long-path connect),
//! 3. runs `RUNTIME create`, and answers on the first connection: [`Reply::State`] or [`Reply::Error`];
//! 4. then serves requests on all connections until the container has ended, its output is drained and
//!    `DIR/exit.json` ([`Exit`]) is written; runs `RUNTIME delete`, sends what watchers still miss, and exits.
//!
//! Nothing here may block on the engine: a connection that ends is a client that left, and changes nothing for
//! the container. Standard input ends only by an explicit empty [`STDIN`] frame.
//!
//! **Messages** are JSON behind a 32-bit big-endian length, at most [`MAX_MESSAGE`] bytes. A connection sends a
//! [`Request`] and reads one [`Reply`], as often as it likes. After the reply to [`Request::Attach`] or to
//! [`Request::Exec`] with `attach`, the connection carries **stream frames** both ways until it is closed; after
//! the one to [`Request::Watch`], it carries [`Event`] messages from the shim.
//!
//! **Stream frames** are `[kind, 0, 0, 0, length: u32 big-endian]` and `length` bytes: the framing of the Engine
//! API's attach stream, so that a door may pass output on unread. Kind is [`STDIN`] towards the shim (length 0:
//! close), [`STDOUT`] or [`STDERR`] from it; a terminal has only [`STDOUT`]. The shim closes the connection when
//! the process has ended and its output is drained. A client that reads slowly slows the process down (nothing
//! is dropped); output that nobody attached to goes to the log only.

use std::path::PathBuf;

use oci::{Mount, spec};
use serde::{Deserialize, Serialize};
use trace::Timeline;

/// Longest message; longer ones end the connection.
pub const MAX_MESSAGE: u32 = 4 << 20;
/// Most bytes in one stream frame.
pub const MAX_FRAME: u32 = 64 << 10;
/// Frame kind: towards the process.
pub const STDIN: u8 = 0;
/// Frame kind: from the process (and all of a terminal).
pub const STDOUT: u8 = 1;
/// Frame kind: from the process.
pub const STDERR: u8 = 2;

/// `shim.json`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Config {
    /// The container's id, as the runtime will know it.
    pub id: String,
    /// The OCI runtime: an absolute path; may be `/proc/<daemon>/fd/<n>` of a sealed memfd, which the shim opens
    /// once and executes through its own descriptor from then on.
    pub runtime: PathBuf,
    /// More words before the runtime's subcommand, such as `--systemd-cgroup`.
    #[serde(default)]
    pub runtime_args: Vec<String>,
    /// `--root` of the runtime.
    pub runtime_root: PathBuf,
    /// Whether the runtime knows `--trace FILE` (knarr's own does) and writes its [`Timeline`] there.
    #[serde(default)]
    pub runtime_traces: bool,
    /// What makes the root file system, in order; `destination` is relative to `DIR/rootfs` (`/` is the root).
    pub root: Vec<Mount>,
    /// Keep standard input open for attaching clients; else it is `/dev/null`. A terminal always has it.
    pub stdin: bool,
    /// Where output is kept.
    pub log: Log,
}

/// Where the container's output is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "driver", rename_all = "kebab-case")]
pub enum Log {
    /// Nowhere.
    None,
    /// Docker's json-file: a line `{"log":"…\n","stream":"stdout","time":"…"}` for each line of output; lines over
    /// 16 KiB are split. Rotated to `PATH.1`, `PATH.2`, … when `max_size` would be passed.
    JsonFile {
        /// The file.
        path: PathBuf,
        /// Bytes; 0 is unlimited.
        max_size: u64,
        /// Files in all, at least 1.
        max_files: u32,
    },
}

/// What a client asks.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub enum Request {
    /// How things are. → [`Reply::State`]
    State,
    /// `RUNTIME start`. → [`Reply::State`]; whoever must not miss how it goes on sends [`Request::Watch`] on another
    /// connection before: a short process, and its shim, may be gone by the time this is answered.
    Start,
    /// Join the streams of the container's process, or of an exec session. → [`Reply::Done`], then frames.
    Attach {
        /// An exec session; none is the container.
        session: Option<String>,
        /// What the client wants to see.
        streams: Streams,
    },
    /// `RUNTIME exec`. → [`Reply::Exec`], then frames if `attach`.
    Exec {
        /// Name of the session.
        session: String,
        /// As `exec --process` reads it.
        process: Box<spec::Process>,
        /// Keep its standard input open.
        stdin: bool,
        /// Join its streams from the first byte.
        attach: Option<Streams>,
    },
    /// Set the size of a terminal. → [`Reply::Done`]
    Resize {
        /// An exec session; none is the container.
        session: Option<String>,
        /// Rows and columns.
        size: spec::ConsoleSize,
    },
    /// Send a signal through the pidfd. → [`Reply::Done`]
    Signal {
        /// An exec session; none is the container.
        session: Option<String>,
        /// `signal(7)` number.
        signal: i32,
    },
    /// `RUNTIME pause`. → [`Reply::Done`]
    Pause,
    /// `RUNTIME resume`. → [`Reply::Done`]
    Resume,
    /// Follow what happens from now on; what has already happened is in [`Reply::State`], which answers this too.
    Watch,
    /// End without ever having started: `RUNTIME delete --force`, no exit record. → [`Reply::Done`]
    Discard,
}

/// Which of a process's streams a client wants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Streams {
    /// To send.
    pub stdin: bool,
    /// To receive.
    pub stdout: bool,
    /// To receive.
    pub stderr: bool,
}

/// What the shim answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum Reply {
    /// It is done.
    Done,
    /// How things are.
    State(Box<State>),
    /// An exec session began.
    Exec {
        /// Its pid as the host sees it.
        pid: i32,
    },
    /// It could not be done.
    Error {
        /// What and why; for a failed runtime call the runtime's own last word.
        message: String,
    },
}

/// How a container is, as its shim knows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct State {
    /// The shim itself.
    pub shim_pid: i32,
    /// The container's first process, as the host sees it.
    pub pid: i32,
    /// Whether [`Request::Start`] has succeeded, and when (nanoseconds since 1970).
    pub started_at: Option<i64>,
    /// Whether it is paused.
    pub paused: bool,
    /// How it ended.
    pub exit: Option<Exit>,
    /// Exec sessions that still run, and the last hundred that ended.
    pub sessions: Vec<Session>,
    /// What shim and runtime did so far.
    pub timeline: Timeline,
}

/// An exec session.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Session {
    /// Its name.
    pub id: String,
    /// As the host sees it.
    pub pid: i32,
    /// How it ended.
    pub exit: Option<Exit>,
}

/// `exit.json`: how a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Its exit code, or 128 + the signal that ended it.
    pub code: i32,
    /// Nanoseconds since 1970.
    pub at: i64,
    /// The kernel's OOM killer struck in its cgroup.
    pub oom_killed: bool,
}

/// What watchers are told.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A process ended, and every byte of its output has been handed on.
    Exited {
        /// An exec session; none is the container.
        session: Option<String>,
        /// How.
        exit: Exit,
    },
    /// The kernel's OOM killer struck, whether or not the container went on.
    OutOfMemory,
}
