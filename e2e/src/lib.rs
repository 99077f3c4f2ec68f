//! The end-to-end tests: a private engine, a client, and what a person would see.
//!
//! Every file in `tests/` is one area and one program. Its tests share one engine, started with roots, socket and
//! cgroup parent of its own and taken down when the last test has let go of it; then nothing of it may be left
//! ([`Place::leaks`]). Tests that kill or starve the engine start their own.
//!
//! Two variables choose what is tested, so that each test of behaviour that Docker has can first be tried on Docker:
//!
//! | variable | values | default |
//! |---|---|---|
//! | `E2E_ENGINE` | `knarr`, `docker` (Debian's dockerd, started privately) | `knarr` |
//! | `E2E_CLIENT` | `knarr`, `docker` (what `docker` on the path is) | both, one after another |
//! | `KNARR_BIN_DIR` | where `knarr`, `knarr-shim` and `knarr-runtime` are | beside the test programs |

// Here a panic is how a test fails, and a check is as good for its panic as for its value.
#![allow(clippy::missing_panics_doc, clippy::return_self_not_must_use)]

mod archive;
mod client;
mod engine;
mod place;
mod pty;

pub use archive::{Image, Tar, busybox, busybox_rootfs, debian_rootfs, sha256};
pub use client::{Client, Output, Program, Running, words};
pub use engine::{Engine, Kind, Setup, knarr_program as program};
pub use place::Place;
pub use pty::Pty;

use std::{
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

/// How long anything may take before a test calls it hung.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Makes of each function `fn name(c: &Client)` two tests, `name::docker` and `name::knarr`: the same by both
/// clients, on the engine that the file's tests share.
#[macro_export]
macro_rules! each_client {
    ($($name:ident),* $(,)?) => {$(
        mod $name {
            #[test]
            fn docker() {
                $crate::Client::shared($crate::Program::Docker).map(|client| super::$name(&client));
            }
            #[test]
            fn knarr() {
                $crate::Client::shared($crate::Program::Knarr).map(|client| super::$name(&client));
            }
        }
    )*};
}

/// Makes of each function `fn name(c: &Client)` one test, by the docker client unless `E2E_CLIENT` says otherwise:
/// for what the engine does whoever asks.
#[macro_export]
macro_rules! any_client {
    ($($name:ident),* $(,)?) => {
        mod any {
            $(#[test]
            fn $name() {
                super::$name(&$crate::Client::any());
            })*
        }
    };
}

/// Like [`any_client`], for what only knarr has: not run on another engine.
#[macro_export]
macro_rules! knarr_only {
    ($($name:ident),* $(,)?) => {
        mod knarr_only {
            $(#[test]
            fn $name() {
                if $crate::Kind::chosen() == $crate::Kind::Knarr {
                    super::$name();
                }
            })*
        }
    };
}

/// Asks again and again until the answer is `true`.
#[track_caller]
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(10), "waited in vain: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A short rest, where something must be given the time to happen.
pub fn rest(milliseconds: u64) {
    thread::sleep(Duration::from_millis(milliseconds));
}

/// The directory of a process's cgroup in the hierarchy that has this controller, v1 or v2.
pub fn cgroup_of(pid: u32, controller: &str) -> PathBuf {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("the process lives");
    let find = |wanted: &str| {
        groups.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            controllers.split(',').any(|one| one == wanted).then(|| path.trim_start_matches('/').to_owned())
        })
    };
    match find(controller) {
        Some(path) => Path::new("/sys/fs/cgroup").join(controller).join(path),
        None => Path::new("/sys/fs/cgroup").join(find("").unwrap_or_default()),
    }
}
