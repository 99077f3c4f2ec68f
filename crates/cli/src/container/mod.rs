//! A new container, from flags to the request that makes it: the same for `run` and `create`.

pub(crate) mod flags;
mod mounts;
mod pairs;
mod request;

pub(crate) use flags::Flags;
pub(crate) use pairs::environment;
pub(crate) use request::{Place, request};
