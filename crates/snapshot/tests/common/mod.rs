//! What the tests share.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

/// Runs a program that must succeed.
#[track_caller]
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program} must be installed: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Names in a directory.
pub(crate) fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(path)
        .expect("list")
        .map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Waits until nothing is on its way in or out, but for the empty snapshots kept at hand.
#[track_caller]
pub(crate) fn wait_for_trash(root: &Path) {
    let start = Instant::now();
    let spare = |name: &String| names(&root.join("tmp").join(name)) == ["upper", "work"];
    loop {
        let (trash, staged) = (names(&root.join("trash")), names(&root.join("tmp")));
        if trash.is_empty() && staged.len() <= 4 && staged.iter().all(spare) {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "left: {trash:?} {staged:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Type, mode, owner, size, time, links and target of everything below a directory, by path.
pub(crate) fn listing(path: &Path) -> String {
    let format = "%P %y %m %U %G %s %T@ %n %l\\n";
    let path = path.to_str().expect("path");
    let all = run("find", &[path, "-mindepth", "1", "-not", "-type", "d", "-printf", format]);
    // The size of a directory depends on how it came to be, and so does its number of links.
    let directories =
        run("find", &[path, "-mindepth", "1", "-type", "d", "-printf", "%P %y %m %U %G %T@\\n"]);
    let mut lines: Vec<_> = all.lines().chain(directories.lines()).collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// The directory of a layer.
pub(crate) fn layer(root: &Path, digest: &oci::Digest) -> PathBuf {
    root.join("layers").join(digest.hex())
}
