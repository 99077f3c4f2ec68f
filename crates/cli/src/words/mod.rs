//! Small words that people type and read: sizes, durations, moments, key sequences.

pub(crate) mod ago;
pub(crate) mod duration;
pub(crate) mod keys;
pub(crate) mod size;
pub(crate) mod when;
