//! By which of its networks a container leaves, and with that where its published ports lead.

use std::{cmp::Reverse, net::IpAddr, sync::Arc};

use ipnet::IpNet;
use network::{Handle as Namespace, Host};

use crate::{Attachment, Container, Engine, Network, PublishedPort, config::Wish, error::Result};

/// The network whose gateway is the way out: by priority, then one that leads out at all, then by name, as Docker's.
pub(crate) fn way_out<'a>(all: impl Iterator<Item = (&'a Arc<Network>, &'a Wish)>) -> String {
    let leads_out = |network: &Network| network.bridge.as_ref().is_some_and(|bridge| !bridge.internal);
    let rank = |(network, wish): &(&Arc<Network>, &Wish)| {
        (wish.gateway_priority, leads_out(network), Reverse(network.name.clone()))
    };
    all.max_by_key(rank).map(|(network, _)| network.id.clone()).unwrap_or_default()
}

impl Engine {
    /// What a running container's places and ports are after one came or went: its routes and ports follow.
    pub(crate) fn lead_out(
        &self,
        container: &Container,
        mut places: Vec<Attachment>,
        inside: &Namespace,
    ) -> Result<(Vec<Attachment>, Vec<PublishedPort>)> {
        let known: Vec<(Arc<Network>, &Wish)> = places
            .iter()
            .filter_map(|place| Some((self.network(&place.network).ok()?, &place.wish)))
            .collect();
        let way = way_out(known.iter().map(|(network, wish)| (network, *wish)));
        let internal = known.iter().any(|(network, _)| {
            network.id == way && network.bridge.as_ref().is_some_and(|bridge| bridge.internal)
        });
        for place in &mut places {
            let leaves = place.network == way && !internal;
            place.endpoint.gateways = if leaves { place.gateways.clone() } else { Vec::new() };
        }
        places.sort_by_key(|place| place.network != way);
        let first = places.first();
        let gateways: &[IpAddr] = first.map_or(&[], |place| &place.endpoint.gateways);
        Host::leave_by(inside, gateways)?;
        let targets: Vec<IpAddr> =
            first.iter().flat_map(|place| &place.endpoint.addresses).map(IpNet::addr).collect();
        let stays = container.ports.iter().all(|port| targets.contains(&port.target));
        if stays && !container.ports.is_empty() {
            return Ok((places, container.ports.clone()));
        }
        self.unpublish(&container.ports);
        let ports = self.publish(container, places.first())?;
        Ok((places, ports))
    }
}
