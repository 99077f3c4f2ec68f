//! Writes the engine's own part of a [`Timeline`].

use rustix::time::{ClockId, clock_gettime};
use trace::{Room, Step, Timeline};

/// `CLOCK_MONOTONIC` in nanoseconds.
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Appends steps, each lasting from the end of the one before.
#[derive(Debug)]
pub(crate) struct Recorder {
    pub(crate) timeline: Timeline,
    mark: u64,
}

impl Recorder {
    pub(crate) fn start() -> Self {
        Self { timeline: Timeline::default(), mark: now() }
    }

    /// What was done since the last step.
    pub(crate) fn step(&mut self, room: Room, what: impl Into<String>, details: Vec<(&str, String)>) {
        let end = now();
        let details = details.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        self.timeline.steps.push(Step {
            start: self.mark,
            took: end - self.mark,
            room,
            what: what.into(),
            details,
        });
        self.mark = end;
    }
}
