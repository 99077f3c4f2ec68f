//! How a container is: one enum, and the one function that changes it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};

/// Where a container stands. Docker's booleans are derived from it at the door.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "status")]
pub enum State {
    /// Has never run, or its last start failed.
    #[default]
    Created,
    /// Runs.
    Running {
        /// Its first process, as the host sees it.
        pid: i32,
    },
    /// Frozen.
    Paused {
        /// Its first process, as the host sees it.
        pid: i32,
    },
    /// Ran, and ended.
    Exited,
    /// Is being removed.
    Removing,
    /// Could not be removed whole; only removal can be tried again.
    Dead,
}

/// What happens to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Its process was started.
    Started {
        /// As the host sees it.
        pid: i32,
    },
    /// Frozen.
    Paused,
    /// Thawed.
    Resumed,
    /// Its process ended.
    Exited,
    /// Somebody removes it.
    Remove,
    /// The removal failed half-way.
    RemoveFailed,
}

/// The last run, kept beside [`State`]; zero until there was one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LastRun {
    /// When it began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Exit code, 128 + signal; 125 to 127 where it could not start.
    pub exit_code: i32,
    /// The kernel's OOM killer struck.
    pub oom_killed: bool,
    /// Why it could not start, or how its shim was lost.
    pub error: String,
}

impl State {
    /// Docker's word.
    pub fn word(&self) -> &'static str {
        match self {
            State::Created => "created",
            State::Running { .. } => "running",
            State::Paused { .. } => "paused",
            State::Exited => "exited",
            State::Removing => "removing",
            State::Dead => "dead",
        }
    }

    /// Its process, while there is one.
    pub fn pid(&self) -> Option<i32> {
        match self {
            State::Running { pid } | State::Paused { pid } => Some(*pid),
            _ => None,
        }
    }

    /// The state after `event`; an event that this state forbids is a conflict.
    pub fn next(&self, event: Event) -> Result<State> {
        let next = match (self, event) {
            (State::Created | State::Exited, Event::Started { pid }) => State::Running { pid },
            (State::Running { pid }, Event::Paused) => State::Paused { pid: *pid },
            (State::Paused { pid }, Event::Resumed) => State::Running { pid: *pid },
            (State::Running { .. } | State::Paused { .. }, Event::Exited) => State::Exited,
            (State::Created | State::Exited | State::Dead, Event::Remove) => State::Removing,
            (State::Removing, Event::RemoveFailed) => State::Dead,
            _ => {
                return Err(Error::new(
                    Kind::Conflict,
                    format!("container is {}: {event:?} is not possible", self.word()),
                ));
            }
        };
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_state_and_event_is_decided() {
        let states = [
            State::Created,
            State::Running { pid: 7 },
            State::Paused { pid: 7 },
            State::Exited,
            State::Removing,
            State::Dead,
        ];
        let events = [
            Event::Started { pid: 7 },
            Event::Paused,
            Event::Resumed,
            Event::Exited,
            Event::Remove,
            Event::RemoveFailed,
        ];
        let table = states.map(|state| events.map(|event| state.next(event).map_or("-", |next| next.word())));
        assert_eq!(
            table,
            //  started   paused    resumed    exited    remove      failed
            [
                ["running", "-", "-", "-", "removing", "-"],
                ["-", "paused", "-", "exited", "-", "-"],
                ["-", "-", "running", "exited", "-", "-"],
                ["running", "-", "-", "-", "removing", "-"],
                ["-", "-", "-", "-", "-", "dead"],
                ["-", "-", "-", "-", "removing", "-"],
            ]
        );
    }
}
