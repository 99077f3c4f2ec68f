//! What can go wrong, by what the caller does about it.

use std::io;

/// The end of a command that did not go well.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The daemon said no.
    #[error("Error response from daemon: {message}")]
    Daemon {
        /// HTTP's status.
        status: u16,
        /// The daemon's words.
        message: String,
    },
    /// Nobody answers at the address.
    #[error("{0}")]
    Connect(String),
    /// Anything that is only to be shown.
    #[error("{0}")]
    Message(String),
    /// Reading or writing failed; a closed standard output ends the program quietly.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The connection to the daemon broke.
    #[error("the connection to the daemon broke: {0}")]
    Http(#[from] hyper::Error),
    /// A message, and the exit code that goes with it.
    #[error("{message}")]
    Status {
        /// Shown as it is.
        message: String,
        /// The program's exit code.
        code: u8,
    },
}

/// What every step of a command returns.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Whether the daemon answered 404.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Error::Daemon { status: 404, .. })
    }
}

/// A message as an error.
pub(crate) fn message(text: impl Into<String>) -> Error {
    Error::Message(text.into())
}
