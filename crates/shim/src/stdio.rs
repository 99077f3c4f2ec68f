//! A process's standard streams: pipes, or one terminal.

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    process::Stdio,
};

use oci::spec::ConsoleSize;
use rustix::{
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    io::{Errno, write},
    net::accept,
    pipe::{PipeFlags, fcntl_setpipe_size, pipe_with},
    termios::{Winsize, isatty, tcsetwinsize},
};

/// A client's input is left in its socket while this much waits for the process.
const STDIN_FULL: usize = 64 << 10;
/// Room in an output pipe: fewer turns for a busy writer, nothing for a quiet one.
const PIPE_SIZE: usize = 256 << 10;

/// Our ends.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    /// Standard input, until it is closed.
    pub(crate) input: Option<OwnedFd>,
    queue: VecDeque<u8>,
    /// Close it once the queue is written.
    close_input: bool,
    /// Standard output (or the terminal) and standard error, until their ends.
    pub(crate) outputs: [Option<OwnedFd>; 2],
    terminal: bool,
}

/// The process's ends.
#[derive(Debug)]
pub(crate) struct Theirs {
    pub(crate) input: Stdio,
    pub(crate) output: Stdio,
    pub(crate) error: Stdio,
}

impl Streams {
    /// New pipes; without `input` the process reads `/dev/null`.
    pub(crate) fn pipes(input: bool) -> io::Result<(Self, Theirs)> {
        let (output, their_output) = output_pipe()?;
        let (error, their_error) = output_pipe()?;
        let mut ours = Self { outputs: [Some(output), Some(error)], ..Self::default() };
        let mut their_input = Stdio::null();
        if input {
            let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
            unblock(&writer)?;
            their_input = reader.into();
            ours.input = Some(writer);
        }
        let theirs = Theirs { input: their_input, output: their_output.into(), error: their_error.into() };
        Ok((ours, theirs))
    }

    /// The terminal whose main side waits in the queue of `listener`, sent by the runtime.
    pub(crate) fn terminal(listener: &OwnedFd) -> io::Result<Self> {
        let missing = |what: &str| io::Error::new(io::ErrorKind::NotFound, what.to_owned());
        let socket = accept(listener).map_err(|_| missing("the runtime sent no terminal"))?;
        unblock(&socket)?;
        let main = sys::fdpass::recv_fd(&socket)?.ok_or_else(|| missing("the runtime sent no descriptor"))?;
        if !isatty(&main) {
            return Err(missing("what the runtime sent is not a terminal"));
        }
        unblock(&main)?;
        let input = rustix::io::fcntl_dupfd_cloexec(&main, 3)?;
        Ok(Self { input: Some(input), outputs: [Some(main), None], terminal: true, ..Self::default() })
    }

    /// Whether every byte of output has been read.
    pub(crate) fn drained(&self) -> bool {
        self.outputs.iter().all(Option::is_none)
    }

    /// Whether clients must wait with more input.
    pub(crate) fn input_is_full(&self) -> bool {
        self.queue.len() >= STDIN_FULL
    }

    /// Whether there is something to write.
    pub(crate) fn input_waits(&self) -> bool {
        self.input.is_some() && !self.queue.is_empty()
    }

    /// Takes a client's input; what comes after the end goes nowhere, as into a closed pipe.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        if self.input.is_some() && !self.close_input {
            self.queue.extend(bytes);
            self.flush_input();
        }
    }

    /// Ends standard input after what was fed. A terminal has no end: its user types Ctrl-D.
    pub(crate) fn end_input(&mut self) {
        if !self.terminal {
            self.close_input = true;
            self.flush_input();
        }
    }

    /// Writes what the process takes now.
    pub(crate) fn flush_input(&mut self) {
        let Some(input) = &self.input else {
            return;
        };
        while !self.queue.is_empty() {
            match write(input, self.queue.as_slices().0) {
                Ok(taken) => drop(self.queue.drain(..taken)),
                Err(Errno::AGAIN | Errno::INTR) => break,
                // The process closed its end.
                Err(_) => return self.drop_input(),
            }
        }
        if self.queue.is_empty() && self.close_input {
            self.drop_input();
        }
    }

    /// Closes standard input now.
    pub(crate) fn drop_input(&mut self) {
        self.input = None;
        self.queue = VecDeque::new();
    }

    /// Marks the end of an output; a terminal's is the end of its input too.
    pub(crate) fn end_output(&mut self, index: usize) {
        self.outputs[index] = None;
        if self.terminal {
            self.drop_input();
        }
    }

    /// Sets the terminal's size; false without a terminal.
    pub(crate) fn resize(&self, size: ConsoleSize) -> io::Result<bool> {
        let (true, Some(main)) = (self.terminal, &self.outputs[0]) else {
            return Ok(false);
        };
        let size = Winsize { ws_row: size.height, ws_col: size.width, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(main, size)?;
        Ok(true)
    }

    /// Gives memory back that a burst has left.
    pub(crate) fn shrink(&mut self) {
        self.queue.shrink_to_fit();
    }
}

/// Where a runtime sends a terminal.
pub(crate) fn console_listener(path: &Path) -> io::Result<OwnedFd> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    sys::fdpass::listen_at(path, 1)
}

/// Makes reads and writes return at once.
pub(crate) fn unblock(descriptor: impl AsFd) -> io::Result<()> {
    let flags = fcntl_getfl(&descriptor)?;
    Ok(fcntl_setfl(descriptor, flags | OFlags::NONBLOCK)?)
}

/// Our non-blocking reading end, and the writing end.
fn output_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    unblock(&reader)?;
    // Refused to users who hold many pipes; the usual size does as well.
    let _ = fcntl_setpipe_size(&reader, PIPE_SIZE);
    Ok((reader, writer))
}
