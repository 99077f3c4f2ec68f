//! The loop: what is waited for, and who deals with it.

use std::{
    collections::BTreeMap,
    fs::File,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    time::{Duration, Instant},
};

use rustix::{
    buffer::spare_capacity,
    event::{PollFd, PollFlags, Timespec, poll},
    io::{Errno, read, retry_on_intr},
    net::{SocketFlags, accept_with, sockopt::socket_peercred},
    process::geteuid,
};
use trace::{Room, Step, Timeline};

use crate::{
    calls::Call,
    connection::{Connection, Mode},
    log::JsonFile,
    oom::OomWatch,
    protocol::{Config, Event, Exit},
    runtime::Runtime,
    stdio::Streams,
    time,
};

/// Most clients at a time.
const CONNECTIONS: usize = 256;
/// Read from a process in one turn.
const READ: usize = 256 << 10;
/// Reading a process's output pauses while one of its clients is this far behind.
const BEHIND: usize = 1 << 20;
/// Memory that a burst has left is given back after this time without work.
const REST: Duration = Duration::from_secs(1);
/// A client that takes nothing for this long after the end is left.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at the OOM killer's counter, once it has been announced.
const LOOK: Duration = Duration::from_millis(10);
/// The container's own process among [`Shim::processes`].
pub(crate) const INIT: u64 = 0;

/// How far the shim is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// `RUNTIME create` runs.
    Creating,
    /// The container is there.
    Serving,
    /// `RUNTIME delete` runs.
    Deleting,
    /// Clients get what they still miss, until this time if they take nothing.
    Leaving(Instant),
}

/// The container's process, or one of an exec session.
#[derive(Debug)]
pub(crate) struct Process {
    /// The session; none for the container's own.
    pub(crate) session: Option<String>,
    pub(crate) pid: i32,
    /// None if it had ended before it could be opened.
    pub(crate) pidfd: Option<OwnedFd>,
    pub(crate) streams: Streams,
    pub(crate) exit: Option<Exit>,
    /// When waiting for the end of its output ends, once it has ended itself.
    pub(crate) drain_until: Option<Instant>,
    /// Its exit is recorded and told.
    pub(crate) announced: bool,
    /// OOM kills in the cgroup before it began.
    pub(crate) kills_before: u64,
}

/// All that a shim knows.
#[derive(Debug)]
pub(crate) struct Shim {
    pub(crate) dir: PathBuf,
    /// `dir`, for short names of the sockets in it.
    pub(crate) dir_handle: File,
    pub(crate) config: Config,
    pub(crate) runtime: Runtime,
    pub(crate) bell: BorrowedFd<'static>,
    pub(crate) listener: OwnedFd,
    pub(crate) connections: BTreeMap<u64, Connection>,
    pub(crate) processes: BTreeMap<u64, Process>,
    pub(crate) calls: Vec<Call>,
    /// Children that ended and may turn out to be what a call under way has made.
    pub(crate) unclaimed: Vec<(i32, Exit)>,
    pub(crate) log: Option<JsonFile>,
    pub(crate) oom: Option<OomWatch>,
    pub(crate) timeline: Timeline,
    pub(crate) started_at: Option<i64>,
    pub(crate) paused: bool,
    pub(crate) stage: Stage,
    /// The last number given to a connection, process or call.
    pub(crate) numbers: u64,
    pub(crate) scratch: Vec<u8>,
    /// Whether there may be memory to give back.
    pub(crate) busy: bool,
}

/// Who is ready.
#[derive(Debug, Clone, Copy)]
enum Source {
    Children,
    Listener,
    Oom,
    Connection(u64),
    Output(u64, usize),
    Input(u64),
}

impl Shim {
    /// Serves until the container has ended and everybody knows.
    pub(crate) fn serve(&mut self) {
        while !self.is_done() {
            let ready = self.wait();
            if ready.is_empty() {
                self.rest();
            }
            for (source, flags) in ready {
                self.handle(source, flags);
            }
            self.settle();
            self.connections.retain(|_, connection| !connection.is_over());
        }
    }

    /// A new number for a connection, process or call.
    pub(crate) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Records what was done since `began`.
    pub(crate) fn step(&mut self, began: u64, what: &str, details: &[(&str, String)]) {
        self.timeline.steps.push(step(began, what, details));
    }

    /// Tells every watcher.
    pub(crate) fn tell_watchers(&mut self, event: &Event) {
        let connections = self.connections.values_mut();
        connections
            .filter(|connection| connection.mode == Mode::Watch)
            .for_each(|watcher| watcher.tell(event));
    }

    fn is_done(&self) -> bool {
        let Stage::Leaving(until) = self.stage else {
            return false;
        };
        let told = self.processes.values().all(|process| process.announced);
        let sent = self.connections.values().all(|connection| connection.pending() == 0);
        (told && sent && self.calls.is_empty()) || Instant::now() >= until
    }

    fn wait(&mut self) -> Vec<(Source, PollFlags)> {
        let timeout = self
            .timeout()
            .map(|rest| Timespec { tv_sec: rest.as_secs() as i64, tv_nsec: i64::from(rest.subsec_nanos()) });
        let (sources, mut descriptors) = self.interest();
        if let Err(error) = retry_on_intr(|| poll(&mut descriptors, timeout.as_ref())) {
            eprintln!("poll: {error}");
            return Vec::new();
        }
        let ready = sources.into_iter().zip(descriptors.iter().map(PollFd::revents));
        ready.filter(|(_, flags)| !flags.is_empty()).collect()
    }

    /// Until the next thing that happens by time alone.
    fn timeout(&self) -> Option<Duration> {
        let draining = self.processes.values().filter(|process| !process.announced);
        let drains = draining.filter_map(|process| process.drain_until);
        let leaving = match self.stage {
            Stage::Leaving(until) => Some(until),
            _ => None,
        };
        let kills = self.calls.iter().filter_map(|call| call.kill_at);
        let looking = self.oom.as_ref().is_some_and(|oom| oom.look_until.is_some());
        let look = looking.then(|| Instant::now() + LOOK);
        let next = drains.chain(leaving).chain(kills).chain(look).min();
        let until = next.map(|time| time.saturating_duration_since(Instant::now()));
        let rest = self.busy.then_some(REST);
        until.into_iter().chain(rest).min()
    }

    fn interest(&self) -> (Vec<Source>, Vec<PollFd<'_>>) {
        let mut wanted = vec![(Source::Children, self.bell, PollFlags::IN)];
        if self.connections.len() < CONNECTIONS && !matches!(self.stage, Stage::Leaving(_)) {
            wanted.push((Source::Listener, self.listener.as_fd(), PollFlags::IN));
        }
        if let Some(oom) = &self.oom {
            let (descriptor, flags) = oom.interest();
            wanted.push((Source::Oom, descriptor, flags));
        }
        for (&id, connection) in &self.connections {
            if let Some(flags) = connection.interest(self.input_is_full(connection)) {
                wanted.push((Source::Connection(id), connection.socket().as_fd(), flags));
            }
        }
        for (&id, process) in &self.processes {
            let outputs = process.streams.outputs.iter().enumerate();
            let open = outputs.filter_map(|(index, output)| Some((index, output.as_ref()?)));
            if !self.is_held_back(id, process) {
                wanted.extend(open.map(|(index, fd)| (Source::Output(id, index), fd.as_fd(), PollFlags::IN)));
            }
            if let (true, Some(input)) = (process.streams.input_waits(), &process.streams.input) {
                wanted.push((Source::Input(id), input.as_fd(), PollFlags::OUT));
            }
        }
        let poll_fd = |(source, fd, flags)| (source, PollFd::from_borrowed_fd(fd, flags));
        wanted.into_iter().map(poll_fd).unzip()
    }

    /// Whether a client is so far behind that the process must wait. What a process left in its pipes is read all
    /// the same: its exit does not wait for a client.
    fn is_held_back(&self, id: u64, process: &Process) -> bool {
        let most = if process.exit.is_some() { 4 * BEHIND } else { BEHIND };
        self.connections.values().any(|connection| {
            let attached = matches!(connection.mode, Mode::Stream { process, .. } if process == id);
            attached && connection.pending() > most
        })
    }

    fn input_is_full(&self, connection: &Connection) -> bool {
        let Mode::Stream { process, .. } = connection.mode else {
            return false;
        };
        self.processes.get(&process).is_some_and(|process| process.streams.input_is_full())
    }

    fn handle(&mut self, source: Source, flags: PollFlags) {
        match source {
            Source::Children => self.reap(),
            Source::Listener => self.accept(),
            Source::Oom => self.look_for_oom(),
            Source::Connection(id) => self.serve_connection(id, flags),
            Source::Output(id, index) => self.read_output(id, index),
            Source::Input(id) => self.write_input(id),
        }
    }

    fn accept(&mut self) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let Ok(socket) = accept_with(&self.listener, flags) else {
            return;
        };
        // The directory keeps others out; this holds even if its mode was changed.
        let peer = socket_peercred(&socket).map(|peer| peer.uid);
        if peer.is_ok_and(|uid| uid.is_root() || uid == geteuid()) {
            let id = self.number();
            self.connections.insert(id, Connection::new(socket));
        }
    }

    fn serve_connection(&mut self, id: u64, flags: PollFlags) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let taken = flags.contains(PollFlags::OUT) && connection.flush();
        if let (true, Stage::Leaving(until)) = (taken, &mut self.stage) {
            *until = Instant::now() + PATIENCE;
        }
        if connection.ended && flags.intersects(PollFlags::HUP | PollFlags::ERR) {
            return connection.hung_up();
        }
        if flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) && !connection.ended {
            self.busy = true;
            connection.receive(&mut self.scratch);
            self.understand(id);
        }
    }

    fn read_output(&mut self, id: u64, index: usize) {
        self.busy = true;
        let Some(process) = self.processes.get_mut(&id) else {
            return;
        };
        let Some(output) = &process.streams.outputs[index] else {
            return;
        };
        self.scratch.clear();
        self.scratch.reserve(READ);
        match read(output, spare_capacity(&mut self.scratch)) {
            Ok(1..) => self.hand_on(id, index),
            Err(Errno::AGAIN | Errno::INTR) => {}
            // The end; a terminal's is EIO.
            Ok(0) | Err(_) => process.streams.end_output(index),
        }
    }

    fn hand_on(&mut self, id: u64, index: usize) {
        if let (INIT, Some(log)) = (id, &mut self.log) {
            log.write(index, &self.scratch, time::now());
        }
        for connection in self.connections.values_mut() {
            connection.stream(id, index as u8 + 1, &self.scratch);
        }
    }

    fn write_input(&mut self, id: u64) {
        if let Some(process) = self.processes.get_mut(&id) {
            process.streams.flush_input();
        }
        // Frames that had arrived while the queue was full.
        let attached = |connection: &Connection| matches!(connection.mode, Mode::Stream { process, .. } if process == id);
        let waiting = self.connections.iter().filter(|(_, connection)| attached(connection));
        let waiting: Vec<u64> = waiting.map(|(&id, _)| id).collect();
        for id in waiting {
            self.understand(id);
        }
    }

    fn look_for_oom(&mut self) {
        let Some(oom) = &mut self.oom else {
            return;
        };
        if oom.answer() {
            self.count_oom_kills();
        } else {
            self.oom = None;
        }
    }

    /// Tells watchers if the OOM killer struck since the last look.
    pub(crate) fn count_oom_kills(&mut self) {
        if self.oom.as_mut().is_some_and(OomWatch::struck) {
            self.tell_watchers(&Event::OutOfMemory);
        }
    }

    /// Gives memory back when there was nothing to do for a while.
    fn rest(&mut self) {
        if !std::mem::take(&mut self.busy) {
            return;
        }
        self.scratch = Vec::new();
        self.connections.values_mut().for_each(Connection::shrink);
        self.processes.values_mut().for_each(|process| process.streams.shrink());
        if let Some(log) = &mut self.log {
            log.shrink();
        }
        // Memory that is not given back is only memory.
        let _ = sys::memory::give_back();
    }
}

/// What the shim did since `began`.
pub(crate) fn step(began: u64, what: &str, details: &[(&str, String)]) -> Step {
    Step {
        start: began,
        took: time::monotonic() - began,
        room: Room::Shim,
        what: what.to_owned(),
        details: details.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
    }
}
