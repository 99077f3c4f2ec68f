//! What is mounted in the container's root (rules R1, R2, R4, R5): on places that are open descriptors, by detached
//! mounts whose attributes are set before anybody can reach them.

use std::{
    io::Read,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{
        CWD, FileType, Mode, OFlags, ResolveFlags, fstat, fstatfs, mkdirat, open, openat, openat2, symlinkat,
    },
    io::Errno,
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
        fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
    },
};
use sys::{
    Root,
    mounts::{MountAttributes, set_attributes},
};

use super::{Child, Mounting, copy_up};
use crate::{
    cgroup::Place,
    error::{During, Error, Result},
    options::{Change, Options, attr},
};

/// Files are opened for their place only.
pub(super) const PLACE: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);
/// Of mount points that are made.
const DIRECTORY: Mode = Mode::from_raw_mode(0o755);
/// `PROC_SUPER_MAGIC`, `SYSFS_MAGIC`, `MQUEUE_MAGIC`: types of file systems that belong to a namespace, and where the
/// host has its own.
const OF_NAMESPACES: [(&str, &str, u64); 3] =
    [("proc", "/proc", 0x9fa0), ("sysfs", "/sys", 0x6265_6572), ("mqueue", "/dev/mqueue", 0x1980_0202)];
/// The kernel takes at most 256 bytes with the NUL for one value (`fsconfig(2)`).
const LONGEST_VALUE: usize = 255;

/// A detached copy of the mount at `of`, with what is mounted below if `recursive`.
pub(super) fn copy(of: BorrowedFd<'_>, recursive: bool) -> rustix::io::Result<OwnedFd> {
    let mut flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(of, c"", flags)
}

/// A detached copy of what is mounted at a path of the host.
pub(crate) fn copy_path(path: &Path, recursive: bool) -> rustix::io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(CWD, path, flags)
}

/// Attaches a detached mount to an open place.
pub(super) fn attach(mount: impl AsFd, place: impl AsFd) -> rustix::io::Result<()> {
    let by_fd = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount.as_fd(), c"", place.as_fd(), c"", by_fd)
}

/// Changes attributes and how the mount spreads.
pub(crate) fn change(
    mount: impl AsFd,
    recursive: bool,
    change: Change,
    propagation: u64,
) -> std::io::Result<()> {
    let attributes = MountAttributes { set: change.set, clear: change.clear, propagation, id_map: None };
    set_attributes(mount.as_fd(), recursive, attributes)
}

/// What the options say about a mount that is there.
fn settle(mount: &OwnedFd, options: &Options, what: impl Fn() -> String) -> Result<()> {
    for call in options.calls() {
        change(mount, call.recursive, call.change, call.propagation).map_err(|error| {
            Error::refused(what(), &error).hint_on(
                Errno::PERM,
                "an attribute of the source is locked: a user namespace cannot take it away",
            )
        })?;
    }
    Ok(())
}

/// Mounts a new file system.
pub(super) fn mount(root: &Root, mount: &Mounting) -> Result<()> {
    let Mounting { kind, destination, options, .. } = mount;
    let what = || format!("mount {kind} on {}", destination.display());
    let (place, made) = directory_place(root, kind, destination).map_err(|error| error.during(what()))?;
    check_proc(root, mount, &place, false).map_err(|error| error.during(what()))?;
    let mounted = match new_file_system(kind, &mount.source, options, (!made).then_some(&place)) {
        // The namespace that it shows is not ours to mount: what the host has mounted shows it too.
        Err(error) if mount.shared && error.errno == Some(Errno::PERM.raw_os_error()) => {
            hosts_own(kind, options)?.ok_or(error)
        }
        other => other,
    };
    let mounted = mounted.map_err(|error| error.during(what()))?;
    if options.copy_up {
        copy_up::copy(&place, &mounted).map_err(|error| error.during(what()))?;
    }
    let given = Options { propagation: options.propagation.clone(), ..Options::default() };
    settle(&mounted, &given, what)?;
    attach(&mounted, &place).during(what)
}

/// A file system's directory, and whether it had to be made. `proc` and `sysfs` must not be reached through links, or
/// an image could have the runtime's own writes land elsewhere (CVE-2019-19921, CVE-2023-27561).
fn directory_place(root: &Root, kind: &str, destination: &Path) -> Result<(OwnedFd, bool)> {
    let strict = kind == "proc" || kind == "sysfs";
    let find = || root.get_no_links(destination, OFlags::PATH | OFlags::DIRECTORY, Mode::empty());
    let ordinary = |error: std::io::Error| Error::refused("must be an ordinary directory", &error);
    match (strict, strict.then(find)) {
        (true, Some(Ok(place))) => Ok((place, false)),
        (true, Some(Err(error))) if error.kind() != std::io::ErrorKind::NotFound => Err(ordinary(error)),
        _ => {
            let (place, made) =
                root.make_dir_all(destination, DIRECTORY).during(|| "make the mount point")?;
            // Found by the same path again: a dangling link above it may have been followed.
            let place = if strict { find().map_err(ordinary)? } else { place };
            Ok((place, made))
        }
    }
}

/// A detached new file system. `covered` is the directory that a tmpfs looks like, if that was there before.
fn new_file_system(
    kind: &str,
    source: &str,
    options: &Options,
    covered: Option<&OwnedFd>,
) -> Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).map_err(|error| {
        let error = Error::refused("fsopen", &error.into());
        error.hint_on(Errno::NODEV, "no such file system type").hint_on(Errno::PERM, MAY_NOT)
    })?;
    configure(&context, kind, source, options, covered)?;
    let attributes = MountAttrFlags::from_bits_retain(options.mount.set as u32);
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        .map_err(|error| explain("fsmount".to_owned(), error, &context))
}

const MAY_NOT: &str = "the user namespace may not mount this";

fn configure(
    context: &OwnedFd,
    kind: &str,
    source: &str,
    options: &Options,
    covered: Option<&OwnedFd>,
) -> Result<()> {
    let set = |key: &str, value: &str| {
        fsconfig_set_string(context, key, value)
            .map_err(|error| explain(format!("option {key}={value}"), error, context))
    };
    set("source", source)?;
    for (key, value) in &options.data {
        match value {
            // A whole list does not fit; overlay takes layers one by one (6.5).
            Some(list) if kind == "overlay" && key == "lowerdir" && list.len() > LONGEST_VALUE => {
                layers(list).iter().try_for_each(|layer| set("lowerdir+", layer))?;
            }
            Some(value) => set(key, value)?,
            None => fsconfig_set_flag(context, key.as_str())
                .map_err(|error| explain(format!("option {key}"), error, context))?,
        }
    }
    if kind == "tmpfs"
        && let Some(covered) = covered
        && !options.data.iter().any(|(key, _)| key == "mode")
    {
        let mode = fstat(covered).during(|| "look at the mount point")?.st_mode & 0o7777;
        set("mode", &format!("{mode:o}"))?;
    }
    fsconfig_create(context).map_err(|error| explain("create".to_owned(), error, context))
}

/// Splits overlayfs' list of layers, in which `\:` is a colon.
fn layers(list: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    let mut letters = list.chars();
    while let Some(letter) = letters.next() {
        match (letter, all.last_mut()) {
            (':', _) => all.push(String::new()),
            ('\\', Some(last)) => last.extend(letters.next()),
            (letter, Some(last)) => last.push(letter),
            (_, None) => {}
        }
    }
    all
}

/// Adds what the kernel logged about a mount that it refused.
fn explain(what: String, error: Errno, context: &OwnedFd) -> Error {
    let error = Error::refused(what, &error.into());
    let Ok(mut log) = context.try_clone().map(std::fs::File::from) else {
        return error;
    };
    let mut lines = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(length @ 1..) = log.read(&mut buffer) {
        let line = String::from_utf8_lossy(&buffer[..length]);
        lines.push(line.trim().trim_start_matches("e ").to_owned());
    }
    if lines.is_empty() { error.hint_on(Errno::PERM, MAY_NOT) } else { error.hint(lines.join("; ")) }
}

/// A copy of the host's mount of this type, as crun makes it; `None` if there is none.
fn hosts_own(kind: &str, options: &Options) -> Result<Option<OwnedFd>> {
    let Some((_, path, magic)) = OF_NAMESPACES.iter().find(|(name, ..)| *name == kind) else {
        return Ok(None);
    };
    let what = || format!("bind the host's {path}");
    let tree = match copy_path(Path::new(path), true) {
        Err(Errno::NOENT) => return Ok(None),
        other => other.during(what)?,
    };
    if fstatfs(&tree).during(what)?.f_type as u64 != *magic {
        return Ok(None);
    }
    // All of it: what is mounted below must not be more open than what was asked for; and what is not the container's
    // own it may look at only.
    let readonly = if kind == "sysfs" { attr::RDONLY } else { 0 };
    change(&tree, true, Change { set: options.mount.set | readonly, clear: 0 }, 0).during(what)?;
    Ok(Some(tree))
}

/// What may be covered inside `/proc`, as in runc: single files that tools such as lxcfs fake.
const FAKED: [&str; 11] = [
    "cpuinfo",
    "diskstats",
    "meminfo",
    "stat",
    "swaps",
    "uptime",
    "loadavg",
    "slabinfo",
    "net/dev",
    "sys/kernel/ns_last_pid",
    "sys/crypto/fips_enabled",
];

/// Nothing else is mounted over or in the container's procfs, by whatever name: security modules and the program would
/// take it for the kernel (CVE-2019-16884).
fn check_proc(root: &Root, mount: &Mounting, place: &OwnedFd, is_proc: bool) -> Result<()> {
    let plain: PathBuf = mount.destination.components().filter(|part| *part != Component::CurDir).collect();
    let covered = fstatfs(place).during(|| "look at the mount point")?.f_type as u64 == OF_NAMESPACES[0].2;
    let genuine = mount.kind == "proc" || is_proc;
    match plain.strip_prefix("/proc") {
        Ok(inside) if inside.as_os_str().is_empty() && !genuine => {
            Err(Error::new("only a procfs may be mounted on /proc"))
        }
        Ok(inside) if inside.as_os_str().is_empty() => Ok(()),
        _ if !covered => Ok(()),
        Ok(inside) if FAKED.iter().any(|file| Path::new(file) == inside) => {
            // With /proc a directory and not a link, what is inside is named by the kernel.
            let ordinary =
                root.get_no_links(Path::new("/proc"), OFlags::PATH | OFlags::DIRECTORY, Mode::empty());
            ordinary.map(drop).map_err(|error| Error::refused("/proc must be an ordinary directory", &error))
        }
        _ => Err(Error::new("is inside /proc, where nothing may be mounted")),
    }
}

/// Binds a file or directory of the host.
pub(super) fn bind(child: &mut Child<'_>, mount: &Mounting) -> Result<()> {
    let Mounting { source, destination, options, .. } = mount;
    let what = || format!("bind {source} on {}", destination.display());
    let copied =
        if mount.by_parent { Err(Errno::ACCESS) } else { copy_path(source.as_ref(), options.recursive) };
    let tree = match copied {
        // Behind a directory that is closed to the container's root, or id-mapped: the runtime's other half may.
        Err(Errno::ACCESS) => child.channel.ask_fd(&format!("tree {}", mount.number))?,
        other => other.map_err(|error| {
            Error::refused(what(), &error.into())
                .hint_on(Errno::NOENT, format!("{source} does not exist on the host"))
        })?,
    };
    settle(&tree, options, what)?;
    let root = child.root()?;
    let stat = fstat(&tree).during(what)?;
    let place = if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        root.create_dir_all(destination, DIRECTORY)
    } else {
        file_place(root, destination)
    };
    let place = place.map_err(|error| {
        Error::refused(what(), &error)
            .hint_on(Errno::NOTDIR, "a directory cannot be mounted over a file, nor below one")
    })?;
    let is_proc = || fstatfs(&tree).is_ok_and(|found| found.f_type as u64 == OF_NAMESPACES[0].2);
    check_proc(root, mount, &place, destination.starts_with("/proc") && is_proc())
        .map_err(|error| error.during(what()))?;
    attach(&tree, &place).map_err(|error| {
        Error::refused(what(), &error.into())
            .hint_on(Errno::INVAL, "a file cannot be mounted over a directory")
    })
}

/// A file to mount over, made if missing.
pub(super) fn file_place(root: &Root, path: &Path) -> std::io::Result<OwnedFd> {
    root.create_file(path, Mode::from_raw_mode(0o644))
}

/// Changes the attributes of a mount that an earlier one made. What is not named stays, as runc learnt it: flags that
/// a user namespace may not take away are kept.
pub(super) fn remount(root: &Root, mount: &Mounting) -> Result<()> {
    let what = || format!("remount {}", mount.destination.display());
    let place = root.get(&mount.destination, OFlags::PATH, Mode::empty()).during(what)?;
    for call in mount.options.calls() {
        change(&place, call.recursive, call.change, call.propagation).map_err(|error| {
            Error::refused(what(), &error)
                .hint_on(Errno::INVAL, "nothing is mounted there")
                .hint_on(Errno::PERM, "an attribute is locked: a user namespace cannot take it away")
        })?;
    }
    Ok(())
}

/// A detached tmpfs.
pub(super) fn tmpfs(attributes: u64, label: Option<&str>) -> rustix::io::Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, c"source", c"tmpfs")?;
    fsconfig_set_string(&context, c"mode", c"755")?;
    if let Some(label) = label {
        fsconfig_set_string(&context, c"context", label)?;
    }
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::from_bits_retain(attributes as u32))
}

/// Shows the container its own groups: on v2 its directory, on v1 a directory of the hierarchies' directories.
pub(super) fn groups(root: &Root, destination: &Path, places: &[Place], options: &Options) -> Result<()> {
    let what = || format!("mount cgroups on {}", destination.display());
    let place = root.create_dir_all(destination, DIRECTORY).during(what)?;
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
    let label = options.data.iter().find(|(key, _)| key == "context");
    let label = label.and_then(|(_, label)| label.as_deref());
    let list = tmpfs(options.mount.set & !attr::RDONLY, label).during(what)?;
    // Attached first: before Linux 6.15 nothing can be mounted inside a detached mount.
    attach(&list, &place).during(what)?;
    for place in places {
        mkdirat(&list, place.name.as_str(), DIRECTORY).during(what)?;
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
        let made = match make() {
            // Of a pid namespace that is not ours. The host's is the same, as long as `/` is the host's.
            Err(Errno::PERM) if child.root.is_some() => hosts_own("proc", &Options::default())?,
            other => Some(other.during(|| "make a procfs of our own")?),
        };
        child.proc = made;
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

#[cfg(test)]
mod tests {
    use super::layers;

    #[test]
    fn a_list_of_layers_is_split_as_overlayfs_splits_it() {
        assert_eq!(layers("/a:/b\\:c:/d\\\\e"), ["/a", "/b:c", "/d\\e"]);
        assert_eq!(layers(""), [""]);
    }
}
