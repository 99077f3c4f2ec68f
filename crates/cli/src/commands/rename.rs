//! `rename`

use clap::Args;

use super::{Context, warn};
use crate::client::{encode, with_query};
use crate::error::{Error, Result, message};

/// Rename a container
///
/// Running or not; the id stays.
#[derive(Debug, Args)]
pub(crate) struct Rename {
    /// Name or id.
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// The name it is to have.
    #[arg(value_name = "NEW_NAME")]
    new_name: String,
}

impl Rename {
    pub(super) async fn run(self, cx: &Context) -> Result<u8> {
        let (old, new) = (self.container.trim(), self.new_name.trim());
        if old.is_empty() || new.is_empty() {
            return Err(message("Error: Neither old nor new names may be empty"));
        }
        let path = format!("/containers/{}/rename", encode(old));
        match cx.client.post(&with_query(&path, &[("name", Some(new.to_owned()))])).await {
            Ok(_) => Ok(0),
            Err(e @ Error::Daemon { .. }) => {
                warn(e.to_string());
                Err(message(format!("Error: failed to rename container named {old}")))
            }
            Err(e) => Err(e),
        }
    }
}
