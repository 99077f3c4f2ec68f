//! The runtime enters containers only by a program that nobody can write to: what a container can reach by
//! `/proc/PID/exe`, or by `#!/proc/self/exe`, is then never the program on disk (CVE-2019-5736).
//!
//! Two things are as good as each other. A **sealed memory file**, which an engine makes once and starts every call
//! from; making one for each call takes 0.6 ms and as much memory as the program has bytes. And a **read-only mount that
//! belongs to no namespace**: a detached copy of the program's own place, whose handle the exec closes. No call can
//! make such a mount writable, copy or move it again (all answer EINVAL), not even with every capability; it takes
//! 0.1 ms and no memory. That one is for calls by people and by other engines.

use std::{
    ffi::{CString, OsString},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::ffi::OsStringExt,
    },
};

use rustix::{
    fs::{
        AtFlags, MemfdFlags, Mode, OFlags, SealFlags, StatVfsMountFlags, StatxAttributes, StatxFlags,
        fcntl_add_seals, fcntl_get_seals, fstat, fstatvfs, memfd_create, open, sendfile, statx,
    },
    io::Errno,
    mount::{OpenTreeFlags, open_tree},
    process::{DumpableBehavior, geteuid, set_dumpable_behavior},
};

use crate::{
    error::{During, Error, Result},
    options::attr,
};

fn what() -> &'static str {
    "seal the runtime's own program"
}

/// Returns in a process whose program nobody can write to; becomes one if it is none.
pub fn ensure() -> Result<()> {
    let own = open("/proc/self/exe", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).during(what)?;
    let hide = || {
        if !geteuid().is_root() {
            return Ok(()); // Its child hides later: `Step::HideMemory`.
        }
        // Nobody who shares a namespace with this process from now on may look into it (CVE-2016-9962).
        set_dumpable_behavior(DumpableBehavior::NotDumpable).during(what)
    };
    if is_sealed(&own) {
        return hide();
    }
    match copy_mount(&own) {
        Ok(mount) => become_program(&mount),
        // Only what belongs to no namespace cannot be copied.
        Err(Errno::INVAL) if is_detached(&own)? => hide(),
        // Without privilege, or in a container whose filter forbids it.
        Err(_) => become_program(&copy_content(&own)?),
    }
}

const SEALS: SealFlags =
    SealFlags::SEAL.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::WRITE);

fn is_sealed(own: &OwnedFd) -> bool {
    fcntl_get_seals(own).is_ok_and(|seals| seals.contains(SEALS))
}

/// Whether `own`, which cannot be copied, is alone on a read-only mount. A file system that the host keeps read-only may
/// be made writable one day; a mount of one file that belongs to nobody may not.
fn is_detached(own: &OwnedFd) -> Result<bool> {
    let found = statx(own, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS).during(what)?;
    let alone = found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT);
    let flags = fstatvfs(own).during(what)?.f_flag;
    Ok(alone && flags.contains(StatVfsMountFlags::RDONLY))
}

/// The program on a read-only mount of its own, attached nowhere.
fn copy_mount(own: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let mount = open_tree(own, c"", flags)?;
    let readonly = sys::mounts::MountAttributes { set: attr::RDONLY, clear: 0, propagation: 0, id_map: None };
    sys::mounts::set_attributes(mount.as_fd(), false, readonly)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::PERM))?;
    Ok(mount)
}

/// The program in memory.
fn copy_content(own: &OwnedFd) -> Result<OwnedFd> {
    let copy = memfd_create("knarr-runtime", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).during(what)?;
    let mut left = fstat(own).during(what)?.st_size as usize;
    while left > 0 {
        match sendfile(&copy, own, None, left).during(what)? {
            0 => return Err(Error::new(format!("{}: it became shorter", what()))),
            sent => left -= sent,
        }
    }
    fcntl_add_seals(&copy, SEALS).during(what)?;
    Ok(copy)
}

fn become_program(copy: &OwnedFd) -> Result<()> {
    let strings = |words: &mut dyn Iterator<Item = OsString>| {
        words.map(|word| CString::new(word.into_vec())).collect::<std::result::Result<Vec<_>, _>>()
    };
    let bad = |_| Error::new("an argument contains a NUL byte");
    let args = strings(&mut std::env::args_os()).map_err(bad)?;
    let env = strings(&mut std::env::vars_os().map(|(mut name, value)| {
        name.push("=");
        name.push(value);
        name
    }))
    .map_err(bad)?;
    let path = CString::new(format!("/proc/self/fd/{}", copy.as_raw_fd())).map_err(bad)?;
    Err(Error::refused(what(), &sys::process::exec(&path, &args, &env)))
}
