//! Live streams between a client and a process: hijacked connections, and plain bodies for clients that did not ask
//! for an upgrade.

use std::{io, os::fd::AsFd, time::Duration};

use api::{Version, stdcopy};
use bytes::{Buf, Bytes, BytesMut};
use engine::{AttachOptions, Frame, Input, LogLine, Streams};
use http_body_util::BodyExt;
use hyper::{
    Response, StatusCode,
    body::Incoming,
    header::{CONNECTION, CONTENT_TYPE, HeaderValue, UPGRADE},
    upgrade::OnUpgrade,
};
use hyper_util::rt::TokioIo;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::retry_on_intr,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest, unix::AsyncFd},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
};

use crate::{
    body::{self, Reply},
    detach::Detach,
};

/// Bytes read from a client at once.
const CHUNK: usize = 32 << 10;
/// What a client sent before it vanished may still be delivered for so long.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long output waits for a client that is slow to read the head of its answer.
const HEAD: Duration = Duration::from_millis(200);
/// Most clients read it sooner than a timer could tell.
const SOON: Duration = Duration::from_micros(300);

/// One client's share of a process's streams.
pub(crate) struct Session {
    /// None: only the past.
    pub(crate) streams: Option<Streams>,
    pub(crate) tty: bool,
    pub(crate) wants: AttachOptions,
    /// Whether the end of the client's input is the end of the process's.
    pub(crate) closes_stdin: bool,
    /// Keys that leave a terminal.
    pub(crate) detach: Vec<u8>,
    /// The log so far, before anything live.
    pub(crate) replay: Option<mpsc::Receiver<engine::Result<LogLine>>>,
}

/// Answers with a stream; it runs in a task of its own, which begins once the head of the answer is out.
pub(crate) fn join(
    tty: bool,
    begin: impl Future<Output = Session> + Send + 'static,
    upgrade: Option<OnUpgrade>,
    input: Option<Incoming>,
    version: Version,
) -> Reply {
    let kind = api::version::stream_type(version, tty);
    let Some(upgrade) = upgrade else {
        let (sender, body) = body::channel(4);
        tokio::spawn(async move { plain(begin.await, sender, input).await });
        return body::with_type(StatusCode::OK, kind, body);
    };
    tokio::spawn(async move {
        if let Err(error) = hijacked(begin, upgrade).await {
            tracing::debug!("hijacked stream: {error}");
        }
    });
    let mut reply = Response::new(body::full(""));
    *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("tcp"));
    reply
}

/// A frame as it goes over the wire.
fn encode(tty: bool, stderr: bool, bytes: &Bytes) -> impl Buf + Send + use<> {
    let stream = if stderr { stdcopy::Stream::Stderr } else { stdcopy::Stream::Stdout };
    let header =
        if tty { Bytes::new() } else { Bytes::copy_from_slice(&stdcopy::header(stream, bytes.len() as u32)) };
    header.chain(bytes.clone())
}

/// The past, then the present.
struct Output {
    tty: bool,
    replay: Option<mpsc::Receiver<engine::Result<LogLine>>>,
    live: Option<mpsc::Receiver<Frame>>,
}

impl Output {
    async fn next(&mut self) -> Option<impl Buf + Send + use<>> {
        if let Some(replay) = &mut self.replay {
            match replay.recv().await {
                Some(Ok(line)) => return Some(encode(self.tty, line.stderr, &line.text)),
                Some(Err(error)) => tracing::warn!("replay of a log: {error}"),
                None => {}
            }
            self.replay = None;
        }
        match self.live.as_mut()?.recv().await? {
            Frame::Stdout(bytes) => Some(encode(self.tty, false, &bytes)),
            Frame::Stderr(bytes) => Some(encode(self.tty, true, &bytes)),
        }
    }
}

/// Why input ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The client closed its half, or its body was complete.
    Closed,
    /// It typed the detach keys.
    Detached,
    /// The process takes no more.
    Refused,
}

/// The client's side of input, from wherever it comes.
struct Keyboard {
    input: Option<mpsc::Sender<Input>>,
    detach: Option<Detach>,
}

impl Keyboard {
    /// None: go on.
    async fn typed(&mut self, bytes: Bytes) -> Option<End> {
        let sender = self.input.as_ref()?;
        let (pass, detached) = match &mut self.detach {
            None => (bytes, false),
            Some(detach) => {
                let (pass, detached) = detach.feed(&bytes);
                (pass.into(), detached)
            }
        };
        if !pass.is_empty() && sender.send(Input::Data(pass)).await.is_err() {
            // The process is gone or closed its input; its output may go on.
            self.input = None;
            return Some(End::Refused);
        }
        detached.then_some(End::Detached)
    }

    async fn close(&mut self) {
        if let Some(sender) = self.input.take() {
            let _ = sender.send(Input::Close).await;
        }
    }
}

impl Session {
    fn split(self) -> (Output, Keyboard, bool) {
        let (live, input) = match self.streams {
            Some(streams) => (Some(streams.output), self.wants.stdin.then_some(streams.input)),
            None => (None, None),
        };
        let output = Output { tty: self.tty, replay: self.replay, live };
        let keyboard = Keyboard { input, detach: self.tty.then(|| Detach::new(self.detach)) };
        (output, keyboard, self.closes_stdin && !self.tty)
    }
}

async fn hijacked(begin: impl Future<Output = Session>, upgrade: OnUpgrade) -> anyhow::Result<()> {
    let upgraded = upgrade.await?;
    let parts = upgraded
        .downcast::<TokioIo<UnixStream>>()
        .map_err(|_| anyhow::anyhow!("a connection that is not ours"))?;
    let stream = parts.io.into_inner();
    let hang_up = HangUp::of(&stream)?;
    let (reader, writer) = stream.into_split();
    let (output, mut keyboard, closes_stdin) = begin.await.split();
    let has_input = keyboard.input.is_some();
    let listen = listen(reader, parts.read_buf, &mut keyboard, closes_stdin, &hang_up);
    tokio::pin!(listen);
    tokio::select! {
        written = speak(output, writer) => written?,
        () = &mut listen => {}
        // What was sent before the client vanished still counts.
        () = hang_up.wait(), if has_input => {
            let _ = tokio::time::timeout(LAST_WORDS, listen).await;
        }
    }
    Ok(())
}

/// Writes until there is nothing more to say.
async fn speak(mut output: Output, mut writer: OwnedWriteHalf) -> io::Result<()> {
    let mut first = output.next().await;
    head_was_read(writer.as_ref()).await;
    while let Some(mut piece) = first.take() {
        writer.write_all_buf(&mut piece).await?;
        first = output.next().await;
    }
    writer.shutdown().await
}

/// Waits, not for long, until the client has the answer's head. docker-py reads it through a buffer and goes on
/// below the buffer: output that is there in the same moment would be lost in between.
async fn head_was_read(socket: &UnixStream) {
    let start = std::time::Instant::now();
    while sys::queue::all_was_read(socket).is_ok_and(|all| !all) && start.elapsed() < HEAD {
        if start.elapsed() < SOON {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Reads until the attachment has to end.
async fn listen(
    mut reader: OwnedReadHalf,
    early: Bytes,
    keyboard: &mut Keyboard,
    closes_stdin: bool,
    hang_up: &HangUp,
) {
    let had_input = keyboard.input.is_some();
    let end = read(&mut reader, early, keyboard).await;
    if end == End::Detached {
        return;
    }
    if end == End::Closed && had_input {
        if !closes_stdin {
            // As Docker does: a terminal, or a container that keeps its input for others, loses this client only.
            return;
        }
        // Also for a client that vanished: nobody else will ever end this input. (The daemon's own death is another
        // matter: then nothing is closed, and containers do not notice.)
        keyboard.close().await;
    }
    hang_up.wait().await;
}

async fn read(reader: &mut OwnedReadHalf, early: Bytes, keyboard: &mut Keyboard) -> End {
    if let Some(end) = keyboard.typed(early).await {
        return end;
    }
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(CHUNK);
        match reader.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return End::Closed,
            Ok(_) => {}
        }
        if let Some(end) = keyboard.typed(buffer.split().freeze()).await {
            return end;
        }
    }
}

/// For a client without an upgrade: output is the answer's body, input the request's.
async fn plain(session: Session, sender: mpsc::Sender<Bytes>, body: Option<Incoming>) {
    let (mut output, mut keyboard, closes_stdin) = session.split();
    let speak = async {
        while let Some(mut piece) = output.next().await {
            if sender.send(piece.copy_to_bytes(piece.remaining())).await.is_err() {
                return;
            }
        }
    };
    let listen = async {
        let (Some(mut body), true) = (body, keyboard.input.is_some()) else {
            return std::future::pending().await;
        };
        while let Some(Ok(frame)) = body.frame().await {
            let bytes = frame.into_data().unwrap_or_default();
            match keyboard.typed(bytes).await {
                Some(End::Detached) => return,
                Some(_) => break,
                None => {}
            }
        }
        if closes_stdin {
            keyboard.close().await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = speak => {}
        () = listen => {}
        () = sender.closed() => {}
    }
}

/// Tells a client that has gone from one that has closed its sending half.
pub(crate) struct HangUp(AsyncFd<std::os::fd::OwnedFd>);

impl HangUp {
    pub(crate) fn of(stream: &UnixStream) -> io::Result<Self> {
        // Only EPOLLHUP (always reported) is of interest: a registration of its own, for urgent data, which unix
        // sockets do not have, sleeps through everything else.
        let own = stream.as_fd().try_clone_to_owned()?;
        // Its successor is unsafe because a type may lie about its descriptor; an `OwnedFd` that stays inside cannot.
        #[allow(deprecated)]
        AsyncFd::with_interest(own, Interest::PRIORITY).map(Self)
    }

    pub(crate) async fn wait(&self) {
        while !self.now() {
            match self.0.ready(Interest::PRIORITY).await {
                Ok(mut guard) => guard.clear_ready(),
                Err(_) => return,
            }
        }
    }

    fn now(&self) -> bool {
        let mut fds = [PollFd::new(self.0.get_ref(), PollFlags::empty())];
        let at_once = Timespec::default();
        // Interrupted even without waiting, whenever a child ends.
        let polled = retry_on_intr(|| poll(&mut fds, Some(&at_once)));
        polled.is_err() || fds[0].revents().contains(PollFlags::HUP)
    }
}

/// Log lines as a body, several in one piece.
pub(crate) async fn log(
    mut lines: mpsc::Receiver<engine::Result<LogLine>>,
    sender: mpsc::Sender<Bytes>,
    tty: bool,
    prefix: impl Fn(&LogLine) -> String,
) {
    const FULL: usize = 64 << 10;
    let mut piece = BytesMut::new();
    loop {
        let line = match lines.try_recv() {
            Ok(line) => Some(line),
            Err(_) if !piece.is_empty() => None,
            Err(_) => tokio::select! {
                line = lines.recv() => match line {
                    Some(line) => Some(line),
                    None => return,
                },
                () = sender.closed() => return,
            },
        };
        match &line {
            Some(Ok(line)) => append(&mut piece, tty, &prefix(line), line),
            Some(Err(error)) => failed(&mut piece, tty, error),
            None => {}
        }
        if (line.is_none() || piece.len() >= FULL) && sender.send(piece.split().freeze()).await.is_err() {
            return;
        }
    }
}

fn append(piece: &mut BytesMut, tty: bool, prefix: &str, line: &LogLine) {
    if !tty {
        let stream = if line.stderr { stdcopy::Stream::Stderr } else { stdcopy::Stream::Stdout };
        piece.extend_from_slice(&stdcopy::header(stream, (prefix.len() + line.text.len()) as u32));
    }
    piece.extend_from_slice(prefix.as_bytes());
    piece.extend_from_slice(&line.text);
}

/// An error after the headers went out: Docker's clients show frames of the system stream as errors.
fn failed(piece: &mut BytesMut, tty: bool, error: &engine::Error) {
    let text = format!("Error grabbing logs: {error}\n");
    if !tty {
        piece.extend_from_slice(&stdcopy::header(stdcopy::Stream::System, text.len() as u32));
    }
    piece.extend_from_slice(text.as_bytes());
}
