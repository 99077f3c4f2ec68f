//! `mount_setattr(2)` (Linux 5.12), which rustix lacks, and the user namespaces that stand for id maps in it.

use std::{
    fs, io,
    io::Read,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use crate::process::{self, Fork};
use rustix::process::{WaitId, WaitIdOptions, waitid};

/// What to change on a mount.
#[derive(Debug, Default, Clone, Copy)]
pub struct MountAttributes<'fd> {
    /// `MOUNT_ATTR_*` bits to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` bits to clear.
    pub clear: u64,
    /// `MS_SHARED`, `MS_PRIVATE`, `MS_SLAVE` or `MS_UNBINDABLE`; 0 leaves it.
    pub propagation: u64,
    /// The user namespace whose id map the mount gets, with `MOUNT_ATTR_IDMAP` in `set`.
    pub id_map: Option<BorrowedFd<'fd>>,
}

/// Changes the mount that `mount` is the root of; with `recursive`, also all below it.
pub fn set_attributes(
    mount: BorrowedFd<'_>,
    recursive: bool,
    attributes: MountAttributes<'_>,
) -> io::Result<()> {
    let value = libc::mount_attr {
        attr_set: attributes.set,
        attr_clr: attributes.clear,
        propagation: attributes.propagation,
        userns_fd: attributes.id_map.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    let mut flags = libc::AT_EMPTY_PATH;
    if recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: the path is an empty C string, `value` lives through the call and its size is told.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const value,
            size_of::<libc::mount_attr>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// A user namespace with these maps (`user_namespaces(7)`): of a process that lives until the namespace has been opened.
/// Fails in a program that has threads.
pub fn id_map_namespace(uid_map: &str, gid_map: &str) -> io::Result<OwnedFd> {
    let (mut reader, writer) = io::pipe()?;
    let namespaces = process::NAMESPACES.iter().find(|(name, _)| *name == "user").map_or(0, |(_, bit)| *bit);
    let Some((pid, pidfd)) = process::fork(Fork { namespaces, ..Fork::default() })? else {
        // Ends with its parent at the latest.
        drop(writer);
        let _ = reader.read(&mut [0]);
        std::process::exit(0);
    };
    let write = |file: &str, map: &str| {
        fs::write(format!("/proc/{pid}/{file}"), map)
            .map_err(|error| io::Error::new(error.kind(), format!("{file} {:?}: {error}", map.trim())))
    };
    let opened = write("uid_map", uid_map)
        .and_then(|()| write("gid_map", gid_map))
        .and_then(|()| Ok(fs::File::open(format!("/proc/{pid}/ns/user"))?.into()));
    let _ = process::signal(pidfd.as_fd(), libc::SIGKILL);
    let _ = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
    opened
}
