//! What a service needs from the process that it is: sockets handed over by its manager, a bounded allocator.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};

/// The first descriptor that a manager hands over (`sd_listen_fds(3)`).
const FIRST: RawFd = 3;

/// Takes the descriptors that a service manager handed to this process (`LISTEN_PID`, `LISTEN_FDS`); none if they
/// are not meant for it. They are closed on exec from then on.
///
/// Call it once, before anything else opens descriptors; a second call finds them taken only if the caller kept
/// the first ones.
pub fn take_handed_descriptors() -> std::io::Result<Vec<OwnedFd>> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    if number("LISTEN_PID") != Some(std::process::id()) {
        return Ok(Vec::new());
    }
    let count = number("LISTEN_FDS").unwrap_or(0).min(64) as RawFd;
    (FIRST..FIRST + count).map(adopt).collect()
}

fn adopt(raw: RawFd) -> std::io::Result<OwnedFd> {
    // SAFETY: the manager's contract is that these descriptors are open and ours alone; F_GETFD below finds out
    // whether this one is, and an `OwnedFd` that is not open is given back without being closed.
    let owned = unsafe { OwnedFd::from_raw_fd(raw) };
    let flags = match fcntl_getfd(&owned) {
        Ok(flags) => flags,
        Err(error) => {
            std::mem::forget(owned);
            return Err(error.into());
        }
    };
    fcntl_setfd(&owned, flags | FdFlags::CLOEXEC)?;
    Ok(owned)
}

/// Lets malloc use at most `arenas` arenas: glibc gives each thread its own otherwise, and memory that one of them
/// has freed is lost to the others.
pub fn bound_malloc_arenas(arenas: u8) {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt(3) takes two numbers and touches only the allocator's own state under its lock.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, i32::from(arenas));
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = arenas;
}
