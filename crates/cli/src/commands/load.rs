//! `load`

use std::path::PathBuf;

use clap::Args;

use super::Context;
use crate::client::{stream, with_query};
use crate::error::{Result, message};
use crate::progress;
use crate::terminal::{self, Plain};

/// Load an image from a tar archive or STDIN
///
/// Archives of `docker save`, `podman save` and OCI layouts, plain or compressed.
#[derive(Debug, Args)]
pub(crate) struct Load {
    /// Read from tar archive file, instead of STDIN
    #[arg(short, long, value_name = "string")]
    input: Option<PathBuf>,
    /// Suppress the load output
    #[arg(short, long)]
    quiet: bool,
}

impl Load {
    pub(super) async fn run(self, cx: &Context) -> Result<u8> {
        if self.input.is_none() && terminal::input_is_terminal() {
            return Err(message("requested load from stdin, but stdin is empty"));
        }
        let body = stream(self.input.as_deref()).await?;
        let quiet = u8::from(self.quiet || !terminal::output_is_terminal()).to_string();
        let path = with_query("/images/load", &[("quiet", Some(quiet))]);
        let answer = cx.client.open(hyper::Method::POST, &path, body).await?;
        progress::show(answer.into_body(), Plain::Out).await?;
        Ok(0)
    }
}
