//! `AppArmor`: a profile that is asked for confines, also with privileges and what `exec` adds. Needs a kernel that has
//! it and `apparmor_parser`: `cargo xtask vm test`.

#![allow(missing_docs, clippy::unwrap_used)]

mod bundle;

use std::{
    fs,
    io::Write,
    process::{Command, Stdio},
};

use bundle::Bundle;
use serde_json::json;

/// A profile in the kernel, gone with the value.
struct Profile(String);

impl Profile {
    /// Everything is allowed but what `rules` deny.
    fn load(name: &str, rules: &str) -> Self {
        let profile = Self(format!("knarr-test-{name}-{}", std::process::id()));
        profile.parser("--replace", rules);
        profile
    }

    fn parser(&self, verb: &str, rules: &str) {
        let text = format!(
            "profile {} flags=(attach_disconnected,mediate_deleted) {{\n file, capability, network, mount, umount, \
             pivot_root, signal, ptrace, unix, dbus,\n {rules}\n}}\n",
            self.0
        );
        let mut parser = Command::new("apparmor_parser")
            .args([verb, "--skip-cache", "--quiet"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("apparmor_parser (package apparmor)");
        parser.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(parser.wait().unwrap().success(), "{text}");
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        self.parser("--remove", "");
    }
}

const LABEL: &str = "cat /proc/self/attr/current";

fn confined(profile: &Profile, script: &str) -> Bundle {
    let mut bundle = Bundle::sh(script);
    bundle.spec["process"]["apparmorProfile"] = json!(profile.0);
    bundle
}

#[test]
fn the_profile_is_the_label_and_what_it_denies_is_denied() {
    let profile = Profile::load("deny", "deny /secret r, deny /locked/** w,");
    for no_new_privileges in [false, true] {
        let mut bundle = confined(
            &profile,
            &format!(
                "{LABEL}; cat /secret; echo x > /locked/file; cat /open; echo x > /dev/shm/file && echo written"
            ),
        );
        bundle.spec["process"]["noNewPrivileges"] = json!(no_new_privileges);
        for file in ["secret", "open"] {
            fs::write(bundle.rootfs().join(file), format!("{file}\n")).unwrap();
        }
        fs::create_dir(bundle.rootfs().join("locked")).unwrap();
        let said = bundle.run();
        assert_eq!(said.out, format!("{} (enforce)\nopen\nwritten\n", profile.0), "{}", said.err);
        assert_eq!(said.err.matches("ermission denied").count(), 2, "{}", said.err);
        assert_eq!(fs::read_dir(bundle.rootfs().join("locked")).unwrap().count(), 0);
    }
}

#[test]
fn a_capability_that_is_given_is_denied_by_the_profile() {
    let profile = Profile::load("chown", "deny capability chown,");
    let said =
        confined(&profile, "touch /x; grep -c 000000000a80425fb /proc/self/status; chown 1:1 /x").run();
    assert_ne!(said.code, 0);
    assert!(said.err.contains("not permitted"), "{}{}", said.out, said.err);
}

#[test]
fn exec_is_confined_as_the_container_is_or_as_its_process_asks() {
    let profile = Profile::load("exec", "deny /secret r,");
    let other = Profile::load("other", "");
    let bundle = confined(&profile, "sleep 100");
    fs::write(bundle.rootfs().join("secret"), "secret\n").unwrap();
    bundle.start();
    let said = bundle.call_with(&["exec"], &["sh", "-c", &format!("{LABEL}; cat /secret")]);
    assert_eq!(said.out, format!("{} (enforce)\n", profile.0), "{}", said.err);
    assert!(said.err.contains("ermission denied"), "{}", said.err);
    let said =
        bundle.call_with(&["exec", "--apparmor", &other.0], &["sh", "-c", &format!("{LABEL}; cat /secret")]);
    assert_eq!(said.out, format!("{} (enforce)\nsecret\n", other.0), "{}", said.err);
    let process = bundle.path().join("process.json");
    let document =
        json!({ "args": ["sh", "-c", LABEL], "env": ["PATH=/bin"], "cwd": "/", "apparmorProfile": other.0 });
    fs::write(&process, document.to_string()).unwrap();
    let said = bundle.call(&["exec", "--process", process.to_str().unwrap()]);
    assert_eq!(said.out, format!("{} (enforce)\n", other.0), "{}", said.err);
}

#[test]
fn an_unknown_profile_is_a_clear_error() {
    let mut bundle = Bundle::sh("true");
    bundle.spec["process"]["apparmorProfile"] = json!("knarr-no-such-profile");
    let said = bundle.run();
    assert_ne!(said.code, 0);
    assert!(said.err.contains("knarr-no-such-profile"), "{}", said.err);
    bundle.assert_gone();
    let bundle = Bundle::sh("sleep 100");
    bundle.start();
    let said = bundle.call_with(&["exec", "--apparmor", "knarr-no-such-profile"], &["true"]);
    assert_ne!(said.code, 0);
    assert!(said.err.contains("knarr-no-such-profile"), "{}", said.err);
}

#[test]
fn unconfined_is_a_profile_like_others_and_without_one_the_callers_is_kept() {
    let mut bundle = Bundle::sh(LABEL);
    assert_eq!(bundle.output(), "unconfined");
    bundle.spec["process"]["apparmorProfile"] = json!("unconfined");
    assert_eq!(bundle.output(), "unconfined");
}
