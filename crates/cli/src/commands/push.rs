//! `push`

use clap::Args;

use super::{Context, pull, say};
use crate::client::{empty, encode, with_query};
use crate::credentials::{Credentials, server_of};
use crate::error::{Result, message};
use crate::progress;
use crate::terminal::Plain;

/// Upload an image to a registry
///
/// What the registry has already is not sent; what it has in another repository, it copies by itself.
#[derive(Debug, Args)]
pub(crate) struct Push {
    /// Push all tags of an image to the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Suppress verbose output
    #[arg(short, long)]
    quiet: bool,
    /// The image's name, which says where it goes.
    #[arg(value_name = "NAME[:TAG]")]
    name: String,
}

impl Push {
    pub(super) async fn run(self, cx: &Context) -> Result<u8> {
        let (name, tag) = pull::split(&self.name);
        let tag = match (self.all_tags, tag) {
            (true, Some(_)) => return Err(message("tag can't be used with --all-tags/-a")),
            (true, None) => None,
            (false, Some(tag)) => Some(tag.to_owned()),
            (false, None) => {
                if !self.quiet {
                    say("Using default tag: latest")?;
                }
                Some("latest".to_owned())
            }
        };
        let shown = tag.as_ref().map_or(name.to_owned(), |tag| format!("{name}:{tag}"));
        let path = with_query(&format!("/images/{}/push", encode(name)), &[("tag", tag)]);
        let auth = Credentials::open()?.get(&server_of(name))?.header();
        let header = ("x-registry-auth", auth.as_str());
        let answer = cx.client.open_with(hyper::Method::POST, &path, empty(), Some(header)).await?;
        progress::show(answer.into_body(), if self.quiet { Plain::Closed } else { Plain::Out }).await?;
        if self.quiet {
            say(shown)?;
        }
        Ok(0)
    }
}
