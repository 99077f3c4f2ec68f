//! `--init`: a first process that forwards signals and reaps.

use e2e::{Client, each_client};

each_client![
    zombies_are_reaped,
    signals_are_forwarded,
    the_exit_code_is_the_childs,
    without_it_the_program_is_pid_1,
    a_missing_command_is_127
];

const ORPHANS: &str = "for i in 1 2 3 4 5; do (sh -c \"sleep 0.1 & sleep 0.05\" &) ; done; sleep 0.7; grep -c \"^State:.Z\" /proc/[0-9]*/status | grep -c :1";

fn zombies_are_reaped(c: &Client) {
    c.run(&format!("run --rm --init busybox sh -c '{ORPHANS}'")).code(1).out("0\n");
    // Without it they stay: sleep is pid 1 and waits for nobody.
    let id = c.start("busybox sleep 100");
    c.run(&format!("exec {id} sh -c '(sleep 0.1 &)'")).ok();
    e2e::until("a zombie is there", || {
        c.run(&format!("exec {id} sh -c 'grep -l ^State:.Z /proc/[0-9]*/status'")).code == 0
    });
    c.run(&format!("rm -f {id}")).ok();
}

fn signals_are_forwarded(c: &Client) {
    let id = c.start("--init busybox sh -c 'trap \"echo usr1\" USR1; trap \"exit 3\" TERM; echo ready; while :; do sleep 0.05; done'");
    c.await_log(&id, "ready");
    c.run(&format!("kill -s USR1 {id}")).ok();
    c.await_log(&id, "usr1");
    c.run(&format!("stop {id}")).ok();
    assert_eq!(c.field(&id, "/State/ExitCode"), 3);
    c.run(&format!("rm {id}")).ok();
}

fn the_exit_code_is_the_childs(c: &Client) {
    c.run("run --rm --init busybox sh -c 'exit 9'").code(9);
    c.run("run --rm --init busybox sh -c 'kill -KILL $$'").code(137);
}

fn without_it_the_program_is_pid_1(c: &Client) {
    c.run("run --rm busybox sh -c 'echo $$'").ok().out("1\n");
    let with = c.run("run --rm --init busybox sh -c 'echo $$'").ok().line();
    assert_ne!(with, "1");
}

fn a_missing_command_is_127(c: &Client) {
    c.run("run --rm --init busybox nonesuch").code(127).err_has("nonesuch");
}
