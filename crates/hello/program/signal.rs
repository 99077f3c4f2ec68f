//! Ending on SIGTERM and SIGINT.
//!
//! The kernel keeps signals without a handler from the first process of a pid namespace, and that is what `hello serve`
//! usually is: without these two handlers `stop` would wait for its time-out and Ctrl-C would do nothing.
//! The standard library installs none, so the two C functions are declared here. This program is cargo, not crew: it
//! runs in a container, never in the engine.

use std::ffi::c_int;

#[allow(unsafe_code, reason = "two functions of the C library, with the signatures that POSIX gives them")]
// SAFETY: `signal` takes any number and a plain function; `_exit` is async-signal-safe and returns to nobody.
unsafe extern "C" {
    safe fn signal(number: c_int, handler: extern "C" fn(c_int)) -> usize;
    safe fn _exit(code: c_int) -> !;
}

const SIGINT: c_int = 2;
const SIGTERM: c_int = 15;

extern "C" fn leave(_: c_int) {
    _exit(0)
}

/// From here on SIGTERM and SIGINT end the program with code 0.
pub(crate) fn end_when_asked() {
    signal(SIGTERM, leave);
    signal(SIGINT, leave);
}
