//! The terminal: raw mode that is always undone, its size, and plain descriptors to write to.

use std::io::{self, IsTerminal, Write};
use std::sync::Mutex;

use api::stdcopy::{Demux, Stream};
use rustix::termios::{self, OptionalActions, Termios};

/// What standard input looked like before raw mode; the panic hook needs it as well as the guard.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// Raw mode on standard input, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Raw(());

impl Raw {
    /// Enters raw mode. A panic leaves it too: release builds abort and run no destructors.
    pub(crate) fn enter() -> io::Result<Raw> {
        let before = termios::tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        let first = BEFORE
            .lock()
            .map(|mut slot| slot.replace(before).is_none())
            .unwrap_or(false);
        if first {
            let report = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                restore();
                report(info);
            }));
        }
        Ok(Raw(()))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

/// Puts standard input back as it was before raw mode, if it was left.
pub(crate) fn restore() {
    if let Ok(slot) = BEFORE.lock()
        && let Some(before) = slot.as_ref()
    {
        // Nothing can be done, and nobody told, when the terminal has gone.
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, before);
    }
}

/// Rows and columns of the terminal at standard output.
pub(crate) fn size() -> Option<(u16, u16)> {
    let size = termios::tcgetwinsize(io::stdout()).ok()?;
    (size.ws_row > 0 || size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

/// Whether standard input is a terminal.
pub(crate) fn input_is_terminal() -> bool {
    io::stdin().is_terminal()
}

/// Whether standard output is a terminal.
pub(crate) fn output_is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// A standard descriptor without the library's line buffer: what a container writes appears as it was written.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Plain {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
    /// Nowhere: a stream that was not asked for.
    Closed,
}

impl Write for Plain {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(match self {
            Plain::Out => rustix::io::write(io::stdout(), bytes)?,
            Plain::Err => rustix::io::write(io::stderr(), bytes)?,
            Plain::Closed => bytes.len(),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Takes a framed stream apart, onto standard output and standard error.
#[derive(Debug)]
pub(crate) struct Split {
    demux: Demux,
    out: Plain,
    err: Plain,
}

impl Split {
    /// Shows the streams that are asked for and drops the others.
    pub(crate) fn new(out: bool, err: bool) -> Split {
        Split {
            demux: Demux::default(),
            out: if out { Plain::Out } else { Plain::Closed },
            err: if err { Plain::Err } else { Plain::Closed },
        }
    }

    /// Passes one chunk on; a frame of the system's stream is the daemon's own error.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Split { demux, out, err } = self;
        let mut done = Ok(());
        let framed = demux.feed(bytes, |stream, piece| {
            if done.is_ok() {
                done = match stream {
                    Stream::Stdin | Stream::Stdout => out.write_all(piece),
                    Stream::Stderr => err.write_all(piece),
                    Stream::System => Err(io::Error::other(format!(
                        "error from daemon in stream: {}",
                        String::from_utf8_lossy(piece)
                    ))),
                };
            }
        });
        framed.map_err(io::Error::other)?;
        done
    }
}
