//! What a container can reach as the runtime's program cannot be written to, ever (CVE-2019-5736).

#![allow(missing_docs, clippy::unwrap_used)]

mod bundle;

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::fd::{AsFd, AsRawFd},
    path::Path,
    process::{Command, Stdio},
};

use bundle::{Bundle, is_ours};
use rustix::{
    fs::{Mode, OFlags, open},
    io::Errno,
    mount::{OpenTreeFlags, open_tree},
};
use sys::mounts::{MountAttributes, set_attributes};

fn call(program: &Path, bundle: &Bundle, words: &[&str]) {
    let mut command = Command::new(program);
    command.arg("--root").arg(bundle.path().join("state")).args(words).arg(&bundle.id);
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    assert!(status.success(), "{words:?}");
}

/// The attack, with root's powers on the host and all the time it wants: more than any container has.
#[test]
fn nobody_writes_to_the_runtime_through_a_process_of_it() {
    if !is_ours() {
        println!("skipped: what others seal themselves by differs");
        return;
    }
    let bundle = Bundle::sh("true");
    fs::write(bundle.path().join("config.json"), bundle.spec.to_string()).unwrap();
    // One of our own: a program that others run cannot be written to anyway.
    let program = bundle.path().join("runtime");
    fs::copy(bundle::runtime(), &program).unwrap();
    let before = fs::read(&program).unwrap();
    let path = bundle.path().display().to_string();
    call(&program, &bundle, &["create", "-b", &path]);
    let pid = bundle.state()["pid"].as_i64().unwrap();
    let handle = open(format!("/proc/{pid}/exe"), OFlags::PATH, Mode::empty()).unwrap();
    call(&program, &bundle, &["delete", "--force"]);

    let again = format!("/proc/self/fd/{}", handle.as_raw_fd());
    assert_eq!(fs::read(&again).unwrap().len(), before.len(), "the handle is on the runtime's program");
    for truncate in [false, true] {
        // Where writing is refused only at the first byte, it is a copy.
        let written = OpenOptions::new().write(true).truncate(truncate).open(&again);
        let written = written.and_then(|mut file| file.write_all(b"#!/escape"));
        assert!(written.is_err(), "written, truncated first: {truncate}");
    }
    let copy =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    assert_eq!(open_tree(&handle, c"", copy).err(), Some(Errno::INVAL), "it is copied");
    let writable = MountAttributes { set: 0, clear: 1, propagation: 0, id_map: None };
    assert!(set_attributes(handle.as_fd(), false, writable).is_err(), "it is made writable");
    assert_eq!(fs::read(&program).unwrap(), before);
    // By its own name it is an ordinary file: nothing but the seal stood in the way.
    File::options().append(true).open(&program).unwrap().write_all(b"x").unwrap();
}
