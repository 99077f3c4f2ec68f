//! `run`

use std::time::Duration;

use clap::Args;

use super::create::create;
use super::wait::Ending;
use super::{Context, say, warn};
use crate::client::{empty, encode, flag, with_query};
use crate::container::{Flags, Place};
use crate::error::{Error, Result, message};
use crate::explain::{Look, draw};
use crate::session::{Ended, Session, Wiring};
use crate::signals::{self, Signals};
use crate::terminal;

/// Create and run a new container from an image
///
/// The exit code is the command's own; 125 when the engine failed, 126 when the command could not be run, 127 when
/// it was not found, 128+N when signal N ended it. With --explain, what was done for the start is drawn as a
/// timeline on standard error afterwards.
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Run container in background and print container ID
    #[arg(short, long)]
    detach: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "string")]
    detach_keys: Option<String>,
    /// Show what was done for the start as a timeline
    #[arg(long)]
    explain: bool,
    /// Proxy received signals to the process (default true)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = true, hide_default_value = true, action = clap::ArgAction::Set)]
    sig_proxy: bool,
    #[command(flatten)]
    flags: Flags,
}

impl Run {
    pub(super) async fn run(self, cx: &Context) -> Result<u8> {
        if self.detach && !self.flags.attach.is_empty() {
            return Err(message("conflicting options: cannot specify both --attach and --detach"));
        }
        let wiring = self.wiring()?;
        if wiring.input && wiring.tty && !terminal::input_is_terminal() {
            return Err(message("the input device is not a TTY"));
        }
        self.begin(cx, &wiring).await.map_err(|e| as_status(e, cx.program))
    }

    fn wiring(&self) -> Result<Wiring> {
        let to = |name: &str| self.flags.attach.iter().any(|stream| stream == name);
        let all = self.flags.attach.is_empty();
        Ok(Wiring {
            input: !self.detach && (self.flags.interactive || to("stdin")),
            output: !self.detach && (all || to("stdout")),
            error: !self.detach && (all || to("stderr")),
            tty: self.flags.tty,
            detach: Wiring::detach_keys(self.detach_keys.as_deref()).map_err(message)?,
        })
    }

    async fn begin(&self, cx: &Context, wiring: &Wiring) -> Result<u8> {
        let console = terminal::size().filter(|_| self.flags.tty).map(|(rows, columns)| [rows, columns]);
        let place = Place { detached: self.detach, console: console.unwrap_or_default() };
        // Caught from the beginning: a signal that comes before the start belongs to the container as well.
        let caught = (!self.detach && self.sig_proxy).then(Signals::catch);
        let id = create(cx, &self.flags, place).await?.id;
        let start = format!("/containers/{id}/start");
        if self.detach {
            cx.client.post(&start).await?;
            say(&id)?;
            return self.explained(cx, &id, 0).await;
        }
        let mut session = self.attach(cx, &id, wiring).await?;
        let ending = Ending::of(cx, &id, if self.flags.rm { "removed" } else { "next-exit" }).await?;
        if let Err(e) = cx.client.post(&start).await {
            drop(session);
            if self.flags.rm {
                // The daemon removes what did not start; whoever runs this again wants the name to be free.
                let _ = tokio::time::timeout(Duration::from_secs(5), ending.code()).await;
            }
            return Err(e);
        }
        if let Some(caught) = caught {
            caught.pass_on(&cx.client, &id);
        }
        if wiring.tty && terminal::output_is_terminal() {
            signals::follow_size(&cx.client, format!("/containers/{id}/resize"));
        }
        let timeline = if self.explain { Some(timeline(cx, &id).await) } else { None };
        if !wiring.output && !wiring.error {
            say(&id)?;
        }
        let code = match session.ended().await? {
            Ended::Detached => 0,
            Ended::Closed if !wiring.output && !wiring.error => 0,
            Ended::Closed => ending.code().await?,
        };
        timeline.into_iter().for_each(show);
        Ok(code)
    }

    async fn attach(&self, cx: &Context, id: &str, wiring: &Wiring) -> Result<Session> {
        let path = format!("/containers/{id}/attach");
        let query = [
            ("stream", flag(true)),
            ("stdin", flag(wiring.input)),
            ("stdout", flag(wiring.output)),
            ("stderr", flag(wiring.error)),
            ("detachKeys", self.detach_keys.clone()),
        ];
        let connection = cx.client.hijack(&with_query(&path, &query), empty()).await?;
        Ok(Session::start(connection, wiring)?)
    }

    async fn explained(&self, cx: &Context, id: &str, code: u8) -> Result<u8> {
        if self.explain {
            show(timeline(cx, id).await);
        }
        Ok(code)
    }
}

/// What the daemon kept of the start. The one answer in our words: read strictly, not as Go would.
async fn timeline(cx: &Context, id: &str) -> Result<trace::Timeline> {
    let json = cx.client.get_raw(&format!("/containers/{}/timeline", encode(id))).await?;
    serde_json::from_slice(&json).map_err(|e| message(format!("the daemon's answer is not understood: {e}")))
}

fn show(timeline: Result<trace::Timeline>) {
    match timeline {
        Ok(timeline) => warn(draw(&timeline, Look::of_terminal()).trim_end()),
        Err(e) if e.is_not_found() => warn("--explain: this daemon keeps no timeline of a start"),
        Err(e) => warn(format!("--explain: {e}")),
    }
}

/// The exit code that a failed start stands for.
fn as_status(error: Error, program: &str) -> Error {
    let text = match error {
        Error::Daemon { .. } | Error::Connect(_) | Error::Message(_) => error.to_string(),
        other => return other,
    };
    let said = matches!(error, Error::Daemon { .. });
    let has = |words: &[&str]| said && words.iter().any(|word| text.contains(word));
    let code =
        if has(&["executable file not found", "no such file or directory", "system cannot find the file"]) {
            127
        } else if has(&["permission denied", "is a directory"]) {
            126
        } else {
            125
        };
    Error::Status {
        message: format!("{program}: {text}\n\nRun '{program} run --help' for more information"),
        code,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_of_starts_that_fail() {
        for (text, want) in [
            ("exec: \"x\": executable file not found in $PATH: unknown", 127),
            ("exec: \"/x\": stat /x: no such file or directory: unknown", 127),
            ("exec: \"/etc/passwd\": permission denied: unknown", 126),
            ("exec: \"/etc\": is a directory: unknown", 126),
            ("Conflict. The container name \"/x\" is already in use", 125),
        ] {
            let error = as_status(Error::Daemon { status: 500, message: text.into() }, "knarr");
            assert!(matches!(error, Error::Status { code, .. } if code == want), "{text}");
        }
    }
}
