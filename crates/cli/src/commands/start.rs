//! `start`

use clap::Args;

use super::wait::Ending;
use super::{Context, say, warn};
use crate::client::{empty, encode, flag, with_query};
use crate::error::{Error, Result, message};
use crate::session::{Ended, Session, Wiring};
use crate::signals::{self, Signals};
use crate::terminal;

/// Start one or more stopped containers
///
/// With --attach or --interactive, one container's streams are joined and its exit code becomes this program's.
#[derive(Debug, Args)]
pub(crate) struct Start {
    /// Attach STDOUT/STDERR and forward signals
    #[arg(short, long)]
    attach: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "string")]
    detach_keys: Option<String>,
    /// Attach container's STDIN
    #[arg(short, long)]
    interactive: bool,
    /// Names or ids.
    #[arg(required = true, value_names = ["CONTAINER", "[CONTAINER...]"], num_args = 1..)]
    containers: Vec<String>,
}

impl Start {
    pub(super) async fn run(self, cx: &Context) -> Result<u8> {
        if !self.attach && !self.interactive {
            return self.many(cx).await;
        }
        match self.containers.as_slice() {
            [one] => self.joined(cx, one).await,
            _ => Err(message("you cannot start and attach multiple containers at once")),
        }
    }

    async fn many(&self, cx: &Context) -> Result<u8> {
        let mut failed = Vec::new();
        for name in &self.containers {
            match cx.client.post(&format!("/containers/{}/start", encode(name))).await {
                Ok(_) => say(name)?,
                Err(e @ Error::Connect(_)) => return Err(e),
                Err(e) => {
                    warn(e.to_string());
                    failed.push(name.as_str());
                }
            }
        }
        if failed.is_empty() {
            return Ok(0);
        }
        Err(message(format!("Error: failed to start containers: {}", failed.join(", "))))
    }

    async fn joined(&self, cx: &Context, name: &str) -> Result<u8> {
        let it: api::container::Inspect =
            cx.client.get(&format!("/containers/{}/json", encode(name))).await?;
        let wiring = Wiring {
            input: self.interactive && it.config.open_stdin,
            output: true,
            error: true,
            tty: it.config.tty,
            detach: Wiring::detach_keys(self.detach_keys.as_deref()).map_err(message)?,
        };
        if wiring.input && wiring.tty && !terminal::input_is_terminal() {
            return Err(message("the input device is not a TTY"));
        }
        let caught = (!wiring.tty).then(Signals::catch);
        let path = format!("/containers/{}/attach", it.id);
        let query = [
            ("stream", flag(true)),
            ("stdin", flag(wiring.input)),
            ("stdout", flag(true)),
            ("stderr", flag(true)),
            ("detachKeys", self.detach_keys.clone()),
        ];
        let connection = cx.client.hijack(&with_query(&path, &query), empty()).await?;
        let mut session = Session::start(connection, &wiring)?;
        let condition = if it.host_config.auto_remove { "removed" } else { "next-exit" };
        let ending = Ending::of(cx, &it.id, condition).await?;
        if let Err(e) = cx.client.post(&format!("/containers/{}/start", it.id)).await {
            drop(session);
            warn(e.to_string());
            return Err(message(format!("Error: failed to start containers: {name}")));
        }
        if let Some(caught) = caught {
            caught.pass_on(&cx.client, &it.id);
        }
        if wiring.tty && terminal::output_is_terminal() {
            signals::follow_size(&cx.client, format!("/containers/{}/resize", it.id));
        }
        match session.ended().await? {
            Ended::Detached => Ok(0),
            Ended::Closed => ending.code().await,
        }
    }
}
