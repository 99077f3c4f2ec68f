//! What clients say, and the answers.

use std::time::Instant;

use oci::spec::ConsoleSize;

use crate::{
    calls::Task,
    connection::Mode,
    error::{Context, Error, Result},
    protocol::{Reply, Request, STDIN, Session, State, Streams},
    shim::{INIT, Process, Shim, Stage},
    wire,
};

/// An answer, unless it comes later: then the connection is in [`Mode::Waiting`].
type Answer = Result<Option<Reply>>;

impl Shim {
    /// Deals with all that connection `id` has sent, as far as its mode allows.
    pub(crate) fn understand(&mut self, id: u64) {
        loop {
            let Some(connection) = self.connections.get_mut(&id) else {
                return;
            };
            let before = (connection.input.len(), connection.mode);
            match connection.mode {
                Mode::Requests => self.understand_request(id),
                Mode::Stream { process, streams } => self.understand_frame(id, process, streams),
                Mode::Waiting => return,
                // A watcher has nothing more to say.
                Mode::Watch => return connection.input = Vec::new(),
            }
            let after = self.connections.get(&id).map(|connection| (connection.input.len(), connection.mode));
            if after.is_none_or(|after| after == before) {
                return;
            }
        }
    }

    fn understand_request(&mut self, id: u64) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let request = match wire::first_message(&connection.input) {
            Ok(None) => return,
            Ok(Some(json)) => {
                let length = json.len() + wire::MESSAGE_HEADER;
                let request = serde_json::from_slice::<Request>(json);
                connection.consume(length);
                request
            }
            Err(_) => return connection.refuse(),
        };
        let Ok(request) = request else {
            return connection.refuse();
        };
        match self.answer(id, request) {
            Ok(None) => {}
            Ok(Some(reply)) => self.reply(id, &reply),
            Err(Error(message)) => self.reply(id, &Reply::Error { message }),
        }
    }

    fn understand_frame(&mut self, id: u64, process: u64, streams: Streams) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let Some(process) = self.processes.get_mut(&process) else {
            return;
        };
        if process.streams.input_is_full() {
            return;
        }
        match wire::first_frame(&connection.input) {
            Ok(Some((STDIN, content))) => {
                let length = content.len();
                if streams.stdin && length == 0 {
                    process.streams.end_input();
                } else if streams.stdin {
                    process.streams.feed(content);
                }
                connection.consume(length + wire::FRAME_HEADER);
            }
            Ok(None) => {}
            Ok(Some(_)) | Err(_) => connection.refuse(),
        }
    }

    /// Sends a reply; the connection takes requests again.
    pub(crate) fn reply(&mut self, id: u64, reply: &Reply) {
        if let Some(connection) = self.connections.get_mut(&id) {
            if connection.mode == Mode::Waiting {
                connection.mode = Mode::Requests;
            }
            connection.tell(reply);
        }
    }

    fn set_mode(&mut self, id: u64, mode: Mode) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.mode = mode;
        }
    }

    fn answer(&mut self, id: u64, request: Request) -> Answer {
        match request {
            Request::State => return Ok(Some(self.state())),
            Request::Discard => return self.discard(id),
            _ if self.stage == Stage::Creating => return Err(Error("the container is being created".into())),
            _ => {}
        }
        match request {
            Request::State | Request::Discard => Ok(None),
            Request::Watch => {
                let state = self.state();
                self.reply(id, &state);
                self.set_mode(id, Mode::Watch);
                Ok(None)
            }
            Request::Start => self.start(id),
            Request::Attach { session, streams } => self.attach(id, session.as_deref(), streams),
            Request::Exec { session, process, stdin, attach } => {
                self.running()?;
                self.exec(id, session, &process, stdin, attach)?;
                self.set_mode(id, Mode::Waiting);
                Ok(None)
            }
            Request::Resize { session, size } => self.resize(session.as_deref(), size),
            Request::Signal { session, signal } => self.signal(session.as_deref(), signal),
            Request::Pause => self.freeze(id, true),
            Request::Resume => self.freeze(id, false),
        }
    }

    /// How things are.
    pub(crate) fn state(&self) -> Reply {
        let init = self.processes.get(&INIT);
        let session = |process: &Process| {
            let id = process.session.clone()?;
            Some(Session { id, pid: process.pid, exit: process.exit.filter(|_| process.announced) })
        };
        Reply::State(Box::new(State {
            shim_pid: std::process::id() as i32,
            pid: init.map_or(0, |init| init.pid),
            started_at: self.started_at,
            paused: self.paused,
            exit: init.and_then(|init| init.exit.filter(|_| init.announced)),
            sessions: self.processes.values().filter_map(session).collect(),
            timeline: self.timeline.clone(),
        }))
    }

    fn start(&mut self, id: u64) -> Answer {
        let starting = self.calls.iter().any(|call| matches!(call.task, Task::Start));
        if starting || self.started_at.is_some() {
            return Err(Error("the container is started already".into()));
        }
        self.find(None)?;
        self.call_simple(Some(id), Task::Start, &["start"])?;
        self.set_mode(id, Mode::Waiting);
        Ok(None)
    }

    fn freeze(&mut self, id: u64, freeze: bool) -> Answer {
        self.running()?;
        let (task, word) = if freeze { (Task::Pause, "pause") } else { (Task::Resume, "resume") };
        self.call_simple(Some(id), task, &[word])?;
        self.set_mode(id, Mode::Waiting);
        Ok(None)
    }

    fn discard(&mut self, id: u64) -> Answer {
        let starting = self.calls.iter().any(|call| matches!(call.task, Task::Start));
        if starting || self.started_at.is_some() {
            return Err(Error("the container has been started; it ends by a signal".into()));
        }
        match self.stage {
            Stage::Creating => self.give_up_creating(id),
            Stage::Serving => self.call_delete(Task::Discard, Some(id))?,
            Stage::Deleting | Stage::Leaving(_) => return Err(Error("the container has ended".into())),
        }
        self.set_mode(id, Mode::Waiting);
        Ok(None)
    }

    fn attach(&mut self, id: u64, session: Option<&str>, streams: Streams) -> Answer {
        let (process, _) = self.find(session)?;
        self.reply(id, &Reply::Done);
        self.set_mode(id, Mode::Stream { process, streams });
        Ok(None)
    }

    fn resize(&mut self, session: Option<&str>, size: ConsoleSize) -> Answer {
        let (_, process) = self.find(session)?;
        if !process.streams.resize(size).cannot("set the terminal's size")? {
            return Err(Error(format!("{} has no terminal", name(session))));
        }
        Ok(Some(Reply::Done))
    }

    fn signal(&mut self, session: Option<&str>, signal: i32) -> Answer {
        let (_, process) = self.find(session)?;
        let gone = || Error(format!("{} has ended", name(session)));
        let pidfd = process.pidfd.as_ref().ok_or_else(gone)?;
        sys::signals::send_by_pidfd(rustix::fd::AsFd::as_fd(pidfd), signal)
            .cannot(format!("send signal {signal} to {}", name(session)))?;
        Ok(Some(Reply::Done))
    }

    fn running(&self) -> Result<()> {
        let (_, _) = self.find(None)?;
        match self.started_at {
            Some(_) => Ok(()),
            None => Err(Error("the container is not started".into())),
        }
    }

    /// A process that has not ended, or whose output is still being handed on.
    fn find(&self, session: Option<&str>) -> Result<(u64, &Process)> {
        let found = self.processes.iter().find(|(_, process)| process.session.as_deref() == session);
        match found {
            None => Err(Error(format!("{} is not known", name(session)))),
            Some((_, process)) if process.announced => Err(Error(format!("{} has ended", name(session)))),
            Some((&id, process)) => Ok((id, process)),
        }
    }

    /// Whether a session of that name exists or is about to.
    pub(crate) fn knows_session(&self, session: &str) -> bool {
        let pending = self
            .calls
            .iter()
            .any(|call| matches!(&call.task, Task::Exec { session: name, .. } if name == session));
        pending || self.processes.values().any(|process| process.session.as_deref() == Some(session))
    }

    /// Kills the runtime that creates; what it has made is deleted when it has ended.
    fn give_up_creating(&mut self, id: u64) {
        for call in &mut self.calls {
            if let Task::Create { discard, .. } = &mut call.task {
                *discard = Some(id);
                call.kill_at = Some(Instant::now());
            }
        }
    }
}

fn name(session: Option<&str>) -> String {
    session.map_or("the container".into(), |session| format!("exec session {session}"))
}
