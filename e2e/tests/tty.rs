//! Terminals, with a person at a real one.

use e2e::{Client, each_client};

each_client![
    a_terminal_is_one,
    its_size_is_the_persons_from_the_start,
    it_follows_a_resize,
    ctrl_c_interrupts,
    the_exit_code_comes_back,
    ctrl_d_ends_the_shell,
    detach_and_attach,
    other_detach_keys,
    exec_has_one_too,
    without_a_terminal_minus_t_is_an_error,
];

fn a_terminal_is_one(c: &Client) {
    let mut pty =
        c.terminal("run --rm -it busybox sh -c 'test -t 0 && test -t 1 && test -t 2 && tty'", 24, 80);
    pty.expect("/dev/pts/0");
    pty.code(0);
    let mut pty = c.terminal("run --rm -it busybox sh -c 'echo $TERM; ls -l /dev/console'", 24, 80);
    pty.expect("xterm\r\n");
    pty.expect("136,   0");
    pty.code(0);
}

fn its_size_is_the_persons_from_the_start(c: &Client) {
    // Before API 1.42 the size comes after the start and may be late.
    let late = if c.is_knarr_engine() { "" } else { "sleep 0.5; " };
    let mut pty = c.terminal(&format!("run --rm -it busybox sh -c '{late}stty size'"), 33, 111);
    pty.expect("33 111\r\n");
    pty.code(0);
}

fn it_follows_a_resize(c: &Client) {
    let mut pty = c.terminal(
        "run --rm -it busybox sh -c 'trap \"stty size\" WINCH; echo ready; while :; do sleep 0.1; done'",
        24,
        80,
    );
    pty.expect("ready");
    // Docker's client listens for changes a moment after it has sent the first size; one in between is lost.
    e2e::rest(300);
    pty.resize(50, 132);
    pty.expect("50 132");
    pty.resize(20, 70);
    pty.expect("20 70");
    pty.send("\x03");
    pty.code(130);
}

fn ctrl_c_interrupts(c: &Client) {
    let mut pty = c.terminal("run --rm -it busybox sh", 24, 80);
    pty.expect("# ");
    pty.send("sleep 100; echo after=$?\r");
    pty.expect("after=$?\r\n");
    e2e::rest(300);
    pty.send("\x03");
    pty.expect("^C");
    pty.send("echo still $((40+2))\r");
    pty.expect("still 42");
    pty.send("exit 5\r");
    pty.code(5);
}

fn the_exit_code_comes_back(c: &Client) {
    c.terminal("run --rm -it busybox sh -c 'exit 42'", 24, 80).code(42);
    c.terminal("run --rm -it busybox nonesuch", 24, 80).code(127);
}

fn ctrl_d_ends_the_shell(c: &Client) {
    let mut pty = c.terminal("run --rm -it busybox sh", 24, 80);
    pty.expect("# ");
    pty.send("\x04");
    pty.code(0);
}

fn detach_and_attach(c: &Client) {
    let name = c.name("detach");
    let mut pty = c.terminal(&format!("run --rm -it --name {name} busybox sh"), 24, 80);
    pty.expect("# ");
    pty.send("MARK=kept; echo $MARK-now\r");
    pty.expect("kept-now");
    pty.send("\x10\x11");
    pty.code(0);
    assert_eq!(c.field(&name, "/State/Running"), true);
    let mut pty = c.terminal(&format!("attach {name}"), 30, 90);
    pty.send("echo it is $MARK; stty size\r");
    pty.expect("it is kept\r\n");
    pty.expect("30 90");
    pty.send("exit 6\r");
    pty.code(6);
}

fn other_detach_keys(c: &Client) {
    let name = c.name("keys");
    let mut pty = c.terminal(&format!("run -it --name {name} --detach-keys ctrl-a,x busybox sh"), 24, 80);
    pty.expect("# ");
    pty.send("\x01x");
    pty.code(0);
    c.run(&format!("rm -f {name}")).ok();
}

fn exec_has_one_too(c: &Client) {
    let id = c.start("busybox sleep 100");
    let mut pty = c.terminal(&format!("exec -it {id} sh"), 41, 101);
    pty.expect("# ");
    // The client sends the size once the session runs; the first question may come too early (20.10).
    e2e::rest(300);
    pty.send("stty size; tty\r");
    pty.expect("41 101\r\n");
    pty.expect("/dev/pts/0");
    pty.resize(10, 60);
    e2e::rest(300);
    pty.send("stty size\r");
    pty.expect("10 60\r\n");
    pty.send("exit 7\r");
    pty.code(7);
    c.run(&format!("rm -f {id}")).ok();
}

fn without_a_terminal_minus_t_is_an_error(c: &Client) {
    let output = c.run("run --rm -it busybox true");
    assert_ne!(output.code, 0, "{output:?}");
    output.err_has("not a TTY");
}
