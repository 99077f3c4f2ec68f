//! `system df`: what everything takes on disk.

use std::io::Write;

use api::system::DiskUsage;
use clap::Args;
use jiff::Timestamp;

use super::{Context, images, ps};
use crate::error::{Result, message};
use crate::format::{Listing, Row};
use crate::terminal::Plain;
use crate::words::size;

/// Show disk usage
///
/// What is shared counts once; the sums are what du says of the data root.
#[derive(Debug, Args)]
pub(crate) struct Df {
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json' or 'TEMPLATE'
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Show detailed information on space usage
    #[arg(short, long)]
    verbose: bool,
}

const HEADINGS: &[(&str, &str)] = &[
    ("Type", "TYPE"),
    ("TotalCount", "TOTAL"),
    ("Active", "ACTIVE"),
    ("Size", "SIZE"),
    ("Reclaimable", "RECLAIMABLE"),
];

impl Df {
    pub(super) async fn run(self, cx: &Context) -> Result<u8> {
        let used: DiskUsage = cx.client.get("/system/df").await?;
        if self.verbose {
            if self.format.is_some() {
                return Err(message("--verbose and --format cannot be combined"));
            }
            return verbose(&used);
        }
        let rows: Vec<Row> = [images_line(&used), containers_line(&used)]
            .into_iter()
            .chain(["Local Volumes", "Build Cache"].map(|kind| line(kind, 0, 0, 0, 0)))
            .collect();
        let listing = Listing {
            headings: HEADINGS,
            usual: "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
            quiet: None,
            format: self.format.as_deref(),
        };
        listing.show(&rows)?;
        Ok(0)
    }
}

fn line(kind: &str, total: usize, active: usize, bytes: i64, free: i64) -> Row {
    let human = |bytes: i64| size::human_decimal(bytes as f64);
    let share = if bytes > 0 { format!(" ({}%)", free * 100 / bytes) } else { String::new() };
    [
        ("Type", kind.to_owned()),
        ("TotalCount", total.to_string()),
        ("Active", active.to_string()),
        ("Size", human(bytes)),
        ("Reclaimable", format!("{}{share}", human(free))),
    ]
    .into_iter()
    .map(|(name, text)| (name.to_owned(), text.into()))
    .collect()
}

/// What images in use have for themselves cannot be reclaimed.
fn images_line(used: &DiskUsage) -> Row {
    let all = used.images.as_deref().unwrap_or_default();
    let active = all.iter().filter(|image| image.containers > 0);
    let kept: i64 = active.clone().map(|image| image.size - image.shared_size.max(0)).sum();
    line("Images", all.len(), active.count(), used.layers_size, (used.layers_size - kept).max(0))
}

fn containers_line(used: &DiskUsage) -> Row {
    let all = used.containers.as_deref().unwrap_or_default();
    let runs = |state: &str| matches!(state, "running" | "paused" | "restarting");
    let active = all.iter().filter(|container| runs(&container.state));
    let bytes: i64 = all.iter().map(|container| container.size_rw).sum();
    let kept: i64 = active.clone().map(|container| container.size_rw).sum();
    line("Containers", all.len(), active.count(), bytes, bytes - kept)
}

fn verbose(used: &DiskUsage) -> Result<u8> {
    let now = Timestamp::now();
    let mut out = Plain::Out;
    writeln!(out, "Images space usage:\n")?;
    let rows = images::rows(used.images.as_deref().unwrap_or_default(), now);
    let listing = Listing {
        headings: images::HEADINGS,
        usual: "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}",
        quiet: None,
        format: None,
    };
    listing.show(&rows)?;
    writeln!(out, "\nContainers space usage:\n")?;
    let rows = ps::rows(used.containers.as_deref().unwrap_or_default(), now);
    let listing = Listing {
        headings: ps::HEADINGS,
        usual: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}",
        quiet: None,
        format: None,
    };
    listing.show(&rows)?;
    writeln!(out, "\nLocal Volumes space usage:\n\nVOLUME NAME   LINKS     SIZE\n\nBuild cache usage: 0B\n")?;
    writeln!(out, "CACHE ID   CACHE TYPE   SIZE      CREATED   LAST USED   USAGE     SHARED")?;
    Ok(0)
}
