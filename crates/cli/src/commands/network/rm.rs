//! `network rm`

use clap::Args;

use super::super::{Context, say, warn};
use crate::client::encode;
use crate::error::{Error, Result};

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
