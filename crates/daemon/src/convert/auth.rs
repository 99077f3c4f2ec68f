//! `X-Registry-Auth`: base64url of Docker's JSON.

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use engine::Credentials;
use hyper::HeaderMap;
use serde::Deserialize;

use crate::failure::{Failure, Result};

/// Docker's `AuthConfig`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
#[allow(clippy::struct_field_names)] // they are Docker's
pub(crate) struct Auth {
    username: String,
    password: String,
    /// `username:password` in base64, as `config.json` has it.
    auth: String,
    pub(crate) serveraddress: String,
    identitytoken: String,
    registrytoken: String,
}

const HEADER: &str = "x-registry-auth";
/// Longer ones are refused.
const MAX_LENGTH: usize = 64 << 10;

/// Clients write it with and without padding, and some with the other alphabet.
const ANY_PADDING: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const URL: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, ANY_PADDING);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, ANY_PADDING);

/// The credentials of a request; none are no failure.
pub(crate) fn of(headers: &HeaderMap) -> Result<Credentials> {
    let Some(value) = headers.get(HEADER).filter(|value| !value.is_empty()) else {
        return Ok(Credentials::default());
    };
    let bad = |why: &str| Failure::invalid(format!("invalid X-Registry-Auth header: {why}"));
    if value.len() > MAX_LENGTH {
        return Err(bad("it is too long"));
    }
    let json = decode(value.as_bytes()).ok_or_else(|| bad("must be a valid base64url-encoded JSON"))?;
    let auth: Auth =
        serde_json::from_slice(&json).map_err(|_| bad("must be a valid base64url-encoded JSON"))?;
    auth.credentials()
}

fn decode(text: &[u8]) -> Option<Vec<u8>> {
    URL.decode(text).or_else(|_| STANDARD.decode(text)).ok()
}

impl Auth {
    pub(crate) fn credentials(self) -> Result<Credentials> {
        let mut credentials = Credentials {
            username: self.username,
            password: self.password,
            identity_token: self.identitytoken,
            registry_token: self.registrytoken,
        };
        if credentials.is_empty() && !self.auth.is_empty() {
            let both = decode(self.auth.as_bytes()).and_then(|bytes| String::from_utf8(bytes).ok());
            let (name, secret) = both.as_deref().and_then(|both| both.split_once(':')).ok_or_else(|| {
                Failure::invalid("invalid auth configuration: auth is not base64 of NAME:PASSWORD")
            })?;
            name.clone_into(&mut credentials.username);
            secret.trim_end_matches('\0').clone_into(&mut credentials.password);
        }
        Ok(credentials)
    }
}

/// The registry that `docker login` means: `https://index.docker.io/v1/` is `docker.io`.
pub(crate) fn host(address: &str) -> String {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    match rest.split('/').next().unwrap_or_default() {
        "" | "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        host => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn read(value: &str) -> Result<Credentials> {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, HeaderValue::from_str(value).unwrap());
        of(&headers)
    }

    #[test]
    fn addresses_of_logins() {
        for (address, name) in [
            ("", "docker.io"),
            ("https://index.docker.io/v1/", "docker.io"),
            ("http://r.example:5000/v2/", "r.example:5000"),
        ] {
            assert_eq!(host(address), name);
        }
    }

    #[test]
    fn headers_of_all_clients() {
        assert!(of(&HeaderMap::new()).unwrap().is_empty());
        let json = br#"{"username":"u","password":"p?>","serveraddress":"x"}"#;
        for text in
            [URL.encode(json), STANDARD.encode(json), URL.encode(json).trim_end_matches('=').to_owned()]
        {
            let credentials = read(&text).unwrap();
            assert_eq!((credentials.username.as_str(), credentials.password.as_str()), ("u", "p?>"));
        }
        let json = format!(r#"{{"auth":"{}"}}"#, STANDARD.encode("u:p:q"));
        assert_eq!(read(&URL.encode(json)).unwrap().password, "p:q");
        assert_eq!(read(&URL.encode(r#"{"identitytoken":"t"}"#)).unwrap().identity_token, "t");
        for bad in ["%", "e30x", &URL.encode("[1")] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert!(read(&URL.encode("{}")).unwrap().is_empty());
    }
}
