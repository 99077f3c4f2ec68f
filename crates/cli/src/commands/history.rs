//! `history`

use clap::Args;
use jiff::Timestamp;

use super::Context;
use crate::client::encode;
use crate::error::Result;
use crate::format::{Listing, Row, ellipsis, short_id};
use crate::words::{ago, size};

/// Show the history of an image
///
/// One line for each step that made it, the latest first.
#[derive(Debug, Args)]
pub(crate) struct History {
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json' or 'TEMPLATE'
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Print sizes and dates in human readable format (default true)
    #[arg(short = 'H', long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = true, hide_default_value = true, action = clap::ArgAction::Set)]
    human: bool,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only show image IDs
    #[arg(short, long)]
    quiet: bool,
    /// Name or id.
    #[arg(value_name = "IMAGE")]
    image: String,
}

const HEADINGS: &[(&str, &str)] = &[
    ("ID", "IMAGE"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedBy", "CREATED BY"),
    ("Size", "SIZE"),
    ("Comment", "COMMENT"),
];

impl History {
    pub(super) async fn run(self, cx: &Context) -> Result<u8> {
        let steps: Vec<api::image::History> =
            cx.client.get(&format!("/images/{}/history", encode(&self.image))).await?;
        let now = Timestamp::now();
        let rows: Vec<Row> = steps.iter().map(|step| self.row(step, now)).collect();
        let usual = if self.human {
            "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}"
        } else {
            "{{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}"
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

    fn row(&self, step: &api::image::History, now: Timestamp) -> Row {
        let by = step.created_by.replace('\t', " ");
        let at = Timestamp::from_second(step.created).map(|at| at.to_string()).unwrap_or_default();
        [
            ("ID", if self.no_trunc { step.id.clone() } else { short_id(&step.id).to_owned() }),
            ("CreatedSince", ago::since_unix(step.created, now)),
            ("CreatedAt", at),
            ("CreatedBy", if self.no_trunc { by } else { ellipsis(&by, 45) }),
            ("Size", if self.human { size::human_decimal(step.size as f64) } else { step.size.to_string() }),
            ("Comment", step.comment.clone()),
        ]
        .into_iter()
        .map(|(name, text)| (name.to_owned(), text.into()))
        .collect()
    }
}
