//! `tag`

use clap::Args;

use super::{Context, pull};
use crate::client::{encode, with_query};
use crate::error::Result;

/// Create a tag `TARGET_IMAGE` that refers to `SOURCE_IMAGE`
///
/// A name that already means another image is moved to this one.
#[derive(Debug, Args)]
#[command(about = "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE")]
pub(crate) struct Tag {
    /// Name or id of an image.
    #[arg(value_name = "SOURCE_IMAGE[:TAG]")]
    source: String,
    /// The new name.
    #[arg(value_name = "TARGET_IMAGE[:TAG]")]
    target: String,
}

impl Tag {
    pub(super) async fn run(self, cx: &Context) -> Result<u8> {
        let (repo, tag) = pull::split(&self.target);
        let query = [("repo", Some(repo.to_owned())), ("tag", Some(tag.unwrap_or("latest").to_owned()))];
        cx.client.post(&with_query(&format!("/images/{}/tag", encode(&self.source)), &query)).await?;
        Ok(0)
    }
}
