//! The client's side of the registry protocol (OCI distribution 1.1, Docker's registry v2).
//!
//! A [`Client`] stands for one repository of one registry. Everything that a registry says is hostile: answers are
//! bounded, digests are checked, credentials stick to their origin (rules R12, R13, R21). Calls wait; a [`Cancel`]
//! ends them at once.

mod auth;
mod cancel;
mod client;
mod config;
mod dns;
mod error;
mod hosts;
mod login;
mod pull;
mod push;
mod tls;
mod url;
mod x509;

pub use auth::Credentials;
pub use cancel::Cancel;
pub use client::Client;
pub use config::Config;
pub use error::Error;
pub use hosts::Action;
pub use pull::{Described, Document, Receiver};
pub use push::Upload;
