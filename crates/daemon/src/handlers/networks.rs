//! Networks: made, listed, joined, left, removed.

use api::network::{NetworkConnect, NetworkCreate, NetworkCreated, NetworkDisconnect, NetworksPruned};
use engine::Network;
use hyper::StatusCode;

use crate::{
    body::{self, Reply},
    convert::{network as convert, time},
    failure::{Failure, Result},
    router::Call,
};

pub(super) async fn list(call: Call) -> Result<Reply> {
    let filters = call.query.filters()?;
    filters.only(&["dangling", "driver", "id", "label", "name", "scope", "type"])?;
    let builtin = |network: &Network| matches!(network.name.as_str(), "bridge" | "host" | "none");
    let engine = call.engine();
    let unused = |network: &Network| !builtin(network) && engine.members(network).is_empty();
    let mut shown = engine.networks();
    shown.retain(|network| {
        filters.any("driver", |driver| driver == network.driver)
            && filters.any("id", |id| network.id.starts_with(id))
            && filters.any("name", |name| network.name.contains(name))
            && filters.any("scope", |scope| scope == "local")
            && filters.any("type", |kind| kind == if builtin(network) { "builtin" } else { "custom" })
            && filters.any("dangling", |wanted| matches!(wanted, "1" | "true") == unused(network))
            && filters.labels("label", &network.labels)
    });
    // The list does not tell who is in them.
    let lines: Vec<_> = shown.iter().map(|network| convert::shown(network, &[])).collect();
    call.json(StatusCode::OK, &lines)
}

pub(super) async fn inspect(call: Call) -> Result<Reply> {
    let network = call.engine().network(&call.name)?;
    call.json(StatusCode::OK, &convert::shown(&network, &call.engine().members(&network)))
}

pub(super) async fn create(call: Call) -> Result<Reply> {
    let Call { door, headers, body, .. } = call;
    let request: NetworkCreate = body::json(&headers, body, false).await?;
    let made = door.engine.create_network(convert::new(request)?).await?;
    let answer = NetworkCreated { id: made.id.clone(), warning: String::new() };
    Ok(body::reply(StatusCode::CREATED, api::JSON, body::line(&answer)))
}

pub(super) async fn delete(call: Call) -> Result<Reply> {
    call.engine().remove_network(&call.name).await?;
    Ok(body::empty(StatusCode::NO_CONTENT))
}

pub(super) async fn connect(call: Call) -> Result<Reply> {
    let Call { door, name, headers, body, .. } = call;
    let request: NetworkConnect = body::json(&headers, body, false).await?;
    let wish = convert::wish(request.endpoint_config.unwrap_or_default())?;
    door.engine.connect(&name, &request.container, wish).await?;
    Ok(body::empty(StatusCode::OK))
}

pub(super) async fn disconnect(call: Call) -> Result<Reply> {
    let Call { door, name, headers, body, .. } = call;
    let request: NetworkDisconnect = body::json(&headers, body, false).await?;
    door.engine.disconnect(&name, &request.container).await?;
    Ok(body::empty(StatusCode::OK))
}

pub(super) async fn prune(call: Call) -> Result<Reply> {
    let filters = call.query.filters()?;
    filters.only(&["label", "label!", "until"])?;
    let until = match filters.values("until") {
        [] => None,
        [text] => time::parse(text)?,
        _ => return Err(Failure::invalid("more than one until filter specified")),
    };
    let keep = |network: &Network| {
        let held = |name: &str| !filters.values(name).is_empty() && filters.labels(name, &network.labels);
        !filters.labels("label", &network.labels)
            || held("label!")
            || until.is_some_and(|until| network.created >= until)
    };
    let removed = call.engine().prune_networks(keep).await?;
    let answer = NetworksPruned { networks_deleted: (!removed.is_empty()).then_some(removed) };
    call.json(StatusCode::OK, &answer)
}
