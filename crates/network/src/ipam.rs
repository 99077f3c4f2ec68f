//! Who gets which subnet and which address: pure functions over what is taken already. Nothing is remembered here,
//! so that it cannot disagree with the networks and endpoints that there are.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A range of addresses that a network hands out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// `172.17.0.0/24`
    pub net: IpNet,
    /// Addresses are handed out from here only; the whole subnet if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<IpNet>,
    /// The bridge's own address, by which containers leave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// Addresses that are somebody else's (`--aux-address`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reserved: Vec<IpAddr>,
}

/// A stock of subnets of one size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// Where they are cut from.
    pub base: IpNet,
    /// Length of each one's prefix.
    pub size: u8,
}

/// `/24`s of the private ranges, from where Docker's users expect them.
pub fn default_pools() -> Vec<Pool> {
    let pool = |address: [u8; 4], prefix| Pool {
        base: IpNet::V4(Ipv4Net::new_assert(address.into(), prefix)),
        size: 24,
    };
    let mut pools: Vec<Pool> = (17..32).map(|second| pool([172, second, 0, 0], 16)).collect();
    pools.push(pool([192, 168, 0, 0], 16));
    pools.push(pool([10, 0, 0, 0], 8));
    pools
}

/// The `/64`s of a unique local prefix (RFC 4193) of the host's own, made of 40 random bits.
pub fn local_pool(random: [u8; 5]) -> Pool {
    let mut address = [0; 16];
    address[0] = 0xfd;
    address[1..6].copy_from_slice(&random);
    Pool { base: IpNet::V6(Ipv6Net::new_assert(address.into(), 48)), size: 64 }
}

/// Whether two subnets share an address.
pub fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(&other.network()) || other.contains(&one.network())
}

/// The first subnet of `pools`, in their order, that shares nothing with `taken`: other networks, and routes of the
/// host. `v6` chooses the family.
pub fn free_subnet(pools: &[Pool], taken: &[IpNet], v6: bool) -> Result<IpNet> {
    let of_family = pools.iter().filter(|pool| matches!(pool.base, IpNet::V6(_)) == v6);
    for pool in of_family {
        let mut candidates = pool.base.subnets(pool.size).map_err(|_| {
            Error::Invalid(format!("address pool {}: cannot be cut into /{}", pool.base, pool.size))
        })?;
        // A route to a tenth of the world must not be walked subnet by subnet: what covers the whole pool ends it.
        if taken.iter().any(|net| net.contains(&pool.base)) {
            continue;
        }
        if let Some(free) = candidates.find(|candidate| !taken.iter().any(|net| overlap(net, candidate))) {
            return Ok(free);
        }
    }
    Err(Error::Exhausted(
        "all predefined address pools have been fully subnetted: remove a network, or name a subnet with --subnet"
            .to_owned(),
    ))
}

impl Subnet {
    /// A subnet whose gateway is its first address.
    pub fn new(net: IpNet) -> Self {
        let mut subnet = Self { net: net.trunc(), range: None, gateway: None, reserved: Vec::new() };
        subnet.gateway = subnet.free(&BTreeSet::new()).ok();
        subnet
    }

    /// Checks that everything in it belongs together.
    pub fn check(&self) -> Result<()> {
        let invalid = |message: String| Err(Error::Invalid(message));
        let net = self.net;
        if net != net.trunc() {
            return invalid(format!("invalid subnet {net}: it should be {}", net.trunc()));
        }
        if let Some(range) = self.range
            && !net.contains(&range)
        {
            return invalid(format!("invalid ip-range {range}: it is not within subnet {net}"));
        }
        for address in self.gateway.iter().chain(&self.reserved) {
            if !net.contains(address) {
                return invalid(format!("no matching subnet for address {address}: it is not within {net}"));
            }
        }
        if let Some(gateway) = self.gateway
            && (!self.is_host(gateway) || self.reserved.contains(&gateway))
        {
            return invalid(format!("invalid gateway {gateway}: it is reserved in subnet {net}"));
        }
        Ok(())
    }

    /// An address that one host can have: IPv4 keeps the first and the last for the network itself.
    fn is_host(&self, address: IpAddr) -> bool {
        match self.net {
            IpNet::V4(net) => {
                net.prefix_len() >= 31
                    || (IpAddr::V4(net.network()) != address && IpAddr::V4(net.broadcast()) != address)
            }
            IpNet::V6(net) => net.prefix_len() >= 127 || IpAddr::V6(net.network()) != address,
        }
    }

    /// The lowest address that nobody has.
    pub fn free(&self, taken: &BTreeSet<IpAddr>) -> Result<IpAddr> {
        let is_free = |address: &IpAddr| {
            self.is_host(*address)
                && self.gateway != Some(*address)
                && !self.reserved.contains(address)
                && !taken.contains(address)
        };
        // `hosts()` skips what no host can have of the range; the subnet itself may keep more.
        let mut candidates: Box<dyn Iterator<Item = IpAddr>> = match self.range.unwrap_or(self.net) {
            IpNet::V4(range) => {
                let (first, last) = (u32::from(range.network()), u32::from(range.broadcast()));
                Box::new((first..=last).map(|number| IpAddr::V4(number.into())))
            }
            IpNet::V6(range) => {
                let (first, last) = (u128::from(range.network()), u128::from(range.broadcast()));
                Box::new((first..=last).map(|number| IpAddr::V6(number.into())))
            }
        };
        candidates.find(is_free).ok_or_else(|| {
            let family = if matches!(self.net, IpNet::V4(_)) { "IPv4" } else { "IPv6" };
            Error::Exhausted(format!(
                "no available {family} addresses on this network's address pools: {}",
                self.net
            ))
        })
    }

    /// Checks an address that somebody asks for.
    pub fn claim(&self, wanted: IpAddr, taken: &BTreeSet<IpAddr>) -> Result<()> {
        if !self.net.contains(&wanted) || !self.is_host(wanted) {
            return Err(Error::Invalid(format!(
                "invalid address {wanted}: it is no address of a host in the network's subnet {}",
                self.net
            )));
        }
        if self.gateway == Some(wanted) || self.reserved.contains(&wanted) || taken.contains(&wanted) {
            return Err(Error::Conflict("Address already in use".to_owned()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn subnets_avoid_networks_and_routes() {
        let pools = default_pools();
        assert_eq!(free_subnet(&pools, &[], false).unwrap(), net("172.17.0.0/24"));
        let taken = [net("172.17.0.0/25"), net("172.17.1.0/24"), net("172.17.2.128/28")];
        assert_eq!(free_subnet(&pools, &taken, false).unwrap(), net("172.17.3.0/24"));
        assert_eq!(free_subnet(&pools, &[net("172.16.0.0/12")], false).unwrap(), net("192.168.0.0/24"));
        let all = [net("172.16.0.0/12"), net("192.168.0.0/16"), net("10.0.0.0/8")];
        assert!(matches!(free_subnet(&pools, &all, false), Err(Error::Exhausted(_))));
        let local = local_pool([1, 2, 3, 4, 5]);
        let first = free_subnet(std::slice::from_ref(&local), &[], true).unwrap();
        assert_eq!(first, net("fd01:203:405::/64"));
        assert_eq!(free_subnet(&[local], &[first], true).unwrap(), net("fd01:203:405:1::/64"));
    }

    #[test]
    fn addresses_are_handed_out_from_the_bottom() {
        let mut subnet = Subnet::new(net("10.1.0.0/29"));
        assert_eq!(subnet.gateway, Some(ip("10.1.0.1")));
        subnet.reserved.push(ip("10.1.0.3"));
        let mut taken = BTreeSet::new();
        for expected in ["10.1.0.2", "10.1.0.4", "10.1.0.5", "10.1.0.6"] {
            let free = subnet.free(&taken).unwrap();
            assert_eq!(free, ip(expected));
            taken.insert(free);
        }
        assert!(matches!(subnet.free(&taken), Err(Error::Exhausted(_))));
        taken.remove(&ip("10.1.0.4"));
        assert_eq!(subnet.free(&taken).unwrap(), ip("10.1.0.4"));
        subnet.range = Some(net("10.1.0.4/31"));
        taken.insert(ip("10.1.0.4"));
        taken.remove(&ip("10.1.0.5"));
        assert_eq!(subnet.free(&taken).unwrap(), ip("10.1.0.5"));
        assert_eq!(Subnet::new(net("10.1.0.6/31")).free(&BTreeSet::new()).unwrap(), ip("10.1.0.7"));
        assert_eq!(Subnet::new(net("fd00::/64")).gateway, Some(ip("fd00::1")));
    }

    #[test]
    fn wishes_are_checked() {
        let subnet = Subnet::new(net("10.1.0.0/24"));
        let taken = BTreeSet::from([ip("10.1.0.9")]);
        subnet.claim(ip("10.1.0.8"), &taken).unwrap();
        for (wish, word) in [
            ("10.1.0.9", "already in use"),
            ("10.1.0.1", "already in use"),
            ("10.1.0.0", "no address of a host"),
            ("10.1.0.255", "no address of a host"),
            ("10.2.0.8", "no address of a host"),
        ] {
            let refused = subnet.claim(ip(wish), &taken).unwrap_err().to_string();
            assert!(refused.contains(word), "{wish}: {refused}");
        }
    }

    #[test]
    fn contradictions_are_refused() {
        let good = Subnet::new(net("10.1.0.0/24"));
        good.check().unwrap();
        let bad = [
            Subnet { net: net("10.1.0.7/24"), ..good.clone() },
            Subnet { range: Some(net("10.2.0.0/25")), ..good.clone() },
            Subnet { gateway: Some(ip("10.2.0.1")), ..good.clone() },
            Subnet { gateway: Some(ip("10.1.0.255")), ..good.clone() },
            Subnet { reserved: vec![ip("10.1.0.1")], ..good.clone() },
            Subnet { reserved: vec![ip("fd00::1")], ..good.clone() },
        ];
        for subnet in bad {
            assert!(matches!(subnet.check(), Err(Error::Invalid(_))), "{subnet:?}");
        }
    }
}
