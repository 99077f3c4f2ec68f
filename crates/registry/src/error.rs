//! What a registry, or the way to it, answers instead of what was asked for.

use std::{fmt, time::Duration};

use serde::Deserialize;
use ureq::http::StatusCode;

/// What went wrong. Texts are Docker's where its tools read them.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The registry wants credentials, or other ones (`docker login`).
    #[error("{0}")]
    Unauthorized(String),
    /// The registry wants a name and a password, and none are known.
    #[error("{0}")]
    NoCredentials(String),
    /// The credentials are known, but not enough; or the repository is hidden from them.
    #[error("{0}")]
    Denied(String),
    /// No such repository, manifest, blob or tag.
    #[error("{0}")]
    NotFound(String),
    /// The registry's limit is reached.
    #[error("{message}")]
    TooManyRequests {
        /// As the registry says it.
        message: String,
        /// When to ask again, if the registry says so.
        retry_after: Option<Duration>,
    },
    /// Nobody answers: no address, no connection, silence.
    #[error("{0}")]
    Unreachable(String),
    /// The connection cannot be trusted.
    #[error("{what}: {remedy}")]
    Tls {
        /// The certificate's fault.
        what: String,
        /// The setting that helps.
        remedy: String,
    },
    /// What came is not what the protocol, a digest or a limit allows.
    #[error("{0}")]
    Invalid(String),
    /// A setting that cannot be used: which file, which key, why.
    #[error("{0}")]
    Config(String),
    /// The registry failed, also when it was asked again.
    #[error("{0}")]
    Server(String),
    /// What is to be sent cannot be read, or what came cannot be kept.
    #[error("{0}")]
    Local(#[from] std::io::Error),
    /// [`crate::Cancel::cancel`] was called.
    #[error("canceled")]
    Cancelled,
}

impl Error {
    pub(crate) fn invalid(message: impl fmt::Display) -> Self {
        Self::Invalid(message.to_string())
    }

    pub(crate) fn config(message: impl fmt::Display) -> Self {
        Self::Config(message.to_string())
    }

    /// Whether the next of several hosts of one registry may do better.
    pub(crate) fn is_of_this_host_only(&self) -> bool {
        !matches!(self, Self::Cancelled | Self::Local(_) | Self::Config(_))
    }

    /// Whether asking the same host again may help.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Server(_))
    }
}

/// The error document of the protocol (distribution-spec, "Error Codes").
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Document {
    #[serde(default)]
    errors: Vec<Entry>,
    /// What token servers and proxies have in its place.
    #[serde(default)]
    details: String,
    #[serde(default)]
    message: String,
}

#[derive(Debug, Deserialize)]
struct Entry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// Text of a stranger's: bounded, and without what could steer a terminal or a log.
pub(crate) fn plain(text: &str) -> String {
    const LONGEST: usize = 1000;
    text.trim().chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

impl Entry {
    /// As Docker shows it: `manifest unknown: manifest unknown`.
    fn text(&self) -> String {
        plain(&format!("{}: {}", self.code.to_lowercase().replace('_', " "), self.message))
    }
}

/// The error that an answer's status and body tell.
pub(crate) fn of_answer(status: StatusCode, body: &[u8], retry_after: Option<Duration>) -> Error {
    let document: Document = serde_json::from_slice(body).unwrap_or_default();
    let texts: Vec<_> = document.errors.iter().filter(|e| !e.code.is_empty()).map(Entry::text).collect();
    let message = match texts.as_slice() {
        [] if !document.details.is_empty() => plain(&document.details),
        [] if !document.message.is_empty() => plain(&document.message),
        [] => format!("received unexpected HTTP status: {status}"),
        texts => texts.join("\n"),
    };
    let code = document.errors.first().map_or("", |entry| entry.code.as_str());
    match (code, status.as_u16()) {
        ("TOOMANYREQUESTS", _) | (_, 429) => Error::TooManyRequests { message, retry_after },
        ("UNAUTHORIZED", _) | (_, 401) => Error::Unauthorized(message),
        ("DENIED", _) | (_, 403) => Error::Denied(message),
        ("MANIFEST_UNKNOWN" | "NAME_UNKNOWN" | "BLOB_UNKNOWN", _) | (_, 404) => Error::NotFound(message),
        (_, 500..) => Error::Server(message),
        _ => Error::Invalid(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_read_as_docker_shows_them() {
        let body =
            br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"x"}}]}"#;
        let error = of_answer(StatusCode::NOT_FOUND, body, None);
        assert!(matches!(&error, Error::NotFound(text) if text == "manifest unknown: manifest unknown"));
        let body = br#"{"details":"incorrect username or password"}"#;
        let error = of_answer(StatusCode::UNAUTHORIZED, body, None);
        assert!(matches!(&error, Error::Unauthorized(text) if text == "incorrect username or password"));
        let error = of_answer(StatusCode::BAD_GATEWAY, b"<html>\x1b[2J", None);
        assert_eq!(error.to_string(), "received unexpected HTTP status: 502 Bad Gateway");
        assert_eq!(plain("a\x1b[2Jb\n"), "a [2Jb");
    }
}
