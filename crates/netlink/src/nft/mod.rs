//! Packet rules: tables, chains, rules, sets and maps of nftables (`linux/netfilter/nf_tables.h`).
//!
//! Everything is changed in a [`Batch`], which the kernel applies whole or not at all: there is never a moment with
//! half of it. `nft list ruleset` shows what is made here, with its comments.

mod batch;
mod expression;
mod set;

pub use batch::{Batch, Chain, Hook, Policy, Type};
pub use expression::{Compare, Expression, Field, Nat, Verdict, field, matches};
pub use set::{Element, Key, Mapped, Set};

/// Which packets a table sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4 and IPv6.
    Inet = 1,
    /// IPv4.
    Ipv4 = 2,
    /// Of one device.
    Netdev = 5,
    /// Frames on a bridge.
    Bridge = 7,
    /// IPv6.
    Ipv6 = 10,
}
