//! `logs`

use std::io::Write;

use clap::Args;
use http_body_util::BodyExt;
use jiff::Timestamp;

use super::Context;
use crate::client::{empty, encode, flag, with_query};
use crate::error::{Result, message};
use crate::terminal::{Plain, Split};
use crate::words::when;

/// Fetch the logs of a container
///
/// What it wrote, each line to the stream that it was written to. With --follow, on until the container ends.
#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// Show extra details provided to logs
    #[arg(long)]
    details: bool,
    /// Follow log output
    #[arg(short, long)]
    follow: bool,
    /// Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)
    #[arg(long, value_name = "string")]
    since: Option<String>,
    /// Number of lines to show from the end of the logs (default "all")
    #[arg(short = 'n', long, value_name = "string", default_value = "all", hide_default_value = true)]
    tail: String,
    /// Show timestamps
    #[arg(short, long)]
    timestamps: bool,
    /// Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)
    #[arg(long, value_name = "string")]
    until: Option<String>,
    /// Name or id.
    #[arg(value_name = "CONTAINER")]
    container: String,
}

impl Logs {
    pub(super) async fn run(self, cx: &Context) -> Result<u8> {
        let it: api::container::Inspect =
            cx.client.get(&format!("/containers/{}/json", encode(&self.container))).await?;
        let now = Timestamp::now();
        let moment = |name: &str, text: &Option<String>| match text.as_deref().filter(|text| !text.is_empty())
        {
            Some(text) => when::parse(text, now)
                .map(Some)
                .map_err(|e| message(format!("invalid value for \"{name}\": {e}"))),
            None => Ok(None),
        };
        let query = [
            ("stdout", flag(true)),
            ("stderr", flag(true)),
            ("details", flag(self.details)),
            ("follow", flag(self.follow)),
            ("timestamps", flag(self.timestamps)),
            ("since", moment("since", &self.since)?),
            ("until", moment("until", &self.until)?),
            ("tail", Some(self.tail)),
        ];
        let path = with_query(&format!("/containers/{}/logs", it.id), &query);
        let mut body = cx.client.open(hyper::Method::GET, &path, empty()).await?.into_body();
        let mut split = Split::new(true, true);
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            if it.config.tty {
                Plain::Out.write_all(&data)?;
            } else {
                split.feed(&data)?;
            }
        }
        Ok(0)
    }
}
