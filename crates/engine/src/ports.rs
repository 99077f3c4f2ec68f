//! Ports of the host that lead to containers: which are free, and giving them out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};

use network::{Protocol, Publish};

use crate::{
    Attachment, Container, Engine, PublishedPort,
    config::PortWish,
    error::{Error, Kind, Result},
    locked,
};

/// Ports for whoever wants any, if the kernel does not say which.
const ANY: (u16, u16) = (32768, 60999);

impl From<&PublishedPort> for Publish {
    fn from(port: &PublishedPort) -> Self {
        Self {
            protocol: port.protocol,
            host: Some(port.host).filter(|host| !host.is_unspecified()),
            ports: port.host_port..=port.host_port,
            target: port.target,
            target_port: port.port,
            from: Vec::new(),
        }
    }
}

impl Engine {
    /// Leads a container's ports to its place in a network, all of them or none.
    pub(crate) fn publish(
        &self,
        container: &Container,
        place: Option<&Attachment>,
    ) -> Result<Vec<PublishedPort>> {
        let wishes = wishes(container);
        let Some(place) = place.filter(|_| !wishes.is_empty()) else {
            return Ok(Vec::new());
        };
        let mut chosen = Vec::new();
        let outcome = wishes.iter().try_for_each(|wish| {
            let mut ports = self.choose(wish, place).map_err(|error| named(error, container, place))?;
            chosen.append(&mut ports);
            Ok(())
        });
        let outcome = outcome.and_then(|()| {
            let elements: Vec<Publish> = chosen.iter().map(Publish::from).collect();
            Ok(self.0.networks.host.publish(&elements)?)
        });
        match outcome {
            Ok(()) => Ok(chosen),
            Err(error) => {
                self.free(&chosen);
                Err(error)
            }
        }
    }

    /// Takes ports back.
    pub(crate) fn unpublish(&self, ports: &[PublishedPort]) {
        if ports.is_empty() {
            return;
        }
        let elements: Vec<Publish> = ports.iter().map(Publish::from).collect();
        if let Err(error) = self.0.networks.host.unpublish(&elements) {
            tracing::error!("take published ports back: {error}");
        }
        self.free(ports);
    }

    fn free(&self, ports: &[PublishedPort]) {
        locked(&self.0.networks.taken).ports.retain(|port| !ports.contains(port));
    }

    /// Reserves one port of the host for both families, as far as the container has them.
    fn choose(&self, wish: &PortWish, place: &Attachment) -> Result<Vec<PublishedPort>> {
        let any: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        let hosts: Vec<IpAddr> = wish.host.map_or(any.to_vec(), |host| vec![host]);
        let pairs: Vec<(IpAddr, IpAddr)> = hosts
            .into_iter()
            .filter_map(|host| Some((host, place.address(host.is_ipv6())?.addr())))
            .collect();
        if pairs.is_empty() {
            let message =
                format!("cannot publish port {}: the container has no address of that family", wish.port);
            return Err(Error::new(Kind::Invalid, message));
        }
        if wish.host.is_some_and(|host| host.is_ipv6() && host.is_loopback()) {
            let message = "cannot publish on ::1: Linux leads nothing from there to a container; use 127.0.0.1, or another address of the host";
            return Err(Error::new(Kind::Invalid, message));
        }
        let mut taken = locked(&self.0.networks.taken);
        let (first, last) = wish.ports.unwrap_or_else(any_port);
        let fixed = first == last;
        for host_port in first..=last {
            let ports = pairs.iter().map(|&(host, target)| PublishedPort {
                port: wish.port,
                protocol: wish.protocol,
                host,
                host_port,
                target,
            });
            let ports: Vec<PublishedPort> = ports.collect();
            match ports.iter().try_for_each(|port| usable(port, &taken.ports)) {
                Ok(()) => {
                    taken.ports.extend(ports.iter().cloned());
                    return Ok(ports);
                }
                Err(error) if fixed => return Err(error),
                Err(_) => {}
            }
        }
        let message = format!("all ports are allocated: none of {first} to {last} is free");
        Err(Error::new(Kind::Conflict, message))
    }
}

fn named(mut error: Error, container: &Container, place: &Attachment) -> Error {
    error.message = format!(
        "driver failed programming external connectivity on endpoint {} ({}): {}",
        container.name, place.id, error.message
    );
    error
}

/// What was asked for, and with `-P` every exposed port that was not.
fn wishes(container: &Container) -> Vec<PortWish> {
    let host = &container.config.host;
    let mut all = host.ports.clone();
    if host.publish_all {
        for (port, protocol) in container.config.exposed_ports.iter().filter_map(|text| exposed(text)) {
            if !all.iter().any(|wish| wish.port == port && wish.protocol == protocol) {
                all.push(PortWish { port, protocol, host: None, ports: None });
            }
        }
    }
    all
}

/// Reads `80/tcp`.
pub fn exposed(text: &str) -> Option<(u16, Protocol)> {
    let (port, protocol) = text.split_once('/')?;
    let known = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
    Some((port.parse().ok()?, known.into_iter().find(|known| known.name() == protocol)?))
}

fn any_port() -> (u16, u16) {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut numbers = text.split_whitespace().filter_map(|number| number.parse().ok());
    numbers.next().zip(numbers.next()).unwrap_or(ANY)
}

/// Whether neither another container nor a program of the host has it.
fn usable(wanted: &PublishedPort, taken: &[PublishedPort]) -> Result<()> {
    let PublishedPort { protocol, host, host_port, .. } = wanted;
    let shown = if host.is_ipv6() { format!("[{host}]") } else { host.to_string() };
    let clash = taken.iter().any(|other| {
        other.protocol == *protocol
            && other.host_port == *host_port
            && other.host.is_ipv6() == host.is_ipv6()
            && (other.host == *host || other.host.is_unspecified() || host.is_unspecified())
    });
    if clash {
        let message = format!("Bind for {shown}:{host_port} failed: port is already allocated");
        return Err(Error::new(Kind::Conflict, message));
    }
    let address = (*host, *host_port);
    let bound = match protocol {
        Protocol::Tcp => TcpListener::bind(address).map(drop),
        Protocol::Udp => UdpSocket::bind(address).map(drop),
        Protocol::Sctp => Ok(()),
    };
    bound.map_err(|error| {
        let why = match error.kind() {
            std::io::ErrorKind::AddrInUse => "address already in use".to_owned(),
            std::io::ErrorKind::AddrNotAvailable => "cannot assign requested address".to_owned(),
            _ => error.to_string(),
        };
        let message = format!("failed to bind host port {shown}:{host_port}/{}: {why}", protocol.name());
        Error::new(Kind::Conflict, message)
    })
}
