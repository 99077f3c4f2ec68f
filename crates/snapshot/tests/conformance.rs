//! The overlay driver does what every driver must.

#[test]
fn overlay_conforms() {
    let root = tempfile::tempdir().expect("temporary directory");
    let driver = snapshot::open_overlay(root.path()).expect("open");
    snapshot::suite::run(&*driver);
    assert!(snapshot::open_overlay(root.path()).is_err(), "one process at a time");
}
