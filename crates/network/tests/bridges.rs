//! Who reaches whom, by packets: between containers, networks, the host and the outside.

#![allow(clippy::unwrap_used, reason = "helpers of tests, too, fail by panicking")]

mod world;

use std::net::IpAddr;

use netlink::Socket;
use network::{Bridge, Error, Publish};
use world::{World, arrives, blocked, bridge, publish, serve};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn networks_are_apart_and_reach_the_outside_as_the_host() {
    let world = World::new();
    let (one, two) = (bridge("one", &["10.1.0.0/24", "fd01::/64"]), bridge("two", &["10.2.0.0/24"]));
    world.host.create(&one).unwrap();
    world.host.create(&two).unwrap();
    let (a, b, c) = (world.container(&one, 2), world.container(&one, 3), world.container(&two, 2));
    for namespace in [&a.inside, &b.inside, &c.inside, &world.outside, &world.ground] {
        serve(namespace, 80);
    }
    assert_eq!(arrives(&a.inside, b.v4, 80), "10.1.0.2");
    assert_eq!(arrives(&a.inside, b.v6.unwrap(), 80), "fd01::2");
    blocked(&a.inside, c.v4, 80);
    blocked(&c.inside, a.v4, 80);
    assert_eq!(arrives(&a.inside, ip("192.0.2.9"), 80), "192.0.2.1");
    assert_eq!(arrives(&a.inside, ip("2001:db8::9"), 80), "2001:db8::1");
    assert_eq!(arrives(&a.inside, ip("10.1.0.1"), 80), "10.1.0.2", "the host itself");
    assert_eq!(arrives(&world.ground, a.v4, 80), "10.1.0.1");
    // The outside knows the way, and is refused.
    blocked(&world.outside, a.v4, 80);
    blocked(&world.outside, a.v6.unwrap(), 80);
}

#[test]
fn published_ports_answer_from_everywhere() {
    let world = World::new();
    let (one, two) = (bridge("one", &["10.1.0.0/24", "fd01::/64"]), bridge("two", &["10.2.0.0/24"]));
    world.host.create(&one).unwrap();
    world.host.create(&two).unwrap();
    let (a, b, c) = (world.container(&one, 2), world.container(&one, 3), world.container(&two, 2));
    serve(&a.inside, 80);
    blocked(&world.outside, ip("192.0.2.1"), 8080);
    let ports = [publish(8080, a.v4, 80), publish(8080, a.v6.unwrap(), 80)];
    world.host.publish(&ports).unwrap();
    assert_eq!(arrives(&world.outside, ip("192.0.2.1"), 8080), "192.0.2.9", "the client's address is kept");
    assert_eq!(arrives(&world.outside, ip("2001:db8::1"), 8080), "2001:db8::9");
    assert_eq!(arrives(&world.ground, ip("127.0.0.1"), 8080), "10.1.0.1", "by loopback");
    assert_eq!(arrives(&world.ground, ip("192.0.2.1"), 8080), "192.0.2.1", "by the host's own address");
    assert_eq!(arrives(&c.inside, ip("192.0.2.1"), 8080), "10.2.0.2", "from another network");
    assert_eq!(arrives(&b.inside, ip("192.0.2.1"), 8080), "10.1.0.1", "from the same network");
    assert_eq!(arrives(&a.inside, ip("192.0.2.1"), 8080), "10.1.0.1", "from itself");
    // Another's table is not ours to answer for, but ours comes back.
    world
        .ground
        .within(|| std::process::Command::new("nft").args(["flush", "ruleset"]).status())
        .unwrap()
        .unwrap();
    world.host.repair().unwrap();
    assert_eq!(arrives(&world.outside, ip("192.0.2.1"), 8080), "192.0.2.9");
    world.host.unpublish(&ports).unwrap();
    blocked(&world.outside, ip("192.0.2.1"), 8080);
    blocked(&world.ground, ip("127.0.0.1"), 8080);
}

#[test]
fn ranges_addresses_and_sources_are_exact() {
    let world = World::new();
    let one = bridge("one", &["10.1.0.0/24"]);
    world.host.create(&one).unwrap();
    let a = world.container(&one, 2);
    for port in [80, 9000, 9999, 9500] {
        serve(&a.inside, port);
    }
    let same = Publish { ports: 9000..=9999, ..publish(9000, a.v4, 9000) };
    let shifted = Publish { ports: 7000..=7999, ..publish(7000, a.v4, 9000) };
    let local = Publish { host: Some(ip("127.0.0.1")), ..publish(81, a.v4, 80) };
    let friends = Publish { from: vec!["192.0.2.8/30".parse().unwrap()], ..publish(82, a.v4, 80) };
    let strangers = Publish { from: vec!["203.0.113.0/24".parse().unwrap()], ..publish(83, a.v4, 80) };
    let range_of_friends = Publish {
        from: vec!["192.0.2.9/32".parse().unwrap()],
        ports: 9400..=9600,
        ..publish(9400, a.v4, 9400)
    };
    world.host.publish(&[same.clone(), shifted, local, friends, strangers]).unwrap();
    let host = ip("192.0.2.1");
    for port in [9000, 9500, 9999, 7000, 7500, 7999, 82] {
        assert_eq!(arrives(&world.outside, host, port), "192.0.2.9", "{port}");
    }
    for port in [8999, 10000, 6999, 8000, 81, 83] {
        blocked(&world.outside, host, port);
    }
    assert_eq!(arrives(&world.ground, ip("127.0.0.1"), 81), "10.1.0.1");
    world.host.unpublish(&[same]).unwrap();
    blocked(&world.outside, host, 9500);
    world.host.publish(&[range_of_friends]).unwrap();
    assert_eq!(arrives(&world.outside, host, 9500), "192.0.2.9");
}

#[test]
fn internal_networks_stay_inside() {
    let world = World::new();
    let inner = Bridge { internal: true, ..bridge("inner", &["10.3.0.0/24"]) };
    let one = bridge("one", &["10.1.0.0/24"]);
    world.host.create(&inner).unwrap();
    world.host.create(&one).unwrap();
    let (a, b, c) = (world.container(&inner, 2), world.container(&inner, 3), world.container(&one, 2));
    for namespace in [&b.inside, &world.outside, &c.inside] {
        serve(namespace, 80);
    }
    assert_eq!(arrives(&a.inside, b.v4, 80), "10.3.0.2");
    // Even one who finds a way to the gateway.
    let mut socket = Socket::route(&a.inside).unwrap();
    socket.add_route(&netlink::Route::default_by(ip("10.3.0.1"))).unwrap();
    blocked(&a.inside, ip("192.0.2.9"), 80);
    blocked(&a.inside, c.v4, 80);
}

#[test]
fn containers_that_must_not_talk_do_not() {
    let world = World::new();
    let quiet = Bridge { talk: false, ..bridge("quiet", &["10.4.0.0/24"]) };
    world.host.create(&quiet).unwrap();
    let (a, b) = (world.container(&quiet, 2), world.container(&quiet, 3));
    serve(&b.inside, 80);
    serve(&world.outside, 80);
    blocked(&a.inside, b.v4, 80);
    assert_eq!(arrives(&a.inside, ip("192.0.2.9"), 80), "192.0.2.1");
    assert_eq!(arrives(&world.ground, b.v4, 80), "10.4.0.1");
}

#[test]
fn forwarding_is_for_containers_only() {
    let world = World::new();
    let other = world.second_outside();
    serve(&other, 80);
    blocked(&world.outside, ip("198.51.100.9"), 80);
    let one = bridge("one", &["10.1.0.0/24", "fd01::/64"]);
    world.host.create(&one).unwrap();
    let a = world.container(&one, 2);
    assert_eq!(arrives(&a.inside, ip("198.51.100.9"), 80), "198.51.100.1");
    blocked(&world.outside, ip("198.51.100.9"), 80);
    blocked(&world.outside, ip("2001:db8:2::9"), 80);
}

#[test]
fn no_ipv6_where_a_network_has_none() {
    let world = World::new();
    let one = bridge("one", &["10.1.0.0/24"]);
    world.host.create(&one).unwrap();
    let a = world.container(&one, 2);
    for (namespace, link) in [(&world.ground, "one"), (&world.ground, "one-2"), (&a.inside, "eth0")] {
        let mut socket = Socket::route(namespace).unwrap();
        let index = socket.index(link).unwrap();
        let addresses = socket.addresses().unwrap();
        assert!(
            !addresses.iter().any(|found| found.index == index && found.address.addr().is_ipv6()),
            "{link}"
        );
    }
}

#[test]
fn what_begins_again_disturbs_nobody() {
    let world = World::new();
    let one = bridge("one", &["10.1.0.0/24"]);
    world.host.create(&one).unwrap();
    let a = world.container(&one, 2);
    serve(&a.inside, 80);
    let port = publish(8080, a.v4, 80);
    world.host.publish(std::slice::from_ref(&port)).unwrap();
    let options = network::Options { table: "knarr-test".to_owned() };
    let next = world.ground.within(|| network::Host::open(options)).unwrap().unwrap();
    next.restore(vec![one], vec![port.clone()]).unwrap();
    assert_eq!(arrives(&world.outside, ip("192.0.2.1"), 8080), "192.0.2.9");
    next.unpublish(&[port]).unwrap();
    next.disconnect("one-2").unwrap();
    next.remove("one").unwrap();
    next.remove("one").unwrap();
    next.clear().unwrap();
    let mut socket = Socket::route(&world.ground).unwrap();
    let left: Vec<String> = socket.links().unwrap().into_iter().map(|link| link.name).collect();
    assert_eq!(left, ["lo", "out"]);
}

#[test]
fn failures_leave_nothing() {
    let world = World::new();
    let one = bridge("one", &["10.1.0.0/24"]);
    world.host.create(&one).unwrap();
    let a = world.container(&one, 2);
    let again = world.host.connect(&a.endpoint, &a.inside).unwrap_err();
    assert!(matches!(again, Error::Conflict(_)), "{again}");
    // `eth0` is taken inside: the pair is not made.
    let twice = network::Endpoint { host_link: "new".to_owned(), ..a.endpoint.clone() };
    world.host.connect(&twice, &a.inside).unwrap_err();
    let mut socket = Socket::route(&world.ground).unwrap();
    assert!(socket.link("new").unwrap().is_none());
    let foreign = world.host.create(&bridge("out", &["10.9.0.0/24"])).unwrap_err();
    assert!(foreign.to_string().contains("link out exists and is veth"), "{foreign}");
    assert!(world.host.subnets_in_use().unwrap().contains(&"10.1.0.0/24".parse().unwrap()));
    // The outside's own rules were not added to by what failed.
    let listed = world
        .ground
        .within(|| {
            std::process::Command::new("nft").args(["list", "set", "inet", "knarr-test", "bridges"]).output()
        })
        .unwrap()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains("\"one\"") && !listed.contains("\"out\""), "{listed}");
}
