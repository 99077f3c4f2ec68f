//! From a request to its handler: version, route, call, answer.

use std::sync::Arc;

use api::{Method, Op, Query, Route, Version};
use engine::Engine;
use hyper::{
    HeaderMap, Request, StatusCode,
    body::Incoming,
    header::{HeaderName, HeaderValue},
    http::request::Parts,
};
use serde::Serialize;
use tokio::sync::watch;

use crate::{
    body::{self, Reply},
    failure::{Failure, Result},
    handlers,
};

/// What every handler sees of the service.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) engine: Engine,
    pub(crate) debug: bool,
    stopping: watch::Sender<bool>,
    listening: Arc<()>,
}

impl Door {
    pub(crate) fn new(engine: Engine, debug: bool) -> Self {
        let stopping = watch::Sender::new(false);
        Self { engine, debug, stopping, listening: Arc::new(()) }
    }

    /// Counts a listener to events for as long as the answer is kept.
    pub(crate) fn listen(&self) -> Arc<()> {
        Arc::clone(&self.listening)
    }

    /// Listeners to events.
    pub(crate) fn listeners(&self) -> usize {
        Arc::strong_count(&self.listening) - 1
    }

    /// Ends answers that would go on for ever.
    pub(crate) fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Resolves when the service is told to stop.
    pub(crate) async fn stopped(&self) {
        let mut stopping = self.stopping.subscribe();
        // The sender lives as long as `self`.
        let _ = stopping.wait_for(|stop| *stop).await;
    }
}

/// One request, taken apart.
pub(crate) struct Call {
    pub(crate) door: Arc<Door>,
    pub(crate) op: Op,
    pub(crate) version: Version,
    /// What stands at the route's placeholder: a container, an image, …
    pub(crate) name: String,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Incoming,
    pub(crate) upgrade: Option<hyper::upgrade::OnUpgrade>,
}

impl Call {
    pub(crate) fn engine(&self) -> &Engine {
        &self.door.engine
    }

    /// A JSON answer in the shape of the client's version.
    pub(crate) fn json(&self, status: StatusCode, answer: &impl Serialize) -> Result<Reply> {
        let mut value = serde_json::to_value(answer).map_err(Failure::internal)?;
        api::version::adapt(self.op, self.version, &mut value);
        Ok(body::reply(status, api::JSON, body::line(&value)))
    }
}

/// Every route, and whether it is served.
pub fn coverage() -> impl Iterator<Item = (&'static Route, bool)> {
    api::routes::ROUTES.iter().map(|route| (route, handlers::serves(route.op)))
}

/// Answers one request; a failure is an answer too.
pub(crate) async fn answer(
    door: Arc<Door>,
    request: Request<Incoming>,
) -> std::result::Result<Reply, std::convert::Infallible> {
    let started = std::time::Instant::now();
    let line = format!("{} {}", request.method(), request.uri().path());
    // In a task of its own: a client that leaves must not stop a verb half-way, and a defect in one handler must not
    // take the others' connections down.
    let outcome = tokio::spawn(route(door, request)).await;
    let mut reply = match outcome {
        Ok(Ok(reply)) => reply,
        Ok(Err(failure)) => told(&line, &failure),
        Err(_) => {
            told(&line, &Failure::internal("internal error: the handler failed; see the service's log"))
        }
    };
    decorate(reply.headers_mut());
    tracing::debug!("{line}: {} in {:?}", reply.status().as_u16(), started.elapsed());
    Ok(reply)
}

async fn route(door: Arc<Door>, mut request: Request<Incoming>) -> Result<Reply> {
    let path = api::query::decode(request.uri().path());
    let (version, path) = api::version::split(&path)?;
    let not_found = || Failure::new(StatusCode::NOT_FOUND, "page not found");
    let method = Method::parse(request.method().as_str()).ok_or_else(not_found)?;
    let (route, name) = api::routes::find(method, path, version).ok_or_else(not_found)?;
    let query = request.uri().query().unwrap_or_default();
    Query::check(query)?;
    let query = Query::parse(query);
    let upgrade = wants_upgrade(request.headers()).then(|| hyper::upgrade::on(&mut request));
    let (Parts { headers, .. }, body) = request.into_parts();
    handlers::handle(Call {
        door,
        op: route.op,
        version,
        name: name.to_owned(),
        query,
        headers,
        body,
        upgrade,
    })
    .await
}

fn wants_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(hyper::header::UPGRADE)
}

fn told(line: &str, failure: &Failure) -> Reply {
    if failure.status.is_server_error() && failure.status != StatusCode::NOT_IMPLEMENTED {
        tracing::error!("{line}: {}", failure.message);
    }
    if failure.status == StatusCode::NOT_MODIFIED {
        return body::empty(failure.status);
    }
    let message = api::message::Failure { message: failure.message.clone() };
    body::reply(failure.status, api::JSON, body::line(&message))
}

/// The headers by which clients know an engine and its version.
fn decorate(headers: &mut HeaderMap) {
    const SERVER: &str = concat!("knarr/", env!("CARGO_PKG_VERSION"), " (linux)");
    let version = HeaderValue::from_str(&Version::MAX.to_string());
    if let Ok(version) = version {
        headers.insert(HeaderName::from_static("api-version"), version);
    }
    for (name, value) in [("ostype", "linux"), ("docker-experimental", "false"), ("server", SERVER)] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
}
