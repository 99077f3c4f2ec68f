//! `rm`

use clap::Args;

use super::{Context, for_each};
use crate::client::{encode, flag, with_query};
use crate::error::{Error, Result};

/// Remove one or more containers
///
/// A running container is only removed with --force, which kills it first.
#[derive(Debug, Args)]
pub(crate) struct Rm {
    /// Force the removal of a running container (uses SIGKILL)
    #[arg(short, long)]
    force: bool,
    /// Remove anonymous volumes associated with the container
    #[arg(short, long)]
    volumes: bool,
    /// Names or ids.
    #[arg(required = true, value_names = ["CONTAINER", "[CONTAINER...]"], num_args = 1..)]
    containers: Vec<String>,
}

impl Rm {
    pub(super) async fn run(self, cx: &Context) -> Result<u8> {
        let query = [("force", flag(self.force)), ("v", flag(self.volumes))];
        let code = for_each(&self.containers, async |name| {
            match cx.client.delete(&with_query(&format!("/containers/{}", encode(&name)), &query)).await {
                // Whoever forces wants it gone; what is not there is said, and is no failure.
                Err(e) if self.force && e.is_not_found() => {
                    Err(Error::Status { message: e.to_string(), code: 0 })
                }
                other => other.map(drop),
            }
        })
        .await?;
        Ok(code)
    }
}
