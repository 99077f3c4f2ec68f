//! What goes wrong, as a sentence for whoever asked.

use std::fmt::Display;

/// What was tried, and why it failed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Error(pub(crate) String);

/// Result of this crate.
pub(crate) type Result<T> = std::result::Result<T, Error>;

/// Says what was being tried when something failed.
pub(crate) trait Context<T> {
    /// `what` completes "cannot …".
    fn cannot(self, what: impl Display) -> Result<T>;
}

impl<T, E: Display> Context<T> for std::result::Result<T, E> {
    fn cannot(self, what: impl Display) -> Result<T> {
        self.map_err(|error| Error(format!("cannot {what}: {error}")))
    }
}
