//! Who asks: credentials, challenges (RFC 9110, 11.6.1) and tokens (distribution's token specification).

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;

use crate::{Error, url::Origin};

/// Of one registry; they go nowhere else.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// Name.
    pub username: String,
    /// Secret.
    pub password: String,
    /// A refresh token that stands for both (OAuth 2), if not empty.
    pub identity_token: String,
    /// A bearer token that is used as it is, if not empty.
    pub registry_token: String,
}

/// Never with a secret (rule R23).
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// For `Authorization`, if name and secret are known.
    pub(crate) fn basic(&self) -> Option<String> {
        let known = !self.username.is_empty() && !self.password.is_empty();
        known.then(|| format!("Basic {}", STANDARD.encode(format!("{}:{}", self.username, self.password))))
    }
}

/// What a registry asks for, of what we can give.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Challenges {
    pub(crate) bearer: Option<Bearer>,
    pub(crate) basic: bool,
}

/// Where tokens are, and for what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Bearer {
    pub(crate) realm: String,
    pub(crate) service: String,
    pub(crate) scope: String,
}

/// Longest `WWW-Authenticate` that is looked at.
const MAX_CHALLENGE: usize = 8 << 10;

impl Challenges {
    /// From the values of all `WWW-Authenticate` headers. What cannot be read asks for nothing.
    pub(crate) fn parse<'a>(values: impl Iterator<Item = &'a str>) -> Self {
        let mut found = Self::default();
        for value in values.filter(|value| value.len() <= MAX_CHALLENGE) {
            for (scheme, parameters) in challenges(value) {
                match scheme.to_ascii_lowercase().as_str() {
                    "basic" => found.basic = true,
                    "bearer" if found.bearer.is_none() => {
                        let get = |key: &str| {
                            let of_key = parameters.iter().find(|(name, _)| name.eq_ignore_ascii_case(key));
                            of_key.map(|(_, value)| value.clone()).unwrap_or_default()
                        };
                        let bearer =
                            Bearer { realm: get("realm"), service: get("service"), scope: get("scope") };
                        found.bearer = Some(bearer).filter(|bearer| !bearer.realm.is_empty());
                    }
                    _ => {}
                }
            }
        }
        found
    }
}

type Parameters = Vec<(String, String)>;

/// Scheme and parameters of each challenge of one header.
fn challenges(text: &str) -> Vec<(String, Parameters)> {
    let mut found: Vec<(String, Parameters)> = Vec::new();
    let mut rest = text.trim_start_matches([',', ' ', '\t']);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !is_token(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() {
            return found;
        }
        let value = after.trim_start_matches([' ', '\t']);
        rest = match (value.strip_prefix('='), found.last_mut()) {
            (Some(value), Some((_, parameters))) => {
                let (value, after) = parameter(value.trim_start_matches([' ', '\t']));
                parameters.push((word.to_owned(), value));
                after
            }
            (Some(_), None) => return found,
            (None, _) => {
                found.push((word.to_owned(), Vec::new()));
                after
            }
        };
        rest = rest.trim_start_matches([',', ' ', '\t']);
    }
    found
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~/".contains(c)
}

/// A token or a quoted string, and what follows it.
fn parameter(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            _ => value.push(c),
        }
    }
    (value, "")
}

/// What a token server answers.
#[derive(Debug, Default, Deserialize)]
#[allow(clippy::struct_field_names)] // they are the protocol's
pub(crate) struct Token {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    /// Given on request only.
    #[serde(default)]
    pub(crate) refresh_token: String,
}

impl Token {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let token: Self = serde_json::from_slice(bytes)
            .map_err(|e| Error::invalid(format!("unable to decode token response: {e}")))?;
        let text = token.text();
        if text.is_empty() {
            return Err(Error::invalid("authorization server did not include a token in the response"));
        }
        if text.bytes().any(|b| !b.is_ascii_graphic()) {
            return Err(Error::invalid("the token server's token is not one"));
        }
        Ok(token)
    }

    pub(crate) fn text(&self) -> &str {
        if self.token.is_empty() { &self.access_token } else { &self.token }
    }
}

/// Whether a registry's token server may be given the registry's credentials (rule R21): it is the registry itself;
/// or both speak TLS and live on one domain, as `registry.gitlab.com` and `gitlab.com` do; or it is listed.
pub(crate) fn is_trusted_realm(registry: &Origin, realm: &Origin, listed: &[Origin]) -> bool {
    realm == registry
        || listed.contains(realm)
        || (realm.secure && registry.secure && are_kin(registry.name(), realm.name()))
}

fn are_kin(a: &str, b: &str) -> bool {
    let is_name = |name: &str| name.contains(|c: char| c.is_ascii_alphabetic()) && !name.starts_with('[');
    if a == b || !is_name(a) || !is_name(b) {
        return a == b;
    }
    let common = a.rsplit('.').zip(b.rsplit('.')).take_while(|(a, b)| a == b).count();
    let longest = a.split('.').count().max(b.split('.').count());
    common >= 2 && common + 1 >= longest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(value: &str) -> Challenges {
        Challenges::parse(std::iter::once(value))
    }

    #[test]
    fn challenges_in_every_notation() {
        let hub = "Bearer realm=\"https://auth.docker.io/token\",service=\"registry.docker.io\",scope=\"repository:a/b:pull,push\"";
        let bearer = parse(hub).bearer.unwrap();
        assert_eq!(bearer.realm, "https://auth.docker.io/token");
        assert_eq!(
            (bearer.service.as_str(), bearer.scope.as_str()),
            ("registry.docker.io", "repository:a/b:pull,push")
        );
        assert_eq!(parse("basic realm=\"x\""), Challenges { bearer: None, basic: true });
        let both =
            parse("Basic realm=a, charset=\"UTF-8\", bearer Realm = \"https://x/\\\"y\" , error=\"z\"");
        assert!(both.basic);
        assert_eq!(both.bearer.unwrap().realm, "https://x/\"y");
        for nothing in
            ["", ",,", "=", "realm=\"x\"", "Bearer", "Bearer service=\"x\"", "Negotiate", "\"", "é"]
        {
            assert_eq!(parse(nothing), Challenges::default(), "{nothing}");
        }
        assert_eq!(parse("Bearer realm=\"open").bearer.unwrap().realm, "open");
    }

    #[test]
    fn credentials_go_to_kin_only() {
        let may = |registry: &str, realm: &str| {
            is_trusted_realm(&Origin::parse(registry).unwrap(), &Origin::parse(realm).unwrap(), &[])
        };
        assert!(may("https://registry-1.docker.io", "https://auth.docker.io/token"));
        assert!(may("https://registry.gitlab.com", "https://gitlab.com/jwt/auth"));
        assert!(may("https://r.example:5000", "https://r.example/token"));
        assert!(may("http://localhost:5000", "http://localhost:5000/token"));
        for (registry, realm) in [
            ("https://r.example.com", "https://evil.com"),
            ("https://r.com", "https://evil.com"),
            ("https://r.example.com", "http://r.example.com"),
            ("http://localhost:5000", "http://localhost:5001"),
            ("http://localhost:5000", "https://localhost:5001"),
            ("https://127.0.0.1", "https://127.0.0.2"),
            ("https://a.b.c.example.com", "https://x.example.com"),
        ] {
            assert!(!may(registry, realm), "{registry} {realm}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let credentials =
            Credentials { username: "u".into(), password: "hidden".into(), ..Credentials::default() };
        assert!(!format!("{credentials:?}").contains("hidden"));
        assert_eq!(credentials.basic().unwrap(), "Basic dTpoaWRkZW4=");
    }
}
