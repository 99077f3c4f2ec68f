//! Signals of a process that stays beside others and must not be ended by accident.
//!
//! Handlers, not masks and not `SIG_IGN`: both of those are inherited through `execve(2)` and would reach the
//! container, while a caught signal is back at its default there. For the same reason the end of a child is told
//! by a handler that rings an `eventfd(2)`, and not by `signalfd(2)`, which needs the signal blocked.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, IntoRawFd},
    sync::atomic::{AtomicI32, Ordering},
};

use rustix::event::{EventfdFlags, eventfd};

static BELL: AtomicI32 = AtomicI32::new(-1);

/// From now on each `SIGCHLD` makes the returned descriptor readable (an `eventfd(2)`, non-blocking).
pub fn ring_on_child() -> io::Result<BorrowedFd<'static>> {
    let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?.into_raw_fd();
    BELL.store(bell, Ordering::Relaxed);
    handle(libc::SIGCHLD, ring)?;
    // SAFETY: the descriptor was given up by `into_raw_fd` just above, is stored only in `BELL`, and nothing
    // closes it, so it stays open as long as the process lives.
    Ok(unsafe { BorrowedFd::borrow_raw(bell) })
}

/// Puts every signal back to its default and blocks none: whoever started this process may have had other wishes,
/// and they would reach its children.
pub fn begin_anew() {
    for signal in 1..=64 {
        // SAFETY: `SIG_DFL` runs no code of ours. KILL, STOP and the C library's own two are refused, harmlessly.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: `sigemptyset(3)` initialises the set before it is read; the old mask is not asked for.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Catches `signals` (`signal(7)` numbers) and does nothing.
pub fn shrug_off(signals: &[i32]) -> io::Result<()> {
    signals.iter().try_for_each(|&signal| handle(signal, shrug))
}

/// Sends `signal` (any number, real-time ones too) to the process behind `pidfd`.
pub fn send_by_pidfd(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: pidfd_send_signal(2) reads its arguments only; a null siginfo means `SI_USER`, and the flags are 0.
    let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, no_info, 0) };
    if sent == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

extern "C" fn shrug(_signal: libc::c_int) {}

extern "C" fn ring(_signal: libc::c_int) {
    let one = 1u64;
    // SAFETY: `write(2)` is async-signal-safe, reads eight bytes of a live local, and errno, which the interrupted
    // code may be about to look at, is put back.
    unsafe {
        let errno = *libc::__errno_location();
        libc::write(BELL.load(Ordering::Relaxed), (&raw const one).cast(), 8);
        *libc::__errno_location() = errno;
    }
}

fn handle(signal: i32, handler: extern "C" fn(libc::c_int)) -> io::Result<()> {
    // SAFETY: an all-zero `sigaction` is a valid value (no flags, empty mask, default action).
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as *const () as libc::sighandler_t;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: `action` is initialised, the handler only does what is async-signal-safe, the old action is not asked.
    if unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
