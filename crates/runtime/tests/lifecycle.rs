//! create, start, state, kill, delete, run: what a runtime's caller relies on. Also meant for other runtimes:
//! `RUNTIME=runc cargo test -p knarr-runtime`.

#![allow(missing_docs, clippy::unwrap_used)]

mod bundle;

use std::fs;

use bundle::{Bundle, is_ours};
use serde_json::json;

#[test]
fn a_container_goes_from_created_to_deleted() {
    let bundle = Bundle::sh("echo hello; exit 7");
    let pid_file = bundle.path().join("pid");
    let created = bundle.create_with(&["--pid-file", pid_file.to_str().unwrap()]);
    assert_eq!(created.code, 0, "{}", created.err);
    let state = bundle.state();
    assert_eq!(state["status"], "created");
    assert_eq!(state["id"], bundle.id.as_str());
    assert_eq!(state["bundle"], bundle.path().to_str().unwrap());
    assert_eq!(fs::read_to_string(&pid_file).unwrap(), state["pid"].to_string());
    assert_eq!(bundle.printed(), "");

    assert_eq!(bundle.call(&["start"]).code, 0);
    bundle.await_status("stopped");
    assert_eq!(bundle.printed(), "hello\n");
    assert_eq!(bundle.state()["pid"], 0);
    assert_ne!(bundle.call(&["start"]).code, 0, "started twice");
    assert_eq!(bundle.call(&["delete"]).code, 0);
    bundle.assert_gone();
    let again = bundle.call(&["state"]);
    assert_ne!(again.code, 0);
    assert!(again.err.contains("does not exist"), "{}", again.err);
}

#[test]
fn a_running_container_is_not_deleted_without_force() {
    let bundle = Bundle::sh("sleep 100");
    bundle.start();
    assert_eq!(bundle.status(), "running");
    let refused = bundle.call(&["delete"]);
    assert_ne!(refused.code, 0);
    assert!(refused.err.contains("is not stopped"), "{}", refused.err);
    assert_eq!(bundle.call(&["delete", "--force"]).code, 0);
    bundle.assert_gone();
}

#[test]
fn an_id_is_taken_once_and_is_a_plain_name() {
    let bundle = Bundle::sh("sleep 100");
    bundle.start();
    let refused = bundle.create();
    assert_ne!(refused.code, 0);
    assert!(refused.err.contains("exist"), "{}", refused.err);
    assert_eq!(bundle.status(), "running");
    for id in ["../x", "a/b", "", "."] {
        assert_ne!(bundle.command(&["state", id]).output().unwrap().status.code(), Some(0), "{id}");
    }
}

#[test]
fn exit_codes_and_signals_come_back() {
    assert_eq!(Bundle::sh("exit 0").run().code, 0);
    assert_eq!(Bundle::sh("exit 42").run().code, 42);
    let bundle = Bundle::sh("trap 'echo got it; exit 3' TERM; echo ready; while :; do sleep 0.05; done");
    bundle.start();
    while bundle.printed() != "ready\n" {}
    assert_eq!(bundle.call_with(&["kill"], &["TERM"]).code, 0);
    bundle.await_status("stopped");
    assert_eq!(bundle.printed(), "ready\ngot it\n");
    let refused = bundle.call_with(&["kill"], &["KILL"]);
    assert_ne!(refused.code, 0);
    assert!(refused.err.contains("not running"), "{}", refused.err);
}

#[test]
fn run_leaves_nothing_behind() {
    let bundle = Bundle::sh("sleep 100 & sleep 100 & exit 5");
    assert_eq!(bundle.run().code, 5);
    bundle.assert_gone();
}

#[test]
fn a_create_that_fails_leaves_nothing_behind() {
    let mut bundle = Bundle::sh("true");
    bundle.spec["mounts"].as_array_mut().unwrap().push(json!({
        "destination": "/data", "type": "bind", "source": "/no/such/directory", "options": ["bind"]
    }));
    let refused = bundle.create();
    assert_ne!(refused.code, 0);
    assert!(refused.err.contains("/no/such/directory"), "{}", refused.err);
    bundle.assert_gone();
}

#[test]
fn pause_stops_and_resume_continues() {
    let bundle = Bundle::sh("while :; do echo tick; sleep 0.01; done");
    bundle.start();
    assert_eq!(bundle.call(&["pause"]).code, 0);
    assert_eq!(bundle.status(), "paused");
    let printed = bundle.printed();
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert_eq!(bundle.printed(), printed);
    assert_eq!(bundle.call(&["resume"]).code, 0);
    assert_eq!(bundle.status(), "running");
    while bundle.printed() == printed {}
}

#[test]
fn missing_programs_are_told_in_dockers_words() {
    let wordings = [
        ("nosuch", "exec: \"nosuch\": executable file not found in $PATH"),
        ("/nosuch", "exec: \"/nosuch\": stat /nosuch: no such file or directory"),
        ("/bin", "exec: \"/bin\": permission denied"),
        ("/plain", "exec: \"/plain\": permission denied"),
        ("./nosuch", "exec: \"./nosuch\": stat ./nosuch: no such file or directory"),
    ];
    for (program, wording) in wordings {
        let bundle = Bundle::new(&[program]);
        fs::write(bundle.rootfs().join("plain"), "").unwrap();
        let log = bundle.path().join("log");
        let bundle_path = bundle.path().to_str().unwrap().to_owned();
        fs::write(bundle.path().join("config.json"), bundle.spec.to_string()).unwrap();
        let flags = ["--log", log.to_str().unwrap(), "--log-format", "json", "create", "-b", &bundle_path];
        let refused = bundle.call(&flags);
        assert_ne!(refused.code, 0);
        assert!(refused.err.contains(wording), "{program}: {}", refused.err);
        let line = fs::read_to_string(&log).unwrap();
        let line: serde_json::Value = serde_json::from_str(line.lines().last().unwrap()).unwrap();
        assert_eq!(line["level"], "error");
        assert!(line["msg"].as_str().unwrap().contains(wording), "{line}");
        assert!(line["time"].is_string());
        bundle.assert_gone();
    }
}

#[test]
fn a_missing_interpreter_is_told_when_it_is_started() {
    let bundle = Bundle::new(&["/script"]);
    let script = bundle.rootfs().join("script");
    fs::write(&script, "#!/no/such\n").unwrap();
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    assert_eq!(bundle.create().code, 0);
    let started = bundle.call(&["start"]);
    let wording = "exec /script: no such file or directory";
    if is_ours() {
        assert_ne!(started.code, 0);
        assert!(started.err.contains(wording), "{}", started.err);
    } else {
        bundle.await_status("stopped");
        assert!(fs::read_to_string(bundle.path().join("err")).unwrap().contains(wording));
    }
}

#[test]
fn features_and_list_are_json() {
    let bundle = Bundle::sh("sleep 100");
    bundle.start();
    let listed = bundle.command(&["list", "--format", "json"]).output().unwrap();
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed[0]["id"], bundle.id.as_str());
    assert_eq!(listed[0]["status"], "running");
    let pids: Vec<i64> = serde_json::from_str(&bundle.call(&["ps", "--format", "json"]).out).unwrap();
    assert!(pids.contains(&bundle.state()["pid"].as_i64().unwrap()));
    let features = bundle.command(&["features"]).output().unwrap();
    let features: serde_json::Value = serde_json::from_slice(&features.stdout).unwrap();
    assert_eq!(features["linux"]["seccomp"]["enabled"], true);
}
