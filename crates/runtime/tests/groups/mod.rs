//! A container's control groups, read from outside.

#![allow(dead_code, unreachable_pub, missing_docs)] // Each test program uses its part of this.

use std::{
    fs,
    thread::sleep,
    time::{Duration, Instant},
};

use crate::bundle::{Bundle, is_pure_v2};

/// A file of the container's group.
#[track_caller]
pub fn read(bundle: &Bundle, controller: &str, file: &str) -> String {
    let path = bundle.group(controller).join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
}

/// A file of the container's group, by its v1 and its v2 name.
#[track_caller]
pub fn held(bundle: &Bundle, controller: &str, v1: &str, v2: &str) -> String {
    read(bundle, controller, if is_pure_v2() { v2 } else { v1 })
}

#[track_caller]
pub fn number(bundle: &Bundle, controller: &str, file: &str) -> u64 {
    let text = read(bundle, controller, file);
    text.parse().unwrap_or_else(|_| panic!("{file}: {text}"))
}

/// Waits until something is so.
#[track_caller]
pub fn await_that(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "never: {what}");
        sleep(Duration::from_millis(5));
    }
}
