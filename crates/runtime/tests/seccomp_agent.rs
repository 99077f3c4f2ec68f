//! `SCMP_ACT_NOTIFY`: an agent outside decides on system calls.

#![allow(missing_docs, clippy::unwrap_used)]

mod bundle;

use std::{
    io::Write,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use bundle::Bundle;
use serde_json::{Value, json};

/// Takes listeners, one per connection; writes down what came with each; answers every notified call with errno 71
/// (EPROTO) for `mkdir`, and lets all others go on. Speaks the kernel's protocol itself, so that nothing of ours
/// judges ours.
const AGENT: &str = r#"
import array, ctypes, fcntl, json, os, select, socket, struct, sys
path, log = sys.argv[1:]
server = socket.socket(socket.AF_UNIX); server.bind(path); server.listen(8)
print("ready", flush=True)
listeners = []
while True:
    ready, _, _ = select.select([server] + listeners, [], [])
    for one in ready:
        if one is server:
            connection, _ = server.accept()
            text, fds = b"", array.array("i")
            while True:
                data, ancillary, _, _ = connection.recvmsg(65536, socket.CMSG_SPACE(16))
                for level, kind, body in ancillary:
                    if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS): fds.frombytes(body)
                if not data: break
                text += data
            with open(log, "a") as file:
                file.write(json.dumps({"fds": len(fds), "said": json.loads(text)}) + "\n")
            listeners += fds
            continue
        request = bytearray(80)
        try: fcntl.ioctl(one, 0xc0502100, request)
        except OSError:
            listeners.remove(one); os.close(one); continue
        number, = struct.unpack_from("i", request, 16)
        cookie, = struct.unpack_from("Q", request, 0)
        deny = number in (83, 258)
        answer = struct.pack("QqiI", cookie, 0, -71 if deny else 0, 0 if deny else 1)
        try: fcntl.ioctl(one, 0xc0182101, answer)
        except OSError: pass
"#;

struct Agent {
    child: Child,
}

impl Agent {
    fn start(socket: &Path, log: &Path) -> Self {
        let mut command = Command::new("/usr/bin/python3");
        command.args(["-c", AGENT]).arg(socket).arg(log).stdin(Stdio::null()).stderr(Stdio::inherit());
        let child = command.stdout(Stdio::null()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while !socket.exists() {
            assert!(Instant::now() < deadline, "the agent does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        Self { child }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Besides `mkdir`, calls that a runtime itself may need between filter and exec.
const ASKED: &[&str] = &[
    "mkdir", "mkdirat", "sendmsg", "sendto", "recvmsg", "recvfrom", "poll", "ppoll", "close", "capset",
    "execve", "futex", "read", "fcntl", "brk",
];

fn notifying(bundle: &mut Bundle, names: &[&str]) {
    bundle.spec["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64"],
        "flags": ["SECCOMP_FILTER_FLAG_LOG"],
        "listenerPath": bundle.path().join("agent.sock"),
        "listenerMetadata": "for the agent",
        "syscalls": [{ "names": names, "action": "SCMP_ACT_NOTIFY" }]
    });
}

fn told(bundle: &Bundle) -> Vec<Value> {
    let log = std::fs::read_to_string(bundle.path().join("agent.log")).unwrap_or_default();
    log.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn an_agent_decides_for_the_first_process_and_for_those_that_exec_adds() {
    for (names, no_new_privileges) in [(&["mkdir", "mkdirat"][..], true), (ASKED, true), (ASKED, false)] {
        let mut bundle = Bundle::sh("mkdir /x; sleep 100");
        notifying(&mut bundle, names);
        bundle.spec["process"]["noNewPrivileges"] = json!(no_new_privileges);
        let agent = Agent::start(&bundle.path().join("agent.sock"), &bundle.path().join("agent.log"));
        bundle.start();
        let added = bundle.call_with(&["exec"], &["mkdir", "/y"]);
        assert!(added.err.contains("Protocol error"), "{}", added.err);
        let deadline = Instant::now() + Duration::from_secs(10);
        while !std::fs::read_to_string(bundle.path().join("err")).unwrap().contains("Protocol error") {
            assert!(Instant::now() < deadline, "the first process's mkdir was not answered by the agent");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(!bundle.rootfs().join("x").exists() && !bundle.rootfs().join("y").exists());

        while told(&bundle).len() < 2 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        let (state, told) = (bundle.state(), told(&bundle));
        let [first, second] = told.as_slice() else { panic!("{told:?}") };
        for each in [first, second] {
            assert_eq!(each["fds"], 1);
            assert_eq!(each["said"]["fds"], json!(["seccompFd"]));
            assert_eq!(each["said"]["metadata"], "for the agent");
            assert_eq!(each["said"]["ociVersion"], state["ociVersion"]);
            assert_eq!(each["said"]["state"]["id"], bundle.id.as_str());
            assert_eq!(each["said"]["state"]["pid"], state["pid"]);
        }
        assert_eq!(first["said"]["pid"], state["pid"]);
        assert_ne!(second["said"]["pid"], state["pid"]);
        assert_eq!(second["said"]["state"]["status"], "running");
        drop(agent);
    }
}

#[test]
fn without_its_agent_nothing_runs() {
    let mut bundle = Bundle::sh("echo ran");
    notifying(&mut bundle, &["mkdir"]);
    let said = bundle.run();
    assert_ne!(said.code, 0);
    assert!(!said.out.contains("ran"), "{}", said.out);
    assert!(said.err.contains("agent.sock"), "{}", said.err);
    bundle.assert_gone();
}

#[test]
fn what_could_never_work_is_refused() {
    let refused = |change: &dyn Fn(&mut Value), word: &str| {
        let mut bundle = Bundle::sh("true");
        notifying(&mut bundle, &["mkdir"]);
        change(&mut bundle.spec["linux"]["seccomp"]);
        let said = bundle.run();
        assert!(said.code != 0 && said.err.contains(word), "{word}: {}", said.err);
        bundle.assert_gone();
    };
    refused(&|seccomp| seccomp["defaultAction"] = json!("SCMP_ACT_NOTIFY"), "default action");
    refused(&|seccomp| seccomp["syscalls"][0]["names"] = json!(["write"]), "write");
    refused(&|seccomp| seccomp["listenerPath"] = json!(""), "listenerPath");
    refused(&|seccomp| seccomp["architectures"] = json!(["SCMP_ARCH_Z80"]), "SCMP_ARCH_Z80");
    refused(&|seccomp| seccomp["flags"] = json!(["SECCOMP_FILTER_FLAG_NONE"]), "SECCOMP_FILTER_FLAG_NONE");
    std::io::stdout().flush().unwrap();
}

#[test]
fn every_flag_is_taken_by_the_kernel() {
    for notify in [false, true] {
        let mut bundle = Bundle::sh("grep Seccomp: /proc/self/status");
        notifying(&mut bundle, &["mkdir"]);
        bundle.spec["linux"]["seccomp"]["flags"] = json!([
            "SECCOMP_FILTER_FLAG_TSYNC",
            "SECCOMP_FILTER_FLAG_LOG",
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"
        ]);
        let agent =
            notify.then(|| Agent::start(&bundle.path().join("agent.sock"), &bundle.path().join("agent.log")));
        if !notify {
            bundle.spec["linux"]["seccomp"]["syscalls"][0]["action"] = json!("SCMP_ACT_ERRNO");
        }
        assert_eq!(bundle.output(), "Seccomp:\t2");
        // It writes when it has heard all.
        let deadline = Instant::now() + Duration::from_secs(10);
        while told(&bundle).len() < usize::from(notify) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(told(&bundle).len(), usize::from(notify), "an agent that is not asked is not told");
        drop(agent);
    }
}
