//! Mounts by the kernel's file-descriptor API (`fsopen(2)`, `open_tree(2)`, `mount_setattr(2)`), on a target that
//! is an open descriptor, so that nobody can swap it; and what older kernels need instead, in [`classic`].

use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
};

use crate::mounts::MountAttributes;
use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, open, statx},
    io::Errno,
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags,
        fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount_change, move_mount,
        open_tree,
    },
    thread::{UnshareFlags, unshare_unsafe},
};

/// What a mount (not its file system) is told: `MOUNT_ATTR_*` bits of `mount_setattr(2)`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Bits to set.
    pub set: u32,
    /// Bits to clear; matters only to binds, which inherit their source's.
    pub clear: u32,
}

impl Attributes {
    /// Takes an `fstab(5)` flag such as `ro` or `nosuid`; false when `word` is none.
    pub fn take(&mut self, word: &str) -> bool {
        let known = WORDS.iter().find(|(known, ..)| *known == word);
        if let Some(&(_, set, clear)) = known {
            self.set = self.set & !clear | set;
            self.clear = self.clear & !set | clear;
        }
        known.is_some()
    }
}

const RDONLY: u32 = MountAttrFlags::MOUNT_ATTR_RDONLY.bits();
const NOSUID: u32 = MountAttrFlags::MOUNT_ATTR_NOSUID.bits();
const NODEV: u32 = MountAttrFlags::MOUNT_ATTR_NODEV.bits();
const NOEXEC: u32 = MountAttrFlags::MOUNT_ATTR_NOEXEC.bits();
const NODIRATIME: u32 = MountAttrFlags::MOUNT_ATTR_NODIRATIME.bits();
const NOSYMFOLLOW: u32 = MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW.bits();
/// `MOUNT_ATTR_IDMAP`
const IDMAP: u64 = 0x0010_0000;
/// The access-time setting is a number in this field, not a bit; the kernel wants the whole field cleared first.
const ATIME: u32 = MountAttrFlags::MOUNT_ATTR__ATIME.bits();
const NOATIME: u32 = MountAttrFlags::MOUNT_ATTR_NOATIME.bits();
const STRICTATIME: u32 = MountAttrFlags::MOUNT_ATTR_STRICTATIME.bits();

/// Word, bits it sets, bits it clears.
const WORDS: &[(&str, u32, u32)] = &[
    ("defaults", 0, 0),
    ("ro", RDONLY, 0),
    ("rw", 0, RDONLY),
    ("nosuid", NOSUID, 0),
    ("suid", 0, NOSUID),
    ("nodev", NODEV, 0),
    ("dev", 0, NODEV),
    ("noexec", NOEXEC, 0),
    ("exec", 0, NOEXEC),
    ("nodiratime", NODIRATIME, 0),
    ("diratime", 0, NODIRATIME),
    ("nosymfollow", NOSYMFOLLOW, 0),
    ("symfollow", 0, NOSYMFOLLOW),
    ("relatime", 0, ATIME),
    ("noatime", NOATIME, ATIME),
    ("strictatime", STRICTATIME, ATIME),
];

/// Moves this (single-threaded) process into a mount namespace of its own, in which mounts made below `path` reach
/// nobody else. Only the mount that holds `path` is made private: the others stay peers of the host's, so that
/// binds with `rshared` go on working.
pub fn leave_hosts_mounts(path: &Path) -> io::Result<()> {
    // SAFETY: only `UnshareFlags::FILES` could pull descriptors away from other threads.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
    Ok(mount_change(holding_mount(path)?, MountPropagationFlags::PRIVATE)?)
}

/// The mount point of the mount that `path` is on.
fn holding_mount(path: &Path) -> io::Result<std::path::PathBuf> {
    // Linux 5.8.
    let mount = statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID)?.stx_mnt_id.to_string();
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let line = table.lines().find(|line| line.split(' ').next() == Some(&mount));
    let point = line.and_then(|line| line.split(' ').nth(4)).ok_or_else(|| {
        io::Error::new(io::ErrorKind::NotFound, format!("mount {mount} is not in /proc/self/mountinfo"))
    })?;
    Ok(unescape(point).into())
}

/// Blank, tab, newline and backslash stand as octal numbers in `/proc/PID/mountinfo`.
pub fn unescape(field: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(field.to_owned(), |text, (code, plain)| text.replace(code, plain))
}

/// Mounts a new file system of type `kind` on `target`. `data` are its own options, `key=value` or `key`, in order;
/// `lowerdir+=DIR` may repeat.
pub fn mount_new(
    kind: &str,
    source: Option<&str>,
    data: &[&str],
    attributes: Attributes,
    target: BorrowedFd<'_>,
) -> io::Result<()> {
    match detached(kind, source, data, attributes) {
        Ok(mount) => attach(&mount, target),
        // No fsopen (before 5.2), or an overlayfs that knows no `lowerdir+` (before 6.5).
        Err((Errno::NOSYS | Errno::INVAL, said)) => {
            classic::mount_new(kind, source, data, attributes, target).map_err(|old| explain(&old, &said))
        }
        Err((error, said)) => Err(explain(&error.into(), &said)),
    }
}

/// Mounts what is at `source` on `target` too.
pub fn mount_bind(
    source: &Path,
    recursive: bool,
    attributes: Attributes,
    target: BorrowedFd<'_>,
) -> io::Result<()> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    match open_tree(CWD, source, flags) {
        Ok(mount) => match set_attributes(&mount, attributes) {
            Ok(()) => attach(&mount, target),
            // Before 5.12.
            Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
                classic::mount_bind(source, recursive, attributes, target)
            }
            Err(error) => Err(error),
        },
        Err(Errno::NOSYS) => classic::mount_bind(source, recursive, attributes, target),
        Err(error) => Err(error.into()),
    }
}

/// A copy of what is at `source`, attached nowhere, on which ids are as the user namespace `ids` maps them (Linux 5.12,
/// and a file system that can be id-mapped).
pub fn id_mapped(source: &Path, recursive: bool, ids: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    let mount = open_tree(CWD, source, flags)?;
    let map = MountAttributes { set: IDMAP, id_map: Some(ids), ..MountAttributes::default() };
    crate::mounts::set_attributes(mount.as_fd(), recursive, map).map_err(|error| {
        let text = format!(
            "{} cannot be id-mapped (its file system, or a kernel before 5.12): {error}",
            source.display()
        );
        io::Error::new(error.kind(), text)
    })?;
    Ok(mount)
}

/// A new file system as in [`mount_new`], attached nowhere.
pub fn new_detached(
    kind: &str,
    source: Option<&str>,
    data: &[&str],
    attributes: Attributes,
) -> io::Result<OwnedFd> {
    detached(kind, source, data, attributes).map_err(|(error, said)| explain(&error.into(), &said))
}

/// Attaches a detached mount to `target`.
pub fn attach(mount: &OwnedFd, target: BorrowedFd<'_>) -> io::Result<()> {
    let by_descriptors = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount, "", target, "", by_descriptors)?)
}

type Refused = (Errno, String);

fn detached(
    kind: &str,
    source: Option<&str>,
    data: &[&str],
    attributes: Attributes,
) -> Result<OwnedFd, Refused> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).map_err(|error| (error, String::new()))?;
    let attributes = MountAttrFlags::from_bits_retain(attributes.set);
    configure(&context, source, data)
        .and_then(|()| fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes))
        .map_err(|error| (error, last_word(&context)))
}

fn configure(context: &OwnedFd, source: Option<&str>, data: &[&str]) -> rustix::io::Result<()> {
    if let Some(source) = source {
        fsconfig_set_string(context, "source", source)?;
    }
    for option in data {
        match option.split_once('=') {
            None => fsconfig_set_flag(context, *option)?,
            // fsconfig(2) takes at most 255 bytes; a longer path is named by a descriptor while it is looked up.
            Some((key, path)) if path.len() > 255 && path.starts_with('/') => {
                let held = open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
                fsconfig_set_string(context, key, format!("/proc/self/fd/{}", held.as_raw_fd()))?;
            }
            Some((key, value)) => fsconfig_set_string(context, key, value)?,
        }
    }
    fsconfig_create(context)
}

/// What the kernel had to say about a refusal: a `fsopen` descriptor reads as its log, a message a time.
fn last_word(context: &OwnedFd) -> String {
    let mut said = String::new();
    let mut line = [0; 512];
    while let Ok(length @ 1..) = rustix::io::read(context, &mut line) {
        let text = String::from_utf8_lossy(&line[..length]);
        // Each begins with its level: `e `, `w `, `i `.
        text.trim_end().get(2..).unwrap_or_default().clone_into(&mut said);
    }
    said
}

fn explain(error: &io::Error, said: &str) -> io::Error {
    let shown = if said.is_empty() { String::new() } else { format!(" (the kernel says: {said})") };
    io::Error::new(error.kind(), format!("{error}{shown}"))
}

/// Gives a mount its attributes.
pub fn set_attributes(mount: &OwnedFd, attributes: Attributes) -> io::Result<()> {
    if attributes == Attributes::default() {
        return Ok(());
    }
    let change = MountAttributes {
        set: attributes.set.into(),
        clear: attributes.clear.into(),
        ..MountAttributes::default()
    };
    crate::mounts::set_attributes(mount.as_fd(), false, change)
}

/// The same by `mount(2)`, for kernels before 6.5. A list of layers must fit a page there.
mod classic {
    use super::{Attributes, NOATIME, NODEV, NODIRATIME, NOEXEC, NOSUID, NOSYMFOLLOW, RDONLY, STRICTATIME};
    use rustix::mount::{MountFlags, mount, mount_bind as bind, mount_bind_recursive, mount_remount};
    use std::{
        io,
        os::fd::{AsRawFd, BorrowedFd},
        path::Path,
    };

    const FLAGS: &[(u32, MountFlags)] = &[
        (RDONLY, MountFlags::RDONLY),
        (NOSUID, MountFlags::NOSUID),
        (NODEV, MountFlags::NODEV),
        (NOEXEC, MountFlags::NOEXEC),
        (NODIRATIME, MountFlags::NODIRATIME),
        (NOATIME, MountFlags::NOATIME),
        (STRICTATIME, MountFlags::STRICTATIME),
        (NOSYMFOLLOW, MountFlags::from_bits_retain(256)),
    ];

    fn flags(attributes: Attributes) -> MountFlags {
        let chosen = FLAGS.iter().filter(|(bit, _)| attributes.set & bit != 0);
        chosen.fold(MountFlags::empty(), |all, (_, flag)| all | *flag)
    }

    fn name(target: BorrowedFd<'_>) -> String {
        format!("/proc/self/fd/{}", target.as_raw_fd())
    }

    pub(super) fn mount_new(
        kind: &str,
        source: Option<&str>,
        data: &[&str],
        attributes: Attributes,
        target: BorrowedFd<'_>,
    ) -> io::Result<()> {
        let data = std::ffi::CString::new(joined(data)).map_err(io::Error::other)?;
        if data.as_bytes_with_nul().len() > rustix::param::page_size() {
            let text = "the list of layers is longer than a page; that needs Linux 6.5";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let source = source.unwrap_or(kind);
        Ok(mount(source, name(target), kind, flags(attributes), data.as_c_str())?)
    }

    /// One string of options, in which the layers are one list.
    pub(super) fn joined(data: &[&str]) -> String {
        let layers: Vec<_> = data
            .iter()
            .filter_map(|option| option.strip_prefix("lowerdir+="))
            .map(|path| path.replace('\\', "\\\\").replace(':', "\\:").replace(',', "\\,"))
            .collect();
        let others = data.iter().filter(|option| !option.starts_with("lowerdir+="));
        let mut words: Vec<_> = others.map(|&option| option.to_owned()).collect();
        if !layers.is_empty() {
            words.push(format!("lowerdir={}", layers.join(":")));
        }
        words.join(",")
    }

    pub(super) fn mount_bind(
        source: &Path,
        recursive: bool,
        attributes: Attributes,
        target: BorrowedFd<'_>,
    ) -> io::Result<()> {
        let target = name(target);
        if recursive {
            mount_bind_recursive(source, &target)?;
        } else {
            bind(source, &target)?;
        }
        if attributes == Attributes::default() {
            return Ok(());
        }
        // The descriptor is still what lies under the new mount; its own path leads to the top.
        let top = std::fs::read_link(&target)?;
        Ok(mount_remount(top, MountFlags::BIND | flags(attributes), "")?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_bits_and_the_last_one_wins() {
        let mut attributes = Attributes::default();
        for word in ["ro", "nosuid", "noatime", "rw", "relatime"] {
            assert!(attributes.take(word), "{word}");
        }
        assert!(!attributes.take("size=64k"));
        assert_eq!(attributes.set, NOSUID);
        assert_eq!(attributes.clear, RDONLY | ATIME);
    }

    #[test]
    fn older_kernels_get_one_list_of_layers() {
        let options = ["lowerdir+=/a:b", "upperdir=/u", "lowerdir+=/c"];
        assert_eq!(classic::joined(&options), "upperdir=/u,lowerdir=/a\\:b:/c");
    }
}
