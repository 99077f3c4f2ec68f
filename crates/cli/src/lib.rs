//! The command line: flags in, requests out, answers drawn.
//!
//! [`main`] reads the words that were typed ([`cli`]), runs the verb ([`commands`]) and turns what happened into an
//! exit code. A verb makes one request value from its flags, sends it ([`client`]) and draws the answer
//! ([`format`]); `run`, `exec` and `attach` join a [`session`].

mod autostart;
mod base64;
mod board;
mod cli;
mod client;
mod commands;
mod container;
mod credentials;
mod error;
mod explain;
mod filter;
mod format;
mod help;
mod host;
mod manual;
mod progress;
mod session;
mod signals;
mod terminal;
mod words;

pub use autostart::DETACHED_DAEMON;
pub use cli::main;
