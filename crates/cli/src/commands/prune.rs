//! `container prune`, `image prune`, `network prune`, `system prune`: removing what nobody uses, after a question.

use std::fmt::Write as _;
use std::io::{BufRead, Write};

use clap::Args;

use super::{Context, warn};
use crate::client::with_query;
use crate::error::Result;
use crate::filter::{self, Filter};
use crate::terminal::Plain;
use crate::words::size;

/// Remove all stopped containers
#[derive(Debug, Args)]
pub(crate) struct PruneContainers {
    /// Provide filter values (e.g. "until=<timestamp>")
    #[arg(long, value_name = "filter")]
    filter: Vec<Filter>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

/// Remove unused images
///
/// Those without a name; with --all, those that no container uses.
#[derive(Debug, Args)]
pub(crate) struct PruneImages {
    /// Remove all unused images, not just dangling ones
    #[arg(short, long)]
    all: bool,
    /// Provide filter values (e.g. "until=<timestamp>")
    #[arg(long, value_name = "filter")]
    filter: Vec<Filter>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

/// Remove all unused networks
///
/// Those that were created and that no container is in or is to be in.
#[derive(Debug, Args)]
pub(crate) struct PruneNetworks {
    /// Provide filter values (e.g. "until=<timestamp>")
    #[arg(long, value_name = "filter")]
    filter: Vec<Filter>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

/// Remove unused data
#[derive(Debug, Args)]
pub(crate) struct PruneSystem {
    /// Remove all unused images not just dangling ones
    #[arg(short, long)]
    all: bool,
    /// Provide filter values (e.g. "label=<key>=<value>")
    #[arg(long, value_name = "filter")]
    filter: Vec<Filter>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
    /// Prune anonymous volumes
    #[arg(long)]
    volumes: bool,
}

/// What was removed, in words, and how much came free.
#[derive(Default)]
struct Pruned {
    text: String,
    bytes: u64,
}

const ALL_IMAGES: &str = "all images without at least one container associated to them";

const UNUSED_NETWORKS: &str =
    "WARNING! This will remove all custom networks not used by at least one container.";

impl PruneContainers {
    pub(super) async fn run(self, cx: &Context) -> Result<u8> {
        if !self.force && !agreed("WARNING! This will remove all stopped containers.")? {
            return Ok(0);
        }
        containers(cx, &self.filter).await?.tell()
    }
}

impl PruneImages {
    pub(super) async fn run(self, cx: &Context) -> Result<u8> {
        let what = if self.all { ALL_IMAGES } else { "all dangling images" };
        if !self.force && !agreed(&format!("WARNING! This will remove {what}."))? {
            return Ok(0);
        }
        images(cx, self.all, &self.filter).await?.tell()
    }
}

impl PruneNetworks {
    pub(super) async fn run(self, cx: &Context) -> Result<u8> {
        if !self.force && !agreed(UNUSED_NETWORKS)? {
            return Ok(0);
        }
        let gone = networks(cx, &self.filter).await?;
        // Networks take no space that could be counted.
        Plain::Out.write_all(gone.text.as_bytes())?;
        Ok(0)
    }
}

impl PruneSystem {
    pub(super) async fn run(self, cx: &Context) -> Result<u8> {
        if !self.force && !agreed(&self.warning())? {
            return Ok(0);
        }
        let mut all = containers(cx, &self.filter).await?;
        all.add(&networks(cx, &self.filter).await?);
        if self.volumes {
            all.add(&volumes(cx, &self.filter).await?);
        }
        all.add(&images(cx, self.all, &self.filter).await?);
        all.tell()
    }

    fn warning(&self) -> String {
        let mut lines = vec!["all stopped containers", "all networks not used by at least one container"];
        if self.volumes {
            lines.push("all anonymous volumes not used by at least one container");
        }
        lines.extend(if self.all {
            [ALL_IMAGES, "all build cache"]
        } else {
            ["all dangling images", "unused build cache"]
        });
        let mut text = "WARNING! This will remove:\n".to_owned();
        for line in lines {
            let _ = writeln!(text, "  - {line}");
        }
        if !self.filter.is_empty() {
            text.push_str("\n  Items to be pruned will be filtered with:\n");
            for filter in &self.filter {
                let _ = writeln!(text, "  - {filter}");
            }
        }
        text
    }
}

/// Asks on standard output, as Docker does; anything but yes is no, and no is no failure.
fn agreed(warning: &str) -> Result<bool> {
    let mut out = Plain::Out;
    write!(out, "{warning}\nAre you sure you want to continue? [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}

impl Pruned {
    fn of(heading: &str, lines: &[String], bytes: u64) -> Self {
        let text =
            if lines.is_empty() { String::new() } else { format!("{heading}:\n{}\n\n", lines.join("\n")) };
        Self { text, bytes }
    }

    fn add(&mut self, other: &Self) {
        self.text.push_str(&other.text);
        self.bytes += other.bytes;
    }

    fn tell(&self) -> Result<u8> {
        let free = size::human_decimal(self.bytes as f64);
        Plain::Out.write_all(format!("{}Total reclaimed space: {free}\n", self.text).as_bytes())?;
        Ok(0)
    }
}

async fn ask<T: serde::de::DeserializeOwned>(cx: &Context, path: &str, filters: Option<String>) -> Result<T> {
    let path = with_query(path, &[("filters", filters)]);
    cx.client.post_json(&path, &serde_json::Value::Null).await
}

async fn containers(cx: &Context, filters: &[Filter]) -> Result<Pruned> {
    let gone: api::container::Prune = ask(cx, "/containers/prune", filter::query(filters)).await?;
    Ok(Pruned::of("Deleted Containers", &gone.containers_deleted.unwrap_or_default(), gone.space_reclaimed))
}

async fn networks(cx: &Context, filters: &[Filter]) -> Result<Pruned> {
    let gone: api::network::NetworksPruned = ask(cx, "/networks/prune", filter::query(filters)).await?;
    Ok(Pruned::of("Deleted Networks", &gone.networks_deleted.unwrap_or_default(), 0))
}

async fn volumes(cx: &Context, filters: &[Filter]) -> Result<Pruned> {
    let known: Vec<&Filter> = filters.iter().filter(|filter| !filter.is("until")).collect();
    if known.len() < filters.len() {
        warn("the filter until does not apply to volumes");
    }
    let gone: api::system::VolumePrune = ask(cx, "/volumes/prune", filter::query(known)).await?;
    Ok(Pruned::of("Deleted Volumes", &gone.volumes_deleted.unwrap_or_default(), gone.space_reclaimed))
}

async fn images(cx: &Context, all: bool, filters: &[Filter]) -> Result<Pruned> {
    let named = filter::dangling(!all);
    let filters = filter::query(filters.iter().chain([&named]));
    let gone: api::image::Prune = ask(cx, "/images/prune", filters).await?;
    let lines: Vec<_> = gone
        .images_deleted
        .unwrap_or_default()
        .into_iter()
        .map(|one| match one.deleted.as_str() {
            "" => format!("untagged: {}", one.untagged),
            id => format!("deleted: {id}"),
        })
        .collect();
    Ok(Pruned::of("Deleted Images", &lines, gone.space_reclaimed))
}
