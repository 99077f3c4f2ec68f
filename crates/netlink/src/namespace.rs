//! A network namespace, held by a descriptor.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use crate::error::{Error, Result};

const NETWORK: u64 = 0x4000_0000;

/// A network namespace; it lives at least as long as this does.
#[derive(Debug)]
pub struct Namespace(OwnedFd);

impl Namespace {
    /// A new one, with nothing but a loopback that is down.
    pub fn new() -> Result<Self> {
        apart(|| {
            sys::process::unshare(NETWORK)?;
            File::open("/proc/thread-self/ns/net")
        })
        .map(|file| Self(file.into()))
        .map_err(Error::io("make a network namespace"))
    }

    /// The calling thread's.
    pub fn current() -> Result<Self> {
        let file = File::open("/proc/thread-self/ns/net");
        file.map(|file| Self(file.into())).map_err(Error::io("open this network namespace"))
    }

    /// The one that a file stands for: `/proc/PID/ns/net`, or one under `/run/netns`.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path);
        file.map(|file| Self(file.into())).map_err(Error::io("open a network namespace"))
    }

    /// Does `work` inside, in a thread of its own: no other thread ever changes its namespace.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        apart(|| {
            sys::process::setns(self.0.as_fd(), NETWORK)?;
            Ok(work())
        })
        .map_err(Error::io("enter a network namespace"))
    }
}

/// Does `work` in a thread that ends with it.
fn apart<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("netns".to_owned()).spawn_scoped(scope, work)?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Namespace {
    fn from(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }
}
