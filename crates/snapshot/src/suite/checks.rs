//! What each check does.

use std::{
    fs,
    io::{self, Read},
    os::{
        fd::AsRawFd,
        unix::fs::{FileTypeExt, MetadataExt},
    },
    path::{Path, PathBuf},
};

use archive::{Header, Kind, Time};
use oci::IdMap;

use super::{Fixture, KEY, digest, directory, file, good, link, tar};
use crate::{Driver, Error, InitEntry, InitKind, Prepare};

pub(super) fn layers_come_and_go(driver: &dyn Driver) {
    let chain = [digest(1)];
    assert!(!driver.has(&chain));
    let layer = tar(&[(directory("d"), b""), (file("d/f"), b"hello")]);
    let applied = good(driver.apply(&chain, &mut &layer[..]));
    assert_eq!((applied.size, applied.entries), (5, 2));
    assert!(driver.has(&chain) && !driver.has(&[digest(2)]));
    assert_eq!(good(driver.layers()), [driver.layer_name(&chain)]);
    good(driver.apply(&chain, &mut &layer[..]));
    good(driver.forget(&driver.layer_name(&chain)));
    assert!(!driver.has(&chain));
    good(driver.forget(&driver.layer_name(&chain)));
}

pub(super) fn broken_archives_leave_nothing(driver: &dyn Driver) {
    let chain = [digest(1)];
    let whole = tar(&[(file("f"), &[7; 3000]), (file("g"), b"x")]);
    for length in [1, 511, 513, 1500, 3700, whole.len() - 1100] {
        let error = driver.apply(&chain, &mut &whole[..length]).err();
        let truncated = |error: &io::Error| error.kind() == io::ErrorKind::UnexpectedEof;
        assert!(matches!(&error, Some(Error::Read(error)) if truncated(error)), "{length}: {error:?}");
        assert!(!driver.has(&chain));
    }
    let mut wrong_digest = whole.chain(FailingRead("digest mismatch"));
    let error = driver.apply(&chain, &mut wrong_digest).err();
    assert!(
        matches!(&error, Some(Error::Read(error)) if error.to_string() == "digest mismatch"),
        "{error:?}"
    );
    assert!(!driver.has(&chain));
    let garbage = [b'x'; 2048];
    assert!(matches!(driver.apply(&chain, &mut &garbage[..]), Err(Error::Archive(_))));
    let request = Prepare { chain: &chain, init: &[], ids: &IdMap::IDENTITY, volatile: false, size: None };
    assert!(matches!(driver.prepare(KEY, &request), Err(Error::Missing(_))));
}

struct FailingRead(&'static str);

impl Read for FailingRead {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::new(io::ErrorKind::InvalidData, self.0))
    }
}

pub(super) fn upper_layers_remove_and_replace(driver: &dyn Driver) {
    let lower = tar(&[
        (file("gone"), b""),
        (file("kept"), b"kept"),
        (directory("opaque"), b""),
        (file("opaque/old"), b""),
        (directory("again"), b""),
        (file("again/old"), b""),
        (directory("later"), b""),
        (file("later/old"), b""),
        (directory("merged"), b""),
        (file("merged/old"), b"old"),
        (file("merged/changed"), b"before"),
        (directory("to-file"), b""),
        (file("to-file/old"), b""),
        (directory("deep"), b""),
        (file("deep/old"), b""),
    ]);
    let upper = tar(&[
        (file(".wh.gone"), b""),
        (file("opaque/new"), b""),
        (file("opaque/.wh..wh..opq"), b""),
        // A whiteout removes from lower layers, and what this layer has of that name stays: in either order.
        (file(".wh.again"), b""),
        (directory("again"), b""),
        (file("again/new"), b""),
        (directory("later"), b""),
        (file("later/new"), b""),
        (file(".wh.later"), b""),
        (Header { mode: 0o700, ..directory("merged") }, b""),
        (file("merged/changed"), b"after"),
        (file("to-file"), b"file"),
        (file(".wh.deep"), b""),
        (file("deep/new"), b""),
    ]);
    let fixture = Fixture::new(driver, &[lower, upper]);
    let tree = fixture.view(&[]);
    assert_eq!(tree.names("."), ["again", "deep", "kept", "later", "merged", "opaque", "to-file"]);
    for hidden in ["opaque", "again", "later", "deep"] {
        assert_eq!(tree.names(hidden), ["new"], "{hidden}");
    }
    assert_eq!(tree.names("merged"), ["changed", "old"]);
    assert_eq!(tree.text("merged/changed"), "after");
    assert_eq!(good(tree.stat("merged")).mode() & 0o777, 0o700);
    assert_eq!(tree.text("to-file"), "file");
}

pub(super) fn an_opaque_root_hides_everything(driver: &dyn Driver) {
    let lower = tar(&[(file("old"), b"")]);
    let upper = tar(&[(file("new"), b""), (file(".wh..wh..opq"), b"")]);
    let fixture = Fixture::new(driver, &[lower, upper]);
    assert_eq!(fixture.view(&[]).names("."), ["new"]);
}

const INIT: [InitEntry; 7] = [
    InitEntry { path: "/etc/hosts", kind: InitKind::File },
    InitEntry { path: "/etc/hostname", kind: InitKind::File },
    InitEntry { path: "/etc/mtab", kind: InitKind::Link("/proc/mounts") },
    InitEntry { path: "/dev/pts", kind: InitKind::Directory },
    InitEntry { path: "/proc", kind: InitKind::Directory },
    InitEntry { path: "/linked/inside", kind: InitKind::File },
    InitEntry { path: "/.dockerenv", kind: InitKind::File },
];

pub(super) fn init_entries_fill_gaps_only(driver: &dyn Driver) {
    let mtime = Time { seconds: 1_500_000_000, nanoseconds: 5 };
    let mut etc = Header { mode: 0o2751, uid: 3, gid: 4, mtime, ..directory("etc") };
    etc.xattrs.insert(b"trusted.mark".to_vec(), b"etc".to_vec());
    let fixture = Fixture::new(
        driver,
        &[tar(&[
            (etc, b""),
            (file("etc/hostname"), b"from the image"),
            (link(Kind::Symlink, "linked", "etc"), b""),
            (Header { mode: 0o555, mtime, ..directory("proc") }, b""),
        ])],
    );
    let tree = fixture.view(&INIT);
    assert_eq!(tree.names("etc"), ["hostname", "hosts", "mtab"]);
    assert_eq!(tree.text("etc/hostname"), "from the image");
    let etc = good(tree.stat("etc"));
    assert_eq!((etc.mode() & 0o7777, etc.uid(), etc.gid()), (0o2751, 3, 4));
    assert_eq!((etc.mtime(), etc.mtime_nsec()), (mtime.seconds, 5), "a directory keeps the image's time");
    assert_eq!(tree.xattr("etc", "trusted.mark").as_deref(), Some(&b"etc"[..]));
    assert_eq!(good(tree.stat("proc")).mode() & 0o777, 0o555);
    assert_eq!(good(tree.stat("dev")).mode() & 0o777, 0o755);
    assert_eq!(good(tree.stat("etc/hosts")).mode() & 0o777, 0o755);
    assert!(tree.has("dev/pts") && tree.has(".dockerenv") && !tree.has("etc/inside"));
    assert_eq!(good(fs::read_link(tree.path("etc/mtab"))), PathBuf::from("/proc/mounts"));
}

pub(super) fn init_entries_respect_removals(driver: &dyn Driver) {
    let lower = tar(&[(file("etc/hosts"), b"old"), (file("etc/other"), b"old"), (file("dev"), b"")]);
    let upper = tar(&[(file(".wh.etc"), b"")]);
    let fixture = Fixture::new(driver, &[lower, upper]);
    let tree = fixture.view(&INIT);
    assert_eq!(tree.names("etc"), ["hostname", "hosts", "mtab"], "what was removed stays so");
    assert_eq!(tree.text("etc/hosts"), "");
    assert!(good(tree.stat("dev")).is_file(), "a parent that is a file stays one");
}

pub(super) fn no_layers_at_all(driver: &dyn Driver) {
    let fixture = Fixture::new(driver, &[]);
    assert_eq!(fixture.view(&INIT[..1]).names("."), ["etc"]);
    let tree = fixture.mount();
    good(fs::write(tree.path("new"), "written"));
    assert_eq!(tree.names("."), ["etc", "new"]);
    assert_eq!(good(tree.stat(".")).mode() & 0o7777, 0o755);
}

pub(super) fn one_layer_twice(driver: &dyn Driver) {
    let first = tar(&[(file("f"), b"first")]);
    let mut fixture = Fixture::new(driver, &[first, tar(&[(file("f"), b"second"), (file("g"), b"")])]);
    fixture.chain = vec![digest(1), digest(2), digest(1)];
    let request = [InitEntry { path: "/h", kind: InitKind::File }];
    let again = tar(&[(file("f"), b"first")]);
    good(driver.apply(&fixture.chain, &mut &again[..]));
    let tree = fixture.view(&request);
    assert_eq!(tree.text("f"), "first");
    assert_eq!(tree.names("."), ["f", "g", "h"]);
    fixture.mount();
}

pub(super) fn two_hundred_layers(driver: &dyn Driver) {
    let layers: Vec<_> = (0..200)
        .map(|number| {
            let name = format!("layer-{number}");
            tar(&[(file(&name), b""), (file("top"), name.as_bytes())])
        })
        .collect();
    let fixture = Fixture::new(driver, &layers);
    let tree = fixture.view(&[]);
    assert_eq!(tree.names(".").len(), 201);
    assert_eq!(tree.text("top"), "layer-199");
    let tree = fixture.mount();
    assert!(tree.has("layer-0"));
}

pub(super) fn writable_layers_stay(driver: &dyn Driver) {
    let fixture = Fixture::new(driver, &[tar(&[(file("f"), b"image"), (directory("d"), b"")])]);
    fixture.prepare(&[], false);
    let taken =
        Prepare { chain: &fixture.chain, init: &[], ids: &IdMap::IDENTITY, volatile: false, size: None };
    assert!(driver.prepare(KEY, &taken).is_err(), "a key is taken once");
    assert_eq!(good(driver.usage(KEY)).inodes, 0);
    {
        let tree = fixture.mount();
        good(fs::write(tree.path("d/new"), vec![1; 100_000]));
        good(fs::write(tree.path("f"), "changed"));
        good(fs::create_dir(tree.path("d/e")));
        good(fs::rename(tree.path("d/e"), tree.path("d/renamed")));
    }
    let usage = good(driver.usage(KEY));
    // fuse-overlayfs has marks of its own there.
    let inodes = if driver.name().starts_with("fuse") { 4..9 } else { 4..5 };
    assert!(inodes.contains(&usage.inodes) && usage.bytes >= 100_000, "{usage:?}");
    let tree = fixture.mount();
    assert_eq!(tree.text("f"), "changed");
    assert_eq!(tree.names("d"), ["new", "renamed"]);
    drop(tree);
    // A program's mounts have no views.
    if !driver.name().starts_with("fuse") {
        let view = good(driver.view(KEY));
        let path = PathBuf::from(format!("/proc/self/fd/{}/f", view.as_raw_fd()));
        assert_eq!(good(fs::read_to_string(&path)), "changed");
        assert!(fs::write(&path, "x").is_err(), "a view is read-only");
    }
    assert_eq!(good(driver.snapshots()), [KEY]);
    let described = good(driver.describe(KEY));
    assert!(described.contains_key("UpperDir") || described.contains_key("MergedDir"), "{described:?}");
    good(driver.remove(KEY));
    good(driver.remove(KEY));
    assert!(matches!(driver.mounts(KEY), Err(Error::Missing(_))));
    assert!(matches!(driver.usage(KEY), Err(Error::Missing(_))));
    for bad in ["", ".", "..", "../x", "a/b", "a b"] {
        assert!(driver.prepare(bad, &taken).is_err() && driver.remove(bad).is_err(), "{bad:?}");
    }
    fixture.prepare(&[], false);
    assert_eq!(fixture.mount().text("f"), "image", "a new snapshot of that name is empty");
}

pub(super) fn volatile_snapshots_mount_again(driver: &dyn Driver) {
    let fixture = Fixture::new(driver, &[tar(&[(file("f"), b"image")])]);
    fixture.prepare(&[], true);
    good(fs::write(fixture.mount().path("new"), "kept"));
    for _ in 0..2 {
        let tree = fixture.mount();
        assert_eq!(tree.text("new"), "kept");
        assert_eq!(tree.text("f"), "image");
    }
}

const MTIME: Time = Time { seconds: 1_600_000_000, nanoseconds: 123_456_789 };
const CAPABILITY: &[u8] = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// One entry of each kind, none with usual metadata.
fn every_kind() -> Vec<u8> {
    let mtime = MTIME;
    let mut program = Header { mode: 0o4755, uid: 1234, gid: 4_000_000_000, mtime, ..file("bin/program") };
    program.xattrs.insert(b"security.capability".to_vec(), CAPABILITY.to_vec());
    program.xattrs.insert(b"trusted.overlay.metacopy".to_vec(), b"".to_vec());
    program.xattrs.insert(b"user.overlay.redirect".to_vec(), b"/etc".to_vec());
    let device = Header { kind: Kind::CharDevice, device: (1, 3), mode: 0o666, ..file("null") };
    tar(&[
        (Header { mode: 0o750, uid: 7, mtime, ..directory("./") }, b""),
        (Header { mode: 0o1777, gid: 9, mtime, ..directory("bin") }, b""),
        (program, b"ELF"),
        (link(Kind::HardLink, "bin/other", "bin/program"), b""),
        (Header { uid: 5, mtime, ..link(Kind::Symlink, "link", "/bin/program") }, b""),
        (device, b""),
        (Header { kind: Kind::Fifo, mode: 0o600, ..file("pipe") }, b""),
    ])
}

pub(super) fn metadata_is_kept(driver: &dyn Driver) {
    let fixture = Fixture::new(driver, &[every_kind()]);
    let tree = fixture.view(&[]);
    let time = |stat: &fs::Metadata| (stat.mtime(), stat.mtime_nsec());
    let stamp = (MTIME.seconds, i64::from(MTIME.nanoseconds));
    let stat = good(tree.stat("bin/program"));
    assert_eq!((stat.mode() & 0o7777, stat.uid(), stat.gid()), (0o4755, 1234, 4_000_000_000));
    assert_eq!(time(&stat), stamp);
    assert_eq!(tree.xattr("bin/program", "security.capability").as_deref(), Some(CAPABILITY));
    assert_eq!(tree.xattr("bin/program", "user.overlay.redirect"), None);
    assert_eq!(good(tree.stat("bin/other")).ino(), stat.ino());
    let bin = good(tree.stat("bin"));
    assert_eq!((bin.mode() & 0o7777, bin.gid(), time(&bin)), (0o1777, 9, stamp));
    let link = good(tree.stat("link"));
    assert_eq!((link.uid(), time(&link)), (5, stamp));
    assert_eq!(good(fs::read_link(tree.path("link"))), PathBuf::from("/bin/program"));
    let null = good(tree.stat("null"));
    assert!(null.file_type().is_char_device() && null.rdev() == 0x103 && null.mode() & 0o777 == 0o666);
    assert!(good(tree.stat("pipe")).file_type().is_fifo());
    let root = good(tree.stat("."));
    assert_eq!((root.mode() & 0o7777, root.uid(), time(&root)), (0o755, 7, stamp), "the root itself");
}

pub(super) fn files_are_read_as_the_container_sees_them(driver: &dyn Driver) {
    let lower = tar(&[
        (directory("etc"), b""),
        (file("etc/kept"), b"lower"),
        (file("etc/gone"), b"lower"),
        (file("etc/over"), b"lower"),
        (directory("hidden"), b""),
        (file("hidden/below"), b"lower"),
        (link(Kind::Symlink, "link", "etc/kept"), b""),
        (link(Kind::Symlink, "way", "etc"), b""),
        (link(Kind::Symlink, "out", "/etc/kept"), b""),
    ]);
    let upper = tar(&[
        (directory("etc"), b""),
        (file("etc/.wh.gone"), b""),
        (file("etc/over"), b"upper"),
        (directory("hidden"), b""),
        (file("hidden/.wh..wh..opq"), b""),
    ]);
    let fixture = Fixture::new(driver, &[lower, upper]);
    fixture.prepare(&[], false);
    let read = |path: &str| good(fixture.driver.read(KEY, Path::new(path), 99));
    for (path, content) in [
        ("/etc/kept", Some("lower")),
        ("/etc/over", Some("upper")),
        ("/etc/gone", None),
        ("/etc/none", None),
        ("/none/none", None),
        ("/hidden/below", None),
        ("/link", Some("lower")),
        ("/way/over", Some("upper")),
        ("/out", Some("lower")),
    ] {
        assert_eq!(read(path).as_deref(), content.map(str::as_bytes), "{path}");
    }
    assert!(fixture.driver.read(KEY, Path::new("/etc/kept"), 2).is_err());
    assert!(fixture.driver.read(KEY, Path::new("/etc"), 99).is_err());
}
