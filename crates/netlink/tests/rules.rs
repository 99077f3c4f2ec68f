//! Packet rules in namespaces made for it; `nft` is the witness, and so are packets.

#![allow(clippy::unwrap_used, reason = "helpers of tests, too, fail by panicking")]

use std::{
    io::Read,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::Command,
    time::{Duration, Instant},
};

use netlink::{
    Kind, Namespace, NewLink, Peer, Route, Socket,
    nft::{
        Batch, Chain, Compare, Element, Expression, Family, Hook, Key, Mapped, Nat, Policy, Set, Type,
        Verdict, field, matches,
    },
};
use rustix::io::Errno;

const TABLE: &str = "knarr";

fn listed(namespace: &Namespace) -> String {
    let output =
        namespace.within(|| Command::new("nft").args(["list", "ruleset"]).output()).unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn base(name: &str, kind: Type, hook: Hook, priority: i32) -> Chain {
    Chain { name: name.to_owned(), base: Some((kind, hook, priority, Policy::Accept)) }
}

fn published() -> Set {
    Set {
        name: "published".to_owned(),
        key: vec![Key::Ipv4Address, Key::Protocol, Key::Port],
        gives: Some(Mapped::Values(vec![Key::Ipv4Address, Key::Port])),
        interval: true,
    }
}

/// Any address, TCP, one port or several, to an address and a port.
fn publish(first: u16, last: u16, to: Ipv4Addr, port: u16) -> Element {
    let part = |address: [u8; 4], port: u16| (address, [6u8], port.to_be_bytes());
    let (low, high) = (part([0; 4], first), part([255; 4], last));
    Element::range(&[&low.0, &low.1, &low.2], &[&high.0, &high.1, &high.2])
        .to(&[&to.octets(), &port.to_be_bytes()])
}

fn dnat() -> Vec<Expression> {
    let mut rule = matches(field::FAMILY, &[2]).to_vec();
    rule.extend([
        Expression::Load(netlink::nft::Field::FibDestinationType, 0),
        Expression::Compare(0, Compare::Equal, 2u32.to_ne_bytes().to_vec()),
        Expression::Load(field::IP_DESTINATION, 0),
        Expression::Load(field::PROTOCOL, 1),
        Expression::Load(field::DESTINATION_PORT, 2),
        Expression::Map(0, "published".to_owned(), Some(4)),
        Expression::Translate(Nat::Destination, true, 4, Some(5)),
    ]);
    rule
}

/// Of what the test below makes.
const AS_LISTED: &[&str] = &[
    "table inet knarr",
    "type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service",
    "0.0.0.0/0 . tcp . 8080 : 10.0.0.2 . 80",
    "tcp . 9000-9999 : 10.0.0.3 . 9000",
    "type nat hook prerouting priority dstnat; policy accept;",
    "fib daddr type local dnat ip to ip daddr . meta l4proto . th dport map @published comment \"published ports\"",
    "type filter hook forward priority filter; policy drop;",
    "elements = { 10.0.0.0/16 }",
    "\"br0\" : jump isolate",
    "iifname vmap @bridges comment \"by bridge\"",
    "ct state established,related counter packets 0 bytes 0 accept",
    "reject with icmpx admin-prohibited",
];

#[test]
fn what_is_made_reads_as_nft_writes_it() {
    let host = Namespace::new().unwrap();
    let mut socket = Socket::netfilter(&host).unwrap();
    let mut batch = Batch::new(Family::Inet, TABLE);
    batch
        .replace_table()
        .add_chain(&base("prerouting", Type::Nat, Hook::Prerouting, -100))
        .add_set(&published());
    batch.add_elements(
        "published",
        &[publish(8080, 8080, [10, 0, 0, 2].into(), 80), publish(9000, 9999, [10, 0, 0, 3].into(), 9000)],
    );
    batch.add_rule("prerouting", "published ports", &dnat());
    batch.add_chain(&Chain {
        name: "forward".into(),
        base: Some((Type::Filter, Hook::Forward, 0, Policy::Drop)),
    });
    batch.add_chain(&Chain::plain("isolate"));
    let subnets = Set { name: "subnets".into(), key: vec![Key::Ipv4Address], gives: None, interval: true };
    batch.add_set(&subnets).add_elements("subnets", &Element::interval(&[10, 0, 0, 0], &[10, 0, 255, 255]));
    let bridges = Set {
        name: "bridges".into(),
        key: vec![Key::InterfaceName],
        gives: Some(Mapped::Verdicts),
        interval: false,
    };
    let name = {
        let mut name = [0; 16];
        name[..3].copy_from_slice(b"br0");
        name
    };
    batch.add_set(&bridges);
    batch.add_elements("bridges", &[Element::key(&[&name]).then(Verdict::Jump("isolate".into()))]);
    batch.add_rule(
        "forward",
        "by bridge",
        &[Expression::Load(field::IN_INTERFACE, 0), Expression::Map(0, "bridges".into(), None)],
    );
    let established = [
        Expression::Load(field::CT_STATE, 0),
        Expression::Mask(0, 6u32.to_ne_bytes().to_vec()),
        Expression::Compare(0, Compare::Unequal, vec![0; 4]),
        Expression::Counter,
        Expression::Verdict(Verdict::Accept),
    ];
    batch.add_rule("isolate", "", &established);
    batch.add_rule("isolate", "", &[Expression::Reject]);
    let before = socket.generation().unwrap();
    socket.commit(batch, || "set the rules".to_owned()).unwrap();
    assert_ne!(socket.generation().unwrap(), before);
    let shown = listed(&host);
    for words in AS_LISTED {
        assert!(shown.contains(words), "{words}\n---\n{shown}");
    }
    let mut end = Batch::new(Family::Inet, TABLE);
    end.delete_table();
    socket.commit(end, || "remove the rules".to_owned()).unwrap();
    assert_eq!(listed(&host), "");
}

#[test]
fn a_batch_happens_whole_or_not_at_all() {
    let host = Namespace::new().unwrap();
    let mut socket = Socket::netfilter(&host).unwrap();
    let mut batch = Batch::new(Family::Inet, TABLE);
    batch.add_table().add_chain(&Chain::plain("one")).add_rule("nowhere", "", &[Expression::Counter]);
    let refused = socket.commit(batch, || "set the rules".to_owned()).unwrap_err();
    assert_eq!(refused.errno(), Some(Errno::NOENT), "{refused}");
    assert_eq!(listed(&host), "");
    // The conversation goes on after a refusal.
    let mut batch = Batch::new(Family::Inet, TABLE);
    batch.add_table();
    socket.commit(batch, || "set the rules".to_owned()).unwrap();
    assert!(listed(&host).contains("table inet knarr"));
}

#[test]
fn forty_thousand_elements_are_one_batch() {
    let host = Namespace::new().unwrap();
    let mut socket = Socket::netfilter(&host).unwrap();
    let elements: Vec<Element> =
        (10_000..50_000).map(|port| publish(port, port, [10, 0, 0, 2].into(), port - 1)).collect();
    let mut batch = Batch::new(Family::Inet, TABLE);
    batch.replace_table().add_set(&Set { interval: false, ..published() });
    let exact: Vec<Element> = elements.into_iter().map(|element| Element { end: None, ..element }).collect();
    batch.add_elements("published", &exact);
    let start = Instant::now();
    socket.commit(batch, || "publish".to_owned()).unwrap();
    println!("40,000 elements: {:?}", start.elapsed());
    let mut batch = Batch::new(Family::Inet, TABLE);
    batch.delete_elements("published", &exact[..39_999]);
    socket.commit(batch, || "take back".to_owned()).unwrap();
    assert_eq!(listed(&host).matches("tcp").count(), 1);
}

#[test]
fn a_published_port_leads_inside() {
    let (outside, host, inside) =
        (Namespace::new().unwrap(), Namespace::new().unwrap(), Namespace::new().unwrap());
    let mut links = Socket::route(&host).unwrap();
    for (name, there, here, other) in
        [("out", &outside, "192.0.2.1/24", "192.0.2.9/24"), ("in", &inside, "10.0.0.1/24", "10.0.0.2/24")]
    {
        let kind = Kind::Veth(Peer { name: "eth0", mac: None, namespace: Some(there) });
        links
            .add_link(&NewLink { name, kind, mtu: None, mac: None, master: None, namespace: None, up: true })
            .unwrap();
        let index = links.index(name).unwrap();
        links.add_address(index, here.parse().unwrap()).unwrap();
        let mut socket = Socket::route(there).unwrap();
        let eth0 = socket.index("eth0").unwrap();
        socket.set_up(eth0, true).unwrap();
        socket.add_address(eth0, other.parse().unwrap()).unwrap();
    }
    Socket::route(&inside).unwrap().add_route(&Route::default_by("10.0.0.1".parse().unwrap())).unwrap();
    host.within(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")).unwrap().unwrap();

    let mut socket = Socket::netfilter(&host).unwrap();
    let mut batch = Batch::new(Family::Inet, TABLE);
    batch
        .replace_table()
        .add_chain(&base("prerouting", Type::Nat, Hook::Prerouting, -100))
        .add_set(&published());
    batch.add_rule("prerouting", "", &dnat());
    batch.add_elements("published", &[publish(8080, 8080, [10, 0, 0, 2].into(), 80)]);
    socket.commit(batch, || "publish".to_owned()).unwrap();

    let server = inside.within(|| TcpListener::bind("0.0.0.0:80")).unwrap().unwrap();
    let target: SocketAddr = "192.0.2.1:8080".parse().unwrap();
    let client =
        outside.within(|| TcpStream::connect_timeout(&target, Duration::from_secs(5))).unwrap().unwrap();
    let (mut served, from) = server.accept().unwrap();
    assert_eq!(from.ip().to_string(), "192.0.2.9", "the client's address is kept");
    drop(client);
    assert_eq!(served.read(&mut [0]).unwrap(), 0);
}
