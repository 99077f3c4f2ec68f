//! Attach and logs.

use std::future::ready;

use engine::{AttachOptions, LogLine, LogQuery};
use hyper::StatusCode;
use jiff::Timestamp;

use crate::{
    body::{self, Reply},
    convert::time,
    detach,
    failure::{Failure, Result},
    pump::{self, Session},
    router::Call,
};

/// Attaches to the past (`logs`), the present (`stream`), or both without a seam: the log is read up to now, the
/// streams are joined from now.
pub(super) async fn attach(call: Call) -> Result<Reply> {
    let Call { door, version, name, query, body, upgrade, .. } = call;
    let engine = &door.engine;
    let container = engine.inspect(&name)?;
    let (past, present) = (query.flag("logs"), query.flag("stream"));
    let wants = AttachOptions {
        stdin: query.flag("stdin") && container.config.open_stdin,
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
    };
    let mut session = Session {
        streams: None,
        tty: container.config.tty,
        wants,
        closes_stdin: container.config.stdin_once,
        detach: detach::parse(query.get("detachKeys"))?,
        replay: None,
    };
    if past {
        let log = LogQuery {
            stdout: wants.stdout,
            stderr: wants.stderr,
            until: Some(Timestamp::now()),
            ..LogQuery::default()
        };
        session.replay = Some(engine.logs(&container.id, log)?);
    }
    if present {
        session.streams = Some(engine.attach(&container.id, wants).await?);
    }
    Ok(pump::join(container.config.tty, ready(session), upgrade, Some(body), version))
}

pub(super) async fn logs(call: Call) -> Result<Reply> {
    let query = &call.query;
    let container = call.engine().inspect(&call.name)?;
    let asked = LogQuery {
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
        follow: query.flag("follow"),
        since: time::parse(query.get("since"))?,
        // Docker's clients say 0 for none.
        until: time::parse(query.get("until"))?.filter(|until| *until != Timestamp::UNIX_EPOCH),
        // Anything that is no number means all, as in Docker.
        tail: query.get("tail").parse().ok(),
    };
    if !asked.stdout && !asked.stderr {
        return Err(Failure::invalid("Bad parameters: you must choose at least one stream"));
    }
    let (timestamps, details) = (query.flag("timestamps"), query.flag("details"));
    let prefix = move |line: &LogLine| {
        // Nothing is logged beside the line yet, so the details are empty.
        let details = if details { " " } else { "" };
        let at = if timestamps { time::fixed(line.at) + " " } else { String::new() };
        at + details
    };
    let lines = call.engine().logs(&container.id, asked)?;
    let tty = container.config.tty;
    let (sender, body) = body::channel(4);
    let door = call.door;
    tokio::spawn(async move {
        tokio::select! {
            () = pump::log(lines, sender, tty, prefix) => {}
            () = door.stopped() => {}
        }
    });
    let kind = api::version::stream_type(call.version, tty);
    Ok(body::with_type(StatusCode::OK, kind, body))
}
