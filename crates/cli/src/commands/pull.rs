//! Asking the daemon for an image that it does not have.

use super::Context;
use crate::client::{empty, with_query};
use crate::error::Result;
use crate::progress;
use crate::terminal::Plain;

/// Lets the daemon fetch an image and shows how it goes on standard error.
pub(super) async fn pull(cx: &Context, image: &str, quiet: bool) -> Result<()> {
    let (name, tag) = split(image);
    let query = [("fromImage", Some(name.to_owned())), ("tag", Some(tag.unwrap_or("latest").to_owned()))];
    let path = with_query("/images/create", &query);
    let answer = cx.client.open(hyper::Method::POST, &path, empty()).await?;
    progress::show(answer.into_body(), if quiet { Plain::Closed } else { Plain::Err }).await
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
        assert_eq!(tagged("localhost:5000/x"), "localhost:5000/x:latest");
        assert_eq!(tagged("x:1"), "x:1");
    }
}
