//! `commit`, and `image squash`: new images of what is there.

use clap::Args;

use super::{Context, pull, say};
use crate::client::{encode, flag, with_query};
use crate::error::Result;

/// Create a new image from a container's changes
#[derive(Debug, Args)]
pub(crate) struct Commit {
    /// Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")
    #[arg(short, long, value_name = "string")]
    author: Option<String>,
    /// Apply Dockerfile instruction to the created image
    #[arg(short, long, value_name = "list")]
    change: Vec<String>,
    /// Commit message
    #[arg(short, long, value_name = "string")]
    message: Option<String>,
    /// Pause container during commit (default true)
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = true, hide_default_value = true, action = clap::ArgAction::Set)]
    pause: bool,
    /// Make an image of one layer that holds everything
    #[arg(long)]
    squash: bool,
    /// Name or id.
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// The name it is to have.
    #[arg(value_name = "[REPOSITORY[:TAG]]")]
    name: Option<String>,
}

impl Commit {
    pub(super) async fn run(self, cx: &Context) -> Result<u8> {
        let (repo, tag) = self.name.as_deref().map(pull::split).unzip();
        let mut query = vec![
            ("container", Some(self.container)),
            ("repo", repo.map(str::to_owned)),
            ("tag", tag.flatten().map(str::to_owned)),
            ("comment", self.message),
            ("author", self.author),
            ("pause", Some(u8::from(self.pause).to_string())),
            ("squash", flag(self.squash)),
        ];
        query.extend(self.change.into_iter().map(|change| ("changes", Some(change))));
        let made: api::message::Created =
            cx.client.post_json(&with_query("/commit", &query), &serde_json::Value::Null).await?;
        say(&made.id)?;
        Ok(0)
    }
}

/// Make an image of one layer that shows what another image shows
///
/// Files that upper layers removed or replaced take no space any more; how containers run, and the history, stay.
#[derive(Debug, Args)]
pub(crate) struct Squash {
    /// Commit message
    #[arg(short, long, value_name = "string")]
    message: Option<String>,
    /// The name the new image is to have
    #[arg(short, long, value_name = "REPOSITORY[:TAG]")]
    tag: Option<String>,
    /// Name or id.
    #[arg(value_name = "IMAGE")]
    image: String,
}

impl Squash {
    pub(super) async fn run(self, cx: &Context) -> Result<u8> {
        let (repo, tag) = self.tag.as_deref().map(pull::split).unzip();
        let query = [
            ("repo", repo.map(str::to_owned)),
            ("tag", tag.flatten().map(str::to_owned)),
            ("message", self.message),
        ];
        let path = with_query(&format!("/images/{}/squash", encode(&self.image)), &query);
        let made: api::message::Created = cx.client.post_json(&path, &serde_json::Value::Null).await?;
        say(&made.id)?;
        Ok(0)
    }
}
