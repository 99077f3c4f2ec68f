//! Where the daemon listens.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use crate::error::{Result, message};

/// The socket that is used when nothing else was said.
pub(crate) const DEFAULT_SOCKET: &str = "/run/knarr/knarr.sock";

/// An address of a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    /// A socket in the file system.
    Unix(PathBuf),
    /// `address:port` on this machine.
    Tcp(String),
}

impl Host {
    /// The address that the flag names, else `KNARR_HOST`, else `DOCKER_HOST`, else the default socket.
    pub(crate) fn choose(flag: Option<&str>) -> Result<Host> {
        let env = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        match flag.map(str::to_owned).or_else(|| env("KNARR_HOST")).or_else(|| env("DOCKER_HOST")) {
            Some(text) => Host::parse(&text),
            None => Ok(Host::Unix(DEFAULT_SOCKET.into())),
        }
    }

    /// Reads `unix://PATH` or `tcp://LOOPBACK:PORT`.
    pub(crate) fn parse(text: &str) -> Result<Host> {
        if let Some(path) = text.strip_prefix("unix://") {
            let path = if path.is_empty() { DEFAULT_SOCKET } else { path };
            return Ok(Host::Unix(path.into()));
        }
        let Some(address) = text.strip_prefix("tcp://") else {
            return Err(message(format!(
                "unsupported host {text:?}: use unix:///path/to/socket or tcp://127.0.0.1:PORT"
            )));
        };
        let address = address.trim_end_matches('/');
        let (name, port) = address.rsplit_once(':').unwrap_or((address, "2375"));
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        let local = bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if !local {
            return Err(message(format!(
                "unsupported host {text:?}: plain TCP is only spoken with this machine (127.0.0.1, ::1, localhost); \
                 forward the remote socket, for example with ssh -L"
            )));
        }
        match port.parse::<u16>() {
            Ok(port) => Ok(Host::Tcp(format!("{name}:{port}"))),
            Err(_) => Err(message(format!("invalid port in host {text:?}"))),
        }
    }

    /// Whether this is where our own daemon listens unless told otherwise.
    pub(crate) fn is_default(&self) -> bool {
        *self == Host::Unix(DEFAULT_SOCKET.into())
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Unix(path) => write!(f, "unix://{}", path.display()),
            Host::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let ok = |text| Host::parse(text).unwrap().to_string();
        assert_eq!(ok("unix:///run/x.sock"), "unix:///run/x.sock");
        assert_eq!(ok("unix://"), "unix:///run/knarr/knarr.sock");
        assert_eq!(ok("tcp://127.0.0.1:99"), "tcp://127.0.0.1:99");
        assert_eq!(ok("tcp://localhost"), "tcp://localhost:2375");
        assert_eq!(ok("tcp://[::1]:1/"), "tcp://[::1]:1");
        for bad in ["tcp://10.0.0.1:1", "ssh://x", "/run/x.sock", "tcp://localhost:x", "http://localhost"] {
            assert!(Host::parse(bad).is_err(), "{bad}");
        }
    }
}
