//! An OCI runtime: bundle in, process out. plan → clone → steps → exec.
//!
//! [`spec`] reads and refuses, [`plan`] computes everything that will be done, [`launch`] clones once, and the child
//! runs its [`steps`] in one loop. Errors travel back as what was being done and the kernel's word for why not.

pub mod birth;
pub mod caps;
pub mod cgroup;
pub mod channel;
pub mod cli;
pub mod commands;
pub mod container;
pub mod error;
pub mod hooks;
pub mod host;
pub mod idmaps;
pub mod init;
pub mod launch;
pub mod netdev;
pub mod options;
pub mod plan;
pub mod rdt;
pub mod record;
pub mod sealed;
pub mod seccomp;
pub mod spec;
pub mod steps;
pub mod trees;
