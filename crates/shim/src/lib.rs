//! Stays with one container: stdio, terminal, log file, reaping, exit record, exec sessions.
//!
//! Outlives the daemon, and drives any OCI runtime by its command line. Single-threaded: one `poll` loop, in
//! which nothing waits for anybody: not for a client, not for the runtime, not for the log's disk space.
//!
//! The story: [`run`] (`setup`) leaves its starter's surroundings, mounts the root (`root`) and begins
//! `RUNTIME create` (`calls`); the loop (`shim`) then moves bytes between the process (`stdio`), its log (`log`)
//! and clients (`connection`), answers `requests`, and sees to the `ending`.

mod calls;
pub mod client;
mod connection;
mod ending;
mod error;
mod escape;
mod log;
mod oom;
mod program;
pub mod protocol;
mod requests;
mod root;
mod runtime;
mod setup;
mod shim;
mod stdio;
mod time;
pub mod wire;

pub use setup::run;
