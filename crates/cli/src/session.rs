//! One session with a process in a container over a hijacked connection: what is typed goes in, what it says comes
//! out, and the keys that detach are watched for.
//!
//! The copying is done by plain threads on blocking descriptors: nothing is shorter, and nothing is faster.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::client::Hijacked;
use crate::terminal::{self, Plain, Raw, Split};
use crate::words::keys::{self, Watch};

/// What goes through.
#[derive(Debug, Clone)]
pub(crate) struct Wiring {
    /// Send standard input.
    pub(crate) input: bool,
    /// Show standard output.
    pub(crate) output: bool,
    /// Show standard error.
    pub(crate) error: bool,
    /// The other side is a terminal: output is not in frames, and raw mode is entered when ours is one too.
    pub(crate) tty: bool,
    /// Bytes that detach; only watched for with a terminal.
    pub(crate) detach: Vec<u8>,
}

impl Wiring {
    /// The sequence a user named, or the usual one.
    pub(crate) fn detach_keys(named: Option<&str>) -> Result<Vec<u8>, String> {
        keys::parse(named.filter(|text| !text.is_empty()).unwrap_or(keys::DEFAULT))
    }
}

/// How a session ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The other side closed.
    Closed,
    /// The user left.
    Detached,
}

/// A running session.
#[derive(Debug)]
pub(crate) struct Session {
    output: oneshot::Receiver<io::Result<()>>,
    detached: oneshot::Receiver<()>,
    raw: Option<Raw>,
}

impl Session {
    /// Starts copying.
    pub(crate) fn start(connection: Hijacked, wiring: &Wiring) -> io::Result<Session> {
        // Only read, write and shutdown are used, which TCP sockets take as well.
        let socket = Arc::new(UnixStream::from(connection.socket));
        let raw = if wiring.tty && wiring.input && terminal::input_is_terminal() {
            Some(Raw::enter()?)
        } else {
            None
        };
        let (said, output) = oneshot::channel();
        let (left, detached) = oneshot::channel();
        let (from, framed, early) = (Arc::clone(&socket), !wiring.tty, connection.early);
        let shown = (wiring.output, wiring.error);
        spawn("output", move || {
            // The receiver is gone when the session was left.
            let _ = said.send(show(&from, framed, &early, shown));
        })?;
        if wiring.input {
            let watch = wiring.tty.then(|| Watch::new(wiring.detach.clone()));
            spawn("input", move || {
                if let Ok(true) = send(&socket, watch) {
                    let _ = left.send(());
                } else {
                    // Keeps the other end of the channel waiting for as long as the process lives.
                    std::mem::forget(left);
                }
            })?;
        } else {
            std::mem::forget(left);
            // Nothing will be sent: a program that reads sees the end.
            let _ = socket.shutdown(Shutdown::Write);
        }
        Ok(Session { output, detached, raw })
    }

    /// Waits until the other side closes or the user leaves, and gives the terminal back.
    pub(crate) async fn ended(&mut self) -> io::Result<Ended> {
        let ended = tokio::select! {
            biased;
            done = &mut self.output => done.unwrap_or(Ok(())).map(|()| Ended::Closed),
            Ok(()) = &mut self.detached => Ok(Ended::Detached),
        };
        self.raw.take();
        ended
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name(name.into()).stack_size(256 * 1024).spawn(work).map(drop)
}

fn show(mut socket: &UnixStream, framed: bool, early: &[u8], (out, err): (bool, bool)) -> io::Result<()> {
    let mut split = Split::new(out, err);
    let mut plain = if out { Plain::Out } else { Plain::Closed };
    let mut pass = |bytes: &[u8]| {
        if framed { split.feed(bytes) } else { plain.write_all(bytes) }
    };
    pass(early)?;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match socket.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => pass(&buffer[..n])?,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            // The daemon may reset a connection whose input it did not read to the end.
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
            Err(e) => return Err(e),
        }
    }
}

/// Sends standard input until it ends; true when the user typed the keys that detach.
fn send(socket: &UnixStream, mut watch: Option<Watch>) -> io::Result<bool> {
    let mut input = File::from(rustix::io::dup(io::stdin())?);
    let mut buffer = vec![0; 32 * 1024];
    let mut sift = Vec::new();
    let mut socket = socket;
    loop {
        let n = match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        let mut left = false;
        let bytes = match &mut watch {
            Some(watch) => {
                sift.clear();
                left = watch.pass(&buffer[..n], &mut sift);
                sift.as_slice()
            }
            None => &buffer[..n],
        };
        socket.write_all(bytes)?;
        if left {
            return Ok(true);
        }
    }
    // Half of the connection stays open: the program sees the end of its input and may still answer.
    socket.shutdown(Shutdown::Write)?;
    Ok(false)
}
