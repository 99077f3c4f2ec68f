//! Which hosts stand for a registry, and how far each is trusted: `daemon.json`'s words and the directories that
//! Docker (`certs.d`) and containerd (`hosts.toml`) read.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use crate::{Error, url::Origin};

/// What `daemon.json` and the host's directories say about registries.
#[derive(Debug, Clone)]
pub struct Config {
    /// `registry-mirrors`: URLs asked before docker.io, in this order.
    pub mirrors: Vec<String>,
    /// `insecure-registries`: `HOST`, `HOST:PORT` or CIDR. Loopback always is.
    pub insecure: Vec<String>,
    /// Directories with one directory for each registry, `HOST[:PORT]`: containerd's `hosts.toml`, or Docker's
    /// `*.crt`, `*.cert`, `*.key`. The first that has one for a registry is the one that counts.
    pub directories: Vec<PathBuf>,
    /// `max-download-attempts`: how often one request is made before it fails.
    pub attempts: u32,
    /// What the client calls itself.
    pub user_agent: String,
    /// How long nothing may come before a host counts as silent.
    pub patience: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mirrors: Vec::new(),
            insecure: Vec::new(),
            directories: ["/etc/knarr/certs.d", "/etc/docker/certs.d", "/etc/containerd/certs.d"]
                .map(PathBuf::from)
                .to_vec(),
            attempts: 5,
            user_agent: concat!("knarr/", env!("CARGO_PKG_VERSION")).to_owned(),
            patience: Duration::from_secs(30),
        }
    }
}

impl Config {
    /// Whether everything can be understood; the words are dockerd's.
    pub fn check(&self) -> Result<(), Error> {
        for mirror in &self.mirrors {
            check_mirror(mirror)?;
        }
        for word in &self.insecure {
            check_insecure(word)?;
        }
        Ok(())
    }

    /// Whether `host` (with its port, if it has one) may be spoken to without TLS, or without checking it.
    pub(crate) fn is_insecure(&self, host: &str) -> bool {
        let name = Origin::name_of(host);
        if name.eq_ignore_ascii_case("localhost") {
            return true;
        }
        let address: Option<IpAddr> = name.trim_matches(['[', ']']).parse().ok();
        if address.is_some_and(|address| address.to_canonical().is_loopback()) {
            return true;
        }
        self.insecure.iter().any(|word| match word.split_once('/') {
            None => word.eq_ignore_ascii_case(host) || word.eq_ignore_ascii_case(name),
            Some((network, length)) => match (network.parse(), length.parse()) {
                (Ok(network), Ok(length)) => addresses(name, address).any(|a| is_in(a, network, length)),
                _ => false,
            },
        })
    }
}

/// A name counts as what it resolves to, as in Docker.
fn addresses(name: &str, address: Option<IpAddr>) -> impl Iterator<Item = IpAddr> {
    let looked_up = match address {
        Some(address) => vec![address],
        None => crate::dns::lookup(name, Duration::from_secs(5)).unwrap_or_default(),
    };
    looked_up.into_iter()
}

fn is_in(address: IpAddr, network: IpAddr, length: u32) -> bool {
    let same =
        |a: u128, b: u128, width: u32| length <= width && (length == 0 || (a ^ b) >> (width - length) == 0);
    match (address.to_canonical(), network.to_canonical()) {
        (IpAddr::V4(a), IpAddr::V4(n)) => same(a.to_bits().into(), n.to_bits().into(), 32),
        (IpAddr::V6(a), IpAddr::V6(n)) => same(a.to_bits(), n.to_bits(), 128),
        _ => false,
    }
}

fn check_mirror(text: &str) -> Result<(), Error> {
    let complain = |why: &str| Error::config(format!("invalid mirror: {why} in {text:?}"));
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    if !matches!(scheme, "http" | "https") {
        return Err(complain("no scheme http:// or https://"));
    }
    if rest.contains(['?', '#']) {
        return Err(complain("query or fragment at the end of the URI"));
    }
    if rest.contains('@') {
        return Err(complain("username/password not allowed in URI"));
    }
    Origin::parse(text).map(drop).map_err(|_| complain("not a URL"))
}

fn check_insecure(word: &str) -> Result<(), Error> {
    let complain = |why: &str| Error::config(format!("insecure registry {word} is not valid: {why}"));
    if word.contains("://") {
        return Err(complain("it must be HOST, HOST:PORT or a CIDR, without a scheme"));
    }
    if let Some((network, length)) = word.split_once('/') {
        let network: IpAddr = network.parse().map_err(|_| complain("not a CIDR"))?;
        let width = if network.is_ipv4() { 32 } else { 128 };
        let fits = length.parse::<u32>().is_ok_and(|length| length <= width);
        return if fits { Ok(()) } else { Err(complain("not a CIDR")) };
    }
    let fits =
        Origin::parse(&format!("https://{word}")).is_ok_and(|origin| origin.authority == word.to_lowercase());
    if fits { Ok(()) } else { Err(complain("it must be HOST, HOST:PORT or a CIDR")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_and_what_is_listed_is_insecure() {
        let config = Config {
            insecure: ["r.example", "p.example:5000", "10.1.0.0/16", "fd00::/8"].map(str::to_owned).to_vec(),
            ..Config::default()
        };
        config.check().unwrap();
        for host in [
            "localhost",
            "localhost:5000",
            "127.0.0.1:1",
            "127.9.9.9",
            "[::1]:5000",
            "r.example",
            "r.example:443",
            "p.example:5000",
            "10.1.2.3:5000",
            "[fd12::1]:80",
        ] {
            assert!(config.is_insecure(host), "{host}");
        }
        for host in ["p.example", "p.example:5001", "10.2.0.1", "[fe80::1]", "128.0.0.1", "localhost.example"]
        {
            assert!(!config.is_insecure(host), "{host}");
        }
    }

    #[test]
    fn settings_that_cannot_be_used_are_named() {
        for bad in ["http://x", "10.0.0.0/33", "a/b", "x:y"] {
            let config = Config { insecure: vec![bad.to_owned()], ..Config::default() };
            assert!(config.check().unwrap_err().to_string().contains(bad), "{bad}");
        }
        for bad in ["mirror.example", "ftp://x", "https://u:p@x", "https://x?y", "https://"] {
            let config = Config { mirrors: vec![bad.to_owned()], ..Config::default() };
            assert!(config.check().unwrap_err().to_string().contains(bad), "{bad}");
        }
    }
}
