//! Hooks: where, when and with what each kind runs, and what becomes of the container when one fails.

#![allow(missing_docs, clippy::unwrap_used)]

mod bundle;

use std::{
    fs,
    path::PathBuf,
    thread::sleep,
    time::{Duration, Instant},
};

use bundle::{Bundle, is_ours, runtime};
use serde_json::{Value, json};

const KINDS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

fn shell(script: &str) -> Value {
    json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"] })
}

fn is_runc() -> bool {
    runtime().ends_with("runc")
}

fn is_crun() -> bool {
    runtime().ends_with("crun")
}

/// Where a hook writes to: outside, or within the container.
fn notes(bundle: &Bundle, kind: &str) -> PathBuf {
    if kind == "startContainer" { bundle.rootfs().join(kind) } else { bundle.path().join(kind) }
}

fn noting(bundle: &Bundle, kind: &str) -> Value {
    let outside = bundle.path().join(kind).display().to_string();
    let to = if kind == "startContainer" { "/startContainer".to_owned() } else { outside };
    shell(&format!("{{ cat; echo; readlink /proc/self/ns/mnt; pwd; umask; }} > {to}"))
}

#[test]
fn each_sees_its_state_from_its_place() {
    let mut bundle = Bundle::sh("readlink /proc/self/ns/mnt");
    bundle.spec["annotations"] = json!({ "ship.load": "wood" });
    let hooks: serde_json::Map<String, Value> =
        KINDS.iter().map(|kind| ((*kind).to_owned(), json!([noting(&bundle, kind)]))).collect();
    bundle.spec["hooks"] = hooks.into();
    let inside = bundle.output();
    let host = fs::read_link("/proc/self/ns/mnt").unwrap().display().to_string();
    for kind in KINDS {
        let noted =
            fs::read_to_string(notes(&bundle, kind)).unwrap_or_else(|error| panic!("{kind}: {error}"));
        let mut lines = noted.lines();
        let state: Value = serde_json::from_str(lines.next().unwrap()).unwrap();
        assert_eq!(state["id"], json!(bundle.id), "{kind}");
        let bundled = state["bundle"] == json!(bundle.path().to_str().unwrap());
        assert!(bundled || is_crun() && kind == "startContainer", "{kind}: {state}");
        assert_eq!(state["annotations"]["ship.load"], "wood", "{kind}");
        let status = match kind {
            "startContainer" => "created",
            "poststart" => "running",
            "poststop" => "stopped",
            _ => "creating",
        };
        // crun 1.8 says created before it is, and runc runs poststart before the start.
        assert!(!is_ours() || state["status"] == status, "{kind}: {state}");
        assert!(!is_ours() || kind == "poststop" || state["pid"].as_i64().unwrap() > 0, "{kind}: {state}");
        let within = matches!(kind, "createContainer" | "startContainer");
        assert_eq!(lines.next(), Some(if within { inside.as_str() } else { host.as_str() }), "{kind}");
        let directory = lines.next().unwrap();
        let expected = if within { "/" } else { bundle.path().to_str().unwrap() };
        assert!(!is_ours() || kind == "createContainer" || directory == expected, "{kind}: {directory}");
        assert_eq!(lines.next(), Some("0022"), "{kind}");
    }
    bundle.assert_gone();
}

#[test]
fn they_run_in_order_and_stop_at_the_first_that_fails() {
    let mut bundle = Bundle::sh("echo ran");
    let all = bundle.path().join("all");
    let say = |what: &str| shell(&format!("echo {what} >> {}", all.display()));
    bundle.spec["hooks"] = json!({
        "poststop": [say("poststop1"), shell("exit 3"), say("poststop2")],
        "createRuntime": [say("runtime1"), say("runtime2")],
        "prestart": [say("prestart1"), say("prestart2")],
        "createContainer": [say("container")],
    });
    let said = bundle.run();
    assert_eq!((said.code, said.out.as_str()), (0, "ran\n"), "{}", said.err);
    let order = "prestart1 prestart2 runtime1 runtime2 container poststop1 poststop2";
    let noted = fs::read_to_string(&all).unwrap();
    let noted = noted.split_whitespace().collect::<Vec<_>>().join(" ");
    // runc and crun stop at a poststop hook that fails, where the spec goes on.
    assert!(if is_ours() { noted == order } else { order.starts_with(&noted) }, "{noted}");
    assert!(!is_ours() || said.err.contains("poststop hook /bin/sh: exit status 3"), "{}", said.err);
    bundle.assert_gone();
}

#[test]
fn one_that_fails_undoes_the_container() {
    for kind in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart"] {
        if is_crun() && kind == "poststart" {
            continue; // crun 1.8 goes on, as the spec said until 1.2.
        }
        let mut bundle = Bundle::sh("echo ran; sleep 100");
        let after = bundle.path().join("after");
        let last = bundle.path().join("last");
        let touch = |path: &PathBuf| shell(&format!("echo > {}", path.display()));
        let fail = shell("echo why >&2; exit 7");
        bundle.spec["hooks"] = json!({ kind: [fail, touch(&after)], "poststop": [touch(&last)] });
        let said = bundle.run();
        assert_ne!(said.code, 0, "{kind}");
        let inside = bundle.rootfs().join(after.strip_prefix("/").unwrap());
        assert!(!after.exists() && !inside.exists(), "{kind}: the next one ran");
        assert!(said.out.is_empty() || kind == "poststart", "{kind}: {}", said.out);
        if is_ours() {
            let told = format!("{kind} hook /bin/sh: exit status 7: why");
            assert!(said.err.contains(&told), "{kind}: {}", said.err);
            assert!(last.exists(), "{kind}: poststop did not run");
            bundle.assert_gone();
        }
    }
}

#[test]
fn what_fails_at_the_start_stops_a_created_container() {
    for kind in ["startContainer", "poststart"] {
        if is_runc() && kind == "poststart" {
            continue; // There it runs, and fails, while the container is made.
        }
        let mut bundle = Bundle::sh("sleep 100");
        bundle.spec["hooks"] = json!({ kind: [shell("exit 7")] });
        assert_eq!(bundle.create().code, 0);
        let said = bundle.call(&["start"]);
        // The others have told `start` before they know.
        if is_ours() {
            assert_ne!(said.code, 0, "{kind}");
            assert!(said.err.contains(&format!("{kind} hook /bin/sh: exit status 7")), "{}", said.err);
            bundle.await_status("stopped");
            assert_eq!(bundle.call(&["delete"]).code, 0);
            bundle.assert_gone();
        }
    }
}

#[test]
fn environment_and_arguments_are_exact() {
    let mut bundle = Bundle::sh("true");
    let to = bundle.path().join("exact");
    let program =
        format!("tr '\\0' '\\n' < /proc/self/environ > {}; echo $0 $* >> {}", to.display(), to.display());
    bundle.spec["hooks"] = json!({ "createRuntime": [
        { "path": "/bin/busybox", "args": ["sh", "-c", program, "zero", "one"], "env": ["B=2", "A=1", "B=3", "C="] }
    ] });
    let said = bundle.run();
    assert_eq!(said.code, 0, "{}", said.err);
    let noted = fs::read_to_string(&to).unwrap();
    if is_ours() {
        assert_eq!(noted, "B=2\nA=1\nB=3\nC=\nzero one\n");
    }
    assert!(noted.ends_with("zero one\n") && noted.contains("A=1\n"), "{noted}");
    // Without any, there is none: runc hands on its own instead.
    bundle.spec["hooks"]["createRuntime"][0].as_object_mut().unwrap().remove("env");
    bundle.run();
    assert!(!is_ours() || fs::read_to_string(&to).unwrap() == "zero one\n");
}

#[test]
fn a_state_that_nobody_reads_and_a_child_that_stays() {
    let mut bundle = Bundle::sh("true");
    bundle.spec["annotations"] = json!({ "long": "x".repeat(1 << 20) });
    let pid = bundle.path().join("pid");
    // It keeps the hook's streams, but the hook has ended.
    let stays = shell(&format!("sleep 100 & echo $! > {}", pid.display()));
    bundle.spec["hooks"] = json!({ "createRuntime": [shell("true"), stays] });
    if !is_ours() {
        bundle.spec["hooks"]["createRuntime"].as_array_mut().unwrap().pop(); // They wait for the streams.
    }
    let said = bundle.run();
    assert_eq!(said.code, 0, "{}", said.err);
    if let Ok(pid) = fs::read_to_string(&pid) {
        let pid: i32 = pid.trim().parse().unwrap();
        assert!(alive(pid));
        sys::process::kill(pid, 9).unwrap();
    }
}

fn alive(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn time_runs_out_for_the_hook_and_what_it_started() {
    let mut bundle = Bundle::sh("echo ran");
    let pid = bundle.path().join("pid");
    let started = if is_ours() { "sleep 100 & echo $! > $P; wait" } else { "echo $$ > $P; exec sleep 100" };
    let mut slow = shell(&started.replace("$P", pid.to_str().unwrap()));
    slow["timeout"] = json!(1);
    bundle.spec["hooks"] = json!({ "prestart": [slow] });
    let said = bundle.run();
    assert!(said.code != 0 && said.out.is_empty(), "{}", said.out);
    let pid: i32 = fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    while is_ours() && alive(pid) {
        assert!(Instant::now() < deadline, "what the hook started lives on");
        sleep(Duration::from_millis(5));
    }
    let _ = sys::process::kill(pid, 9);
    assert!(!is_ours() || said.err.contains("did not end in 1 s"), "{}", said.err);
    bundle.assert_gone();
}

#[test]
fn hooks_that_cannot_be_are_refused_before_anything_is_done() {
    if !is_ours() {
        return println!("SKIPPED under {}: it finds out when it runs them", runtime());
    }
    for (hook, fault) in [
        (json!({ "path": "bin/sh" }), "hooks.poststop[0].path: \"bin/sh\" must be absolute"),
        (json!({ "path": "" }), "hooks.poststop[0].path"),
        (json!({ "path": "/bin/sh", "timeout": 0 }), "hooks.poststop[0].timeout"),
        (json!({ "path": "/bin/sh", "timeout": -1 }), "invalid value"),
        (json!({ "path": "/bin/sh", "args": ["a\0b"] }), "NUL"),
    ] {
        let mut bundle = Bundle::sh("echo ran");
        bundle.spec["hooks"] = json!({ "poststop": [hook] });
        let said = bundle.run();
        assert!(said.code != 0 && said.out.is_empty() && said.err.contains(fault), "{}", said.err);
        bundle.assert_gone();
    }
    let mut bundle = Bundle::sh("true");
    bundle.spec["hooks"] = json!({ "createRuntime": [{ "path": "/no/such/hook" }] });
    let said = bundle.run();
    assert!(
        said.err.contains("createRuntime hook /no/such/hook: exit status 127: No such file"),
        "{}",
        said.err
    );
    bundle.assert_gone();
}
