//! `--network` and the flags about a container's place in it.

use std::{collections::BTreeMap, net::IpAddr};

use api::{
    container::EndpointSettings,
    create::{NetworkingConfig, Pairs},
    network::EndpointIpam,
};

use super::Flags;

/// One `--network`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Place {
    /// Name or id.
    network: String,
    settings: EndpointSettings,
}

/// Reads `web`, or `name=web,alias=www,ip=10.0.0.9,…`.
pub(super) fn parse(text: &str) -> Result<Place, String> {
    if !text.contains('=') {
        return Ok(Place { network: text.to_owned(), settings: EndpointSettings::default() });
    }
    let mut place = Place::default();
    for field in text.split(',') {
        let pair = field.split_once('=').filter(|(key, _)| !key.is_empty());
        let Some((key, value)) = pair else {
            return Err(format!("invalid field {field}"));
        };
        set(&mut place, &key.trim().to_ascii_lowercase(), value.trim())?;
    }
    if place.network.is_empty() { Err("network name/id is not specified".into()) } else { Ok(place) }
}

fn set(place: &mut Place, key: &str, value: &str) -> Result<(), String> {
    let settings = &mut place.settings;
    match key {
        "name" => value.clone_into(&mut place.network),
        "alias" => settings.aliases.get_or_insert_default().push(value.to_owned()),
        "ip" => value.clone_into(&mut ipam(settings).ipv4_address),
        "ip6" => value.clone_into(&mut ipam(settings).ipv6_address),
        "mac-address" => settings.mac_address = mac(value)?,
        "link-local-ip" => {
            ipam(settings).link_local_ips.get_or_insert_default().push(value.to_owned());
        }
        "driver-opt" => {
            let (key, value) = driver_option(value)?;
            settings.driver_opts.get_or_insert_default().insert(key, value);
        }
        "gw-priority" => {
            settings.gw_priority =
                value.parse().map_err(|_| format!("invalid gw-priority ({value}): invalid syntax"))?;
        }
        _ => return Err(format!("invalid field key {key}")),
    }
    Ok(())
}

fn ipam(settings: &mut EndpointSettings) -> &mut EndpointIpam {
    settings.ipam_config.get_or_insert_default()
}

/// A hardware address, as it was written.
pub(super) fn mac(text: &str) -> Result<String, String> {
    match api::network::mac(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err(format!("{text} is not a valid mac address")),
    }
}

fn driver_option(text: &str) -> Result<(String, String), String> {
    match text.split_once('=').filter(|(key, _)| !key.is_empty()) {
        Some((key, value)) => Ok((key.trim().to_ascii_lowercase(), value.trim().to_owned())),
        None => Err("invalid key/value pair format in driver options".into()),
    }
}

/// `--driver-opt` of `network connect`.
pub(crate) fn driver_options(specs: &[String]) -> Result<Option<Pairs>, String> {
    let pairs: Pairs = specs.iter().map(|spec| driver_option(spec)).collect::<Result<_, _>>()?;
    Ok((!pairs.is_empty()).then_some(pairs))
}

/// Addresses that are wished for; none where none is.
pub(crate) fn addresses(v4: Option<&str>, v6: Option<&str>, link_local: &[String]) -> Option<EndpointIpam> {
    let ipam = EndpointIpam {
        ipv4_address: v4.unwrap_or_default().to_owned(),
        ipv6_address: v6.unwrap_or_default().to_owned(),
        link_local_ips: (!link_local.is_empty()).then(|| link_local.to_vec()),
    };
    (ipam != EndpointIpam::default()).then_some(ipam)
}

/// The first network, by which the others follow.
pub(super) fn mode(flags: &Flags) -> String {
    flags.network.first().map_or_else(|| "default".to_owned(), |place| place.network.clone())
}

/// Which networks to join and what is wished there. Flags that name no network are about the first.
pub(super) fn networking(flags: &Flags) -> Result<NetworkingConfig, String> {
    let mut places = flags.network.clone();
    if places.is_empty() {
        places.push(Place { network: "default".into(), ..Place::default() });
    }
    let own = places.iter().filter(|place| is_own(&place.network)).count();
    if own > 0 && own < places.len() {
        return Err(
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes".into(),
        );
    }
    let mut endpoints = BTreeMap::new();
    for (number, mut place) in places.into_iter().enumerate() {
        if number == 0 {
            add_flags(&mut place, flags)?;
        }
        let (name, settings) = (place.network, place.settings);
        if name.trim().is_empty() {
            return Err("no name set for network".into());
        }
        if !is_own(&name) && settings.aliases.is_some() {
            return Err("network-scoped aliases are only supported for user-defined networks".into());
        }
        if endpoints.insert(name.clone(), Some(settings)).is_some() {
            return Err(format!("network {name:?} is specified multiple times"));
        }
    }
    Ok(NetworkingConfig { endpoints_config: Some(endpoints) })
}

/// Whether somebody made it: the name is none of Docker's.
fn is_own(name: &str) -> bool {
    !matches!(name, "default" | "bridge" | "host" | "none") && !name.starts_with("container:")
}

fn add_flags(place: &mut Place, flags: &Flags) -> Result<(), String> {
    let settings = &mut place.settings;
    let ipam = settings.ipam_config.clone().unwrap_or_default();
    let (v4, v6) = (flags.ip.as_deref(), flags.ip6.as_deref());
    for (both, flag, what) in [
        (settings.aliases.is_some() && !flags.network_alias.is_empty(), "network-alias", "alias"),
        (!ipam.ipv4_address.is_empty() && v4.is_some(), "ip", "IPv4 address"),
        (!ipam.ipv6_address.is_empty() && v6.is_some(), "ip6", "IPv6 address"),
        (!settings.mac_address.is_empty() && flags.mac_address.is_some(), "mac-address", "MAC address"),
        (
            ipam.link_local_ips.is_some() && !flags.link_local_ip.is_empty(),
            "link-local-ip",
            "link-local IP addresses",
        ),
    ] {
        if both {
            return Err(format!("conflicting options: cannot specify both --{flag} and per-network {what}"));
        }
    }
    if !flags.network_alias.is_empty() {
        settings.aliases = Some(flags.network_alias.clone());
    }
    // In a network that somebody made, a link is one more name there; on the default bridge it is the host's affair.
    if !flags.link.is_empty() && is_own(&place.network) {
        settings.links = Some(flags.link.clone());
    }
    if let Some(mac) = &flags.mac_address {
        settings.mac_address.clone_from(mac);
    }
    let chosen = addresses(v4, v6, &flags.link_local_ip).unwrap_or_default();
    let or = |flag: String, place: String| if flag.is_empty() { place } else { flag };
    let merged = EndpointIpam {
        ipv4_address: or(chosen.ipv4_address, ipam.ipv4_address),
        ipv6_address: or(chosen.ipv6_address, ipam.ipv6_address),
        link_local_ips: chosen.link_local_ips.or(ipam.link_local_ips),
    };
    settings.ipam_config = (merged != EndpointIpam::default()).then_some(merged);
    Ok(())
}

/// `NAME:ADDRESS`, `NAME=ADDRESS`, `NAME:host-gateway`; an address may stand in brackets.
pub(super) fn extra_host(text: &str) -> Result<String, String> {
    let pair = text.split_once('=').or_else(|| text.split_once(':'));
    let Some((name, address)) = pair.filter(|(name, _)| !name.is_empty() && !name.contains(':')) else {
        return Err(format!("bad format for add-host: {text:?}"));
    };
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    if address != "host-gateway" && bare.parse::<IpAddr>().is_err() {
        return Err(format!("invalid IP address in add-host: {address:?}"));
    }
    Ok(format!("{name}:{bare}"))
}

/// The address of a name server.
pub(super) fn server(text: &str) -> Result<String, String> {
    let address = text.trim().parse::<IpAddr>();
    address.map(|ip| ip.to_string()).map_err(|_| format!("IP address is not correctly formatted: {text}"))
}

/// A domain to look names up in; `.` is none.
pub(super) fn search_domain(text: &str) -> Result<String, String> {
    let text = text.trim_matches(' ');
    let label = |label: &str| {
        let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        !label.is_empty() && label.len() <= 63 && label.chars().all(inner)
    };
    let letters = text.chars().any(|c| c.is_ascii_alphabetic());
    let fine = letters && text.len() <= 255 && text.trim_end_matches('.').split('.').all(label);
    if text == "." || fine { Ok(text.to_owned()) } else { Err(format!("{text} is not a valid domain")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(change: impl FnOnce(&mut Flags)) -> Result<BTreeMap<String, EndpointSettings>, String> {
        let mut flags = Flags::default();
        change(&mut flags);
        let all = networking(&flags)?.endpoints_config.unwrap_or_default();
        Ok(all.into_iter().map(|(name, settings)| (name, settings.unwrap_or_default())).collect())
    }

    #[test]
    fn the_long_form() {
        let text = "name=Web,alias=a,alias=b,ip=10.0.0.9,ip6=fd00::9,mac-address=02:00:00:00:00:01,gw-priority=-3,driver-opt=X=y";
        let place = parse(text).unwrap();
        let settings = &place.settings;
        assert_eq!((place.network.as_str(), settings.gw_priority), ("Web", -3));
        assert_eq!(settings.aliases, Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(settings.ipam_config.as_ref().unwrap().ipv4_address, "10.0.0.9");
        assert_eq!(settings.driver_opts.as_ref().unwrap()["x"], "y");
        for (bad, want) in [
            ("alias=a", "network name/id is not specified"),
            ("name=a,b", "invalid field b"),
            ("name=a,colour=red", "invalid field key colour"),
            ("name=a,mac-address=x", "x is not a valid mac address"),
            ("name=a,gw-priority=x", "invalid gw-priority (x): invalid syntax"),
            ("name=a,driver-opt=x", "invalid key/value pair format in driver options"),
        ] {
            assert_eq!(parse(bad).unwrap_err(), want, "{bad}");
        }
    }

    #[test]
    fn flags_without_a_network_are_about_the_first() {
        let web = || parse("web").unwrap();
        let both = of(|f| {
            f.network = vec![web(), parse("name=db,alias=x").unwrap()];
            f.network_alias = vec!["w".into()];
            f.ip = Some("10.0.0.9".into());
        });
        let both = both.unwrap();
        assert_eq!(both["web"].aliases, Some(vec!["w".to_owned()]));
        assert_eq!(both["web"].ipam_config.as_ref().unwrap().ipv4_address, "10.0.0.9");
        assert_eq!((both["db"].aliases.as_ref().unwrap().len(), &both["db"].ipam_config), (1, &None));
        assert_eq!(of(|_| ()).unwrap()["default"], EndpointSettings::default());
        let twice = of(|f| f.network = vec![web(), web()]);
        assert_eq!(twice.unwrap_err(), "network \"web\" is specified multiple times");
        assert!(of(|f| f.network = vec![web(), parse("host").unwrap()]).is_err());
        assert!(of(|f| f.network_alias = vec!["w".into()]).is_err());
        let said_twice = of(|f| {
            f.network = vec![parse("name=web,ip=10.0.0.1").unwrap()];
            f.ip = Some("10.0.0.9".into());
        });
        assert!(said_twice.unwrap_err().contains("both --ip and per-network IPv4 address"));
    }

    #[test]
    fn hosts_servers_and_domains() {
        for (text, want) in [
            ("db:10.0.0.1", "db:10.0.0.1"),
            ("db=10.0.0.1", "db:10.0.0.1"),
            ("db:::1", "db:::1"),
            ("db=[::1]", "db:::1"),
            ("me:host-gateway", "me:host-gateway"),
        ] {
            assert_eq!(extra_host(text).as_deref(), Ok(want), "{text}");
        }
        for bad in ["db", ":1.2.3.4", "db:x", "a:b=1.2.3.4"] {
            assert!(extra_host(bad).is_err(), "{bad}");
        }
        assert!(server("10.0.0.1").is_ok() && server("one").is_err());
        for good in ["example.org", "a.b-c_d.", ".", "local"] {
            assert!(search_domain(good).is_ok(), "{good}");
        }
        for bad in ["", "a..b", "1.2", "a b"] {
            assert!(search_domain(bad).is_err(), "{bad}");
        }
    }
}
