//! Checks of what a container changed, and of archives made of it.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Seek, SeekFrom, Write},
    os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink},
};

use archive::{Header, Kind, Reader};
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags, chownat, makedev, mknodat,
    utimensat,
};

use super::{Fixture, KEY, Tree, directory, file, good, link, tar};
use crate::{ChangeKind, Driver, InitEntry, InitKind};

const INIT: [InitEntry; 3] = [
    InitEntry { path: "/etc/hosts", kind: InitKind::File },
    InitEntry { path: "/etc/mtab", kind: InitKind::Link("/proc/mounts") },
    InitEntry { path: "/made/only/by/init", kind: InitKind::Directory },
];

fn image() -> Vec<Vec<u8>> {
    let lower = tar(&[
        (directory("etc"), b""),
        (file("etc/passwd"), b"root"),
        (file("etc/untouched"), b""),
        (directory("gone"), b""),
        (file("gone/f"), b""),
        (directory("again"), b""),
        (file("again/old"), b"old"),
        (directory("again/sub"), b""),
        (file("again/sub/old"), b""),
        (directory("looked-into"), b""),
        (file("looked-into/f"), b""),
        (file("to-directory"), b""),
        (directory("to-file"), b""),
        (file("to-file/f"), b""),
        (file("removed"), b""),
        (file("same-length"), b"one"),
    ]);
    let upper = tar(&[(file(".wh.removed"), b""), (file("etc/second"), b"2")]);
    vec![lower, upper]
}

fn change(tree: &Tree) {
    good(fs::write(tree.path("etc/passwd"), "root and more"));
    good(fs::write(tree.path("etc/new"), "new"));
    good(fs::write(tree.path("same-length"), "two"));
    good(fs::remove_file(tree.path("etc/second")));
    good(fs::remove_dir_all(tree.path("gone")));
    good(fs::remove_dir_all(tree.path("again")));
    good(fs::create_dir_all(tree.path("again/sub")));
    good(fs::write(tree.path("again/sub/new"), ""));
    good(fs::remove_file(tree.path("to-directory")));
    good(fs::create_dir(tree.path("to-directory")));
    good(fs::write(tree.path("to-directory/f"), ""));
    good(fs::remove_dir_all(tree.path("to-file")));
    good(fs::write(tree.path("to-file"), ""));
    good(fs::write(tree.path("removed"), "back"));
    // Nothing is left of what comes and goes, nor of what only the init layer had.
    good(fs::write(tree.path("short-lived"), ""));
    good(fs::remove_file(tree.path("short-lived")));
    good(fs::remove_file(tree.path("etc/mtab")));
    good(fs::remove_dir_all(tree.path("made")));
}

pub(super) fn changes_are_told_as_docker_tells_them(driver: &dyn Driver) {
    let fixture = Fixture::new(driver, &image());
    fixture.prepare(&INIT, false);
    assert_eq!(good(driver.changes(KEY)), [], "a new container has none");
    let tree = fixture.mount();
    change(&tree);
    let told = |running: &str| {
        let letter = |kind| match kind {
            ChangeKind::Modified => 'C',
            ChangeKind::Added => 'A',
            ChangeKind::Deleted => 'D',
        };
        let all = good(driver.changes(KEY));
        let lines: Vec<_> = all
            .iter()
            .map(|change| format!("{} {}", letter(change.kind), String::from_utf8_lossy(&change.path)))
            .collect();
        let expected = [
            "C /again",
            "D /again/old",
            "C /again/sub",
            "A /again/sub/new",
            "D /again/sub/old",
            "C /etc",
            "A /etc/new",
            "C /etc/passwd",
            "D /etc/second",
            "D /gone",
            "A /removed",
            "C /same-length",
            "C /to-directory",
            "A /to-directory/f",
            "C /to-file",
        ];
        assert_eq!(lines, expected, "{running}");
    };
    told("running");
    drop(tree);
    told("stopped");
}

/// Path, kind, mode, ids, times, link, device, attributes and content.
fn entries(archive: &[u8]) -> BTreeMap<String, (Header, Vec<u8>)> {
    let mut reader = Reader::new(archive);
    let mut all = BTreeMap::new();
    while let Some(mut entry) = good(reader.next()) {
        let mut header = entry.header().clone();
        header.pax.clear();
        let mut content = Vec::new();
        good(entry.read_to_end(&mut content));
        let path = String::from_utf8_lossy(&header.path).into_owned();
        assert!(all.insert(path.clone(), (header, content)).is_none(), "{path} twice");
    }
    all
}

fn packed(pack: impl Fn(&mut dyn Write) -> Result<crate::Packed, crate::Error>) -> Vec<u8> {
    let (mut one, mut other) = (Vec::new(), Vec::new());
    let told = good(pack(&mut one));
    good(pack(&mut other));
    assert!(one == other, "the same tree gives the same bytes");
    assert_eq!(told.entries, entries(&one).len() as u64);
    one
}

pub(super) fn a_diff_is_a_layer(driver: &dyn Driver) {
    let mut fixture = Fixture::new(driver, &image());
    fixture.prepare(&INIT, false);
    assert_eq!(entries(&packed(|out| driver.diff(KEY, out))).len(), 0, "nothing of the init layer");
    let tree = fixture.mount();
    change(&tree);
    drop(tree);
    let diff = packed(|out| driver.diff(KEY, out));
    let names: Vec<_> = entries(&diff).into_keys().collect();
    let expected = [
        ".wh.gone",
        "again/",
        "again/.wh.old",
        "again/sub/",
        "again/sub/.wh.old",
        "again/sub/new",
        "etc/",
        "etc/.wh.second",
        "etc/new",
        "etc/passwd",
        "removed",
        "same-length",
        "to-directory/",
        "to-directory/f",
        "to-file",
    ];
    assert_eq!(names, expected);
    good(driver.remove(KEY));

    fixture.push(&diff);
    let tree = fixture.view(&[]);
    assert_eq!(
        tree.names("."),
        ["again", "etc", "looked-into", "removed", "same-length", "to-directory", "to-file"]
    );
    assert_eq!(tree.names("again"), ["sub"]);
    assert_eq!(tree.names("again/sub"), ["new"]);
    assert_eq!(tree.names("etc"), ["new", "passwd", "untouched"]);
    assert_eq!(tree.text("etc/passwd"), "root and more");
    assert_eq!(tree.text("same-length"), "two");
    assert_eq!(tree.text("removed"), "back");
}

/// One of everything that a file system knows and an archive can say.
fn zoo(tree: &Tree, program: bool) {
    let path = |name: &str| tree.path(name);
    good(fs::write(path("one"), "content"));
    good(fs::hard_link(path("one"), path("two")));
    good(symlink("/nowhere/at all", path("link")));
    let nodes = [("null", FileType::CharacterDevice, makedev(1, 3)), ("pipe", FileType::Fifo, 0)];
    for (name, kind, device) in nodes {
        good(mknodat(CWD, path(name), kind, Mode::from_raw_mode(0o620), device));
    }
    good(fs::create_dir(path("sticky")));
    good(fs::set_permissions(path("sticky"), fs::Permissions::from_mode(0o1777)));
    good(fs::write(path("set-id"), "x"));
    good(chownat(
        CWD,
        path("set-id"),
        Some(Uid::from_raw(3_000_000_000)),
        Some(Gid::from_raw(4_000_000_000)),
        AtFlags::empty(),
    ));
    good(fs::set_permissions(path("set-id"), fs::Permissions::from_mode(0o6755)));
    let capability = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    good(rustix::fs::setxattr(path("one"), "security.capability", &capability, XattrFlags::empty()));
    // fuse-overlayfs 1.10 follows the link.
    let noted = if program { "null" } else { "link" };
    good(rustix::fs::lsetxattr(path(noted), "trusted.note", b"a\nb\0=c", XattrFlags::empty()));
    let mut sparse = good(fs::File::create(path("sparse")));
    good(sparse.write_all(b"start"));
    good(sparse.seek(SeekFrom::Start(30 << 20)));
    good(sparse.write_all(b"middle"));
    good(sparse.set_len(40 << 20));
    good(sparse.write_all_at(&[7; 8192], 35 << 20));
    drop(sparse);
    let long = format!("{}/{}", "d".repeat(200), "f".repeat(250));
    good(fs::create_dir(path(&"d".repeat(200))));
    good(fs::write(path(&long), "long"));
    good(fs::write(path("umlaut \u{e4}\n"), ""));
    let when = Timespec { tv_sec: 86_400, tv_nsec: 123_456_789 };
    let times = Timestamps { last_access: when, last_modification: when };
    for name in ["one", "link", "null", "sparse", "sticky"] {
        good(utimensat(CWD, path(name), &times, AtFlags::SYMLINK_NOFOLLOW));
    }
}

pub(super) fn archives_keep_everything(driver: &dyn Driver) {
    let mut fixture = Fixture::new(driver, &[tar(&[(file("base"), b"")])]);
    fixture.prepare(&[], false);
    let tree = fixture.mount();
    let program = driver.name().starts_with("fuse");
    zoo(&tree, program);
    drop(tree);
    let diff = packed(|out| driver.diff(KEY, out));
    assert!(diff.len() < 1 << 20, "holes stay holes: {}", diff.len());
    let entries = entries(&diff);
    let (one, _) = &entries["one"];
    assert_eq!((one.mtime.seconds, one.mtime.nanoseconds), (86_400, 123_456_789));
    assert_eq!(one.xattrs[&b"security.capability"[..]].len(), 20);
    let (two, _) = &entries["two"];
    assert_eq!((two.kind, &two.link[..]), (Kind::HardLink, &b"one"[..]));
    let (link, _) = &entries["link"];
    let (noted, _) = &entries[if program { "null" } else { "link" }];
    assert_eq!(
        (&link.link[..], &noted.xattrs[&b"trusted.note"[..]][..]),
        (&b"/nowhere/at all"[..], &b"a\nb\0=c"[..])
    );
    let (node, _) = &entries["null"];
    assert_eq!((node.kind, node.device, node.mode), (Kind::CharDevice, (1, 3), 0o600));
    let (set_id, _) = &entries["set-id"];
    assert_eq!((set_id.uid, set_id.gid, set_id.mode), (3_000_000_000, 4_000_000_000, 0o6755));
    let (sparse, content) = &entries["sparse"];
    assert_eq!((sparse.size, content.len(), &content[30 << 20..][..6]), (40 << 20, 40 << 20, &b"middle"[..]));
    assert_eq!(content[35 << 20..][..8193], [&[7; 8192][..], &[0]].concat());
    assert_eq!(entries["sticky/"].0.mode, 0o1777);
    good(driver.remove(KEY));

    // The same again, from the unpacked layer and from a container of it.
    fixture.push(&diff);
    let layer = packed(|out| driver.layer_tar(&fixture.chain, out));
    assert_eq!(self::entries(&layer), entries, "a layer again as an archive");
    fixture.prepare(&[], false);
    let mut export = self::entries(&packed(|out| driver.export(KEY, true, out)));
    assert!(export.remove("base").is_some());
    assert_eq!(export, entries, "everything exported");
    let tree = fixture.mount();
    assert!(good(tree.stat("sparse")).blocks() * 512 < 1 << 20, "holes stay holes on disk");
    assert_eq!(good(tree.stat("one")).ino(), good(tree.stat("two")).ino());
}

pub(super) fn layers_are_packed_with_their_marks(driver: &dyn Driver) {
    let lower = tar(&[(directory("d"), b""), (file("d/old"), b""), (file("f"), b"")]);
    let upper = tar(&[
        (Header { mode: 0o711, ..directory(".") }, b""),
        (directory("d"), b""),
        (file("d/.wh..wh..opq"), b""),
        (file("d/new"), b"new"),
        (file(".wh.f"), b""),
    ]);
    let mut fixture = Fixture::new(driver, &[lower, upper]);
    let again = packed(|out| driver.layer_tar(&fixture.chain, out));
    let entries = entries(&again);
    let names: Vec<_> = entries.keys().map(String::as_str).collect();
    // A driver of whole trees knows which names an opaque directory removed.
    let marks = [
        vec!["./", ".wh.f", "d/", "d/.wh..wh..opq", "d/new"],
        vec!["./", ".wh.f", "d/", "d/.wh.old", "d/new"],
    ];
    assert!(marks.contains(&names), "{names:?}");
    assert_eq!(entries["./"].0.mode, 0o711);
    good(driver.forget(&driver.layer_name(&fixture.chain)));
    fixture.chain.pop();
    fixture.push(&again);
    let tree = fixture.view(&[]);
    assert_eq!((tree.names("."), tree.names("d")), (vec!["d".to_owned()], vec!["new".to_owned()]));
}

pub(super) fn an_export_has_the_init_layer(driver: &dyn Driver) {
    let fixture = Fixture::new(driver, &[tar(&[(link(Kind::Symlink, "l", "etc"), b"")])]);
    fixture.prepare(&INIT, false);
    let names: Vec<_> = entries(&packed(|out| driver.export(KEY, true, out))).into_keys().collect();
    let expected =
        ["etc/", "etc/hosts", "etc/mtab", "l", "made/", "made/only/", "made/only/by/", "made/only/by/init/"];
    assert_eq!(names, expected);
    let names: Vec<_> = entries(&packed(|out| driver.export(KEY, false, out))).into_keys().collect();
    assert_eq!(names, ["l"], "without it");
}

/// A reader that goes away is an error of its own, and the driver stays well.
pub(super) fn a_receiver_may_fail(driver: &dyn Driver) {
    struct Full(usize);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(std::io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let fixture = Fixture::new(driver, &[tar(&[(file("f"), &[1; 5000])])]);
    fixture.prepare(&[], false);
    for room in [0, 600, 4000] {
        let error = driver.export(KEY, true, &mut Full(room)).err();
        assert!(matches!(&error, Some(crate::Error::Write(_))), "{error:?}");
    }
    let error = driver.diff("nobody", &mut Vec::new()).err();
    assert!(matches!(error, Some(crate::Error::Missing(_))));
    let usage = good(driver.layer_usage(&fixture.chain));
    assert!(usage.inodes == 1 && usage.bytes >= 5000, "{usage:?}");
}
