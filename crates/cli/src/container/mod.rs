//! A new container, from flags to the request that makes it: the same for `run` and `create`.

// Docker's sets are JSON objects of empty objects.
#![allow(clippy::zero_sized_map_values)]

pub(crate) mod flags;
mod mounts;
pub(crate) mod network;
pub(crate) mod pairs;
mod ports;
mod request;

pub(crate) use flags::Flags;
pub(crate) use pairs::environment;
pub(crate) use request::{Place, request};
