//! Networks as the API shows, makes and joins them.

use std::{collections::BTreeMap, net::IpAddr};

use crate::{container::EndpointSettings, create::Pairs, omit};

wire! {
    /// One network.
    Network {
        name: String,
        id: String,
        created: String,
        scope: String,
        driver: String,
        #[serde(rename = "EnableIPv4", skip_serializing_if = "omit")] enable_ipv4: Option<bool>,
        #[serde(rename = "EnableIPv6")] enable_ipv6: bool,
        #[serde(rename = "IPAM")] ipam: Ipam,
        internal: bool,
        attachable: bool,
        ingress: bool,
        config_from: ConfigFrom,
        config_only: bool,
        containers: BTreeMap<String, Member>,
        options: Pairs,
        labels: Pairs,
    }

    /// Who gives addresses.
    Ipam { driver: String, options: Option<Pairs>, config: Option<Vec<IpamConfig>> }

    /// A subnet.
    IpamConfig {
        #[serde(skip_serializing_if = "omit")] subnet: String,
        #[serde(rename = "IPRange", skip_serializing_if = "omit")] ip_range: String,
        #[serde(skip_serializing_if = "omit")] gateway: String,
        #[serde(rename = "AuxiliaryAddresses", alias = "AuxAddress", skip_serializing_if = "omit")] aux_addresses: Option<BTreeMap<String, String>>,
    }

    /// A network that lends its configuration.
    ConfigFrom { network: String }

    /// A container in a network.
    Member {
        name: String,
        #[serde(rename = "EndpointID")] endpoint_id: String,
        mac_address: String,
        #[serde(rename = "IPv4Address")] ipv4_address: String,
        #[serde(rename = "IPv6Address")] ipv6_address: String,
    }

    /// A network to make.
    NetworkCreate {
        name: String,
        check_duplicate: Option<bool>,
        driver: String,
        scope: String,
        #[serde(rename = "EnableIPv4")] enable_ipv4: Option<bool>,
        #[serde(rename = "EnableIPv6")] enable_ipv6: Option<bool>,
        #[serde(rename = "IPAM")] ipam: Option<Ipam>,
        internal: bool,
        attachable: bool,
        ingress: bool,
        config_only: bool,
        config_from: Option<ConfigFrom>,
        options: Option<Pairs>,
        labels: Option<Pairs>,
    }

    /// The answer.
    NetworkCreated { id: String, warning: String }

    /// Puts a container into a network.
    NetworkConnect { container: String, endpoint_config: Option<EndpointSettings> }

    /// Takes one out.
    NetworkDisconnect { container: String, force: bool }

    /// `network prune`
    NetworksPruned { networks_deleted: Option<Vec<String>> }

    /// Static addresses of a container.
    EndpointIpam {
        #[serde(rename = "IPv4Address", skip_serializing_if = "omit")] ipv4_address: String,
        #[serde(rename = "IPv6Address", skip_serializing_if = "omit")] ipv6_address: String,
        #[serde(rename = "LinkLocalIPs", skip_serializing_if = "omit")] link_local_ips: Option<Vec<String>>,
    }
}

/// Six pairs of hex digits.
pub fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// Reads `02:42:ac:11:00:02`, also with `-`.
pub fn mac(text: &str) -> Option<[u8; 6]> {
    let mut bytes = [0; 6];
    let mut parts = text.split([':', '-']);
    for byte in &mut bytes {
        let part = parts.next().filter(|part| part.len() == 2)?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(bytes)
}

/// Reads an address; empty is none.
pub fn address(text: &str) -> Result<Option<IpAddr>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| format!("invalid IP address: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_addresses_are_read_and_written() {
        assert_eq!(mac("02:42:AC:11:00:02"), Some([2, 0x42, 0xac, 0x11, 0, 2]));
        assert_eq!(mac_text([2, 0x42, 0xac, 0x11, 0, 2]), "02:42:ac:11:00:02");
        for bad in ["", "02:42:ac:11:00", "02:42:ac:11:00:02:03", "2:42:ac:11:00:02", "0g:42:ac:11:00:02"] {
            assert_eq!(mac(bad), None, "{bad}");
        }
    }
}
