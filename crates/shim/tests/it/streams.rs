//! Standard streams: to clients and to the log.

use std::{fs, time::Duration};

use oci::spec::ConsoleSize;
use shim::protocol::{Log, Request, STDOUT, Streams};

use crate::common::{ALL, Bundle, collect, done, eventually, expect, log_of, refused};

const OUTPUT: Streams = Streams { stdin: false, stdout: true, stderr: true };

#[test]
fn input_is_echoed_and_ends_when_it_is_closed() {
    let mut shim = Bundle::sh("cat; echo end").stdin().create();
    let mut client = shim.attach(ALL);
    shim.start();
    client.write_stdin(b"hello\n").unwrap();
    expect(&mut client, "hello\n");
    // A client that leaves closes nothing.
    drop(client);
    let mut client = shim.attach(ALL);
    client.write_stdin(b"again\n").unwrap();
    expect(&mut client, "again\n");
    client.close_stdin().unwrap();
    assert_eq!(collect(&mut client).0, b"end\n");
    assert_eq!(shim.exit().code, 0);
}

#[test]
fn without_stdin_there_is_the_null_device() {
    let mut shim = Bundle::sh("cat; echo end").create();
    let mut client = shim.attach(ALL);
    client.write_stdin(b"nobody reads this").unwrap();
    shim.start();
    assert_eq!(collect(&mut client).0, b"end\n");
    shim.exit();
}

#[test]
fn much_input_arrives_whole_also_when_the_client_leaves_early() {
    let mut shim = Bundle::sh("sleep 0.3; wc -c").stdin().create();
    let mut reader = shim.attach(OUTPUT);
    let mut writer = shim.attach(Streams { stdin: true, ..Streams::default() });
    shim.start();
    let bytes = vec![b'x'; 3_000_000];
    writer.write_stdin(&bytes).unwrap();
    writer.close_stdin().unwrap();
    drop(writer);
    assert_eq!(collect(&mut reader).0, b"3000000\n");
    assert_eq!(shim.exit().code, 0);
}

#[test]
fn a_terminal_has_a_size_and_one_stream() {
    let mut shim = Bundle::sh("stty size; read line; stty size; echo err >&2; exit 4").terminal().create();
    let mut client = shim.attach(ALL);
    let resize = |height, width| Request::Resize { session: None, size: ConsoleSize { height, width } };
    done(&mut shim.client(), &resize(11, 22));
    shim.start();
    expect(&mut client, "11 22\r\n");
    done(&mut shim.client(), &resize(33, 44));
    client.close_stdin().unwrap();
    client.write_stdin(b"\n").unwrap();
    let mut seen = String::new();
    while let Some((kind, bytes)) = client.frame().unwrap() {
        assert_eq!(kind, STDOUT);
        seen.push_str(&String::from_utf8_lossy(&bytes));
    }
    assert!(seen.contains("33 44\r\nerr\r\n"), "{seen}");
    assert_eq!(shim.exit().code, 4);
    assert!(shim.log().iter().all(|(stream, _)| stream == "stdout"));
}

#[test]
fn pipes_have_no_size() {
    let mut shim = Bundle::sh("sleep 100").create();
    let size = ConsoleSize { height: 1, width: 2 };
    let message = refused(&mut shim.first, &Request::Resize { session: None, size });
    assert_eq!(message, "the container has no terminal");
}

#[test]
fn odd_bytes_and_long_lines_are_logged_exactly() {
    let script =
        r#"printf '<&>"\\\t\033[0m\377\r\n'; printf '\342\202\254 no end'; head -c 40000 /dev/zero >&2"#;
    let mut bundle = Bundle::sh(script);
    // Not in this small /dev.
    bundle.spec.process.as_mut().unwrap().args[2] = script.replace("/dev/zero", "/etc/zeros");
    fs::write(bundle.path().join("image/etc/zeros"), vec![0; 40_000]).unwrap();
    let mut shim = bundle.create();
    shim.start();
    shim.exit();
    let text = fs::read_to_string(shim.bundle.path().join("c.log")).unwrap();
    let (output, error): (Vec<_>, Vec<_>) = text.lines().partition(|line| line.contains("\"stdout\""));
    let start = r#"{"log":"\u003c\u0026\u003e\"\\\u0009\u001b[0m\ufffd\r\n","stream":"stdout","time":"20"#;
    assert!(output[0].starts_with(start), "{}", output[0]);
    assert!(output[1].starts_with(r#"{"log":"€ no end","stream":"stdout","time":"20"#), "{}", output[1]);
    assert!(output[1].ends_with("Z\"}"));
    let zeros = |line: &&str| line.matches("\\u0000").count();
    assert_eq!(error.iter().map(zeros).collect::<Vec<_>>(), [16_384, 16_384, 7_232]);
    let times: Vec<_> = error.iter().map(|line| line.split("\"time\"").nth(1).unwrap()).collect();
    assert!(times.iter().all(|time| *time == times[0]), "parts of a line have one time");
}

#[test]
fn the_log_is_rotated() {
    let mut bundle = Bundle::sh("seq 1 20000");
    let path = bundle.path().join("c.log");
    bundle.config.log = Log::JsonFile { path: path.clone(), max_size: 100_000, max_files: 3 };
    let mut shim = bundle.create();
    let mut client = shim.attach(OUTPUT);
    shim.start();
    let all = collect(&mut client).0;
    shim.exit();
    let mut kept = String::new();
    for name in ["c.log.2", "c.log.1", "c.log"] {
        let file = shim.bundle.path().join(name);
        assert!(fs::metadata(&file).unwrap().len() <= 100_000);
        for (_, line) in log_of(&file) {
            kept.push_str(&line);
        }
    }
    assert!(!shim.bundle.path().join("c.log.3").exists());
    assert!(kept.len() > 8_000 && String::from_utf8(all).unwrap().ends_with(&kept));
}

#[test]
fn a_full_disk_costs_log_lines_only() {
    let mut bundle = Bundle::sh("seq 1 20000; echo done");
    bundle.config.log = Log::JsonFile { path: "/dev/full".into(), max_size: 0, max_files: 1 };
    let mut shim = bundle.create();
    let mut client = shim.attach(OUTPUT);
    shim.start();
    assert!(collect(&mut client).0.ends_with(b"20000\ndone\n"));
    assert_eq!(shim.exit().code, 0);
    assert_eq!(shim.trouble().lines().count(), 1, "{}", shim.trouble());
    assert!(shim.trouble().contains("No space left on device"));
}

#[test]
fn a_slow_client_loses_nothing_and_slows_the_container() {
    let mut shim = Bundle::sh("seq 1 2000000").create();
    let mut slow = shim.attach(OUTPUT);
    let mut quick = shim.attach(OUTPUT);
    shim.start();
    let reader = std::thread::spawn(move || collect(&mut quick).0);
    std::thread::sleep(Duration::from_millis(500));
    let state = shim.state();
    assert!(state.exit.is_none(), "nothing runs ahead of a client by more than a bounded amount");
    let resident = fs::read_to_string(format!("/proc/{}/status", state.shim_pid)).unwrap();
    let kib = resident.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap().trim();
    let kib: u64 = kib.trim_end_matches(" kB").parse().unwrap();
    assert!(kib < 12_000, "{kib} KiB");
    let seen = collect(&mut slow).0;
    let expected: Vec<String> = (1..=2_000_000).map(|number| format!("{number}\n")).collect();
    let expected = expected.concat();
    assert!(seen == expected.as_bytes(), "the slow client got {} bytes of {}", seen.len(), expected.len());
    assert!(reader.join().unwrap() == expected.as_bytes());
    shim.exit();
    let logged: String = shim.log().into_iter().map(|(_, line)| line).collect();
    assert!(logged == expected);
}

#[test]
fn a_client_that_vanishes_in_a_flood_changes_nothing() {
    let mut shim = Bundle::sh("seq 1 300000; sleep 0.2; echo last").create();
    let mut stuck = shim.attach(OUTPUT);
    shim.start();
    stuck.frame().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    drop(stuck);
    let mut next = shim.attach(OUTPUT);
    expect(&mut next, "last\n");
    assert_eq!(shim.exit().code, 0);
    assert_eq!(shim.log().len(), 300_001);
}

#[test]
fn many_clients_come_and_go_while_nothing_is_said() {
    let mut shim = Bundle::sh("sleep 100").create();
    shim.start();
    for _ in 0..600 {
        drop(shim.attach(ALL));
    }
    eventually("the shim forgets them", || {
        let descriptors = format!("/proc/{}/fd", shim.child.id());
        fs::read_dir(descriptors).unwrap().count() < 30
    });
}

#[test]
fn output_that_others_hold_open_is_waited_for_two_seconds() {
    let mut bundle = Bundle::sh("sleep 25 & echo bye");
    bundle
        .spec
        .linux
        .as_mut()
        .unwrap()
        .namespaces
        .retain(|space| space.kind != oci::spec::NamespaceKind::Pid);
    let mut shim = bundle.create();
    let mut watcher = shim.watch();
    shim.start();
    let began = std::time::Instant::now();
    crate::common::exit_event(&mut watcher, None);
    let waited = began.elapsed();
    assert!((1900..15_000).contains(&waited.as_millis()), "{waited:?}");
    shim.exit();
    assert_eq!(shim.log().len(), 1);
}
