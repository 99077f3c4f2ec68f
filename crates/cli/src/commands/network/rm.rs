//! `network rm`, `network prune`

use std::io::{self, BufRead, Write};

use api::network::NetworksPruned;
use clap::Args;

use super::super::{Context, say, warn};
use crate::client::{encode, with_query};
use crate::error::{Error, Result};
use crate::filter::{Filter, query};
use crate::terminal::Plain;

/// Remove one or more networks
///
/// Only those that no container is in.
#[derive(Debug, Args)]
pub(crate) struct Rm {
    /// Do not error if the network does not exist
    #[arg(short, long)]
    force: bool,
    /// Names or ids.
    #[arg(required = true, value_names = ["NETWORK", "[NETWORK...]"], num_args = 1..)]
    networks: Vec<String>,
}

impl Rm {
    pub(crate) async fn run(self, cx: &Context) -> Result<u8> {
        let mut code = 0;
        // One after another: a name and an id may mean the same network.
        for name in &self.networks {
            match cx.client.delete(&format!("/networks/{}", encode(name))).await {
                Ok(_) => say(name)?,
                Err(e @ Error::Connect(_)) => return Err(e),
                Err(e) if self.force && e.is_not_found() => {}
                Err(e) => {
                    warn(e.to_string());
                    code = 1;
                }
            }
        }
        Ok(code)
    }
}

/// Remove all unused networks
///
/// Those that were created and that no container is in or is to be in.
#[derive(Debug, Args)]
pub(crate) struct Prune {
    /// Provide filter values (e.g. "until=<timestamp>")
    #[arg(long, value_name = "filter")]
    filter: Vec<Filter>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

const WARNING: &str = "WARNING! This will remove all custom networks not used by at least one container.";

impl Prune {
    pub(crate) async fn run(self, cx: &Context) -> Result<u8> {
        if !self.force && !confirmed()? {
            return Ok(0);
        }
        let path = with_query("/networks/prune", &[("filters", query(&self.filter))]);
        let pruned: NetworksPruned = cx.client.post_json(&path, &serde_json::json!({})).await?;
        let names = pruned.networks_deleted.unwrap_or_default();
        if !names.is_empty() {
            say(format!("Deleted Networks:\n{}\n", names.join("\n")))?;
        }
        Ok(0)
    }
}

/// Asks whoever typed the command; the end of the input is no.
fn confirmed() -> Result<bool> {
    write!(Plain::Out, "{WARNING}\nAre you sure you want to continue? [y/N] ")?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}
