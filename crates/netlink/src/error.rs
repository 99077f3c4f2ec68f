//! What went wrong: what was asked, the kernel's number, and its reason where it gives one.

use rustix::io::Errno;

/// Results of this room.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused a request.
    #[error("{what}: {}{}", sys::errno::name(&std::io::Error::from(*errno)), reason(said))]
    Refused {
        /// In the infinitive, with the object.
        what: String,
        /// Its number.
        errno: Errno,
        /// Its own words, often empty.
        said: String,
    },
    /// The socket or the namespace failed, not the request.
    #[error("{what}: {source}")]
    Io {
        /// In the infinitive.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// The kernel's answer makes no sense.
    #[error("{what}: the kernel's answer is malformed")]
    Malformed {
        /// What was asked.
        what: String,
    },
}

fn reason(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(" (the kernel says: {said})") }
}

impl Error {
    /// The kernel's number, if it refused a request.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused { errno, .. } => Some(*errno),
            _ => None,
        }
    }

    /// For `map_err` after a system call.
    pub(crate) fn io<E: Into<std::io::Error>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Io { what, source: error.into() }
    }
}

/// Takes a refusal of the given kind for done: what is there already, or gone already.
pub(crate) fn unless<T: Default>(result: Result<T>, expected: Errno) -> Result<T> {
    match result {
        Err(error) if error.errno() == Some(expected) => Ok(T::default()),
        other => other,
    }
}
