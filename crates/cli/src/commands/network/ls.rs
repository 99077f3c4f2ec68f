//! `network ls`

use api::network::Network;
use clap::Args;

use super::super::Context;
use crate::client::with_query;
use crate::error::Result;
use crate::filter::{Filter, query};
use crate::format::{Listing, Row, natural, short_id};
use crate::words::ago;

/// List networks
///
/// Those that are always there (bridge, host, none) and those that were created, by name.
#[derive(Debug, Args)]
pub(crate) struct Ls {
    /// Provide filter values (e.g. "driver=bridge")
    #[arg(short, long, value_name = "filter")]
    filter: Vec<Filter>,
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json' or 'TEMPLATE'
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Do not truncate the output
    #[arg(long)]
    no_trunc: bool,
    /// Only display network IDs
    #[arg(short, long)]
    quiet: bool,
}

const HEADINGS: &[(&str, &str)] = &[
    ("ID", "NETWORK ID"),
    ("Name", "NAME"),
    ("Driver", "DRIVER"),
    ("Scope", "SCOPE"),
    ("IPv4", "IPV4"),
    ("IPv6", "IPV6"),
    ("Internal", "INTERNAL"),
    ("Labels", "LABELS"),
    ("CreatedAt", "CREATED AT"),
];

impl Ls {
    pub(crate) async fn run(self, cx: &Context) -> Result<u8> {
        let path = with_query("/networks", &[("filters", query(&self.filter))]);
        let mut networks: Vec<Network> = cx.client.get(&path).await?;
        networks.sort_by(|a, b| natural(&a.name, &b.name));
        let rows: Vec<Row> = networks.iter().map(|network| row(network, !self.no_trunc)).collect();
        let listing = Listing {
            headings: HEADINGS,
            usual: "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
            quiet: self.quiet.then_some("ID"),
            format: self.format.as_deref(),
        };
        listing.show(&rows)?;
        Ok(0)
    }
}

fn row(it: &Network, short: bool) -> Row {
    let labels: Vec<String> = it.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    [
        ("ID", if short { short_id(&it.id).to_owned() } else { it.id.clone() }),
        ("Name", it.name.clone()),
        ("Driver", it.driver.clone()),
        ("Scope", it.scope.clone()),
        ("IPv4", (it.enable_ipv4 == Some(true)).to_string()),
        ("IPv6", it.enable_ipv6.to_string()),
        ("Internal", it.internal.to_string()),
        ("Labels", labels.join(",")),
        ("CreatedAt", ago::go_text(&it.created)),
    ]
    .into_iter()
    .map(|(name, text)| (name.to_owned(), text.into()))
    .collect()
}
