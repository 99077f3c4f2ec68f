//! Networks: none, the host's, bridges, another container's.

use std::{
    collections::BTreeSet,
    fs,
    sync::atomic::{AtomicU8, Ordering},
};

use e2e::{Client, each_client, until};

each_client![
    none_has_a_working_loopback,
    host_is_the_engines,
    host_keeps_the_hostname,
    default_is_a_bridge,
    containers_of_one_network_talk_and_others_do_not,
    another_containers_network,
    names_are_known_in_one_network,
    unknown_network,
    networks_are_made_listed_and_removed,
    what_cannot_be_made_is_said,
    only_what_nobody_uses_is_pruned,
    connected_and_disconnected_while_running,
    one_that_does_not_run_joins_at_its_start,
    names_and_addresses_of_ones_own,
    an_alias_of_several_leads_to_each,
    an_internal_network_leads_nowhere,
    the_way_out_is_where_it_was_wished,
    ipv6,
    hosts_and_servers_of_ones_own,
    links_are_refused
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
        c.run(&format!("network create {network}")).ok();
    }
    let server =
        c.start(&format!("--network {web} busybox sh -c 'while :; do echo served | nc -l -p 80; done'"));
    let address = c.field(&server, &format!("/NetworkSettings/Networks/{web}/IPAddress"));
    let address = address.as_str().expect("the server has an address");
    let client = format!("busybox sh -c 'nc -w 2 {address} 80 </dev/null || echo unreachable'");
    c.run(&format!("run --rm --network {web} {client}")).ok().out("served\n");
    c.run(&format!("run --rm --network {other} {client}")).ok().out_has("unreachable");
    c.run(&format!("network rm {web}")).code(1).err_has("has active endpoints");
    c.run(&format!("rm -f {server}")).ok();
    c.run(&format!("network rm {web} {other}")).ok().out(&format!("{web}\n{other}\n"));
}

fn names_are_known_in_one_network(c: &Client) {
    let (web, one, two) = (c.name("names"), c.name("one"), c.name("two"));
    c.run(&format!("network create {web}")).ok();
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
    c.run(&format!("network rm {web}")).ok();
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

/// A subnet that no other test uses: its first three numbers.
fn subnet() -> String {
    static NEXT: AtomicU8 = AtomicU8::new(0);
    format!("10.77.{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Its address in a network.
fn address(c: &Client, container: &str, network: &str) -> String {
    let found = c.field(container, &format!("/NetworkSettings/Networks/{network}/IPAddress"));
    found.as_str().expect("an address").to_owned()
}

/// What the default route of a running container goes by.
fn way_out(c: &Client, container: &str) -> String {
    let routes = c.run(&format!("exec {container} ip route")).ok().lines();
    routes.into_iter().find(|route| route.starts_with("default")).unwrap_or_default()
}

/// Whether one packet comes back in time; on a busy machine it may not.
fn pings(c: &Client, from: &str, to: &str) -> bool {
    c.run(&format!("exec {from} ping -c 1 -W 1 {to}")).code == 0
}

#[track_caller]
fn reaches(c: &Client, from: &str, to: &str) {
    until(&format!("{from} reaches {to}"), || pings(c, from, to));
}

fn networks_are_made_listed_and_removed(c: &Client) {
    let (name, net) = (c.name("made"), subnet());
    let flags = format!(
        "--subnet {net}.0/24 --ip-range {net}.128/25 --gateway {net}.9 --aux-address printer={net}.129 --label a=b \
         --internal --opt com.docker.network.driver.mtu=1400"
    );
    let id = c.run(&format!("network create {flags} {name}")).ok().line();
    assert_eq!(id.len(), 64);
    let all = c.run(&format!("network inspect {name}")).ok().json()[0].clone();
    assert_eq!(all["Id"], id);
    let config = &all["IPAM"]["Config"][0];
    assert_eq!(
        (&config["Gateway"], &config["IPRange"]),
        (&format!("{net}.9").into(), &format!("{net}.128/25").into())
    );
    assert_eq!(all["Internal"], true);
    assert_eq!(all["Labels"]["a"], "b");
    let listed = "--format '{{.Name}} {{.Driver}} {{.Scope}} {{.Internal}} {{.IPv6}} {{.Label \"a\"}}'";
    c.run(&format!("network ls --filter label=a=b --filter name={name} {listed}"))
        .ok()
        .out(&format!("{name} bridge local true false b\n"));
    c.run(&format!("network ls -q --filter id={}", &id[..20])).ok().out(&format!("{}\n", &id[..12]));
    c.run(&format!("network ls -q --no-trunc --filter name={name}")).ok().out(&format!("{id}\n"));
    let user = c.start(&format!("--network {name} busybox sleep 1000"));
    // The first of the range that nobody else is to have.
    assert_eq!(address(c, &user, &name), format!("{net}.128"));
    c.run(&format!("exec {user} cat /sys/class/net/eth0/mtu")).ok().out("1400\n");
    c.run(&format!("network inspect -f '{{{{len .Containers}}}}' {}", &id[..12])).ok().out("1\n");
    c.run(&format!("rm -f {user}")).ok();
    c.run(&format!("network rm {}", &id[..12])).ok();
    c.run(&format!("network inspect {name}"))
        .code(1)
        .out("[]\n")
        .err_has(&format!("network {name} not found"));
    c.run(&format!("network rm {name}")).code(1).err_has(&format!("network {name} not found"));
    c.run(&format!("network rm -f {name}")).ok();
}

fn what_cannot_be_made_is_said(c: &Client) {
    let (name, net) = (c.name("taken"), subnet());
    c.run(&format!("network create --subnet {net}.0/24 {name}")).ok();
    for (arguments, words) in [
        (name.clone(), format!("network with name {name} already exists")),
        (format!("--subnet {net}.0/25 x"), "Pool overlaps with other one on this address space".into()),
        ("bridge".into(), "operation is not permitted on predefined bridge network".into()),
        ("-d nowhere x".into(), "plugin".into()),
        ("-d host x".into(), "only one instance of \"host\" network is allowed".into()),
        ("--subnet 10.0.0.0/8 --gateway 11.0.0.1 x".into(), "no matching subnet for gateway 11.0.0.1".into()),
        ("--gateway 10.0.0.1 x".into(), "must have a corresponding subnet".into()),
    ] {
        c.run(&format!("network create {arguments}")).code(1).err_has(&words);
    }
    c.run("network rm bridge").code(1).err_has("bridge is a pre-defined network and cannot be removed");
    c.run(&format!("network rm {name}")).ok();
}

fn only_what_nobody_uses_is_pruned(c: &Client) {
    let (unused, used, wished) = (c.name("unused"), c.name("used"), c.name("wished"));
    let label = c.name("prune");
    for network in [&unused, &used, &wished] {
        c.run(&format!("network create --label {label} {network}")).ok();
    }
    let running = c.start(&format!("--network {used} busybox sleep 1000"));
    let prune = format!("network prune --filter label={label}");
    c.feed(&prune, b"n\n").out_has("WARNING! This will remove all custom networks");
    c.run(&format!("network inspect {unused}")).ok();
    c.feed(&prune, b"y\n").ok().out_has("Deleted Networks:").out_has(&unused).out_lacks(&used);
    c.run(&format!("network inspect {used}")).ok();
    c.run(&format!("rm -f {running}")).ok();
    c.run(&format!("{prune} -f")).ok().out_has(&used);
    c.run(&format!("{prune} -f")).ok().out("");
}

fn connected_and_disconnected_while_running(c: &Client) {
    let (one, two) = (c.name("one"), c.name("two"));
    let (here, there) = (c.name("here"), c.name("there"));
    for network in [&one, &two] {
        c.run(&format!("network create {network}")).ok();
    }
    c.start(&format!("--name {here} --network {one} busybox sleep 1000"));
    c.start(&format!("--name {there} --network {two} busybox sleep 1000"));
    c.run(&format!("exec {here} nslookup {there}")).fails();
    c.run(&format!("network connect --alias visitor {two} {here}")).ok().out("");
    let far = address(c, &there, &two);
    c.run(&format!("exec {here} nslookup {there}")).ok().out_has(&far);
    c.run(&format!("exec {there} nslookup visitor")).ok().out_has(&address(c, &here, &two));
    reaches(c, &here, &far);
    c.run(&format!("network connect {two} {here}")).code(1).err_has("already exists in network");
    c.run(&format!("network disconnect {two} {here}")).ok().out("");
    c.run(&format!("exec {here} nslookup {there}")).fails();
    assert!(!pings(c, &here, &far));
    c.run(&format!("network disconnect {two} {here}")).code(1).err_has("is not connected to");
    // The last one: nothing but loopback is left.
    c.run(&format!("network disconnect {one} {here}")).ok();
    c.run(&format!("exec {here} ls /sys/class/net")).ok().out("lo\n");
    c.run(&format!("network connect {one} {here}")).ok();
    let gateway = c.field(&here, &format!("/NetworkSettings/Networks/{one}/Gateway"));
    reaches(c, &here, gateway.as_str().expect("a gateway"));
    c.run(&format!("network connect {one} nobody")).code(1).err_has("No such container: nobody");
    c.run(&format!("network connect nowhere {here}")).code(1).err_has("network nowhere not found");
    c.run(&format!("rm -f {here} {there}")).ok();
    c.run(&format!("network rm {one} {two}")).ok();
}

fn one_that_does_not_run_joins_at_its_start(c: &Client) {
    let (network, net) = (c.name("later"), subnet());
    c.run(&format!("network create --subnet {net}.0/24 {network}")).ok();
    let id = c.run("create busybox sleep 1000").ok().line();
    c.run(&format!("network connect --ip {net}.77 {network} {id}")).ok();
    c.run(&format!("start {id}")).ok();
    assert_eq!(address(c, &id, &network), format!("{net}.77"));
    c.run(&format!("exec {id} ls /sys/class/net")).ok().out("eth0\neth1\nlo\n");
    c.run(&format!("rm -f {id}")).ok();
    c.run(&format!("network rm {network}")).ok();
}

fn names_and_addresses_of_ones_own(c: &Client) {
    let (network, net) = (c.name("own"), subnet());
    c.run(&format!("network create --subnet {net}.0/24 {network}")).ok();
    // What docker's client says of hardware addresses, Docker 20.10 does not understand.
    let [flag, field] = if c.is_knarr_engine() {
        ["--mac-address 02:00:00:00:00:50", ",mac-address=02:00:00:00:00:60"]
    } else {
        ["", ""]
    };
    let flags = format!("--network {network} --ip {net}.50 --network-alias fifty {flag}");
    let fifty = c.start(&format!("{flags} busybox sleep 1000"));
    let long = format!("name={network},alias=sixty,ip={net}.60{field}");
    let sixty = c.start(&format!("--network {long} busybox sleep 1000"));
    for (container, number) in [(&fifty, 50), (&sixty, 60)].into_iter().filter(|_| c.is_knarr_engine()) {
        let mac = format!("02:00:00:00:00:{number}\n");
        c.run(&format!("exec {container} cat /sys/class/net/eth0/address")).ok().out(&mac);
    }
    for (from, name, number) in [(&fifty, "sixty", 60), (&sixty, "fifty", 50)] {
        c.run(&format!("exec {from} nslookup {name}")).ok().out_has(&format!("Address: {net}.{number}"));
        reaches(c, from, &format!("{net}.{number}"));
    }
    let run = |flags: &str| c.run(&format!("run --rm {flags} busybox true")).code(125);
    run(&format!("--network {network} --ip {net}.50")).err_has("Address already in use");
    run(&format!("--network {network} --ip 10.200.0.1")).err_has("10.200.0.1");
    run(&format!("--ip {net}.51")).err_has("user specified IP address is supported");
    run("--network-alias x").err_has("only supported for user");
    run(&format!("--network {network} --mac-address 02:00")).err_has("not a valid mac address");
    c.run(&format!("rm -f {fifty} {sixty}")).ok();
    c.run(&format!("network rm {network}")).ok();
}

fn an_alias_of_several_leads_to_each(c: &Client) {
    let network = c.name("robin");
    c.run(&format!("network create {network}")).ok();
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(c.start(&format!("--network {network} --network-alias pool busybox sleep 1000")));
    }
    let answer = c.run(&format!("run --rm --network {network} busybox nslookup pool")).ok();
    let mut answer = answer.out_has("pool");
    for server in &servers {
        answer = answer.out_has(&format!("Address: {}", address(c, server, &network)));
    }
    // Each is first now and then.
    let first = || {
        let told = c.run(&format!("exec {} nslookup -type=a pool", servers[0])).ok().stdout;
        let mut lines = told.lines().filter_map(|line| line.strip_prefix("Address: ").map(str::to_owned));
        lines.next().unwrap_or_default()
    };
    let mut seen = BTreeSet::new();
    until("every server comes first", || {
        seen.insert(first());
        seen.len() == 3
    });
    c.run(&format!("rm -f {}", servers[2])).ok();
    let gone = c.run(&format!("exec {} nslookup pool", servers[0])).ok();
    assert_eq!(gone.stdout.matches("Address: ").count(), 2, "{}", gone.stdout);
    c.run(&format!("rm -f {}", servers[..2].join(" "))).ok();
    c.run(&format!("network rm {network}")).ok();
}

fn an_internal_network_leads_nowhere(c: &Client) {
    let (inner, outer) = (c.name("inner"), c.name("outer"));
    c.run(&format!("network create --internal {inner}")).ok();
    c.run(&format!("network create {outer}")).ok();
    let (one, two) = (c.name("one"), c.name("two"));
    c.start(&format!("--name {one} --network {inner} busybox sleep 1000"));
    c.start(&format!("--name {two} --network {inner} busybox sleep 1000"));
    let outside = c.start(&format!("--network {outer} busybox sleep 1000"));
    reaches(c, &one, &address(c, &two, &inner));
    c.run(&format!("exec {one} nslookup {two}")).ok();
    assert!(!pings(c, &one, &address(c, &outside, &outer)));
    if c.is_knarr_engine() {
        // Docker 20.10 names a way out that leads nowhere.
        assert_eq!(way_out(c, &one), "");
    }
    c.run(&format!("network connect {outer} {one}")).ok();
    reaches(c, &one, &address(c, &outside, &outer));
    assert!(way_out(c, &one).contains("default via"));
    c.run(&format!("rm -f {one} {two} {outside}")).ok();
    c.run(&format!("network rm {inner} {outer}")).ok();
}

fn the_way_out_is_where_it_was_wished(c: &Client) {
    if !c.is_knarr_engine() {
        eprintln!("not tried: Docker 20.10 takes one network at most at the creation, and knows no priority");
        return;
    }
    let (a, b) = (c.name("a"), c.name("b"));
    let nets = [subnet(), subnet()];
    for (network, net) in [&a, &b].into_iter().zip(&nets) {
        c.run(&format!("network create --subnet {net}.0/24 {network}")).ok();
    }
    let way = |id: &str, net: &str| {
        assert!(way_out(c, id).contains(&format!("via {net}.1 ")), "{}", way_out(c, id));
    };
    let plain = c.start(&format!("--network {b} --network {a} busybox sleep 1000"));
    way(&plain, &nets[0]);
    let wished = c.start(&format!("--network {a} --network name={b},gw-priority=1 busybox sleep 1000"));
    way(&wished, &nets[1]);
    // Where the way out goes, another way is taken.
    c.run(&format!("network disconnect {b} {wished}")).ok();
    way(&wished, &nets[0]);
    c.run(&format!("network connect --gw-priority 5 {b} {wished}")).ok();
    way(&wished, &nets[1]);
    c.run(&format!("rm -f {plain} {wished}")).ok();
    c.run(&format!("network rm {a} {b}")).ok();
}

fn ipv6(c: &Client) {
    let (network, number) = (c.name("six"), subnet().replace("10.77.", ""));
    let net = format!("fd77:1{number:0>3}::");
    c.run(&format!("network create --ipv6 --subnet {net}/64 {network}")).ok();
    let (one, two) = (c.name("one"), c.name("two"));
    c.start(&format!("--name {one} --network {network} busybox sleep 1000"));
    c.start(&format!("--name {two} --network {network} --ip6 {net}77 busybox sleep 1000"));
    assert_eq!(
        c.field(&two, &format!("/NetworkSettings/Networks/{network}/GlobalIPv6Address")),
        format!("{net}77")
    );
    c.run(&format!("exec {one} ping -6 -c 1 -W 2 {net}77")).ok();
    c.run(&format!("exec {one} nslookup -type=aaaa {two}")).ok().out_has(&format!("{net}77"));
    c.run(&format!("exec {one} ip -6 route show default")).ok().out_has(&format!("via {net}1 "));
    c.run(&format!("rm -f {one} {two}")).ok();
    if c.is_knarr_engine() {
        // A prefix of the engine's own where none is given; Docker 20.10 wants one.
        let chosen = c.name("chosen");
        c.run(&format!("network create --ipv6 {chosen}")).ok();
        let six = c.start(&format!("--network {chosen} busybox sleep 1000"));
        let found = c.field(&six, &format!("/NetworkSettings/Networks/{chosen}/GlobalIPv6Address"));
        assert!(found.as_str().is_some_and(|address| address.starts_with("fd")), "{found}");
        c.run(&format!("rm -f {six}")).ok();
        c.run(&format!("network rm {chosen}")).ok();
    }
    let without = c.start("busybox sleep 1000");
    c.run(&format!("exec {without} ip -6 addr show dev eth0")).ok().out("");
    c.run(&format!("rm -f {without}")).ok();
    c.run(&format!("network rm {network}")).ok();
}

fn hosts_and_servers_of_ones_own(c: &Client) {
    let id = c.start(
        "--add-host db:10.1.2.3 --add-host six=[fd00::1] --add-host me:host-gateway --hostname web --domainname example.org \
         --dns 10.9.9.9 --dns-search example.org --dns-option timeout:3 busybox sleep 1000",
    );
    let gateway = c.field(&id, "/NetworkSettings/Gateway");
    let hosts = c.run(&format!("exec {id} cat /etc/hosts")).ok();
    hosts
        .out_has("10.1.2.3\tdb\n")
        .out_has("fd00::1\tsix\n")
        .out_has(&format!("{}\tme\n", gateway.as_str().expect("a gateway")))
        .out_has("\tweb.example.org web\n");
    c.run(&format!("exec {id} cat /etc/resolv.conf"))
        .ok()
        .out_has("nameserver 10.9.9.9\n")
        .out_has("search example.org\n")
        .out_has("options timeout:3\n");
    c.run(&format!("rm -f {id}")).ok();
    for (flag, words) in [
        ("--add-host db", "bad format for add-host"),
        ("--add-host db:x", "invalid IP address in add-host"),
        ("--dns one", "IP address is not correctly formatted"),
        ("--network name=x,colour=red", "invalid field key colour"),
        ("--network x --network x", "specified multiple times"),
        ("--network x --network host", "cannot attach both user-defined and non-user-defined"),
    ] {
        c.run(&format!("run --rm {flag} busybox true")).code(125).err_has(words);
    }
}

/// Not supported here, and said so.
fn links_are_refused(c: &Client) {
    if c.is_knarr_engine() {
        c.run("run --rm --link web:www busybox true").code(125).err_has("does not support");
        c.run("run --rm --link-local-ip 169.254.1.1 busybox true").code(125).err_has("does not support");
    }
}
