//! Children that end: the runtime's calls, the container, its exec sessions, and strays.

use std::{
    fs, io,
    path::Path,
    time::{Duration, Instant},
};

use rustix::{
    io::read,
    process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, wait},
};

use crate::{
    calls::Task,
    connection::Mode,
    protocol::{Event, Exit},
    shim::{INIT, Shim, Stage},
    time,
};

/// Output that others hold open is waited for so long after the process's end.
const DRAIN: Duration = Duration::from_secs(2);
/// Sessions that ended and are remembered.
const REMEMBERED: usize = 100;

impl Shim {
    /// Takes every child that has ended.
    pub(crate) fn reap(&mut self) {
        let _ = read(self.bell, &mut [0; 8]);
        let mut others = Vec::new();
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let exit = Exit { code: code_of(status), at: time::now(), oom_killed: false };
            let pid = pid.as_raw_nonzero().get();
            // Calls first: a short-lived process may end in the same moment as the call that made it.
            if !self.finish_call(pid, exit) {
                others.push((pid, exit));
            }
        }
        for (pid, exit) in others {
            let known =
                self.processes.iter().find(|(_, process)| process.pid == pid && process.exit.is_none());
            match known {
                Some((&id, _)) => self.ended(id, exit),
                None => self.unclaimed.push((pid, exit)),
            }
        }
        let making = |task: &Task| matches!(task, Task::Create { .. } | Task::Exec { .. });
        if !self.calls.iter().any(|call| making(&call.task)) {
            self.unclaimed = Vec::new();
        }
    }

    /// Process `id` has ended; its output may not have.
    pub(crate) fn ended(&mut self, id: u64, mut exit: Exit) {
        self.look_for_kills(id, &mut exit);
        let Some(process) = self.processes.get_mut(&id) else {
            return;
        };
        process.exit = Some(exit);
        process.drain_until = Some(Instant::now() + DRAIN);
        process.pidfd = None;
        process.streams.drop_input();
        if id == INIT {
            self.end_sessions();
        }
    }

    /// The counter is read now, for the cgroup goes with `RUNTIME delete`.
    fn look_for_kills(&mut self, id: u64, exit: &mut Exit) {
        let (Some(oom), Some(process)) = (&self.oom, self.processes.get(&id)) else {
            return;
        };
        exit.oom_killed = oom.kills() > process.kills_before && (id == INIT || exit.code == 128 + 9);
        self.count_oom_kills();
    }

    /// With the container, its sessions end; without a pid namespace of its own nobody else sees to it.
    fn end_sessions(&self) {
        for pidfd in self.processes.values().filter_map(|process| process.pidfd.as_ref()) {
            // It may be ending already.
            let _ = rustix::process::pidfd_send_signal(pidfd, Signal::KILL);
        }
    }

    /// Announces ends that are complete, and moves on after the container's.
    pub(crate) fn settle(&mut self) {
        self.kill_overdue();
        if self.oom.as_ref().is_some_and(|oom| oom.look_until.is_some()) {
            self.count_oom_kills();
        }
        let now = Instant::now();
        // Nobody shall hear of the end before the answer to start.
        let starting = self.calls.iter().any(|call| matches!(call.task, Task::Start));
        let due = self.processes.iter().filter(|(id, process)| {
            let over = process.drain_until.is_some_and(|until| process.streams.drained() || now >= until);
            over && !process.announced && !(**id == INIT && starting)
        });
        let due: Vec<u64> = due.map(|(&id, _)| id).collect();
        for id in due {
            self.announce(id);
        }
        let ended = self.processes.get(&INIT).is_some_and(|init| init.announced);
        if ended && self.stage == Stage::Serving {
            let begun = self.call_delete(Task::Delete { force: false }, None);
            if let Err(error) = begun {
                eprintln!("{error}");
                self.stage = Stage::Leaving(now);
            }
        }
    }

    fn announce(&mut self, id: u64) {
        let Some(process) = self.processes.get_mut(&id) else {
            return;
        };
        let Some(exit) = process.exit else {
            return;
        };
        process.announced = true;
        let session = process.session.clone();
        if id == INIT {
            if let Some(log) = &mut self.log {
                log.finish(exit.at);
            }
            // A container that is being discarded leaves no record.
            let discarded = self.calls.iter().any(|call| matches!(call.task, Task::Discard));
            let written = if discarded { Ok(()) } else { write_record(&self.dir, exit) };
            if let Err(error) = written {
                eprintln!("cannot write exit.json: {error}");
            }
        }
        for connection in self.connections.values_mut() {
            if matches!(connection.mode, Mode::Stream { process, .. } if process == id) {
                connection.closing = true;
            }
        }
        self.tell_watchers(&Event::Exited { session, exit });
        self.forget_old_sessions();
    }

    fn forget_old_sessions(&mut self) {
        let over =
            self.processes.iter().filter(|(_, process)| process.session.is_some() && process.announced);
        let over: Vec<u64> = over.map(|(&id, _)| id).collect();
        for id in over.iter().take(over.len().saturating_sub(REMEMBERED)) {
            self.processes.remove(id);
        }
    }
}

/// Kills whatever a failed runtime has left with us.
pub(crate) fn kill_children() {
    let list = fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    for pid in list.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)) {
        // It may have ended by itself.
        let _ = kill_process(pid, Signal::KILL);
    }
}
fn code_of(status: WaitStatus) -> i32 {
    status.exit_status().or(status.terminating_signal().map(|signal| 128 + signal)).unwrap_or(255)
}

/// Whole or not at all.
fn write_record(dir: &Path, exit: Exit) -> io::Result<()> {
    let unfinished = dir.join(".exit.json");
    fs::write(&unfinished, serde_json::to_vec(&exit)?)?;
    fs::rename(unfinished, dir.join("exit.json"))
}
