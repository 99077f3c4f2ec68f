//! HTTP to the daemon: one idle connection is kept, a hijacked one is handed over whole.

use std::cell::{Cell, OnceCell, RefCell};
use std::io;
use std::os::fd::OwnedFd;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::{TcpStream, UnixStream};

pub(crate) use api::query::encode;

use crate::autostart::Autostart;
use crate::error::{Error, Result, message};
use crate::host::Host;

/// What a request carries.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// The newest API that these commands are written for.
pub(crate) const API_VERSION: &str = "1.51";

/// One daemon, as the commands see it.
#[derive(Debug)]
pub(crate) struct Client {
    host: Host,
    autostart: Autostart,
    tried: Cell<bool>,
    version: OnceCell<String>,
    idle: RefCell<Option<SendRequest<Body>>>,
}

/// A connection that no longer speaks HTTP, and what had already been read from it.
#[derive(Debug)]
pub(crate) struct Hijacked {
    /// The socket, blocking.
    pub(crate) socket: OwnedFd,
    /// Bytes that came with the answer's head.
    pub(crate) early: Bytes,
}

impl Client {
    /// A client that has not spoken yet.
    pub(crate) fn new(host: Host, autostart: Autostart) -> Client {
        Client {
            host,
            autostart,
            tried: Cell::new(false),
            version: OnceCell::new(),
            idle: RefCell::default(),
        }
    }

    /// The API version that both sides know.
    pub(crate) async fn version(&self) -> Result<&str> {
        if let Some(known) = self.version.get() {
            return Ok(known);
        }
        let chosen = match std::env::var("DOCKER_API_VERSION") {
            Ok(forced) if !forced.is_empty() => forced.trim_start_matches('v').to_owned(),
            _ => {
                let answer = self.exchange(request(Method::HEAD, "/_ping", empty())?).await?;
                let theirs = answer.headers().get("api-version").and_then(|v| v.to_str().ok());
                older(API_VERSION, theirs.unwrap_or("1.24")).to_owned()
            }
        };
        Ok(self.version.get_or_init(|| chosen))
    }

    /// Whether the version that both sides know is below this one.
    pub(crate) async fn is_older_than(&self, version: &str) -> Result<bool> {
        let ours = self.version().await?;
        Ok(ours != version && older(ours, version) == ours)
    }

    /// Asks and decodes the answer.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        decode(self.send(Method::GET, path, empty()).await?).await
    }

    /// Asks and hands the answer's bytes back as they came.
    pub(crate) async fn get_raw(&self, path: &str) -> Result<Bytes> {
        collect(self.send(Method::GET, path, empty()).await?).await
    }

    /// Tells, and expects nothing worth reading.
    pub(crate) async fn post(&self, path: &str) -> Result<StatusCode> {
        let answer = self.send(Method::POST, path, empty()).await?;
        let status = answer.status();
        collect(answer).await?;
        Ok(status)
    }

    /// Tells something and decodes the answer.
    pub(crate) async fn post_json<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T> {
        decode(self.send(Method::POST, path, json(body)?).await?).await
    }

    /// Tells something, and expects nothing worth reading.
    pub(crate) async fn post_value(&self, path: &str, body: &impl Serialize) -> Result<()> {
        collect(self.send(Method::POST, path, json(body)?).await?).await.map(drop)
    }

    /// Removes and decodes the answer.
    pub(crate) async fn delete_json<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        decode(self.send(Method::DELETE, path, empty()).await?).await
    }

    /// Removes.
    pub(crate) async fn delete(&self, path: &str) -> Result<Bytes> {
        collect(self.send(Method::DELETE, path, empty()).await?).await
    }

    /// Asks on a connection of its own for an answer that comes bit by bit.
    pub(crate) async fn open(&self, method: Method, path: &str, body: Body) -> Result<Response<Incoming>> {
        self.open_with(method, path, body, None).await
    }

    /// The same, with one more header.
    pub(crate) async fn open_with(
        &self,
        method: Method,
        path: &str,
        body: Body,
        extra: Option<(&'static str, &str)>,
    ) -> Result<Response<Incoming>> {
        let path = format!("/v{}{path}", self.version().await?);
        let mut request = request(method, &path, body)?;
        if let Some((name, value)) = extra {
            let value =
                header::HeaderValue::from_str(value).map_err(|e| message(format!("header {name}: {e}")))?;
            request.headers_mut().insert(name, value);
        }
        let answer = self.connect().await?.send_request(request).await?;
        refuse_errors(answer).await
    }

    /// Sends to a path of the negotiated version; an error status becomes the daemon's message.
    async fn send(&self, method: Method, path: &str, body: Body) -> Result<Response<Incoming>> {
        let path = format!("/v{}{path}", self.version().await?);
        let answer = self.exchange(request(method, &path, body)?).await?;
        refuse_errors(answer).await
    }

    /// Asks to leave HTTP on this connection.
    pub(crate) async fn hijack(&self, path: &str, body: Body) -> Result<Hijacked> {
        let path = format!("/v{}{path}", self.version().await?);
        let mut request = request(Method::POST, &path, body)?;
        request.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("Upgrade"));
        request.headers_mut().insert(header::UPGRADE, header::HeaderValue::from_static("tcp"));
        let answer = self.connect().await?.send_request(request).await?;
        let answer = refuse_errors(answer).await?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(message(format!(
                "the daemon does not hand over the connection: {}",
                answer.status()
            )));
        }
        hand_over(hyper::upgrade::on(answer).await?, &self.host)
    }

    async fn exchange(&self, request: Request<Body>) -> Result<Response<Incoming>> {
        let idle = self.idle.borrow_mut().take();
        let idle = match idle {
            Some(mut sender) => sender.ready().await.is_ok().then_some(sender),
            None => None,
        };
        let mut sender = match idle {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        let answer = sender.send_request(request).await?;
        *self.idle.borrow_mut() = Some(sender);
        Ok(answer)
    }

    async fn connect(&self) -> Result<SendRequest<Body>> {
        match self.dial().await {
            Err(e) if !self.tried.replace(true) && self.autostart.helps(&self.host, &e) => {
                self.autostart.start(&self.host).await?;
                self.dial().await
            }
            other => other,
        }
        .map_err(|e| Error::Connect(self.autostart.unreachable(&self.host, &e)))
    }

    async fn dial(&self) -> io::Result<SendRequest<Body>> {
        match &self.host {
            Host::Unix(path) => speak(UnixStream::connect(path).await?).await,
            Host::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                speak(stream).await
            }
        }
    }
}

async fn speak<S>(stream: S) -> io::Result<SendRequest<Body>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) =
        http1::Builder::new().handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    // Its errors reach the one who waits for the answer.
    tokio::spawn(connection.with_upgrades());
    Ok(sender)
}

fn hand_over(upgraded: hyper::upgrade::Upgraded, host: &Host) -> Result<Hijacked> {
    let lost = || message("the connection was not the one that was opened");
    let (socket, early): (OwnedFd, Bytes) = match host {
        Host::Unix(_) => {
            let parts = upgraded.downcast::<TokioIo<UnixStream>>().map_err(|_| lost())?;
            let stream = parts.io.into_inner().into_std()?;
            stream.set_nonblocking(false)?;
            (stream.into(), parts.read_buf)
        }
        Host::Tcp(_) => {
            let parts = upgraded.downcast::<TokioIo<TcpStream>>().map_err(|_| lost())?;
            let stream = parts.io.into_inner().into_std()?;
            stream.set_nonblocking(false)?;
            (stream.into(), parts.read_buf)
        }
    };
    Ok(Hijacked { socket, early })
}

fn request(method: Method, path: &str, body: Body) -> Result<Request<Body>> {
    Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "localhost")
        .header(header::USER_AGENT, concat!("knarr/", env!("CARGO_PKG_VERSION")))
        .header(header::CONTENT_TYPE, "application/json")
        .body(body)
        .map_err(|e| message(format!("invalid request for {path:?}: {e}")))
}

async fn refuse_errors(answer: Response<Incoming>) -> Result<Response<Incoming>> {
    let status = answer.status();
    if status.as_u16() < 400 {
        return Ok(answer);
    }
    let body = answer.into_body().collect().await?.to_bytes();
    let message = match serde_json::from_slice::<api::message::Failure>(&body) {
        Ok(said) => said.message,
        Err(_) => match String::from_utf8_lossy(&body).trim() {
            "" => {
                format!("request returned {status}, check if the server supports the requested API version")
            }
            text => text.to_owned(),
        },
    };
    Err(Error::Daemon { status: status.as_u16(), message })
}

async fn collect(answer: Response<Incoming>) -> Result<Bytes> {
    Ok(answer.into_body().collect().await?.to_bytes())
}

/// Reads a whole answer.
pub(crate) async fn decode<T: DeserializeOwned>(answer: Response<Incoming>) -> Result<T> {
    let body = collect(answer).await?;
    api::go::decode(&body).map_err(|e| message(format!("the daemon's answer is not understood: {e}")))
}

/// No body.
pub(crate) fn empty() -> Body {
    Full::default().map_err(|never| match never {}).boxed_unsync()
}

/// A value as a body.
pub(crate) fn json(value: &impl Serialize) -> Result<Body> {
    let text = serde_json::to_vec(value).map_err(|e| message(format!("cannot encode the request: {e}")))?;
    Ok(Full::from(text).map_err(|never| match never {}).boxed_unsync())
}

/// A file's bytes, or those of standard input, as a body that is read while it is sent.
pub(crate) async fn stream(path: Option<&std::path::Path>) -> Result<Body> {
    use futures_util::TryStreamExt;
    let reader: Box<dyn tokio::io::AsyncRead + Send + Unpin> = match path {
        Some(path) => {
            let file = tokio::fs::File::open(path).await;
            let file = file.map_err(|e| message(format!("open {}: {}", path.display(), plain(&e))))?;
            if file.metadata().await?.is_dir() {
                return Err(message(format!("read {}: is a directory", path.display())));
            }
            Box::new(file)
        }
        None => Box::new(tokio::fs::File::from_std(std::fs::File::from(
            rustix::io::dup(io::stdin()).map_err(io::Error::from)?,
        ))),
    };
    let chunks =
        tokio_util::io::ReaderStream::with_capacity(reader, 256 * 1024).map_ok(hyper::body::Frame::data);
    Ok(BodyExt::boxed_unsync(http_body_util::StreamBody::new(chunks)))
}

/// An error in the kernel's words, without the number that the library adds.
pub(crate) fn plain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file or directory".into(),
        io::ErrorKind::PermissionDenied => "permission denied".into(),
        io::ErrorKind::IsADirectory => "is a directory".into(),
        _ => error.to_string(),
    }
}

/// The older of two versions `major.minor`.
fn older<'a>(a: &'a str, b: &'a str) -> &'a str {
    let number = |text: &str| {
        let (major, minor) = text.split_once('.')?;
        Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?))
    };
    if number(b) < number(a) { b } else { a }
}

/// `path?a=b&c=d`, leaving out pairs without a value.
pub(crate) fn with_query(path: &str, pairs: &[(&str, Option<String>)]) -> String {
    let mut out = path.to_owned();
    let mut sign = '?';
    for (key, value) in pairs {
        if let Some(value) = value {
            out.push(sign);
            out.push_str(key);
            out.push('=');
            out.push_str(&encode(value));
            sign = '&';
        }
    }
    out
}

/// `1` when set: how the Engine API writes a true query value.
pub(crate) fn flag(on: bool) -> Option<String> {
    on.then(|| "1".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_meet_at_the_older() {
        assert_eq!(older("1.51", "1.41"), "1.41");
        assert_eq!(older("1.51", "1.9"), "1.9");
        assert_eq!(older("1.51", "1.60"), "1.51");
        assert_eq!(older("1.51", "what"), "what");
    }

    #[test]
    fn queries() {
        let query = [("a", Some("x y/z".into())), ("b", None), ("c", flag(true)), ("d", flag(false))];
        assert_eq!(with_query("/p", &query), "/p?a=x%20y%2Fz&c=1");
    }
}
