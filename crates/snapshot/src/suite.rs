//! The conformance suite: what every driver must do, on a real kernel, as root. A driver's tests call [`run`] with
//! a fresh driver; each check makes layers and snapshots of its own and removes them.
//!
//! Mounts are made detached, so that the host never sees them and they vanish with their descriptor.

use std::{
    fs,
    io::{self, Read},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::fs::{FileTypeExt, MetadataExt},
    },
    path::PathBuf,
};

use archive::{Header, Kind, Time, Writer};
use oci::{Digest, IdMap, Mount};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen,
};

use crate::{Driver, Error, InitEntry, InitKind, Prepare};

/// Every check.
///
/// # Panics
/// If the driver does not do what it must.
pub fn run(driver: &dyn Driver) {
    let checks: [(&str, fn(&dyn Driver)); 12] = [
        ("layers come and go", layers_come_and_go),
        ("broken archives leave nothing", broken_archives_leave_nothing),
        ("metadata is kept", metadata_is_kept),
        ("upper layers remove and replace", upper_layers_remove_and_replace),
        ("an opaque root hides everything", an_opaque_root_hides_everything),
        ("init entries fill gaps only", init_entries_fill_gaps_only),
        (
            "init entries keep out of what is not plain",
            init_entries_respect_removals,
        ),
        ("no layers at all", no_layers_at_all),
        ("one layer twice", one_layer_twice),
        ("two hundred layers", two_hundred_layers),
        ("writable layers stay until removed", writable_layers_stay),
        ("volatile snapshots mount again", volatile_snapshots_mount_again),
    ];
    for (name, check) in checks {
        eprintln!("{}: {name}", driver.name());
        check(driver);
        assert_eq!(
            driver.snapshots().unwrap_or_default(),
            Vec::<String>::new(),
            "{name}: snapshots left"
        );
        assert_eq!(
            driver.layers().unwrap_or_default(),
            Vec::<String>::new(),
            "{name}: layers left"
        );
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
        let header = Header {
            size: content.len() as u64,
            ..header.clone()
        };
        good(writer.append(&header, *content));
    }
    good(writer.finish())
}

/// A file of mode 0644.
#[must_use]
pub fn file(path: &str) -> Header {
    Header {
        path: path.into(),
        mode: 0o644,
        ..Header::default()
    }
}

/// A directory of mode 0755.
#[must_use]
pub fn directory(path: &str) -> Header {
    Header {
        mode: 0o755,
        kind: Kind::Directory,
        ..file(path)
    }
}

/// A link of either kind.
#[must_use]
pub fn link(kind: Kind, path: &str, target: &str) -> Header {
    Header {
        kind,
        link: target.into(),
        ..file(path)
    }
}

/// Any digest, by number.
#[must_use]
pub fn digest(number: u32) -> Digest {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    Digest::sha256(bytes)
}

/// A mount of a driver, made detached.
///
/// # Errors
/// The kernel's.
pub fn assemble(mount: &Mount) -> io::Result<OwnedFd> {
    let context = fsopen(
        mount.kind.as_deref().unwrap_or_default(),
        FsOpenFlags::FSOPEN_CLOEXEC,
    )?;
    fsconfig_set_string(&context, "source", mount.source.as_deref().unwrap_or("none"))?;
    for option in &mount.options {
        match option.split_once('=') {
            Some((key, value)) => fsconfig_set_string(&context, key, value)?,
            None => fsconfig_set_flag(&context, &**option)?,
        }
    }
    fsconfig_create(&context)?;
    Ok(fsmount(
        context.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::empty(),
    )?)
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

    fn prepare(&self, init: &[InitEntry], volatile: bool) {
        let request = Prepare {
            chain: &self.chain,
            init,
            ids: &IdMap::IDENTITY,
            volatile,
        };
        good(self.driver.prepare(KEY, &request));
    }

    /// The merged view.
    fn view(&self, init: &[InitEntry]) -> Tree {
        self.prepare(init, false);
        Tree(good(self.driver.view(KEY)))
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
            let _ = self.driver.forget(&self.chain[..length]);
        }
    }
}

/// A detached mount to look into.
struct Tree(OwnedFd);

impl Tree {
    fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{path}", self.0.as_raw_fd()))
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

fn layers_come_and_go(driver: &dyn Driver) {
    let chain = [digest(1)];
    assert!(!driver.has(&chain));
    let layer = tar(&[(directory("d"), b""), (file("d/f"), b"hello")]);
    let applied = good(driver.apply(&chain, &mut &layer[..]));
    assert_eq!((applied.size, applied.entries), (5, 2));
    assert!(driver.has(&chain) && !driver.has(&[digest(2)]));
    assert_eq!(good(driver.layers()), [driver.layer_name(&chain)]);
    good(driver.apply(&chain, &mut &layer[..]));
    good(driver.forget(&chain));
    assert!(!driver.has(&chain));
    good(driver.forget(&chain));
}

fn broken_archives_leave_nothing(driver: &dyn Driver) {
    let chain = [digest(1)];
    let whole = tar(&[(file("f"), &[7; 3000]), (file("g"), b"x")]);
    for length in [1, 511, 513, 1500, 3700, whole.len() - 1100] {
        let error = driver.apply(&chain, &mut &whole[..length]).err();
        let truncated = |error: &io::Error| error.kind() == io::ErrorKind::UnexpectedEof;
        assert!(
            matches!(&error, Some(Error::Read(error)) if truncated(error)),
            "{length}: {error:?}"
        );
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
    assert!(matches!(
        driver.apply(&chain, &mut &garbage[..]),
        Err(Error::Archive(_))
    ));
    let request = Prepare {
        chain: &chain,
        init: &[],
        ids: &IdMap::IDENTITY,
        volatile: false,
    };
    assert!(matches!(driver.prepare(KEY, &request), Err(Error::Missing(_))));
}

struct FailingRead(&'static str);

impl Read for FailingRead {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::new(io::ErrorKind::InvalidData, self.0))
    }
}

fn metadata_is_kept(driver: &dyn Driver) {
    let mtime = Time {
        seconds: 1_600_000_000,
        nanoseconds: 123_456_789,
    };
    let capability: &[u8] = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let mut program = Header {
        mode: 0o4755,
        uid: 1234,
        gid: 4_000_000_000,
        mtime,
        ..file("bin/program")
    };
    program
        .xattrs
        .insert(b"security.capability".to_vec(), capability.to_vec());
    program
        .xattrs
        .insert(b"trusted.overlay.metacopy".to_vec(), b"".to_vec());
    program
        .xattrs
        .insert(b"user.overlay.redirect".to_vec(), b"/etc".to_vec());
    let device = Header {
        kind: Kind::CharDevice,
        device: (1, 3),
        mode: 0o666,
        ..file("null")
    };
    let fixture = Fixture::new(
        driver,
        &[tar(&[
            (
                Header {
                    mode: 0o750,
                    uid: 7,
                    mtime,
                    ..directory("./")
                },
                b"",
            ),
            (
                Header {
                    mode: 0o1777,
                    gid: 9,
                    mtime,
                    ..directory("bin")
                },
                b"",
            ),
            (program, b"ELF"),
            (link(Kind::HardLink, "bin/other", "bin/program"), b""),
            (
                Header {
                    uid: 5,
                    mtime,
                    ..link(Kind::Symlink, "link", "/bin/program")
                },
                b"",
            ),
            (device, b""),
            (
                Header {
                    kind: Kind::Fifo,
                    mode: 0o600,
                    ..file("pipe")
                },
                b"",
            ),
        ])],
    );
    let tree = fixture.view(&[]);
    let time = |stat: &fs::Metadata| (stat.mtime(), stat.mtime_nsec());
    let stamp = (mtime.seconds, i64::from(mtime.nanoseconds));
    let stat = good(tree.stat("bin/program"));
    assert_eq!(
        (stat.mode() & 0o7777, stat.uid(), stat.gid()),
        (0o4755, 1234, 4_000_000_000)
    );
    assert_eq!(time(&stat), stamp);
    assert_eq!(
        tree.xattr("bin/program", "security.capability").as_deref(),
        Some(capability)
    );
    assert_eq!(tree.xattr("bin/program", "user.overlay.redirect"), None);
    assert_eq!(good(tree.stat("bin/other")).ino(), stat.ino());
    let bin = good(tree.stat("bin"));
    assert_eq!((bin.mode() & 0o7777, bin.gid(), time(&bin)), (0o1777, 9, stamp));
    let link = good(tree.stat("link"));
    assert_eq!((link.uid(), time(&link)), (5, stamp));
    assert_eq!(
        good(fs::read_link(tree.path("link"))),
        PathBuf::from("/bin/program")
    );
    let null = good(tree.stat("null"));
    assert!(null.file_type().is_char_device() && null.rdev() == 0x103 && null.mode() & 0o777 == 0o666);
    assert!(good(tree.stat("pipe")).file_type().is_fifo());
    let root = good(tree.stat("."));
    assert_eq!(
        (root.mode() & 0o7777, root.uid(), time(&root)),
        (0o750, 7, stamp),
        "the root itself"
    );
}

fn upper_layers_remove_and_replace(driver: &dyn Driver) {
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
        (
            Header {
                mode: 0o700,
                ..directory("merged")
            },
            b"",
        ),
        (file("merged/changed"), b"after"),
        (file("to-file"), b"file"),
        (file(".wh.deep"), b""),
        (file("deep/new"), b""),
    ]);
    let fixture = Fixture::new(driver, &[lower, upper]);
    let tree = fixture.view(&[]);
    assert_eq!(
        tree.names("."),
        ["again", "deep", "kept", "later", "merged", "opaque", "to-file"]
    );
    for hidden in ["opaque", "again", "later", "deep"] {
        assert_eq!(tree.names(hidden), ["new"], "{hidden}");
    }
    assert_eq!(tree.names("merged"), ["changed", "old"]);
    assert_eq!(tree.text("merged/changed"), "after");
    assert_eq!(good(tree.stat("merged")).mode() & 0o777, 0o700);
    assert_eq!(tree.text("to-file"), "file");
}

fn an_opaque_root_hides_everything(driver: &dyn Driver) {
    let lower = tar(&[(file("old"), b"")]);
    let upper = tar(&[(file("new"), b""), (file(".wh..wh..opq"), b"")]);
    let fixture = Fixture::new(driver, &[lower, upper]);
    assert_eq!(fixture.view(&[]).names("."), ["new"]);
}

const INIT: [InitEntry; 7] = [
    InitEntry {
        path: "/etc/hosts",
        kind: InitKind::File,
    },
    InitEntry {
        path: "/etc/hostname",
        kind: InitKind::File,
    },
    InitEntry {
        path: "/etc/mtab",
        kind: InitKind::Link("/proc/mounts"),
    },
    InitEntry {
        path: "/dev/pts",
        kind: InitKind::Directory,
    },
    InitEntry {
        path: "/proc",
        kind: InitKind::Directory,
    },
    InitEntry {
        path: "/linked/inside",
        kind: InitKind::File,
    },
    InitEntry {
        path: "/.dockerenv",
        kind: InitKind::File,
    },
];

fn init_entries_fill_gaps_only(driver: &dyn Driver) {
    let mtime = Time {
        seconds: 1_500_000_000,
        nanoseconds: 5,
    };
    let mut etc = Header {
        mode: 0o2751,
        uid: 3,
        gid: 4,
        mtime,
        ..directory("etc")
    };
    etc.xattrs.insert(b"trusted.mark".to_vec(), b"etc".to_vec());
    let fixture = Fixture::new(
        driver,
        &[tar(&[
            (etc, b""),
            (file("etc/hostname"), b"from the image"),
            (link(Kind::Symlink, "linked", "etc"), b""),
            (
                Header {
                    mode: 0o555,
                    mtime,
                    ..directory("proc")
                },
                b"",
            ),
        ])],
    );
    let tree = fixture.view(&INIT);
    assert_eq!(tree.names("etc"), ["hostname", "hosts", "mtab"]);
    assert_eq!(tree.text("etc/hostname"), "from the image");
    let etc = good(tree.stat("etc"));
    assert_eq!((etc.mode() & 0o7777, etc.uid(), etc.gid()), (0o2751, 3, 4));
    assert_eq!(
        (etc.mtime(), etc.mtime_nsec()),
        (mtime.seconds, 5),
        "a directory keeps the image's time"
    );
    assert_eq!(tree.xattr("etc", "trusted.mark").as_deref(), Some(&b"etc"[..]));
    assert_eq!(good(tree.stat("proc")).mode() & 0o777, 0o555);
    assert_eq!(good(tree.stat("dev")).mode() & 0o777, 0o755);
    assert_eq!(good(tree.stat("etc/hosts")).mode() & 0o777, 0o755);
    assert!(tree.has("dev/pts") && tree.has(".dockerenv") && !tree.has("etc/inside"));
    assert_eq!(
        good(fs::read_link(tree.path("etc/mtab"))),
        PathBuf::from("/proc/mounts")
    );
}

fn init_entries_respect_removals(driver: &dyn Driver) {
    let lower = tar(&[
        (file("etc/hosts"), b"old"),
        (file("etc/other"), b"old"),
        (file("dev"), b""),
    ]);
    let upper = tar(&[(file(".wh.etc"), b"")]);
    let fixture = Fixture::new(driver, &[lower, upper]);
    let tree = fixture.view(&INIT);
    assert_eq!(
        tree.names("etc"),
        ["hostname", "hosts", "mtab"],
        "what was removed stays so"
    );
    assert_eq!(tree.text("etc/hosts"), "");
    assert!(
        good(tree.stat("dev")).is_file(),
        "a parent that is a file stays one"
    );
}

fn no_layers_at_all(driver: &dyn Driver) {
    let fixture = Fixture::new(driver, &[]);
    assert_eq!(fixture.view(&INIT[..1]).names("."), ["etc"]);
    let tree = fixture.mount();
    good(fs::write(tree.path("new"), "written"));
    assert_eq!(tree.names("."), ["etc", "new"]);
    assert_eq!(good(tree.stat(".")).mode() & 0o7777, 0o755);
}

fn one_layer_twice(driver: &dyn Driver) {
    let first = tar(&[(file("f"), b"first")]);
    let mut fixture = Fixture::new(driver, &[first, tar(&[(file("f"), b"second"), (file("g"), b"")])]);
    fixture.chain = vec![digest(1), digest(2), digest(1)];
    let request = [InitEntry {
        path: "/h",
        kind: InitKind::File,
    }];
    let again = tar(&[(file("f"), b"first")]);
    good(driver.apply(&fixture.chain, &mut &again[..]));
    let tree = fixture.view(&request);
    assert_eq!(tree.text("f"), "first");
    assert_eq!(tree.names("."), ["f", "g", "h"]);
    fixture.mount();
}

fn two_hundred_layers(driver: &dyn Driver) {
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

fn writable_layers_stay(driver: &dyn Driver) {
    let fixture = Fixture::new(driver, &[tar(&[(file("f"), b"image"), (directory("d"), b"")])]);
    fixture.prepare(&[], false);
    let taken = Prepare {
        chain: &fixture.chain,
        init: &[],
        ids: &IdMap::IDENTITY,
        volatile: false,
    };
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
    assert!(usage.inodes == 4 && usage.bytes >= 100_000, "{usage:?}");
    let tree = fixture.mount();
    assert_eq!(tree.text("f"), "changed");
    assert_eq!(tree.names("d"), ["new", "renamed"]);
    drop(tree);
    assert_eq!(Tree(good(driver.view(KEY))).text("f"), "changed");
    assert!(
        fs::write(Tree(good(driver.view(KEY))).path("f"), "x").is_err(),
        "a view is read-only"
    );
    assert_eq!(good(driver.snapshots()), [KEY]);
    assert!(good(driver.describe(KEY)).contains_key("UpperDir"));
    good(driver.remove(KEY));
    good(driver.remove(KEY));
    assert!(matches!(driver.mounts(KEY), Err(Error::Missing(_))));
    assert!(matches!(driver.usage(KEY), Err(Error::Missing(_))));
    for bad in ["", ".", "..", "../x", "a/b", "a b"] {
        assert!(
            driver.prepare(bad, &taken).is_err() && driver.remove(bad).is_err(),
            "{bad:?}"
        );
    }
    fixture.prepare(&[], false);
    assert_eq!(
        fixture.mount().text("f"),
        "image",
        "a new snapshot of that name is empty"
    );
}

fn volatile_snapshots_mount_again(driver: &dyn Driver) {
    let fixture = Fixture::new(driver, &[tar(&[(file("f"), b"image")])]);
    fixture.prepare(&[], true);
    good(fs::write(fixture.mount().path("new"), "kept"));
    for _ in 0..2 {
        let tree = fixture.mount();
        assert_eq!(tree.text("new"), "kept");
        assert_eq!(tree.text("f"), "image");
    }
}
