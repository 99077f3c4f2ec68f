//! `events`

use api::message::Event;
use clap::Args;
use http_body_util::BodyExt;
use jiff::Timestamp;

use super::{Context, say};
use crate::client::{empty, with_query};
use crate::error::{Result, message};
use crate::filter::{Filter, query};
use crate::format::one;
use crate::progress::Lines;
use crate::words::{ago, when};

/// Get real time events from the server
///
/// From now on, or from --since; until --until, or without end.
#[derive(Debug, Args)]
pub(crate) struct Events {
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "filter")]
    filter: Vec<Filter>,
    /// Format output using a custom template: 'json' or 'TEMPLATE'
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Show all events created since timestamp
    #[arg(long, value_name = "string")]
    since: Option<String>,
    /// Stream events until this timestamp
    #[arg(long, value_name = "string")]
    until: Option<String>,
}

impl Events {
    pub(super) async fn run(self, cx: &Context) -> Result<u8> {
        let now = Timestamp::now();
        let moment = |text: &Option<String>| match text.as_deref().filter(|text| !text.is_empty()) {
            Some(text) => when::parse(text, now).map(Some).map_err(message),
            None => Ok(None),
        };
        let path = with_query(
            "/events",
            &[
                ("since", moment(&self.since)?),
                ("until", moment(&self.until)?),
                ("filters", query(&self.filter)),
            ],
        );
        let mut body = cx.client.open(hyper::Method::GET, &path, empty()).await?.into_body();
        let mut lines = Lines::default();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            for line in lines.feed(&data) {
                say(self.shown(&line)?)?;
            }
        }
        if let Some(line) = lines.rest() {
            say(self.shown(&line)?)?;
        }
        Ok(0)
    }

    fn shown(&self, json: &[u8]) -> Result<String> {
        let unknown =
            |e: &dyn std::fmt::Display| message(format!("the daemon's answer is not understood: {e}"));
        match self.format.as_deref() {
            Some("json" | "{{json .}}") => Ok(String::from_utf8_lossy(json).into_owned()),
            Some(format) if !format.is_empty() => {
                let mut value: serde_json::Value = serde_json::from_slice(json).map_err(|e| unknown(&e))?;
                if let Some(members) = value.as_object_mut() {
                    // Go's names of these members, by which templates know them.
                    for (wire, name) in [
                        ("status", "Status"),
                        ("id", "ID"),
                        ("from", "From"),
                        ("scope", "Scope"),
                        ("time", "Time"),
                        ("timeNano", "TimeNano"),
                    ] {
                        let member = members.get(wire).cloned().unwrap_or("".into());
                        members.insert(name.into(), member);
                    }
                }
                one(format, &value)
            }
            _ => Ok(plain(&api::go::decode(json).map_err(|e| unknown(&e))?)),
        }
    }
}

fn plain(event: &Event) -> String {
    let nanos = if event.time_nano == 0 { event.time * 1_000_000_000 } else { event.time_nano };
    let at = ago::rfc3339(Timestamp::from_nanosecond(i128::from(nanos)).unwrap_or_default());
    let pairs: Vec<String> =
        event.actor.attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let pairs = if pairs.is_empty() { String::new() } else { format!(" ({})", pairs.join(", ")) };
    format!("{at} {} {} {}{pairs}", event.kind, event.action, event.actor.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_in_a_line() {
        let json = r#"{"Type":"container","Action":"create","Actor":{"ID":"ab","Attributes":{"image":"i","name":"n"}},"time":1,"timeNano":1000000005}"#;
        let event: Event = api::go::decode(json.as_bytes()).unwrap();
        assert_eq!(plain(&event), "1970-01-01T00:00:01.000000005Z container create ab (image=i, name=n)");
    }
}
