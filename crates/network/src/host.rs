//! One host's networks: a namespace, its bridges, and the table of packet rules.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use ipnet::IpNet;
use netlink::{
    Namespace, Route, Socket,
    nft::{Batch, Family},
};
use rustix::io::Errno;

use crate::{
    Bridge, Endpoint, Publish, Result, bridge,
    firewall::{self, Elements, State},
};

/// How one engine's networks are told from another's on the same host.
#[derive(Debug, Clone)]
pub struct Options {
    /// Name of the table of packet rules.
    pub table: String,
}

/// A namespace in which an engine makes networks. Calls are synchronous and short.
#[derive(Debug)]
pub struct Host {
    namespace: Namespace,
    table: String,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    routes: Socket,
    rules: Socket,
    state: State,
    /// Whether the table has been made.
    ready: bool,
}

impl Host {
    /// The calling thread's namespace. Nothing is changed yet.
    pub fn open(options: Options) -> Result<Self> {
        let namespace = Namespace::current()?;
        let inner = Inner {
            routes: Socket::route(&namespace)?,
            rules: Socket::netfilter(&namespace)?,
            state: State::default(),
            ready: false,
        };
        Ok(Self { namespace, table: options.table, inner: Mutex::new(inner) })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the packet rules and the bridges what they should be, whatever is there: for an engine that begins. What
    /// was right stays untouched, and no packet ever sees a half of it.
    pub fn restore(&self, bridges: Vec<Bridge>, published: Vec<Publish>) -> Result<()> {
        let mut inner = self.inner();
        inner.state.bridges = bridges.into_iter().map(|bridge| (bridge.link.clone(), bridge)).collect();
        inner.state.published = published;
        if inner.state.bridges.is_empty() {
            return Ok(());
        }
        // Rules first: no bridge is ever there without them (R22).
        self.write_table(&mut inner)?;
        let Inner { routes, state, .. } = &mut *inner;
        state.bridges.values().try_for_each(|one| bridge::ensure(routes, &self.namespace, one))
    }

    /// Writes the whole table again, at once; for when others have changed it.
    pub fn repair(&self) -> Result<()> {
        let mut inner = self.inner();
        if inner.ready { self.write_table(&mut inner) } else { Ok(()) }
    }

    fn write_table(&self, inner: &mut Inner) -> Result<()> {
        self.forward(inner)?;
        let batch = firewall::table(&self.table, &inner.state);
        inner.rules.commit(batch, || format!("set the packet rules of table {}", self.table))?;
        inner.ready = true;
        Ok(())
    }

    /// Containers need forwarding. Where the host had it off, nobody else gets it: the table drops the rest, from before
    /// forwarding is on.
    fn forward(&self, inner: &mut Inner) -> Result<()> {
        let read = |path: &'static str| self.namespace.within(move || std::fs::read_to_string(path));
        let off = |text: std::io::Result<String>| text.is_ok_and(|text| text.trim() == "0");
        let mut needed = Vec::new();
        for (path, name) in [
            ("/proc/sys/net/ipv4/ip_forward", "ipv4/ip_forward"),
            ("/proc/sys/net/ipv6/conf/all/forwarding", "ipv6/conf/all/forwarding"),
        ] {
            let v6 = name.starts_with("ipv6");
            if inner.state.bridges.values().any(|bridge| bridge.has(v6)) && off(read(path)?) {
                needed.push((name.to_owned(), "1"));
            }
        }
        if needed.is_empty() {
            return Ok(());
        }
        inner.state.closed = true;
        let batch = firewall::table(&self.table, &inner.state);
        inner.rules.commit(batch, || format!("set the packet rules of table {}", self.table))?;
        bridge::set(&self.namespace, &needed)
    }

    /// Whether a bridge has been made or restored.
    pub fn has(&self, link: &str) -> bool {
        self.inner().state.bridges.contains_key(link)
    }

    /// Makes a network's bridge, behind its rules. On failure nothing is left.
    pub fn create(&self, new: &Bridge) -> Result<()> {
        let mut inner = self.inner();
        let known = inner.state.bridges.insert(new.link.clone(), new.clone()).is_some();
        let ruled = if inner.ready && !known {
            self.forward(&mut inner).and_then(|()| self.add(&mut inner, &firewall::of_bridge(new)))
        } else {
            self.write_table(&mut inner)
        };
        let Inner { routes, .. } = &mut *inner;
        let outcome = ruled.and_then(|()| bridge::ensure(routes, &self.namespace, new));
        if outcome.is_err() && !known {
            inner.state.bridges.remove(&new.link);
            let _ = self.take(&mut inner, &firewall::of_bridge(new));
        }
        outcome
    }

    /// Removes a network's bridge and then its rules. One that is not there is fine.
    pub fn remove(&self, link: &str) -> Result<()> {
        let mut inner = self.inner();
        inner.routes.delete_link(link)?;
        match inner.state.bridges.remove(link) {
            Some(gone) if inner.ready => self.take(&mut inner, &firewall::of_bridge(&gone)),
            _ => Ok(()),
        }
    }

    /// Ties the namespace `inside` to a bridge of this host. On failure nothing is left.
    pub fn connect(&self, endpoint: &Endpoint, inside: &Namespace) -> Result<()> {
        let mut inner = self.inner();
        let Inner { routes, state, .. } = &mut *inner;
        let missing = || crate::Error::Invalid(format!("bridge {} is not there", endpoint.bridge));
        let bridge = state.bridges.get(&endpoint.bridge).ok_or_else(missing)?;
        bridge::connect(routes, &self.namespace, bridge, endpoint, inside)
    }

    /// Cuts a tie; one that is not there is fine. Waits 16 ms in the kernel; a namespace that ends takes its ties with
    /// it for nothing.
    pub fn disconnect(&self, host_link: &str) -> Result<()> {
        Ok(self.inner().routes.delete_link(host_link)?)
    }

    /// Leads ports of the host to containers, all of them or none.
    pub fn publish(&self, ports: &[Publish]) -> Result<()> {
        let mut inner = self.inner();
        let elements = merged(ports);
        if !inner.ready {
            self.write_table(&mut inner)?;
        }
        self.add(&mut inner, &elements)?;
        inner.state.published.extend_from_slice(ports);
        Ok(())
    }

    /// Takes published ports back.
    pub fn unpublish(&self, ports: &[Publish]) -> Result<()> {
        let mut inner = self.inner();
        inner.state.published.retain(|port| !ports.contains(port));
        let elements = merged(ports);
        self.take(&mut inner, &elements)
    }

    fn add(&self, inner: &mut Inner, elements: &Elements) -> Result<()> {
        let mut batch = Batch::new(Family::Inet, &self.table);
        for (set, elements) in elements {
            batch.add_elements(set, elements);
        }
        match inner.rules.commit(batch, || format!("add to the packet rules of table {}", self.table)) {
            // Somebody took the table away: make it anew, with this in it, then try again.
            Err(error) if error.errno() == Some(Errno::NOENT) => {
                self.write_table(inner)?;
                let mut batch = Batch::new(Family::Inet, &self.table);
                for (set, elements) in elements {
                    batch.add_elements(set, elements);
                }
                Ok(inner
                    .rules
                    .commit(batch, || format!("add to the packet rules of table {}", self.table))?)
            }
            other => Ok(other?),
        }
    }

    /// What cannot be taken out of the table one by one is settled by writing it whole.
    fn take(&self, inner: &mut Inner, elements: &Elements) -> Result<()> {
        let mut batch = Batch::new(Family::Inet, &self.table);
        for (set, elements) in elements {
            batch.delete_elements(set, elements);
        }
        match inner.rules.commit(batch, || format!("take from the packet rules of table {}", self.table)) {
            Err(error) if error.errno() == Some(Errno::NOENT) => self.write_table(inner),
            other => Ok(other?),
        }
    }

    /// Subnets that are in use on this host: of links, and of routes that lead somewhere in particular.
    pub fn subnets_in_use(&self) -> Result<Vec<IpNet>> {
        let routes = &mut self.inner().routes;
        let of_links = routes.addresses()?.into_iter().map(|found| found.address.trunc());
        let of_routes = routes.routes()?.into_iter().map(|route| route.destination);
        let all: BTreeSet<IpNet> = of_links
            .chain(of_routes)
            .filter(|net| net.prefix_len() > 0 && !net.addr().is_loopback())
            .collect();
        Ok(all.into_iter().collect())
    }

    /// Removes the table, and with it every rule; bridges are removed by [`Host::remove`]. For an engine that is
    /// uninstalled, and for tests.
    pub fn clear(&self) -> Result<()> {
        let mut inner = self.inner();
        let mut batch = Batch::new(Family::Inet, &self.table);
        batch.add_table().delete_table();
        inner.rules.commit(batch, || format!("remove the packet rules of table {}", self.table))?;
        inner.ready = false;
        Ok(())
    }

    /// A namespace for a container: its loopback is up, and links that come to it hear no advertisements.
    pub fn namespace() -> Result<Namespace> {
        let made = Namespace::new()?;
        let mut socket = Socket::route(&made)?;
        let loopback = socket.index("lo")?;
        socket.set_up(loopback, true)?;
        Ok(made)
    }

    /// Lets a namespace leave by these gateways, and by no others; at most one a family.
    pub fn leave_by(inside: &Namespace, gateways: &[IpAddr]) -> Result<()> {
        let mut socket = Socket::route(inside)?;
        for route in socket.routes()?.iter().filter(|route| route.destination.prefix_len() == 0) {
            socket.delete_route(route)?;
        }
        for gateway in gateways {
            socket.add_route(&Route::default_by(*gateway))?;
        }
        Ok(())
    }

    /// The one that a path stands for.
    pub fn find(path: &Path) -> Result<Namespace> {
        Ok(Namespace::open(path)?)
    }
}

fn merged(ports: &[Publish]) -> Elements {
    let mut all = Elements::new();
    for (set, mut elements) in ports.iter().flat_map(firewall::of_publish) {
        all.entry(set).or_default().append(&mut elements);
    }
    all
}
