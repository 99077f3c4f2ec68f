//! `attach`

use clap::Args;

use super::Context;
use super::wait::Ending;
use crate::client::{empty, encode, flag, with_query};
use crate::error::{Result, message};
use crate::session::{Ended, Session, Wiring};
use crate::signals::{self, Signals};
use crate::terminal;

/// Attach local standard input, output, and error streams to a running container
///
/// The exit code is the container's when it ends meanwhile. Ctrl-P Ctrl-Q leaves a container that has a terminal
/// and lets it run.
#[derive(Debug, Args)]
pub(crate) struct Attach {
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "string")]
    detach_keys: Option<String>,
    /// Do not attach STDIN
    #[arg(long)]
    no_stdin: bool,
    /// Proxy all received signals to the process (default true)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = true, hide_default_value = true, action = clap::ArgAction::Set)]
    sig_proxy: bool,
    /// Name or id.
    #[arg(value_name = "CONTAINER")]
    container: String,
}

impl Attach {
    pub(super) async fn run(self, cx: &Context) -> Result<u8> {
        let it: api::container::Inspect =
            cx.client.get(&format!("/containers/{}/json", encode(&self.container))).await?;
        let state = &it.state;
        for (wrong, why) in [
            (!state.running, "You cannot attach to a stopped container, start it first"),
            (state.paused, "You cannot attach to a paused container, unpause it first"),
            (state.restarting, "You cannot attach to a restarting container, wait until it is running"),
        ] {
            if wrong {
                return Err(message(why));
            }
        }
        let wiring = Wiring {
            input: !self.no_stdin && it.config.open_stdin,
            output: true,
            error: true,
            tty: it.config.tty,
            detach: Wiring::detach_keys(self.detach_keys.as_deref()).map_err(message)?,
        };
        if wiring.input && wiring.tty && !terminal::input_is_terminal() {
            return Err(message("the input device is not a TTY"));
        }
        if self.sig_proxy && !wiring.tty {
            Signals::catch().pass_on(&cx.client, &it.id);
        }
        let ending = Ending::of(cx, &it.id, "not-running").await?;
        let query = [
            ("stream", flag(true)),
            ("stdin", flag(wiring.input)),
            ("stdout", flag(true)),
            ("stderr", flag(true)),
            ("detachKeys", self.detach_keys.clone()),
        ];
        let path = format!("/containers/{}/attach", it.id);
        let connection = cx.client.hijack(&with_query(&path, &query), empty()).await?;
        let resize = format!("/containers/{}/resize", it.id);
        let terminal = wiring.tty && terminal::output_is_terminal();
        if terminal && let Some((rows, columns)) = terminal::size() {
            // Another size first: a program that is told of no change draws nothing.
            for (rows, columns) in [(rows + 1, columns + 1), (rows, columns)] {
                let _ = cx.client.post(&format!("{resize}?h={rows}&w={columns}")).await;
            }
        }
        let mut session = Session::start(connection, &wiring)?;
        if terminal {
            signals::follow_size(&cx.client, resize);
        }
        match session.ended().await? {
            Ended::Detached => Ok(0),
            Ended::Closed => ending.code().await,
        }
    }
}
