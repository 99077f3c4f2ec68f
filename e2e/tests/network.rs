//! `--network none` and `--network host`.

use std::fs;

use e2e::{Client, each_client};

each_client![
    none_has_a_working_loopback,
    host_is_the_engines,
    host_keeps_the_hostname,
    default_is_none_with_loopback,
    unknown_network
];

fn none_has_a_working_loopback(c: &Client) {
    c.run("run --rm --network none busybox sh -c 'ls /sys/class/net; ping -c 1 -W 2 127.0.0.1 >/dev/null && echo answered'")
        .ok()
        .out("lo\nanswered\n");
    c.run("run --rm --network none busybox sh -c 'nc -l -p 80 127.0.0.1 & sleep 0.2; echo through | nc 127.0.0.1 80; wait'").ok().out("through\n");
}

fn host_is_the_engines(c: &Client) {
    let expected = fs::read_link(format!("/proc/{}/ns/net", c.engine().pid())).expect("the engine runs");
    c.run("run --rm --network host busybox readlink /proc/self/ns/net")
        .ok()
        .out(&format!("{}\n", expected.display()));
}

fn host_keeps_the_hostname(c: &Client) {
    let ours = fs::read_to_string("/proc/sys/kernel/hostname").expect("read the hostname");
    c.run("run --rm --network host busybox hostname").ok().out(&ours);
}

fn default_is_none_with_loopback(c: &Client) {
    c.run("run --rm busybox ls /sys/class/net").ok().out("lo\n");
}

fn unknown_network(c: &Client) {
    c.run("run --rm --network no-such-net busybox true").code(125).err_has("no-such-net");
}
