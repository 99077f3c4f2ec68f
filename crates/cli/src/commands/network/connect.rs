//! `network connect`, `network disconnect`

use api::container::EndpointSettings;
use api::network::{NetworkConnect, NetworkDisconnect};
use clap::Args;

use super::super::Context;
use crate::client::encode;
use crate::container::network::{addresses, driver_options};
use crate::error::{Result, message};

// With the full stop that a doc comment loses.
const GW_PRIORITY: &str =
    "Highest gw-priority provides the default gateway. Accepts positive and negative values.";

/// Connect a container to a network
///
/// One that runs is in it at once; another one will be when it starts.
#[derive(Debug, Args)]
pub(crate) struct Connect {
    /// Add network-scoped alias for the container
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    alias: Vec<String>,
    /// driver options for the network
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    driver_opt: Vec<String>,
    #[arg(long, value_name = "int", default_value_t = 0, hide_default_value = true, help = GW_PRIORITY)]
    gw_priority: i64,
    /// IPv4 address (e.g., "172.30.100.104")
    #[arg(long, value_name = "string")]
    ip: Option<String>,
    #[arg(long, value_name = "string", help = "IPv6 address (e.g., \"2001:db8::33\")")]
    ip6: Option<String>,
    /// Add link to another container
    #[arg(long, value_name = "list")]
    link: Vec<String>,
    /// Add a link-local address for the container
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    link_local_ip: Vec<String>,
    /// Name or id.
    #[arg(value_name = "NETWORK")]
    network: String,
    /// Name or id.
    #[arg(value_name = "CONTAINER")]
    container: String,
}

impl Connect {
    pub(crate) async fn run(self, cx: &Context) -> Result<u8> {
        let settings = EndpointSettings {
            ipam_config: addresses(self.ip.as_deref(), self.ip6.as_deref(), &self.link_local_ip),
            links: (!self.link.is_empty()).then_some(self.link),
            aliases: (!self.alias.is_empty()).then_some(self.alias),
            driver_opts: driver_options(&self.driver_opt).map_err(message)?,
            gw_priority: self.gw_priority,
            ..EndpointSettings::default()
        };
        let request = NetworkConnect { container: self.container, endpoint_config: Some(settings) };
        cx.client.post_value(&format!("/networks/{}/connect", encode(&self.network)), &request).await?;
        Ok(0)
    }
}

/// Disconnect a container from a network
///
/// At once, where it runs; other containers then no longer find it by its name there.
#[derive(Debug, Args)]
pub(crate) struct Disconnect {
    /// Force the container to disconnect from a network
    #[arg(short, long)]
    force: bool,
    /// Name or id.
    #[arg(value_name = "NETWORK")]
    network: String,
    /// Name or id.
    #[arg(value_name = "CONTAINER")]
    container: String,
}

impl Disconnect {
    pub(crate) async fn run(self, cx: &Context) -> Result<u8> {
        let request = NetworkDisconnect { container: self.container, force: self.force };
        cx.client.post_value(&format!("/networks/{}/disconnect", encode(&self.network)), &request).await?;
        Ok(0)
    }
}
