//! The service: HTTP in, engine verbs out. The only room that knows HTTP.
//!
//! A request goes [`listen`] → [`serve`] → [`router`] → one of [`handlers`], each of which decodes, converts
//! ([`convert`]), calls one verb of the engine, converts back and encodes. [`failure`] maps errors to statuses,
//! [`api::version`] adapts answers to older clients.

// Docker's sets are JSON objects of empty objects.
#![allow(clippy::zero_sized_map_values)]

mod args;
mod body;
mod config_file;
mod convert;
mod detach;
mod failure;
mod handlers;
mod listen;
mod pump;
mod router;
mod serve;

use std::process::ExitCode;

pub use args::Args;
pub use config_file::{Unusable, with_file};
pub use router::coverage;

/// Runs the service until it is told to stop (SIGTERM or SIGINT). Containers go on.
pub fn main(args: &Args) -> ExitCode {
    sys::service::bound_malloc_arenas(2);
    args.log();
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    let options = args.options()?;
    // Two threads keep a slow handler from holding up the others; the engine's long work runs on blocking threads,
    // which leave when they have nothing to do.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(64)
        .thread_keep_alive(std::time::Duration::from_secs(1))
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(serve::run(options, &args.hosts(), args.debug));
    // A client that never reads must not keep the service from leaving.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    outcome
}
