//! `stop`, `kill`, `start`, `restart`, `rm`, `wait`, `rename`, `pause`.

use std::time::{Duration, Instant};

use e2e::{Client, each_client};

each_client![
    stop_asks_first,
    stop_kills_after_its_time,
    stop_signal_of_the_container,
    kill_sends_signals,
    start_runs_it_again_in_the_same_root,
    restart,
    rm_of_a_running_one_is_refused,
    rm_force,
    wait_waits,
    wait_for_removal,
    rename,
    pause_freezes,
    a_paused_one_can_be_removed,
    unknown_ones,
    an_unambiguous_beginning_of_the_id_is_enough,
    several_at_once,
];

const POLITE: &str =
    "busybox sh -c 'trap \"echo bye; exit 5\" TERM; echo ready; while :; do sleep 0.05; done'";
const STUBBORN: &str = "busybox sh -c 'trap \"\" TERM; echo ready; while :; do sleep 0.05; done'";

fn stop_asks_first(c: &Client) {
    let id = c.start(POLITE);
    c.await_log(&id, "ready");
    let started = Instant::now();
    c.run(&format!("stop {id}")).ok().out(&format!("{id}\n"));
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    assert_eq!(c.field(&id, "/State/ExitCode"), 5);
    c.run(&format!("logs {id}")).ok().out("ready\nbye\n");
    c.run(&format!("stop {id}")).ok();
    c.run(&format!("rm {id}")).ok();
}

fn stop_kills_after_its_time(c: &Client) {
    let id = c.start(STUBBORN);
    c.await_log(&id, "ready");
    let started = Instant::now();
    c.run(&format!("stop -t 1 {id}")).ok();
    assert!((0.9..4.0).contains(&started.elapsed().as_secs_f64()), "{:?}", started.elapsed());
    assert_eq!(c.field(&id, "/State/ExitCode"), 137);
    c.run(&format!("rm {id}")).ok();
}

fn stop_signal_of_the_container(c: &Client) {
    let id = c.start(
        "--stop-signal USR1 busybox sh -c 'trap \"exit 9\" USR1; echo ready; while :; do sleep 0.05; done'",
    );
    c.await_log(&id, "ready");
    c.run(&format!("stop {id}")).ok();
    assert_eq!(c.field(&id, "/State/ExitCode"), 9);
    c.run(&format!("rm {id}")).ok();
}

fn kill_sends_signals(c: &Client) {
    let id = c.start("busybox sh -c 'trap \"echo usr1\" USR1; trap \"echo hup\" HUP; echo ready; while :; do sleep 0.05; done'");
    c.await_log(&id, "ready");
    c.run(&format!("kill -s USR1 {id}")).ok();
    c.await_log(&id, "usr1");
    c.run(&format!("kill --signal=SIGHUP {id}")).ok();
    c.await_log(&id, "hup");
    c.run(&format!("kill -s NOSUCH {id}")).code(1).err_has("NOSUCH");
    c.run(&format!("kill -s 9 {id}")).ok();
    c.run(&format!("wait {id}")).ok().out("137\n");
    c.run(&format!("kill {id}")).code(1).err_has("is not running");
    c.run(&format!("rm {id}")).ok();
}

fn start_runs_it_again_in_the_same_root(c: &Client) {
    let id = c.start("busybox sh -c 'echo run >>/count; wc -l </count'");
    c.run(&format!("wait {id}")).ok().out("0\n");
    c.run(&format!("start {id}")).ok().out(&format!("{id}\n"));
    c.run(&format!("wait {id}")).ok().out("0\n");
    c.run(&format!("logs {id}")).ok().out("1\n2\n");
    c.run(&format!("rm {id}")).ok();
}

fn restart(c: &Client) {
    let id = c.start(POLITE);
    c.await_log(&id, "ready");
    let (pid, started) = (c.pid(&id), c.field(&id, "/State/StartedAt"));
    c.run(&format!("restart {id}")).ok();
    assert_ne!(c.pid(&id), pid);
    assert_ne!(c.field(&id, "/State/StartedAt"), started);
    c.run(&format!("rm -f {id}")).ok();
}

fn rm_of_a_running_one_is_refused(c: &Client) {
    let id = c.start("busybox sleep 100");
    c.run(&format!("rm {id}")).code(1).err_has("running");
    c.run(&format!("rm -f {id}")).ok();
}

fn rm_force(c: &Client) {
    let id = c.start("busybox sleep 100");
    c.run(&format!("rm -f {id}")).ok().out(&format!("{id}\n"));
    c.run(&format!("inspect {id}")).code(1);
    c.run(&format!("rm {id}")).code(1).err_has(&format!("No such container: {id}"));
}

fn wait_waits(c: &Client) {
    let id = c.start("busybox sh -c 'sleep 0.5; exit 7'");
    c.run(&format!("wait {id}")).ok().out("7\n");
    c.run(&format!("wait {id}")).ok().out("7\n");
    c.run(&format!("rm {id}")).ok();
}

fn wait_for_removal(c: &Client) {
    let id = c.start("--rm busybox sleep 100");
    let mut waiting = c.spawn(&format!("wait {id}"));
    assert!(waiting.is_silent_for(300));
    c.run(&format!("kill {id}")).ok();
    assert_eq!(waiting.line(), "137");
    waiting.output().ok();
}

fn rename(c: &Client) {
    let (old, new) = (c.name("old"), c.name("new"));
    let id = c.start(&format!("--name {old} busybox sleep 100"));
    c.run(&format!("rename {old} {new}")).ok();
    assert_eq!(c.field(&new, "/Id"), id.as_str());
    assert_eq!(c.field(&id, "/Name"), format!("/{new}"));
    c.run(&format!("inspect {old}")).code(1);
    let other = c.run(&format!("create --name {old} busybox")).ok().line();
    c.run(&format!("rename {other} {new}")).code(1).err_has("already in use");
    c.run(&format!("rm -f {id} {other}")).ok();
}

fn pause_freezes(c: &Client) {
    let id = c.start("busybox sh -c 'while :; do echo tick; sleep 0.05; done'");
    c.await_log(&id, "tick");
    c.run(&format!("pause {id}")).ok();
    assert_eq!(c.field(&id, "/State/Status"), "paused");
    assert_eq!(c.field(&id, "/State/Paused"), true);
    e2e::rest(200);
    let count = || c.run(&format!("logs {id}")).ok().lines().len();
    let before = count();
    e2e::rest(300);
    assert_eq!(count(), before);
    c.run(&format!("pause {id}")).code(1).err_has("already paused");
    c.run(&format!("exec {id} true")).code(1).err_has("paused");
    c.run(&format!("unpause {id}")).ok();
    e2e::until("it ticks again", || count() > before);
    c.run(&format!("unpause {id}")).code(1).err_has("is not paused");
    c.run(&format!("rm -f {id}")).ok();
}

fn a_paused_one_can_be_removed(c: &Client) {
    let id = c.start("busybox sleep 100");
    c.run(&format!("pause {id}")).ok();
    c.run(&format!("rm -f {id}")).ok();
    let id = c.start("busybox sleep 100");
    c.run(&format!("pause {id}")).ok();
    c.run(&format!("stop -t 1 {id}")).ok();
    assert_eq!(c.field(&id, "/State/Status"), "exited");
    c.run(&format!("rm {id}")).ok();
}

fn unknown_ones(c: &Client) {
    for verb in ["stop", "kill", "start", "restart", "rm", "wait", "pause", "unpause", "attach", "logs"] {
        c.run(&format!("{verb} nobody-here")).code(1).err_has("No such container: nobody-here");
    }
}

fn an_unambiguous_beginning_of_the_id_is_enough(c: &Client) {
    let id = c.run("create busybox").ok().line();
    assert_eq!(c.field(&id[..20], "/Id"), id.as_str());
    c.run(&format!("rm {}", &id[..12])).ok().out(&format!("{}\n", &id[..12]));
}

fn several_at_once(c: &Client) {
    let ids: Vec<String> = (0..3).map(|_| c.start("busybox sleep 100")).collect();
    let all = ids.join(" ");
    c.run(&format!("kill {all}")).ok();
    c.run(&format!("wait {all}")).ok().out("137\n137\n137\n");
    c.run(&format!("rm nobody-here {all}"))
        .code(1)
        .out(&format!("{}\n", ids.join("\n")))
        .err_has("nobody-here");
}
