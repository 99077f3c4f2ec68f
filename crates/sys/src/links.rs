//! A few words of rtnetlink (`rtnetlink(7)`): find a link, move it to another network namespace, give it addresses.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
};

use rustix::{
    io::Errno,
    net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with},
};

const NEWLINK: u16 = 16;
const GETLINK: u16 = 18;
const NEWADDR: u16 = 20;
const GETADDR: u16 = 22;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const DUMP: u16 = 0x300;
const CREATE_EXCLUSIVE: u16 = 0x600;

const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_FD: u16 = 28;
const IFA_LOCAL: u16 = 2;
const IFA_ADDRESS: u16 = 1;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
const IFF_UP: u32 = 1;
const PERMANENT: u32 = 0x80;
const UNIVERSE: u8 = 0;

const HEADER: usize = 16;
const LINK_HEADER: usize = 16;
const ADDRESS_HEADER: usize = 8;

/// The longest name of a link (`IFNAMSIZ` without the NUL).
pub const LONGEST_NAME: usize = 15;

/// A link as it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Its number in its namespace.
    pub index: u32,
    /// Whether it is up.
    pub up: bool,
}

/// An address of a link, without its scope, which is global.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    family: u8,
    prefix: u8,
    flags: u32,
    /// Local, peer's and broadcast address, as far as they are there.
    parts: Vec<(u16, Vec<u8>)>,
}

/// A socket to the network namespace that this process was in when it was opened.
#[derive(Debug)]
pub struct Routes(OwnedFd);

impl Routes {
    /// To the current network namespace.
    pub fn open() -> io::Result<Self> {
        // No protocol is NETLINK_ROUTE.
        Ok(Self(socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?))
    }

    /// The link of this name; `ENODEV` if there is none.
    pub fn link(&self, name: &str) -> io::Result<Link> {
        let mut message = Message::new(GETLINK, REQUEST | ACK, &link_header(0, 0, 0));
        message.attribute(IFLA_IFNAME, &zero_ended(name));
        let mut found = None;
        self.ask(message, |kind, body| {
            if kind == NEWLINK && body.len() >= LINK_HEADER {
                found = Some(Link { index: number(body, 4), up: number(body, 8) & IFF_UP != 0 });
            }
        })?;
        found.ok_or_else(|| Errno::NODEV.into())
    }

    /// The addresses that somebody gave to a link for good and that are good everywhere: what a router or a lease gave
    /// belongs to the place.
    pub fn addresses(&self, index: u32) -> io::Result<Vec<Address>> {
        let mut all = Vec::new();
        let header = [0; ADDRESS_HEADER];
        self.ask(Message::new(GETADDR, REQUEST | DUMP, &header), |kind, body| {
            if kind == NEWADDR && body.len() >= ADDRESS_HEADER && number(body, 4) == index {
                all.extend(address(body));
            }
        })?;
        Ok(all)
    }

    /// Moves a link to the namespace `to` and gives it `name` there, in one act. It is down afterwards and has no
    /// addresses.
    pub fn move_link(&self, index: u32, to: BorrowedFd<'_>, name: &str) -> io::Result<()> {
        let mut message = Message::new(NEWLINK, REQUEST | ACK, &link_header(index, 0, 0));
        message.attribute(IFLA_NET_NS_FD, &(to.as_raw_fd() as u32).to_ne_bytes());
        message.attribute(IFLA_IFNAME, &zero_ended(name));
        self.ask(message, |_, _| ())
    }

    /// Brings a link up.
    pub fn bring_up(&self, index: u32) -> io::Result<()> {
        self.ask(Message::new(NEWLINK, REQUEST | ACK, &link_header(index, IFF_UP, IFF_UP)), |_, _| ())
    }

    /// Gives a link an address.
    pub fn add_address(&self, index: u32, address: &Address) -> io::Result<()> {
        let mut header = vec![address.family, address.prefix, 0, UNIVERSE];
        header.extend(index.to_ne_bytes());
        let mut message = Message::new(NEWADDR, REQUEST | ACK | CREATE_EXCLUSIVE, &header);
        message.attribute(IFA_FLAGS, &address.flags.to_ne_bytes());
        for (kind, value) in &address.parts {
            message.attribute(*kind, value);
        }
        self.ask(message, |_, _| ())
    }

    /// Sends a request, shows every answer to `see`, and returns what the kernel finally said.
    fn ask(&self, message: Message, mut see: impl FnMut(u16, &[u8])) -> io::Result<()> {
        send(&self.0, &message.finish(), SendFlags::empty())?;
        // What the kernel fills at most in one go.
        let mut buffer = vec![0; 32 << 10];
        loop {
            let (length, _) = recv(&self.0, &mut buffer[..], RecvFlags::empty())?;
            let mut rest = &buffer[..length];
            while rest.len() >= HEADER {
                let size = (number(rest, 0) as usize).clamp(HEADER, rest.len());
                let body = &rest[HEADER..size];
                match short(rest, 4) {
                    ERROR | DONE => return finished(body),
                    kind => see(kind, body),
                }
                rest = &rest[size.next_multiple_of(4).min(rest.len())..];
            }
        }
    }
}

fn finished(body: &[u8]) -> io::Result<()> {
    match body.get(..4).map_or(0, |_| number(body, 0) as i32) {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(-error)),
    }
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn short(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes([bytes[at], bytes[at + 1]])
}

fn zero_ended(name: &str) -> Vec<u8> {
    [name.as_bytes(), b"\0"].concat()
}

fn link_header(index: u32, flags: u32, change: u32) -> Vec<u8> {
    [0, index, flags, change].iter().flat_map(|number: &u32| number.to_ne_bytes()).collect()
}

fn address(body: &[u8]) -> Option<Address> {
    let (family, prefix, scope) = (body[0], body[1], body[3]);
    let mut found = Address { family, prefix, flags: u32::from(body[2]), parts: Vec::new() };
    let mut rest = &body[ADDRESS_HEADER..];
    while rest.len() >= 4 {
        let size = usize::from(short(rest, 0)).clamp(4, rest.len());
        match short(rest, 2) {
            IFA_FLAGS if size >= 8 => found.flags = number(rest, 4),
            kind @ (IFA_ADDRESS | IFA_LOCAL | IFA_BROADCAST) => {
                found.parts.push((kind, rest[4..size].to_vec()));
            }
            _ => {}
        }
        rest = &rest[size.next_multiple_of(4).min(rest.len())..];
    }
    (scope == UNIVERSE && found.flags & PERMANENT != 0).then_some(found)
}

/// A request in the making.
struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: u16, header: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(header);
        Self(bytes)
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.0.extend(((value.len() + 4) as u16).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        let length = self.0.len() as u32;
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_found_and_a_stranger_is_not() {
        let routes = Routes::open().unwrap();
        assert_eq!(routes.link("lo").unwrap().index, 1);
        // `127.0.0.1` is no address for everywhere.
        assert_eq!(routes.addresses(1).unwrap(), []);
        let error = routes.link("no-such-link").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::NODEV.raw_os_error()));
    }
}
