//! The few kinds of failure, chosen by what callers do about them.

use std::{fmt, io, path::Path};

/// What a caller can do about it; `daemon` maps each to one HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Name another object.
    NotFound,
    /// Something stands in the way: a name in use, a state that forbids it.
    Conflict,
    /// It already is as asked.
    NotModified,
    /// Ask differently.
    Invalid,
    /// Say who you are.
    Unauthorized,
    /// Not allowed.
    Forbidden,
    /// Try later.
    Unavailable,
    /// This engine, kernel or host cannot do it.
    Unsupported,
    /// A failure of the host or of knarr.
    Internal,
}

/// A failure of one verb: names the object, starts lower case except where Docker's tools parse the text, says
/// what to do where that is known.
#[derive(Debug)]
pub struct Error {
    /// What a caller can do about it.
    pub kind: Kind,
    /// For people.
    pub message: String,
}

/// Result of a verb.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of `kind`.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl Error {
    /// A failure of the host or of knarr.
    pub(crate) fn internal(source: impl fmt::Display) -> Self {
        Self::new(Kind::Internal, source.to_string())
    }

    /// `doing` something with `path` failed.
    pub(crate) fn at(doing: &str, path: &Path, source: &io::Error) -> Self {
        Self::new(Kind::Internal, format!("{doing} {}: {source}", path.display()))
    }
}

impl From<image::Error> for Error {
    fn from(error: image::Error) -> Self {
        let kind = match error {
            image::Error::Registry(error) => return error.into(),
            image::Error::Unpack(error) => {
                return match error.downcast::<snapshot::Error>() {
                    Ok(error) => (*error).into(),
                    Err(other) => Self::internal(other),
                };
            }
            image::Error::NotFound(_) | image::Error::Missing(_) => Kind::NotFound,
            image::Error::Invalid(_) => Kind::Invalid,
            image::Error::Conflict(_) => Kind::Conflict,
            image::Error::Store(_) | image::Error::Io { .. } => Kind::Internal,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<registry::Error> for Error {
    fn from(error: registry::Error) -> Self {
        use registry::Error as E;
        let kind = match &error {
            E::Unauthorized(_) => Kind::Unauthorized,
            E::Denied(_) => Kind::Forbidden,
            E::NotFound(_) => Kind::NotFound,
            E::TooManyRequests { .. } | E::Cancelled => Kind::Unavailable,
            E::Invalid(_) => Kind::Invalid,
            // dockerd's status for whatever it cannot reach or read; and for missing credentials, for its client answers
            // 401 by asking for a password.
            E::NoCredentials(_)
            | E::Unreachable(_)
            | E::Tls { .. }
            | E::Server(_)
            | E::Config(_)
            | E::Local(_) => Kind::Internal,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<network::Error> for Error {
    fn from(error: network::Error) -> Self {
        let kind = match &error {
            network::Error::Invalid(_) => Kind::Invalid,
            network::Error::Conflict(_) => Kind::Conflict,
            network::Error::Exhausted(_) => Kind::Forbidden,
            network::Error::Netlink(_) | network::Error::Io { .. } => Kind::Internal,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<snapshot::Error> for Error {
    fn from(error: snapshot::Error) -> Self {
        let kind = match &error {
            snapshot::Error::Archive(_) | snapshot::Error::Read(_) | snapshot::Error::Unusable(_) => {
                Kind::Invalid
            }
            snapshot::Error::Missing(_) | snapshot::Error::Write(_) | snapshot::Error::Io { .. } => {
                Kind::Internal
            }
        };
        Self::new(kind, error.to_string())
    }
}
