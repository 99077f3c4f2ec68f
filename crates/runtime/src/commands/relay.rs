//! In the foreground: signals are handed on, and a terminal is relayed to ours.

use std::{
    io::IoSliceMut,
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::{Errno, read, write},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType,
        recvmsg, socketpair,
    },
    stdio::{stdin, stdout},
    termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize},
};

use super::{Context, notify::Notify};
use crate::{
    error::{During, Error, Result},
    launch::{self, Born},
    spec,
};

const SIGCHLD: u32 = 17;
const SIGWINCH: u32 = 28;

/// Both ends of a console socket of our own.
pub(super) fn pair() -> Result<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .during(|| "make a console socket")
}

/// The same for `run`, if the process has a terminal and no socket was named.
pub(super) fn socket(context: &Context) -> Result<Option<(OwnedFd, OwnedFd)>> {
    if context.call.has("console-socket") {
        return Ok(None);
    }
    let bundle = context.call.value("bundle").unwrap_or(".");
    let spec = spec::load(std::path::Path::new(bundle))?;
    if spec.process.is_some_and(|process| process.terminal) { pair().map(Some) } else { Ok(None) }
}

/// What there is to do.
#[allow(clippy::struct_excessive_bools)] // Each is one descriptor.
struct Seen {
    ended: bool,
    signalled: bool,
    typed: bool,
    printed: bool,
    notified: bool,
}

/// A process in the foreground.
pub(super) struct Relay {
    signals: OwnedFd,
    master: Option<OwnedFd>,
    _raw: Option<Raw>,
}

impl Relay {
    /// Begins to hold signals back, and takes the terminal that waits at `console`.
    pub(super) fn begin(console: Option<OwnedFd>) -> Result<Self> {
        sys::process::block_signals().during(|| "block signals")?;
        let signals = sys::process::signal_fd().during(|| "open a signalfd")?;
        let master = console.map(|socket| receive(&socket)).transpose()?;
        let raw = master.as_ref().and_then(|_| Raw::begin());
        let relay = Self { signals, master, _raw: raw };
        relay.resize();
        Ok(relay)
    }

    fn resize(&self) {
        if let (Some(master), Ok(size)) = (&self.master, tcgetwinsize(stdin())) {
            let _ = tcsetwinsize(master, size);
        }
    }

    /// Until the process has ended and its terminal is drained; its exit code.
    pub(super) fn serve(mut self, born: &Born, mut notify: Option<Notify>) -> Result<i32> {
        let mut input = self.master.is_some();
        loop {
            let Seen { ended, signalled, typed, printed, notified } =
                self.wait(born, input, notify.as_ref())?;
            if signalled {
                self.hand_on(born);
            }
            if notified
                && let Some(told) = &notify
                && told.hear(0)?
            {
                notify = None;
            }
            if typed {
                input = self.master.as_ref().is_some_and(|master| copy(stdin(), master.as_fd()));
            }
            if printed && !self.master.as_ref().is_some_and(|master| copy(master.as_fd(), stdout())) {
                self.master = None;
            }
            if ended && !printed {
                return launch::wait(born);
            }
        }
    }

    fn wait(&self, born: &Born, input: bool, notify: Option<&Notify>) -> Result<Seen> {
        let master = self.master.as_ref().map(AsFd::as_fd);
        let watched = [
            Some(born.pidfd.as_fd()),
            Some(self.signals.as_fd()),
            master,
            (input && master.is_some()).then(stdin),
            notify.map(Notify::fd),
        ];
        let mut fds: Vec<PollFd<'_>> =
            watched.iter().flatten().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(Error::refused("poll", &error.into())),
        }
        let mut seen = fds.iter().map(|fd| !fd.revents().is_empty());
        let [ended, signalled, printed, typed, notified] =
            watched.map(|fd| fd.is_some() && seen.next() == Some(true));
        Ok(Seen { ended, signalled, typed, printed, notified })
    }

    fn hand_on(&self, born: &Born) {
        // `struct signalfd_siginfo` begins with the number and is 128 bytes long.
        let mut info = [0_u8; 128];
        let Ok(128) = read(&self.signals, &mut info) else {
            return;
        };
        match u32::from_ne_bytes([info[0], info[1], info[2], info[3]]) {
            SIGCHLD => {}
            SIGWINCH if self.master.is_some() => self.resize(),
            signal => {
                let _ = sys::process::signal(born.pidfd.as_fd(), signal as i32);
            }
        }
    }
}

/// One read's worth; false at the end.
fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> bool {
    let mut buffer = [0; 8192];
    match read(from, &mut buffer) {
        Ok(0) => false,
        Ok(length) => {
            let mut rest = &buffer[..length];
            while !rest.is_empty() {
                match write(to, rest) {
                    Ok(written) => rest = &rest[written..],
                    Err(Errno::INTR) => {}
                    Err(_) => return false,
                }
            }
            true
        }
        Err(Errno::INTR | Errno::AGAIN) => true,
        // A terminal whose other ends are closed answers EIO.
        Err(_) => false,
    }
}

fn receive(socket: &OwnedFd) -> Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut name = [0; 256];
    recvmsg(socket, &mut [IoSliceMut::new(&mut name)], &mut control, RecvFlags::CMSG_CLOEXEC)
        .during(|| "receive the terminal")?;
    let mut messages = control.drain();
    let found = messages.find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    found.ok_or_else(|| Error::new("receive the terminal: no descriptor came"))
}

/// Our own terminal hands every key on, until this goes out of scope.
struct Raw(Termios);

impl Raw {
    fn begin() -> Option<Self> {
        let before = tcgetattr(stdin()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Now, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.0);
    }
}
