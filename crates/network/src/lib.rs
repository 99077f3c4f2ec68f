//! Networks of containers on this host: plan, apply, undo, on a handle to a network namespace.
//!
//! Here stand `none` (a namespace of its own, loopback up) and `host` (no namespace). Knows no containers, no Docker.

use std::{fmt, path::PathBuf};

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
    /// Where its interfaces live.
    pub namespace: Namespace,
}

/// Where a container's interfaces live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Namespace {
    /// In one that the runtime makes, with a loopback that is up (runtime-spec, config-linux.md: it brings it up).
    New,
    /// In the host's.
    Host,
    /// In one made before; a path to it.
    Path(PathBuf),
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::New => f.write_str("a new one, with loopback only"),
            Self::Host => f.write_str("the host's"),
            Self::Path(path) => write!(f, "{}", path.display()),
        }
    }
}

/// The plan for `mode`.
pub fn plan(mode: &Mode) -> Plan {
    let namespace = match mode {
        Mode::None => Namespace::New,
        Mode::Host => Namespace::Host,
    };
    Plan { namespace }
}
