//! `SCMP_ACT_NOTIFY`: an agent outside decides, call by call (config-linux.md, "Seccomp"; `seccomp_unotify(2)`).
//!
//! The process that loads the filter has the descriptor that the agent needs, and must not be the one to send it: any
//! call it makes by then may be one that waits for the agent. So it says beforehand which number the descriptor will
//! have, and the runtime, which no filter holds, takes it out of the process (`pidfd_getfd`), sends it, and writes into
//! the process's memory that it may go on: until then the process makes no call at all, for its exec would close the
//! descriptor. (crun leaves a second process behind that shares the table of descriptors; runc's must be allowed to
//! write.)

use std::{
    fs::OpenOptions,
    hint::spin_loop,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::fs::FileExt,
    },
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use oci::spec::{Seccomp, State};
use rustix::{
    io::{Errno, fcntl_dupfd_cloexec},
    process::{PidfdGetfdFlags, pidfd_getfd},
};
use serde::{Deserialize, Serialize};

use super::{Program, rules::Profile, words::NEW_LISTENER};
use crate::{
    channel::{Channel, Message},
    error::{During, Error, Result},
};

/// Where the agent listens, and what it is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    path: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    metadata: String,
}

/// config-linux.md, "The Container Process State".
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProcessState<'s> {
    oci_version: &'s str,
    fds: [&'static str; 1],
    pid: i32,
    #[serde(skip_serializing_if = "str::is_empty")]
    metadata: &'s str,
    state: &'s State,
}

/// The agent of a profile, if it has one.
pub fn agent(seccomp: Option<&Seccomp>) -> Option<Agent> {
    let seccomp = seccomp?;
    let path = seccomp.listener_path.clone().filter(|path| !path.is_empty())?;
    Some(Agent { path, metadata: seccomp.listener_metadata.clone().unwrap_or_default() })
}

/// Refuses what could never work.
pub(super) fn check(seccomp: &Seccomp, profile: &Profile<'_>) -> Result<()> {
    let given = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    if given(&seccomp.listener_metadata) && !given(&seccomp.listener_path) {
        return Err(Error::new("linux.seccomp.listenerMetadata: needs a listenerPath"));
    }
    if profile.notifies && !given(&seccomp.listener_path) {
        return Err(Error::new("linux.seccomp: SCMP_ACT_NOTIFY needs a listenerPath"));
    }
    // runc cannot do without it, and so no profile has it; a program that waits for its agent at every write helps
    // nobody.
    if profile.notified().any(|name| name == "write") {
        return Err(Error::new("linux.seccomp: SCMP_ACT_NOTIFY cannot be used for the write system call"));
    }
    Ok(())
}

impl Program {
    /// Whether an agent is asked.
    pub fn notifies(&self) -> bool {
        self.flags & NEW_LISTENER != 0
    }
}

/// How long a filter may take to be loaded.
const PATIENCE: Duration = Duration::from_secs(10);

fn what() -> &'static str {
    "take the seccomp listener from the container's process"
}

/// Takes the descriptor that will have this number in the process, once the filter is loaded. `None` when the process
/// has something else to say first: why that failed.
fn take(pidfd: BorrowedFd<'_>, number: i32, channel: &Channel) -> Result<Option<OwnedFd>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match pidfd_getfd(pidfd, number, PidfdGetfdFlags::empty()) {
            Ok(taken) if is_listener(&taken) => return Ok(Some(taken)),
            // Not there yet.
            Ok(_) | Err(Errno::BADF) => {}
            Err(error) => {
                return Err(
                    Error::refused(what(), &error.into()).hint_on(Errno::PERM, "needs CAP_SYS_PTRACE")
                );
            }
        }
        if channel.has_news(Duration::from_micros(200)) {
            return Ok(None);
        }
        if Instant::now() > deadline {
            return Err(Error::new(format!("{}: it never came", what())));
        }
    }
}

fn is_listener(taken: &OwnedFd) -> bool {
    let link = std::fs::read_link(format!("/proc/self/fd/{}", taken.as_raw_fd()));
    link.is_ok_and(|link| link.as_os_str() == "anon_inode:seccomp notify")
}

impl Agent {
    /// The runtime's part: hands the listener of a process to the agent.
    pub fn inform(
        &self,
        pidfd: BorrowedFd<'_>,
        (number, taken_at): (i32, u64),
        channel: &Channel,
        pid: i32,
        state: &State,
    ) -> Result<()> {
        let Some(listener) = take(pidfd, number, channel)? else {
            return Ok(());
        };
        let what = || format!("send the seccomp listener to the agent at {}", self.path);
        let state = ProcessState {
            oci_version: &state.oci_version,
            fds: ["seccompFd"],
            pid,
            metadata: &self.metadata,
            state,
        };
        let text = serde_json::to_vec(&state).map_err(|error| Error::new(format!("{}: {error}", what())))?;
        let connection = sys::fdpass::connect_to(Path::new(&self.path)).during(what)?;
        sys::fdpass::send_fd_with(&connection, listener.as_fd(), &text).during(what)?;
        let memory = OpenOptions::new().write(true).open(format!("/proc/{pid}/mem")).during(self::what)?;
        memory.write_all_at(&[1], taken_at).during(self::what)
    }
}

/// Set by the runtime, from outside.
static TAKEN: AtomicBool = AtomicBool::new(false);
/// Several seconds; a runtime that has not answered by then never will.
const SPINS: u64 = 1 << 28;

/// The process's part, before it loads the filter: says where the listener will be, the lowest free number.
pub fn announce(channel: &mut Channel) -> Result<()> {
    let next = fcntl_dupfd_cloexec(channel.as_fd(), 0).during(|| "find a free descriptor")?;
    let number = next.as_raw_fd();
    drop(next);
    channel.say(&Message::Listener { number, taken_at: TAKEN.as_ptr() as u64 })
}

/// The process's part once the filter is loaded: waits without any call.
pub fn await_taken() -> Result<()> {
    for _ in 0..SPINS {
        if TAKEN.load(Ordering::Acquire) {
            return Ok(());
        }
        spin_loop();
    }
    Err(Error::new("the runtime did not take the seccomp listener"))
}
