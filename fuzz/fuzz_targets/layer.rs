//! Any bytes are unpacked inside a directory, or refused and nothing is left; beside it lies a canary. Run as root, on a
//! machine that is yours.
#![no_main]

use std::{fs, path::PathBuf, sync::OnceLock};

use libfuzzer_sys::fuzz_target;
use snapshot::Driver;

struct Range {
    _base: tempfile::TempDir,
    canary: PathBuf,
    driver: Box<dyn Driver>,
}

fn range() -> &'static Range {
    static RANGE: OnceLock<Range> = OnceLock::new();
    RANGE.get_or_init(|| {
        let base = tempfile::tempdir_in("/dev/shm").expect("memory");
        let canary = base.path().join("canary");
        fs::create_dir(&canary).expect("canary");
        fs::write(canary.join("f"), "untouched").expect("canary");
        let driver = snapshot::open_driver("overlay", &base.path().join("root"), &[]).expect("overlay");
        Range { _base: base, canary, driver }
    })
}

fuzz_target!(|bytes: &[u8]| {
    let range = range();
    let chain = [snapshot::suite::digest(1)];
    let applied = range.driver.apply(&chain, &mut &bytes[..]);
    assert_eq!(range.driver.has(&chain), applied.is_ok());
    if applied.is_ok() {
        let mut again = Vec::new();
        range.driver.layer_tar(&chain, &mut again).expect("what was unpacked can be packed");
        range.driver.forget(&range.driver.layer_name(&chain)).expect("removed");
    }
    assert_eq!(fs::read_to_string(range.canary.join("f")).expect("canary"), "untouched");
    assert_eq!(fs::read_dir(&range.canary).expect("canary").count(), 1);
});
