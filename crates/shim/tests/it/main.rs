//! A real shim over a real runtime (Debian's runc, or `KNARR_TEST_RUNTIME`). Assumes root, runc, busybox-static.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
mod life;
mod measures;
mod sessions;
mod streams;
