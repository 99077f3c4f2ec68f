//! Hostile layers (rules R1, R13, R14): each is refused by name or stays inside, nothing is left of a refused one,
//! and a canary beside the layers is never touched.

#![allow(clippy::unwrap_used, reason = "helpers of tests, too, fail by panicking")]

mod common;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use archive::{Header, Kind, Writer};
use rustix::fs::{CWD, Mode, OFlags, RenameFlags, open, openat, renameat_with};
use snapshot::{
    Driver, Error,
    suite::{digest, directory, file, link, tar},
};

struct Range {
    base: tempfile::TempDir,
    driver: Box<dyn Driver>,
    before: String,
}

impl Range {
    /// In memory, where nothing waits for a disk.
    fn new() -> Self {
        Self::on(Path::new("/dev/shm"))
    }

    fn on(file_system: &Path) -> Self {
        let base = tempfile::tempdir_in(file_system).unwrap();
        let canary = base.path().join("canary");
        fs::create_dir(&canary).unwrap();
        fs::set_permissions(&canary, fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(canary.join("f"), "untouched").unwrap();
        let driver = snapshot::open_driver("overlay", &base.path().join("root"), &[]).unwrap();
        let mut range = Self { base, driver, before: String::new() };
        range.before = range.listing();
        range
    }

    fn canary(&self) -> PathBuf {
        self.base.path().join("canary")
    }

    fn name(&self, rest: &str) -> String {
        format!("{}{rest}", self.canary().display())
    }

    fn listing(&self) -> String {
        let stat = common::run("stat", &["-c", "%a %u %g %y %z", self.canary().to_str().unwrap()]);
        let content = fs::read_to_string(self.canary().join("f")).unwrap();
        format!("{stat}{}{content}", common::listing(&self.canary()))
    }

    fn apply(&self, layer: &[u8]) -> Result<(), Error> {
        let result = self.driver.apply(&[digest(1)], &mut &layer[..]);
        assert_eq!(self.listing(), self.before, "the canary changed");
        assert_eq!(self.driver.has(&[digest(1)]), result.is_ok());
        if result.is_err() {
            common::wait_for_trash(&self.base.path().join("root"));
        }
        self.driver.forget(&self.driver.layer_name(&[digest(1)])).unwrap();
        result.map(drop)
    }

    #[track_caller]
    fn refuses(&self, entries: &[(Header, &[u8])], because: &str) {
        let error = self.apply(&tar(entries)).expect_err(because).to_string();
        assert!(error.contains(because), "{error:?} does not say {because:?}");
    }
}

fn symlink(path: &str, target: &str) -> (Header, &'static [u8]) {
    (link(Kind::Symlink, path, target), b"")
}

#[test]
fn nothing_is_created_through_links_that_lead_out() {
    let range = Range::new();
    let esc = symlink("esc", &range.name(""));
    range.refuses(
        &[esc.clone(), (file("esc/pwn"), b"x")],
        "\"esc\" lies behind a symbolic link that leads nowhere",
    );
    range.refuses(&[esc.clone(), (file("esc/.wh.f"), b"")], "\"esc\" lies behind");
    range.refuses(&[esc.clone(), (file("esc/.wh..wh..opq"), b"")], "\"esc\" lies behind");
    range.refuses(&[symlink("esc", "../../../canary"), (file("esc/pwn"), b"x")], "lies behind");
    range.refuses(&[symlink("esc", "/proc/self/root/tmp"), (file("esc/pwn"), b"x")], "lies behind");
    range.refuses(&[symlink("a", "b"), symlink("b", "a"), (file("a/f"), b"x")], "open a: Too many levels");
    // A directory over a link replaces it (CVE-2021-32760: it must not change what the link leads to).
    let open = Header { mode: 0o777, ..directory("esc") };
    range.apply(&tar(&[esc.clone(), (open, b""), (file("esc/pwn"), b"x")])).unwrap();
    // A file over a link to it.
    range.apply(&tar(&[symlink("f", &range.name("/f")), (file("f"), b"new")])).unwrap();
    // Links that stay inside are followed, inside.
    range
        .apply(&tar(&[(directory("usr/lib"), b""), symlink("lib", "/usr/lib"), (file("lib/f"), b"x")]))
        .unwrap();
}

#[test]
fn hard_links_stay_inside() {
    let range = Range::new();
    let hard = |path: &str, target: &str| (link(Kind::HardLink, path, target), &b""[..]);
    range.refuses(&[hard("hl", &range.name("/f")), (file("hl"), b"x")], "entry \"hl\" links to");
    range.refuses(&[hard("hl", "../../canary/f")], "outside the layer");
    let esc = symlink("esc", &range.name(""));
    range.refuses(&[esc.clone(), hard("hl", "esc/f")], "which the layer does not have");
    range.refuses(
        &[(directory("d"), b""), (file("d/f"), b""), symlink("s", "d"), hard("hl", "s/f")],
        "does not have",
    );
    range.refuses(&[(directory("d"), b""), hard("hl", "d")], "hard link to a directory");
    range.refuses(&[(file(".wh.f"), b""), hard("hl", "f")], "does not have");
    range.refuses(&[(file("f"), b""), hard("f", "f")], "does not have");
    // A hard link to a link is a link: what comes after it replaces it.
    let own = symlink("s", &range.name("/f"));
    range.apply(&tar(&[own, hard("hl", "s"), (file("hl"), b"new")])).unwrap();
}

#[test]
fn names_that_lead_out_are_refused_by_name() {
    let range = Range::new();
    for name in [range.name("/dd"), "//x".to_owned(), "/".to_owned()] {
        range.refuses(&[(file(&name), b"x")], &format!("entry \"{name}\" has an absolute name"));
    }
    for name in ["../dd", "a/../../dd", "./..//a", "..", "a/.."] {
        range.refuses(&[(file(name), b"x")], &format!("entry \"{name}\" has a name with `..`"));
    }
    let deep = "d/".repeat(2100) + "f";
    range.refuses(&[(file(&deep), b"x")], "a path of more than 4095 bytes");
    range.refuses(&[(file(&"n".repeat(300)), b"x")], "File name too long");
    range.refuses(&[(file("f"), b""), (file("f/g"), b"")], "lies in \"f\", which is not a directory");
    range.refuses(&[(file("."), b"")], "would replace the root");
    let odd = Header { path: b"\xff\xfe\n".to_vec(), ..file("x") };
    range.apply(&tar(&[(odd, b"not text")])).unwrap();
}

#[test]
fn whiteouts_are_exact() {
    let range = Range::new();
    for name in [".wh.", ".wh..", ".wh...", ".wh..wh.", ".wh..wh.aufs", "d/.wh..wh.plnk"] {
        range.refuses(&[(file(name), b"")], "is not a whiteout that");
    }
    range.refuses(&[(file(".wh.d/f"), b"")], "lies in a whiteout");
    range.refuses(&[(directory(".wh.d"), b"")], "is a whiteout but not a file");
    let device = Header { kind: Kind::CharDevice, ..file("null") };
    range.refuses(&[(device, b"")], "character device 0:0");
    let device = Header { kind: Kind::BlockDevice, device: (1 << 12, 0), ..file("disk") };
    range.refuses(&[(device, b"")], "a device number that Linux does not have");
}

#[test]
fn odd_entries_are_refused() {
    let range = Range::new();
    range.refuses(&[(Header { uid: u32::MAX, ..file("f") }, b"")], "an id that Linux does not have");
    let mut label = tar(&[(file("volume"), b"")]);
    label[156] = b'V';
    label[148..156].fill(b' ');
    let sum: u32 = label[..512].iter().map(|byte| u32::from(*byte)).sum();
    label[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let error = range.apply(&label).unwrap_err().to_string();
    assert!(error.contains("has the type 'V'"), "{error}");
}

#[test]
fn a_sparse_file_of_exabytes_is_an_error() {
    let range = Range::on(&std::env::temp_dir());
    let mut layer = Writer::new(Vec::new());
    layer.append(&file("placeholder"), &b""[..]).unwrap();
    let records = "22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n24 GNU.sparse.name=bomb\n43 GNU.sparse.realsize=4611686018427387904\n";
    let mut extended = layer.finish().unwrap()[..512].to_vec();
    let seal = |block: &mut Vec<u8>, kind: u8, size: usize| {
        block[156] = kind;
        block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    };
    let mut entry = extended.clone();
    seal(&mut extended, b'x', records.len());
    seal(&mut entry, b'0', 512);
    let mut map = b"0\n".to_vec();
    map.resize(512, 0);
    let mut body = records.as_bytes().to_vec();
    body.resize(512, 0);
    let bomb = [extended, body, entry, map, vec![0; 1024]].concat();
    let error = range.apply(&bomb).unwrap_err().to_string();
    assert!(error.starts_with("extend bomb: File too large"), "{error}");
}

/// Deeper than a path can say and a process can open: reached through links, removed all the same.
#[test]
fn very_deep_trees_can_be_removed() {
    let range = Range::new();
    let step = "d/".repeat(1000);
    let mut entries = Vec::new();
    for level in 0..8 {
        let at = if level == 0 { String::new() } else { format!("s{level}/") };
        entries.push((directory(&format!("{at}{step}")), &b""[..]));
        let target = format!("{at}{step}");
        entries.push(symlink(&format!("s{}", level + 1), &target));
    }
    range.apply(&tar(&entries)).unwrap();
    common::wait_for_trash(&range.base.path().join("root"));
}

#[test]
fn overlay_attributes_of_archives_are_dropped() {
    let range = Range::new();
    let mut header = directory("d");
    for name in
        ["trusted.overlay.opaque", "trusted.overlay.redirect", "user.overlay.opaque", "trusted.knarr.implied"]
    {
        header.xattrs.insert(name.into(), b"y".to_vec());
    }
    header.xattrs.insert(b"trusted.kept".to_vec(), b"y\n=\0".to_vec());
    let layer = tar(&[(header, b"")]);
    range.driver.apply(&[digest(1)], &mut &layer[..]).unwrap();
    let path = common::layer(&range.base.path().join("root"), &digest(1)).join("d");
    let mut list = vec![0; 1024];
    let length = rustix::fs::listxattr(&path, &mut list[..]).unwrap();
    assert_eq!(&list[..length], b"trusted.kept\0");
}

/// Nobody but root looks into layers: they hold set-id programs (CVE-2021-41091).
#[test]
fn layers_are_not_for_everybody() {
    let range = Range::new();
    let root = range.base.path().join("root");
    for directory in ["", "layers", "snapshots", "init", "tmp", "trash"] {
        let mode = fs::metadata(root.join(directory)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o700, "{directory}");
    }
}

/// T-7: what is too much is refused where it is read, before it is made.
#[test]
fn too_much_is_refused() {
    let range = Range::new();
    let deep = "d/".repeat(100_000);
    let entry = Header { path: deep.into_bytes(), ..directory("x") };
    let error = range.apply(&tar(&[(entry, b"")])).unwrap_err().to_string();
    assert!(error.contains("a path of more than 4095 bytes"), "{error}");
    let mut loaded = file("loaded");
    for number in 0..30 {
        loaded.xattrs.insert(format!("user.x{number}").into_bytes(), vec![b'x'; 60_000]);
    }
    let mut writer = Writer::new(Vec::new());
    assert!(writer.append(&loaded, &b""[..]).is_err(), "our own writer makes no such thing");
    // One of each at the limit of what the kernel takes is the file system's to refuse.
    let mut heavy = file("heavy");
    heavy.xattrs.insert(b"trusted.x".to_vec(), vec![b'x'; 60_000]);
    let _ = range.apply(&tar(&[(heavy, b"")]));
}

/// T-8: twins by case and by Unicode's forms are different names to Linux, and stay so.
#[test]
fn twins_are_two() {
    let range = Range::new();
    let layer =
        tar(&[(file("a"), b"1"), (file("A"), b"2"), (file("\u{e4}"), b"3"), (file("a\u{308}"), b"4")]);
    range.driver.apply(&[digest(1)], &mut &layer[..]).unwrap();
    let path = common::layer(&range.base.path().join("root"), &digest(1));
    assert_eq!(fs::read_dir(path).unwrap().count(), 4);
}

/// Exchanges that the swapper must have made.
const ROUNDS: u64 = 10_000;

fn disturbed_layer() -> Vec<u8> {
    let mut entries = vec![(directory("d"), &b""[..]), (directory("d/e"), b"")];
    let names: Vec<_> =
        (0..40).flat_map(|number| [format!("d/f{number}"), format!("d/e/f{number}")]).collect();
    for name in &names {
        entries.push((file(name), b"content"));
        entries.push((file("d/e/again"), b"content"));
    }
    // Removals, replacements and times that are set at the end.
    entries.push((file("d/.wh.f"), b""));
    entries.push((file("d/.wh..wh..opq"), b""));
    entries.push((directory("d"), b""));
    tar(&entries)
}

/// Exchanges `d` and `d/e` of everything that is staged for a link that leads to the canary.
fn swap(staging: &Path, links: &Path, done: &AtomicBool, swaps: &AtomicU64) {
    let mut number = 0_u64;
    while !done.load(Ordering::Relaxed) {
        for staged in fs::read_dir(staging).unwrap().flatten() {
            // Where `d` is a link for the moment, `d/e` would be the canary's: this one follows none itself.
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let outer = open(staged.path(), flags, Mode::empty());
            let inner = outer.as_ref().ok().and_then(|outer| openat(outer, "d", flags, Mode::empty()).ok());
            for (directory, name) in [(outer.ok(), "d"), (inner, "e")] {
                let Some(directory) = directory else { continue };
                number += 1;
                let link = links.join(format!("l{}", number % 8));
                for _ in 0..2 {
                    if renameat_with(CWD, &link, &directory, name, RenameFlags::EXCHANGE).is_ok() {
                        swaps.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        }
    }
}

/// T-9: layers are unpacked, the same ones side by side, while somebody else exchanges what they are unpacked into
/// for links that lead out (CVE-2025-47290, CVE-2018-15664). However the race ends, nothing outside is touched.
#[test]
fn an_unpacking_that_is_disturbed_stays_inside() {
    let base = tempfile::tempdir_in("/dev/shm").unwrap();
    let (root, canary, links) =
        (base.path().join("root"), base.path().join("canary"), base.path().join("links"));
    fs::create_dir_all(canary.join("e")).unwrap();
    fs::write(canary.join("f"), "untouched").unwrap();
    fs::create_dir(&links).unwrap();
    for number in 0..8 {
        std::os::unix::fs::symlink(&canary, links.join(format!("l{number}"))).unwrap();
    }
    let before = state(&canary);
    let driver = snapshot::open_driver("overlay", &root, &[]).unwrap();
    let (done, swaps) = (AtomicBool::new(false), AtomicU64::new(0));
    let archive = disturbed_layer();
    std::thread::scope(|scope| {
        scope.spawn(|| swap(&root.join("tmp"), &links, &done, &swaps));
        let workers: Vec<_> = (0..2_u32)
            .map(|worker| {
                let (driver, archive, swaps) = (&driver, &archive, &swaps);
                scope.spawn(move || {
                    let mut round = 0;
                    while swaps.load(Ordering::Relaxed) < ROUNDS {
                        round += 1;
                        // Each layer by both, at about the same time; disturbed, it may well fail.
                        let _ = driver.apply(&[digest(round)], &mut &archive[..]);
                        let _ = driver.forget(&driver.layer_name(&[digest(round + worker)]));
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(state(&canary), before);
}

fn state(canary: &Path) -> String {
    let path = canary.to_str().unwrap();
    let own = common::run("stat", &["-c", "%a %u %g %y %z", path]);
    own + &common::listing(canary) + &fs::read_to_string(canary.join("f")).unwrap()
}
