//! `diff`

use clap::Args;

use super::{Context, say};
use crate::client::encode;
use crate::error::Result;

/// Inspect changes to files or directories on a container's filesystem
///
/// A is added, C is changed, D is deleted; a directory is changed when something in it is.
#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// Name or id.
    #[arg(value_name = "CONTAINER")]
    container: String,
}

impl Diff {
    pub(super) async fn run(self, cx: &Context) -> Result<u8> {
        let path = format!("/containers/{}/changes", encode(&self.container));
        let changes: Option<Vec<api::container::Change>> = cx.client.get(&path).await?;
        for change in changes.unwrap_or_default() {
            let letter = ["C", "A", "D"].get(usize::from(change.kind)).copied().unwrap_or("?");
            say(format!("{letter} {}", change.path))?;
        }
        Ok(0)
    }
}
