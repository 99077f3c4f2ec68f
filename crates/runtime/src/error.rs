//! What went wrong: what was being done, on what, the kernel's word for it, and where known the remedy.

use std::{fmt, io};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// `what: ERRNO: hint`, or a message that clients read as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    message: String,
    /// The kernel's number, if it was the kernel that refused.
    pub errno: Option<i32>,
}

/// The newest of the calls without which nothing is confined is `mount_setattr`.
const TOO_OLD: &str = "this kernel is too old: clone3, pidfd_open, openat2, fsopen, close_range and mount_setattr are needed, \
                       all of which Linux 5.12 has";

/// Results of this room.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of our own.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), errno: None }
    }

    /// The kernel refused to do `what`.
    pub fn refused(what: impl fmt::Display, error: &io::Error) -> Self {
        let refused =
            Self { message: format!("{what}: {}", sys::errno::name(error)), errno: error.raw_os_error() };
        refused.hint_on(Errno::NOSYS, TOO_OLD)
    }

    /// Adds what may be the reason and what helps.
    #[must_use]
    pub fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.message = format!("{}: {hint}", self.message);
        self
    }

    /// Says what was being done when this happened.
    #[must_use]
    pub fn during(mut self, what: impl fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// Adds `hint` if the kernel's number was `errno`.
    #[must_use]
    pub fn hint_on(self, errno: Errno, hint: impl fmt::Display) -> Self {
        if self.errno == Some(errno.raw_os_error()) { self.hint(hint) } else { self }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// Says what was being done when the kernel refused.
pub trait During<T> {
    /// See [`Error::refused`]; `what` is only asked for on failure.
    fn during<D: fmt::Display>(self, what: impl FnOnce() -> D) -> Result<T>;
}

impl<T, E: Into<io::Error>> During<T> for std::result::Result<T, E> {
    fn during<D: fmt::Display>(self, what: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|error| Error::refused(what(), &error.into()))
    }
}
