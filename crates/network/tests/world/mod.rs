//! A host between an outside client and containers, each a namespace made for it.

#![allow(
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "helpers of tests, too, fail by panicking"
)]

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use netlink::{Kind, NewLink, Peer, Route, Socket};
use network::{Bridge, Endpoint, Handle, Host, Options, Protocol, Publish, Subnet};

/// How long a connection may take that ought to succeed, and one that ought not.
const PATIENCE: Duration = Duration::from_secs(5);
const DOUBT: Duration = Duration::from_millis(300);

/// A host with one link to the outside, `out`: 192.0.2.1 and `2001:db8::1` here, .9 and `::9` there.
pub struct World {
    pub outside: Handle,
    pub ground: Handle,
    pub host: Host,
}

impl World {
    pub fn new() -> Self {
        let (outside, ground) = (Host::namespace().unwrap(), Host::namespace().unwrap());
        // New namespaces take these from the machine's own.
        let off = |path: &'static str| ground.within(move || std::fs::write(path, "0")).unwrap().unwrap();
        off("/proc/sys/net/ipv4/ip_forward");
        off("/proc/sys/net/ipv6/conf/all/forwarding");
        wire(
            &ground,
            "out",
            ["192.0.2.1/24", "2001:db8::1/64"],
            &outside,
            ["192.0.2.9/24", "2001:db8::9/64"],
        );
        let host = ground.within(|| Host::open(Options { table: "knarr-test".to_owned() })).unwrap().unwrap();
        Self { outside, ground, host }
    }

    /// Another foreign link of the host.
    pub fn second_outside(&self) -> Handle {
        let other = Host::namespace().unwrap();
        wire(
            &self.ground,
            "out2",
            ["198.51.100.1/24", "2001:db8:2::1/64"],
            &other,
            ["198.51.100.9/24", "2001:db8:2::9/64"],
        );
        other
    }

    /// A container on a bridge.
    pub fn container(&self, bridge: &Bridge, number: u8) -> Container {
        let inside = Host::namespace().unwrap();
        let mut addresses = Vec::new();
        for subnet in &bridge.subnets {
            let address = match subnet.net.network() {
                IpAddr::V4(base) => IpAddr::V4((u32::from(base) + u32::from(number)).into()),
                IpAddr::V6(base) => IpAddr::V6((u128::from(base) + u128::from(number)).into()),
            };
            addresses.push(ipnet::IpNet::new(address, subnet.net.prefix_len()).unwrap());
        }
        let gateways = bridge.subnets.iter().filter_map(|subnet| subnet.gateway).collect();
        let endpoint = Endpoint {
            bridge: bridge.link.clone(),
            host_link: format!("{}-{number}", bridge.link),
            link: "eth0".to_owned(),
            mac: None,
            addresses: addresses.clone(),
            gateways: if bridge.internal { Vec::new() } else { gateways },
        };
        self.host.connect(&endpoint, &inside).unwrap();
        Container { inside, v4: addresses[0].addr(), v6: addresses.get(1).map(ipnet::IpNet::addr), endpoint }
    }
}

pub struct Container {
    pub inside: Handle,
    pub v4: IpAddr,
    pub v6: Option<IpAddr>,
    pub endpoint: Endpoint,
}

/// Both ends of a cable, each the other's way to everywhere.
fn wire(here: &Handle, name: &str, ours: [&str; 2], there: &Handle, theirs: [&str; 2]) {
    let mut links = Socket::route(here).unwrap();
    let kind = Kind::Veth(Peer { name: "eth0", mac: None, namespace: Some(there) });
    links
        .add_link(&NewLink { name, kind, mtu: None, mac: None, master: None, namespace: None, up: true })
        .unwrap();
    let mut far = Socket::route(there).unwrap();
    let (index, eth0) = (links.index(name).unwrap(), far.index("eth0").unwrap());
    far.set_up(eth0, true).unwrap();
    for (our, their) in ours.into_iter().zip(theirs) {
        let our: ipnet::IpNet = our.parse().unwrap();
        links.add_address(index, our).unwrap();
        far.add_address(eth0, their.parse().unwrap()).unwrap();
        far.add_route(&Route::default_by(our.addr())).unwrap();
    }
}

pub fn bridge(link: &str, subnets: &[&str]) -> Bridge {
    Bridge {
        link: link.to_owned(),
        subnets: subnets.iter().map(|net| Subnet::new(net.parse().unwrap())).collect(),
        mtu: None,
        internal: false,
        masquerade: true,
        talk: true,
    }
}

pub fn publish(port: u16, target: IpAddr, target_port: u16) -> Publish {
    Publish { protocol: Protocol::Tcp, host: None, ports: port..=port, target, target_port, from: Vec::new() }
}

/// Tells every client which address it came from, until the process ends.
pub fn serve(inside: &Handle, port: u16) {
    let listener = inside.within(|| TcpListener::bind((IpAddr::from([0u16; 8]), port))).unwrap();
    // Where IPv6 is switched off.
    let listener = listener
        .or_else(|_| inside.within(|| TcpListener::bind((IpAddr::from([0u8; 4]), port))).unwrap())
        .unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let (mut client, from) = (client.try_clone().unwrap(), client.peer_addr().unwrap());
            let _ = write!(client, "{}", from.ip().to_canonical());
        }
    });
}

fn ask(from: &Handle, address: IpAddr, port: u16, patience: Duration) -> Option<String> {
    let target = SocketAddr::new(address, port);
    let mut stream = from.within(|| TcpStream::connect_timeout(&target, patience)).unwrap().ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).ok()?;
    Some(said)
}

/// As whom `from` arrives at a server.
#[track_caller]
pub fn arrives(from: &Handle, address: impl Into<IpAddr>, port: u16) -> String {
    let address = address.into();
    let said = ask(from, address, port, PATIENCE);
    assert!(said.is_some(), "{address} port {port} does not answer");
    said.unwrap()
}

#[track_caller]
pub fn blocked(from: &Handle, address: impl Into<IpAddr>, port: u16) {
    let address = address.into();
    let said = ask(from, address, port, DOUBT);
    assert_eq!(said, None, "{address} port {port} answers");
}
