//! `attach` and `resize`: the live streams of a container's process.

use shim::protocol::{self, Reply, Request};
use tokio::sync::mpsc;

use crate::{
    AttachOptions, Engine, State, Streams,
    error::{Error, Kind, Result},
    handle::Attachment,
    locked,
    shim::Line,
    stop::unless_ended,
};

/// Frames in flight between shim and door; with 64 KiB each, a bound on what a slow client holds.
const IN_FLIGHT: usize = 16;

impl From<AttachOptions> for protocol::Streams {
    fn from(options: AttachOptions) -> Self {
        Self { stdin: options.stdin, stdout: options.stdout, stderr: options.stderr }
    }
}

/// The two ends of a client's streams: one for the door, one to be joined to a shim.
pub(crate) fn channels(tty: bool, options: AttachOptions) -> (Streams, Attachment) {
    let (output_in, output) = mpsc::channel(IN_FLIGHT);
    let (input, input_out) = mpsc::channel(IN_FLIGHT);
    (Streams { tty, output, input }, Attachment { options, output: output_in, input: input_out })
}

impl Engine {
    /// Joins the streams of a container. One that does not run yet delivers from its first byte when it is started.
    pub async fn attach(&self, key: &str, options: AttachOptions) -> Result<Streams> {
        let handle = self.0.containers.find(key)?;
        // A start that is under way is waited for, and none begins before who waits for one is entered.
        let _no_start =
            if handle.now().state.pid().is_none() { Some(handle.verb.lock().await) } else { None };
        let container = handle.now();
        let (streams, attachment) = channels(container.config.tty, options);
        match container.state {
            State::Running { .. } => {
                let request = Request::Attach { session: None, streams: options.into() };
                let joined = async {
                    let mut line = self.line(&container.id).await?;
                    expect_done(&line.ask(&request).await?)?;
                    Ok(line)
                };
                let line = unless_ended(&handle, container.state.pid(), joined.await).await?;
                line.pump(attachment.output, attachment.input, std::future::ready(()));
            }
            State::Paused { .. } => {
                let message = format!("container {key} is paused, unpause the container before attach");
                return Err(Error::new(Kind::Conflict, message));
            }
            _ => {
                let mut waiting = locked(&handle.waiting);
                waiting.retain(|other| !other.output.is_closed());
                waiting.push(attachment);
            }
        }
        self.0.events.container(&container, "attach", &[]);
        Ok(streams)
    }

    /// Sets the size of the container's terminal. Before the start it is remembered for the first paint.
    pub async fn resize(&self, key: &str, rows: u16, columns: u16) -> Result<()> {
        let handle = self.0.containers.find(key)?;
        handle.change(|container| container.config.console_size = Some((rows, columns)));
        let container = handle.settled().await;
        // Sizes that waited for a start may get past one another: the one that came last counts.
        let (Some(_), Some((height, width))) = (container.state.pid(), container.config.console_size) else {
            return Ok(());
        };
        let size = oci::spec::ConsoleSize { height, width };
        expect_done(&self.ask(&handle, &Request::Resize { session: None, size }).await?)
    }

    /// A connection to the shim of the container `id`.
    pub(crate) async fn line(&self, id: &str) -> Result<Line> {
        let directory = self.bundle(id);
        Line::connect(&directory)
            .await
            .map_err(|error| Error::at("connect to the shim in", &directory, &error))
    }
}

pub(crate) fn expect_done(reply: &Reply) -> Result<()> {
    match reply {
        Reply::Done => Ok(()),
        other => Err(Error::internal(format!("the shim answers out of turn: {other:?}"))),
    }
}
