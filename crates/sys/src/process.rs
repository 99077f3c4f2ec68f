//! Making, entering, signalling and replacing processes: what rustix lacks or cannot offer safely.

use std::{
    ffi::{CStr, CString},
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    ptr,
};

/// libc declares it too narrow.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// `CLONE_NEW*` bits, by the names under `/proc/PID/ns`.
pub const NAMESPACES: [(&str, u64); 8] = [
    ("user", libc::CLONE_NEWUSER as u64),
    ("cgroup", libc::CLONE_NEWCGROUP as u64),
    ("ipc", libc::CLONE_NEWIPC as u64),
    ("uts", libc::CLONE_NEWUTS as u64),
    ("net", libc::CLONE_NEWNET as u64),
    ("pid", libc::CLONE_NEWPID as u64),
    ("time", 0x80),
    ("mnt", libc::CLONE_NEWNS as u64),
];

/// Where this host keeps a program. Never by the environment's `PATH`: whoever sets that would choose what runs as
/// root.
pub fn find_program(name: &str) -> Option<std::path::PathBuf> {
    let places = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    places.iter().map(|place| std::path::Path::new(place).join(name)).find(|path| path.is_file())
}

/// What [`fork`] is to do beyond forking.
#[derive(Debug, Default, Clone, Copy)]
pub struct Fork<'fd> {
    /// `CLONE_NEW*` bits.
    pub namespaces: u64,
    /// A cgroup v2 directory in which the child begins (`CLONE_INTO_CGROUP`, Linux 5.7).
    pub cgroup: Option<BorrowedFd<'fd>>,
    /// Make a sibling instead of a child (`CLONE_PARENT`).
    pub sibling: bool,
}

/// `clone3(2)` with a copied memory: `None` in the child; its pid, as this process sees it, and its pidfd here.
///
/// Fails with `EINVAL` in a program that has threads, whose child could not safely allocate memory.
pub fn fork(how: Fork<'_>) -> io::Result<Option<(i32, OwnedFd)>> {
    // SAFETY: CLONE_THREAD asks for nothing; the kernel answers EINVAL when this process has other threads.
    check(unsafe { libc::syscall(libc::SYS_unshare, libc::CLONE_THREAD) })?;
    let mut pidfd: RawFd = -1;
    // SAFETY: `clone_args` is plain numbers; all zero is the kernel's default.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = how.namespaces | libc::CLONE_PIDFD as u64;
    args.pidfd = ptr::from_mut(&mut pidfd) as u64;
    if how.sibling {
        args.flags |= libc::CLONE_PARENT as u64;
    } else {
        args.exit_signal = libc::SIGCHLD as u64;
    }
    if let Some(cgroup) = how.cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM the child has its own copy of memory and of this stack; there is one thread, so no
    // lock is held by anybody who is missing in the copy.
    let pid = check(unsafe {
        libc::syscall(libc::SYS_clone3, ptr::from_mut(&mut args), size_of::<libc::clone_args>())
    })?;
    if pid == 0 {
        return Ok(None);
    }
    // SAFETY: on success the kernel stored a new descriptor that belongs to nobody else.
    Ok(Some((pid as i32, unsafe { OwnedFd::from_raw_fd(pidfd) })))
}

/// `setns(2)`: joins the namespaces `kinds` of `target`, a namespace file or a pidfd (Linux 5.8).
pub fn setns(target: BorrowedFd<'_>, kinds: u64) -> io::Result<()> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::syscall(libc::SYS_setns, target.as_raw_fd(), kinds as libc::c_int) }).map(drop)
}

/// `unshare(2)` of namespaces.
pub fn unshare(namespaces: u64) -> io::Result<()> {
    // SAFETY: takes numbers only; no bit of the file table is asked for by our callers, and the process is
    // single-threaded where it matters.
    check(unsafe { libc::syscall(libc::SYS_unshare, namespaces as libc::c_int) }).map(drop)
}

/// `pidfd_send_signal(2)` with any signal number; 0 only asks.
pub fn signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: no siginfo is passed.
    check(unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, ptr::null::<u8>(), 0)
    })
    .map(drop)
}

/// `kill(2)`, for processes that a pidfd was not made for: children, and members of a frozen cgroup.
pub fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::syscall(libc::SYS_kill, pid, signal) }).map(drop)
}

/// Sets `CLOEXEC` on every descriptor from `first` up (Linux 5.11).
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: with CLOSE_RANGE_CLOEXEC nothing is closed now, so no owner loses its descriptor.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) })
        .map(drop)
}

/// Becomes another program; returns only to say why not.
pub fn exec(program: &CStr, args: &[CString], env: &[CString]) -> io::Error {
    let list = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
    };
    let (args, env) = (list(args), list(env));
    // SAFETY: both lists end with a null pointer and their strings live until the call returns.
    unsafe { libc::execve(program.as_ptr(), args.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// Gives every signal its default action and unblocks it: a program inherits what is ignored or blocked, and
/// Rust's runtime ignores `SIGPIPE`.
pub fn reset_signals() {
    for signal in 1..=64 {
        if signal != libc::SIGKILL && signal != libc::SIGSTOP {
            // The kernel's own structure (handler, flags, restorer, mask), all zero: SIG_DFL. Not by libc, which keeps
            // 32 and 33 to itself and would hand them on ignored.
            let default = [0_u64; 4];
            // SAFETY: SIG_DFL runs no code of ours; the set is eight bytes, as the kernel's.
            unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), ptr::null::<u8>(), 8) };
        }
    }
    // SAFETY: an empty set is valid; the old mask is not asked for.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
    }
}

/// Blocks every signal, to be read with [`wait_signal`].
pub fn block_signals() -> io::Result<()> {
    // SAFETY: a full set is valid; the old mask is not asked for.
    let result = unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const all, ptr::null_mut())
    };
    check(libc::c_long::from(result)).map(drop)
}

/// Waits for the next blocked signal.
pub fn wait_signal() -> io::Result<i32> {
    // SAFETY: a full set is valid; no siginfo is asked for.
    let signal = unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigwaitinfo(&raw const all, ptr::null_mut())
    };
    check(libc::c_long::from(signal)).map(|signal| signal as i32)
}

/// A descriptor that reads like a pending signal (`signalfd(2)`) for all blocked signals.
pub fn signal_fd() -> io::Result<OwnedFd> {
    // SAFETY: a full set is valid; -1 asks for a new descriptor.
    let fd = unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::signalfd(-1, &raw const all, libc::SFD_CLOEXEC)
    };
    check(libc::c_long::from(fd))?;
    // SAFETY: a new descriptor that belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Joins the session keyring `name` of this user, or makes it: a session of its own, so that keys of the host's session
/// are out of reach. A new one is opened to a search by its user, which is what joining it by name later asks for.
pub fn join_session_keyring(name: &CStr) -> io::Result<()> {
    /// Whoever possesses a key may do everything with it; its user may view, read and search (`keyctl_setperm(3)`).
    const RIGHTS: libc::c_ulong = 0x3f0b_0000;
    // SAFETY: the name is a string that lives until the call returns.
    let keyring =
        check(unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) })?;
    // SAFETY: takes numbers only.
    check(unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_SETPERM, keyring, RIGHTS) }).map(drop)
}

/// `personality(2)`.
pub fn personality(persona: u64) -> io::Result<()> {
    // SAFETY: takes a number only.
    check(unsafe { libc::syscall(libc::SYS_personality, persona) }).map(drop)
}

/// A descriptor by number that this process was given when it started (standard streams, `--preserve-fds`).
///
/// Fails unless it is open.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: asks about a number only; the result is a new descriptor that belongs to nobody else.
    unsafe {
        let copy = libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3);
        check(libc::c_long::from(copy))?;
        Ok(OwnedFd::from_raw_fd(copy))
    }
}

/// Makes `source` also the descriptor `number`, without `CLOEXEC`; only for the numbers 0 to 2, which nobody owns.
pub fn install_stdio(source: BorrowedFd<'_>, number: RawFd) -> io::Result<()> {
    if !(0..3).contains(&number) {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: Rust's standard streams refer to these numbers and do not own them.
    check(libc::c_long::from(unsafe { libc::dup2(source.as_raw_fd(), number) })).map(drop)
}

/// Makes the terminal `tty` the controlling one of this session.
pub fn set_controlling_terminal(tty: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: TIOCSCTTY takes a number; 0 steals from nobody.
    check(libc::c_long::from(unsafe { libc::ioctl(tty.as_raw_fd(), libc::TIOCSCTTY, 0) })).map(drop)
}

/// Brings the interface `lo` of the current network namespace up.
pub fn bring_up_loopback() -> io::Result<()> {
    // SAFETY: `ifreq` is plain bytes; the kernel reads the name and the flags that are set here.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        check(libc::c_long::from(socket))?;
        let socket = OwnedFd::from_raw_fd(socket);
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l' as libc::c_char;
        request.ifr_name[1] = b'o' as libc::c_char;
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        check(libc::c_long::from(libc::ioctl(
            socket.as_raw_fd(),
            libc::SIOCSIFFLAGS as libc::Ioctl,
            &raw mut request,
        )))
        .map(drop)
    }
}

/// Does `act` with other ids for files (`setfsuid(2)`), and with all capabilities all the same.
pub fn with_file_ids<T>(uid: u32, gid: u32, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    const KEEP: libc::c_ulong = 0x4; // SECBIT_NO_SETUID_FIXUP
    // SAFETY: all three take numbers only.
    let bits = check(libc::c_long::from(unsafe { libc::prctl(libc::PR_GET_SECUREBITS) }))? as libc::c_ulong;
    let set_bits = |bits: libc::c_ulong| {
        // SAFETY: as above.
        check(libc::c_long::from(unsafe { libc::prctl(libc::PR_SET_SECUREBITS, bits) }))
    };
    // SAFETY: as above; both say what was before.
    let set_ids = |uid: u32, gid: u32| unsafe { (libc::setfsgid(gid), libc::setfsuid(uid)) };
    set_bits(bits | KEEP)?;
    let before = set_ids(uid, gid);
    let done = act();
    set_ids(before.1 as u32, before.0 as u32);
    set_bits(bits)?;
    done
}

/// Loads a classic BPF program as this process's system call filter (`seccomp(2)`).
pub fn load_seccomp(program: &[[u8; 8]], flags: u64) -> io::Result<()> {
    let length = u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))?;
    let filter = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: `sock_filter` is eight bytes without padding; the kernel copies through an unaligned-safe copy and
    // only reads.
    check(unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const filter)
    })
    .map(drop)
}

/// Spawns a program for which no signal is blocked or ignored, whatever is so here.
pub fn spawn_with_default_signals(mut command: std::process::Command) -> io::Result<std::process::Child> {
    use std::os::unix::process::CommandExt;
    // SAFETY: between fork and exec only async-signal-safe functions are called.
    unsafe {
        command.pre_exec(|| {
            reset_signals();
            Ok(())
        });
    }
    command.spawn()
}

/// Spawns a program that is killed when this process ends, however that comes about. Only for a process of one
/// thread, for it is the thread's end that counts (`PR_SET_PDEATHSIG(2const)`).
pub fn spawn_until_own_death(mut command: std::process::Command) -> io::Result<std::process::Child> {
    use std::os::unix::process::CommandExt;
    // SAFETY: between fork and exec only async-signal-safe functions are called.
    unsafe {
        command.pre_exec(|| {
            reset_signals();
            check(libc::c_long::from(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))).map(drop)
        });
    }
    command.spawn()
}
