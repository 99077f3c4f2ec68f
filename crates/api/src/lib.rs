//! Docker's words: the Engine API's routes and types. Pure data.
//!
//! [`routes`] lists every route of the API description, also those that knarr does not serve. Types answer with
//! Docker's own rules for null, empty and missing members, and are read with the leniency of Go's decoder
//! ([`go`]), on both sides: requests in the daemon, answers of a foreign daemon in the command line.
//! [`version`] holds all differences between versions of the API.

// Docker's sets are JSON objects of empty objects; they are kept in that shape.
#![allow(clippy::zero_sized_map_values)]

macro_rules! wire {
    ($($(#[$meta:meta])* $name:ident { $($(#[$fmeta:meta])* $field:ident : $type:ty),* $(,)? })*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "PascalCase", default)]
        #[allow(missing_docs)] // Named and described in the API description; repeating it here would only drift.
        pub struct $name { $($(#[$fmeta])* pub $field: $type),* }
    )*};
}

pub mod container;
pub mod create;
pub mod exec;
pub mod go;
pub mod image;
pub mod message;
pub mod network;
pub mod query;
pub mod routes;
pub mod stdcopy;
pub mod system;
pub mod version;

pub use query::{Filters, Query};
pub use routes::{Method, Op, Route};
pub use version::Version;

/// Whether a member is left out when it says nothing (Go's `omitempty`).
fn omit<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Content type of every JSON body.
pub const JSON: &str = "application/json";
/// Content type of a hijacked stream, and before 1.42 of every stream.
pub const RAW_STREAM: &str = "application/vnd.docker.raw-stream";
/// Content type of a stream in [`stdcopy`] frames, since 1.42.
pub const MULTIPLEXED_STREAM: &str = "application/vnd.docker.multiplexed-stream";
/// Go's zero time: "never".
pub const NEVER: &str = "0001-01-01T00:00:00Z";
