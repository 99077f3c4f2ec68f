//! What a container *is*, and every verb on it: the room that composes all others.
//!
//! The doors (`daemon`) call [`Engine`]; each verb has a file of its own. Readers get published snapshots
//! ([`Container`] behind an `Arc`) and never wait for a verb; verbs on one container follow one another.

pub mod config;
pub mod error;
pub mod state;

mod attach;
mod commit;
mod create;
mod diff;
mod directories;
mod disk;
mod embedded;
mod etc;
mod events;
mod exec;
mod handle;
mod host;
mod images;
mod info;
mod join;
mod logs;
mod names;
mod networks;
mod open;
mod ports;
mod pull;
mod push;
mod recorder;
mod registry;
mod remove;
mod resolver;
mod run;
mod seccomp;
mod shim;
mod signal;
mod spec;
mod start;
mod stop;
mod types;
mod undo;
mod usage;
mod user;
mod validate;
mod wait;
mod way_out;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use ::registry::{Cancel, Config as RegistryHosts, Credentials};
pub use commit::Commit;
pub use config::Config;
pub use diff::Export;
pub use error::{Error, Kind, Result};
pub use image::{Format, Image, Import, Outgoing, PushStep, Pushed, Step};
pub use network::Subnet;
pub use networks::{Network, NewNetwork};
pub use ports::exposed as exposed_port;
pub use pull::{Progress, Pull, Pulled};
pub use push::{Push, PushProgress, Remote};
pub use snapshot::{Change, ChangeKind, Choice as Storage, parse_size};
pub use state::{LastRun, State};
pub use types::*;
pub use usage::{DiskUsage, ImageUsage};
pub use wait::Waiting;

/// The engine of one data root. Cheap to clone: all clones are the same engine.
#[derive(Debug, Clone)]
pub struct Engine(Arc<open::Inner>);

/// A panic elsewhere does not make the data behind a lock worse: every critical section leaves it whole.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs what waits for a disk on a thread that may wait.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::new(Kind::Internal, format!("a worker thread failed: {error}")))
}
