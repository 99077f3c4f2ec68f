//! A container's processes are saved and brought back by CRIU, where it works; else it is told why they are not.

#![allow(missing_docs, clippy::unwrap_used)]

mod bundle;

use std::{
    fs,
    process::{Command, Stdio},
};

use bundle::{Bundle, is_ours, until};
use serde_json::json;

/// Counts, and shows what is bound to `/given`.
fn counter() -> Bundle {
    let mut bundle = Bundle::sh("i=0; while :; do i=$((i+1)); echo $i $(cat /given); sleep 0.1; done");
    fs::write(bundle.path().join("first"), "first\n").unwrap();
    fs::write(bundle.path().join("second"), "second\n").unwrap();
    // The network is the host's: to save one of its own CRIU wants iptables, which is not ours to ask for.
    bundle.spec["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "network");
    bundle.spec["mounts"].as_array_mut().unwrap().retain(|mount| {
        let target = mount["destination"].as_str().unwrap();
        !target.starts_with("/sys") && target != "/dev/mqueue"
    });
    bind(&mut bundle, "first");
    bundle
}

/// The one bind of the bundle is of this file.
fn bind(bundle: &mut Bundle, name: &str) {
    let source = bundle.path().join(name);
    let mounts = bundle.spec["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| mount["type"] != "bind");
    mounts.push(
        json!({ "destination": "/given", "type": "bind", "source": source, "options": ["bind", "ro"] }),
    );
    bundle.write();
}

fn last(bundle: &Bundle) -> (u32, String) {
    let printed = bundle.printed();
    let line = printed.lines().last().unwrap_or_default();
    let (number, word) = line.split_once(' ').unwrap_or((line, ""));
    (number.parse().unwrap_or(0), word.to_owned())
}

#[test]
fn without_criu_it_is_named_and_the_container_goes_on() {
    if !is_ours() {
        return;
    }
    let bundle = counter();
    bundle.start();
    let images = bundle.path().join("images");
    let said =
        bundle.call(&["--criu", "/nonexistent/criu", "checkpoint", "--image-path", images.to_str().unwrap()]);
    assert_ne!(said.code, 0);
    assert!(said.err.contains("/nonexistent/criu") && said.err.contains("package criu"), "{}", said.err);
    for flag in [
        ["--lazy-pages"].as_slice(),
        &["--page-server", "h:1"],
        &["--status-fd", "3"],
        &["--manage-cgroups-mode", "full"],
    ] {
        let said = bundle.call(&[&["checkpoint"], flag].concat());
        assert!(
            said.code != 0 && said.err.contains(flag[0]) && said.err.contains("not supported"),
            "{}",
            said.err
        );
    }
    assert_eq!(bundle.status(), "running");
}

#[test]
fn what_is_saved_says_nothing_about_the_host() {
    if !is_ours() {
        return;
    }
    let bundle = counter();
    let images = bundle.path().join("images");
    fs::create_dir(&images).unwrap();
    for key in ["/etc/shadow", "file[1:2]:/etc", "tty[1:2]", ""] {
        fs::write(images.join("descriptors.json"), json!([key, key, key]).to_string()).unwrap();
        let said = bundle.call(&[
            "restore",
            "-d",
            "--image-path",
            images.to_str().unwrap(),
            "-b",
            bundle.path().to_str().unwrap(),
        ]);
        assert!(said.code != 0 && said.err.contains("is no descriptor's name"), "{}", said.err);
        bundle.assert_gone();
    }
}

#[test]
fn processes_are_saved_and_brought_back_into_what_the_bundle_says_now() {
    if !is_ours() {
        return;
    }
    let mut bundle = counter();
    bundle.start();
    until("it counts", || last(&bundle).0 > 3);
    let images = bundle.path().join("images");
    let path = images.to_str().unwrap().to_owned();
    let works = Command::new("criu").arg("check").output().expect("criu is needed").status.success();
    let said = bundle.call(&["checkpoint", "--image-path", &path]);
    if !works {
        // As Debian's 3.17 on a kernel later than 6.12.
        assert!(said.code != 0 && said.err.contains("criu dump failed, see "), "{}", said.err);
        assert_eq!(bundle.status(), "running");
        println!("skipped: criu does not work on this kernel: {}", said.err);
        return;
    }
    assert_eq!(said.code, 0, "{}", said.err);
    bundle.assert_gone();
    let (saved, word) = last(&bundle);
    assert_eq!(word, "first");
    // The config has changed meanwhile, and it is what counts.
    bundle.spec["annotations"] = json!({ "org.example.now": "yes" });
    bind(&mut bundle, "second");
    let out = fs::File::options().append(true).open(bundle.path().join("out")).unwrap();
    let err = fs::File::create(bundle.path().join("err")).unwrap();
    let mut command =
        bundle.command(&["restore", "-d", "--image-path", &path, "-b", bundle.path().to_str().unwrap()]);
    let status = command.arg(&bundle.id).stdin(Stdio::null()).stdout(out).stderr(err).status().unwrap();
    assert!(status.success(), "{}", fs::read_to_string(bundle.path().join("err")).unwrap());
    until("it goes on from where it was", || last(&bundle).0 > saved + 2);
    assert_eq!(last(&bundle).1, "second");
    let state = bundle.state();
    assert_eq!(
        (state["status"].as_str(), state["annotations"]["org.example.now"].as_str()),
        (Some("running"), Some("yes"))
    );
    let groups = fs::read_to_string(format!("/proc/{}/cgroup", state["pid"])).unwrap();
    assert!(groups.contains(&bundle.id), "{groups}");
    assert_eq!(bundle.call_with(&["exec"], &["true"]).code, 0);
    assert_eq!(bundle.call(&["delete", "--force"]).code, 0);
    bundle.assert_gone();
}
