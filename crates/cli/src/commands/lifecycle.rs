//! The verbs that change whether containers run: one request for each container, and its name when it worked.

use clap::Args;

use super::{Context, for_each};
use crate::client::{encode, with_query};
use crate::error::Result;

async fn tell(cx: &Context, names: &[String], verb: &str, query: &[(&str, Option<String>)]) -> Result<u8> {
    for_each(names, async |name| {
        let path = with_query(&format!("/containers/{}/{verb}", encode(&name)), query);
        cx.client.post(&path).await.map(drop)
    })
    .await
}

/// Stop one or more running containers
///
/// Sends the container's stop signal (SIGTERM unless the image or the container says otherwise), and SIGKILL when
/// the time is over: ten seconds unless the container or the flag says otherwise; -1 waits without end.
#[derive(Debug, Args)]
pub(crate) struct Stop {
    /// Signal to send to the container
    #[arg(short, long, value_name = "string")]
    signal: Option<String>,
    /// Seconds to wait before killing the container
    #[arg(short, long, alias = "time", value_name = "int", value_parser = seconds)]
    timeout: Option<i64>,
    /// Names or ids.
    #[arg(required = true, value_names = ["CONTAINER", "[CONTAINER...]"], num_args = 1..)]
    containers: Vec<String>,
}

impl Stop {
    pub(super) async fn run(self, cx: &Context) -> Result<u8> {
        let query = [("signal", self.signal), ("t", self.timeout.map(|t| t.to_string()))];
        tell(cx, &self.containers, "stop", &query).await
    }
}

/// Restart one or more containers
///
/// Stops as `stop` does, then starts again.
#[derive(Debug, Args)]
pub(crate) struct Restart {
    /// Signal to send to the container
    #[arg(short, long, value_name = "string")]
    signal: Option<String>,
    /// Seconds to wait before killing the container
    #[arg(short, long, alias = "time", value_name = "int", value_parser = seconds)]
    timeout: Option<i64>,
    /// Names or ids.
    #[arg(required = true, value_names = ["CONTAINER", "[CONTAINER...]"], num_args = 1..)]
    containers: Vec<String>,
}

impl Restart {
    pub(super) async fn run(self, cx: &Context) -> Result<u8> {
        let query = [("signal", self.signal), ("t", self.timeout.map(|t| t.to_string()))];
        tell(cx, &self.containers, "restart", &query).await
    }
}

/// Kill one or more running containers
///
/// Sends SIGKILL, or the signal named by name or number, to the container's first process.
#[derive(Debug, Args)]
pub(crate) struct Kill {
    /// Signal to send to the container
    #[arg(short, long, value_name = "string")]
    signal: Option<String>,
    /// Names or ids.
    #[arg(required = true, value_names = ["CONTAINER", "[CONTAINER...]"], num_args = 1..)]
    containers: Vec<String>,
}

impl Kill {
    pub(super) async fn run(self, cx: &Context) -> Result<u8> {
        tell(cx, &self.containers, "kill", &[("signal", self.signal)]).await
    }
}

/// Pause all processes within one or more containers
///
/// The freezer cgroup stops every process where it stands; memory and open files stay.
#[derive(Debug, Args)]
pub(crate) struct Pause {
    /// Names or ids.
    #[arg(required = true, value_names = ["CONTAINER", "[CONTAINER...]"], num_args = 1..)]
    containers: Vec<String>,
}

impl Pause {
    pub(super) async fn run(self, cx: &Context) -> Result<u8> {
        tell(cx, &self.containers, "pause", &[]).await
    }
}

/// Unpause all processes within one or more containers
///
/// Lets paused processes go on.
#[derive(Debug, Args)]
pub(crate) struct Unpause {
    /// Names or ids.
    #[arg(required = true, value_names = ["CONTAINER", "[CONTAINER...]"], num_args = 1..)]
    containers: Vec<String>,
}

impl Unpause {
    pub(super) async fn run(self, cx: &Context) -> Result<u8> {
        tell(cx, &self.containers, "unpause", &[]).await
    }
}

fn seconds(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))
}
