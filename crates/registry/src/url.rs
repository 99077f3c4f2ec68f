//! Addresses: which host a URL leads to, and where a `Location` leads from there.

use ureq::http::Uri;

use crate::Error;

/// What credentials stick to (rule R21): scheme, host and port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Origin {
    /// TLS.
    pub(crate) secure: bool,
    /// Lower case; without the port where it is the scheme's own.
    pub(crate) authority: String,
}

impl Origin {
    pub(crate) fn new(secure: bool, host: &str) -> Self {
        let own = if secure { ":443" } else { ":80" };
        let host = host.to_ascii_lowercase();
        Self { secure, authority: host.strip_suffix(own).map(str::to_owned).unwrap_or(host) }
    }

    /// Of a whole URL, `http` or `https`, without user and password.
    pub(crate) fn parse(url: &str) -> Result<Self, Error> {
        let bad = || Error::invalid(format!("{:?} is not a URL that can be asked", crate::error::plain(url)));
        let uri: Uri = url.parse().map_err(|_| bad())?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(bad()),
        };
        let authority = uri.authority().ok_or_else(bad)?;
        let port_fits = authority.as_str().len() == authority.host().len() || authority.port_u16().is_some();
        if authority.as_str().contains('@') || authority.host().is_empty() || !port_fits {
            return Err(bad());
        }
        Ok(Self::new(secure, authority.as_str()))
    }

    pub(crate) fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }

    /// `https://host`
    pub(crate) fn text(&self) -> String {
        format!("{}://{}", self.scheme(), self.authority)
    }

    /// Without the port.
    pub(crate) fn name(&self) -> &str {
        Self::name_of(&self.authority)
    }

    /// A host without its port.
    pub(crate) fn name_of(host: &str) -> &str {
        match host.rfind(':') {
            Some(colon) if !host[colon..].contains(']') => &host[..colon],
            _ => host,
        }
    }
}

/// Where `location`, found in the answer to `from`, leads (RFC 3986, section 5.2, as far as registries use it).
pub(crate) fn join(from: &str, location: &str) -> Result<String, Error> {
    let origin = Origin::parse(from)?;
    let joined = if location.contains("://") && !location.starts_with('/') {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{}:{location}", origin.scheme())
    } else if location.starts_with('/') {
        format!("{}{location}", origin.text())
    } else {
        let path = from.split(['?', '#']).next().unwrap_or(from);
        let directory = path.rfind('/').map_or(path, |slash| &path[..=slash]);
        if location.starts_with('?') { format!("{path}{location}") } else { format!("{directory}{location}") }
    };
    let joined = joined.split('#').next().unwrap_or_default().to_owned();
    Origin::parse(&joined)?;
    Ok(joined)
}

/// Percent-encoding for a value in a query.
pub(crate) fn encode(text: &str) -> String {
    use std::fmt::Write;
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/:,".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// A URL with one more part in its query.
pub(crate) fn with_query(url: &str, part: &str) -> String {
    let sign = if url.contains('?') { '&' } else { '?' };
    format!("{url}{sign}{part}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_scheme_host_and_port() {
        let same = |a: &str, b: &str| Origin::parse(a).unwrap() == Origin::parse(b).unwrap();
        assert!(same("https://A.b/x", "https://a.b:443/y?z"));
        assert!(same("http://[::1]:80", "http://[::1]/"));
        for other in ["http://a.b", "https://a.b:444", "https://c.a.b", "https://a.b.c"] {
            assert!(!same("https://a.b", other), "{other}");
        }
        for bad in [
            "a.b",
            "ftp://a.b",
            "https://",
            "https://u@a.b",
            "https://u:p@a.b/",
            "file:///x",
            "https://a.b:x/",
        ] {
            assert!(Origin::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(Origin::parse("https://a.b:1").unwrap().name(), "a.b");
        assert_eq!(Origin::parse("https://[::1]:1").unwrap().name(), "[::1]");
        assert_eq!(Origin::name_of("[::1]"), "[::1]");
    }

    #[test]
    fn locations_are_relative_to_where_they_were_found() {
        let from = "https://a.b/v2/x/blobs/uploads/?n=1";
        for (location, url) in [
            ("/v2/y?z#f", "https://a.b/v2/y?z"),
            ("u1", "https://a.b/v2/x/blobs/uploads/u1"),
            ("?q", "https://a.b/v2/x/blobs/uploads/?q"),
            ("//c.d/e", "https://c.d/e"),
            ("http://c.d/e", "http://c.d/e"),
        ] {
            assert_eq!(join(from, location).unwrap(), url);
        }
        assert!(join(from, "https://u:p@c.d/").is_err());
        assert_eq!(encode("a b&c=\"d\""), "a%20b%26c%3D%22d%22");
    }
}
