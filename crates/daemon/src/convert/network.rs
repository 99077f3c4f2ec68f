//! Networks in Docker's words, and requests about them in the engine's.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use api::{
    container::EndpointSettings,
    network::{
        self as wire, ConfigFrom, EndpointIpam, Ipam, IpamConfig, Member, Network as Shown, NetworkCreate,
    },
};
use engine::{Attachment, Container, Network, NewNetwork, Subnet, config::Wish};

use crate::failure::{Failure, Result};

/// One network, with who is in it.
pub(crate) fn shown(network: &Network, members: &[Arc<Container>]) -> Shown {
    let bridge = network.bridge.as_ref();
    Shown {
        name: network.name.clone(),
        id: network.id.clone(),
        created: network.created.to_string(),
        scope: "local".to_owned(),
        driver: network.driver.clone(),
        enable_ipv4: Some(bridge.is_none_or(|bridge| bridge.has(false))),
        enable_ipv6: bridge.is_some_and(|bridge| bridge.has(true)),
        ipam: Ipam {
            driver: "default".to_owned(),
            options: None,
            config: Some(
                bridge
                    .map(|bridge| bridge.subnets.iter().map(|one| subnet(one, network)).collect())
                    .unwrap_or_default(),
            ),
        },
        internal: bridge.is_some_and(|bridge| bridge.internal),
        attachable: network.attachable,
        config_from: ConfigFrom::default(),
        containers: members.iter().filter_map(|container| member(container, network)).collect(),
        options: network.options.clone(),
        labels: network.labels.clone(),
        ..Shown::default()
    }
}

fn subnet(subnet: &Subnet, network: &Network) -> IpamConfig {
    let auxiliary: BTreeMap<String, String> = network
        .auxiliary
        .iter()
        .filter(|(_, address)| subnet.net.contains(*address))
        .map(|(name, address)| (name.clone(), address.to_string()))
        .collect();
    IpamConfig {
        subnet: subnet.net.to_string(),
        ip_range: subnet.range.map(|range| range.to_string()).unwrap_or_default(),
        gateway: subnet.gateway.map(|gateway| gateway.to_string()).unwrap_or_default(),
        aux_addresses: (!auxiliary.is_empty()).then_some(auxiliary),
    }
}

fn member(container: &Container, network: &Network) -> Option<(String, Member)> {
    let place = container.attachments.iter().find(|one| one.network == network.id)?;
    let address = |v6| place.address(v6).map(|net| net.to_string()).unwrap_or_default();
    let member = Member {
        name: container.name.clone(),
        endpoint_id: place.id.clone(),
        mac_address: place.endpoint.mac.map(wire::mac_text).unwrap_or_default(),
        ipv4_address: address(false),
        ipv6_address: address(true),
    };
    Some((container.id.clone(), member))
}

/// A container's place in a network, as it is.
pub(crate) fn place(container: &Container, place: &Attachment) -> EndpointSettings {
    let (v4, v6) = (place.address(false), place.address(true));
    let gateway = |v6| place.gateway(v6).map(|address| address.to_string()).unwrap_or_default();
    let mut names = vec![container.name.clone()];
    names.extend(place.wish.aliases.iter().cloned());
    names.push(container.id[..12].to_owned());
    EndpointSettings {
        network_id: place.network.clone(),
        endpoint_id: place.id.clone(),
        gateway: gateway(false),
        ip_address: v4.map(|net| net.addr().to_string()).unwrap_or_default(),
        ip_prefix_len: v4.map_or(0, |net| net.prefix_len().into()),
        ipv6_gateway: if v6.is_some() { gateway(true) } else { String::new() },
        global_ipv6_address: v6.map(|net| net.addr().to_string()).unwrap_or_default(),
        global_ipv6_prefix_len: v6.map_or(0, |net| net.prefix_len().into()),
        mac_address: place.endpoint.mac.map(wire::mac_text).unwrap_or_default(),
        dns_names: (place.name != "bridge").then_some(names),
        ..wished(&place.wish)
    }
}

/// What a container wishes of a network, where it is in none.
pub(crate) fn wished(wish: &Wish) -> EndpointSettings {
    let address = |address: Option<IpAddr>| address.map(|address| address.to_string()).unwrap_or_default();
    let (v4, v6) = (address(wish.v4), address(wish.v6));
    let ipam = EndpointIpam { ipv4_address: v4, ipv6_address: v6, link_local_ips: None };
    let some = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
    EndpointSettings {
        ipam_config: (ipam != EndpointIpam::default()).then_some(ipam),
        links: some(&wish.links),
        aliases: some(&wish.aliases),
        driver_opts: (!wish.options.is_empty()).then(|| wish.options.clone()),
        gw_priority: wish.gateway_priority,
        ..EndpointSettings::default()
    }
}

/// A hardware address; empty is none.
pub(crate) fn mac(text: &str) -> Result<Option<[u8; 6]>> {
    let invalid = || Failure::invalid(format!("invalid MAC address: {text}"));
    if text.is_empty() { Ok(None) } else { wire::mac(text).ok_or_else(invalid).map(Some) }
}

/// What somebody wishes of a network.
pub(crate) fn wish(settings: EndpointSettings) -> Result<Wish> {
    let ipam = settings.ipam_config.unwrap_or_default();
    if ipam.link_local_ips.is_some_and(|list| !list.is_empty()) {
        return Err(Failure::unsupported("IPAMConfig.LinkLocalIPs"));
    }
    let options = settings.driver_opts.unwrap_or_default();
    if let Some(name) = options.keys().next() {
        return Err(Failure::unsupported(format!("the endpoint option {name}")));
    }
    if settings.links.as_ref().is_some_and(|links| !links.is_empty()) {
        return Err(Failure::unsupported("Links"));
    }
    let mac = mac(&settings.mac_address)?;
    let of_family = |text: &str, v6: bool| match wire::address(text).map_err(Failure::invalid)? {
        Some(address) if address.is_ipv6() != v6 => {
            let family = if v6 { "IPv6" } else { "IPv4" };
            Err(Failure::invalid(format!("invalid {family} address: {text}")))
        }
        address => Ok(address),
    };
    Ok(Wish {
        aliases: settings.aliases.unwrap_or_default(),
        v4: of_family(&ipam.ipv4_address, false)?,
        v6: of_family(&ipam.ipv6_address, true)?,
        mac,
        links: Vec::new(),
        options,
        gateway_priority: settings.gw_priority,
    })
}

/// A network to make.
pub(crate) fn new(request: NetworkCreate) -> Result<NewNetwork> {
    let refuse = |asks: bool, what: &str| if asks { Err(Failure::unsupported(what)) } else { Ok(()) };
    refuse(!matches!(request.scope.as_str(), "" | "local"), "Scope")?;
    refuse(request.enable_ipv4 == Some(false), "EnableIPv4=false")?;
    refuse(request.ingress, "Ingress")?;
    refuse(request.config_only, "ConfigOnly")?;
    refuse(request.config_from.is_some_and(|from| !from.network.is_empty()), "ConfigFrom")?;
    let ipam = request.ipam.unwrap_or_default();
    if !matches!(ipam.driver.as_str(), "" | "default") {
        let message =
            format!("could not find plugin {} in v1 plugin registry: plugin not found", ipam.driver);
        return Err(Failure::new(hyper::StatusCode::NOT_FOUND, message));
    }
    refuse(ipam.options.is_some_and(|options| !options.is_empty()), "IPAM.Options")?;
    let mut auxiliary = BTreeMap::new();
    let mut subnets = Vec::new();
    for config in ipam.config.unwrap_or_default() {
        subnets.push(read_subnet(&config, &mut auxiliary)?);
    }
    Ok(NewNetwork {
        name: request.name,
        driver: if request.driver.is_empty() { "bridge".to_owned() } else { request.driver },
        labels: request.labels.unwrap_or_default(),
        options: request.options.unwrap_or_default(),
        internal: request.internal,
        attachable: request.attachable,
        v6: request.enable_ipv6 == Some(true),
        subnets,
        auxiliary,
    })
}

fn read_subnet(config: &IpamConfig, auxiliary: &mut BTreeMap<String, IpAddr>) -> Result<Subnet> {
    let net = |text: &str, what: &str| {
        text.parse()
            .map_err(|_| Failure::invalid(format!("invalid {what} {text}: ADDRESS/PREFIX is expected")))
    };
    if config.subnet.is_empty() {
        return Err(Failure::unsupported("an IPAM.Config without Subnet"));
    }
    let range = match config.ip_range.as_str() {
        "" => None,
        text => Some(net(text, "ip-range")?),
    };
    let mut reserved = Vec::new();
    for (name, text) in config.aux_addresses.iter().flatten() {
        let address = wire::address(text).map_err(Failure::invalid)?;
        if let Some(address) = address {
            reserved.push(address);
            auxiliary.insert(name.clone(), address);
        }
    }
    Ok(Subnet {
        net: net(&config.subnet, "subnet")?,
        range,
        gateway: wire::address(&config.gateway).map_err(Failure::invalid)?,
        reserved,
    })
}
