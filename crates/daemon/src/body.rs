//! Bodies: whole and bounded, as a blocking reader, and as streams.

use std::{
    io::{self, Read, Write},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited, combinators::UnsyncBoxBody};
use hyper::{
    Response, StatusCode,
    body::{Body as HttpBody, Frame, Incoming},
    header::{CONTENT_TYPE, HeaderValue},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::mpsc;

use crate::failure::{Failure, Result};

/// The body of every answer.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Every answer.
pub(crate) type Reply = Response<Body>;

/// A JSON request that is larger than this is not one (R13).
const MAX_JSON: usize = 4 << 20;

/// A body that is known.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// An answer of `bytes`.
pub(crate) fn reply(status: StatusCode, kind: &'static str, bytes: impl Into<Bytes>) -> Reply {
    with_type(status, kind, full(bytes))
}

/// An answer of `body`.
pub(crate) fn with_type(status: StatusCode, kind: &'static str, body: Body) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    reply
}

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(full(""));
    *reply.status_mut() = status;
    reply
}

/// One JSON value and a newline, as Go's encoder writes it.
pub(crate) fn line(value: &impl Serialize) -> Bytes {
    let mut text = serde_json::to_vec(value).unwrap_or_default();
    text.push(b'\n');
    text.into()
}

/// Docker refuses bodies of another type; an empty body needs none.
pub(crate) fn must_be_json(headers: &hyper::HeaderMap) -> Result<()> {
    let Some(kind) = headers.get(CONTENT_TYPE) else {
        return Ok(());
    };
    let kind = kind.to_str().unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case(api::JSON) {
        return Ok(());
    }
    Err(Failure::invalid(format!("Content-Type specified ({kind}) must be 'application/json'")))
}

/// The whole body of a JSON request.
pub(crate) async fn whole(body: Incoming) -> Result<Bytes> {
    let mut limited = Limited::new(body, MAX_JSON);
    match (&mut limited).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            let rest = async move { while let Some(Ok(_)) = limited.frame().await {} };
            tokio::spawn(tokio::time::timeout(PATIENCE, rest));
            let most = MAX_JSON >> 20;
            Err(Failure::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the request's JSON is larger than {most} MiB"),
            ))
        }
        Err(error) => {
            let why = error.source().map_or_else(|| error.to_string(), ToString::to_string);
            Err(Failure::invalid(format!("the request's body ended early: {why}")))
        }
    }
}

/// A JSON request as a `T`; an empty body is the default where `or_default`.
pub(crate) async fn json<T: DeserializeOwned + Default>(
    headers: &hyper::HeaderMap,
    body: Incoming,
    or_default: bool,
) -> Result<T> {
    let bytes = whole(body).await?;
    if or_default && bytes.is_empty() {
        return Ok(T::default());
    }
    must_be_json(headers)?;
    Ok(api::go::decode(&bytes)?)
}

/// How long a client that was refused may go on sending.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// A request body for code that blocks; nothing is read before it is asked for.
pub(crate) struct Reader {
    /// None: read to its end.
    body: Option<Incoming>,
    runtime: tokio::runtime::Handle,
    piece: Bytes,
}

impl Reader {
    /// Must be read on a blocking thread.
    pub(crate) fn new(body: Incoming) -> Self {
        Self { body: Some(body), runtime: tokio::runtime::Handle::current(), piece: Bytes::new() }
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            let Some(body) = &mut self.body else {
                return Ok(0);
            };
            match self.runtime.block_on(body.frame()) {
                None => self.body = None,
                Some(Err(error)) => return Err(io::Error::other(error)),
                Some(Ok(frame)) => self.piece = frame.into_data().unwrap_or_default(),
            }
        }
        let length = buffer.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

/// A client that is refused half-way goes on sending, and docker's takes a connection that is closed on it for the
/// failure itself: what it still sends is read, for a while, so that it sees the answer.
impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(mut body) = self.body.take() {
            let rest = async move { while let Some(Ok(_)) = body.frame().await {} };
            self.runtime.spawn(tokio::time::timeout(PATIENCE, rest));
        }
    }
}

/// A body that is written while it is sent; ends when every sender is gone.
pub(crate) fn channel(depth: usize) -> (mpsc::Sender<Bytes>, Body) {
    let (sender, receiver) = mpsc::channel(depth);
    (sender, BodyExt::boxed_unsync(Channel(receiver)))
}

struct Channel(mpsc::Receiver<Bytes>);

impl HttpBody for Channel {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, io::Error>>> {
        let piece = ready!(self.0.poll_recv(context));
        Poll::Ready(piece.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// Bytes that a [`Writer`] passes on at once; a megabyte may be on its way.
const PIECE: usize = 256 << 10;
const PIECES: usize = 4;

/// A body that is written on a blocking thread. Where the writer is dropped before it was [`Writer::finish`]ed, the
/// connection breaks off, so that nobody takes the beginning of an archive for the whole.
pub(crate) fn writer() -> (Writer, Body) {
    let (sender, receiver) = mpsc::channel(PIECES);
    let written = Written { pieces: receiver, whole: false };
    (Writer { sender, piece: Vec::new() }, BodyExt::boxed_unsync(written))
}

pub(crate) struct Writer {
    /// None: the end.
    sender: mpsc::Sender<Option<Bytes>>,
    piece: Vec<u8>,
}

impl Writer {
    fn send(&mut self, piece: Option<Bytes>) -> io::Result<()> {
        self.sender.blocking_send(piece).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// Everything was written.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        self.send(None)
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = std::mem::take(&mut self.piece);
        if piece.is_empty() { Ok(()) } else { self.send(Some(piece.into())) }
    }
}

struct Written {
    pieces: mpsc::Receiver<Option<Bytes>>,
    whole: bool,
}

impl HttpBody for Written {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, io::Error>>> {
        if self.whole {
            return Poll::Ready(None);
        }
        Poll::Ready(match ready!(self.pieces.poll_recv(context)) {
            Some(Some(piece)) => Some(Ok(Frame::data(piece))),
            Some(None) => {
                self.whole = true;
                None
            }
            None => Some(Err(io::Error::other("the answer could not be written to its end"))),
        })
    }
}
