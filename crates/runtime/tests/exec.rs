//! Processes added to a running container, and terminals.

#![allow(missing_docs, clippy::unwrap_used)]

mod bundle;

use std::{
    fs::File,
    io::{IoSliceMut, Read, Write},
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::net::UnixListener},
    path::Path,
    thread,
};

use bundle::{Bundle, is_ours};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::json;

#[test]
fn a_process_joins_everything() {
    let bundle = Bundle::sh("sleep 100");
    bundle.start();
    let script = "for n in pid net ipc uts mnt cgroup; do readlink /proc/self/ns/$n; done; hostname; cat /proc/self/cgroup;
        grep -E 'CapEff|CapBnd' /proc/self/status; readlink /proc/1/ns/mnt";
    let said = bundle.call_with(&["exec"], &["sh", "-c", script]);
    assert_eq!(said.code, 0, "{}", said.err);
    let lines: Vec<&str> = said.out.lines().collect();
    let pid = bundle.state()["pid"].to_string();
    for (name, line) in ["pid", "net", "ipc", "uts", "mnt", "cgroup"].iter().zip(&lines) {
        let theirs = std::fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
        assert_eq!(theirs.to_str().unwrap(), *line);
    }
    assert_eq!(lines[6], "ship");
    let mut groups = lines.iter().filter(|line| line.split(':').count() == 3 && !line.contains('\t'));
    let hierarchies = std::fs::read_to_string("/proc/self/cgroup").unwrap().lines().count();
    assert_eq!(groups.clone().count(), hierarchies, "{}", said.out);
    assert!(groups.all(|line| line.ends_with(":/")), "{}", said.out);
    assert!(said.out.contains("CapBnd:\t00000000a80425fb"), "{}", said.out);
}

#[test]
fn exit_codes_user_directory_and_environment() {
    let bundle = Bundle::sh("sleep 100");
    bundle.start();
    assert_eq!(bundle.call_with(&["exec"], &["sh", "-c", "exit 9"]).code, 9);
    assert_eq!(bundle.call_with(&["exec"], &["sh", "-c", "kill -9 $$"]).code, 137);
    let flags = ["exec", "--user", "1000:100", "--cwd", "/bin", "--env", "A=b"];
    let said =
        bundle.call_with(&flags, &["sh", "-c", "id -u; id -g; pwd; echo $A; ls /proc/self/fd | wc -l"]);
    assert_eq!(said.out, "1000\n100\n/bin\nb\n4\n", "{}", said.err);
    let missing = bundle.call_with(&["exec"], &["nosuch"]);
    assert_ne!(missing.code, 0);
    let told = missing.err.replace("\\\"", "\"");
    assert!(told.contains("exec: \"nosuch\": executable file not found in $PATH"), "{}", missing.err);
    if is_ours() {
        for user in ["-1", "+0", "4294967296", "4294967295", "root", "", "0x0", " 0"] {
            assert_ne!(bundle.call_with(&["exec", "--user", user], &["true"]).code, 0, "{user:?}");
        }
    }
}

#[test]
fn a_process_from_a_file_detached() {
    let bundle = Bundle::sh("sleep 100");
    bundle.start();
    let process = bundle.path().join("process.json");
    let document = json!({ "args": ["sh", "-c", "echo $X > /said; exec sleep 50"], "env": ["PATH=/bin", "X=y"], "cwd": "/",
        "user": { "uid": 0, "gid": 0 } });
    std::fs::write(&process, document.to_string()).unwrap();
    let pid_file = bundle.path().join("exec.pid");
    let flags = [
        "exec",
        "--process",
        process.to_str().unwrap(),
        "--detach",
        "--pid-file",
        pid_file.to_str().unwrap(),
    ];
    let mut call = bundle.command(&flags);
    // A pipe would stay open as long as the process.
    let status =
        call.arg(&bundle.id).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).status();
    assert!(status.unwrap().success());
    let pid: i64 = std::fs::read_to_string(&pid_file).unwrap().parse().unwrap();
    let pids: Vec<i64> = serde_json::from_str(&bundle.call(&["ps", "--format", "json"]).out).unwrap();
    assert!(pids.contains(&pid), "{pids:?} {pid}");
    let said = bundle.rootfs().join("said");
    while std::fs::read_to_string(&said).unwrap_or_default() != "y\n" {}
    assert_eq!(bundle.call(&["delete", "--force"]).code, 0);
    bundle.assert_gone();
}

#[test]
fn a_stopped_container_takes_no_process() {
    let bundle = Bundle::sh("true");
    bundle.start();
    bundle.await_status("stopped");
    let said = bundle.call_with(&["exec"], &["true"]);
    assert_ne!(said.code, 0);
    assert!(said.err.contains("stopped"), "{}", said.err);
}

/// Waits for a terminal at a console socket.
fn console(path: &Path) -> thread::JoinHandle<OwnedFd> {
    let listener = UnixListener::bind(path).unwrap();
    thread::spawn(move || {
        let (connection, _) = listener.accept().unwrap();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut name = [0; 256];
        let got =
            recvmsg(&connection, &mut [IoSliceMut::new(&mut name)], &mut control, RecvFlags::CMSG_CLOEXEC)
                .unwrap();
        assert!(got.bytes > 0, "a name comes with the descriptor");
        let mut messages = control.drain();
        messages
            .find_map(|message| match message {
                RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
                _ => None,
            })
            .unwrap()
    })
}

/// All that a terminal says until its other ends are closed.
fn drain(terminal: &mut File) -> String {
    let mut all = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(length @ 1..) = terminal.read(&mut buffer) {
        all.extend_from_slice(&buffer[..length]);
    }
    String::from_utf8_lossy(&all).replace("\r\n", "\n")
}

#[test]
fn a_terminal_comes_over_the_console_socket() {
    let script = "tty; stty size; stat -c %t /dev/console; id -u; read line; echo got $line";
    let mut bundle = Bundle::sh(script);
    bundle.spec["process"]["terminal"] = json!(true);
    bundle.spec["process"]["consoleSize"] = json!({ "height": 33, "width": 77 });
    bundle.spec["process"]["user"]["uid"] = json!(1000);
    let socket = bundle.path().join("console.sock");
    let terminal = console(&socket);
    let created = bundle.create_with(&["--console-socket", socket.to_str().unwrap()]);
    assert_eq!(created.code, 0, "{}", created.err);
    let mut terminal = File::from(terminal.join().unwrap());
    assert_eq!(bundle.call(&["start"]).code, 0);
    terminal.write_all(b"typed\n").unwrap();
    let said = drain(&mut terminal);
    for line in ["/dev/pts/0", "33 77", "88", "1000", "got typed"] {
        assert!(said.lines().any(|found| found == line), "{line}: {said}");
    }
}

#[test]
fn exec_has_a_terminal_too() {
    let bundle = Bundle::sh("sleep 100");
    bundle.start();
    let socket = bundle.path().join("console.sock");
    let terminal = console(&socket);
    let flags = ["exec", "--tty", "--detach", "--console-socket", socket.to_str().unwrap()];
    let mut call = bundle.command(&flags);
    let status = call.arg(&bundle.id).args(["sh", "-c", "tty; echo done"]).status().unwrap();
    assert!(status.success());
    let mut terminal = File::from(terminal.join().unwrap());
    assert_eq!(drain(&mut terminal), "/dev/pts/0\ndone\n");
}

#[test]
fn what_fails_ends_with_runcs_codes() {
    let bundle = Bundle::sh("sleep 100");
    bundle.start();
    let refused = |words: &[&str], more: &[&str], code: i32| {
        let said = bundle.call_with(words, more);
        assert_eq!(said.code, code, "{words:?} {more:?}: {}", said.err);
    };
    for program in ["nosuch", "/nosuch", "/bin"] {
        refused(&["exec"], &[program], 255);
    }
    refused(&["exec", "--cwd", "/nosuch"], &["true"], 255);
    refused(&["exec", "--tty", "--detach"], &["true"], 255);
    for words in [&["start"][..], &["create", "-b", "/"], &["delete"]] {
        refused(words, &[], 1);
    }
    refused(&["kill"], &["NOPE"], 1);
    for words in [&["state"][..], &["start"], &["kill"], &["delete"], &["pause"], &["resume"], &["ps"]] {
        let said: bundle::Said = bundle.command(words).arg("nosuch").output().unwrap().into();
        assert_eq!(said.code, 1, "{words:?}: {}", said.err);
    }
    let gone: bundle::Said = bundle.command(&["delete", "--force", "nosuch"]).output().unwrap().into();
    assert_eq!(gone.code, 0, "{}", gone.err);
    assert_eq!(bundle.call_with(&["kill"], &["KILL"]).code, 0);
    bundle.await_status("stopped");
    refused(&["exec"], &["true"], 255);
    refused(&["kill"], &["KILL"], 1);
}
