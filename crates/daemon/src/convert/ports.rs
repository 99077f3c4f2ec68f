//! Ports of the host that lead to containers, in Docker's words and in the engine's.

use std::collections::BTreeMap;

use api::{
    container::Port,
    create::{PortBinding, PortMap},
};
use engine::{Container, PublishedPort, config::PortWish};

use crate::failure::{Failure, Result};

/// Checks and converts `HostConfig.PortBindings`.
pub(crate) fn wishes(bindings: PortMap) -> Result<Vec<PortWish>> {
    let mut wishes = Vec::new();
    for (port, bindings) in bindings {
        let invalid = || Failure::invalid(format!("invalid port specification: {port:?}"));
        let with_protocol = if port.contains('/') { port.clone() } else { format!("{port}/tcp") };
        let (number, protocol) = engine::exposed_port(&with_protocol).ok_or_else(invalid)?;
        for PortBinding { host_ip, host_port } in bindings.unwrap_or_default() {
            let host = api::network::address(&host_ip).map_err(Failure::invalid)?;
            wishes.push(PortWish {
                port: number,
                protocol,
                // Docker's clients write all addresses of one family as none.
                host,
                ports: range(&host_port)?,
            });
        }
    }
    Ok(wishes)
}

/// `8080`, `8080-8090`; empty or 0 is any.
fn range(text: &str) -> Result<Option<(u16, u16)>> {
    let invalid = || Failure::invalid(format!("invalid port specification: {text:?}"));
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| text.parse::<u16>().map_err(|_| invalid());
    match text {
        "" | "0" => Ok(None),
        _ => {
            let (first, last) = (number(first)?, number(last)?);
            if first == 0 || last < first { Err(invalid()) } else { Ok(Some((first, last))) }
        }
    }
}

/// As they were asked for.
pub(crate) fn bindings(wishes: &[PortWish]) -> PortMap {
    let mut map = PortMap::new();
    for wish in wishes {
        let host_port = match wish.ports {
            None => String::new(),
            Some((first, last)) if first == last => first.to_string(),
            Some((first, last)) => format!("{first}-{last}"),
        };
        let host_ip = wish.host.map(|host| host.to_string()).unwrap_or_default();
        let list =
            map.entry(format!("{}/{}", wish.port, wish.protocol.name())).or_insert_with(|| Some(Vec::new()));
        list.get_or_insert_default().push(PortBinding { host_ip, host_port });
    }
    map
}

/// As they are, with those that are exposed only.
pub(crate) fn settings(container: &Container) -> PortMap {
    let mut map: PortMap = container
        .config
        .exposed_ports
        .iter()
        .filter(|_| container.state.pid().is_some() && !container.attachments.is_empty())
        .map(|port| (port.clone(), None))
        .collect();
    for port in &container.ports {
        let list = map.entry(format!("{}/{}", port.port, port.protocol.name())).or_default();
        list.get_or_insert_default().push(binding(port));
    }
    map
}

fn binding(port: &PublishedPort) -> PortBinding {
    PortBinding { host_ip: port.host.to_string(), host_port: port.host_port.to_string() }
}

/// For a line of `ps`.
pub(crate) fn lines(container: &Container) -> Vec<Port> {
    let mut lines: BTreeMap<(u16, String), Vec<Port>> = BTreeMap::new();
    for port in &container.config.exposed_ports {
        if let Some((number, protocol)) = engine::exposed_port(port) {
            lines.entry((number, protocol.name().to_owned())).or_default();
        }
    }
    for port in &container.ports {
        let line = Port {
            ip: port.host.to_string(),
            private_port: port.port,
            public_port: port.host_port,
            kind: port.protocol.name().to_owned(),
        };
        lines.entry((port.port, line.kind.clone())).or_default().push(line);
    }
    let bare = |(private_port, kind): (u16, String)| Port { private_port, kind, ..Port::default() };
    lines.into_iter().flat_map(|(key, list)| if list.is_empty() { vec![bare(key)] } else { list }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(port: &str, host_ip: &str, host_port: &str) -> PortMap {
        let binding = PortBinding { host_ip: host_ip.to_owned(), host_port: host_port.to_owned() };
        PortMap::from([(port.to_owned(), Some(vec![binding]))])
    }

    #[test]
    fn bindings_go_in_and_come_out() {
        for (port, ip, host) in
            [("80/tcp", "", "8080"), ("53/udp", "127.0.0.1", ""), ("80/tcp", "::1", "8000-8010")]
        {
            let wishes = wishes(map(port, ip, host)).unwrap();
            assert_eq!(bindings(&wishes), map(port, ip, host));
        }
        assert_eq!(wishes(map("80", "", "0")).unwrap()[0].ports, None);
        for (port, ip, host) in [
            ("x/tcp", "", "1"),
            ("80/quic", "", "1"),
            ("80/tcp", "here", "1"),
            ("80/tcp", "", "70000"),
            ("80/tcp", "", "9-8"),
            ("80/tcp", "", "0-8"),
        ] {
            assert!(wishes(map(port, ip, host)).is_err(), "{port} {ip} {host}");
        }
    }
}
