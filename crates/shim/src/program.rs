//! A root that a file system's own program mounts (`fuse.fuse-overlayfs`), where the kernel cannot.

use std::{
    io,
    path::Path,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use oci::Mount;
use rustix::{
    fs::{Mode, OFlags, fstatfs},
    mount::{UnmountFlags, unmount},
};
use sys::Root;

/// A type of mounts that a program makes is called so, then the program (`mount.fuse3(8)`).
pub(crate) const PROGRAM: &str = "fuse.";
/// `FUSE_SUPER_MAGIC`.
const FUSE: i64 = 0x6573_5546;
/// For a program to mount, or to end.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(2);

/// Runs a file system's program in this mount namespace, where it serves as long as the container lives.
pub(crate) fn by_program(name: &str, mount: &Mount, rootfs: &Path) -> io::Result<()> {
    if !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty() {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "a program's mount cannot be id-mapped"));
    }
    if mount.destination != "/" {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "a program can mount the whole root only"));
    }
    let program = sys::process::find_program(name).ok_or_else(|| {
        io::Error::new(io::ErrorKind::NotFound, format!("the program {name} is not installed"))
    })?;
    let mut command = Command::new(program);
    command.args(["-f", "-o", &mount.options.join(",")]).arg(rootfs).stdin(Stdio::null());
    let mut child = sys::process::spawn_until_own_death(command)?;
    let until = Instant::now() + PATIENCE;
    while !is_fuse(rootfs)? {
        if let Some(status) = child.try_wait()? {
            return Err(io::Error::other(format!("{name} ended: {status}; what it said is in shim.log")));
        }
        if Instant::now() > until {
            end(&mut child);
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("{name} has not mounted anything")));
        }
        sleep(PAUSE);
    }
    Ok(())
}

fn is_fuse(rootfs: &Path) -> io::Result<bool> {
    let root = Root::open(rootfs)?;
    let root = root.get(Path::new("/"), OFlags::PATH, Mode::empty())?;
    Ok(fstatfs(root)?.f_type as i64 == FUSE)
}

fn end(child: &mut Child) {
    // It may be ending already.
    let _ = child.kill();
    let _ = child.wait();
}

/// Before the shim ends. What a program mounted is unmounted in order, for it may hold writes back; everything else
/// goes with the mount namespace.
pub(crate) fn release(rootfs: &Path, mounts: &[Mount]) {
    let by_program = |mount: &Mount| mount.kind.as_deref().is_some_and(|kind| kind.starts_with(PROGRAM));
    if !mounts.iter().any(by_program) {
        return;
    }
    let until = Instant::now() + PATIENCE;
    while unmount(rootfs, UnmountFlags::empty()) == Err(rustix::io::Errno::BUSY) && Instant::now() < until {
        sleep(PAUSE);
    }
    // Its program ends when nothing of it is mounted any more.
    while rustix::process::wait(rustix::process::WaitOptions::NOHANG).is_ok_and(|ended| ended.is_none())
        && Instant::now() < until
    {
        sleep(PAUSE);
    }
}
