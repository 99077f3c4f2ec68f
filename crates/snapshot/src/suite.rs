//! The conformance suite: what every driver must do, on a real kernel, as root. A driver's tests call [`run`] with
//! a fresh driver; each check makes layers and snapshots of its own and removes them.
//!
//! Mounts are made detached, so that the host never sees them and they vanish with their descriptor.

mod checks;
mod packing;

use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::PathBuf,
    process::Command,
};

use archive::{Header, Kind, Writer};
use oci::{Digest, IdMap, Mount};
use rustix::{
    fs::CWD,
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, UnmountFlags, fsconfig_create,
        fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, open_tree, unmount,
    },
};

use crate::{Driver, InitEntry, Prepare};

type Check = fn(&dyn Driver);

/// Every check.
///
/// # Panics
/// If the driver does not do what it must.
pub fn run(driver: &dyn Driver) {
    let checks: [(&str, Check); 19] = [
        ("layers come and go", checks::layers_come_and_go),
        ("broken archives leave nothing", checks::broken_archives_leave_nothing),
        ("metadata is kept", checks::metadata_is_kept),
        ("upper layers remove and replace", checks::upper_layers_remove_and_replace),
        ("an opaque root hides everything", checks::an_opaque_root_hides_everything),
        ("init entries fill gaps only", checks::init_entries_fill_gaps_only),
        ("init entries keep out of what is not plain", checks::init_entries_respect_removals),
        ("files are read as the container sees them", checks::files_are_read_as_the_container_sees_them),
        ("no layers at all", checks::no_layers_at_all),
        ("one layer twice", checks::one_layer_twice),
        ("two hundred layers", checks::two_hundred_layers),
        ("writable layers stay until removed", checks::writable_layers_stay),
        ("volatile snapshots mount again", checks::volatile_snapshots_mount_again),
        ("changes are told as Docker tells them", packing::changes_are_told_as_docker_tells_them),
        ("a diff is a layer", packing::a_diff_is_a_layer),
        ("archives keep everything", packing::archives_keep_everything),
        ("layers are packed with their marks", packing::layers_are_packed_with_their_marks),
        ("an export has the init layer", packing::an_export_has_the_init_layer),
        ("a receiver may fail", packing::a_receiver_may_fail),
    ];
    for (name, check) in checks {
        eprintln!("{}: {name}", driver.name());
        check(driver);
        assert_eq!(driver.snapshots().unwrap_or_default(), Vec::<String>::new(), "{name}: snapshots left");
        assert_eq!(driver.layers().unwrap_or_default(), Vec::<String>::new(), "{name}: layers left");
    }
}

/// A layer archive from entries and their content.
///
/// # Panics
/// If the entries cannot be written.
#[must_use]
pub fn tar(entries: &[(Header, &[u8])]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new()).sub_second(true);
    for (header, content) in entries {
        let header = Header { size: content.len() as u64, ..header.clone() };
        good(writer.append(&header, *content));
    }
    good(writer.finish())
}

/// A file of mode 0644.
#[must_use]
pub fn file(path: &str) -> Header {
    Header { path: path.into(), mode: 0o644, ..Header::default() }
}

/// A directory of mode 0755.
#[must_use]
pub fn directory(path: &str) -> Header {
    Header { mode: 0o755, kind: Kind::Directory, ..file(path) }
}

/// A link of either kind.
#[must_use]
pub fn link(kind: Kind, path: &str, target: &str) -> Header {
    Header { kind, link: target.into(), ..file(path) }
}

/// Any digest, by number.
#[must_use]
pub fn digest(number: u32) -> Digest {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    Digest::sha256(bytes)
}

/// A mount of a driver, as the shim makes it; but where the kernel does it, it is attached nowhere.
///
/// # Errors
/// The kernel's, or the program's.
pub fn assemble(mount: &Mount) -> io::Result<Assembled> {
    let kind = mount.kind.as_deref().unwrap_or_default();
    let source = mount.source.as_deref().unwrap_or("none");
    if kind == "bind" {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        return Ok(Assembled { root: open_tree(CWD, source, flags)?, program: None });
    }
    if let Some(program) = kind.strip_prefix("fuse.") {
        return by_program(program, mount);
    }
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "source", source)?;
    for option in &mount.options {
        match option.split_once('=') {
            Some((key, value)) => fsconfig_set_string(&context, key, value)?,
            None => fsconfig_set_flag(&context, &**option)?,
        }
    }
    fsconfig_create(&context)?;
    let root = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    Ok(Assembled { root, program: None })
}

/// Only in a mount namespace of the caller's own.
fn by_program(program: &str, mount: &Mount) -> io::Result<Assembled> {
    let target = std::env::temp_dir().join(format!("knarr-suite-{}", crate::tree::unique()));
    fs::create_dir(&target)?;
    let status = Command::new(program).arg("-o").arg(mount.options.join(",")).arg(&target).status()?;
    if !status.success() {
        return Err(io::Error::other(format!("{program}: {status}")));
    }
    let root = crate::tree::open_directory(CWD, &target)?;
    Ok(Assembled { root, program: Some(target) })
}

/// A mount to look into; gone when dropped.
#[derive(Debug)]
pub struct Assembled {
    root: OwnedFd,
    /// Where a program has mounted it.
    program: Option<PathBuf>,
}

impl Assembled {
    /// Its root.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.root.as_raw_fd()))
    }
}

impl Drop for Assembled {
    fn drop(&mut self) {
        if let Some(target) = &self.program {
            let _ = unmount(target, UnmountFlags::DETACH);
            let _ = fs::remove_dir(target);
        }
    }
}

#[track_caller]
fn good<T, E: std::fmt::Display>(result: Result<T, E>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{error}"),
    }
}

/// Layers in a driver, and a snapshot of them.
struct Fixture<'d> {
    driver: &'d dyn Driver,
    chain: Vec<Digest>,
}

const KEY: &str = "container-1";

impl<'d> Fixture<'d> {
    fn new(driver: &'d dyn Driver, layers: &[Vec<u8>]) -> Self {
        let mut chain = Vec::new();
        for (number, tar) in layers.iter().enumerate() {
            chain.push(digest(number as u32 + 1));
            good(driver.apply(&chain, &mut &tar[..]));
        }
        Self { driver, chain }
    }

    /// Another layer on top.
    fn push(&mut self, tar: &[u8]) {
        self.chain.push(digest(self.chain.len() as u32 + 1));
        good(self.driver.apply(&self.chain, &mut &tar[..]));
    }

    fn prepare(&self, init: &[InitEntry], volatile: bool) {
        let request = Prepare { chain: &self.chain, init, ids: &IdMap::IDENTITY, volatile, size: None };
        good(self.driver.prepare(KEY, &request));
    }

    /// A new container's root.
    fn view(&self, init: &[InitEntry]) -> Tree {
        self.prepare(init, false);
        self.mount()
    }

    fn mount(&self) -> Tree {
        let mounts = good(self.driver.mounts(KEY));
        assert_eq!(mounts.len(), 1, "{mounts:?}");
        assert_eq!(mounts[0].destination, "/");
        Tree(good(assemble(&mounts[0])))
    }
}

impl Drop for Fixture<'_> {
    fn drop(&mut self) {
        let _ = self.driver.remove(KEY);
        for length in (1..=self.chain.len()).rev() {
            let _ = self.driver.forget(&self.driver.layer_name(&self.chain[..length]));
        }
    }
}

/// A mount to look into.
struct Tree(Assembled);

impl Tree {
    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    #[track_caller]
    fn text(&self, path: &str) -> String {
        good(fs::read_to_string(self.path(path)).map_err(|error| format!("{path}: {error}")))
    }

    fn stat(&self, path: &str) -> io::Result<fs::Metadata> {
        fs::symlink_metadata(self.path(path))
    }

    fn has(&self, path: &str) -> bool {
        self.stat(path).is_ok()
    }

    #[track_caller]
    fn names(&self, path: &str) -> Vec<String> {
        let mut names: Vec<_> = good(fs::read_dir(self.path(path)))
            .map(|entry| good(entry).file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    fn xattr(&self, path: &str, name: &str) -> Option<Vec<u8>> {
        let mut value = vec![0; 256];
        let length = rustix::fs::lgetxattr(self.path(path), name, &mut value[..]).ok()?;
        value.truncate(length);
        Some(value)
    }
}
