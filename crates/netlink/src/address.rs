//! Addresses of links.

use std::net::IpAddr;

use ipnet::IpNet;
use rustix::io::Errno;

use crate::{
    Socket,
    error::{Result, unless},
    message::{Message, flag},
    socket::Reply,
};

const NEW: u16 = 20;
const DELETE: u16 = 21;
const GET: u16 = 22;
/// `struct ifaddrmsg`
const FIXED: usize = 8;
/// `IFA_*`
const ADDRESS: u16 = 1;
const LOCAL: u16 = 2;
const BROADCAST: u16 = 4;
const FLAGS: u16 = 8;
/// `IFA_F_NODAD`: usable at once, without asking whether another host has it.
const NO_DETECTION: u32 = 0x02;

/// An address of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The link.
    pub index: u32,
    /// With the length of its network's prefix.
    pub address: IpNet,
    /// Valid on the link only, or on this host only.
    pub narrow: bool,
}

/// `AF_INET` or `AF_INET6`.
pub(crate) fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { 2 } else { 10 }
}

fn fixed(index: u32, address: Option<IpNet>) -> [u8; FIXED] {
    let mut bytes = [0; FIXED];
    bytes[0] = address.map_or(0, |address| family(address.addr()));
    bytes[1] = address.map_or(0, |address| address.prefix_len());
    bytes[4..].copy_from_slice(&index.to_ne_bytes());
    bytes
}

impl Socket {
    /// Gives a link an address; one that it has already is fine. IPv6 ones are usable at once.
    pub fn add_address(&mut self, index: u32, address: IpNet) -> Result<()> {
        let broadcast = match address {
            IpNet::V4(net) if net.prefix_len() < 31 => Some(IpAddr::V4(net.broadcast())),
            _ => None,
        };
        let message = Message::new(NEW, flag::CREATE | flag::EXCL)
            .fixed(&fixed(index, Some(address)))
            .with(LOCAL, &address.addr())
            .with(ADDRESS, &address.addr())
            .with_some(BROADCAST, broadcast.as_ref())
            .with_some(FLAGS, address.addr().is_ipv6().then_some(&NO_DETECTION));
        unless(self.change(message, || format!("give link {index} address {address}")), Errno::EXIST)
    }

    /// Takes an address away; one that is not there is fine.
    pub fn delete_address(&mut self, index: u32, address: IpNet) -> Result<()> {
        let message = Message::new(DELETE, 0)
            .fixed(&fixed(index, Some(address)))
            .with(LOCAL, &address.addr())
            .with(ADDRESS, &address.addr());
        unless(
            self.change(message, || format!("take address {address} from link {index}")),
            Errno::ADDRNOTAVAIL,
        )
    }

    /// The addresses of all links.
    pub fn addresses(&mut self) -> Result<Vec<Address>> {
        let message = Message::new(GET, flag::DUMP).fixed(&fixed(0, None));
        Ok(self.get(message, || "list addresses".to_owned())?.iter().filter_map(read).collect())
    }
}

fn read(reply: &Reply) -> Option<Address> {
    let fixed: &[u8; FIXED] = reply.fixed().filter(|_| reply.kind == NEW)?;
    let attributes = reply.attributes(FIXED);
    // On a point-to-point link `ADDRESS` is the other end's.
    let address = attributes.address(LOCAL).or_else(|| attributes.address(ADDRESS))?;
    Some(Address {
        index: u32::from_ne_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
        address: IpNet::new(address, fixed[1]).ok()?,
        narrow: fixed[3] != 0,
    })
}
