//! Device nodes and the links beside them.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{
        AtFlags, FileType, Gid, Mode, OFlags, Uid, chmodat, chownat, fstat, major, makedev, minor, mknodat,
        open, openat, readlinkat, symlinkat, unlinkat,
    },
    io::Errno,
};
use sys::Root;

use super::{Device, mounting};
use crate::error::{During, Error, Result};

fn file_type(kind: char) -> FileType {
    match kind {
        'b' => FileType::BlockDevice,
        'p' => FileType::Fifo,
        _ => FileType::CharacterDevice,
    }
}

/// Fails unless `node` is the device that it is taken for (rule R4).
pub(super) fn verify(node: BorrowedFd<'_>, kind: char, number: (u32, u32)) -> Result<()> {
    let stat = fstat(node).during(|| "look at a device")?;
    let same_kind = FileType::from_raw_mode(stat.st_mode) == file_type(kind);
    let same_number = kind == 'p' || (major(stat.st_rdev), minor(stat.st_rdev)) == number;
    if same_kind && same_number {
        return Ok(());
    }
    Err(Error::new(format!("is not the device {kind} {}:{}", number.0, number.1)))
}

/// Makes a node.
pub(super) fn make(root: &Root, device: &Device) -> Result<()> {
    let Device { path, kind, number, mode, owner } = device;
    let what = || format!("make device {}", path.display());
    if let Some(directory) = path.parent() {
        root.create_dir_all(directory, Mode::from_raw_mode(0o755)).during(what)?;
    }
    let (parent, name) = root.parent_of(path).during(what)?;
    let permissions = Mode::from_raw_mode(*mode);
    let node = makedev(number.0, number.1);
    match mknodat(&parent, name, file_type(*kind), permissions, node) {
        Ok(()) => {}
        Err(Errno::EXIST) => {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let found = openat(&parent, name, flags, Mode::empty()).during(what)?;
            return verify(found.as_fd(), *kind, *number).map_err(|error| error.during(what()));
        }
        // In somebody else's user namespace (rootless, nested), or denied by the devices cgroup: as far as the host's
        // node can be had, it will do.
        Err(Errno::PERM) if bind(root, device).is_ok() => return Ok(()),
        Err(error) => {
            // Root of a user namespace around us may not make nodes, but show those that there are.
            let shown = if error == Errno::PERM { bind(root, device).is_ok() } else { false };
            let needs = "making nodes needs CAP_MKNOD and the devices cgroup's leave";
            let error = || Error::refused(what(), &error.into()).hint_on(Errno::PERM, needs);
            return if shown { Ok(()) } else { Err(error()) };
        }
    }
    chmodat(&parent, name, permissions, AtFlags::empty()).during(what)?;
    if *owner != (0, 0) {
        let (uid, gid) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
        chownat(&parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).during(what)?;
    }
    Ok(())
}

/// Binds the host's node: a user namespace may not make any.
pub(super) fn bind(root: &Root, device: &Device) -> Result<()> {
    let what = || format!("bind device {}", device.path.display());
    let node = hosts_node(device).map_err(|error| error.during(what()))?;
    let place = mounting::file_place(root, &device.path).during(what)?;
    let tree = mounting::copy(node.as_fd(), false).during(what)?;
    mounting::attach(tree, place).during(what)
}

/// The host's node of the same path, or that of the same number.
fn hosts_node(device: &Device) -> Result<OwnedFd> {
    let node = |path: &Path| -> Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let node = open(path, flags, Mode::empty()).during(|| format!("open {}", path.display()))?;
        verify(node.as_fd(), device.kind, device.number).map(|()| node)
    };
    node(&device.path).or_else(|error| {
        let class = if device.kind == 'b' { "block" } else { "char" };
        let about = format!("/sys/dev/{class}/{}:{}/uevent", device.number.0, device.number.1);
        let about = std::fs::read_to_string(about).unwrap_or_default();
        let name = about.lines().find_map(|line| line.strip_prefix("DEVNAME="));
        // By number only, the pipe that a path of the host happens to be is nobody's.
        let name = name.filter(|_| device.kind != 'p').ok_or(error)?;
        node(&Path::new("/dev").join(name))
    })
}

const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Makes the links that programs expect in `/dev`.
pub(super) fn links(root: &Root) -> Result<()> {
    let dev = root.create_dir_all(Path::new("/dev"), Mode::from_raw_mode(0o755)).during(|| "make /dev")?;
    for (name, target) in LINKS {
        let what = || format!("link /dev/{name} to {target}");
        match symlinkat(target, &dev, name) {
            Ok(()) => {}
            Err(Errno::EXIST)
                if readlinkat(&dev, name, Vec::new()).is_ok_and(|to| to.to_bytes() == target.as_bytes()) => {}
            Err(Errno::EXIST) => {
                unlinkat(&dev, name, AtFlags::empty()).during(what)?;
                symlinkat(target, &dev, name).during(what)?;
            }
            Err(error) => return Err(Error::refused(what(), &error.into())),
        }
    }
    Ok(())
}
