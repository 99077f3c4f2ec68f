//! Containers: their life from create to delete.

use api::{
    container::{Prune, Wait, WaitError},
    create::{CreateRequest, CreateResponse},
};
use engine::{Container, Engine, State, WaitFor};
use hyper::StatusCode;

use crate::{
    body::{self, Reply},
    convert,
    failure::{Failure, Result},
    router::Call,
};

pub(super) async fn create(call: Call) -> Result<Reply> {
    let Call { door, op: _, query, headers, body, .. } = call;
    let name = query.get("name").trim_start_matches('/');
    body::must_be_json(&headers)?;
    let request = CreateRequest::decode(&body::whole(body).await?)?;
    convert::check_platform(query.get("platform"))?;
    let config = convert::create::config(request)?;
    let created = door.engine.create((!name.is_empty()).then_some(name), config).await?;
    let answer = CreateResponse { id: created.id, warnings: created.warnings };
    Ok(body::reply(StatusCode::CREATED, api::JSON, body::line(&answer)))
}

pub(super) async fn list(call: Call) -> Result<Reply> {
    let filters = call.query.filters()?;
    let limit: i64 = call.query.number("limit")?.unwrap_or(0);
    let wanted = convert::filter::Containers::new(call.engine(), &filters).await?;
    let all = call.query.flag("all") || limit > 0 || wanted.any_state();
    let mut shown = call.engine().list();
    shown.retain(|container| (all || container.state.pid().is_some()) && wanted.matches(container));
    if let Ok(limit @ 1..) = usize::try_from(limit) {
        shown.truncate(limit);
    }
    let mut lines: Vec<_> = shown.iter().map(|container| convert::container::summary(container)).collect();
    if call.query.flag("size") {
        for line in &mut lines {
            line.size_rw = size(call.engine(), &line.id).await?;
            line.size_root_fs = line.size_rw + image_size(call.engine(), &line.image_id).await;
        }
    }
    call.json(StatusCode::OK, &lines)
}

pub(super) async fn inspect(call: Call) -> Result<Reply> {
    let container = call.engine().inspect(&call.name)?;
    let mut answer = convert::container::inspect(&container);
    if call.query.flag("size") {
        let own = size(call.engine(), &container.id).await?;
        answer.size_rw = Some(own);
        answer.size_root_fs = Some(own + image_size(call.engine(), &answer.image).await);
    }
    call.json(StatusCode::OK, &answer)
}

async fn size(engine: &Engine, id: &str) -> Result<i64> {
    Ok(i64::try_from(engine.size(id).await?).unwrap_or(i64::MAX))
}

/// An image that is gone adds nothing.
async fn image_size(engine: &Engine, id: &str) -> i64 {
    let Ok((all, _)) = engine.image_usage().await else { return 0 };
    let found = all.iter().find(|used| used.image.id.as_str() == id);
    found.map_or(0, |used| i64::try_from(used.size).unwrap_or(i64::MAX))
}

pub(super) async fn timeline(call: Call) -> Result<Reply> {
    call.json(StatusCode::OK, &call.engine().timeline(&call.name)?)
}

pub(super) async fn start(call: Call) -> Result<Reply> {
    if !call.query.get("checkpoint").is_empty() {
        return Err(Failure::unsupported("checkpoints"));
    }
    call.engine().start(&call.name).await?;
    Ok(body::empty(StatusCode::NO_CONTENT))
}

pub(super) async fn stop(call: Call) -> Result<Reply> {
    let (signal, timeout) = (signal(&call), call.query.number("t")?);
    call.engine().stop(&call.name, signal, timeout).await?;
    Ok(body::empty(StatusCode::NO_CONTENT))
}

pub(super) async fn restart(call: Call) -> Result<Reply> {
    let (signal, timeout) = (signal(&call), call.query.number("t")?);
    call.engine().restart(&call.name, signal, timeout).await?;
    Ok(body::empty(StatusCode::NO_CONTENT))
}

fn signal(call: &Call) -> Option<&str> {
    let signal = call.query.get("signal");
    (!signal.is_empty()).then_some(signal)
}

pub(super) async fn kill(call: Call) -> Result<Reply> {
    call.engine().kill(&call.name, signal(&call).unwrap_or("KILL")).await?;
    Ok(body::empty(StatusCode::NO_CONTENT))
}

pub(super) async fn pause(call: Call) -> Result<Reply> {
    call.engine().pause(&call.name).await?;
    Ok(body::empty(StatusCode::NO_CONTENT))
}

pub(super) async fn unpause(call: Call) -> Result<Reply> {
    call.engine().unpause(&call.name).await?;
    Ok(body::empty(StatusCode::NO_CONTENT))
}

pub(super) async fn rename(call: Call) -> Result<Reply> {
    let name = call.query.get("name").trim_start_matches('/');
    if name.is_empty() {
        return Err(Failure::invalid("Neither old nor new names may be empty"));
    }
    call.engine().rename(&call.name, name).await?;
    Ok(body::empty(StatusCode::NO_CONTENT))
}

pub(super) async fn resize(call: Call) -> Result<Reply> {
    let (rows, columns) = window(&call)?;
    call.engine().resize(&call.name, rows, columns).await?;
    Ok(body::empty(StatusCode::OK))
}

/// `h` and `w`.
pub(super) fn window(call: &Call) -> Result<(u16, u16)> {
    let side = |name| -> Result<u16> {
        let side = call.query.number(name)?;
        side.ok_or_else(|| Failure::invalid(format!("{name} is missing: want rows as h and columns as w")))
    };
    Ok((side("h")?, side("w")?))
}

pub(super) async fn delete(call: Call) -> Result<Reply> {
    if call.query.flag("link") {
        return Err(Failure::unsupported("links"));
    }
    // `v=1` removes anonymous volumes with the container; none can have been made.
    call.engine().remove(&call.name, call.query.flag("force")).await?;
    Ok(body::empty(StatusCode::NO_CONTENT))
}

pub(super) async fn prune(call: Call) -> Result<Reply> {
    let filters = call.query.filters()?;
    filters.only(&["label", "label!", "until"])?;
    let until = convert::time::until(&filters)?;
    let prunable = |container: &Container| {
        matches!(container.state, State::Created | State::Exited | State::Dead)
            && until.is_none_or(|until| container.created < until)
            && filters.labels("label", &container.config.labels)
            && (filters.values("label!").is_empty() || !filters.labels("label!", &container.config.labels))
    };
    let mut pruned = Prune::default();
    for container in call.engine().list() {
        if !prunable(&container) {
            continue;
        }
        let bytes = call.engine().size(&container.id).await.unwrap_or(0);
        // One that started meanwhile stays.
        if call.engine().remove(&container.id, false).await.is_ok() {
            pruned.space_reclaimed += bytes;
            pruned.containers_deleted.get_or_insert_default().push(container.id.clone());
        }
    }
    call.json(StatusCode::OK, &pruned)
}

/// Answers its headers at once, so that `docker run` may start what it waits for; the body comes with the end.
pub(super) async fn wait(call: Call) -> Result<Reply> {
    let what = match call.query.get("condition") {
        "" | "not-running" => WaitFor::NotRunning,
        "next-exit" => WaitFor::NextExit,
        "removed" => WaitFor::Removed,
        other => return Err(Failure::invalid(format!("invalid condition: {other:?}"))),
    };
    let waiting = call.engine().wait(&call.name, what)?;
    let (sender, body) = body::channel(1);
    let (op, version) = (call.op, call.version);
    tokio::spawn(async move {
        let waited = tokio::select! {
            waited = waiting.done() => waited,
            () = sender.closed() => return,
            () = call.door.stopped() => return,
        };
        let answer = Wait {
            error: waited.error.map(|message| WaitError { message }),
            status_code: waited.code.into(),
        };
        let mut value = serde_json::to_value(answer).unwrap_or_default();
        api::version::adapt(op, version, &mut value);
        let _ = sender.send(body::line(&value)).await;
    });
    Ok(body::with_type(StatusCode::OK, api::JSON, body))
}
