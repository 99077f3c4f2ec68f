//! One client: what it has sent and is not yet understood, and what it has not yet taken.

use std::{
    collections::VecDeque,
    io::IoSlice,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    buffer::spare_capacity,
    event::PollFlags,
    io::{Errno, read, writev},
};
use serde::Serialize;

use crate::{
    protocol::{MAX_FRAME, STDERR, STDOUT, Streams},
    wire,
};

/// What a connection carries now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Requests and replies.
    Requests,
    /// Nothing: a request is being worked on.
    Waiting,
    /// Frames, from and to this process.
    Stream { process: u64, streams: Streams },
    /// Events.
    Watch,
}

/// A client.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: OwnedFd,
    pub(crate) mode: Mode,
    /// Received and not yet understood.
    pub(crate) input: Vec<u8>,
    backlog: VecDeque<u8>,
    /// The client sends no more.
    pub(crate) ended: bool,
    /// The client takes no more.
    gone: bool,
    /// To be closed once the backlog is sent.
    pub(crate) closing: bool,
}

impl Connection {
    /// A client behind a non-blocking `socket`.
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            mode: Mode::Requests,
            input: Vec::new(),
            backlog: VecDeque::new(),
            ended: false,
            gone: false,
            closing: false,
        }
    }

    pub(crate) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Bytes that it has not taken yet.
    pub(crate) fn pending(&self) -> usize {
        self.backlog.len()
    }

    /// What to wait for; none to leave it out of the poll.
    pub(crate) fn interest(&self, stdin_is_full: bool) -> Option<PollFlags> {
        let held_back = match self.mode {
            Mode::Waiting => true,
            Mode::Stream { .. } => stdin_is_full,
            Mode::Requests | Mode::Watch => false,
        };
        let mut flags = PollFlags::empty();
        if !self.ended && !self.closing && !held_back {
            flags |= PollFlags::IN;
        }
        if !self.backlog.is_empty() {
            flags |= PollFlags::OUT;
        }
        // A client that left while its input is held back would report its hang-up without pause. One that only
        // ended its sending is watched for it.
        (!flags.is_empty() || self.ended).then_some(flags)
    }

    /// Whether it can be forgotten.
    pub(crate) fn is_over(&self) -> bool {
        let streaming = matches!(self.mode, Mode::Stream { .. });
        let idle = self.backlog.is_empty() && !streaming && self.mode != Mode::Waiting;
        let unread = streaming && !self.ended;
        (self.gone && !unread) || (self.closing && self.backlog.is_empty()) || (self.ended && idle)
    }

    /// The client left altogether.
    pub(crate) fn hung_up(&mut self) {
        self.gone = true;
        self.backlog = VecDeque::new();
    }

    /// Ends the connection at once: what came over it makes no sense.
    pub(crate) fn refuse(&mut self) {
        self.ended = true;
        self.closing = true;
        self.hung_up();
    }

    /// Reads once, by way of `scratch`.
    pub(crate) fn receive(&mut self, scratch: &mut Vec<u8>) {
        scratch.clear();
        scratch.reserve(MAX_FRAME as usize);
        match read(&self.socket, spare_capacity(scratch)) {
            Ok(0) => self.ended = true,
            Ok(_) => self.input.extend_from_slice(scratch),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => {
                self.ended = true;
                self.hung_up();
            }
        }
    }

    /// Drops the first `count` bytes of the input.
    pub(crate) fn consume(&mut self, count: usize) {
        if count == self.input.len() {
            self.input = Vec::new();
        } else {
            self.input.drain(..count);
        }
    }

    /// Sends a message.
    pub(crate) fn tell(&mut self, value: &impl Serialize) {
        match wire::message(value) {
            Ok(bytes) => self.send(&[&bytes]),
            Err(_) => self.refuse(),
        }
    }

    /// Sends output of the process if the client wants it.
    pub(crate) fn stream(&mut self, from: u64, kind: u8, bytes: &[u8]) {
        let Mode::Stream { process, streams } = self.mode else {
            return;
        };
        let wanted = (streams.stdout && kind == STDOUT) || (streams.stderr && kind == STDERR);
        if process != from || !wanted || self.closing {
            return;
        }
        for part in bytes.chunks(MAX_FRAME as usize) {
            self.send(&[&wire::frame_header(kind, part.len() as u32), part]);
        }
    }

    /// Sends what it can of the backlog; whether the client took something.
    pub(crate) fn flush(&mut self) -> bool {
        let mut backlog = std::mem::take(&mut self.backlog);
        let (front, back) = backlog.as_slices();
        let taken = self.write(&[IoSlice::new(front), IoSlice::new(back)]);
        if !self.gone {
            backlog.drain(..taken);
            self.backlog = backlog;
        }
        taken > 0
    }

    /// Gives memory back that a burst has left.
    pub(crate) fn shrink(&mut self) {
        self.backlog.shrink_to_fit();
        self.input.shrink_to_fit();
    }

    fn send(&mut self, parts: &[&[u8]]) {
        if self.gone {
            return;
        }
        let mut taken = 0;
        if self.backlog.is_empty() {
            let slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
            taken = self.write(&slices);
        }
        for part in parts {
            let skipped = taken.min(part.len());
            taken -= skipped;
            if !self.gone {
                self.backlog.extend(&part[skipped..]);
            }
        }
    }

    /// How many bytes the socket took now.
    fn write(&mut self, slices: &[IoSlice<'_>]) -> usize {
        match writev(self.socket.as_fd(), slices) {
            Ok(taken) => taken,
            Err(Errno::AGAIN | Errno::INTR) => 0,
            Err(_) => {
                self.hung_up();
                0
            }
        }
    }
}
