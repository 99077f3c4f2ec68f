//! The door of a container's name server: 127.0.0.11 in its own namespace.
//!
//! The sockets have ports of the kernel's choice, so that a container can serve names on port 53 itself; packet rules
//! inside lead there.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
};

use netlink::{
    Namespace, Socket,
    nft::{Batch, Chain, Compare, Expression, Family, Hook, Nat, Policy, Type, field},
};

use crate::{Protocol, Result, bridge::refused};

/// Where containers look for names.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
const TABLE: &str = "knarr-names";
const PORT: u16 = 53;

/// Sockets in a container's namespace.
#[derive(Debug)]
pub struct Door {
    /// For most questions.
    pub udp: UdpSocket,
    /// For long answers.
    pub tcp: TcpListener,
}

impl Door {
    /// Opens a door in `inside`, in place of one that a daemon left behind there. Its loopback must be up.
    pub fn open(inside: &Namespace) -> Result<Self> {
        let bind = || -> io::Result<Self> {
            let udp = UdpSocket::bind((ADDRESS, 0))?;
            let tcp = TcpListener::bind((ADDRESS, 0))?;
            udp.set_nonblocking(true)?;
            tcp.set_nonblocking(true)?;
            Ok(Self { udp, tcp })
        };
        let bind_it = || bind().map_err(refused("bind", ADDRESS.to_string().into()));
        let door = inside.within(bind_it)??;
        let port = |address: io::Result<SocketAddr>| address.map_or(0, |address| address.port());
        let (udp, tcp) = (port(door.udp.local_addr()), port(door.tcp.local_addr()));
        let mut batch = Batch::new(Family::Ipv4, TABLE);
        let base = Some((Type::Nat, Hook::Output, -100, Policy::Accept));
        batch.replace_table().add_chain(&Chain { name: "names".to_owned(), base });
        for (protocol, port) in [(Protocol::Udp, udp), (Protocol::Tcp, tcp)] {
            batch.add_rule("names", "knarr's name server", &lead(protocol, port));
        }
        Socket::netfilter(inside)?.commit(batch, || "lead port 53 to the name server".to_owned())?;
        Ok(door)
    }
}

fn lead(protocol: Protocol, port: u16) -> Vec<Expression> {
    let is = |field, value: &[u8]| {
        [Expression::Load(field, 0), Expression::Compare(0, Compare::Equal, value.to_vec())]
    };
    let mut rule = is(field::IP_DESTINATION, &ADDRESS.octets()).to_vec();
    rule.extend(is(field::PROTOCOL, &[protocol as u8]));
    rule.extend(is(field::DESTINATION_PORT, &PORT.to_be_bytes()));
    rule.extend([
        Expression::Immediate(0, ADDRESS.octets().to_vec()),
        Expression::Immediate(1, port.to_be_bytes().to_vec()),
        Expression::Translate(Nat::Destination, true, 0, Some(1)),
    ]);
    rule
}
