//! `events`: what a container uses, and when memory runs out in it.

#![allow(missing_docs, clippy::unwrap_used)]

mod bundle;
mod groups;

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use bundle::{Bundle, is_ours, is_pure_v2};
use groups::await_that;
use serde_json::{Value, json};

/// The members of an object and of all in it, without the numbers.
fn members(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            map.iter().for_each(|(name, value)| members(value, &format!("{path}.{name}"), found));
        }
        Value::Array(list) if !list.is_empty() => members(&list[0], &format!("{path}[]"), found),
        Value::Number(_) => drop(found.insert(format!("{path} number"))),
        other => drop(found.insert(format!("{path} {other}"))),
    }
}

fn stats(bundle: &Bundle) -> Value {
    let said = bundle.call(&["events", "--stats"]);
    assert_eq!(said.code, 0, "{}", said.err);
    serde_json::from_str(&said.out).unwrap()
}

/// Uses some of everything that is counted.
const BUSY: &str =
    "i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); done; cat /bin/busybox > /copy; echo ready; sleep 100";

fn busy() -> Bundle {
    let mut bundle = Bundle::sh(BUSY);
    bundle.spec["linux"]["resources"]["memory"] = json!({ "limit": 64 << 20 });
    bundle.spec["linux"]["resources"]["pids"] = json!({ "limit": 9 });
    bundle
}

#[test]
fn numbers_are_what_was_used() {
    let bundle = busy();
    bundle.start();
    await_that("it is ready", || bundle.printed().contains("ready"));
    let event = stats(&bundle);
    assert_eq!((event["type"].as_str(), event["id"].as_str()), (Some("stats"), Some(bundle.id.as_str())));
    let at = |path: &str| event["data"].pointer(path).and_then(Value::as_u64).unwrap_or(0);
    assert!(at("/cpu/usage/total") > 1_000_000, "{event}");
    assert!(at("/memory/usage/usage") > 4096 && at("/memory/usage/limit") == 64 << 20, "{event}");
    assert_eq!((at("/pids/limit"), at("/pids/current")), (9, 1), "{event}");
}

/// As `runc events --stats` of Debian prints them for the same container.
#[test]
fn members_are_runcs() {
    if is_pure_v2() {
        return eprintln!("skipped: newer members of v2 are not in Debian's runc");
    }
    let (ours, mut theirs) = (busy(), busy());
    ours.start();
    await_that("it is ready", || ours.printed().contains("ready"));
    theirs.spec["linux"]["cgroupsPath"] = json!(format!("/knarr/{}-runc", theirs.id));
    std::fs::write(theirs.path().join("config.json"), theirs.spec.to_string()).unwrap();
    let runc = |words: &[&str]| {
        let mut command = Command::new("runc");
        command.arg("--root").arg(theirs.path().join("runc")).args(words);
        command
    };
    let out = std::fs::File::create(theirs.path().join("out")).unwrap();
    let mut run = runc(&["run", "--detach", "--bundle", theirs.path().to_str().unwrap(), &theirs.id]);
    let started = run.stdin(Stdio::null()).stdout(out).status().unwrap();
    assert!(started.success());
    await_that("it is ready", || theirs.printed().contains("ready"));
    let output = runc(&["events", "--stats", &theirs.id]).output().unwrap();
    assert!(runc(&["delete", "--force", &theirs.id]).status().unwrap().success());
    let (mut wanted, mut found) = (BTreeSet::new(), BTreeSet::new());
    members(&serde_json::from_slice::<Value>(&output.stdout).unwrap()["data"], "", &mut wanted);
    members(&stats(&ours)["data"], "", &mut found);
    // Zeros are left out, and what is zero depends on the moment; runc does not look at v2 beside v1, where this
    // machine has hugetlb.
    let fleeting = |name: &&String| {
        ["blkio", "throttling", "cache", "max number", "hugetlb"].iter().any(|part| name.contains(part))
    };
    let steady =
        |set: &BTreeSet<String>| set.iter().filter(|name| !fleeting(name)).cloned().collect::<BTreeSet<_>>();
    let (wanted, found) = (steady(&wanted), steady(&found));
    assert_eq!(found.difference(&wanted).collect::<Vec<_>>(), Vec::<&String>::new(), "only ours");
    assert_eq!(wanted.difference(&found).collect::<Vec<_>>(), Vec::<&String>::new(), "only runc's");
}

/// `events` in the background, line by line.
struct Events {
    child: Child,
    lines: Receiver<Value>,
}

impl Events {
    fn of(bundle: &Bundle, interval: &str) -> Self {
        let mut command = bundle.command(&["events", "--interval", interval]);
        let mut child = command.arg(&bundle.id).stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in out.lines() {
                let Ok(line) = line else { return };
                let _ = sender.send(serde_json::from_str(&line).unwrap());
            }
        });
        Self { child, lines }
    }

    fn next(&self) -> Value {
        self.lines.recv_timeout(Duration::from_secs(20)).expect("no event in 20 s")
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn running_out_of_memory_is_told() {
    let mut bundle = Bundle::sh(
        "until [ -e /go ]; do sleep 0.01; done; dd if=/dev/zero of=/dev/null bs=64M count=1; echo $?; sleep 100",
    );
    bundle.spec["linux"]["resources"]["memory"] = json!({ "limit": 16 << 20, "swap": 16 << 20 });
    bundle.start();
    let events = Events::of(&bundle, "20ms");
    assert_eq!(events.next()["type"], "stats");
    std::fs::write(bundle.rootfs().join("go"), "").unwrap();
    let told = loop {
        let event = events.next();
        if event["type"] != "stats" {
            break event;
        }
    };
    assert_eq!(told, json!({ "type": "oom", "id": bundle.id }));
    await_that("the process is killed", || bundle.printed().contains("137"));
}

#[test]
fn it_ends_with_the_container() {
    if !is_ours() {
        return eprintln!("skipped: runc's goes on while the group is there");
    }
    let bundle = Bundle::sh("sleep 100");
    bundle.start();
    let mut events = Events::of(&bundle, "10ms");
    for _ in 0..3 {
        assert_eq!(events.next()["type"], "stats");
    }
    assert_eq!(bundle.call_with(&["kill"], &["KILL"]).code, 0);
    await_that("events has ended", || events.child.try_wait().unwrap().is_some());
    assert!(events.child.wait().unwrap().success());
    assert_ne!(bundle.call(&["events", "--stats"]).code, 0);
    for wrong in ["0", "-1s", "5", "soon"] {
        assert_ne!(bundle.call(&["events", "--interval", wrong]).code, 0, "{wrong}");
    }
}
