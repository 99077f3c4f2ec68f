//! What the two halves of the runtime say to each other while a container is made: lines of JSON over a socket pair.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use trace::Timeline;

use crate::error::{During, Error, Result};

/// From the child.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Message {
    /// The parent must do something before the child can go on.
    Ask(String),
    /// Everything before the start is done.
    Ready(Timeline),
    /// The filter that is loaded next has its listener at this descriptor; a byte there says that it was taken.
    Listener {
        /// The descriptor's number.
        number: i32,
        /// An address in the process.
        taken_at: u64,
    },
    /// A step failed; the child ends.
    Failed(Error, Timeline),
}

/// Longer than any timeline; what a process in a container may say must not become the memory of one outside.
const LONGEST: u64 = 64 << 20;

/// One end.
#[derive(Debug)]
pub struct Channel(BufReader<UnixStream>);

impl Channel {
    /// Both ends.
    pub fn pair() -> Result<(Self, Self)> {
        let (ours, theirs) = UnixStream::pair().during(|| "make a socket pair")?;
        Ok((Self::new(ours), Self::new(theirs)))
    }

    /// Over a connection.
    pub fn new(stream: UnixStream) -> Self {
        Self(BufReader::with_capacity(4096, stream))
    }

    /// Says something.
    pub fn say(&mut self, message: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(message).map_err(|error| Error::new(format!("encode: {error}")))?;
        line.push(b'\n');
        self.0.get_mut().write_all(&line).during(|| "write to the other half of the runtime")
    }

    /// Waits for what the other end says; `None` when it is gone.
    pub fn hear<T: DeserializeOwned>(&mut self) -> Result<Option<T>> {
        let mut line = Vec::new();
        let length = match self.0.by_ref().take(LONGEST + 1).read_until(b'\n', &mut line) {
            // The other end was killed with something unread.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => 0,
            other => other.during(|| "read from the other half of the runtime")?,
        };
        if length == 0 {
            return Ok(None);
        }
        if length as u64 > LONGEST {
            return Err(Error::new("the other half of the runtime: what it says is too long"));
        }
        let heard = serde_json::from_slice(&line);
        heard.map(Some).map_err(|error| Error::new(format!("the other half of the runtime: {error}")))
    }

    /// Whether something is there to be heard, at the latest after `patience`.
    pub fn has_news(&self, patience: Duration) -> bool {
        let limit = Timespec {
            tv_sec: patience.as_secs().cast_signed(),
            tv_nsec: i64::from(patience.subsec_nanos()),
        };
        !self.0.buffer().is_empty()
            || poll(&mut [PollFd::new(self.0.get_ref(), PollFlags::IN)], Some(&limit))
                .is_ok_and(|ready| ready > 0)
    }

    /// Hands a descriptor over, before what is said next.
    pub fn give(&self, fd: impl AsFd) -> Result<()> {
        sys::fdpass::send_fd(self.0.get_ref(), fd)
            .during(|| "send a descriptor to the other half of the runtime")
    }

    /// The child: asks the parent for a descriptor.
    pub fn ask_fd(&mut self, what: &str) -> Result<OwnedFd> {
        self.say(&Message::Ask(what.to_owned()))?;
        let given = sys::fdpass::recv_fd(self.0.get_ref()).during(|| format!("receive {what}"))?;
        let given = given.ok_or_else(|| Error::new(format!("{what}: the runtime gave up")))?;
        self.answered(what)?;
        Ok(given)
    }

    /// The child: asks the parent for something and waits until it is done.
    pub fn ask(&mut self, what: &str) -> Result<()> {
        self.say(&Message::Ask(what.to_owned()))?;
        self.answered(what)
    }

    fn answered(&mut self, what: &str) -> Result<()> {
        match self.hear::<bool>()? {
            Some(true) => Ok(()),
            _ => Err(Error::new(format!("{what}: the runtime gave up"))),
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }
}

#[cfg(test)]
mod tests;
