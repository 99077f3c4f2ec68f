//! The files that are mounted over a container's `/etc/hostname`, `/etc/hosts` and `/etc/resolv.conf`.

use std::{fs, net::IpAddr, path::Path};

use crate::{
    Attachment, Container,
    config::Network as Mode,
    error::{Error, Result},
    host,
    join::Joined,
    resolver::needs_names,
};

/// By this name containers find the host.
const HOST: &str = "host.docker.internal";

/// Writes them, unless they are another container's. What is about addresses is written anew at every start; what a container wrote into the others is kept.
pub(crate) fn write(container: &Container, joined: &Joined, hostname: &str) -> Result<()> {
    if joined.host.is_some() {
        return Ok(());
    }
    let files = &container.files;
    let of_host = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let mode = &container.config.host.network;
    let hosts = match mode {
        Mode::Host => of_host("/etc/hosts"),
        _ => hosts(container, joined, hostname)?,
    };
    let connected = !joined.attachments.is_empty();
    for (path, content, anew) in [
        (&files.hostname, format!("{hostname}\n"), false),
        (&files.hosts, hosts, connected),
        (&files.resolv_conf, resolv_conf(container, &joined.attachments), connected),
    ] {
        if anew || !path.exists() {
            fs::write(path, content).map_err(|error| Error::at("write", path, &error))?;
        }
    }
    Ok(())
}

/// Loopback, what was asked for, and the container's own names.
fn hosts(container: &Container, joined: &Joined, hostname: &str) -> Result<String> {
    let gateway = joined.attachments.first().and_then(|place| place.gateway(false));
    let wished = &container.config.host.extra_hosts;
    let mut lines = Vec::new();
    for entry in wished {
        let (name, address) = extra(entry)?;
        lines.extend(address.or(gateway).map(|address| (address, name.to_owned())));
    }
    if !wished.iter().any(|entry| entry.starts_with(HOST)) {
        lines.extend(gateway.map(|gateway| (gateway, HOST.to_owned())));
    }
    let domain = &container.config.domainname;
    let names =
        if domain.is_empty() { hostname.to_owned() } else { format!("{hostname}.{domain} {hostname}") };
    let own = joined.attachments.iter().flat_map(|place| &place.endpoint.addresses);
    lines.extend(own.map(|net| (net.addr(), names.clone())));
    let lines: Vec<String> =
        lines.into_iter().map(|(address, names)| format!("{address}\t{names}\n")).collect();
    Ok(format!("{}{}", host::HOSTS, lines.concat()))
}

/// `NAME:ADDRESS` or `NAME=ADDRESS`; none for `host-gateway`.
pub(crate) fn extra(entry: &str) -> Result<(&str, Option<IpAddr>)> {
    let bad = || {
        Error::new(
            crate::Kind::Invalid,
            format!("bad format for add-host: {entry:?} (NAME:ADDRESS is expected)"),
        )
    };
    let (name, address) =
        entry.split_once(['=', ':']).filter(|(name, _)| !name.is_empty()).ok_or_else(bad)?;
    if address == "host-gateway" {
        return Ok((name, None));
    }
    let address = address.trim_start_matches('[').trim_end_matches(']').parse();
    let address = address.map_err(|_| {
        let address = entry.split_once(['=', ':']).map_or("", |(_, address)| address);
        Error::new(crate::Kind::Invalid, format!("invalid IP address in add-host: {address:?}"))
    })?;
    Ok((name, Some(address)))
}

/// After a container has joined a network that has names.
pub(crate) fn rewrite_resolv_conf(container: &Container, places: &[Attachment]) -> Result<()> {
    let path = &container.files.resolv_conf;
    fs::write(path, resolv_conf(container, places)).map_err(|error| Error::at("write", path, &error))
}

/// Words of the host's own file after `name`.
fn given(name: &str) -> Vec<String> {
    let text = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix(name));
    lines.flat_map(str::split_whitespace).map(str::to_owned).collect()
}

/// The engine's name server where a network has names, else the host's servers; with what was asked for.
fn resolv_conf(container: &Container, places: &[Attachment]) -> String {
    let wished = &container.config.host;
    let choose = |wish: &[String], name: &str| if wish.is_empty() { given(name) } else { wish.to_vec() };
    let search: Vec<String> =
        choose(&wished.dns_search, "search ").into_iter().filter(|domain| domain != ".").collect();
    let mut options = choose(&wished.dns_options, "options ");
    let servers = if needs_names(places) {
        if !options.iter().any(|option| option.starts_with("ndots:")) {
            options.push("ndots:0".to_owned());
        }
        vec![network::resolver::ADDRESS.to_string()]
    } else if !wished.dns.is_empty() {
        wished.dns.clone()
    } else if places.is_empty() {
        given("nameserver ")
    } else {
        reachable_servers()
    };
    let mut lines: Vec<String> = servers.iter().map(|server| format!("nameserver {server}\n")).collect();
    for (name, words) in [("search", search), ("options", options)] {
        lines.extend((!words.is_empty()).then(|| format!("{name} {}\n", words.join(" "))));
    }
    lines.concat()
}

/// The host's, without those on its loopback, which is another one than the container's; where systemd-resolved has its
/// stub there, what that forwards to.
fn reachable_servers() -> Vec<String> {
    let is_local = |server: &String| server.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    let servers: Vec<String> = given("nameserver ").into_iter().filter(|server| !is_local(server)).collect();
    if !servers.is_empty() {
        return servers;
    }
    let path = Path::new("/run/systemd/resolve/resolv.conf");
    let text = fs::read_to_string(path).unwrap_or_default();
    let servers = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver "));
    servers.map(|server| server.trim().to_owned()).collect()
}

/// Whom the engine's name server asks for a container: also servers on the host's loopback.
pub(crate) fn upstream(container: &Container) -> Vec<IpAddr> {
    let wished = &container.config.host.dns;
    let servers = if wished.is_empty() { given("nameserver ") } else { wished.clone() };
    servers.iter().filter_map(|server| server.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extra_hosts_are_read() {
        assert_eq!(extra("db:10.0.0.1").unwrap(), ("db", Some([10, 0, 0, 1].into())));
        assert_eq!(extra("db=::1").unwrap().1, Some("::1".parse().unwrap()));
        assert_eq!(extra("db:[::1]").unwrap().1, Some("::1".parse().unwrap()));
        assert_eq!(extra("host.docker.internal:host-gateway").unwrap(), ("host.docker.internal", None));
        for bad in ["db", ":1.2.3.4", "db:", "db:no-address"] {
            assert!(extra(bad).is_err(), "{bad}");
        }
    }
}
