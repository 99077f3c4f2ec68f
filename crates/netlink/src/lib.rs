//! Links, addresses, routes, neighbours, queues and packet rules of a network namespace, over netlink; no program is
//! run. Knows no containers and no networks of containers.
//!
//! One codec ([`Message`], [`Attributes`]) serves `rtnetlink(7)` and nftables; a [`Socket`] belongs for good to the
//! [`Namespace`] in which it was opened, whatever thread uses it.

mod address;
mod error;
mod link;
mod message;
mod namespace;
mod neighbour;
pub mod nft;
mod route;
mod socket;

pub use address::Address;
pub use error::{Error, Result};
pub use link::{Bridge, IpvlanMode, Kind, Link, MacvlanMode, NewLink, Peer, Port, Vxlan};
pub use message::{Attributes, Message, Value};
pub use namespace::Namespace;
pub use neighbour::Neighbour;
pub use route::Route;
pub use socket::{Listener, Reply, Socket};
