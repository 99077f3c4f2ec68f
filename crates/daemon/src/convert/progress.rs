//! Pulls and pushes in Docker's lines.

use std::time::Duration;

use api::message::{Progress, ProgressDetail};
use engine::{Pulled, PushStep, Pushed, Step};

/// Columns that the bar is made for; clients with a terminal draw their own.
const BAR: usize = 50;

/// A line about a layer, if the step has one; docker's clients know these words.
pub(crate) fn layer(id: &str, step: Step) -> Option<Progress> {
    let plain = |status: &str| Some(with(id, status, ProgressDetail::default(), String::new()));
    match step {
        Step::Known => plain("Pulling fs layer"),
        Step::Exists => plain("Already exists"),
        Step::Waiting => plain("Waiting"),
        Step::Downloading { current, total } => Some(moving(id, "Downloading", current, total)),
        Step::Retrying { pause } => plain(&retrying(pause)),
        Step::Verifying => plain("Verifying Checksum"),
        Step::Downloaded => plain("Download complete"),
        Step::Complete => plain("Pull complete"),
    }
}

fn with(id: &str, status: &str, detail: ProgressDetail, progress: String) -> Progress {
    Progress {
        status: status.to_owned(),
        progress_detail: Some(detail),
        progress,
        id: id.to_owned(),
        ..Progress::default()
    }
}

/// A line with a bar.
fn moving(id: &str, status: &str, current: u64, total: u64) -> Progress {
    let number = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let detail = ProgressDetail { current: number(current), total: number(total) };
    with(id, status, detail, bar(current, total))
}

/// `[====>    ]  1.2MB/3.4MB`
fn bar(current: u64, total: u64) -> String {
    let part = (current.min(total) * BAR as u64).checked_div(total).unwrap_or_default() as usize;
    let (line, rest) = ("=".repeat(part), " ".repeat(BAR - part));
    let (current, total) = (super::size::human(current), super::size::human(total));
    format!("[{line}>{rest}] {current:>8}/{total}")
}

/// A line about a layer on its way out.
pub(crate) fn pushing(id: &str, step: &PushStep) -> Progress {
    let plain = |status: &str| with(id, status, ProgressDetail::default(), String::new());
    match step {
        PushStep::Known => plain("Preparing"),
        PushStep::Exists => plain("Layer already exists"),
        PushStep::Mounted(from) => plain(&format!("Mounted from {from}")),
        PushStep::Pushing { current, total } => moving(id, "Pushing", *current, *total),
        PushStep::Retrying { pause } => plain(&retrying(*pause)),
        PushStep::Complete => plain("Pushed"),
    }
}

fn retrying(pause: Duration) -> String {
    let seconds = pause.as_secs().max(1);
    let unit = if seconds == 1 { "second" } else { "seconds" };
    format!("Retrying in {seconds} {unit}")
}

/// The lines that end one tag's push.
pub(crate) fn pushed(tag: &str, pushed: &Pushed) -> [Progress; 2] {
    let Pushed { digest, size } = pushed;
    let aux = serde_json::json!({ "Tag": tag, "Digest": digest.as_str(), "Size": size });
    let detail = Some(ProgressDetail::default());
    [
        Progress::status(format!("{tag}: digest: {digest} size: {size}")),
        Progress { progress_detail: detail, aux: Some(aux), ..Progress::default() },
    ]
}

/// The lines that end one name's pull.
pub(crate) fn pulled(pulled: &Pulled) -> [Progress; 2] {
    let name = pulled.name.familiar();
    let status = if pulled.is_new {
        format!("Status: Downloaded newer image for {name}")
    } else {
        format!("Status: Image is up to date for {name}")
    };
    [Progress::status(format!("Digest: {}", pulled.digest)), Progress::status(status)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_dockers() {
        let line = layer("0123456789ab", Step::Downloading { current: 500, total: 1000 }).unwrap();
        let text = serde_json::to_string(&line).unwrap();
        let want = r#"{"status":"Downloading","progressDetail":{"current":500,"total":1000},"progress":"[=========================>                         ]     500B/1kB","id":"0123456789ab"}"#;
        assert_eq!(text, want);
        let text = serde_json::to_string(&layer("x", Step::Known).unwrap()).unwrap();
        assert_eq!(text, r#"{"status":"Pulling fs layer","progressDetail":{},"id":"x"}"#);
        assert!(bar(7, 7).contains(&format!("[{}>]", "=".repeat(BAR))));
    }
}
