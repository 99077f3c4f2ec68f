//! The runtime enters containers only as a sealed copy of itself: what a container can reach by `/proc/PID/exe` is
//! then never the program on disk (CVE-2019-5736).

use std::{ffi::CString, os::fd::AsRawFd, os::unix::ffi::OsStringExt};

use rustix::{
    fs::{
        MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, memfd_create, open,
        sendfile,
    },
    process::{DumpableBehavior, geteuid, set_dumpable_behavior},
};

use crate::error::{During, Error, Result};

/// Returns in a process that runs from a sealed memory file; becomes one if it is none.
pub fn ensure() -> Result<()> {
    let what = || "seal the runtime's own program";
    let own = open("/proc/self/exe", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).during(what)?;
    let wanted = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    if fcntl_get_seals(&own).is_ok_and(|seals| seals.contains(wanted)) {
        if !geteuid().is_root() {
            return Ok(()); // Its child hides later: `Step::HideMemory`.
        }
        // Nobody who shares a namespace with this process from now on may look into it (CVE-2016-9962).
        return set_dumpable_behavior(DumpableBehavior::NotDumpable).during(what);
    }
    let copy = memfd_create("knarr-runtime", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).during(what)?;
    let mut left = fstat(&own).during(what)?.st_size as usize;
    while left > 0 {
        match sendfile(&copy, &own, None, left).during(what)? {
            0 => return Err(Error::new(format!("{}: it became shorter", what()))),
            sent => left -= sent,
        }
    }
    fcntl_add_seals(&copy, wanted).during(what)?;
    let strings = |words: &mut dyn Iterator<Item = std::ffi::OsString>| {
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
