//! `port`

use api::container::Inspect;
use api::create::{PortBinding, PortMap};
use clap::Args;

use super::{Context, say};
use crate::client::encode;
use crate::error::{Result, message};
use crate::format::natural;

/// List port mappings or a specific mapping for the container
///
/// Only what is published now; what is merely exposed has no mapping.
#[derive(Debug, Args)]
pub(crate) struct Port {
    /// Name or id.
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// One port of the container; tcp, if no protocol is given.
    #[arg(value_name = "[PRIVATE_PORT[/PROTO]]")]
    port: Option<String>,
}

impl Port {
    pub(super) async fn run(self, cx: &Context) -> Result<u8> {
        let container: Inspect =
            cx.client.get(&format!("/containers/{}/json", encode(&self.container))).await?;
        let ports = &container.network_settings.ports;
        let mut lines = match self.port.as_deref() {
            Some(port) if !port.is_empty() => of_port(ports, port, &self.container)?,
            _ => all(ports),
        };
        lines.sort_by(|a, b| natural(a, b));
        if !lines.is_empty() {
            say(lines.join("\n"))?;
        }
        Ok(0)
    }
}

fn all(ports: &PortMap) -> Vec<String> {
    let lines = ports.iter().flat_map(|(port, places)| {
        places.iter().flatten().map(move |place| format!("{port} -> {}", shown(place)))
    });
    lines.collect()
}

fn of_port(ports: &PortMap, wanted: &str, container: &str) -> Result<Vec<String>> {
    let (number, protocol) = wanted.split_once('/').unwrap_or((wanted, ""));
    if let Err(error) = number.parse::<u16>() {
        let why = match error.kind() {
            std::num::IntErrorKind::PosOverflow => "value out of range",
            _ => "invalid syntax",
        };
        let text = format!("Error: invalid port ({number}): strconv.ParseUint: parsing {number:?}: {why}");
        return Err(message(text));
    }
    let key = format!("{number}/{}", if protocol.is_empty() { "tcp" } else { protocol });
    match ports.get(&key).and_then(Option::as_ref).filter(|places| !places.is_empty()) {
        Some(places) => Ok(places.iter().map(shown).collect()),
        None => Err(message(format!("Error: No public port '{wanted}' published for {container}"))),
    }
}

fn shown(place: &PortBinding) -> String {
    let PortBinding { host_ip, host_port } = place;
    if host_ip.contains(':') { format!("[{host_ip}]:{host_port}") } else { format!("{host_ip}:{host_port}") }
}
