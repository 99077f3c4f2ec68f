//! `import`

use std::path::Path;

use clap::Args;

use super::{Context, pull};
use crate::client::{empty, stream, with_query};
use crate::error::Result;
use crate::progress;
use crate::terminal::Plain;

/// Import the contents from a tarball to create a filesystem image
///
/// One layer, no command: name one with `--change 'CMD ["sh"]'`, or when the image is run.
#[derive(Debug, Args)]
pub(crate) struct Import {
    /// Apply Dockerfile instruction to the created image
    #[arg(short, long, value_name = "list")]
    change: Vec<String>,
    /// Set commit message for imported image
    #[arg(short, long, value_name = "string")]
    message: Option<String>,
    /// Set platform if server is multi-platform capable
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    /// A file, an address, or - for standard input.
    #[arg(value_name = "file|URL|-")]
    source: String,
    /// The name it is to have.
    #[arg(value_name = "[REPOSITORY[:TAG]]")]
    name: Option<String>,
}

impl Import {
    pub(super) async fn run(self, cx: &Context) -> Result<u8> {
        let remote = ["http://", "https://"].iter().any(|scheme| self.source.starts_with(scheme));
        let (body, from) = match self.source.as_str() {
            "-" => (stream(None).await?, "-"),
            url if remote => (empty(), url),
            path => (stream(Some(Path::new(path))).await?, "-"),
        };
        let (repo, tag) = self.name.as_deref().map(pull::split).unzip();
        let mut query = vec![
            ("fromSrc", Some(from.to_owned())),
            ("message", self.message),
            ("repo", repo.map(str::to_owned)),
            ("tag", tag.flatten().map(str::to_owned)),
            ("platform", self.platform),
        ];
        query.extend(self.change.into_iter().map(|change| ("changes", Some(change))));
        let answer = cx.client.open(hyper::Method::POST, &with_query("/images/create", &query), body).await?;
        progress::show(answer.into_body(), Plain::Out).await?;
        Ok(0)
    }
}
