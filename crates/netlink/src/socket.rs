//! Requests and their answers.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use rustix::{
    io::Errno,
    net::{Protocol, RecvFlags, SendFlags, netlink, recv, send, sockopt},
};

use crate::{
    Namespace,
    error::{Error, Result},
    message::{Attributes, HEADER, Message, flag},
};

/// `NLMSG_ERROR` and `NLMSG_DONE`.
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// `NLM_F_ACK_TLVS` and `NLM_F_CAPPED` of an answer.
const ACK_TLVS: u16 = 0x200;
const CAPPED: u16 = 0x100;
/// `NLMSGERR_ATTR_MSG`
const REASON: u16 = 1;
/// The kernel's own answers come at once; this is for a kernel that has lost one (`ENOBUFS`).
const PATIENCE: Duration = Duration::from_secs(10);

/// A message from the kernel, without its header.
#[derive(Debug, Clone)]
pub struct Reply {
    /// `RTM_*` and the like.
    pub kind: u16,
    body: Vec<u8>,
}

impl Reply {
    /// The fixed part.
    pub fn fixed<const N: usize>(&self) -> Option<&[u8; N]> {
        self.body.first_chunk()
    }

    /// The attributes after a fixed part of `length` bytes.
    pub fn attributes(&self, length: usize) -> Attributes<'_> {
        Attributes::new(self.body.get(length.next_multiple_of(4)..).unwrap_or_default())
    }
}

/// A conversation with the kernel about one namespace.
#[derive(Debug)]
pub struct Socket {
    descriptor: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    /// About links, addresses, routes (`rtnetlink(7)`) of `namespace`.
    pub fn route(namespace: &Namespace) -> Result<Self> {
        Self::open(namespace, None, &[])
    }

    /// About packet rules (nftables) of `namespace`.
    pub fn netfilter(namespace: &Namespace) -> Result<Self> {
        Self::open(namespace, Some(netlink::NETFILTER), &[])
    }

    fn open(namespace: &Namespace, protocol: Option<Protocol>, groups: &[i32]) -> Result<Self> {
        let descriptor = namespace
            .within(|| sys::netlink::open(protocol, groups))?
            .map_err(Error::io("open a netlink socket"))?;
        sockopt::set_socket_timeout(&descriptor, sockopt::Timeout::Recv, Some(PATIENCE))
            .map_err(Error::io("set a netlink socket up"))?;
        // A dump's piece is at most this long since Linux 4.8.
        Ok(Self { descriptor, sequence: 0, buffer: vec![0; 64 << 10] })
    }

    /// Asks for something to be done and waits for it. `what`, in the infinitive, is for the error.
    pub fn change(&mut self, message: Message, what: impl FnOnce() -> String) -> Result<()> {
        self.ask(message, flag::ACK, what).map(drop)
    }

    /// Asks a question; the answers are one, or those of a dump.
    pub fn get(&mut self, message: Message, what: impl FnOnce() -> String) -> Result<Vec<Reply>> {
        let more = if message.is_dump() { 0 } else { flag::ACK };
        self.ask(message, more, what)
    }

    fn ask(&mut self, message: Message, flags: u16, what: impl FnOnce() -> String) -> Result<Vec<Reply>> {
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        self.send(&message.finish(sequence, flags))?;
        let mut replies = Vec::new();
        loop {
            for answer in self.receive(sequence)? {
                match answer {
                    Answer::Data(reply) => replies.push(reply),
                    Answer::End => return Ok(replies),
                    Answer::Refused(errno, said) => {
                        return Err(Error::Refused { what: what(), errno, said });
                    }
                }
            }
        }
    }

    pub(crate) fn send(&self, bytes: &[u8]) -> Result<()> {
        send(&self.descriptor, bytes, SendFlags::empty()).map(drop).map_err(Error::io("send to the kernel"))
    }

    pub(crate) fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    fn receive(&mut self, sequence: u32) -> Result<Vec<Answer>> {
        Ok(self.receive_numbered(sequence)?.into_iter().map(|(_, answer)| answer).collect())
    }

    /// One datagram's messages that answer the request `sequence` or a later one; what is older is skipped.
    pub(crate) fn receive_numbered(&mut self, sequence: u32) -> Result<Vec<(u32, Answer)>> {
        let length = receive_into(&self.descriptor, &mut self.buffer)?;
        let messages = Messages(&self.buffer[..length]);
        let later = messages.filter(|raw| raw.sequence.wrapping_sub(sequence) < u32::MAX / 2);
        Ok(later.map(|raw| (raw.sequence, raw.read())).collect())
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

fn receive_into(socket: &OwnedFd, buffer: &mut [u8]) -> Result<usize> {
    loop {
        match recv(socket, &mut *buffer, RecvFlags::empty()) {
            Err(Errno::INTR) => {}
            other => return other.map(|(length, _)| length).map_err(Error::io("hear from the kernel")),
        }
    }
}

/// What one message says.
#[derive(Debug)]
pub(crate) enum Answer {
    Data(Reply),
    /// Done, or the end of a dump.
    End,
    Refused(Errno, String),
}

struct Raw<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    body: &'a [u8],
}

impl Raw<'_> {
    fn read(self) -> Answer {
        let number = || self.body.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
        match self.kind {
            ERROR | DONE => match number() {
                0 => Answer::End,
                number => Answer::Refused(Errno::from_raw_os_error(number.saturating_neg()), self.reason()),
            },
            kind => Answer::Data(Reply { kind, body: self.body.to_vec() }),
        }
    }

    /// Behind the error's number and the header of the request; without `CAPPED`, behind the whole request.
    fn reason(&self) -> String {
        if self.flags & ACK_TLVS == 0 {
            return String::new();
        }
        let request = self.body.get(4..8).and_then(|bytes| bytes.try_into().ok());
        let request = request.map_or(HEADER, |bytes| u32::from_ne_bytes(bytes) as usize);
        let skip = match (self.kind, self.flags & CAPPED) {
            (DONE, _) => 4,
            (_, 0) => 4 + request.next_multiple_of(4),
            _ => 4 + HEADER,
        };
        Attributes::new(self.body.get(skip..).unwrap_or_default()).text(REASON).unwrap_or_default()
    }
}

/// The messages of one datagram.
struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Raw<'a>;

    fn next(&mut self) -> Option<Raw<'a>> {
        let header: &[u8; HEADER] = self.0.first_chunk()?;
        let word =
            |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let half = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
        let length = word(0) as usize;
        let body = self.0.get(HEADER..length)?;
        let raw = Raw { kind: half(4), flags: half(6), sequence: word(8), body };
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(raw)
    }
}

/// Hears of changes that others make.
#[derive(Debug)]
pub struct Listener {
    descriptor: OwnedFd,
    buffer: Vec<u8>,
}

impl Listener {
    /// Changes of links, addresses and routes in `namespace`; `groups` are `RTNLGRP_*`.
    pub fn route(namespace: &Namespace, groups: &[i32]) -> Result<Self> {
        Self::open(namespace, None, groups)
    }

    /// Changes of packet rules in `namespace` (`NFNLGRP_NFTABLES`).
    pub fn netfilter(namespace: &Namespace) -> Result<Self> {
        Self::open(namespace, Some(netlink::NETFILTER), &[7])
    }

    fn open(namespace: &Namespace, protocol: Option<Protocol>, groups: &[i32]) -> Result<Self> {
        let descriptor = namespace
            .within(|| sys::netlink::open(protocol, groups))?
            .map_err(Error::io("open a netlink socket"))?;
        Ok(Self { descriptor, buffer: vec![0; 64 << 10] })
    }

    /// Waits for the next changes. Empty when some were lost: look for yourself what has changed.
    pub fn hear(&mut self) -> Result<Vec<Reply>> {
        match recv(&self.descriptor, &mut self.buffer[..], RecvFlags::empty()) {
            Err(Errno::NOBUFS | Errno::INTR) => Ok(Vec::new()),
            Err(error) => Err(Error::io("hear from the kernel")(error)),
            Ok((length, _)) => {
                let messages = Messages(&self.buffer[..length]);
                Ok(messages.map(|raw| Reply { kind: raw.kind, body: raw.body.to_vec() }).collect())
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}
