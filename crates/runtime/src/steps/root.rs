//! The container's root: where it comes from, and how it becomes `/` (rule R5).

use std::{
    os::fd::{AsFd, AsRawFd},
    path::Path,
};

use rustix::{
    fs::{Mode, OFlags, open},
    io::Errno,
    mount::{UnmountFlags, unmount},
};
use sys::Root;

use super::{
    Child,
    mounting::{PLACE, attach, change, copy, tmpfs},
};
use crate::{
    error::{During, Error, Result},
    options::{Change, attr},
};

/// Cuts this mount namespace off from the host's and takes `path` as the container's root, a mount of its own.
pub(super) fn take_root(child: &mut Child<'_>, path: &Path, from_host: u64) -> Result<()> {
    let what = || format!("take {} as root", path.display());
    let host = open("/", PLACE, Mode::empty()).during(what)?;
    change(&host, true, Change::default(), from_host).during(|| "cut mounts off from the host")?;
    let (tree, place) = match open(path, PLACE | OFlags::DIRECTORY, Mode::empty()) {
        // Behind a directory that is closed to a user namespace's root, who may mount it over `/` all the same.
        Err(Errno::ACCESS) => (child.channel.ask_fd("tree root")?, host),
        other => {
            let place = other.during(what)?;
            (copy(place.as_fd(), true).during(what)?, place)
        }
    };
    attach(&tree, &place).during(what)?;
    child.root = Some(Root::from_fd(tree));
    Ok(())
}

/// Makes a directory inside the root, if it is missing.
pub(super) fn make_directory(root: &Root, path: &Path) -> Result<()> {
    root.create_dir_all(path, Mode::from_raw_mode(0o755)).map(drop).map_err(|error| {
        let error = Error::refused(format!("working directory {}", path.display()), &error);
        error.hint_on(Errno::LOOP, "a path through /proc leads out of the container")
    })
}

/// Sets how the root's mounts spread.
pub(super) fn propagate(kind: u64, recursive: bool) -> Result<()> {
    let what = || "set the propagation of the root";
    let root = open("/", PLACE, Mode::empty()).during(what)?;
    change(root, recursive, Change::default(), kind).during(what)
}

/// Makes the root `/` and lets go of the host's.
pub(super) fn pivot(child: &mut Child<'_>) -> Result<()> {
    let root = child.root.take().ok_or_else(|| Error::new("pivot_root: no root"))?;
    child.empty = None;
    rustix::process::fchdir(&root).during(|| "change directory to the root")?;
    rustix::process::pivot_root(".", ".").map_err(|error| {
        let hint = "the host's root must not be an initramfs, and the bundle's file system not be locked";
        Error::refused("pivot_root", &error.into()).hint_on(Errno::INVAL, hint)
    })?;
    // The old root now lies over the new one at `/`; what is unmounted here is unmounted in this namespace only.
    unmount(".", UnmountFlags::DETACH).during(|| "let go of the host's root")?;
    rustix::process::chdir("/").during(|| "change directory to /")
}

/// The way without `pivot_root`, for hosts whose root is an initramfs: moves the root over `/`. The host's root stays
/// below, out of reach by name.
pub(super) fn move_to_slash(child: &mut Child<'_>) -> Result<()> {
    let root = child.root.take().ok_or_else(|| Error::new("move the root: no root"))?;
    child.empty = None;
    let own = std::fs::read_link(format!("/proc/self/fd/{}", root.as_fd().as_raw_fd()));
    let own = own.during(|| "find the root's path")?;
    // It may be there already; names still lead past what lies over `/`.
    let over_slash = own == Path::new("/");
    hide_kernel_file_systems(|point| over_slash || !point.starts_with(&own))?;
    rustix::process::fchdir(&root).during(|| "change directory to the root")?;
    let slash = open("/", PLACE, Mode::empty()).during(|| "open /")?;
    if !over_slash {
        attach(&root, &slash).during(|| "move the root to /")?;
    }
    rustix::process::chroot(".").during(|| "chroot")?;
    rustix::process::chdir("/").during(|| "change directory to /")
}

/// While the host's whole procfs or sysfs is mounted in the container's namespace, the kernel lets a user namespace
/// mount another without what is masked; so these go, as in runc.
fn hide_kernel_file_systems(is_hosts: impl Fn(&Path) -> bool) -> Result<()> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").during(|| "read /proc/self/mountinfo")?;
    let whole = table.lines().rev().filter_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (within, point) = (fields.next()?, sys::fsmount::unescape(fields.next()?));
        let kernels = kind.starts_with("proc ") || kind.starts_with("sysfs ");
        (within == "/" && kernels && is_hosts(Path::new(&point))).then_some(point)
    });
    for point in whole {
        let what = || format!("hide the host's {point}");
        match unmount(point.as_str(), UnmountFlags::DETACH) {
            Ok(()) | Err(Errno::NOENT) => {}
            // Locked, in a user namespace.
            Err(Errno::INVAL | Errno::PERM) => {
                let place = open(point.as_str(), PLACE, Mode::empty()).during(what)?;
                attach(tmpfs(attr::RDONLY, None).during(what)?, place).during(what)?;
            }
            Err(error) => return Err(Error::refused(what(), &error.into())),
        }
    }
    Ok(())
}

/// Makes `/` read-only; what is mounted below stays as it is.
pub(super) fn readonly_root() -> Result<()> {
    let root = open("/", PLACE, Mode::empty()).during(|| "open /")?;
    change(&root, false, Change { set: attr::RDONLY, clear: 0 }, 0).during(|| "make / read-only")
}
