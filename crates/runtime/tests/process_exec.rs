//! What a process that is added to a container is given: by flags, by a file, and by the container itself.

#![allow(missing_docs, clippy::unwrap_used)]

mod bundle;

use std::{
    fs,
    process::{Command, Stdio},
};

use bundle::{Bundle, Said, is_ours, runtime};
use serde_json::json;

const WHO: &str = "id -u; id -g; id -G; umask; grep -E 'CapEff|CapBnd|NoNewPrivs' /proc/self/status";

fn run(bundle: &Bundle, flags: &[&str], script: &str) -> Said {
    bundle.call_with(&[&["exec"], flags].concat(), &["sh", "-c", script])
}

fn is(name: &str) -> bool {
    runtime().ends_with(name)
}

#[test]
fn users_groups_and_rights() {
    if is("crun") {
        return println!("SKIPPED under crun: its exec begins with root, not with the container's user");
    }
    let mut bundle = Bundle::sh("sleep 100");
    bundle.spec["process"]["user"] = json!({ "uid": 5, "gid": 6, "additionalGids": [7], "umask": 0o27 });
    bundle.start();
    let lines = |flags: &[&str]| {
        let said = run(&bundle, flags, WHO);
        assert_eq!(said.code, 0, "{flags:?}: {}", said.err);
        said.out.lines().map(|line| line.rsplit('\t').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let own = lines(&[]);
    // runc 1.1 forgets the mask.
    assert_eq!(own[..4], ["5", "6", "6 7", if is_ours() { "0027" } else { "0022" }]);
    assert_eq!(own[4..], ["0000000000000000", "00000000a80425fb", "0"]);
    assert_eq!(lines(&["--user", "9"])[..3], ["9", "6", "6 7"], "the group stays");
    assert_eq!(lines(&["--user", "9:10", "--additional-gids", "11"])[..3], ["9", "10", "10 7 11"]);
    let root = lines(&["--user", "0:0", "--cap", "CAP_SYS_TIME", "--no-new-privs"]);
    assert_eq!(root[4..], ["00000000aa0425fb", "00000000aa0425fb", "1"]);
}

#[test]
fn nobody_who_is_not_named_by_a_number() {
    let bundle = Bundle::sh("sleep 100");
    bundle.start();
    for user in [
        "-1",
        "+0",
        "4294967295",
        "4294967296",
        "18446744073709551616",
        "root",
        "",
        "0x0",
        " 0",
        "0 ",
        ":",
        ":0",
        "1:",
        "1:x",
        "1:2:3",
        "1:-1",
        "٣",
        "1000:0x",
        "0\n",
        "1e1",
    ] {
        let said = run(&bundle, &["--user", user], "id -u");
        // runc and crun read some of these as root: that is CVE-2026-30892 and its family.
        assert!(!is_ours() || said.code == 255 && said.out.is_empty(), "{user:?} became {}", said.out);
    }
    for gid in ["-1", "4294967295", "x", ""] {
        let said = run(&bundle, &["--additional-gids", gid], "id -G");
        assert!(!is_ours() || said.code == 255, "{gid:?} became {}", said.out);
    }
}

#[test]
fn the_containers_filter_and_limits_hold_for_it() {
    let mut bundle = Bundle::sh("sleep 100");
    bundle.spec["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1 }] });
    bundle.spec["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 77, "hard": 88 }]);
    bundle.spec["process"]["oomScoreAdj"] = json!(300);
    bundle.start();
    let said =
        run(&bundle, &[], "mkdir /x; grep 'open files' /proc/self/limits; cat /proc/self/oom_score_adj");
    assert!(said.err.contains("Operation not permitted"), "{}", said.err);
    if !is_ours() {
        return; // Go raises the soft limit (runc 1.1), and crun takes over neither.
    }
    let words: Vec<&str> = said.out.split_whitespace().collect();
    assert_eq!(words, ["Max", "open", "files", "77", "88", "files", "300"], "{}", said.err);
}

#[test]
fn all_of_a_process_from_a_file() {
    let bundle = Bundle::sh("sleep 100");
    bundle.start();
    let process = bundle.path().join("process.json");
    let exec = |document: serde_json::Value| {
        fs::write(&process, document.to_string()).unwrap();
        bundle.call(&["exec", "--process", process.to_str().unwrap()])
    };
    let script = format!("{WHO}; pwd; echo $A; ulimit -n");
    let said = exec(json!({
        "args": ["/bin/sh", "-c", script], "env": ["PATH=/bin", "A=1", "A=2"], "cwd": "/bin",
        "user": { "uid": 8, "gid": 9, "additionalGids": [10], "umask": 0o77 }, "noNewPrivileges": true,
        "capabilities": { "bounding": ["CAP_KILL"] }, "rlimits": [{ "type": "RLIMIT_NOFILE", "soft": 50, "hard": 50 }]
    }));
    let words: Vec<&str> = said.out.lines().map(|line| line.rsplit('\t').next().unwrap()).collect();
    let mask = if is("runc") { "0022" } else { "0077" };
    let expected = ["8", "9", "9 10", mask, "0000000000000000", "0000000000000020", "1", "/bin", "2", "50"];
    assert_eq!(words, expected, "{}", said.err);
    for wrong in
        [json!({}), json!({ "args": [], "cwd": "/" }), json!({ "args": ["sh"], "cwd": "bin" }), json!("x")]
    {
        let said = exec(wrong.clone());
        assert!(said.code != 0 || is("crun"), "{wrong}");
    }
    let missing = bundle.call(&["exec", "--process", "/no/such/file"]);
    assert!(missing.code != 0 && missing.err.contains("/no/such/file"), "{}", missing.err);
}

#[test]
fn descriptors_reach_it_only_when_they_are_counted() {
    let bundle = Bundle::sh("sleep 100");
    bundle.start();
    for (count, seen) in [("0", "no no\n"), ("1", "yes no\n"), ("2", "yes yes\n")] {
        let script = "for n in 3 4; do test -e /proc/self/fd/$n && w=yes || w=no; o=\"$o$w \"; done; echo $o";
        let call = bundle.command(&["exec", "--preserve-fds", count]);
        // Both are there for the runtime.
        let mut shell = Command::new("sh");
        shell.args(["-c", "exec \"$@\" 3</dev/zero 4</dev/zero", "sh"]).arg(call.get_program());
        shell.args(call.get_args()).arg(&bundle.id).args(["sh", "-c", script]);
        let said: Said = shell.output().unwrap().into();
        assert_eq!(said.out, seen, "{}", said.err);
    }
}

#[test]
fn a_paused_container_takes_one_only_when_told() {
    if is("crun") {
        return println!("SKIPPED under crun: it has no --ignore-paused");
    }
    let bundle = Bundle::sh("sleep 100");
    bundle.start();
    assert_eq!(bundle.call(&["pause"]).code, 0);
    let said = bundle.call_with(&["exec"], &["true"]);
    assert!(said.code == 255 && said.err.contains("paused"), "{}", said.err);
    // It is made in the frozen group, and stands still like everything there until that is thawed.
    let mut command = bundle.command(&["exec", "--ignore-paused"]);
    command.arg(&bundle.id).args(["echo", "thawed"]).stdout(Stdio::piped());
    let waiting = command.spawn().unwrap();
    assert_eq!(bundle.call(&["resume"]).code, 0);
    let said: Said = waiting.wait_with_output().unwrap().into();
    assert_eq!((said.code, said.out.as_str()), (0, "thawed\n"), "{}", said.err);
}

#[test]
fn labels_of_modules_that_the_host_does_not_run_are_refused() {
    if !is_ours() {
        return println!("SKIPPED under {}: it ignores them", runtime());
    }
    let modules = fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    let bundle = Bundle::sh("sleep 100");
    bundle.start();
    for (flag, module) in [("--apparmor", "apparmor"), ("--process-label", "selinux")] {
        if !modules.contains(module) {
            let said = run(&bundle, &[flag, "some-label"], "echo ran");
            assert!(said.code == 255 && said.out.is_empty() && said.err.contains(module), "{}", said.err);
        }
    }
}
