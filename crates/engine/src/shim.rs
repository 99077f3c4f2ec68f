//! The engine's end of the line to a shim: tokio around the types of [`shim::protocol`].

use std::{io, os::fd::AsRawFd, path::Path, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use shim::protocol::{Event, MAX_FRAME, MAX_MESSAGE, Reply, Request, STDERR, STDIN, STDOUT, State};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::mpsc,
};

use crate::{
    Frame, Input,
    error::{Error, Kind, Result},
};

/// For a shim to end, once it has said its last word.
const FAREWELL: Duration = Duration::from_secs(5);
/// For the end of a process to be noted once its output has ended.
const NOTED: Duration = Duration::from_secs(2);
/// For `RUNTIME create`, with all that it mounts and its hooks.
const CREATE: Duration = Duration::from_mins(1);

/// What a request is called, and how long its answer may take. What a shim does by itself it does at once, for it
/// has no thread that could wait; the rest is a call of the runtime, which gives up after 10 s where it waits.
fn patience(request: &Request) -> (&'static str, Duration) {
    let (name, seconds) = match request {
        Request::State => ("state", 3),
        Request::Watch => ("watch", 3),
        Request::Attach { .. } => ("attach", 3),
        Request::Resize { .. } => ("resize", 3),
        Request::Signal { .. } => ("signal", 3),
        Request::Pause => ("pause", 12),
        Request::Resume => ("resume", 12),
        Request::Discard => ("discard", 12),
        Request::Start => ("start", 30),
        Request::Exec { .. } => ("exec", 30),
    };
    (name, Duration::from_secs(seconds))
}

/// A connection that carries messages.
#[derive(Debug)]
pub(crate) struct Line {
    stream: UnixStream,
    buffer: BytesMut,
}

impl Line {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self { stream, buffer: BytesMut::new() }
    }

    /// The shim's process; 0 if the kernel does not tell.
    pub(crate) fn peer(&self) -> i32 {
        self.stream.peer_cred().ok().and_then(|peer| peer.pid()).unwrap_or_default()
    }

    /// Connects to the shim of the bundle `directory`. Its path may be longer than a socket address holds (108
    /// bytes), so the address goes through an open descriptor.
    pub(crate) async fn connect(directory: &Path) -> io::Result<Self> {
        use rustix::fs::{Mode, OFlags, open};
        let handle = open(directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let address = format!("/proc/self/fd/{}/shim.sock", handle.as_raw_fd());
        Ok(Self::new(UnixStream::connect(address).await?))
    }

    /// One request, one reply; an error reply becomes an error. No answer in time is [`Kind::Unavailable`].
    pub(crate) async fn ask(&mut self, request: &Request) -> Result<Reply> {
        let (name, patience) = patience(request);
        let peer = self.peer();
        in_time(name, patience, peer, self.ask_for_ever(request)).await
    }

    /// The same, however long it takes.
    async fn ask_for_ever(&mut self, request: &Request) -> Result<Reply> {
        self.send(request).await.map_err(|error| lost(&error))?;
        self.reply().await
    }

    /// The next reply.
    async fn reply(&mut self) -> Result<Reply> {
        let message = self.receive().await.map_err(|error| lost(&error))?;
        let message =
            message.ok_or_else(|| Error::new(Kind::Internal, "the container's shim ended unexpectedly"))?;
        match serde_json::from_slice(&message) {
            Ok(Reply::Error { message }) => Err(Error::new(Kind::Internal, message)),
            Ok(reply) => Ok(reply),
            Err(error) => {
                Err(Error::new(Kind::Internal, format!("the container's shim answers nonsense: {error}")))
            }
        }
    }

    /// A request that is answered by a state.
    pub(crate) async fn ask_state(&mut self, request: &Request) -> Result<State> {
        self.ask(request).await.and_then(state_of)
    }

    /// The same, however long it takes.
    pub(crate) async fn ask_state_for_ever(&mut self, request: &Request) -> Result<State> {
        self.ask_for_ever(request).await.and_then(state_of)
    }

    /// What a fresh shim, the process `shim`, says first: the state of what it has created.
    pub(crate) async fn created(&mut self, shim: i32) -> Result<State> {
        in_time("create", CREATE, shim, self.reply()).await.and_then(state_of)
    }

    /// Waits for the end of a shim that has failed: until then its directory is not free for another.
    pub(crate) async fn farewell(mut self) {
        let gone = async { while let Ok(Some(_)) = self.receive().await {} };
        let _ = tokio::time::timeout(FAREWELL, gone).await;
    }

    /// The next event of a watch; none when the shim has gone.
    pub(crate) async fn event(&mut self) -> Option<Event> {
        let message = self.receive().await.ok()??;
        serde_json::from_slice(&message).ok()
    }

    async fn send(&mut self, request: &Request) -> io::Result<()> {
        let body = serde_json::to_vec(request)?;
        let mut message = Vec::with_capacity(4 + body.len());
        message.extend((body.len() as u32).to_be_bytes());
        message.extend(body);
        self.stream.write_all(&message).await
    }

    async fn receive(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if let Some(header) = self.buffer.first_chunk::<4>() {
                let length = u32::from_be_bytes(*header);
                if length > MAX_MESSAGE {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        format!("a message of {length} bytes"),
                    ));
                }
                if self.buffer.len() >= 4 + length as usize {
                    self.buffer.advance(4);
                    return Ok(Some(self.buffer.split_to(length as usize).freeze()));
                }
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Joins the streams that this connection carries from now on to a pair of channels, until one side ends. The
    /// client sees the end of output only after `noted`: how the process ended must be known by then, since clients
    /// ask for it next.
    pub(crate) fn pump(
        self,
        output: mpsc::Sender<Frame>,
        input: mpsc::Receiver<Input>,
        noted: impl Future<Output = ()> + Send + 'static,
    ) {
        let Self { stream, buffer, .. } = self;
        let (reader, writer) = stream.into_split();
        let reading = tokio::spawn(async move {
            pump_output(reader, buffer, &output).await;
            let _ = tokio::time::timeout(NOTED, noted).await;
        });
        tokio::spawn(async move {
            // To its end, also when nobody listens any more: what a client sent last, and that it closed, still counts.
            let writer = pump_input(writer, input).await;
            let _ = reading.await;
            drop(writer);
        });
    }
}

async fn pump_output(
    mut reader: tokio::net::unix::OwnedReadHalf,
    mut buffer: BytesMut,
    output: &mpsc::Sender<Frame>,
) {
    loop {
        while let Some(frame) = next_frame(&mut buffer) {
            if output.send(frame).await.is_err() {
                return;
            }
        }
        buffer.reserve(MAX_FRAME as usize);
        tokio::select! {
            read = reader.read_buf(&mut buffer) => if !matches!(read, Ok(1..)) { return },
            () = output.closed() => return,
        }
    }
}

fn next_frame(buffer: &mut BytesMut) -> Option<Frame> {
    loop {
        let &[kind, _, _, _, a, b, c, d] = buffer.first_chunk::<8>()?;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if buffer.len() < 8 + length {
            return None;
        }
        buffer.advance(8);
        let data = buffer.split_to(length).freeze();
        match kind {
            STDOUT => return Some(Frame::Stdout(data)),
            STDERR => return Some(Frame::Stderr(data)),
            _ => {}
        }
    }
}

/// Ends without closing anything when the client's end of the channel is dropped: see [`Input`]. The connection is
/// handed back, since output may still be wanted of it.
async fn pump_input(
    mut writer: tokio::net::unix::OwnedWriteHalf,
    mut input: mpsc::Receiver<Input>,
) -> tokio::net::unix::OwnedWriteHalf {
    while let Some(piece) = input.recv().await {
        // An empty frame means close, so empty data must not become one.
        let pieces: Vec<&[u8]> = match &piece {
            Input::Data(data) => data.chunks(MAX_FRAME as usize).collect(),
            Input::Close => vec![&[]],
        };
        for piece in pieces {
            let mut header = [0; 8];
            header[0] = STDIN;
            header[4..].copy_from_slice(&(piece.len() as u32).to_be_bytes());
            if writer.write_all(&header).await.is_err() || writer.write_all(piece).await.is_err() {
                return writer;
            }
        }
    }
    writer
}

fn state_of(reply: Reply) -> Result<State> {
    match reply {
        Reply::State(state) => Ok(*state),
        other => Err(Error::internal(format!("the container's shim answers out of turn: {other:?}"))),
    }
}

async fn in_time<T>(
    name: &str,
    patience: Duration,
    shim: i32,
    answer: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::time::timeout(patience, answer).await.unwrap_or_else(|_| {
        let seconds = patience.as_secs();
        let message = format!(
            "the container's shim (process {shim}) has not answered `{name}` within {seconds} s: it is stopped, or \
             the host is overloaded"
        );
        Err(Error::new(Kind::Unavailable, message))
    })
}

fn lost(error: &io::Error) -> Error {
    Error::new(Kind::Internal, format!("the container's shim cannot be reached: {error}"))
}
