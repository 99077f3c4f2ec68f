//! Links, addresses, routes and neighbours in namespaces made for it; `ip` is the witness.

#![allow(clippy::unwrap_used, reason = "helpers of tests, too, fail by panicking")]

use std::{
    net::{IpAddr, TcpListener, TcpStream},
    process::Command,
    time::Duration,
};

use netlink::{Bridge, Kind, Namespace, Neighbour, NewLink, Peer, Port, Route, Socket, Vxlan};
use rustix::io::Errno;

/// What a program says inside a namespace.
fn said(namespace: &Namespace, program: &str, words: &[&str]) -> String {
    let output = namespace.within(|| Command::new(program).args(words).output()).unwrap().unwrap();
    assert!(output.status.success(), "{program} {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A connection from one namespace to another goes through.
fn reaches(from: &Namespace, to: &Namespace, address: IpAddr) {
    let server = to.within(|| TcpListener::bind((address, 0))).unwrap().unwrap();
    let target = server.local_addr().unwrap();
    let client = from.within(|| TcpStream::connect_timeout(&target, Duration::from_secs(5))).unwrap();
    client.unwrap_or_else(|error| panic!("{address}: {error}"));
}

fn bridge(name: &str) -> NewLink<'_> {
    let kind = Kind::Bridge(Bridge { multicast_snooping: true });
    NewLink {
        name,
        kind,
        mtu: Some(1400),
        mac: Some([2, 0, 0, 0, 0, 1]),
        master: None,
        namespace: None,
        up: true,
    }
}

#[test]
fn a_bridge_and_a_pair_carry_packets() {
    let (host, inside) = (Namespace::new().unwrap(), Namespace::new().unwrap());
    let mut socket = Socket::route(&host).unwrap();
    socket.add_link(&bridge("knarr0")).unwrap();
    let found = socket.link("knarr0").unwrap().unwrap();
    assert_eq!(
        (found.kind.as_str(), found.mtu, found.mac, found.up),
        ("bridge", 1400, Some([2, 0, 0, 0, 0, 1]), true)
    );
    socket.add_address(found.index, "10.9.0.1/24".parse().unwrap()).unwrap();
    socket.add_address(found.index, "fd00:9::1/64".parse().unwrap()).unwrap();
    let peer = Peer { name: "eth0", mac: Some([2, 0, 0, 0, 0, 9]), namespace: Some(&inside) };
    let pair = NewLink {
        name: "veth1",
        kind: Kind::Veth(peer),
        mtu: Some(1400),
        mac: None,
        master: Some(found.index),
        namespace: None,
        up: true,
    };
    socket.add_link(&pair).unwrap();
    let port = socket.link("veth1").unwrap().unwrap();
    assert_eq!((port.kind.as_str(), port.master, port.up), ("veth", Some(found.index), true));
    socket.set_port(port.index, Port { hairpin: true, isolated: true }).unwrap();
    let details = said(&host, "ip", &["-d", "link", "show", "veth1"]);
    assert!(details.contains("hairpin on") && details.contains("isolated on"), "{details}");

    let mut there = Socket::route(&inside).unwrap();
    let eth0 = there.index("eth0").unwrap();
    there.set_up(eth0, true).unwrap();
    there.add_address(eth0, "10.9.0.2/24".parse().unwrap()).unwrap();
    there.add_address(eth0, "10.9.0.2/24".parse().unwrap()).unwrap();
    there.add_address(eth0, "fd00:9::2/64".parse().unwrap()).unwrap();
    let gateways: [IpAddr; 2] = ["10.9.0.1".parse().unwrap(), "fd00:9::1".parse().unwrap()];
    for gateway in gateways {
        there.add_route(&Route::default_by(gateway)).unwrap();
        assert!(there.routes().unwrap().iter().any(|route| {
            route.gateway == Some(gateway) && route.destination.prefix_len() == 0 && route.link == Some(eth0)
        }));
        reaches(&inside, &host, gateway);
    }
    let addresses = there.addresses().unwrap();
    assert!(addresses.iter().any(|found| found.address == "10.9.0.2/24".parse().unwrap() && !found.narrow));

    there.delete_route(&Route::default_by(gateways[0])).unwrap();
    there.delete_route(&Route::default_by(gateways[0])).unwrap();
    there.delete_address(eth0, "10.9.0.2/24".parse().unwrap()).unwrap();
    there.delete_address(eth0, "10.9.0.2/24".parse().unwrap()).unwrap();
    assert!(!said(&inside, "ip", &["-4", "addr"]).contains("10.9.0.2"));
    socket.delete_link("veth1").unwrap();
    socket.delete_link("veth1").unwrap();
    assert!(there.link("eth0").unwrap().is_none());
}

#[test]
fn refusals_say_what_and_why() {
    let host = Namespace::new().unwrap();
    let mut socket = Socket::route(&host).unwrap();
    socket.add_link(&bridge("one")).unwrap();
    let twice = socket.add_link(&bridge("one")).unwrap_err();
    assert_eq!(twice.errno(), Some(Errno::EXIST));
    assert!(twice.to_string().starts_with("make bridge one: EEXIST"), "{twice}");
    let none = socket.index("nothing").unwrap_err();
    assert_eq!(none.to_string(), "find link nothing: ENODEV");
    let long = socket.add_link(&bridge("a-name-of-sixteen")).unwrap_err();
    assert!(long.to_string().contains("the kernel says"), "{long}");
}

#[test]
fn links_are_listed_changed_and_moved() {
    let (host, other) = (Namespace::new().unwrap(), Namespace::new().unwrap());
    let mut socket = Socket::route(&host).unwrap();
    let peer = Peer { name: "b", mac: None, namespace: None };
    let kind = Kind::Veth(peer);
    socket
        .add_link(&NewLink {
            name: "a",
            kind,
            mtu: None,
            mac: None,
            master: None,
            namespace: None,
            up: false,
        })
        .unwrap();
    let a = socket.index("a").unwrap();
    socket.set_mtu(a, 1280).unwrap();
    socket.set_alias(a, "of a test").unwrap();
    socket.rename(a, "c").unwrap();
    socket.set_up(a, true).unwrap();
    let c = socket.link("c").unwrap().unwrap();
    assert_eq!((c.index, c.mtu, c.alias.as_str(), c.up), (a, 1280, "of a test", true));
    socket.add_link(&bridge("br")).unwrap();
    let master = socket.index("br").unwrap();
    socket.set_master(a, master).unwrap();
    assert_eq!(socket.link("c").unwrap().unwrap().master, Some(master));
    socket.set_master(a, 0).unwrap();
    let names: Vec<String> = socket.links().unwrap().into_iter().map(|link| link.name).collect();
    assert_eq!(names.len(), 4, "{names:?}");
    socket.move_link(a, &other, Some("moved")).unwrap();
    assert!(Socket::route(&other).unwrap().link("moved").unwrap().is_some());
    assert!(socket.link("c").unwrap().is_none());
}

#[test]
fn a_vxlan_knows_its_peers() {
    let host = Namespace::new().unwrap();
    let mut socket = Socket::route(&host).unwrap();
    let local: IpAddr = "192.0.2.1".parse().unwrap();
    let kind = Kind::Vxlan(Vxlan { vni: 77, local, port: 4790, parent: None });
    socket
        .add_link(&NewLink {
            name: "vx",
            kind,
            mtu: None,
            mac: None,
            master: None,
            namespace: None,
            up: true,
        })
        .unwrap();
    let index = socket.index("vx").unwrap();
    let end =
        Neighbour { index, address: "192.0.2.2".parse().unwrap(), mac: [2, 0, 0, 0, 0, 7], forwarding: true };
    let inside = Neighbour { address: "10.1.2.3".parse().unwrap(), forwarding: false, ..end };
    for entry in [end, inside] {
        socket.add_neighbour(&entry).unwrap();
        socket.add_neighbour(&entry).unwrap();
        assert_eq!(socket.neighbours(index, entry.forwarding).unwrap(), [entry]);
    }
    let details = said(&host, "ip", &["-d", "link", "show", "vx"]);
    for words in ["vxlan id 77", "local 192.0.2.1", "dstport 4790", "nolearning"] {
        assert!(details.contains(words), "{words}: {details}");
    }
    for entry in [end, inside] {
        socket.delete_neighbour(&entry).unwrap();
        socket.delete_neighbour(&entry).unwrap();
        assert_eq!(socket.neighbours(index, entry.forwarding).unwrap(), []);
    }
}
