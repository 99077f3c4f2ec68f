//! The container's file system: the root, what is mounted on it, what is hidden in it (rules R1, R2, R4, R5).

use std::{
    io::Read,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, open, openat, openat2, symlinkat},
    io::Errno,
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
        fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
        unmount,
    },
};
use sys::{
    Root,
    mounts::{MountAttributes, set_attributes},
};

use super::{Child, Mounting};
use crate::{
    cgroup::Place,
    error::{During, Error, Result},
    options::{Change, Options, attr},
};

/// Files are opened for their place only.
const PLACE: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// A detached copy of the mount at `of`, with what is mounted below if `recursive`.
pub(super) fn copy(of: BorrowedFd<'_>, recursive: bool) -> rustix::io::Result<OwnedFd> {
    let mut flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(of, c"", flags)
}

/// Attaches a detached mount to an open place.
pub(super) fn attach(mount: impl AsFd, place: impl AsFd) -> rustix::io::Result<()> {
    let by_fd = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount.as_fd(), c"", place.as_fd(), c"", by_fd)
}

fn change(mount: impl AsFd, recursive: bool, change: Change, propagation: u64) -> std::io::Result<()> {
    let attributes = MountAttributes { set: change.set, clear: change.clear, propagation, id_map: None };
    set_attributes(mount.as_fd(), recursive, attributes)
}

const READONLY: Change = Change { set: attr::RDONLY, clear: 0 };

/// Cuts this mount namespace off from the host's and takes `path` as the container's root, a mount of its own.
pub(super) fn take_root(child: &mut Child<'_>, path: &Path, from_host: u64) -> Result<()> {
    let what = || format!("take {} as root", path.display());
    let host = open("/", PLACE, Mode::empty()).during(what)?;
    change(&host, true, Change::default(), from_host).during(|| "cut mounts off from the host")?;
    let place = open(path, PLACE | OFlags::DIRECTORY, Mode::empty()).during(what)?;
    let tree = copy(place.as_fd(), true).during(what)?;
    attach(&tree, &place).during(what)?;
    child.root = Some(Root::from_fd(tree));
    Ok(())
}

/// Mounts a new file system.
pub(super) fn mount(root: &Root, mount: &Mounting) -> Result<()> {
    let Mounting { kind, source, destination, options } = mount;
    let what = || format!("mount {kind} on {}", destination.display());
    if options.copy_up {
        return Err(Error::new(format!("{}: tmpcopyup: not supported", what())));
    }
    let place = directory_place(root, kind, destination).map_err(|error| error.during(what()))?;
    let context = fsopen(kind.as_str(), FsOpenFlags::FSOPEN_CLOEXEC).map_err(|error| {
        Error::refused(what(), &error.into()).hint_on(Errno::NODEV, "no such file system type")
    })?;
    let configured = configure(&context, kind, source, options, &place);
    configured.map_err(|error| {
        let error = Error::refused(what(), &error.into());
        let reason = kernel_says(&context);
        if reason.is_empty() {
            error.hint_on(Errno::PERM, "the user namespace may not mount this")
        } else {
            error.hint(reason)
        }
    })?;
    let mounted = fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::from_bits_retain(options.mount.set as u32),
    )
    .during(what)?;
    for (kind, recursive) in &options.propagation {
        change(&mounted, *recursive, Change::default(), *kind).during(what)?;
    }
    attach(&mounted, &place).during(what)
}

/// A file system's directory; made if missing. `proc` and `sysfs` must not be reached through links, or an image
/// could have the runtime's own writes land elsewhere (CVE-2019-19921, CVE-2023-27561).
fn directory_place(root: &Root, kind: &str, destination: &Path) -> Result<OwnedFd> {
    let made = root.create_dir_all(destination, Mode::from_raw_mode(0o755));
    if kind != "proc" && kind != "sysfs" {
        return made.during(|| "make the mount point");
    }
    root.get_no_links(destination, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())
        .map_err(|error| Error::refused("must be an ordinary directory", &error))
}

fn configure(
    context: &OwnedFd,
    kind: &str,
    source: &str,
    options: &Options,
    place: &OwnedFd,
) -> rustix::io::Result<()> {
    fsconfig_set_string(context, c"source", source)?;
    for (key, value) in &options.data {
        match value {
            // A whole list does not fit the kernel's 256 bytes for a value; overlay takes layers one by one (6.5).
            Some(list) if kind == "overlay" && key == "lowerdir" => {
                for layer in list.split(':') {
                    fsconfig_set_string(context, c"lowerdir+", layer)?;
                }
            }
            Some(value) => fsconfig_set_string(context, key.as_str(), value.as_str())?,
            None => fsconfig_set_flag(context, key.as_str())?,
        }
    }
    if kind == "tmpfs" && !options.data.iter().any(|(key, _)| key == "mode") {
        // Like the directory it covers.
        let mode = fstat(place)?.st_mode & 0o7777;
        fsconfig_set_string(context, c"mode", format!("{mode:o}"))?;
    }
    fsconfig_create(context)
}

/// What the kernel logged about a mount that it refused.
fn kernel_says(context: &OwnedFd) -> String {
    let Ok(copy) = context.try_clone() else {
        return String::new();
    };
    let mut log = std::fs::File::from(copy);
    let mut lines = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(length @ 1..) = log.read(&mut buffer) {
        let line = String::from_utf8_lossy(&buffer[..length]);
        lines.push(line.trim().trim_start_matches("e ").to_owned());
    }
    lines.join("; ")
}

/// Binds a file or directory of the host.
pub(super) fn bind(root: &Root, mount: &Mounting) -> Result<()> {
    let Mounting { source, destination, options, .. } = mount;
    let what = || format!("bind {source} on {}", destination.display());
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if options.recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    let tree = open_tree(CWD, source.as_str(), flags).map_err(|error| {
        Error::refused(what(), &error.into())
            .hint_on(Errno::NOENT, format!("{source} does not exist on the host"))
    })?;
    if !options.mount.is_empty() {
        change(&tree, false, options.mount, 0).during(what)?;
    }
    if !options.tree.is_empty() {
        change(&tree, true, options.tree, 0).during(what)?;
    }
    for (kind, recursive) in &options.propagation {
        change(&tree, *recursive, Change::default(), *kind).during(what)?;
    }
    let kind = FileType::from_raw_mode(fstat(&tree).during(what)?.st_mode);
    let place = if kind == FileType::Directory {
        root.create_dir_all(destination, Mode::from_raw_mode(0o755))
    } else {
        file_place(root, destination)
    };
    attach(&tree, &place.during(what)?).during(what)
}

/// A file to mount over, made if missing.
pub(super) fn file_place(root: &Root, path: &Path) -> std::io::Result<OwnedFd> {
    match root.get(path, OFlags::PATH, Mode::empty()) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        found => return found,
    }
    if let Some(parent) = path.parent() {
        root.create_dir_all(parent, Mode::from_raw_mode(0o755))?;
    }
    let (parent, name) = root.parent_of(path)?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(&parent, name, flags, Mode::from_raw_mode(0o644))?;
    Ok(openat(&parent, name, PLACE | OFlags::NOFOLLOW, Mode::empty())?)
}

/// Shows the container its own groups: on v2 its directory, on v1 a directory of the hierarchies' directories.
pub(super) fn groups(root: &Root, destination: &Path, places: &[Place], options: &Options) -> Result<()> {
    let what = || format!("mount cgroups on {}", destination.display());
    let place = root.create_dir_all(destination, Mode::from_raw_mode(0o755)).during(what)?;
    let group = |place: &Place| -> Result<OwnedFd> {
        let fd = open(&place.group, PLACE, Mode::empty()).during(what)?;
        let tree = copy(fd.as_fd(), false).during(what)?;
        change(&tree, false, options.mount, 0).during(what)?;
        Ok(tree)
    };
    if let [only] = places
        && only.unified
    {
        return attach(group(only)?, &place).during(what);
    }
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).during(what)?;
    fsconfig_set_string(&context, c"source", c"tmpfs").during(what)?;
    fsconfig_set_string(&context, c"mode", c"755").during(what)?;
    fsconfig_create(&context).during(what)?;
    let attributes = MountAttrFlags::from_bits_retain((options.mount.set & !attr::RDONLY) as u32);
    let list = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).during(what)?;
    // Attached first: before Linux 6.15 nothing can be mounted inside a detached mount.
    attach(&list, &place).during(what)?;
    for place in places {
        mkdirat(&list, place.name.as_str(), Mode::from_raw_mode(0o755)).during(what)?;
        let target =
            openat(&list, place.name.as_str(), PLACE | OFlags::NOFOLLOW, Mode::empty()).during(what)?;
        attach(group(place)?, &target).during(what)?;
        if place.name.contains(',') {
            for alias in place.name.split(',') {
                symlinkat(place.name.as_str(), &list, alias).during(what)?;
            }
        }
    }
    change(&list, false, Change { set: options.mount.set & attr::RDONLY, clear: 0 }, 0).during(what)
}

/// Makes a mount read-only once everything inside it has been made.
pub(super) fn readonly_mount(root: &Root, path: &Path) -> Result<()> {
    let what = || format!("make mount {} read-only", path.display());
    let mount = root.get(path, OFlags::PATH, Mode::empty()).during(what)?;
    change(&mount, false, READONLY, 0).during(what)
}

/// Opens a path to protect; `None` if there is nothing.
fn protected(root: &Root, path: &Path, what: impl Fn() -> String) -> Result<Option<OwnedFd>> {
    match root.get(path, OFlags::PATH, Mode::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(error)
            if matches!(
                error.raw_os_error().map(Errno::from_raw_os_error),
                Some(Errno::NOENT | Errno::NOTDIR)
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(Error::refused(what(), &error)),
    }
}

/// Covers a path with itself, read-only.
pub(super) fn readonly_path(root: &Root, path: &Path) -> Result<()> {
    let what = || format!("make {} read-only", path.display());
    let Some(place) = protected(root, path, what)? else {
        return Ok(());
    };
    let tree = copy(place.as_fd(), true).during(what)?;
    change(&tree, true, READONLY, 0).during(what)?;
    attach(&tree, &place).during(what)
}

/// Covers a file with the null device and a directory with nothing.
pub(super) fn mask(child: &mut Child<'_>, path: &Path) -> Result<()> {
    let what = || format!("mask {}", path.display());
    let Some(place) = protected(child.root()?, path, what)? else {
        return Ok(());
    };
    if FileType::from_raw_mode(fstat(&place).during(what)?.st_mode) == FileType::Directory {
        // One superblock for all: each would be torn down on its own when the container ends.
        if let Some(empty) = &child.empty {
            let again = copy(empty.as_fd(), false).during(what)?;
            return attach(again, &place).during(what);
        }
        let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).during(what)?;
        fsconfig_set_string(&context, c"source", c"tmpfs").during(what)?;
        fsconfig_set_string(&context, c"mode", c"755").during(what)?;
        fsconfig_create(&context).during(what)?;
        let hardened = attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC;
        let attributes = MountAttrFlags::from_bits_retain(hardened as u32);
        let empty = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).during(what)?;
        attach(&empty, &place).during(what)?;
        child.empty = Some(empty);
        return Ok(());
    }
    // The host's own node, which the container has no way to exchange (CVE-2025-31133), and verified all the same.
    let null = open("/dev/null", PLACE | OFlags::NOFOLLOW, Mode::empty()).during(what)?;
    super::devices::verify(null.as_fd(), 'c', (1, 3)).map_err(|error| error.during(what()))?;
    attach(copy(null.as_fd(), false).during(what)?, &place).during(what)
}

/// Makes a directory inside the root, if it is missing.
pub(super) fn make_directory(root: &Root, path: &Path) -> Result<()> {
    root.create_dir_all(path, Mode::from_raw_mode(0o755)).map(drop).map_err(|error| {
        let error = Error::refused(format!("working directory {}", path.display()), &error);
        error.hint_on(Errno::LOOP, "a path through /proc leads out of the container")
    })
}

/// Sets how the root's mounts spread.
pub(super) fn propagate(root: &Root, kind: u64, recursive: bool) -> Result<()> {
    change(root, recursive, Change::default(), kind).during(|| "set the propagation of the root")
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

/// Makes `/` read-only; what is mounted below stays as it is.
pub(super) fn readonly_root() -> Result<()> {
    let root = open("/", PLACE, Mode::empty()).during(|| "open /")?;
    change(&root, false, READONLY, 0).during(|| "make / read-only")
}

/// A procfs of our own (rule R3): nothing a container mounts can stand between us and the kernel.
pub(super) fn own_proc<'c>(child: &'c mut Child<'_>) -> Result<&'c OwnedFd> {
    if child.proc.is_none() {
        let make = || -> rustix::io::Result<OwnedFd> {
            let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
            fsconfig_create(&context)?;
            let hardened = attr::NOSUID | attr::NODEV | attr::NOEXEC;
            let attributes = MountAttrFlags::from_bits_retain(hardened as u32);
            fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        };
        child.proc = Some(make().during(|| "make a procfs of our own")?);
    }
    child.proc.as_ref().ok_or_else(|| Error::new("no procfs"))
}

/// Writes a file of our own procfs.
pub(super) fn write_proc(child: &mut Child<'_>, path: &str, value: &str) -> Result<()> {
    let proc = own_proc(child)?;
    let what = || format!("write {value:?} to /proc/{path}");
    let strict = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
    let file = openat2(proc, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty(), strict).during(what)?;
    rustix::io::write(file, value.as_bytes()).during(what).map(drop)
}
