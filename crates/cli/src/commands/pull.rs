//! `pull`

use clap::Args;

use super::{Context, say};
use crate::client::{empty, with_query};
use crate::credentials::{Credentials, server_of};
use crate::error::{Result, message};
use crate::progress;
use crate::terminal::Plain;

/// Download an image from a registry
///
/// Layers are unpacked while they come. What is there already is not fetched, and what broke off goes on where it
/// stopped.
#[derive(Debug, Args)]
pub(crate) struct Pull {
    /// Download all tagged images in the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Set platform if server is multi-platform capable
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    /// Suppress verbose output
    #[arg(short, long)]
    quiet: bool,
    /// The image.
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    name: String,
}

impl Pull {
    pub(super) async fn run(self, cx: &Context) -> Result<u8> {
        let (name, tag) = split(&self.name);
        if self.all_tags && tag.is_some() {
            return Err(message("tag can't be used with --all-tags/-a"));
        }
        if !self.all_tags && tag.is_none() && !self.quiet {
            say("Using default tag: latest")?;
        }
        let tag = if self.all_tags { None } else { Some(tag.unwrap_or("latest").to_owned()) };
        let to = if self.quiet { Plain::Closed } else { Plain::Out };
        fetch(cx, name, tag, self.platform, to).await?;
        say(full(&self.name, self.all_tags))?;
        Ok(0)
    }
}

/// The name with its registry, as the last line of docker's has it.
fn full(name: &str, all_tags: bool) -> String {
    let name = if all_tags { name.to_owned() } else { tagged(name) };
    let first = name.split('/').next().unwrap_or_default();
    if name.contains('/') && (first == "localhost" || first.contains(['.', ':'])) {
        return name;
    }
    if name.contains('/') { format!("docker.io/{name}") } else { format!("docker.io/library/{name}") }
}

/// Lets the daemon fetch an image and shows how it goes on standard error.
pub(super) async fn pull(cx: &Context, image: &str, platform: Option<String>, quiet: bool) -> Result<()> {
    let (name, tag) = split(image);
    let to = if quiet { Plain::Closed } else { Plain::Err };
    fetch(cx, name, Some(tag.unwrap_or("latest").to_owned()), platform, to).await
}

async fn fetch(
    cx: &Context,
    name: &str,
    tag: Option<String>,
    platform: Option<String>,
    to: Plain,
) -> Result<()> {
    let query = [("fromImage", Some(name.to_owned())), ("tag", tag), ("platform", platform)];
    let path = with_query("/images/create", &query);
    let auth = Credentials::open()?.get(&server_of(name))?.header();
    let header = ("x-registry-auth", auth.as_str());
    let answer = cx.client.open_with(hyper::Method::POST, &path, empty(), Some(header)).await?;
    progress::show(answer.into_body(), to).await
}

/// The name and what follows its colon (a tag) or `@` (a digest).
pub(super) fn split(image: &str) -> (&str, Option<&str>) {
    if let Some((name, digest)) = image.split_once('@') {
        return (name, Some(digest));
    }
    match image.rsplit_once(':') {
        // A colon before a slash parts a registry from its port.
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (image, None),
    }
}

/// The name with the tag that is meant.
pub(super) fn tagged(image: &str) -> String {
    match split(image).1 {
        Some(_) => image.to_owned(),
        None => format!("{image}:latest"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_tags() {
        assert_eq!(split("busybox"), ("busybox", None));
        assert_eq!(split("a/b:1"), ("a/b", Some("1")));
        assert_eq!(split("localhost:5000/x"), ("localhost:5000/x", None));
        assert_eq!(split("x@sha256:ab"), ("x", Some("sha256:ab")));
        assert_eq!(full("busybox", false), "docker.io/library/busybox:latest");
        assert_eq!(full("a/b:1", false), "docker.io/a/b:1");
        assert_eq!(full("r.example/a/b", true), "r.example/a/b");
        assert_eq!(tagged("localhost:5000/x"), "localhost:5000/x:latest");
        assert_eq!(tagged("x:1"), "x:1");
    }
}
