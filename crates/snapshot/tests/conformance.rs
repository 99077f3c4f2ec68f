//! Every driver does what every driver must. Each in a mount namespace of its own, so that nothing it mounts is left.

#![allow(clippy::unwrap_used, reason = "helpers of tests, too, fail by panicking")]

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use snapshot::{Choice, Error, Prepare, open, open_driver, suite};

#[test]
fn overlay_conforms() {
    let root = tempfile::tempdir().unwrap();
    let driver = open_driver("overlay", root.path(), &[]).unwrap();
    suite::run(&*driver);
    assert!(open_driver("overlay", root.path(), &[]).is_err(), "one process at a time");
}

#[test]
fn vfs_conforms() {
    let root = tempfile::tempdir().unwrap();
    suite::run(&*open_driver("vfs", root.path(), &[]).unwrap());
}

/// Where nothing is shared and attributes of users may be missing.
#[test]
fn vfs_conforms_in_memory() {
    let root = tempfile::tempdir_in("/dev/shm").unwrap();
    suite::run(&*open_driver("vfs", root.path(), &[]).unwrap());
}

#[test]
fn fuse_overlayfs_conforms() {
    elsewhere("fuse", "exec \"$@\"");
}

/// On a file in memory.
#[test]
fn btrfs_conforms() {
    elsewhere("btrfs", &image("mkfs.btrfs -q", "btrfs", "defaults"));
}

#[test]
fn sizes_are_limited_by_xfs() {
    if kernel_has("CONFIG_XFS_QUOTA=y") {
        elsewhere("size", &image("mkfs.xfs -q", "xfs", "prjquota"));
    }
}

#[test]
fn sizes_are_limited_by_ext4() {
    if kernel_has("CONFIG_QFMT_V2=y") {
        elsewhere("size", &image("mkfs.ext4 -q -O quota,project -E quotatype=prjquota", "ext4", "prjquota"));
    }
}

/// A kernel that does not say how it was built is taken for one that has everything, as distributions' kernels do.
fn kernel_has(option: &str) -> bool {
    let config = Command::new("zcat").arg("/proc/config.gz").output().expect("zcat");
    let has = !config.status.success()
        || String::from_utf8_lossy(&config.stdout).lines().any(|line| line == option);
    if !has {
        eprintln!("SKIPPED: this kernel was built without {option}");
    }
    has
}

/// A file system of its own on `$KNARR_TEST_ROOT`; the kernel frees its loop device with the last mount.
fn image(make: &str, kind: &str, options: &str) -> String {
    format!(
        "set -e; d=$(mktemp -d /dev/shm/knarr-XXXXXX); trap \"rm -rf $d\" EXIT; truncate -s 400M $d/image; {make} $d/image; \
         mount -t {kind} -o loop,{options} $d/image \"$KNARR_TEST_ROOT\"; rm -r $d; exec \"$@\""
    )
}

/// Runs [`child`] as `what` in a mount namespace that `script` furnishes.
fn elsewhere(what: &str, script: &str) {
    let base = tempfile::tempdir().unwrap();
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "child", "--nocapture"])
        .env("KNARR_TEST_ROOT", base.path())
        .env("KNARR_TEST_WHAT", what)
        .stdin(Stdio::null())
        .output()
        .expect("unshare");
    let said = [&output.stdout[..], &output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}

#[test]
#[ignore = "started by the tests above"]
fn child() {
    let root = PathBuf::from(std::env::var_os("KNARR_TEST_ROOT").expect("started by hand"));
    match &*std::env::var("KNARR_TEST_WHAT").unwrap() {
        "fuse" => suite::run(&*open_driver("fuse-overlayfs", &root, &[]).unwrap()),
        "btrfs" => {
            suite::run(&*open_driver("btrfs", &root.join("driver"), &[]).unwrap());
            is_limited("btrfs", &root.join("limited"));
        }
        "size" => is_limited("overlay", &root),
        other => panic!("{other}"),
    }
}

/// Each container by its own limit, or by the driver's; what is removed is free again.
fn is_limited(name: &str, root: &Path) {
    let options = [("size".to_owned(), "40M".to_owned())];
    let driver = open_driver(name, root, &options).unwrap();
    for (key, size, fits, exceeds) in [("own", Some(8 << 20), 4, 12), ("usual", None, 20, 60)] {
        let ids = oci::IdMap::IDENTITY;
        driver.prepare(key, &Prepare { chain: &[], init: &[], ids: &ids, volatile: false, size }).unwrap();
        let mounted = suite::assemble(&driver.mounts(key).unwrap()[0]).unwrap();
        let write = |megabytes: usize| {
            let file = std::fs::File::create(mounted.path().join("f"))?;
            (0..megabytes).try_for_each(|_| std::io::Write::write_all(&mut &file, &vec![7; 1 << 20]))?;
            file.sync_all()
        };
        write(fits).unwrap();
        let error = write(exceeds).unwrap_err();
        let full = [std::io::ErrorKind::QuotaExceeded, std::io::ErrorKind::StorageFull];
        assert!(full.contains(&error.kind()), "{error}");
        drop(mounted);
        driver.remove(key).unwrap();
    }
}

#[test]
fn sizes_without_quota_are_refused() {
    let root = tempfile::tempdir_in("/dev/shm").unwrap();
    for name in ["overlay", "vfs"] {
        let driver = open_driver(name, &root.path().join(name), &[]).unwrap();
        let ids = oci::IdMap::IDENTITY;
        let request = Prepare { chain: &[], init: &[], ids: &ids, volatile: false, size: Some(1 << 20) };
        let error = driver.prepare("key", &request).unwrap_err();
        assert!(error.to_string().starts_with("--storage-opt size is "), "{error}");
        assert_eq!(driver.snapshots().unwrap(), Vec::<String>::new());
    }
}

#[test]
fn a_root_belongs_to_one_driver() {
    let root = tempfile::tempdir().unwrap();
    let choose = |driver: Option<&str>, options: &[(&str, &str)]| {
        let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let choice = Choice { driver: driver.map(str::to_owned), options: options.collect() };
        open(root.path(), &choice).map(|driver| driver.name())
    };
    let refused = |result: Result<&'static str, Error>| result.unwrap_err().to_string();
    assert_eq!(choose(None, &[]).unwrap(), "overlay", "the best that works");
    assert_eq!(choose(Some("overlay2"), &[]).unwrap(), "overlay");
    assert!(
        refused(choose(Some("aufs"), &[]))
            .starts_with("there is no storage driver \"aufs\"; there are: overlay, ")
    );
    assert!(refused(choose(Some("btrfs"), &[])).contains("needs a data root on btrfs"));
    assert!(refused(choose(None, &[("dm.basesize", "1G")])).contains("\"dm.basesize\" is not known"));
    assert!(refused(choose(None, &[("overlay2.size", "much")])).contains("invalid size"));
    open_driver("vfs", &root.path().join("vfs"), &[])
        .unwrap()
        .apply(&[suite::digest(1)], &mut &suite::tar(&[])[..])
        .unwrap();
    assert_eq!(choose(None, &[]).unwrap(), "vfs", "what is there decides");
    let why = refused(choose(Some("overlay"), &[]));
    assert!(why.contains("was made by the storage driver vfs"), "{why}");
}
