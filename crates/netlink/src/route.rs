//! Routes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use rustix::io::Errno;

use crate::{
    Socket,
    address::family,
    error::{Result, unless},
    message::{Message, flag},
    socket::Reply,
};

const NEW: u16 = 24;
const DELETE: u16 = 25;
const GET: u16 = 26;
/// `struct rtmsg`
const FIXED: usize = 12;
/// `RTA_*`
const DESTINATION: u16 = 1;
const LINK: u16 = 4;
const GATEWAY: u16 = 5;
const METRIC: u16 = 6;
const SOURCE: u16 = 7;
const TABLE: u16 = 15;
/// `RT_TABLE_MAIN`, `RTPROT_STATIC`, `RTN_UNICAST`, `RTNH_F_ONLINK`
const MAIN: u8 = 254;
const STATIC: u8 = 4;
const UNICAST: u8 = 1;
const ON_LINK: u32 = 4;

/// A way to a network, in the main table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Where to; a prefix of length 0 is the default route.
    pub destination: IpNet,
    /// The next hop; none if the network is on the link itself.
    pub gateway: Option<IpAddr>,
    /// The gateway is reachable although no address of the link says so.
    pub on_link: bool,
    /// The link; what the gateway is on if none.
    pub link: Option<u32>,
    /// Preferred source address.
    pub source: Option<IpAddr>,
    /// Lower wins; the kernel's default if none.
    pub metric: Option<u32>,
}

impl Route {
    /// The default route of a gateway's family.
    pub fn default_by(gateway: IpAddr) -> Self {
        let any = match gateway {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        Self { gateway: Some(gateway), ..Self::to(IpNet::from(any).supernet_of_all()) }
    }

    /// A route to a network, without anything else yet.
    pub fn to(destination: IpNet) -> Self {
        Self { destination, gateway: None, on_link: false, link: None, source: None, metric: None }
    }

    fn message(&self, kind: u16, flags: u16) -> Message {
        // `RT_SCOPE_LINK` for IPv4 without a gateway; IPv6 has one scope.
        let scope = if self.gateway.is_none() && self.destination.addr().is_ipv4() { 253 } else { 0 };
        let mut fixed = [0; FIXED];
        fixed[0] = family(self.destination.addr());
        fixed[1] = self.destination.prefix_len();
        fixed[4..8].copy_from_slice(&[MAIN, STATIC, scope, UNICAST]);
        fixed[8..].copy_from_slice(&if self.on_link { ON_LINK } else { 0 }.to_ne_bytes());
        let destination = (self.destination.prefix_len() > 0).then(|| self.destination.network());
        Message::new(kind, flags)
            .fixed(&fixed)
            .with_some(DESTINATION, destination.as_ref())
            .with_some(GATEWAY, self.gateway.as_ref())
            .with_some(LINK, self.link.as_ref())
            .with_some(SOURCE, self.source.as_ref())
            .with_some(METRIC, self.metric.as_ref())
    }

    fn words(&self) -> String {
        let by = self.gateway.map_or_else(String::new, |gateway| format!(" by {gateway}"));
        format!("{}{by}", self.destination)
    }
}

/// `0.0.0.0/0` or `::/0`.
trait All {
    fn supernet_of_all(self) -> Self;
}

impl All for IpNet {
    fn supernet_of_all(self) -> Self {
        IpNet::new(self.addr(), 0).unwrap_or(self).trunc()
    }
}

impl Socket {
    /// Adds a route; replaces one to the same network with the same metric.
    pub fn add_route(&mut self, route: &Route) -> Result<()> {
        let message = route.message(NEW, flag::CREATE | flag::REPLACE);
        self.change(message, || format!("add route {}", route.words()))
    }

    /// Removes a route; one that is not there is fine.
    pub fn delete_route(&mut self, route: &Route) -> Result<()> {
        let message = route.message(DELETE, 0);
        unless(self.change(message, || format!("remove route {}", route.words())), Errno::SRCH)
    }

    /// The routes of the main table.
    pub fn routes(&mut self) -> Result<Vec<Route>> {
        let message = Message::new(GET, flag::DUMP).fixed(&[0; FIXED]);
        Ok(self.get(message, || "list routes".to_owned())?.iter().filter_map(read).collect())
    }
}

fn read(reply: &Reply) -> Option<Route> {
    let fixed: &[u8; FIXED] = reply.fixed().filter(|_| reply.kind == NEW)?;
    let attributes = reply.attributes(FIXED);
    let table = attributes.u32(TABLE).unwrap_or_else(|| u32::from(fixed[4]));
    if table != u32::from(MAIN) || fixed[7] != UNICAST {
        return None;
    }
    let any: IpAddr = if fixed[0] == 2 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let destination = attributes.address(DESTINATION).unwrap_or(any);
    Some(Route {
        destination: IpNet::new(destination, fixed[1]).ok()?,
        gateway: attributes.address(GATEWAY),
        on_link: u32::from_ne_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]) & ON_LINK != 0,
        link: attributes.u32(LINK),
        source: attributes.address(SOURCE),
        metric: attributes.u32(METRIC),
    })
}
