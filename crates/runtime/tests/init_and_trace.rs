//! `docker-init`, `--trace`, `plan`.

#![allow(missing_docs, clippy::unwrap_used)]

mod bundle;

use std::{
    fs,
    os::unix::process::CommandExt,
    process::{Command, Stdio},
};

use bundle::{Bundle, is_ours};
use serde_json::json;

fn init(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_knarr-runtime"));
    command.arg0("/sbin/docker-init").args(args);
    command
}

#[test]
fn init_ends_as_its_program_ends() {
    assert_eq!(init(&["--", "sh", "-c", "exit 7"]).status().unwrap().code(), Some(7));
    assert_eq!(init(&["--", "sh", "-c", "kill -9 $$"]).status().unwrap().code(), Some(137));
    assert_eq!(init(&["--", "/no/such"]).stderr(Stdio::null()).status().unwrap().code(), Some(127));
    assert_eq!(init(&["--"]).stderr(Stdio::null()).status().unwrap().code(), Some(1));
}

#[test]
fn init_hands_signals_on_and_takes_orphans() {
    let mut bundle = Bundle::new(&[
        "/sbin/docker-init",
        "--",
        "sh",
        "-c",
        "trap 'echo got it; exit 3' TERM; (sleep 0.05 & exit); (sleep 0.05 & exit); sleep 0.2; echo $$; grep -c . /proc/[0-9]*/stat | wc -l; \
         grep -l 'State:.Z' /proc/[0-9]*/status; echo ready; while :; do sleep 0.05; done",
    ]);
    let own = env!("CARGO_BIN_EXE_knarr-runtime");
    bundle.spec["mounts"].as_array_mut().unwrap().push(
        json!({ "destination": "/sbin/docker-init", "type": "bind", "source": own, "options": ["bind", "ro"] }),
    );
    bundle.start();
    while !bundle.printed().contains("ready") {}
    assert_eq!(bundle.call_with(&["kill"], &["TERM"]).code, 0);
    bundle.await_status("stopped");
    let printed = bundle.printed();
    assert!(printed.ends_with("ready\ngot it\n"), "{printed}");
    assert!(!printed.contains("/status"), "zombies: {printed}");
}

#[test]
fn the_trace_tells_what_was_done() {
    if !is_ours() {
        return;
    }
    let bundle = Bundle::sh("true");
    fs::write(bundle.path().join("config.json"), bundle.spec.to_string()).unwrap();
    let trace = bundle.path().join("trace.json");
    let path = bundle.path().to_str().unwrap().to_owned();
    let mut create = bundle.command(&["--trace", trace.to_str().unwrap(), "create", "-b", &path]);
    // A pipe would stay open as long as the container.
    let status = create.arg(&bundle.id).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    assert!(status.success());
    let timeline: trace::Timeline = serde_json::from_slice(&fs::read(&trace).unwrap()).unwrap();
    let find = |what: &str| timeline.steps.iter().find(|step| step.what.starts_with(what)).expect(what);
    assert_eq!(find("mount proc on /proc").room, trace::Room::Init);
    assert!(find("mount tmpfs on /dev").details.iter().any(|(_, value)| value.contains("size=65536k")));
    assert_eq!(find("clone3").room, trace::Room::Runtime);
    find("make cgroup /sys/fs/cgroup/");
    find("pivot_root");
    let pid = bundle.state()["pid"].to_string();
    let seen = find("namespaces of");
    for (name, inode) in &seen.details {
        let link = fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
        assert!(link.to_str().unwrap().contains(inode.as_str()), "{name} {inode}");
    }
    assert!(timeline.steps.iter().all(|step| step.start > 0 && step.took < 10_000_000_000));
}

#[test]
fn the_plan_is_text() {
    if !is_ours() {
        return;
    }
    let mut bundle = Bundle::sh("true");
    bundle.spec["linux"]["namespaces"][1]["path"] = json!("/proc/self/ns/net");
    bundle.spec["process"]["capabilities"]["bounding"] = json!(["CAP_CHOWN", "CAP_FLY"]);
    fs::write(bundle.path().join("config.json"), bundle.spec.to_string()).unwrap();
    let path = bundle.path().to_str().unwrap().to_owned();
    let text = bundle.call(&["plan", "-b", &path]).out;
    for line in [
        "clone3 ipc uts pid mnt",
        "  join namespace net path=/proc/self/ns/net",
        "  create namespace cgroup",
        "  set hostname ship",
        "  mount sysfs on /sys source=sysfs options=ro,nosuid,nodev,noexec",
        "  make device /dev/null number=c 1:3 mode=0666 owner=0:0",
        "  mask /proc/keys",
        "  limit capabilities bounding=CHOWN",
        "  become 0:0 umask=0022",
        "warning: ignoring unknown capabilities: CAP_FLY",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    let at = |what: &str| text.lines().position(|line| line.contains(what)).unwrap();
    assert!(at("enter cgroups") < at("create namespace cgroup"));
    assert!(at("mask /proc/keys") < at("pivot_root"));
    assert!(at("close descriptors") < at("exec args"));
    assert!(!fs::exists(bundle.group("memory")).unwrap(), "a plan does nothing");
}
