//! Bridges and the pairs that lead to them.

use std::path::{Path, PathBuf};

use ipnet::IpNet;
use netlink::{Kind, Namespace, Neighbour, NewLink, Peer, Port, Route, Socket};
use rustix::io::Errno;

use crate::{Bridge, Endpoint, Error, Result};

/// Sets a kernel parameter of the namespace `of`, below `/proc/sys/net`. One that is not there (a kernel without IPv6)
/// needs no setting.
pub(crate) fn set(of: &Namespace, parameters: &[(String, &str)]) -> Result<()> {
    of.within(|| {
        parameters.iter().try_for_each(|(name, value)| {
            let path = Path::new("/proc/sys/net").join(name);
            match std::fs::write(&path, value) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    Err(refused("write", path)(error))
                }
                _ => Ok(()),
            }
        })
    })?
}

/// For `map_err`.
pub(crate) fn refused(what: &'static str, path: PathBuf) -> impl FnOnce(std::io::Error) -> Error {
    move |source| Error::Io { what, path, source }
}

/// No IPv6 where the network has none (CVE-2024-32473), and no advertisement by a container is ever believed
/// (CVE-2020-13401).
fn quiet(link: &str, v6: bool) -> Vec<(String, &'static str)> {
    let conf = |name: &str| format!("ipv6/conf/{link}/{name}");
    vec![
        (conf("accept_ra"), "0"),
        (conf("autoconf"), "0"),
        (conf("disable_ipv6"), if v6 { "0" } else { "1" }),
    ]
}

/// Makes the bridge, or makes the one of its name what it should be; a link of another kind is refused.
pub(crate) fn ensure(routes: &mut Socket, host: &Namespace, bridge: &Bridge) -> Result<()> {
    let found = routes.link(&bridge.link)?;
    if let Some(other) = found.as_ref().filter(|link| link.kind != "bridge") {
        let kind = if other.kind.is_empty() { "another device" } else { &other.kind };
        return Err(Error::Conflict(format!("link {} exists and is {kind}, no bridge", bridge.link)));
    }
    if found.is_none() {
        let kind = Kind::Bridge(netlink::Bridge { multicast_snooping: true });
        let link = NewLink {
            name: &bridge.link,
            kind,
            mtu: bridge.mtu,
            // A bridge without one takes its lowest port's, and changes with it: connections would stall.
            mac: Some(mac()?),
            master: None,
            namespace: None,
            up: false,
        };
        routes.add_link(&link)?;
    }
    let outcome = furnish(routes, host, bridge);
    if outcome.is_err() && found.is_none() {
        let _ = routes.delete_link(&bridge.link);
    }
    outcome
}

fn furnish(routes: &mut Socket, host: &Namespace, bridge: &Bridge) -> Result<()> {
    let index = routes.index(&bridge.link)?;
    let mut parameters = quiet(&bridge.link, bridge.has(true));
    // For ports published on the host's loopback; the packet rules keep containers out of it.
    parameters.push((format!("ipv4/conf/{}/route_localnet", bridge.link), "1"));
    set(host, &parameters)?;
    for subnet in &bridge.subnets {
        let Some(gateway) = subnet.gateway else { continue };
        let address = IpNet::new(gateway, subnet.net.prefix_len())
            .map_err(|error| Error::Invalid(format!("subnet {}: {error}", subnet.net)))?;
        routes.add_address(index, address)?;
    }
    Ok(routes.set_up(index, true)?)
}

/// The hardware address that belongs to an IPv4 address, as Docker had it: neighbours who still remember whoever had the
/// address before find the new one.
pub fn mac_of(address: std::net::Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x02, 0x42, a, b, c, d]
}

/// A random hardware address, locally administered.
pub fn mac() -> Result<[u8; 6]> {
    let mut bytes = [0; 6];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| refused("read", "/dev/urandom".into())(error.into()))?;
    bytes[0] = bytes[0] & 0xfe | 0x02;
    Ok(bytes)
}

/// Ties a namespace to a bridge. The far end is born inside it: moving it there would cost 16 ms.
pub(crate) fn connect(
    routes: &mut Socket,
    host: &Namespace,
    bridge: &Bridge,
    endpoint: &Endpoint,
    inside: &Namespace,
) -> Result<()> {
    let peer = Peer { name: &endpoint.link, mac: endpoint.mac, namespace: Some(inside) };
    let link = NewLink {
        name: &endpoint.host_link,
        kind: Kind::Veth(peer),
        mtu: bridge.mtu,
        mac: None,
        master: Some(routes.index(&bridge.link)?),
        namespace: None,
        up: false,
    };
    routes.add_link(&link).map_err(|error| match error.errno() {
        Some(Errno::EXIST) => Error::Conflict(format!("{error}: a link of that name is there already")),
        _ => error.into(),
    })?;
    let outcome = tie(routes, host, bridge, endpoint, inside);
    if outcome.is_err() {
        let _ = routes.delete_link(&endpoint.host_link);
    }
    outcome
}

/// With `br_netfilter` a redirected frame turns round in the bridge itself, and may have to go back where it came from.
/// Not otherwise: every broadcast would come back as well.
fn bridged_packets_are_filtered(host: &Namespace) -> bool {
    let read = host.within(|| std::fs::read_to_string("/proc/sys/net/bridge/bridge-nf-call-iptables"));
    matches!(read, Ok(Ok(text)) if text.trim() == "1")
}

fn tie(
    routes: &mut Socket,
    host: &Namespace,
    bridge: &Bridge,
    endpoint: &Endpoint,
    inside: &Namespace,
) -> Result<()> {
    let port = routes.index(&endpoint.host_link)?;
    // The port itself speaks no IP.
    set(host, &quiet(&endpoint.host_link, false))?;
    let wanted = Port { isolated: !bridge.talk, hairpin: bridged_packets_are_filtered(host) };
    if wanted != Port::default() {
        routes.set_port(port, wanted)?;
    }
    routes.set_up(port, true)?;
    // The kernel remembers for seconds to whom an address belonged before: nobody on the host would reach it.
    let on = routes.index(&bridge.link)?;
    for address in endpoint.addresses.iter().map(IpNet::addr) {
        routes.delete_neighbour(&Neighbour { index: on, address, mac: [0; 6], forwarding: false })?;
    }

    let v6 = endpoint.addresses.iter().any(|address| matches!(address, IpNet::V6(_)));
    set(inside, &quiet(&endpoint.link, v6))?;
    let mut there = Socket::route(inside)?;
    let index = there.index(&endpoint.link)?;
    if let Some(mtu) = bridge.mtu {
        there.set_mtu(index, mtu)?;
    }
    for address in &endpoint.addresses {
        there.add_address(index, *address)?;
    }
    there.set_up(index, true)?;
    for gateway in &endpoint.gateways {
        there.add_route(&Route::default_by(*gateway))?;
    }
    Ok(())
}
