//! A container's way into its networks, and out of them.

use std::{net::IpAddr, path::PathBuf, sync::Arc};

use ipnet::IpNet;
use network::{Endpoint, Handle as Namespace, Host, Plan, Publish, Subnet};

use crate::{
    Attachment, Container, Engine, Network, PublishedPort, blocking,
    config::{Config, Network as Mode, Wish},
    error::{Error, Kind, Result},
    etc, locked, names,
    networks::DEFAULT,
    way_out::way_out,
};

/// What a start has joined: held until the container's process is in it.
#[derive(Debug)]
pub(crate) struct Joined {
    pub(crate) plan: Plan,
    pub(crate) attachments: Vec<Attachment>,
    pub(crate) ports: Vec<PublishedPort>,
    /// Whose network it shares, and with that names and files.
    pub(crate) host: Option<Arc<Container>>,
    /// What `plan` may name by a path of this process.
    _namespace: Option<Namespace>,
}

impl Joined {
    fn elsewhere(namespace: network::Namespace, host: Option<Arc<Container>>) -> Self {
        Self { plan: Plan { namespace }, attachments: Vec::new(), ports: Vec::new(), host, _namespace: None }
    }
}

impl Container {
    /// Whether it was created to be in that network.
    pub(crate) fn wishes_for(&self, network: &Network) -> bool {
        let named = |key: &String| *key == network.name || network.id.starts_with(key.as_str());
        let host = &self.config.host;
        let main = match &host.network {
            Mode::Default => network.name == DEFAULT,
            Mode::None => network.name == "none",
            Mode::Host => network.name == "host",
            Mode::Named(key) => named(key),
            Mode::Container(_) => false,
        };
        main || host.networks.keys().any(named)
    }
}

impl Engine {
    /// The networks that a container wishes for, its main one first; none where it shares another's namespace.
    pub(crate) fn wished(&self, config: &Config) -> Result<Vec<(Arc<Network>, Wish)>> {
        let main = match &config.host.network {
            Mode::None | Mode::Host | Mode::Container(_) => return Ok(Vec::new()),
            Mode::Default => DEFAULT,
            Mode::Named(key) => key,
        };
        let mut all: Vec<(Arc<Network>, Wish)> = vec![(self.0.networks.find(main)?, Wish::default())];
        for (key, wish) in &config.host.networks {
            let key = if key == "default" { DEFAULT } else { key };
            let network = self.0.networks.find(key)?;
            match all.iter_mut().find(|(known, _)| known.id == network.id) {
                Some((_, known)) => known.clone_from(wish),
                None => all.push((network, wish.clone())),
            }
        }
        Ok(all)
    }

    /// Refuses wishes that no start could grant.
    pub(crate) fn check_networks(&self, config: &Config) -> Result<()> {
        let forbidden = |message: &str| Err(Error::new(Kind::Invalid, message));
        let host = &config.host;
        if let Mode::Container(key) = &host.network {
            self.0.containers.find(key)?;
            if !config.hostname.is_empty() {
                return forbidden("conflicting options: hostname and the network mode");
            }
            if !host.ports.is_empty() || host.publish_all {
                return forbidden("conflicting options: port publishing and the container type network mode");
            }
            if !host.dns.is_empty() || !host.extra_hosts.is_empty() {
                return forbidden(
                    "conflicting options: dns, or custom host-to-IP mapping, and the network mode",
                );
            }
        }
        for (network, wish) in self.wished(config)? {
            let Some(bridge) = &network.bridge else {
                return forbidden(
                    "container cannot be connected to multiple networks with one of the networks in private (none) mode",
                );
            };
            for address in wish.v4.iter().chain(&wish.v6) {
                if network.name == DEFAULT {
                    return forbidden("user specified IP address is supported on user defined networks only");
                }
                if !bridge.subnets.iter().any(|subnet| subnet.net.contains(address)) {
                    let message = format!("no configured subnet contains IP address {address}");
                    return Err(Error::new(Kind::Invalid, message));
                }
            }
            if network.name == DEFAULT && !wish.aliases.is_empty() {
                return forbidden("network-scoped aliases are only supported for user-defined networks");
            }
        }
        Ok(())
    }

    /// Puts a container that is about to start into its networks, and leads its ports there. On failure nothing is left.
    pub(crate) async fn join(&self, container: &Arc<Container>) -> Result<Joined> {
        let (engine, container) = (self.clone(), container.clone());
        blocking(move || engine.join_now(&container)).await?
    }

    fn join_now(&self, container: &Container) -> Result<Joined> {
        match &container.config.host.network {
            Mode::None => return Ok(Joined::elsewhere(network::Namespace::New, None)),
            Mode::Host => return Ok(Joined::elsewhere(network::Namespace::Host, None)),
            Mode::Container(key) => return self.join_other(key),
            Mode::Default | Mode::Named(_) => {}
        }
        let wished = self.wished(&container.config)?;
        let way_out = way_out(wished.iter().map(|(network, wish)| (network, wish)));
        let namespace = Host::namespace()?;
        let mut attachments = Vec::new();
        let outcome = wished.into_iter().enumerate().try_for_each(|(number, (network, wish))| {
            let leaves = network.id == way_out;
            let link = format!("eth{number}");
            let attachment = self.attach_to(container, &network, wish, &link, leaves, &namespace)?;
            attachments.push(attachment);
            Ok(())
        });
        // The one that it leaves by comes first.
        attachments.sort_by_key(|one| one.network != way_out);
        let outcome = outcome.and_then(|()| self.serve_names(container, &attachments, &namespace));
        let published = outcome.and_then(|()| self.publish(container, attachments.first()));
        match published {
            Ok(ports) => {
                let path = format!("/proc/{}/fd/{}", std::process::id(), raw(&namespace));
                let plan = Plan { namespace: network::Namespace::Path(PathBuf::from(path)) };
                Ok(Joined { plan, attachments, ports, host: None, _namespace: Some(namespace) })
            }
            Err(error) => {
                self.leave(&container.id, &attachments, &[]);
                Err(error)
            }
        }
    }

    fn join_other(&self, key: &str) -> Result<Joined> {
        let other = self.0.containers.find(key)?.now();
        let Some(pid) = other.state.pid() else {
            let message = format!("cannot join network of a non running container: {}", other.id);
            return Err(Error::new(Kind::Conflict, message));
        };
        let path = format!("/proc/{pid}/ns/net").into();
        Ok(Joined::elsewhere(network::Namespace::Path(path), Some(other)))
    }

    /// Reserves addresses and makes the link.
    fn attach_to(
        &self,
        container: &Container,
        network: &Network,
        wish: Wish,
        link: &str,
        leaves: bool,
        inside: &Namespace,
    ) -> Result<Attachment> {
        let networks = &self.0.networks;
        let Some(bridge) = &network.bridge else {
            return Err(Error::internal(format!("network {} has no bridge", network.name)));
        };
        if !networks.host.has(&bridge.link) {
            networks.host.create(bridge)?;
        }
        let id = names::id()?;
        let gateways: Vec<IpAddr> = bridge.subnets.iter().filter_map(|subnet| subnet.gateway).collect();
        let addresses = self.reserve(&network.id, &bridge.subnets, &wish)?;
        let endpoint = Endpoint {
            bridge: bridge.link.clone(),
            host_link: format!("veth{}", &id[..7]),
            link: link.to_owned(),
            mac: Some(wish.mac.map_or_else(|| hardware(&addresses), Ok)?),
            addresses,
            gateways: if leaves && !bridge.internal { gateways.clone() } else { Vec::new() },
        };
        let attachment = Attachment {
            network: network.id.clone(),
            name: network.name.clone(),
            id,
            wish,
            endpoint,
            gateways,
        };
        if let Err(error) = networks.host.connect(&attachment.endpoint, inside) {
            self.give_back(&attachment);
            return Err(error.into());
        }
        self.enter_names(container, &attachment);
        Ok(attachment)
    }

    fn reserve(&self, network: &str, subnets: &[Subnet], wish: &Wish) -> Result<Vec<IpNet>> {
        let mut taken = locked(&self.0.networks.taken);
        let of_network = taken.addresses.entry(network.to_owned()).or_default();
        let mut addresses: Vec<IpNet> = Vec::new();
        for v6 in [false, true] {
            let of_family: Vec<&Subnet> =
                subnets.iter().filter(|subnet| subnet.net.addr().is_ipv6() == v6).collect();
            let wished = if v6 { wish.v6 } else { wish.v4 };
            let Some(subnet) =
                of_family.iter().find(|subnet| wished.is_none_or(|address| subnet.net.contains(&address)))
            else {
                continue;
            };
            let address = match wished {
                Some(address) => subnet.claim(address, of_network).map(|()| address)?,
                None => subnet.free(of_network)?,
            };
            addresses.extend(IpNet::new(address, subnet.net.prefix_len()));
        }
        of_network.extend(addresses.iter().map(IpNet::addr));
        Ok(addresses)
    }

    /// Undoes [`Engine::attach_to`].
    fn cut(&self, attachment: &Attachment) {
        if let Err(error) = self.0.networks.host.disconnect(&attachment.endpoint.host_link) {
            tracing::error!("cut a container off from network {}: {error}", attachment.name);
        }
        self.give_back(attachment);
    }

    fn give_back(&self, attachment: &Attachment) {
        self.forget_names(attachment);
        let mut taken = locked(&self.0.networks.taken);
        if let Some(of_network) = taken.addresses.get_mut(&attachment.network) {
            of_network
                .retain(|address| !attachment.endpoint.addresses.iter().any(|net| net.addr() == *address));
        }
    }

    /// Takes back what a start has joined, or a run has had, at once: the next start may want the same. The links end
    /// with the namespace.
    pub(crate) fn leave(&self, container: &str, attachments: &[Attachment], ports: &[PublishedPort]) {
        self.end_resolver(container);
        self.unpublish(ports);
        for attachment in attachments {
            self.give_back(attachment);
        }
    }

    /// Makes a running container's names known again, and serves it others'.
    fn take_up_names(&self, container: &Container) {
        container.attachments.iter().for_each(|place| self.enter_names(container, place));
        let Some(pid) = container.state.pid() else { return };
        let inside = Host::find(format!("/proc/{pid}/ns/net").as_ref());
        let served = inside
            .map_err(Error::from)
            .and_then(|inside| self.serve_names(container, &container.attachments, &inside));
        if let Err(error) = served {
            tracing::error!("container {}: {error}", container.id);
        }
    }

    /// Makes the host's networks what the running containers need, whatever happened to them meanwhile.
    pub(crate) async fn restore_networks(&self) {
        let engine = self.clone();
        let restored = blocking(move || -> Result<()> {
            let networks = &engine.0.networks;
            let mut published = Vec::new();
            for container in engine.list() {
                let mut taken = locked(&networks.taken);
                for one in &container.attachments {
                    let addresses = one.endpoint.addresses.iter().map(IpNet::addr);
                    taken.addresses.entry(one.network.clone()).or_default().extend(addresses);
                }
                taken.ports.extend(container.ports.iter().cloned());
                published.extend(container.ports.iter().map(Publish::from));
                drop(taken);
                engine.take_up_names(&container);
            }
            let in_use = |network: &Network| network.name != DEFAULT || !engine.members(network).is_empty();
            let all = engine.networks();
            let bridges =
                all.iter().filter(|network| in_use(network)).filter_map(|network| network.bridge.clone());
            Ok(networks.host.restore(bridges.collect(), published)?)
        });
        if let Err(error) = restored.await.and_then(|outcome| outcome) {
            tracing::error!("restore the networks: {error}");
        }
    }

    /// Puts a container into a network; one that does not run will join it when it starts.
    pub async fn connect(&self, network: &str, key: &str, wish: Wish) -> Result<()> {
        let network = self.0.networks.find(network)?;
        let handle = self.0.containers.find(key)?;
        let _verb = handle.hold(key).await?;
        let container = handle.now();
        let shared = matches!(container.config.host.network, Mode::Host | Mode::Container(_));
        if shared || network.name == "host" {
            let message = "container cannot be disconnected from host network or connected to host network";
            return Err(Error::new(Kind::Invalid, message));
        }
        if container.attachments.iter().any(|one| one.network == network.id) || container.wishes_for(&network)
        {
            let message =
                format!("endpoint with name {} already exists in network {}", container.name, network.name);
            return Err(Error::new(Kind::Forbidden, message));
        }
        let mut config = container.config.clone();
        if config.host.network == Mode::None {
            config.host.network = Mode::Named(network.name.clone());
        }
        config.host.networks.insert(network.name.clone(), wish.clone());
        self.check_networks(&config)?;
        let now = match container.state.pid() {
            Some(pid) => {
                let (engine, container, network) = (self.clone(), container.clone(), network.clone());
                let made = blocking(move || -> Result<(Vec<Attachment>, Vec<PublishedPort>)> {
                    let inside = Host::find(format!("/proc/{pid}/ns/net").as_ref())?;
                    let link = free_link(&container.attachments);
                    let made = engine.attach_to(&container, &network, wish, &link, false, &inside)?;
                    let places = container.attachments.iter().cloned().chain([made.clone()]).collect();
                    let led = engine.lead_out(&container, places, &inside);
                    let (places, ports) = led.inspect_err(|_| engine.cut(&made))?;
                    if engine.has_resolver(&container.id) {
                        engine.tell_resolver(&container.id, &places);
                    } else {
                        engine.serve_names(&container, &places, &inside)?;
                        etc::rewrite_resolv_conf(&container, &places)?;
                    }
                    Ok((places, ports))
                });
                Some(made.await??)
            }
            None => None,
        };
        handle.change(|container| {
            container.config = config;
            if let Some((places, ports)) = now {
                (container.attachments, container.ports) = (places, ports);
            }
        });
        self.save(&handle);
        self.0.events.network(&network, "connect", &[("container", handle.id.clone())]);
        Ok(())
    }

    /// Takes a container out of a network.
    pub async fn disconnect(&self, network: &str, key: &str) -> Result<()> {
        let network = self.0.networks.find(network)?;
        let handle = self.0.containers.find(key)?;
        let _verb = handle.hold(key).await?;
        let container = handle.now();
        let place = container.attachments.iter().find(|one| one.network == network.id).cloned();
        if place.is_none() && !container.wishes_for(&network) {
            let message = format!("container {} is not connected to network {}", container.id, network.name);
            return Err(Error::new(Kind::Forbidden, message));
        }
        let now = match (place, container.state.pid()) {
            (Some(place), Some(pid)) => {
                let (engine, container) = (self.clone(), container.clone());
                let left = blocking(move || -> Result<(Vec<Attachment>, Vec<PublishedPort>)> {
                    let inside = Host::find(format!("/proc/{pid}/ns/net").as_ref())?;
                    let mut places = container.attachments.clone();
                    places.retain(|one| one.network != place.network);
                    engine.0.networks.host.disconnect(&place.endpoint.host_link)?;
                    engine.give_back(&place);
                    engine.lead_out(&container, places, &inside)
                });
                Some(left.await??)
            }
            _ => None,
        };
        handle.change(|container| {
            if let Some((places, ports)) = now {
                (container.attachments, container.ports) = (places, ports);
            }
            let host = &mut container.config.host;
            host.networks.retain(|key, _| *key != network.name && !network.id.starts_with(key.as_str()));
            let main = match &host.network {
                Mode::Default => network.name == DEFAULT,
                Mode::Named(key) => *key == network.name || network.id.starts_with(key.as_str()),
                _ => false,
            };
            if main {
                let next = host.networks.keys().next().cloned();
                host.network = next.map_or(Mode::None, Mode::Named);
            }
        });
        self.tell_resolver(&handle.id, &handle.now().attachments);
        self.save(&handle);
        self.0.events.network(&network, "disconnect", &[("container", handle.id.clone())]);
        Ok(())
    }
}

fn raw(namespace: &Namespace) -> i32 {
    use std::os::fd::{AsFd, AsRawFd};
    namespace.as_fd().as_raw_fd()
}

fn hardware(addresses: &[IpNet]) -> Result<[u8; 6]> {
    let v4 = addresses.iter().find_map(|net| match net {
        IpNet::V4(net) => Some(net.addr()),
        IpNet::V6(_) => None,
    });
    Ok(v4.map_or_else(network::mac, |address| Ok(network::mac_of(address)))?)
}

fn free_link(attachments: &[Attachment]) -> String {
    let used: Vec<&str> = attachments.iter().map(|one| one.endpoint.link.as_str()).collect();
    let mut numbers = 0_u32..;
    let free = numbers.find(|number| !used.contains(&format!("eth{number}").as_str()));
    format!("eth{}", free.unwrap_or_default())
}
