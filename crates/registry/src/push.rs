//! Writing: blobs, manifests.

use std::{
    io::{self, Read},
    time::Duration,
};

use oci::Digest;
use sha2::{Digest as _, Sha256};
use ureq::http::{Method, StatusCode};

use crate::{
    Client, Error,
    client::{Ask, Content, failure, is_absent, location, text},
    error::plain,
    hosts::Host,
    url::{self, Origin},
};

/// A blob that is smaller goes in one request; a larger one can go on where it stopped.
const IN_ONE: u64 = 1 << 20;
/// A registry may take its time over a blob that is complete: it hashes and moves it.
const COMMIT: Duration = Duration::from_mins(5);
const PAUSE: Duration = Duration::from_secs(1);

/// A blob to be sent.
pub trait Upload {
    /// Its content from byte `from` to its end.
    fn open(&self, from: u64) -> io::Result<Box<dyn Read + Send>>;
    /// `bytes` of `total` are on their way. May be called with less than before, after a failure.
    fn sent(&self, bytes: u64, total: u64) {
        let _ = (bytes, total);
    }
    /// The connection broke; it goes on after `pause`.
    fn retrying(&self, pause: Duration) {
        let _ = pause;
    }
}

/// How far an upload is.
struct Session {
    url: String,
    /// Bytes that the registry has.
    at: u64,
    /// Smallest piece that the registry takes, if it is not the last.
    least: u64,
}

impl Client {
    /// Whether the repository has the blob.
    pub fn has_blob(&self, digest: &Digest) -> Result<bool, Error> {
        self.on_hosts(|host| {
            let answer =
                self.ask(host, &mut Ask::new(Method::HEAD, self.url(host, &format!("blobs/{digest}"))))?;
            match answer.status() {
                status if status.is_success() => Ok(true),
                status if is_absent(status) => Ok(false),
                _ => Err(failure(answer)),
            }
        })
    }

    /// Takes the blob over from `source`, another repository of the same registry. Whether that worked; if it did
    /// not, the blob has to be sent.
    pub fn mount(&self, digest: &Digest, source: &str) -> Result<bool, Error> {
        self.on_hosts(|host| {
            let query = format!("mount={digest}&from={}", url::encode(source));
            let url = url::with_query(&self.url(host, "blobs/uploads/"), &query);
            let answer =
                self.ask(host, &mut Ask::new(Method::POST, url.clone()).body(Content::Bytes(&[])))?;
            match answer.status() {
                StatusCode::CREATED => Ok(true),
                StatusCode::ACCEPTED => {
                    // The registry has begun an upload instead; it is not needed here.
                    let begun = location(&url, &answer)?;
                    if Origin::parse(&begun)? == host.origin {
                        let _ = self.ask(host, &mut Ask::new(Method::DELETE, begun));
                    }
                    Ok(false)
                }
                // No access to the other repository is no reason to fail.
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => Ok(false),
                _ => Err(failure(answer)),
            }
        })
    }

    /// Sends a blob of `size` bytes; one that breaks off goes on where the registry says it stopped.
    pub fn upload(&self, digest: &Digest, size: u64, blob: &dyn Upload) -> Result<(), Error> {
        self.on_hosts(|host| {
            let mut session: Option<Session> = None;
            let mut failures = 0;
            loop {
                let before = session.as_ref().map_or(0, |session| session.at);
                let error = match self.advance(host, &mut session, digest, size, blob) {
                    Ok(()) => return Ok(()),
                    Err(error) if error.is_passing() => error,
                    // The registry has forgotten the upload, or is at another place: ask, or begin anew.
                    Err(Error::NotFound(_)) if session.is_some() => {
                        session = None;
                        Error::Server(format!("the registry lost the upload of {digest}"))
                    }
                    Err(error) => return Err(error),
                };
                let after = session.as_ref().map_or(0, |session| session.at);
                failures = if after > before { 1 } else { failures + 1 };
                if failures >= self.config.attempts {
                    return Err(error);
                }
                // Nothing was reached yet: another host or scheme may be.
                if session.is_none() && matches!(error, Error::Unreachable(_)) {
                    return Err(error);
                }
                let pause = PAUSE * failures;
                tracing::debug!("upload of {digest}: {error}");
                blob.retrying(pause);
                self.cancel.sleep(pause)?;
                if let Some(open) = &mut session
                    && self.locate(host, open).is_err()
                {
                    session = None;
                }
            }
        })
    }

    /// One more try at the whole rest of an upload.
    fn advance(
        &self,
        host: &Host,
        session: &mut Option<Session>,
        digest: &Digest,
        size: u64,
        blob: &dyn Upload,
    ) -> Result<(), Error> {
        let open = match session {
            Some(open) => open,
            None => session.insert(self.begin(host)?),
        };
        if size >= IN_ONE || open.at > 0 {
            while open.at < size {
                self.piece(host, open, size, blob)?;
            }
        }
        let url = url::with_query(&open.url, &format!("digest={digest}"));
        let from = open.at;
        let mut content = || counted(blob, from, size, size);
        let mut ask = Ask::new(Method::PUT, url)
            .header("content-type", "application/octet-stream")
            .body(Content::Stream(size - from, &mut content));
        ask.patience = Some(COMMIT);
        let answer = self.ask(host, &mut ask)?;
        if !answer.status().is_success() {
            return Err(failure(answer));
        }
        let stored = text(&answer, "docker-content-digest");
        match stored.filter(|stored| *stored != digest.as_str()) {
            Some(stored) => Err(Error::invalid(format!("the registry stored {digest} as {}", plain(stored)))),
            None => Ok(()),
        }
    }

    fn begin(&self, host: &Host) -> Result<Session, Error> {
        let url = self.url(host, "blobs/uploads/");
        let answer = self.get(host, &mut Ask::new(Method::POST, url.clone()).body(Content::Bytes(&[])))?;
        let least = text(&answer, "oci-chunk-min-length").and_then(|length| length.parse().ok());
        Ok(Session { url: self.upload_url(host, &url, &answer)?, at: 0, least: least.unwrap_or(0) })
    }

    /// Where an upload goes on: on the same host, or elsewhere without credentials; never without TLS after it.
    fn upload_url(
        &self,
        host: &Host,
        url: &str,
        answer: &ureq::http::Response<ureq::Body>,
    ) -> Result<String, Error> {
        let next = location(url, answer)?;
        self.no_way_down(&host.origin, &Origin::parse(&next)?)?;
        Ok(next)
    }

    /// The rest in one piece, or a piece of the size that the registry asks for.
    fn piece(&self, host: &Host, session: &mut Session, size: u64, blob: &dyn Upload) -> Result<(), Error> {
        let from = session.at;
        let end = if session.least == 0 { size } else { size.min(from + session.least.max(16 << 20)) };
        let mut content = || counted(blob, from, end, size);
        let mut ask = Ask::new(Method::PATCH, session.url.clone())
            .header("content-type", "application/octet-stream")
            .header("content-range", format!("{from}-{}", end - 1))
            .body(Content::Stream(end - from, &mut content));
        ask.patience = Some(COMMIT);
        let answer = self.ask(host, &mut ask)?;
        match answer.status() {
            status if status.is_success() => {
                session.url = self.upload_url(host, &session.url, &answer)?;
                session.at = received(text(&answer, "range")).unwrap_or(end).min(end);
                if session.at <= from {
                    return Err(Error::Server(format!("the registry took nothing of bytes {from} to {end}")));
                }
                Ok(())
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {
                self.locate(host, session)?;
                if session.at == from {
                    return Err(failure(answer));
                }
                Ok(())
            }
            _ => Err(failure(answer)),
        }
    }

    /// Asks how much of an upload has arrived.
    fn locate(&self, host: &Host, session: &mut Session) -> Result<(), Error> {
        let answer = self.ask(host, &mut Ask::new(Method::GET, session.url.clone()))?;
        if !answer.status().is_success() {
            return Err(failure(answer));
        }
        session.at = received(text(&answer, "range")).unwrap_or(0);
        if answer.headers().contains_key("location") {
            session.url = self.upload_url(host, &session.url, &answer)?;
        }
        Ok(())
    }

    /// Stores a manifest under `which` (a tag or its digest).
    pub fn put_manifest(&self, which: &str, media_type: &str, bytes: &[u8]) -> Result<Digest, Error> {
        let digest = Digest::sha256(Sha256::digest(bytes).into());
        self.on_hosts(|host| {
            let url = self.url(host, &format!("manifests/{which}"));
            let mut ask =
                Ask::new(Method::PUT, url).header("content-type", media_type).body(Content::Bytes(bytes));
            let answer = self.get(host, &mut ask)?;
            let stored = text(&answer, "docker-content-digest");
            match stored.filter(|stored| *stored != digest.as_str()) {
                Some(stored) => {
                    Err(Error::invalid(format!("the registry stored manifest {digest} as {}", plain(stored))))
                }
                None => Ok(digest.clone()),
            }
        })
    }
}

/// A part of a blob that tells how much of it was read.
fn counted(blob: &dyn Upload, from: u64, end: u64, total: u64) -> io::Result<Box<dyn Read + '_>> {
    struct Counted<'a> {
        inner: Box<dyn Read + Send>,
        blob: &'a dyn Upload,
        at: u64,
        total: u64,
    }
    impl Read for Counted<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = self.inner.read(buffer)?;
            self.at += length as u64;
            self.blob.sent(self.at, self.total);
            Ok(length)
        }
    }
    if from == end {
        return Ok(Box::new(io::empty()));
    }
    let inner = Box::new(blob.open(from)?.take(end - from));
    Ok(Box::new(Counted { inner, blob, at: from, total }))
}

/// `Range: 0-99` is a hundred bytes. Empty uploads say `0-0` as one byte does, and are taken for empty.
fn received(range: Option<&str>) -> Option<u64> {
    let range = range?.trim();
    let (begin, end) = range.strip_prefix("bytes=").unwrap_or(range).split_once('-')?;
    match (begin.parse().ok()?, end.parse::<u64>().ok()?) {
        (0, 0) => Some(0),
        (0, end) => end.checked_add(1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_registry_has_received() {
        for (range, bytes) in
            [("0-99", Some(100)), ("bytes=0-9", Some(10)), ("0-0", Some(0)), ("5-9", None), ("x", None)]
        {
            assert_eq!(received(Some(range)), bytes, "{range}");
        }
        assert_eq!(received(Some(&format!("0-{}", u64::MAX))), None);
    }
}
