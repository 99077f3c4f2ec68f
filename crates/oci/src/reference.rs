//! Image references: `[HOST[:PORT]/]PATH[:TAG][@DIGEST]`, normalised as Docker does.
//!
//! The grammar is distribution's (`reference/regexp.go`), written as a parser: `alpine` is `docker.io/library/alpine`,
//! a first part with a dot, a colon or an upper-case letter, or `localhost`, is a host.

use std::{cmp::Ordering, fmt, str::FromStr};

use serde::{Deserialize, Serialize, de};

use crate::Digest;

const DEFAULT_HOST: &str = "docker.io";
const LEGACY_HOST: &str = "index.docker.io";
const OFFICIAL: &str = "library/";
/// Longest path, as distribution has it.
const MAX_PATH: usize = 255;
/// Longest tag.
const MAX_TAG: usize = 128;
/// A DNS name and a port.
const MAX_HOST: usize = 255 + 6;
/// Longer text than any reference can have.
const MAX_TEXT: usize = 1024;

/// A normalised name. Ordered by its familiar form, shortest first.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    host: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Text that is not a reference. The words are Docker's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReference {
    /// Anything that does not fit the grammar.
    #[error("invalid reference format")]
    Format,
    /// Upper-case letters in the path.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    /// A path that is too long.
    #[error("repository name must not be more than {MAX_PATH} characters")]
    TooLong,
    /// A name that could not be told from an image id.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    LooksLikeId(String),
    /// A digest by an algorithm other than SHA-256.
    #[error("unsupported digest algorithm")]
    DigestAlgorithm,
    /// A digest of the wrong length.
    #[error("invalid checksum digest length")]
    DigestLength,
    /// A digest with upper-case digits.
    #[error("invalid checksum digest format")]
    DigestFormat,
}

impl Reference {
    /// The registry: `docker.io`, `localhost:5000`, `[::1]:5000`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Without the host: `library/alpine`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag, if there is one.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if there is one.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Host and path: `docker.io/library/alpine`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.host, self.path)
    }

    /// Host and path as people write them: `alpine`, `ghcr.io/a/b`.
    ///
    /// Shortened only where the short form reads back as the same name.
    pub fn familiar_name(&self) -> String {
        if self.host != DEFAULT_HOST {
            return self.name();
        }
        match self.path.strip_prefix(OFFICIAL) {
            Some(short) if !short.contains('/') && !is_id(short) => short.to_owned(),
            _ if split_host(&self.path).0.is_some() => self.name(),
            _ => self.path.clone(),
        }
    }

    /// As people write it: `alpine:3.20`, `ghcr.io/a/b@sha256:…`.
    pub fn familiar(&self) -> String {
        let mut text = self.familiar_name();
        self.push_rest(&mut text);
        text
    }

    /// With the tag `latest`, if it has neither tag nor digest.
    #[must_use]
    pub fn with_default_tag(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some("latest".to_owned());
        }
        self
    }

    /// The same name with another tag and no digest.
    pub fn with_tag(&self, tag: &str) -> Result<Self, InvalidReference> {
        check_tag(tag)?;
        Ok(Self { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// The same name with a digest and no tag.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    fn push_rest(&self, text: &mut String) {
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(digest.as_str());
        }
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        if text.len() > MAX_TEXT {
            return Err(InvalidReference::Format);
        }
        if is_id(text) {
            return Err(InvalidReference::LooksLikeId(text.to_owned()));
        }
        let (host, rest) = split_host(text);
        let (rest, digest) = match rest.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (rest, None),
        };
        let (path, tag) = match rest.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (rest, None),
        };
        let host = match host {
            None | Some(LEGACY_HOST) => DEFAULT_HOST,
            Some(host) => host,
        };
        let path = if host == DEFAULT_HOST && !path.contains('/') {
            format!("{OFFICIAL}{path}")
        } else {
            path.to_owned()
        };
        check_host(host)?;
        check_path(&path)?;
        tag.map(check_tag).transpose()?;
        let digest = digest.map(parse_digest).transpose()?;
        Ok(Self { host: host.to_owned(), path, tag: tag.map(str::to_owned), digest })
    }
}

fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn split_host(text: &str) -> (Option<&str>, &str) {
    match text.split_once('/') {
        Some((first, rest)) if looks_like_host(first) => (Some(first), rest),
        _ => (None, text),
    }
}

fn looks_like_host(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':']) || first.chars().any(char::is_uppercase)
}

fn check_host(host: &str) -> Result<(), InvalidReference> {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let (inside, after) = rest.split_once(']').ok_or(InvalidReference::Format)?;
            let port = match after {
                "" => None,
                _ => Some(after.strip_prefix(':').ok_or(InvalidReference::Format)?),
            };
            (Err(inside), port)
        }
        None => match host.split_once(':') {
            Some((name, port)) => (Ok(name), Some(port)),
            None => (Ok(host), None),
        },
    };
    let name_fits = match name {
        Ok(domain) => domain.split('.').all(is_domain_part),
        Err(v6) => !v6.is_empty() && v6.bytes().all(|b| b.is_ascii_hexdigit() || b == b':'),
    };
    let port_fits = port.is_none_or(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()));
    if name_fits && port_fits && host.len() <= MAX_HOST { Ok(()) } else { Err(InvalidReference::Format) }
}

fn is_domain_part(part: &str) -> bool {
    !part.is_empty()
        && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !part.starts_with('-')
        && !part.ends_with('-')
}

fn check_path(path: &str) -> Result<(), InvalidReference> {
    if path.chars().any(char::is_uppercase) {
        return Err(InvalidReference::Uppercase(path.to_owned()));
    }
    if !path.split('/').all(is_path_part) {
        return Err(InvalidReference::Format);
    }
    if path.len() > MAX_PATH { Err(InvalidReference::TooLong) } else { Ok(()) }
}

/// Runs of `a-z0-9`, between them `.`, `_`, `__` or any number of `-`.
fn is_path_part(part: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let separators = part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    part.bytes().next().is_some_and(word)
        && part.bytes().last().is_some_and(word)
        && separators
            .filter(|s| !s.is_empty())
            .all(|s| matches!(s, "." | "_" | "__") || s.bytes().all(|b| b == b'-'))
}

fn check_tag(tag: &str) -> Result<(), InvalidReference> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let fits = tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
        && tag.len() <= MAX_TAG;
    if fits { Ok(()) } else { Err(InvalidReference::Format) }
}

fn parse_digest(text: &str) -> Result<Digest, InvalidReference> {
    let (algorithm, value) = text.split_once(':').ok_or(InvalidReference::Format)?;
    let algorithm_fits = algorithm.split(['-', '_', '+', '.']).all(|part| {
        part.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
            && part.bytes().all(|b| b.is_ascii_alphanumeric())
    });
    if !algorithm_fits || value.len() < 32 || !value.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(InvalidReference::Format);
    }
    match algorithm {
        "sha256" if value.len() != 64 => Err(InvalidReference::DigestLength),
        "sha256" => text.parse().map_err(|_| InvalidReference::DigestFormat),
        _ => Err(InvalidReference::DigestAlgorithm),
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.name();
        self.push_rest(&mut text);
        f.write_str(&text)
    }
}

impl Ord for Reference {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (self.familiar(), other.familiar());
        a.len().cmp(&b.len()).then_with(|| a.cmp(&b))
    }
}

impl PartialOrd for Reference {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Serialize for Reference {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|e| de::Error::custom(format!("{e}: {text:?}")))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Reference, InvalidReference> {
        text.parse()
    }

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn names_are_normalised_as_docker_does() {
        let digest = format!("alpine@sha256:{HEX}");
        let both = format!("a.b/c:t@sha256:{HEX}");
        let library_hex = format!("library/{HEX}");
        let table: &[(&str, &str, &str)] = &[
            ("alpine", "docker.io/library/alpine", "alpine"),
            ("alpine:3.20", "docker.io/library/alpine:3.20", "alpine:3.20"),
            ("library/alpine", "docker.io/library/alpine", "alpine"),
            ("docker.io/alpine", "docker.io/library/alpine", "alpine"),
            ("index.docker.io/alpine", "docker.io/library/alpine", "alpine"),
            ("index.docker.io/a/b", "docker.io/a/b", "a/b"),
            ("a/b/c", "docker.io/a/b/c", "a/b/c"),
            ("localhost/x", "localhost/x", "localhost/x"),
            ("localhost", "docker.io/library/localhost", "localhost"),
            ("localhost:5000", "docker.io/library/localhost:5000", "localhost:5000"),
            ("localhost:5000/x:1", "localhost:5000/x:1", "localhost:5000/x:1"),
            ("UPPER/foo", "UPPER/foo", "UPPER/foo"),
            ("[::1]:5000/x", "[::1]:5000/x", "[::1]:5000/x"),
            ("[fe80::1]/x/y", "[fe80::1]/x/y", "[fe80::1]/x/y"),
            ("docker.io/localhost/x", "docker.io/localhost/x", "docker.io/localhost/x"),
            ("docker.io/a.b/x", "docker.io/a.b/x", "docker.io/a.b/x"),
            ("a__b_c-d---e/f.g", "docker.io/a__b_c-d---e/f.g", "a__b_c-d---e/f.g"),
            ("x:_T-a.9", "docker.io/library/x:_T-a.9", "x:_T-a.9"),
            (&library_hex, &format!("docker.io/{library_hex}"), &library_hex),
            (&digest, &format!("docker.io/library/{digest}"), &digest),
            (&both, &both, &both),
        ];
        for (text, full, familiar) in table {
            let reference = parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(reference.to_string(), *full);
            assert_eq!(reference.familiar(), *familiar);
            assert_eq!(parse(full).unwrap(), reference);
        }
    }

    #[test]
    fn errors_are_dockers() {
        use InvalidReference as E;
        let long = "a".repeat(256);
        let table = [
            ("", E::Format),
            (" ", E::Format),
            ("a ", E::Format),
            ("-a", E::Format),
            ("a-/b", E::Format),
            ("a//b", E::Format),
            ("/a", E::Format),
            ("a/", E::Format),
            ("a..b", E::Format),
            ("a___b", E::Format),
            ("a:", E::Format),
            ("a:b:c", E::Format),
            ("a:-x", E::Format),
            ("a@", E::Format),
            ("a@sha256:12", E::Format),
            ("a@b@c", E::Format),
            ("http://a/b", E::Format),
            ("a_b.c/x", E::Format),
            ("a.b:/x", E::Format),
            ("a.b:1:2/x", E::Format),
            ("[::1/x", E::Format),
            ("[]:5/x", E::Format),
            ("[::1]5/x", E::Format),
            ("../x", E::Format),
            ("a/../b", E::Format),
            ("é", E::Format),
            ("Foo", E::Uppercase("library/Foo".into())),
            ("foo/Bar:x", E::Uppercase("foo/Bar".into())),
            ("UPPER/Foo", E::Uppercase("Foo".into())),
            (&long, E::TooLong),
            (&format!("x:{}", "t".repeat(129)), E::Format),
            (&format!("{}.b/x", "a".repeat(300)), E::Format),
            (&"a/".repeat(600), E::Format),
            (HEX, E::LooksLikeId(HEX.into())),
            (&format!("a@md5:{}", &HEX[..32]), E::DigestAlgorithm),
            (&format!("a@sha512:{HEX}{HEX}"), E::DigestAlgorithm),
            (&format!("a@sha256:{}", &HEX[..40]), E::DigestLength),
            (&format!("a@sha256:{}", HEX.to_uppercase()), E::DigestFormat),
        ];
        for (text, error) in table {
            assert_eq!(parse(text), Err(error), "{text:?}");
        }
        assert_eq!(
            parse("Foo").unwrap_err().to_string(),
            "invalid reference format: repository name (library/Foo) must be lowercase"
        );
    }

    #[test]
    fn tags_and_digests_are_given_and_taken() {
        let bare = parse("alpine").unwrap();
        assert_eq!(bare.tag(), None);
        assert_eq!(bare.clone().with_default_tag().familiar(), "alpine:latest");
        assert_eq!(bare.with_tag("edge").unwrap().familiar(), "alpine:edge");
        assert!(bare.with_tag("a/b").is_err());
        let digest: Digest = format!("sha256:{HEX}").parse().unwrap();
        let pinned = bare.with_digest(digest.clone()).with_default_tag();
        assert_eq!((pinned.tag(), pinned.digest()), (None, Some(&digest)));
        let json = serde_json::to_string(&pinned).unwrap();
        assert_eq!(serde_json::from_str::<Reference>(&json).unwrap(), pinned);
        assert!(serde_json::from_str::<Reference>("\"Foo\"").is_err());
    }

    #[test]
    fn the_shortest_familiar_form_is_first() {
        let mut names: Vec<_> =
            ["ghcr.io/a:1", "b:1", "docker.io/library/a:1", "b:10"].map(|n| parse(n).unwrap()).to_vec();
        names.sort();
        let familiar: Vec<_> = names.iter().map(Reference::familiar).collect();
        assert_eq!(familiar, ["a:1", "b:1", "b:10", "ghcr.io/a:1"]);
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_reads_back(text in "\\PC{0,40}|[a-zA-Z0-9._:/@\\[\\]-]{0,80}") {
            if let Ok(reference) = parse(&text) {
                prop_assert_eq!(&parse(&reference.to_string()).unwrap(), &reference);
                prop_assert_eq!(&parse(&reference.familiar()).unwrap(), &reference);
            }
        }
    }
}
