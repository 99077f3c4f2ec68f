//! Networks: none, the host's, bridges, another container's.

use std::fs;

use e2e::{Client, each_client};

each_client![
    none_has_a_working_loopback,
    host_is_the_engines,
    host_keeps_the_hostname,
    default_is_a_bridge,
    containers_of_one_network_talk_and_others_do_not,
    another_containers_network,
    names_are_known_in_one_network,
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

fn default_is_a_bridge(c: &Client) {
    c.run("run --rm busybox ls /sys/class/net").ok().out("eth0\nlo\n");
}

fn containers_of_one_network_talk_and_others_do_not(c: &Client) {
    let (web, other) = (c.name("web"), c.name("other"));
    for network in [&web, &other] {
        let (status, answer) = ask(c, "POST", "/networks/create", &format!(r#"{{"Name":"{network}"}}"#));
        assert_eq!(status, 201, "{answer}");
    }
    let server =
        c.start(&format!("--network {web} busybox sh -c 'while :; do echo served | nc -l -p 80; done'"));
    let address = c.field(&server, &format!("/NetworkSettings/Networks/{web}/IPAddress"));
    let address = address.as_str().expect("the server has an address");
    let client = format!("busybox sh -c 'nc -w 2 {address} 80 </dev/null || echo unreachable'");
    c.run(&format!("run --rm --network {web} {client}")).ok().out("served\n");
    c.run(&format!("run --rm --network {other} {client}")).ok().out_has("unreachable");
    let (status, answer) = ask(c, "DELETE", &format!("/networks/{web}"), "");
    assert_eq!(status, 403, "{answer}");
    c.run(&format!("rm -f {server}")).ok();
    for network in [&web, &other] {
        assert_eq!(ask(c, "DELETE", &format!("/networks/{network}"), "").0, 204);
    }
}

fn names_are_known_in_one_network(c: &Client) {
    let (web, one, two) = (c.name("names"), c.name("one"), c.name("two"));
    assert_eq!(ask(c, "POST", "/networks/create", &format!(r#"{{"Name":"{web}"}}"#)).0, 201);
    for name in [&one, &two] {
        c.start(&format!("--name {name} --network {web} busybox sleep 1000"));
    }
    let address = |name: &str| {
        let found = c.field(name, &format!("/NetworkSettings/Networks/{web}/IPAddress"));
        found.as_str().expect("an address").to_owned()
    };
    let short = c.inspect(&two)["Id"].as_str().expect("an id")[..12].to_owned();
    for name in [two.clone(), format!("{two}.{web}"), short, two.to_uppercase()] {
        c.run(&format!("exec {one} nslookup {name}")).ok().out_has(&format!("Address: {}", address(&two)));
    }
    let backwards = c.run(&format!("exec {one} nslookup {}", address(&two))).ok();
    backwards.out_has(&format!("name = {two}.{web}"));
    c.run(&format!("exec {one} nslookup nobody-of-that-name")).fails();
    let new = c.name("renamed");
    c.run(&format!("rename {two} {new}")).ok();
    c.run(&format!("exec {one} nslookup {new}")).ok().out_has(&format!("Address: {}", address(&new)));
    c.run(&format!("exec {one} nslookup {two}")).fails();
    c.run(&format!("rm -f {one} {new}")).ok();
    assert_eq!(ask(c, "DELETE", &format!("/networks/{web}"), "").0, 204);
}

fn ask(c: &Client, method: &str, path: &str, body: &str) -> (u16, serde_json::Value) {
    c.engine().request(method, path, body).expect("ask the engine")
}

fn another_containers_network(c: &Client) {
    let first = c.start("busybox sleep 100");
    let address = c.run(&format!("exec {first} hostname -i")).ok().line();
    c.run(&format!("run --rm --network container:{first} busybox hostname -i"))
        .ok()
        .out(&format!("{address}\n"));
    c.run(&format!("run --rm --network container:{first} busybox ip -4 addr show eth0"))
        .ok()
        .out_has(&address);
    c.run(&format!("rm -f {first}")).ok();
    c.run(&format!("run --rm --network container:{first} busybox true"))
        .code(125)
        .err_has("No such container");
}

fn unknown_network(c: &Client) {
    c.run("run --rm --network no-such-net busybox true").code(125).err_has("no-such-net");
}
