//! The daemon dies at any instant; containers, their output and their exit codes do not.
//!
//! Docker can do most of this when told to (`--live-restore`), and so is the oracle here as well; what 20.10 fails is
//! [`knarr_only`].

use e2e::{Client, Engine, Kind, Program, Setup, knarr_only};
use rustix::process::Signal;

knarr_only![
    killed_at_any_instant_it_loses_nothing_that_it_promised,
    a_killed_client_and_a_killed_daemon_together,
    the_last_words_of_the_gap_are_kept,
];

/// An engine of the test's own, whose containers outlive the daemon.
fn engine() -> (Engine, Client) {
    let args = match Kind::chosen() {
        Kind::Knarr => vec![],
        Kind::Docker => vec!["--live-restore".to_owned()],
    };
    let engine = Engine::with_busybox(Setup { args, ..Default::default() });
    let client = engine.any_client();
    (engine, client)
}

const TICKS: &str = "busybox sh -c 'i=0; while :; do i=$((i+1)); echo tick $i; sleep 0.02; done'";

/// Whether these are `tick 1`, `tick 2`, … without a gap. A dockerd that is killed may lose the line that it was
/// writing, so of Docker's only the order counts.
#[track_caller]
fn assert_whole(lines: &[String]) {
    let number = |line: &String| line.strip_prefix("tick ").and_then(|number| number.parse::<usize>().ok());
    let numbers: Vec<usize> = lines.iter().filter_map(number).collect();
    assert!(!lines.is_empty() && numbers.len() == lines.len() && numbers.is_sorted(), "{lines:?}");
    if Kind::chosen() == Kind::Knarr {
        assert!(numbers.iter().copied().eq(1..=lines.len()), "a gap in {numbers:?}");
    }
}

#[test]
fn a_container_runs_through_it() {
    let (engine, c) = engine();
    let id = c.start(&format!("--name through {TICKS}"));
    c.await_log(&id, "tick 5");
    let (pid, started) = (c.pid(&id), c.field(&id, "/State/StartedAt"));
    engine.kill_daemon();
    e2e::rest(500);
    engine.start_daemon();
    assert_eq!(c.field("through", "/State/Status"), "running");
    assert_eq!((c.pid(&id), c.field(&id, "/State/StartedAt")), (pid, started));
    c.run("ps --format '{{.Names}}'").ok().out("through\n");
    let during = c.run(&format!("logs {id}")).ok().lines();
    assert!(during.len() > 20, "output of the gap is missing: {during:?}");
    assert_whole(&during);
    c.run(&format!("exec {id} echo inside")).ok().out("inside\n");
    c.run("run --rm --name through busybox true").code(125).err_has("already in use");
    c.run(&format!("stop -t 1 {id}")).ok();
    assert_whole(&c.run(&format!("logs {id}")).ok().lines());
    c.run(&format!("rm {id}")).ok();
}

#[test]
fn ports_and_names_outlive_it() {
    let (engine, c) = engine();
    c.run("network create web").ok();
    let script = "mkdir -p /www; exec httpd -f -p 80 -h /www";
    c.start(&format!("--name server --network web -p 18500:80 busybox sh -c '{script}'"));
    c.start("--name client --network web busybox sleep 1000");
    let answers = || engine.within(|| std::net::TcpStream::connect(("127.0.0.1", 18500)).is_ok());
    e2e::until("the port answers", answers);
    engine.kill_daemon();
    if Kind::chosen() == Kind::Knarr {
        // No program serves the port; Docker's proxy died with it.
        assert!(answers(), "the port needs a daemon");
    }
    engine.start_daemon();
    e2e::until("the port answers again", answers);
    c.run("exec client nslookup server").ok().out_has("Address: ");
    c.run("port server 80").ok().out_has("0.0.0.0:18500\n");
    c.run("run --rm -p 18500:80 busybox true").code(125).err_has("already");
    // Addresses that are in use are known to be.
    c.start("--name third --network web busybox sleep 1000");
    let address = |name: &str| c.field(name, "/NetworkSettings/Networks/web/IPAddress");
    assert!(address("third") != address("client") && address("third") != address("server"));
    c.run("exec client nslookup third").ok().out_has(address("third").as_str().expect("an address"));
    c.run("network disconnect web third").ok();
    c.run("exec client nslookup third").fails();
    c.run("rm -f server client third").ok();
    assert!(!answers());
    c.run("network rm web").ok();
}

#[test]
fn an_exit_during_the_gap_is_known() {
    let (engine, c) = engine();
    let id = c.start("busybox sh -c 'sleep 0.6; echo last words; exit 7'");
    let unattended = c.start("--rm --name unattended busybox sleep 0.6");
    engine.kill_daemon();
    e2e::rest(1000);
    engine.start_daemon();
    c.run(&format!("wait {id}")).ok().out("7\n");
    let all = c.inspect(&id);
    assert_eq!(all["State"]["Status"], "exited", "{all:#}");
    assert_eq!(all["State"]["ExitCode"], 7, "{all:#}");
    assert_eq!(all["State"]["OOMKilled"], false, "{all:#}");
    e2e::until("--rm holds", || c.run(&format!("inspect {unattended}")).code == 1);
    c.run(&format!("start {id}")).ok();
    c.run(&format!("wait {id}")).ok().out("7\n");
    c.run(&format!("rm {id}")).ok();
}

fn the_last_words_of_the_gap_are_kept() {
    let (engine, c) = engine();
    let id = c.start("busybox sh -c 'sleep 0.4; seq 1 1000; echo last words >&2'");
    engine.kill_daemon();
    e2e::rest(800);
    engine.start_daemon();
    let output = c.run(&format!("logs {id}")).ok().err_has("last words\n");
    assert_eq!(output.lines().len(), 1000);
    c.run(&format!("rm {id}")).ok();
}

#[test]
fn one_that_is_stopped_and_one_that_is_paused_stay_so() {
    let (engine, c) = engine();
    let ended = c.start("busybox sh -c 'exit 3'");
    c.run(&format!("wait {ended}")).ok();
    let made = c.run("create --name made busybox true").ok().line();
    let paused = c.start("busybox sleep 100");
    c.run(&format!("pause {paused}")).ok();
    let before: Vec<_> = [&ended, &made].map(|id| c.inspect(id)).into();
    engine.kill_daemon();
    engine.start_daemon();
    for (id, before) in [&ended, &made].iter().zip(before) {
        let after = c.inspect(id);
        for part in ["Id", "Name", "Created", "Path", "Args", "State", "Config", "HostConfig", "Image"] {
            assert_eq!(after[part], before[part], "{part}");
        }
    }
    assert_eq!(c.field(&paused, "/State/Status"), "paused");
    c.run(&format!("unpause {paused}")).ok();
    c.run(&format!("rm -f {ended} {made} {paused}")).ok();
}

#[test]
fn following_and_attaching_go_on() {
    let (engine, c) = engine();
    let id = c.start("-i busybox sh -c 'while read -r line; do echo got $line; done'");
    let mut attached = c.spawn(&format!("attach {id}"));
    e2e::rest(200);
    attached.send("before\n");
    assert_eq!(attached.line(), "got before");
    c.await_log(&id, "got before");
    engine.kill_daemon();
    drop(attached);
    engine.start_daemon();
    let mut following = c.spawn(&format!("logs -f {id}"));
    assert_eq!(following.line(), "got before");
    let mut attached = c.spawn(&format!("attach {id}"));
    e2e::rest(200);
    attached.send("after\n");
    assert_eq!(attached.line(), "got after");
    assert_eq!(following.line(), "got after");
    c.run(&format!("kill {id}")).ok();
    attached.output().code(137);
    following.output().ok();
    c.run(&format!("rm {id}")).ok();
}

#[test]
fn a_terminal_goes_on() {
    let (engine, c) = engine();
    let mut pty = c.terminal("run -it --name term busybox sh", 24, 80);
    pty.expect("# ");
    // A prompt may be one that was drawn again; only output tells that the line was read.
    pty.send("MARK=kept; echo $MARK-now\r");
    pty.expect("kept-now");
    engine.kill_daemon();
    drop(pty);
    engine.start_daemon();
    let mut pty = c.terminal("attach term", 44, 99);
    pty.send("echo it is $MARK\r");
    pty.expect("it is kept\r\n");
    pty.send("stty size\r");
    pty.expect("44 99");
    pty.send("exit 4\r");
    pty.code(4);
    c.run("rm term").ok();
}

#[test]
fn an_exec_session_lives_on() {
    let (engine, c) = engine();
    let id = c.start("busybox sleep 100");
    c.run(&format!("exec -d {id} sh -c 'while :; do date +%s%N >/tmp/alive; sleep 0.05; done'")).ok();
    let mark = || c.run(&format!("exec {id} cat /tmp/alive")).stdout;
    e2e::until("the session runs", || !mark().is_empty());
    engine.kill_daemon();
    engine.start_daemon();
    let first = mark();
    e2e::until("the session still runs", || mark() != first);
    c.run(&format!("rm -f {id}")).ok();
}

#[test]
fn images_and_tags_are_kept() {
    let (engine, c) = engine();
    c.run("tag busybox kept:1").ok();
    let images = || {
        let mut lines = c.run("images --no-trunc --format '{{.Repository}}:{{.Tag}} {{.ID}}'").ok().lines();
        lines.sort();
        lines
    };
    let before = images();
    assert_eq!(before.len(), 2, "{before:?}");
    engine.kill_daemon();
    engine.start_daemon();
    assert_eq!(images(), before);
    c.run("run --rm kept:1 true").ok();
}

#[test]
fn term_leaves_containers_too() {
    let (engine, c) = engine();
    let id = c.start("busybox sleep 100");
    let pid = c.pid(&id);
    assert_eq!(engine.stop_daemon(), Some(0));
    assert!(std::path::Path::new(&format!("/proc/{pid}")).exists(), "the container ended with the daemon");
    engine.start_daemon();
    assert_eq!(c.pid(&id), pid);
    c.run(&format!("rm -f {id}")).ok();
}

fn killed_at_any_instant_it_loses_nothing_that_it_promised() {
    let (engine, c) = engine();
    for delay in [0, 5, 15, 30, 50, 80, 120, 200] {
        let name = format!("instant-{delay}");
        let running = c.spawn(&format!("run -d --name {name} busybox sh -c 'sleep 0.1; exit 5'"));
        e2e::rest(delay);
        engine.kill_daemon();
        let said = running.output();
        engine.start_daemon();
        // Either it was never made, or it can be seen, started and removed by its name.
        let seen = c.run(&format!("inspect {name}"));
        assert!(seen.code == 0 || said.code != 0, "{said:?}: {seen:?}");
        if seen.code == 0 {
            let status = c.field(&name, "/State/Status");
            assert!(
                status == "created" || status == "running" || status == "exited",
                "after {delay} ms: {status}"
            );
            if status == "created" {
                c.run(&format!("start {name}")).ok();
            }
            c.run(&format!("wait {name}")).ok().out("5\n");
            c.run(&format!("rm {name}")).ok();
        }
        c.run(&format!("run --rm --name {name} busybox true")).ok();
    }
    engine.assert_clean();
}

fn a_killed_client_and_a_killed_daemon_together() {
    let (engine, c) = engine();
    let mut running = c.spawn(&format!("run --name both {TICKS}"));
    running.line();
    running.signal(Signal::KILL);
    engine.kill_daemon();
    drop(running);
    engine.start_daemon();
    assert_eq!(c.field("both", "/State/Running"), true);
    c.run("rm -f both").ok();
}

#[test]
fn many_containers() {
    let (engine, c) = engine();
    let ids: Vec<String> = (0..12).map(|index| c.start(&format!("--name many-{index} {TICKS}"))).collect();
    for _ in 0..3 {
        engine.kill_daemon();
        engine.start_daemon();
    }
    assert_eq!(c.run("ps -q").ok().lines().len(), ids.len());
    for id in &ids {
        c.await_log(id, "tick 5");
    }
    for id in &ids {
        assert_whole(&c.run(&format!("logs {id}")).ok().lines());
    }
    c.run(&format!("rm -f {}", ids.join(" "))).ok();
}

#[test]
fn both_clients_after_it() {
    let (engine, _) = engine();
    engine.kill_daemon();
    engine.start_daemon();
    let programs: &[Program] = match Kind::chosen() {
        Kind::Knarr => &[Program::Docker, Program::Knarr],
        Kind::Docker => &[Program::Docker],
    };
    for program in programs {
        engine.client(*program).run("run --rm busybox echo hi").ok().out("hi\n");
    }
}
