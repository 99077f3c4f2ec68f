//! Neighbours: who has an address (ARP, NDP), and behind which tunnel end a hardware address is (a VXLAN's table).

use std::net::IpAddr;

use rustix::io::Errno;

use crate::{
    Socket,
    address::family,
    error::{Result, unless},
    message::{Message, flag},
    socket::Reply,
};

const NEW: u16 = 28;
const DELETE: u16 = 29;
const GET: u16 = 30;
/// `struct ndmsg`
const FIXED: usize = 12;
/// `NDA_DST`, `NDA_LLADDR`
const DESTINATION: u16 = 1;
const HARDWARE: u16 = 2;
/// `NUD_PERMANENT`, `NTF_SELF`, `AF_BRIDGE`
const PERMANENT: u16 = 0x80;
const OF_THE_DEVICE: u8 = 0x02;
const BRIDGE: u8 = 7;

/// A permanent entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbour {
    /// The link on which it is.
    pub index: u32,
    /// Its address; in a forwarding table the other end of the tunnel.
    pub address: IpAddr,
    /// Its hardware address; all zero in a forwarding table stands for what nobody has entered.
    pub mac: [u8; 6],
    /// In the device's own forwarding table, not among the addresses.
    pub forwarding: bool,
}

impl Neighbour {
    fn message(&self, kind: u16, flags: u16) -> Message {
        let mut fixed = [0; FIXED];
        fixed[0] = if self.forwarding { BRIDGE } else { family(self.address) };
        fixed[4..8].copy_from_slice(&self.index.to_ne_bytes());
        fixed[8..10].copy_from_slice(&PERMANENT.to_ne_bytes());
        fixed[10] = if self.forwarding { OF_THE_DEVICE } else { 0 };
        Message::new(kind, flags).fixed(&fixed).with(DESTINATION, &self.address).with(HARDWARE, &self.mac)
    }
}

impl Socket {
    /// Enters a neighbour, in place of what was known of it. Several ends for the zero hardware address add up.
    pub fn add_neighbour(&mut self, entry: &Neighbour) -> Result<()> {
        let several = entry.forwarding && entry.mac == [0; 6];
        let flags = flag::CREATE | if several { flag::APPEND } else { flag::REPLACE };
        self.change(entry.message(NEW, flags), || format!("enter neighbour {}", entry.address))
    }

    /// Takes an entry out; one that is not there is fine.
    pub fn delete_neighbour(&mut self, entry: &Neighbour) -> Result<()> {
        unless(
            self.change(entry.message(DELETE, 0), || format!("remove neighbour {}", entry.address)),
            Errno::NOENT,
        )
    }

    /// The permanent entries of a link, or of its forwarding table.
    pub fn neighbours(&mut self, index: u32, forwarding: bool) -> Result<Vec<Neighbour>> {
        let mut fixed = [0; FIXED];
        fixed[0] = if forwarding { BRIDGE } else { 0 };
        let message = Message::new(GET, flag::DUMP).fixed(&fixed);
        let found = self.get(message, || format!("list neighbours of link {index}"))?;
        let all = found.iter().filter_map(|reply| read(reply, forwarding));
        Ok(all.filter(|entry| entry.index == index).collect())
    }
}

fn read(reply: &Reply, forwarding: bool) -> Option<Neighbour> {
    let fixed: &[u8; FIXED] = reply.fixed().filter(|_| reply.kind == NEW)?;
    let state = u16::from_ne_bytes([fixed[8], fixed[9]]);
    let attributes = reply.attributes(FIXED);
    let entry = Neighbour {
        index: u32::from_ne_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
        address: attributes.address(DESTINATION)?,
        mac: attributes.mac(HARDWARE)?,
        forwarding,
    };
    (state & PERMANENT != 0).then_some(entry)
}
