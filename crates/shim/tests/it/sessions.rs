//! Exec sessions, and clients that die.

use std::{
    io::{Read, Write},
    process::{Command, Stdio},
};

use oci::spec::ConsoleSize;
use shim::{
    client::Client,
    protocol::{Reply, Request, STDIN, Streams},
    wire,
};

use crate::common::{ALL, Bundle, collect, done, exit_event, expect, process, refused};

fn exec(name: &str, script: &str, attach: Option<Streams>) -> Request {
    Request::Exec { session: name.into(), process: Box::new(process(script)), stdin: true, attach }
}

#[track_caller]
fn begin(client: &mut Client, request: &Request) -> i32 {
    match client.ask(request).unwrap() {
        Reply::Exec { pid } => pid,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_session_has_its_own_streams_and_code() {
    let mut shim = Bundle::sh("sleep 100").create();
    assert!(refused(&mut shim.client(), &exec("early", "true", None)).contains("not started"));
    shim.start();
    let mut watcher = shim.watch();
    let mut client = shim.client();
    let pid = begin(&mut client, &exec("one", "echo first; cat; echo error >&2; exit 5", Some(ALL)));
    assert!(pid > 0);
    assert!(refused(&mut shim.client(), &exec("one", "true", None)).contains("exists already"));
    client.write_stdin(b"typed\n").unwrap();
    client.close_stdin().unwrap();
    assert_eq!(collect(&mut client), (b"first\ntyped\n".to_vec(), b"error\n".to_vec()));
    assert_eq!(exit_event(&mut watcher, Some("one")).code, 5);
    let state = shim.state();
    assert_eq!(state.sessions.len(), 1);
    assert_eq!((state.sessions[0].pid, state.sessions[0].exit.unwrap().code), (pid, 5));

    let mut client = shim.client();
    begin(&mut client, &exec("two", "sleep 100", None));
    done(&mut client, &Request::Signal { session: Some("two".into()), signal: 15 });
    assert_eq!(exit_event(&mut watcher, Some("two")).code, 143);
    assert!(
        refused(&mut client, &Request::Attach { session: Some("two".into()), streams: ALL })
            .contains("has ended")
    );
    assert!(
        refused(&mut client, &Request::Attach { session: Some("no".into()), streams: ALL })
            .contains("not known")
    );
    assert_eq!(shim.log(), [], "sessions are not logged");
    shim.signal(9);
    shim.exit();
}

#[test]
fn a_session_with_a_terminal() {
    let mut shim = Bundle::sh("sleep 100").create();
    shim.start();
    let mut process = process("stty size; read line; stty size; exit 6");
    process.terminal = true;
    process.console_size = Some(ConsoleSize { height: 5, width: 6 });
    let request =
        Request::Exec { session: "tty".into(), process: Box::new(process), stdin: true, attach: Some(ALL) };
    let mut watcher = shim.watch();
    let mut client = shim.client();
    begin(&mut client, &request);
    expect(&mut client, "\r\n");
    let size = ConsoleSize { height: 40, width: 132 };
    done(&mut shim.client(), &Request::Resize { session: Some("tty".into()), size });
    client.write_stdin(b"\n").unwrap();
    expect(&mut client, "40 132\r\n");
    assert_eq!(exit_event(&mut watcher, Some("tty")).code, 6);
    shim.signal(9);
    shim.exit();
}

#[test]
fn a_session_that_cannot_begin_says_why() {
    let mut shim = Bundle::sh("sleep 100").create();
    shim.start();
    let mut bad = process("");
    bad.args = vec!["/no/such/program".into()];
    let request =
        Request::Exec { session: "bad".into(), process: Box::new(bad), stdin: false, attach: Some(ALL) };
    let mut client = shim.client();
    let message = refused(&mut client, &request);
    assert!(message.contains("/no/such/program"), "{message}");
    assert!(matches!(client.ask(&Request::State).unwrap(), Reply::State(_)), "it takes requests again");
    assert!(shim.state().sessions.is_empty());
}

#[test]
fn sessions_at_the_same_time_and_the_last_hundred_are_kept() {
    let mut shim = Bundle::sh("sleep 100").create();
    shim.start();
    let mut watcher = shim.watch();
    for round in 0..15 {
        let mut clients: Vec<_> = (0..8).map(|_| shim.client()).collect();
        for (number, client) in clients.iter_mut().enumerate() {
            client.send(&exec(&format!("s{round}-{number}"), &format!("exit {number}"), None)).unwrap();
        }
        for client in &mut clients {
            assert!(matches!(client.reply().unwrap(), Reply::Exec { .. }));
        }
    }
    let mut codes = vec![0; 8];
    for _ in 0..120 {
        let shim::protocol::Event::Exited { exit, .. } = watcher.event().unwrap() else { panic!() };
        codes[exit.code as usize] += 1;
    }
    assert_eq!(codes, [15; 8]);
    assert_eq!(shim.state().sessions.len(), 100);
    shim.signal(9);
    shim.exit();
}

#[test]
fn sessions_end_with_the_container() {
    let mut shim = Bundle::sh("sleep 100").create();
    shim.start();
    let mut client = shim.client();
    begin(&mut client, &exec("left", "sleep 100", Some(ALL)));
    let mut watcher = shim.watch();
    shim.signal(9);
    assert_eq!(exit_event(&mut watcher, Some("left")).code, 137);
    assert_eq!(collect(&mut client), (vec![], vec![]));
    assert_eq!(shim.exit().code, 137);
}

/// Another process is attached and killed; the container goes on, and so does the next client.
#[test]
fn a_killed_client_is_only_a_client_that_left() {
    let mut shim = Bundle::sh("while read line; do echo got $line; done").stdin().create();
    shim.start();
    let socket = shim.bundle.path().join("shim.sock");
    let mut other = Command::new("socat")
        .args(["STDIO", &format!("UNIX-CONNECT:{}", socket.display())])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("apt-get install socat");
    let attach = wire::message(&Request::Attach { session: None, streams: ALL }).unwrap();
    let typed = [&wire::frame_header(STDIN, 4)[..], b"one\n"].concat();
    other.stdin.as_mut().unwrap().write_all(&[attach, typed].concat()).unwrap();
    let mut answer = vec![0; wire::message(&Reply::Done).unwrap().len() + wire::FRAME_HEADER + 8];
    other.stdout.as_mut().unwrap().read_exact(&mut answer).unwrap();
    assert!(answer.ends_with(b"got one\n"));
    other.kill().unwrap();
    other.wait().unwrap();

    let mut client = shim.attach(ALL);
    client.write_stdin(b"two\n").unwrap();
    expect(&mut client, "got two");
    client.close_stdin().unwrap();
    assert_eq!(shim.exit().code, 0);
}
