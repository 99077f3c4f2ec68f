//! Stays with one container: stdio, terminal, log file, reaping, exit record, exec sessions.
//!
//! Outlives the daemon, and drives any OCI runtime by its command line. Single-threaded: one `poll` loop.

pub mod protocol;
