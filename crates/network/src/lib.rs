//! Networks of containers on this host: plan, apply, undo, on a handle to a network namespace.
//!
//! Here stand `none` (a namespace of its own, loopback up) and `host` (no namespace). Knows no containers, no Docker.

use std::{net::IpAddr, path::PathBuf};

/// What a container asks of its network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// A namespace with nothing but a working loopback.
    None,
    /// The host's own.
    Host,
}

/// What must be done for one container, as data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// For the runtime's spec: create a new namespace, join this one, or none at all.
    pub namespace: Namespace,
    /// Whether the loopback device must be brought up in it (the runtime's own namespace comes up by its own step).
    pub addresses: Vec<IpAddr>,
}

/// Where the container's interfaces live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Namespace {
    /// The runtime makes it.
    New,
    /// The host's.
    Host,
    /// Made before; a path to it.
    Path(PathBuf),
}

/// The plan for `mode`.
pub fn plan(mode: &Mode) -> Plan {
    let namespace = match mode {
        Mode::None => Namespace::New,
        Mode::Host => Namespace::Host,
    };
    Plan {
        namespace,
        addresses: Vec::new(),
    }
}
