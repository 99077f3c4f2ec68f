//! Real trees, full disks, crashes.

#![allow(clippy::unwrap_used, reason = "helpers of tests, too, fail by panicking")]

mod common;

use std::{
    fs,
    io::{Read, Seek, SeekFrom, Write},
    os::unix::{fs::MetadataExt, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use oci::IdMap;
use rustix::fs::XattrFlags;
use snapshot::{
    InitEntry, InitKind, Prepare,
    suite::{digest, directory, file, tar},
};

/// Links of both kinds, deep directories, and one of everything that tar knows to keep.
fn source(base: &Path) -> PathBuf {
    let source = base.join("source");
    common::run("cp", &["-a", "/usr/share/zoneinfo", source.to_str().unwrap()]);
    let flags = XattrFlags::empty();
    rustix::fs::setxattr(source.join("Europe"), "user.note", b"kept\n", flags).unwrap();
    let mut sparse = fs::File::create(source.join("sparse")).unwrap();
    sparse.set_len(40 << 20).unwrap();
    sparse.seek(SeekFrom::End(0)).unwrap();
    sparse.write_all(b"end").unwrap();
    fs::hard_link(source.join("sparse"), source.join("again")).unwrap();
    common::run("mkfifo", &["-m", "0620", source.join("pipe").to_str().unwrap()]);
    source
}

/// GNU tar's own comparison finds no difference.
#[test]
fn a_system_s_files_are_unpacked_as_tar_would() {
    let base = tempfile::tempdir().unwrap();
    let source = source(base.path());
    let driver = snapshot::open_driver("overlay", &base.path().join("root"), &[]).unwrap();
    let archive = base.path().join("archive.tar");
    let ways = ["gnu", "pax --xattrs", "pax --sparse --xattrs", "gnu --sparse"];
    for (number, way) in ways.iter().enumerate() {
        let way = format!("--format={way}");
        let mut command = vec!["-C", source.to_str().unwrap(), "-cf", archive.to_str().unwrap()];
        command.extend(way.split(' '));
        command.push(".");
        common::run("tar", &command);
        let digest = digest(number as u32);
        driver.apply(std::slice::from_ref(&digest), &mut fs::File::open(&archive).unwrap()).unwrap();
        let layer = common::layer(&base.path().join("root"), &digest);
        common::run("tar", &["--xattrs", "-C", layer.to_str().unwrap(), "-df", archive.to_str().unwrap()]);
        if way.contains("pax") {
            assert_eq!(common::listing(&source), common::listing(&layer), "{way}");
            let mut note = [0; 16];
            let length = rustix::fs::getxattr(layer.join("Europe"), "user.note", &mut note[..]).unwrap();
            assert_eq!(&note[..length], b"kept\n");
        }
        if way.contains("sparse") {
            assert!(fs::metadata(layer.join("sparse")).unwrap().blocks() < 100, "holes stay holes");
        }
    }
}

/// The other half of the test below, in a process of its own.
#[test]
#[ignore = "started by the test of crashes"]
fn child_that_applies_its_input() {
    let root = PathBuf::from(std::env::var_os("KNARR_TEST_ROOT").expect("started by hand"));
    let driver = snapshot::open_driver("overlay", &root, &[]).unwrap();
    driver.apply(&[digest(1)], &mut std::io::stdin()).unwrap();
}

#[test]
fn a_killed_unpacking_leaves_nothing() {
    let base = tempfile::tempdir().unwrap();
    let root = base.path().join("root");
    let entries: Vec<_> = (0..500).map(|number| (file(&format!("f{number}")), &b"content"[..])).collect();
    let layer = tar(&entries);
    for kept in [layer.len() / 3, layer.len() / 2, layer.len()] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "child_that_applies_its_input"])
            .env("KNARR_TEST_ROOT", &root)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.as_mut().unwrap().write_all(&layer[..kept]).unwrap();
        let started = Instant::now();
        let many = |staged: fs::DirEntry| fs::read_dir(staged.path()).is_ok_and(|names| names.count() > 100);
        let enough =
            || fs::read_dir(root.join("tmp")).is_ok_and(|mut tmp| tmp.any(|staged| many(staged.unwrap())));
        while !enough() {
            assert!(started.elapsed() < Duration::from_secs(10), "the child does not unpack");
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        let driver = snapshot::open_driver("overlay", &root, &[]).unwrap();
        assert_eq!(driver.layers().unwrap(), Vec::<String>::new());
        common::wait_for_trash(&root);
    }
}

/// In a mount namespace of its own, on a file system of 2 MB.
#[test]
#[ignore = "started by the test of full disks"]
fn child_on_a_full_disk() {
    let root = PathBuf::from(std::env::var_os("KNARR_TEST_ROOT").expect("started by hand"));
    let driver = snapshot::open_driver("overlay", &root, &[]).unwrap();
    let big = vec![7; 3 << 20];
    let layer = tar(&[(directory("d"), b""), (file("d/small"), b"x"), (file("d/big"), &big)]);
    let error = driver.apply(&[digest(1)], &mut &layer[..]).unwrap_err();
    assert_eq!(error.to_string(), "write d/big: No space left on device (os error 28)");
    assert!(!driver.has(&[digest(1)]));
    common::wait_for_trash(&root);
    let fits = tar(&[(file("fits"), &big[..1 << 20])]);
    driver.apply(&[digest(1)], &mut &fits[..]).unwrap();
}

#[test]
fn a_full_disk_is_an_error_that_names_the_file() {
    let base = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=2m tmpfs \"$KNARR_TEST_ROOT\" && exec \"$@\"";
    let status = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "child_on_a_full_disk"])
        .env("KNARR_TEST_ROOT", base.path())
        .stdout(Stdio::null())
        .status()
        .expect("unshare");
    assert!(status.success());
}

/// After a crash of the machine a volatile snapshot is empty again; others keep what they have.
#[test]
fn volatile_snapshots_do_not_outlive_the_boot() {
    let base = tempfile::tempdir().unwrap();
    let root = base.path();
    let driver = snapshot::open_driver("overlay", root, &[]).unwrap();
    for (key, volatile) in [("volatile", true), ("kept", false)] {
        driver
            .prepare(key, &Prepare { chain: &[], init: &[], ids: &IdMap::IDENTITY, volatile, size: None })
            .unwrap();
        fs::write(root.join("snapshots").join(key).join("upper/f"), "x").unwrap();
    }
    let snapshot = root.join("snapshots/volatile");
    let mut mark = [0; 128];
    let length = rustix::fs::getxattr(&snapshot, "trusted.knarr.init", &mut mark[..]).unwrap();
    let (init, _) = std::str::from_utf8(&mark[..length]).unwrap().split_once(' ').unwrap();
    let other = format!("{init} another");
    rustix::fs::setxattr(&snapshot, "trusted.knarr.init", other.as_bytes(), XattrFlags::REPLACE).unwrap();
    for (key, left) in [("volatile", 0), ("kept", 1)] {
        let mount = &driver.mounts(key).unwrap()[0];
        assert_eq!(mount.options.contains(&"volatile".to_owned()), key == "volatile");
        drop(snapshot::suite::assemble(mount).unwrap());
        assert_eq!(driver.usage(key).unwrap().inodes, left, "{key}");
    }
}

/// A layer that the disk may not have yet is known as such, and does not outlive a crash of the machine.
#[test]
fn doubtful_layers_are_unpacked_again() {
    const MARK: &str = "trusted.knarr.unsettled";
    let base = tempfile::tempdir().unwrap();
    let layer = tar(&[(file("f"), &vec![1; 100_000])]);
    let path = |number| common::layer(base.path(), &digest(number));
    let marked = |number| rustix::fs::getxattr(path(number), MARK, &mut [0; 64][..]).is_ok();
    {
        let driver = snapshot::open_driver("overlay", base.path(), &[]).unwrap();
        for number in 0..2 {
            driver.apply(&[digest(number)], &mut &layer[..]).unwrap();
        }
        let start = Instant::now();
        while marked(0) || marked(1) {
            assert!(start.elapsed() < Duration::from_mins(1), "never synced");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    rustix::fs::setxattr(path(0), MARK, b"another boot", XattrFlags::empty()).unwrap();
    let driver = snapshot::open_driver("overlay", base.path(), &[]).unwrap();
    assert!(!driver.has(&[digest(0)]) && driver.has(&[digest(1)]));
    driver.apply(&[digest(0)], &mut &layer[..]).unwrap();
    assert!(driver.has(&[digest(0)]));
}

/// Unpacked in parallel, also the same layer twice at once; opened again, all is there.
#[test]
fn layers_are_unpacked_side_by_side() {
    let base = tempfile::tempdir().unwrap();
    {
        let driver = snapshot::open_driver("overlay", base.path(), &[]).unwrap();
        std::thread::scope(|scope| {
            for number in 0..8_u32 {
                let driver = &driver;
                scope.spawn(move || {
                    let layer = tar(&[(file(&format!("f{}", number / 2)), &vec![1; 100_000])]);
                    driver.apply(&[digest(number / 2)], &mut &layer[..]).unwrap();
                });
            }
        });
    }
    let driver = snapshot::open_driver("overlay", base.path(), &[]).unwrap();
    assert_eq!(driver.layers().unwrap().len(), 4);
    common::wait_for_trash(base.path());
}

/// Figures, for people: `cargo test --release -p knarr-snapshot --test real -- --ignored --nocapture figures`,
/// with `KNARR_TEST_TAR` an archive.
#[test]
#[ignore = "a measurement"]
fn figures() {
    let archive = PathBuf::from(std::env::var_os("KNARR_TEST_TAR").expect("KNARR_TEST_TAR"));
    let target = std::env::var_os("KNARR_TEST_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let base = tempfile::tempdir_in(target).unwrap();
    let mut whole = Vec::new();
    fs::File::open(&archive).unwrap().read_to_end(&mut whole).unwrap();
    rustix::fs::sync();
    let driver = snapshot::open_driver("overlay", &base.path().join("root"), &[]).unwrap();
    let start = Instant::now();
    let applied = driver.apply(&[digest(1)], &mut &whole[..]).unwrap();
    println!("apply {:?} {applied:?}", start.elapsed());
    tar_figure(&archive, &base.path().join("tar"));
    let init = [InitEntry { path: "/etc/hosts", kind: InitKind::File }];
    let chain = [digest(1)];
    let request = Prepare { chain: &chain, init: &init, ids: &IdMap::IDENTITY, volatile: false, size: None };
    let verbs: [&dyn Fn(&str); 3] =
        [&|key| driver.prepare(key, &request).unwrap(), &|key| drop(driver.mounts(key).unwrap()), &|key| {
            driver.remove(key).unwrap();
        }];
    let mut times = verbs.map(|verb| {
        let time = |number| {
            let start = Instant::now();
            verb(&format!("c{number}"));
            start.elapsed()
        };
        (0..200).map(time).collect::<Vec<_>>()
    });
    for (name, times) in ["prepare", "mounts", "remove"].iter().zip(&mut times) {
        println!("{name}: first {:?}", times[0]);
        times.sort();
        println!("{name}: median {:?}, 99% {:?}", times[100], times[198]);
    }
}

fn tar_figure(archive: &Path, into: &Path) {
    fs::create_dir(into).unwrap();
    for sync in [false, true] {
        rustix::fs::sync();
        let start = Instant::now();
        common::run(
            "tar",
            &[
                "--xattrs",
                "--xattrs-include=*",
                "-C",
                into.to_str().unwrap(),
                "-xpf",
                archive.to_str().unwrap(),
            ],
        );
        if sync {
            common::run("sync", &["-f", into.to_str().unwrap()]);
        }
        println!("tar -x, synced: {sync}: {:?}", start.elapsed());
        fs::remove_dir_all(into).unwrap();
        fs::create_dir(into).unwrap();
    }
}
