//! `images`

use api::image::Summary;
use clap::Args;
use jiff::Timestamp;

use super::{Context, pull};
use crate::client::{flag, with_query};
use crate::error::Result;
use crate::filter::{Filter, query, reference};
use crate::format::{Listing, Row, short_id};
use crate::words::{ago, size};

/// List images
///
/// One line for each name; an image without a name has <none>.
#[derive(Debug, Args)]
pub(crate) struct Images {
    /// Show all images (default hides intermediate images)
    #[arg(short, long)]
    all: bool,
    /// Show digests
    #[arg(long)]
    digests: bool,
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "filter")]
    filter: Vec<Filter>,
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json' or 'TEMPLATE'
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only show image IDs
    #[arg(short, long)]
    quiet: bool,
    /// Only these names; * and ? stand for other characters.
    #[arg(value_name = "[REPOSITORY[:TAG]]")]
    name: Option<String>,
}

pub(super) const HEADINGS: &[(&str, &str)] = &[
    ("ID", "IMAGE ID"),
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("Containers", "CONTAINERS"),
    ("VirtualSize", "SIZE"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
];

const NONE: &str = "<none>";

impl Images {
    pub(super) async fn run(self, cx: &Context) -> Result<u8> {
        let named = self.name.as_deref().map(reference);
        let filters = query(self.filter.iter().chain(&named));
        let path = with_query("/images/json", &[("all", flag(self.all)), ("filters", filters)]);
        let images: Vec<Summary> = cx.client.get(&path).await?;
        let digests = self.digests || self.format.as_ref().is_some_and(|format| format.contains(".Digest"));
        let now = Timestamp::now();
        let rows: Vec<Row> = images
            .iter()
            .flat_map(|image| names(image, digests).into_iter().map(move |name| (image, name)))
            .map(|(image, name)| row(image, &name, !self.no_trunc, now))
            .collect();
        let usual = if self.digests {
            "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
        } else {
            "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
        };
        let listing = Listing {
            headings: HEADINGS,
            usual,
            quiet: self.quiet.then_some("ID"),
            format: self.format.as_deref(),
        };
        listing.show(&rows)?;
        Ok(0)
    }
}

/// The lines of `system df -v`.
pub(super) fn rows(images: &[Summary], now: Timestamp) -> Vec<Row> {
    let lines =
        images.iter().flat_map(|image| names(image, false).into_iter().map(move |name| (image, name)));
    lines.map(|(image, name)| row(image, &name, true, now)).collect()
}

/// Repository, tag and digest of a line.
type Name = [String; 3];

/// The lines of one image: a line for each tag, and where digests are shown, for each tag and digest.
fn names(image: &Summary, digests: bool) -> Vec<Name> {
    let plain = |all: &Option<Vec<String>>| -> Vec<(String, String)> {
        let parts = all.iter().flatten().filter_map(|name| {
            let (repository, rest) = pull::split(name);
            Some((repository.to_owned(), rest?.to_owned())).filter(|(repository, _)| repository != NONE)
        });
        parts.collect()
    };
    let (tags, sums) = (plain(&image.repo_tags), plain(&image.repo_digests));
    let mut out = Vec::new();
    for (repository, tag) in &tags {
        let mine: Vec<&String> =
            sums.iter().filter(|(of, _)| digests && of == repository).map(|(_, d)| d).collect();
        if mine.is_empty() {
            out.push([repository.clone(), tag.clone(), NONE.into()]);
        }
        out.extend(mine.into_iter().map(|digest| [repository.clone(), tag.clone(), digest.clone()]));
    }
    for (repository, digest) in sums {
        if !tags.iter().any(|(of, _)| *of == repository) {
            out.push([repository, NONE.into(), digest]);
        }
    }
    if out.is_empty() {
        out.push([NONE.into(), NONE.into(), NONE.into()]);
    }
    out
}

fn row(image: &Summary, [repository, tag, digest]: &Name, short: bool, now: Timestamp) -> Row {
    let count = |n: i64| if n < 0 { "N/A".into() } else { n.to_string() };
    let bytes = |n: i64| {
        if n < 0 { "N/A".into() } else { size::human_decimal(n as f64) }
    };
    let unique = if image.shared_size < 0 { -1 } else { image.size - image.shared_size };
    [
        ("ID", if short { short_id(&image.id).to_owned() } else { image.id.clone() }),
        ("Repository", repository.clone()),
        ("Tag", tag.clone()),
        ("Digest", digest.clone()),
        ("CreatedSince", ago::since_unix(image.created, now)),
        ("CreatedAt", ago::go_time(image.created)),
        ("Size", bytes(image.size)),
        ("Containers", count(image.containers)),
        ("VirtualSize", size::human_finer(image.size as f64)),
        ("SharedSize", bytes(image.shared_size)),
        ("UniqueSize", bytes(unique)),
    ]
    .into_iter()
    .map(|(name, text)| (name.to_owned(), text.into()))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_each_name() {
        let image = Summary {
            repo_tags: Some(vec!["a:1".into(), "h:5000/b:2".into()]),
            repo_digests: Some(vec!["a@sha256:0".into(), "c@sha256:1".into()]),
            ..Summary::default()
        };
        let lines =
            |digests| -> Vec<String> { names(&image, digests).iter().map(|name| name.join(" ")).collect() };
        assert_eq!(lines(false), ["a 1 <none>", "h:5000/b 2 <none>", "c <none> sha256:1"]);
        assert_eq!(lines(true), ["a 1 sha256:0", "h:5000/b 2 <none>", "c <none> sha256:1"]);
        let bare = Summary { repo_tags: Some(vec!["<none>:<none>".into()]), ..Summary::default() };
        assert_eq!(names(&bare, false), [["<none>".to_owned(), "<none>".into(), "<none>".into()]]);
    }
}
