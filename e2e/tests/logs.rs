//! `logs`, `attach` and `ps`: what is known of a container's output and state.

use e2e::{Client, each_client};
use rustix::process::Signal;

each_client![
    both_streams_in_order,
    follow_ends_with_the_container,
    follow_of_one_that_has_ended_returns,
    tail,
    timestamps,
    since_and_until,
    a_line_without_newline,
    a_very_long_line,
    logs_outlive_a_restart,
    attach_joins_and_returns_the_code,
    attach_hands_signals_on,
    run_without_terminal_hands_ctrl_c_on,
    a_detached_client_leaves_the_container,
    ps_lists,
    ps_filters_and_formats,
    logs_of_nobody,
];

fn both_streams_in_order(c: &Client) {
    let id = c.start("busybox sh -c 'echo one; echo two >&2; echo three'");
    c.run(&format!("wait {id}")).ok();
    c.run(&format!("logs {id}")).ok().out("one\nthree\n").err_has("two\n");
    c.run(&format!("rm {id}")).ok();
}

fn follow_ends_with_the_container(c: &Client) {
    let id = c.start("busybox sh -c 'echo first; while [ ! -e /go ]; do sleep 0.05; done; echo last'");
    let mut following = c.spawn(&format!("logs -f {id}"));
    assert_eq!(following.line(), "first");
    assert!(following.is_silent_for(200));
    c.run(&format!("exec {id} touch /go")).ok();
    assert_eq!(following.line(), "last");
    following.output().ok().out("");
    c.run(&format!("rm {id}")).ok();
}

fn follow_of_one_that_has_ended_returns(c: &Client) {
    let id = c.start("busybox echo done");
    c.run(&format!("wait {id}")).ok();
    c.run(&format!("logs -f {id}")).ok().out("done\n");
    c.run(&format!("rm {id}")).ok();
}

fn tail(c: &Client) {
    let id = c.start("busybox seq 1 100");
    c.run(&format!("wait {id}")).ok();
    c.run(&format!("logs --tail 2 {id}")).ok().out("99\n100\n");
    c.run(&format!("logs -n 0 {id}")).ok().out("");
    c.run(&format!("logs --tail 1000 {id}")).ok().out_has("1\n2\n");
    c.run(&format!("logs -f --tail 1 {id}")).ok().out("100\n");
    let all = c.run(&format!("logs --tail all {id}")).ok();
    assert_eq!(all.lines().len(), 100);
    c.run(&format!("rm {id}")).ok();
}

fn timestamps(c: &Client) {
    let id = c.start("busybox echo x");
    c.run(&format!("wait {id}")).ok();
    let line = c.run(&format!("logs -t {id}")).ok().line();
    let (time, text) = line.split_once(' ').expect("a time and a text");
    assert_eq!(text, "x");
    assert!(
        time.len() == "2024-01-02T03:04:05.123456789Z".len()
            && time.ends_with('Z')
            && time.as_bytes()[10] == b'T',
        "{time}"
    );
    c.run(&format!("rm {id}")).ok();
}

fn since_and_until(c: &Client) {
    let id = c.start("busybox sh -c 'echo early; sleep 1.2; echo late'");
    c.run(&format!("wait {id}")).ok();
    let both = c.run(&format!("logs -t {id}")).ok().lines();
    let late = both[1].split(' ').next().unwrap_or_default().to_owned();
    c.run(&format!("logs --since {late} {id}")).ok().out("late\n");
    let before = format!("{}.000000001Z", &both[0][..19]);
    c.run(&format!("logs --until {before} {id}")).ok().out("");
    c.run(&format!("logs --since 1h {id}")).ok().out("early\nlate\n");
    c.run(&format!("rm {id}")).ok();
}

fn a_line_without_newline(c: &Client) {
    let id = c.start("busybox printf 'no newline'");
    c.run(&format!("wait {id}")).ok();
    c.run(&format!("logs {id}")).ok().out("no newline");
    c.run(&format!("rm {id}")).ok();
}

fn a_very_long_line(c: &Client) {
    let id = c.start("busybox sh -c 'head -c 100000 /dev/zero | tr \"\\0\" x; echo; echo end'");
    c.run(&format!("wait {id}")).ok();
    let expected = format!("{}\nend\n", "x".repeat(100_000));
    let output = c.run(&format!("logs {id}")).ok();
    assert!(output.stdout == expected, "{} bytes came back", output.stdout.len());
    c.run(&format!("rm {id}")).ok();
}

fn logs_outlive_a_restart(c: &Client) {
    let id = c.start("busybox echo again");
    c.run(&format!("wait {id}")).ok();
    c.run(&format!("start {id}")).ok();
    c.run(&format!("wait {id}")).ok();
    c.run(&format!("logs {id}")).ok().out("again\nagain\n");
    c.run(&format!("rm {id}")).ok();
}

fn attach_joins_and_returns_the_code(c: &Client) {
    let id = c
        .start("-i busybox sh -c 'while read -r line; do test $line = quit && exit 8; echo got $line; done'");
    let mut attached = c.spawn(&format!("attach {id}"));
    e2e::rest(300);
    attached.send("one\n");
    assert_eq!(attached.line(), "got one");
    // Made with -d, its input is not closed by one client's end.
    drop(attached);
    let mut attached = c.spawn(&format!("attach {id}"));
    e2e::rest(300);
    attached.send("two\nquit\n");
    assert_eq!(attached.line(), "got two");
    attached.output().code(8);
    c.run(&format!("logs {id}")).ok().out("got one\ngot two\n");
    c.run(&format!("rm {id}")).ok();
}

fn attach_hands_signals_on(c: &Client) {
    let id =
        c.start("busybox sh -c 'trap \"echo hup; exit 3\" HUP; echo ready; while :; do sleep 0.05; done'");
    c.await_log(&id, "ready");
    let attached = c.spawn(&format!("attach {id}"));
    e2e::rest(300);
    attached.signal(Signal::HUP);
    attached.output().code(3).out("hup\n");
    c.run(&format!("rm {id}")).ok();
}

fn run_without_terminal_hands_ctrl_c_on(c: &Client) {
    let mut running = c.spawn(
        "run --rm busybox sh -c 'trap \"echo int; exit 4\" INT; echo ready; while :; do sleep 0.05; done'",
    );
    assert_eq!(running.line(), "ready");
    running.signal(Signal::INT);
    running.output().code(4).out("int\n");
}

fn a_detached_client_leaves_the_container(c: &Client) {
    let name = c.name("left");
    let mut running = c.spawn(&format!("run --name {name} busybox sh -c 'echo ready; sleep 1; echo more'"));
    assert_eq!(running.line(), "ready");
    running.signal(Signal::KILL);
    drop(running);
    c.run(&format!("wait {name}")).ok().out("0\n");
    c.run(&format!("logs {name}")).ok().out("ready\nmore\n");
    c.run(&format!("rm {name}")).ok();
}

fn ps_lists(c: &Client) {
    let name = c.name("listed");
    let id = c.start(&format!("--name {name} busybox sleep 100"));
    let table = c.run(&format!("ps --filter name={name}")).ok().lines();
    let titles = ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"];
    assert!(titles.iter().all(|title| table[0].contains(title)), "{table:?}");
    for part in [&id[..12], "busybox", "\"sleep 100\"", "Up ", &name] {
        assert!(table[1].contains(part), "{part} in {table:?}");
    }
    c.run(&format!("kill {name}")).ok();
    c.run(&format!("wait {name}")).ok().out("137\n");
    assert_eq!(c.run(&format!("ps -q --filter name={name}")).ok().stdout, "");
    c.run(&format!("ps -a --filter name={name}")).ok().out_has("Exited (137) ");
    c.run(&format!("rm {name}")).ok();
}

fn ps_filters_and_formats(c: &Client) {
    let name = c.name("format");
    let id = c.start(&format!("--name {name} busybox sh -c 'exit 2'"));
    c.run(&format!("wait {id}")).ok();
    c.run(&format!("ps -a --filter name={name} --format '{{{{.Names}}}} {{{{.Image}}}} {{{{.ID}}}}'"))
        .ok()
        .out(&format!("{name} busybox {}\n", &id[..12]));
    c.run(&format!("ps -aq --no-trunc --filter id={id} --filter exited=2")).ok().out(&format!("{id}\n"));
    c.run(&format!("ps -aq --filter id={id} --filter status=running")).ok().out("");
    let json = c.run(&format!("ps -a --filter id={id} --format json")).ok().json();
    assert_eq!(json["Names"], name.as_str());
    assert_eq!(json["State"], "exited");
    c.run(&format!("rm {id}")).ok();
}

fn logs_of_nobody(c: &Client) {
    c.run("logs nobody-here").code(1).err_has("No such container: nobody-here");
}
