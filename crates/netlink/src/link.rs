//! Links: bridges, veth pairs, macvlan, ipvlan, VXLAN (`rtnetlink(7)`, `linux/if_link.h`).

use std::{
    net::IpAddr,
    os::fd::{AsFd, AsRawFd},
};

use rustix::io::Errno;

use crate::{
    Namespace, Socket,
    error::{Error, Result, unless},
    message::{Message, flag},
    socket::Reply,
};

const NEW: u16 = 16;
const DELETE: u16 = 17;
const GET: u16 = 18;
/// `struct ifinfomsg`
const FIXED: usize = 16;
/// `IFF_UP`
const UP: u32 = 1;

/// `IFLA_*`
mod ifla {
    pub(super) const ADDRESS: u16 = 1;
    pub(super) const NAME: u16 = 3;
    pub(super) const MTU: u16 = 4;
    pub(super) const LINK: u16 = 5;
    pub(super) const MASTER: u16 = 10;
    pub(super) const INFO: u16 = 18;
    pub(super) const ALIAS: u16 = 20;
    pub(super) const NAMESPACE: u16 = 28;
    /// Inside `INFO`.
    pub(super) const INFO_KIND: u16 = 1;
    pub(super) const INFO_DATA: u16 = 2;
    pub(super) const INFO_PORT_KIND: u16 = 4;
    pub(super) const INFO_PORT_DATA: u16 = 5;
}

/// A link that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number, unique in its namespace.
    pub index: u32,
    /// `eth0`
    pub name: String,
    /// `bridge`, `veth`, …; empty for hardware and loopback.
    pub kind: String,
    /// Bytes.
    pub mtu: u32,
    /// Hardware address, where it has an Ethernet one.
    pub mac: Option<[u8; 6]>,
    /// The bridge that it is a port of.
    pub master: Option<u32>,
    /// Administratively up.
    pub up: bool,
    /// A note by whoever made it.
    pub alias: String,
}

/// A link to make.
#[derive(Debug, Clone)]
pub struct NewLink<'a> {
    /// At most 15 bytes.
    pub name: &'a str,
    /// What.
    pub kind: Kind<'a>,
    /// Bytes; the kind's own default if none.
    pub mtu: Option<u32>,
    /// Random if none.
    pub mac: Option<[u8; 6]>,
    /// A bridge to be a port of.
    pub master: Option<u32>,
    /// Born there instead of here. Moving a link later costs 16 ms of waiting in the kernel.
    pub namespace: Option<&'a Namespace>,
    /// Up from the start.
    pub up: bool,
}

/// What kind of link.
#[derive(Debug, Clone)]
pub enum Kind<'a> {
    /// A switch.
    Bridge(Bridge),
    /// One end of a pair.
    Veth(Peer<'a>),
    /// Another hardware address on `parent`.
    Macvlan {
        /// Index of the link below.
        parent: u32,
        /// Who may talk to whom.
        mode: MacvlanMode,
    },
    /// The hardware address of `parent`, other IP addresses.
    Ipvlan {
        /// Index of the link below.
        parent: u32,
        /// Where it switches.
        mode: IpvlanMode,
    },
    /// One VLAN of `parent`.
    Vlan {
        /// Index of the link below.
        parent: u32,
        /// 1 to 4094.
        id: u16,
    },
    /// Ethernet in UDP.
    Vxlan(Vxlan),
    /// A stub.
    Dummy,
}

/// Settings of a bridge.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bridge {
    /// Keeps a list of who wants which multicast.
    pub multicast_snooping: bool,
}

/// The other end of a veth pair. The kernel cannot bear it up: it is not yet tied to its pair then.
#[derive(Debug, Clone, Copy)]
pub struct Peer<'a> {
    /// At most 15 bytes.
    pub name: &'a str,
    /// Random if none.
    pub mac: Option<[u8; 6]>,
    /// Born there.
    pub namespace: Option<&'a Namespace>,
}

/// `IFLA_MACVLAN_MODE`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // The kernel's words.
pub enum MacvlanMode {
    Private = 1,
    Vepa = 2,
    Bridge = 4,
    Passthru = 8,
}

/// `IFLA_IPVLAN_MODE`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // The kernel's words.
pub enum IpvlanMode {
    L2 = 0,
    L3 = 1,
    L3s = 2,
}

/// A VXLAN that learns nothing by itself: peers are entered as neighbours.
#[derive(Debug, Clone, Copy)]
pub struct Vxlan {
    /// 24 bits.
    pub vni: u32,
    /// Source address of what it sends.
    pub local: IpAddr,
    /// UDP port.
    pub port: u16,
    /// Index of the link below.
    pub parent: Option<u32>,
}

/// Settings of a bridge's port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Port {
    /// Sends a frame back where it came from.
    pub hairpin: bool,
    /// Talks to ports that are not isolated only (Linux 4.18).
    pub isolated: bool,
}

fn fixed(index: u32, flags: u32, change: u32) -> [u8; FIXED] {
    let mut bytes = [0; FIXED];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..16].copy_from_slice(&change.to_ne_bytes());
    bytes
}

fn up(up: bool) -> u32 {
    if up { UP } else { 0 }
}

fn descriptor(namespace: &Namespace) -> u32 {
    namespace.as_fd().as_raw_fd() as u32
}

impl Kind<'_> {
    fn name(&self) -> &'static str {
        match self {
            Self::Bridge(_) => "bridge",
            Self::Veth(_) => "veth",
            Self::Macvlan { .. } => "macvlan",
            Self::Ipvlan { .. } => "ipvlan",
            Self::Vlan { .. } => "vlan",
            Self::Vxlan(_) => "vxlan",
            Self::Dummy => "dummy",
        }
    }

    fn parent(&self) -> Option<u32> {
        match self {
            Self::Macvlan { parent, .. } | Self::Ipvlan { parent, .. } | Self::Vlan { parent, .. } => {
                Some(*parent)
            }
            _ => None,
        }
    }

    /// Appends `IFLA_INFO_DATA`.
    fn data(&self, info: Message) -> Message {
        info.nest(ifla::INFO_DATA, |data| match self {
            Self::Bridge(bridge) => data.with(23, &u8::from(bridge.multicast_snooping)),
            Self::Veth(peer) => peer.put(data),
            Self::Macvlan { mode, .. } => data.with(1, &(*mode as u32)),
            Self::Ipvlan { mode, .. } => data.with(1, &(*mode as u16)),
            Self::Vlan { id, .. } => data.with(1, id),
            Self::Vxlan(vxlan) => vxlan.put(data),
            Self::Dummy => data,
        })
    }
}

impl Peer<'_> {
    /// `VETH_INFO_PEER`: another whole link message.
    fn put(&self, data: Message) -> Message {
        data.nest(1, |peer| {
            peer.fixed(&fixed(0, 0, 0))
                .with(ifla::NAME, self.name)
                .with_some(ifla::ADDRESS, self.mac.as_ref())
                .with_some(ifla::NAMESPACE, self.namespace.map(descriptor).as_ref())
        })
    }
}

impl Vxlan {
    fn put(&self, data: Message) -> Message {
        let (local, ports) = (if self.local.is_ipv4() { 4 } else { 17 }, self.port.to_be_bytes());
        data.with(1, &self.vni)
            .with(local, &self.local)
            .with(15, &ports)
            .with(7, &0u8)
            .with_some(3, self.parent.as_ref())
    }
}

impl Socket {
    /// Makes a link. A name in use is `EEXIST`, a kind that the kernel lacks `EOPNOTSUPP`.
    pub fn add_link(&mut self, link: &NewLink<'_>) -> Result<()> {
        let message = Message::new(NEW, flag::CREATE | flag::EXCL)
            .fixed(&fixed(0, up(link.up), up(link.up)))
            .with(ifla::NAME, link.name)
            .with_some(ifla::MTU, link.mtu.as_ref())
            .with_some(ifla::ADDRESS, link.mac.as_ref())
            .with_some(ifla::MASTER, link.master.as_ref())
            .with_some(ifla::LINK, link.kind.parent().as_ref())
            .with_some(ifla::NAMESPACE, link.namespace.map(descriptor).as_ref())
            .nest(ifla::INFO, |info| link.kind.data(info.with(ifla::INFO_KIND, link.kind.name())));
        self.change(message, || format!("make {} {}", link.kind.name(), link.name))
    }

    /// The link of that name, if there is one.
    pub fn link(&mut self, name: &str) -> Result<Option<Link>> {
        let message = Message::new(GET, 0).fixed(&fixed(0, 0, 0)).with(ifla::NAME, name);
        let found = unless(self.get(message, || format!("look for link {name}")), Errno::NODEV)?;
        Ok(found.iter().find_map(read))
    }

    /// The index of the link of that name; an error if there is none.
    pub fn index(&mut self, name: &str) -> Result<u32> {
        let missing =
            || Error::Refused { what: format!("find link {name}"), errno: Errno::NODEV, said: String::new() };
        self.link(name)?.map(|link| link.index).ok_or_else(missing)
    }

    /// All links.
    pub fn links(&mut self) -> Result<Vec<Link>> {
        let message = Message::new(GET, flag::DUMP).fixed(&fixed(0, 0, 0));
        Ok(self.get(message, || "list links".to_owned())?.iter().filter_map(read).collect())
    }

    /// Brings a link up or down.
    pub fn set_up(&mut self, index: u32, wanted: bool) -> Result<()> {
        let message = Message::new(NEW, 0).fixed(&fixed(index, up(wanted), UP));
        self.change(message, || format!("bring link {index} {}", if wanted { "up" } else { "down" }))
    }

    /// Makes a link the port of a bridge, or (0) of none.
    pub fn set_master(&mut self, index: u32, master: u32) -> Result<()> {
        let message = Message::new(NEW, 0).fixed(&fixed(index, 0, 0)).with(ifla::MASTER, &master);
        self.change(message, || format!("put link {index} on bridge {master}"))
    }

    /// Sets the largest packet, in bytes.
    pub fn set_mtu(&mut self, index: u32, mtu: u32) -> Result<()> {
        let message = Message::new(NEW, 0).fixed(&fixed(index, 0, 0)).with(ifla::MTU, &mtu);
        self.change(message, || format!("set mtu {mtu} on link {index}"))
    }

    /// Names a link anew; at most 15 bytes. One that is up can be renamed since Linux 6.2.
    pub fn rename(&mut self, index: u32, name: &str) -> Result<()> {
        let message = Message::new(NEW, 0).fixed(&fixed(index, 0, 0)).with(ifla::NAME, name);
        self.change(message, || format!("name link {index} {name}"))
    }

    /// Leaves a note on a link.
    pub fn set_alias(&mut self, index: u32, alias: &str) -> Result<()> {
        let message = Message::new(NEW, 0).fixed(&fixed(index, 0, 0)).with(ifla::ALIAS, alias);
        self.change(message, || format!("note {alias:?} on link {index}"))
    }

    /// Moves a link to another namespace, where it is down; under `name` if given.
    pub fn move_link(&mut self, index: u32, to: &Namespace, name: Option<&str>) -> Result<()> {
        let message = Message::new(NEW, 0)
            .fixed(&fixed(index, 0, 0))
            .with(ifla::NAMESPACE, &descriptor(to))
            .with_some(ifla::NAME, name);
        self.change(message, || format!("move link {index} to another namespace"))
    }

    /// Sets a bridge's port up.
    pub fn set_port(&mut self, index: u32, port: Port) -> Result<()> {
        let message = Message::new(NEW, 0).fixed(&fixed(index, 0, 0)).nest(ifla::INFO, |info| {
            info.with(ifla::INFO_PORT_KIND, "bridge").nest(ifla::INFO_PORT_DATA, |data| {
                data.with(4, &u8::from(port.hairpin)).with(33, &u8::from(port.isolated))
            })
        });
        self.change(message, || format!("set port {index} of a bridge up"))
    }

    /// Removes a link, and with one end of a pair the other; one that is not there is fine. Waits 16 ms in the
    /// kernel: keep it off the path of an answer.
    pub fn delete_link(&mut self, name: &str) -> Result<()> {
        let message = Message::new(DELETE, 0).fixed(&fixed(0, 0, 0)).with(ifla::NAME, name);
        unless(self.change(message, || format!("remove link {name}")), Errno::NODEV)
    }
}

fn read(reply: &Reply) -> Option<Link> {
    let fixed: &[u8; FIXED] = reply.fixed().filter(|_| reply.kind == NEW)?;
    let word = |at: usize| u32::from_ne_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]);
    let attributes = reply.attributes(FIXED);
    Some(Link {
        index: word(4),
        name: attributes.text(ifla::NAME)?,
        kind: attributes.nested(ifla::INFO).text(ifla::INFO_KIND).unwrap_or_default(),
        mtu: attributes.u32(ifla::MTU).unwrap_or_default(),
        mac: attributes.mac(ifla::ADDRESS),
        master: attributes.u32(ifla::MASTER),
        up: word(8) & UP != 0,
        alias: attributes.text(ifla::ALIAS).unwrap_or_default(),
    })
}
