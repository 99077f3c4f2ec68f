//! Networks of containers on this host: plan, apply, undo, on a handle to a network namespace. Knows no containers, no
//! Docker.
//!
//! A [`Host`] is one network namespace in which an engine makes its bridges and its one table of packet rules; what is
//! in them follows from the [`Bridge`]s and [`Publish`]ed ports that the engine hands in, never from anything kept here.

mod bridge;
mod firewall;
mod host;
pub mod ipam;
pub mod names;
pub mod resolver;

use std::{fmt, net::IpAddr, ops::RangeInclusive, path::PathBuf};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use bridge::{mac, mac_of};
pub use host::{Host, Options};
pub use ipam::{Pool, Subnet};
pub use netlink::Namespace as Handle;

/// Results of this room.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong. The texts are Docker's where its users read them.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting that makes no sense; says which and why.
    #[error("{0}")]
    Invalid(String),
    /// Something that is taken.
    #[error("{0}")]
    Conflict(String),
    /// Nothing left to hand out.
    #[error("{0}")]
    Exhausted(String),
    /// The kernel refused.
    #[error(transparent)]
    Netlink(#[from] netlink::Error),
    /// The host's file system refused, `/proc/sys` as a rule.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// In the infinitive.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// A switch on this host, and who may pass by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bridge {
    /// Name of the link, at most 15 bytes.
    pub link: String,
    /// What it hands out; the gateways are its own addresses.
    pub subnets: Vec<Subnet>,
    /// Bytes; the kernel's 1500 if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Nobody leaves it.
    pub internal: bool,
    /// Who leaves does so under an address of the host.
    pub masquerade: bool,
    /// Its containers reach one another.
    pub talk: bool,
}

impl Bridge {
    /// Whether it hands out addresses of that family.
    pub fn has(&self, v6: bool) -> bool {
        self.subnets.iter().any(|subnet| matches!(subnet.net, IpNet::V6(_)) == v6)
    }
}

/// One container's place on a bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The bridge's link.
    pub bridge: String,
    /// The host's end of the pair, unique on the host.
    pub host_link: String,
    /// `eth0`
    pub link: String,
    /// Random if none.
    pub mac: Option<[u8; 6]>,
    /// With the prefixes of their subnets.
    pub addresses: Vec<IpNet>,
    /// Default routes; none where another endpoint of the container provides them.
    pub gateways: Vec<IpAddr>,
}

/// Transport protocol, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Protocol {
    Tcp = 6,
    Udp = 17,
    Sctp = 132,
}

/// Ports of the host that lead to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// Which protocol.
    pub protocol: Protocol,
    /// An address of the host; all of the target's family if none.
    pub host: Option<IpAddr>,
    /// Ports of the host.
    pub ports: RangeInclusive<u16>,
    /// The container's address.
    pub target: IpAddr,
    /// The container's port for the first of `ports`; the others follow.
    pub target_port: u16,
    /// Who may; everybody if empty.
    pub from: Vec<IpNet>,
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
