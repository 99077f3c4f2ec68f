//! Reading: manifests, blobs, tags, referrers.

use std::{io, io::Read, time::Duration};

use oci::{
    Digest,
    image::{self, Descriptor, MAX_DOCUMENT, media},
};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use ureq::http::{Method, StatusCode, header};

use crate::{
    Client, Error,
    client::{Ask, failure, is_absent, shown, text, whole},
    error::plain,
    hosts::Host,
    url,
};

/// What is accepted as a manifest. The old formats stand last: a registry that has nothing else says so by sending
/// it, and the refusal names it.
const ACCEPTED: [&str; 6] = [
    media::INDEX,
    media::MANIFEST,
    media::DOCKER_INDEX,
    media::DOCKER_MANIFEST,
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
    "application/vnd.docker.distribution.manifest.v1+json",
];
/// Schema 1, signed or not.
const OLD: &str = "application/vnd.docker.distribution.manifest.v1+";
const MAX_TAGS: usize = 100_000;
const MAX_PAGES: usize = 1_000;
/// One page of tags or referrers.
const MAX_PAGE: u64 = 8 << 20;
const CHUNK: usize = 128 << 10;
/// So much of a blob has to come before a broken connection counts as none.
const PROGRESS: u64 = 32 << 10;
/// Between two attempts at a blob: so much more each time.
const PAUSE: Duration = Duration::from_secs(1);

/// What a tag points to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// Of the manifest or index.
    pub digest: Digest,
    /// As the registry says.
    pub media_type: Option<String>,
    /// Bytes.
    pub size: u64,
}

/// A manifest or index as it came, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The exact bytes; their digest is `digest`.
    pub bytes: Vec<u8>,
    /// Of the bytes.
    pub digest: Digest,
    /// As the registry and the document say.
    pub media_type: String,
    /// What is in it.
    pub content: image::Document,
}

/// Takes a blob while it comes.
pub trait Receiver {
    /// The next bytes. An error ends the download.
    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// The connection broke; it goes on after `pause`.
    fn retrying(&mut self, pause: Duration) {
        let _ = pause;
    }
}

impl Client {
    /// The digest behind `which` (a tag or a digest), without its document. `None` where the registry does not say.
    pub fn describe(&self, which: &str) -> Result<Option<Described>, Error> {
        self.on_hosts(|host| {
            let mut ask = accepting(Ask::new(Method::HEAD, self.url(host, &format!("manifests/{which}"))));
            let answer = self.ask(host, &mut ask)?;
            if matches!(answer.status().as_u16(), 405 | 501) {
                return Ok(None);
            }
            if !answer.status().is_success() {
                // An answer to HEAD has no words; those of GET say why.
                return self.fetch_manifest(host, which).map(|found| Some(found.described()));
            }
            let digest = text(&answer, "docker-content-digest").and_then(|digest| digest.parse().ok());
            let size = text(&answer, "content-length").and_then(|length| length.parse().ok());
            let media_type = essence(text(&answer, "content-type"));
            Ok(digest.map(|digest| Described { digest, media_type, size: size.unwrap_or_default() }))
        })
    }

    /// The manifest or index behind `which` (a tag or a digest), checked against its digest and its media type.
    pub fn manifest(&self, which: &str) -> Result<Document, Error> {
        self.on_hosts(|host| self.fetch_manifest(host, which))
    }

    fn fetch_manifest(&self, host: &Host, which: &str) -> Result<Document, Error> {
        let url = self.url(host, &format!("manifests/{which}"));
        let mut ask = accepting(Ask::new(Method::GET, url.clone()));
        let answer = self.get(host, &mut ask)?;
        let said = text(&answer, "docker-content-digest").map(str::to_owned);
        let media_type = essence(text(&answer, "content-type"));
        let bytes = whole(answer, MAX_DOCUMENT)?;
        let digest = Digest::sha256(Sha256::digest(&bytes).into());
        let wanted = which.parse::<Digest>().ok().map(|digest| digest.to_string()).or(said);
        if let Some(wanted) = wanted.filter(|wanted| *wanted != digest.as_str()) {
            let wanted = plain(&wanted);
            return Err(Error::invalid(format!(
                "manifest {} has digest {digest}, not {wanted}",
                shown(&url)
            )));
        }
        if media_type.as_deref().is_some_and(|kind| kind.starts_with(OLD)) {
            return Err(Error::invalid(format!(
                "{} is in Docker's old format (manifest version 2, schema 1), which is not supported: \
                 have it pushed again by Docker 1.10 or newer",
                shown(&url)
            )));
        }
        // Plain web servers do not know the types; then the document's own word counts.
        let said = media_type.filter(|kind| kind.starts_with("application/vnd."));
        let content = image::Document::parse(&bytes, said.as_deref())
            .map_err(|e| Error::invalid(format!("manifest {}: {e}", shown(&url))))?;
        let own = match &content {
            image::Document::Manifest(manifest) => (&manifest.media_type, media::MANIFEST),
            image::Document::Index(index) => (&index.media_type, media::INDEX),
        };
        let media_type = said.or_else(|| own.0.clone()).unwrap_or_else(|| own.1.to_owned());
        Ok(Document { bytes, digest, media_type, content })
    }

    /// A small blob, whole and checked: an image's config.
    pub fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
        struct Bytes(Vec<u8>);
        impl Receiver for Bytes {
            fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
                self.0.extend_from_slice(bytes);
                Ok(())
            }
        }
        let Descriptor { digest, size, .. } = descriptor;
        if *size > MAX_DOCUMENT {
            return Err(Error::invalid(format!(
                "config {digest} of {size} bytes is longer than {MAX_DOCUMENT}"
            )));
        }
        let mut bytes = Bytes(Vec::new());
        self.blob(digest, *size, 0, &mut bytes)?;
        let found = Digest::sha256(Sha256::digest(&bytes.0).into());
        if found == *digest {
            return Ok(bytes.0);
        }
        Err(Error::invalid(format!("image config verification failed for digest {digest}: it is {found}")))
    }

    /// Streams the blob `digest` of `size` bytes, from its byte `from` on, into `receiver`. A connection that breaks
    /// is made again, and the blob goes on where it stopped. The caller checks the digest.
    pub fn blob(
        &self,
        digest: &Digest,
        size: u64,
        from: u64,
        receiver: &mut dyn Receiver,
    ) -> Result<(), Error> {
        let mut at = from;
        let mut failures = 0;
        while at < size {
            let before = at;
            let Err(error) = self.on_hosts(|host| self.part(host, digest, size, &mut at, receiver)) else {
                continue;
            };
            let limited = match &error {
                Error::TooManyRequests { retry_after, .. } => Some(*retry_after),
                error if error.is_passing() => None,
                _ => return Err(error),
            };
            failures = if at - before >= PROGRESS { 1 } else { failures + 1 };
            let pause = limited.flatten().unwrap_or(PAUSE * failures);
            if failures >= self.config.attempts || pause > Duration::from_mins(1) {
                return Err(error);
            }
            tracing::debug!("blob {digest} at {at} of {size}: {error}");
            receiver.retrying(pause);
            self.cancel.sleep(pause)?;
        }
        Ok(())
    }

    fn part(
        &self,
        host: &Host,
        digest: &Digest,
        size: u64,
        at: &mut u64,
        receiver: &mut dyn Receiver,
    ) -> Result<(), Error> {
        let url = self.url(host, &format!("blobs/{digest}"));
        let mut ask = Ask::new(Method::GET, url.clone());
        if *at > 0 {
            ask = ask.header("range", format!("bytes={at}-"));
        }
        let answer = self.ask(host, &mut ask)?;
        let mut skip = match answer.status() {
            StatusCode::PARTIAL_CONTENT => begins_at(text(&answer, "content-range"), *at)?,
            // A server that does not know ranges sends all of it.
            StatusCode::OK => *at,
            _ => return Err(failure(answer)),
        };
        let length = text(&answer, "content-length").and_then(|length| length.parse::<u64>().ok());
        if let Some(length) = length.filter(|length| *length != size - *at + skip) {
            let whole = length + *at - skip.min(*at);
            return Err(Error::invalid(format!(
                "blob {digest} has {whole} bytes, its descriptor says {size}"
            )));
        }
        let mut reader = answer.into_body().into_with_config().limit(u64::MAX).reader();
        let mut buffer = vec![0; CHUNK];
        while *at < size {
            self.cancel.check()?;
            let length = match reader.read(&mut buffer) {
                Ok(0) => return Err(Error::Unreachable(format!("Get {}: unexpected EOF", shown(&url)))),
                Ok(length) => length,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(self.trouble(ureq::Error::Io(e), &host.origin, &Method::GET, &url)),
            };
            let skipped = skip.min(length as u64);
            skip -= skipped;
            let fresh = &buffer[skipped as usize..length];
            if fresh.len() as u64 > size - *at {
                return Err(Error::invalid(format!(
                    "blob {digest} is longer than the {size} bytes of its descriptor"
                )));
            }
            receiver.bytes(fresh)?;
            *at += fresh.len() as u64;
        }
        Ok(())
    }

    /// Every tag of the repository, in the registry's order.
    pub fn tags(&self) -> Result<Vec<String>, Error> {
        #[derive(Deserialize)]
        struct Page {
            #[serde(default)]
            tags: Option<Vec<String>>,
        }
        self.on_hosts(|host| {
            let mut tags = Vec::new();
            self.pages(host, url::with_query(&self.url(host, "tags/list"), "n=1000"), |bytes| {
                let page: Page =
                    serde_json::from_slice(bytes).map_err(|e| Error::invalid(format!("tags: {e}")))?;
                tags.extend(page.tags.unwrap_or_default());
                if tags.len() > MAX_TAGS {
                    return Err(Error::invalid(format!("the repository has more than {MAX_TAGS} tags")));
                }
                Ok(())
            })?;
            Ok(tags)
        })
    }

    /// What refers to the manifest `subject` (signatures, attestations): by the registry's list, or, where it has
    /// none, by the tag that stands for it (distribution-spec, "Referrers Tag Schema").
    pub fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>, Error> {
        self.on_hosts(|host| {
            let url = self.url(host, &format!("referrers/{subject}"));
            let answer = self.ask(host, &mut Ask::new(Method::GET, url.clone()))?;
            if is_absent(answer.status()) {
                let tag = subject.as_str().replace(':', "-");
                return match self.fetch_manifest(host, &tag) {
                    Ok(Document { content: image::Document::Index(index), .. }) => Ok(index.manifests),
                    Ok(_) => Err(Error::invalid(format!("tag {tag} is no list of referrers"))),
                    Err(Error::NotFound(_)) => Ok(Vec::new()),
                    Err(error) => Err(error),
                };
            }
            if !answer.status().is_success() {
                return Err(failure(answer));
            }
            drop(answer);
            let mut found = Vec::new();
            self.pages(host, url, |bytes| match image::Document::parse(bytes, Some(media::INDEX)) {
                Ok(image::Document::Index(index)) => {
                    found.extend(index.manifests);
                    Ok(())
                }
                Ok(_) => Err(Error::invalid("referrers: not an index")),
                Err(e) => Err(Error::invalid(format!("referrers: {e}"))),
            })?;
            Ok(found)
        })
    }

    /// Follows `Link: <…>; rel="next"` on the same host.
    fn pages(
        &self,
        host: &Host,
        first: String,
        mut take: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut url = first;
        for _ in 0..MAX_PAGES {
            let answer = self.get(host, &mut Ask::new(Method::GET, url.clone()))?;
            let next = answer.headers().get(header::LINK).and_then(|link| next_page(link.to_str().ok()?));
            let next = next.map(|link| url::join(&url, link)).transpose()?;
            take(&whole(answer, MAX_PAGE)?)?;
            match next {
                Some(next) if url::Origin::parse(&next)? != host.origin => {
                    return Err(Error::invalid(format!(
                        "the list goes on at another host, {}",
                        shown(&next)
                    )));
                }
                Some(next) if next != url => url = next,
                _ => return Ok(()),
            }
        }
        Err(Error::invalid(format!("a list has more than {MAX_PAGES} pages")))
    }
}

impl Document {
    fn described(self) -> Described {
        Described { size: self.bytes.len() as u64, digest: self.digest, media_type: Some(self.media_type) }
    }
}

fn accepting(ask: Ask<'_>) -> Ask<'_> {
    ACCEPTED.iter().fold(ask, |ask, kind| ask.header("accept", *kind))
}

/// A media type without its parameters.
fn essence(value: Option<&str>) -> Option<String> {
    let kind = value?.split(';').next()?.trim().to_ascii_lowercase();
    (!kind.is_empty()).then_some(kind)
}

/// How many bytes of a partial answer are known already.
fn begins_at(range: Option<&str>, at: u64) -> Result<u64, Error> {
    let begin = range.and_then(|text| text.strip_prefix("bytes ")?.split('-').next()?.parse::<u64>().ok());
    let known = begin.and_then(|begin| at.checked_sub(begin));
    known.ok_or_else(|| Error::Server(format!("asked for bytes from {at}, but the registry sent {range:?}")))
}

fn next_page(link: &str) -> Option<&str> {
    link.split(',').find_map(|one| {
        let (target, parameters) = one.trim().strip_prefix('<')?.split_once('>')?;
        let is_next = parameters.split(';').any(|part| matches!(part.trim(), "rel=\"next\"" | "rel=next"));
        is_next.then_some(target)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_steer_reading() {
        assert_eq!(
            next_page("</v2/x/tags/list?last=b&n=2>; rel=\"next\""),
            Some("/v2/x/tags/list?last=b&n=2")
        );
        assert_eq!(next_page("</a>; rel=\"prev\", </b>; x=y; rel=next"), Some("/b"));
        assert_eq!(next_page("nonsense"), None);
        assert_eq!(begins_at(Some("bytes 5-9/10"), 5).unwrap(), 0);
        assert_eq!(begins_at(Some("bytes 3-9/10"), 5).unwrap(), 2);
        assert!(begins_at(Some("bytes 6-9/10"), 5).is_err() && begins_at(None, 5).is_err());
        assert_eq!(essence(Some("Text/HTML; charset=x")).as_deref(), Some("text/html"));
    }
}
