//! One run's timeline, as data: what each room did, when, and for how long.
//!
//! The engine, the shim and the runtime each append to a [`Timeline`]; because every time is taken from the
//! kernel's one monotonic clock, the parts are joined by concatenation and sorting. `knarr run --explain` draws it.

use serde::{Deserialize, Serialize};

/// The room that took a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Room {
    /// Resolved, recorded, composed.
    Engine,
    /// Layers and mounts.
    Snapshot,
    /// Interfaces and addresses.
    Network,
    /// Standard streams, log, runtime calls.
    Shim,
    /// Parent side of the OCI runtime.
    Runtime,
    /// The container's own process before it becomes the user's program.
    Init,
}

/// One thing that was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// `CLOCK_MONOTONIC`, nanoseconds, when the step began.
    pub start: u64,
    /// Nanoseconds that it took.
    pub took: u64,
    /// Who did it.
    pub room: Room,
    /// What was done, in the imperative: `mount overlay`, `create namespace pid`, `write cpu.max`.
    pub what: String,
    /// The particulars, in the order in which they are worth reading: paths, inode numbers, values written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<(String, String)>,
}

/// What was done for one start of one container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timeline {
    /// In the order of their ends for one room; see [`Timeline::join`] for the whole.
    pub steps: Vec<Step>,
}

impl Timeline {
    /// Adds another room's steps and puts everything in order of time.
    pub fn join(&mut self, other: Timeline) {
        self.steps.extend(other.steps);
        self.steps.sort_by_key(|step| step.start);
    }
}
