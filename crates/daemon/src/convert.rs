//! Docker's words to the engine's and back.

pub(crate) mod auth;
pub(crate) mod container;
pub(crate) mod create;
pub(crate) mod filter;
pub(crate) mod image;
pub(crate) mod mounts;
pub(crate) mod network;
pub(crate) mod ports;
pub(crate) mod progress;
pub(crate) mod size;
pub(crate) mod time;

use crate::failure::{Failure, Result};

/// Rows and columns; none of either is no size.
pub(crate) fn console_size([rows, columns]: [u16; 2]) -> Option<(u16, u16)> {
    (rows > 0 && columns > 0).then_some((rows, columns))
}

/// Docker's check: a name is there.
pub(crate) fn check_env(env: &[String]) -> Result<()> {
    match env.iter().find(|entry| entry.is_empty() || entry.starts_with('=')) {
        Some(entry) => Err(Failure::invalid(format!("invalid environment variable: {entry}"))),
        None => Ok(()),
    }
}

/// Only this host's platform can run.
pub(crate) fn check_platform(asked: &str) -> Result<()> {
    let own = architecture();
    let fits = match asked.split('/').collect::<Vec<_>>()[..] {
        ["" | "linux"] => true,
        ["linux", architecture, ..] | [architecture] => architecture == own,
        _ => false,
    };
    if fits {
        return Ok(());
    }
    Err(Failure::unsupported(format!("platform {asked} on a linux/{own} host")))
}

/// A platform as clients name it: OCI's JSON since 1.48, words with slashes before.
pub(crate) fn platform(asked: &str) -> Result<Option<oci::Platform>> {
    if asked.is_empty() {
        return Ok(None);
    }
    if asked.starts_with('{') {
        let read = serde_json::from_str(asked);
        return read.map(Some).map_err(|error| Failure::invalid(format!("invalid platform: {error}")));
    }
    asked
        .parse()
        .map(Some)
        .map_err(|error: oci::platform::InvalidPlatform| Failure::invalid(error.to_string()))
}

/// Go's word for the host's architecture.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}
