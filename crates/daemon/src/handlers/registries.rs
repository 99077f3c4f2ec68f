//! Registries: pull, push, login, and a look at what is there.

use std::sync::Mutex;

use api::message::Progress;
use bytes::Bytes;
use engine::{Cancel, Pull, Push, PushProgress, PushStep, Step};
use hyper::StatusCode;
use oci::{Platform, Reference};
use tokio::sync::{mpsc, oneshot};

use crate::{
    body::{self, Reply},
    convert,
    failure::{Failure, Result},
    router::Call,
};

/// Lines that may wait for a slow client; bars beyond them are left out.
const DEPTH: usize = 256;

pub(super) async fn pull(call: Call) -> Result<Reply> {
    let query = &call.query;
    let what = Pull {
        name: name(query.get("fromImage"), query.get("tag"))?,
        // docker asks for a tag or digest, or for all.
        all_tags: query.get("tag").is_empty() && is_bare(query.get("fromImage")),
        platform: platform(query.get("platform"))?,
        credentials: convert::auth::of(&call.headers)?,
    };
    let engine = call.engine().clone();
    let path = what.name.path().to_owned();
    stream(move |lines, cancel| async move {
        let told = engine.pull(what, cancel, move |progress| match progress {
            engine::Progress::Found(which) => {
                lines.say(&Progress { id: which, ..Progress::status(format!("Pulling from {path}")) });
            }
            engine::Progress::Layer(id, step) => {
                let is_bar = matches!(step, Step::Downloading { .. });
                if let Some(line) = convert::progress::layer(&id, step) {
                    if is_bar { lines.offer(&line) } else { lines.say(&line) }
                }
            }
            engine::Progress::Done(pulled) => {
                for line in &convert::progress::pulled(&pulled) {
                    lines.say(line);
                }
            }
        });
        told.await
    })
    .await
}

pub(super) async fn push(call: Call) -> Result<Reply> {
    let what = Push {
        name: name(&call.name, call.query.get("tag"))?,
        credentials: convert::auth::of(&call.headers)?,
    };
    let engine = call.engine().clone();
    stream(move |lines, cancel| async move {
        let told = engine.push(what, cancel, move |progress| match progress {
            PushProgress::Begun(name) => {
                let repository = name.name();
                lines.say(&Progress::status(format!("The push refers to repository [{repository}]")));
            }
            PushProgress::Layer(id, step) => {
                let is_bar = matches!(step, PushStep::Pushing { .. });
                let line = convert::progress::pushing(&id, &step);
                if is_bar { lines.offer(&line) } else { lines.say(&line) }
            }
            PushProgress::Done(name, pushed) => {
                for line in &convert::progress::pushed(name.tag().unwrap_or_default(), &pushed) {
                    lines.say(line);
                }
            }
        });
        told.await
    })
    .await
}

/// What a registry has, without pulling it.
pub(super) async fn inspect(call: Call) -> Result<Reply> {
    let name = name(&call.name, "")?;
    let remote = call.engine().remote(name, convert::auth::of(&call.headers)?).await?;
    let descriptor = api::image::RemoteDescriptor {
        media_type: remote.media_type,
        digest: remote.digest.to_string(),
        size: i64::try_from(remote.size).unwrap_or(i64::MAX),
    };
    let platform = |platform: Platform| api::image::RemotePlatform {
        architecture: platform.architecture,
        os: platform.os,
        variant: platform.variant.unwrap_or_default(),
    };
    let platforms = remote.platforms.into_iter().map(platform).collect();
    call.json(StatusCode::OK, &api::image::Distribution { descriptor, platforms })
}

/// Whether a user's credentials are good.
pub(super) async fn login(call: Call) -> Result<Reply> {
    let auth: convert::auth::Auth = body::json(&call.headers, call.body, false).await?;
    let host = convert::auth::host(&auth.serveraddress);
    let token = call.door.engine.login(host, auth.credentials()?).await?;
    let answer = api::system::LoggedIn { status: "Login Succeeded".to_owned(), identity_token: token };
    Ok(body::reply(StatusCode::OK, api::JSON, body::line(&answer)))
}

/// `image` with `tag`, which may be a digest.
fn name(image: &str, tag: &str) -> Result<Reference> {
    let text = match tag {
        "" => image.to_owned(),
        digest if digest.contains(':') => format!("{}@{digest}", image.split('@').next().unwrap_or(image)),
        tag => format!("{image}:{tag}"),
    };
    text.parse().map_err(|error| Failure::invalid(format!("{error}")))
}

fn is_bare(image: &str) -> bool {
    image.parse::<Reference>().is_ok_and(|name| name.tag().is_none() && name.digest().is_none())
}

/// `linux/arm64`, `arm64`, `linux`, or JSON of a platform as new clients send it.
fn platform(text: &str) -> Result<Option<Platform>> {
    let bad = |error: &dyn std::fmt::Display| Failure::invalid(format!("invalid platform {text:?}: {error}"));
    if text.is_empty() {
        return Ok(None);
    }
    if text.starts_with('{') {
        return serde_json::from_str(text).map(Some).map_err(|error| bad(&error));
    }
    let whole = match text {
        "linux" => format!("linux/{}", convert::architecture()),
        one if !one.contains('/') => format!("linux/{one}"),
        _ => text.to_owned(),
    };
    whole.to_lowercase().parse().map(Some).map_err(|error| bad(&error))
}

/// What a long request says to its client.
struct Lines {
    sender: mpsc::Sender<Bytes>,
    /// Told at the first line: the answer's status is decided then.
    begun: Mutex<Option<oneshot::Sender<()>>>,
    cancel: Cancel,
}

impl Lines {
    fn begin(&self) {
        let begun = self.begun.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(begun) = begun {
            // Nobody waits for it once the client has gone.
            let _ = begun.send(());
        }
    }

    /// A line that must arrive. On a thread that may wait.
    fn say(&self, line: &Progress) {
        self.begin();
        if self.sender.blocking_send(body::line(line)).is_err() {
            self.cancel.cancel();
        }
    }

    /// A line that may be left out.
    fn offer(&self, line: &Progress) {
        self.begin();
        let _ = self.sender.try_send(body::line(line));
    }
}

/// Runs `work` and sends its lines. A failure before the first line is the answer's status, one after it a line. Ends
/// the work when the client goes.
async fn stream<W, F>(work: W) -> Result<Reply>
where
    W: FnOnce(Lines, Cancel) -> F,
    F: Future<Output = engine::Result<()>> + Send + 'static,
{
    let (sender, body) = body::channel(DEPTH);
    let (begun, mut first_line) = oneshot::channel();
    let cancel = Cancel::default();
    let lines = Lines { sender: sender.clone(), begun: Mutex::new(Some(begun)), cancel: cancel.clone() };
    let mut working = tokio::spawn(work(lines, cancel.clone()));
    let early = tokio::select! {
        biased;
        Ok(()) = &mut first_line => None,
        ended = &mut working => Some(ended),
    };
    if let Some(ended) = early {
        ended.map_err(Failure::internal)??;
        return Ok(body::with_type(StatusCode::OK, api::JSON, body));
    }
    tokio::spawn(async move {
        let ended = tokio::select! {
            ended = &mut working => ended,
            () = sender.closed() => {
                cancel.cancel();
                return;
            }
        };
        let failure = match ended {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        // A client that has gone does not need it.
        let _ = sender.send(body::line(&Progress::failure(failure))).await;
    });
    Ok(body::with_type(StatusCode::OK, api::JSON, body))
}
