//! `export`

use std::path::PathBuf;

use clap::Args;

use super::{Context, save::fetch};
use crate::client::encode;
use crate::error::Result;

/// Export a container's filesystem as a tar archive
///
/// Everything it sees of its own, volumes and mounts left out; `import` makes an image of it.
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "string")]
    output: Option<PathBuf>,
    /// Name or id.
    #[arg(value_name = "CONTAINER")]
    container: String,
}

impl Export {
    pub(super) async fn run(self, cx: &Context) -> Result<u8> {
        let path = format!("/containers/{}/export", encode(&self.container));
        fetch(cx, &path, self.output.as_deref(), "export").await
    }
}
