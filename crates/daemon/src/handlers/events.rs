//! What happens, as it happens.

use api::{
    Filters,
    message::{Actor, Event as Line},
};
use engine::Event;
use hyper::StatusCode;
use jiff::Timestamp;
use tokio::sync::{broadcast::error::RecvError, mpsc};

use crate::{
    body::{self, Reply},
    convert::time,
    failure::Result,
    router::Call,
};

/// The past since `since`, then the present until `until`; without `since` only the present.
pub(super) async fn events(call: Call) -> Result<Reply> {
    let (since, until) = (time::parse(call.query.get("since"))?, time::parse(call.query.get("until"))?);
    let filters = call.query.filters()?;
    filters.only(&[
        "config",
        "container",
        "daemon",
        "event",
        "image",
        "label",
        "network",
        "node",
        "plugin",
        "scope",
        "secret",
        "service",
        "type",
        "volume",
    ])?;
    // Subscribed first, so that nothing falls between past and present.
    let live = call.engine().events();
    let recent = if since.is_some() { call.engine().recent_events() } else { Vec::new() };
    let show = Show { filters, since, until };
    let (sender, body) = body::channel(16);
    let door = call.door;
    tokio::spawn(async move {
        let listening = door.listen();
        tokio::select! {
            () = show.all(recent, live, &sender) => {}
            () = sender.closed() => {}
            () = over(until) => {}
            () = door.stopped() => {}
        }
        drop(listening);
    });
    Ok(body::with_type(StatusCode::OK, api::JSON, body))
}

/// Resolves at `until`, if there is one.
async fn over(until: Option<Timestamp>) {
    match until {
        None => std::future::pending().await,
        Some(until) => {
            let left = until.duration_since(Timestamp::now());
            tokio::time::sleep(left.try_into().unwrap_or_default()).await;
        }
    }
}

struct Show {
    filters: Filters,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl Show {
    async fn all(
        &self,
        recent: Vec<Event>,
        mut live: tokio::sync::broadcast::Receiver<Event>,
        sender: &mpsc::Sender<bytes::Bytes>,
    ) {
        let mut last = None;
        for event in recent {
            last = Some(event.at);
            self.one(event, sender).await;
        }
        if self.until.is_some_and(|until| until <= Timestamp::now()) {
            return;
        }
        loop {
            match live.recv().await {
                // Both in the past and in the present.
                Ok(event) if last.is_some_and(|last| event.at <= last) => {}
                Ok(event) => self.one(event, sender).await,
                Err(RecvError::Lagged(missed)) => {
                    tracing::warn!("a client of events was too slow and missed {missed}");
                }
                Err(RecvError::Closed) => return,
            }
        }
    }

    async fn one(&self, event: Event, sender: &mpsc::Sender<bytes::Bytes>) {
        let in_time = self.since.is_none_or(|since| event.at >= since)
            && self.until.is_none_or(|until| event.at <= until);
        if in_time && matches(&self.filters, &event) {
            // A client that has gone ends the whole answer.
            let _ = sender.send(body::line(&line(event))).await;
        }
    }
}

fn matches(filters: &Filters, event: &Event) -> bool {
    let attribute = |name: &str| event.attributes.get(name).map_or("", String::as_str);
    // `exec_create: sh` is found as `exec_create`.
    let word = event.action.split(':').next().unwrap_or_default();
    let this = |kind: &str, name: &str| {
        event.kind == kind && (event.id.starts_with(name) || attribute("name") == name)
    };
    let image_of = |name: &str| match event.kind {
        "image" => event.id == name || without_tag(attribute("name")) == without_tag(name),
        _ => attribute("image") == name || without_tag(attribute("image")) == name,
    };
    filters.any("type", |kind| kind == event.kind)
        && filters.any("event", |action| action == event.action || action == word)
        && filters.any("container", |name| this("container", name))
        && filters.any("image", image_of)
        && filters.any("scope", |scope| scope == "local")
        && filters.labels("label", &event.attributes)
        && ["config", "daemon", "network", "node", "plugin", "secret", "service", "volume"]
            .iter()
            .all(|other| filters.any(other, |name| this(other, name)))
}

fn without_tag(name: &str) -> &str {
    match name.rsplit_once(':') {
        Some((before, tag)) if !tag.contains('/') => before,
        _ => name,
    }
}

/// `status`, `id` and `from` repeat the actor in every version that is served (1.52 drops them).
fn line(event: Event) -> Line {
    let image = event.attributes.get("image").cloned();
    Line {
        status: event.action.clone(),
        id: event.id.clone(),
        from: if event.kind == "container" { image.unwrap_or_default() } else { String::new() },
        kind: event.kind.to_owned(),
        action: event.action,
        actor: Actor { id: event.id, attributes: event.attributes },
        scope: "local".to_owned(),
        time: event.at.as_second(),
        time_nano: event.at.as_nanosecond() as i64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        Event {
            at: "2026-11-23T23:52:16.5Z".parse().unwrap(),
            kind: "container",
            action: "exec_create: sh".to_owned(),
            id: "ab".repeat(32),
            attributes: [("image", "bb:latest"), ("name", "c1"), ("team", "x")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
        }
    }

    #[test]
    fn filters_choose_events() {
        for (filters, shown) in [
            ("", true),
            (r#"{"type":["container"],"event":["exec_create"]}"#, true),
            (r#"{"container":["c1"]}"#, true),
            (r#"{"container":["abab"],"image":["bb"]}"#, true),
            (r#"{"image":["bb:latest"],"label":["team=x"]}"#, true),
            (r#"{"label":["team=y"]}"#, false),
            (r#"{"event":["exec"]}"#, false),
            (r#"{"network":["c1"]}"#, false),
        ] {
            assert_eq!(matches(&Filters::parse(filters).unwrap(), &event()), shown, "{filters}");
        }
    }

    #[test]
    fn lines_repeat_the_actor() {
        let line = line(event());
        assert_eq!((line.status.as_str(), line.from.as_str()), ("exec_create: sh", "bb:latest"));
        assert_eq!((line.time, line.time_nano), (1_795_477_936, 1_795_477_936_500_000_000));
    }
}
