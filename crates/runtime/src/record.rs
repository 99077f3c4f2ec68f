//! Steps that say what they are, done one after another in one loop; the trace is what the loop saw.

use std::fmt;

use rustix::time::{ClockId, clock_gettime};
use trace::{Room, Timeline};

use crate::error::Result;

/// What a step is, for people: the imperative and the particulars worth reading.
pub struct Description {
    /// `mount proc on /proc`
    pub what: String,
    /// Options, values, sizes.
    pub details: Vec<(String, String)>,
}

impl Description {
    /// Without particulars.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), details: Vec::new() }
    }

    /// Adds a particular, unless it is empty.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl fmt::Display) -> Self {
        let value = value.to_string();
        if !value.is_empty() {
            self.details.push((name.to_owned(), value));
        }
        self
    }
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        self.details.iter().try_for_each(|(name, value)| write!(f, " {name}={value}"))
    }
}

/// A part of a plan.
pub trait Describe {
    /// What it is.
    fn describe(&self) -> Description;
}

/// Keeps what was done and when, if somebody wants to know.
#[derive(Debug)]
pub struct Recorder {
    room: Room,
    timeline: Option<Timeline>,
}

fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

impl Recorder {
    /// Records only if `wanted`.
    pub fn new(room: Room, wanted: bool) -> Self {
        Self { room, timeline: wanted.then(Timeline::default) }
    }

    /// Whether somebody wants to know.
    pub fn is_on(&self) -> bool {
        self.timeline.is_some()
    }

    /// Does all of `steps` in order; stops at the first that fails.
    pub fn run<S: Describe>(&mut self, steps: &[S], mut act: impl FnMut(&S) -> Result<()>) -> Result<()> {
        steps.iter().try_for_each(|step| self.step(|| step.describe(), || act(step)))
    }

    /// Does one thing.
    pub fn step<T>(&mut self, describe: impl FnOnce() -> Description, act: impl FnOnce() -> T) -> T {
        let Some(timeline) = &mut self.timeline else {
            return act();
        };
        let start = now();
        let result = act();
        let took = now() - start;
        let Description { what, details } = describe();
        timeline.steps.push(trace::Step { start, took, room: self.room, what, details });
        result
    }

    /// Takes over what another process recorded.
    pub fn join(&mut self, other: Timeline) {
        if let Some(timeline) = &mut self.timeline {
            timeline.join(other);
        }
    }

    /// All of it; nothing is left.
    pub fn take(&mut self) -> Timeline {
        self.timeline
            .as_mut()
            .map(|timeline| Timeline { steps: std::mem::take(&mut timeline.steps) })
            .unwrap_or_default()
    }
}
