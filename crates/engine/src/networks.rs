//! Networks: what they are, and the verbs that make and remove them. Who is in one is told by the containers.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::Path,
    sync::{Arc, Mutex},
};

use jiff::Timestamp;
use network::{Bridge, Host, Pool, Subnet, ipam, names::Names};
use serde::{Deserialize, Serialize};
use store::{Durability, Store, Table};

use crate::{
    Container, Engine, PublishedPort, blocking,
    error::{Error, Kind, Result},
    locked, names,
    resolver::Resolver,
};

/// Network records.
const NETWORKS: Table = Table { name: "networks", version: 1 };
/// The network of containers that name none.
pub(crate) const DEFAULT: &str = "bridge";
/// Docker's options of bridges that are honoured here.
const OPTIONS: [&str; 4] = [NAME, MASQUERADE, TALK, MTU];
const NAME: &str = "com.docker.network.bridge.name";
const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
const TALK: &str = "com.docker.network.bridge.enable_icc";
const MTU: &str = "com.docker.network.driver.mtu";

/// A network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// 64 hex digits.
    pub id: String,
    /// Unique.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// `bridge`, `host` or `null`.
    pub driver: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// As they were given.
    pub options: BTreeMap<String, String>,
    /// Recorded for tools; every network can be joined here.
    pub attachable: bool,
    /// Auxiliary addresses by name, as they were given.
    pub auxiliary: BTreeMap<String, IpAddr>,
    /// Its bridge; none of `host` and `none`.
    pub bridge: Option<Bridge>,
}

/// A network to make.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewNetwork {
    /// Docker's rule for names.
    pub name: String,
    /// Empty is `bridge`.
    pub driver: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// `com.docker.network.…`
    pub options: BTreeMap<String, String>,
    /// Nobody leaves it.
    pub internal: bool,
    /// See [`Network::attachable`].
    pub attachable: bool,
    /// With IPv6, also where no subnet says so.
    pub v6: bool,
    /// What it hands out; chosen where empty.
    pub subnets: Vec<Subnet>,
    /// See [`Network::auxiliary`].
    pub auxiliary: BTreeMap<String, IpAddr>,
}

/// What cannot be given twice; computed from the containers when the engine opens.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// By network.
    pub(crate) addresses: BTreeMap<String, BTreeSet<IpAddr>>,
    pub(crate) ports: Vec<PublishedPort>,
}

/// All networks of an engine.
#[derive(Debug)]
pub(crate) struct Networks {
    pub(crate) host: Host,
    /// By network.
    pub(crate) names: Mutex<BTreeMap<String, Names>>,
    /// By container.
    pub(crate) resolvers: Mutex<BTreeMap<String, Resolver>>,
    /// Addresses and ports that running containers have, and those that are about to start.
    pub(crate) taken: Mutex<Taken>,
    /// By id.
    known: Mutex<BTreeMap<String, Arc<Network>>>,
    store: Arc<Store>,
    pools: Vec<Pool>,
    /// Link of the network `bridge`, from which the table's name follows.
    link: String,
}

impl Networks {
    /// Reads the records. `link` is that of the network `bridge`; the engine's id has the random bits of its IPv6 prefix.
    pub(crate) fn open(store: &Arc<Store>, link: &str, engine_id: &str) -> Result<Self> {
        let host = Host::open(network::Options { table: link.to_owned() }).map_err(Error::from)?;
        let (records, damaged) = store.all::<Network>(NETWORKS).map_err(Error::internal)?;
        for record in damaged {
            tracing::error!("the record of network {} is damaged ({})", record.key, record.reason);
        }
        let mut pools = ipam::default_pools();
        let byte = |at: usize| {
            engine_id.get(at..at + 2).and_then(|hex| u8::from_str_radix(hex, 16).ok()).unwrap_or_default()
        };
        pools.push(ipam::local_pool([byte(0), byte(2), byte(4), byte(6), byte(8)]));
        let known = records.into_iter().map(|(id, record)| (id, Arc::new(record))).collect();
        let networks = Self {
            host,
            names: Mutex::default(),
            resolvers: Mutex::default(),
            taken: Mutex::default(),
            known: Mutex::new(known),
            store: store.clone(),
            pools,
            link: link.to_owned(),
        };
        networks.predefined()?;
        Ok(networks)
    }

    /// `bridge`, `host` and `none` are always there.
    fn predefined(&self) -> Result<()> {
        for (name, driver) in [(DEFAULT, "bridge"), ("host", "host"), ("none", "null")] {
            if self.by_name(name).is_some() {
                continue;
            }
            let options = match driver {
                "bridge" => BTreeMap::from([(NAME.to_owned(), self.link.clone())]),
                _ => BTreeMap::new(),
            };
            let new = NewNetwork {
                name: name.to_owned(),
                driver: driver.to_owned(),
                options,
                ..NewNetwork::default()
            };
            self.record(self.plan(new)?)?;
        }
        Ok(())
    }

    fn record(&self, network: Network) -> Result<Arc<Network>> {
        self.store.put(NETWORKS, &network.id, &network, Durability::Durable).map_err(Error::internal)?;
        let network = Arc::new(network);
        locked(&self.known).insert(network.id.clone(), network.clone());
        Ok(network)
    }

    /// All, by name.
    pub(crate) fn all(&self) -> Vec<Arc<Network>> {
        let mut all: Vec<_> = locked(&self.known).values().cloned().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    fn by_name(&self, name: &str) -> Option<Arc<Network>> {
        locked(&self.known).values().find(|network| network.name == name).cloned()
    }

    /// By id, name, or unambiguous beginning of an id, in Docker's order.
    pub(crate) fn find(&self, key: &str) -> Result<Arc<Network>> {
        let exact = locked(&self.known).get(key).cloned();
        if let Some(found) = exact.or_else(|| self.by_name(key)) {
            return Ok(found);
        }
        let known = locked(&self.known);
        let mut alike =
            known.range(key.to_owned()..).take_while(|(id, _)| !key.is_empty() && id.starts_with(key));
        match (alike.next(), alike.next()) {
            (Some((_, network)), None) => Ok(network.clone()),
            (Some(_), Some(_)) => Err(Error::new(
                Kind::Invalid,
                format!("network {key} is ambiguous (2 matches found on ID prefix)"),
            )),
            (None, _) => Err(Error::new(Kind::NotFound, format!("network {key} not found"))),
        }
    }

    /// Everything about a network but its being there.
    fn plan(&self, new: NewNetwork) -> Result<Network> {
        let id = names::id()?;
        let bridge = match new.driver.as_str() {
            "host" | "null" => None,
            _ => Some(self.bridge(&new, &id)?),
        };
        Ok(Network {
            id,
            name: new.name,
            created: Timestamp::now(),
            driver: new.driver,
            labels: new.labels,
            options: new.options,
            attachable: new.attachable,
            auxiliary: new.auxiliary,
            bridge,
        })
    }

    fn bridge(&self, new: &NewNetwork, id: &str) -> Result<Bridge> {
        let mut subnets = new.subnets.clone();
        let mut taken = self.host.subnets_in_use()?;
        taken.extend(self.subnets().into_iter().map(|subnet| subnet.net));
        let is_v6 = |subnet: &Subnet| subnet.net.addr().is_ipv6();
        if !subnets.iter().any(|subnet| !is_v6(subnet)) {
            subnets.insert(0, Subnet::new(ipam::free_subnet(&self.pools, &taken, false)?));
        }
        if new.v6 && !subnets.iter().any(is_v6) {
            subnets.push(Subnet::new(ipam::free_subnet(&self.pools, &taken, true)?));
        }
        for subnet in &mut subnets {
            if subnet.gateway.is_none() {
                subnet.gateway = subnet.free(&BTreeSet::new()).ok();
            }
            subnet.check()?;
            let clash = self.subnets().into_iter().find(|other| ipam::overlap(&other.net, &subnet.net));
            if let Some(other) = clash {
                let message = format!(
                    "invalid pool request: Pool overlaps with other one on this address space: {} and {}",
                    subnet.net, other.net
                );
                return Err(Error::new(Kind::Forbidden, message));
            }
        }
        let switch = |name: &str| match new.options.get(name).map(String::as_str) {
            None | Some("") => Ok(true),
            Some(text) => text.parse().map_err(|_| bad_option(name, text)),
        };
        let mtu = match new.options.get(MTU).map(String::as_str) {
            None | Some("" | "0") => None,
            Some(text) => Some(text.parse().map_err(|_| bad_option(MTU, text))?),
        };
        let link = new.options.get(NAME).cloned().unwrap_or_else(|| format!("br-{}", &id[..12]));
        if link.is_empty() || link.len() > 15 || link.contains(['/', ' ', ':']) {
            return Err(bad_option(NAME, &link));
        }
        if let Some(other) = self
            .all()
            .iter()
            .find(|network| network.bridge.as_ref().is_some_and(|bridge| bridge.link == link))
        {
            let message =
                format!("conflicts with network {} ({}): networks have same bridge name", other.id, link);
            return Err(Error::new(
                Kind::Forbidden,
                format!("cannot create network {id} ({link}): {message}"),
            ));
        }
        Ok(Bridge {
            link,
            subnets,
            mtu,
            internal: new.internal,
            masquerade: switch(MASQUERADE)?,
            talk: switch(TALK)?,
        })
    }

    fn subnets(&self) -> Vec<Subnet> {
        let all = self.all();
        all.iter()
            .filter_map(|network| network.bridge.as_ref())
            .flat_map(|bridge| bridge.subnets.clone())
            .collect()
    }
}

fn bad_option(name: &str, value: &str) -> Error {
    Error::new(Kind::Invalid, format!("invalid value for {name}: {value:?}"))
}

impl Engine {
    /// All networks, by name.
    pub fn networks(&self) -> Vec<Arc<Network>> {
        self.0.networks.all()
    }

    /// By id, name, or beginning of an id.
    pub fn network(&self, key: &str) -> Result<Arc<Network>> {
        self.0.networks.find(key)
    }

    /// Makes a network, with its bridge.
    pub async fn create_network(&self, new: NewNetwork) -> Result<Arc<Network>> {
        check(&new)?;
        if self.0.networks.by_name(&new.name).is_some() {
            let message = format!("network with name {} already exists", new.name);
            return Err(Error::new(Kind::Conflict, message));
        }
        let engine = self.clone();
        let made = blocking(move || -> Result<Arc<Network>> {
            let networks = &engine.0.networks;
            let network = networks.plan(new)?;
            if let Some(bridge) = &network.bridge {
                networks.host.create(bridge)?;
            }
            let link = network.bridge.as_ref().map(|bridge| bridge.link.clone());
            networks.record(network).inspect_err(|_| {
                let _ = link.map(|link| networks.host.remove(&link));
            })
        })
        .await??;
        self.0.events.network(&made, "create", &[]);
        Ok(made)
    }

    /// Removes a network that nobody is in.
    pub async fn remove_network(&self, key: &str) -> Result<()> {
        let network = self.0.networks.find(key)?;
        if predefined(&network.name) {
            let message = format!("{} is a pre-defined network and cannot be removed", network.name);
            return Err(Error::new(Kind::Forbidden, message));
        }
        if let Some(user) = self.members(&network).first() {
            let message = format!(
                "error while removing network: network {} has active endpoints (name:\"{}\" id:\"{}\")",
                network.name,
                user.name,
                &user.id[..12]
            );
            return Err(Error::new(Kind::Forbidden, message));
        }
        let (engine, gone) = (self.clone(), network.clone());
        blocking(move || -> Result<()> {
            let networks = &engine.0.networks;
            networks.store.delete(NETWORKS, &gone.id, Durability::Durable).map_err(Error::internal)?;
            locked(&networks.known).remove(&gone.id);
            match &gone.bridge {
                Some(bridge) => Ok(networks.host.remove(&bridge.link)?),
                None => Ok(()),
            }
        })
        .await??;
        self.0.events.network(&network, "destroy", &[]);
        Ok(())
    }

    /// Containers that are in a network now.
    pub fn members(&self, network: &Network) -> Vec<Arc<Container>> {
        let mut all = self.list();
        all.retain(|container| container.attachments.iter().any(|one| one.network == network.id));
        all
    }

    /// Removes every network that nobody made use of and that `keep` does not hold back; their names.
    pub async fn prune_networks(&self, keep: impl Fn(&Network) -> bool) -> Result<Vec<String>> {
        let mut removed = Vec::new();
        for network in self.networks() {
            let wanted = |container: &Arc<Container>| container.wishes_for(&network);
            if predefined(&network.name) || keep(&network) || self.list().iter().any(wanted) {
                continue;
            }
            if self.remove_network(&network.id).await.is_ok() {
                removed.push(network.name.clone());
            }
        }
        Ok(removed)
    }
}

/// One of the three that are always there.
pub(crate) fn predefined(name: &str) -> bool {
    matches!(name, DEFAULT | "host" | "none")
}

fn check(new: &NewNetwork) -> Result<()> {
    let invalid = |message: String| Err(Error::new(Kind::Invalid, message));
    if predefined(&new.name) || new.name == "default" {
        let message = format!("operation is not permitted on predefined {} network", new.name);
        return Err(Error::new(Kind::Forbidden, message));
    }
    // Unlike a container's, a network's name may be one letter.
    if names::check(&format!("{}0", new.name)).is_err() || new.name.is_empty() || new.name.starts_with('/') {
        return invalid(format!(
            "invalid network name {:?}: only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
            new.name
        ));
    }
    match new.driver.as_str() {
        "bridge" => {}
        "host" | "null" => {
            return Err(Error::new(
                Kind::Forbidden,
                format!("only one instance of \"{}\" network is allowed", new.driver),
            ));
        }
        other => {
            return Err(Error::new(
                Kind::NotFound,
                format!(
                    "could not find plugin {other} in v1 plugin registry: plugin not found (this engine has bridge)"
                ),
            ));
        }
    }
    match new.options.keys().find(|key| !OPTIONS.contains(&key.as_str())) {
        Some(key) => Err(Error::new(Kind::Unsupported, format!("network option {key}: not supported"))),
        None => Ok(()),
    }
}

/// The link of the network `bridge`, which must differ between engines that share a host: `knarr0` for the engine of
/// the usual data root.
pub(crate) fn default_link(data_root: &Path, engine_id: &str) -> String {
    if data_root == Path::new("/var/lib/knarr") {
        return "knarr0".to_owned();
    }
    format!("knarr-{}", engine_id.get(..8).unwrap_or(engine_id))
}
