//! `top`

use clap::Args;

use super::Context;
use crate::client::{encode, with_query};
use crate::error::{Result, message};
use crate::format::Table;
use crate::terminal::Plain;
use std::io::Write;

/// Display the running processes of a container
///
/// As `ps` of the host sees them; options for `ps` may follow the name.
#[derive(Debug, Args)]
pub(crate) struct Top {
    /// The container, and options for `ps`.
    #[arg(required = true, num_args = 1.., trailing_var_arg = true, value_names = ["CONTAINER", "[ps OPTIONS]"])]
    container_and_options: Vec<String>,
}

impl Top {
    pub(super) async fn run(self, cx: &Context) -> Result<u8> {
        let (name, options) =
            self.container_and_options.split_first().ok_or_else(|| message("a container is required"))?;
        let options = (!options.is_empty()).then(|| options.join(" "));
        let path = with_query(&format!("/containers/{}/top", encode(name)), &[("ps_args", options)]);
        let top: api::container::Top = cx.client.get(&path).await?;
        let mut table = Table::with_minimum(20);
        table.line(&top.titles.join("\t"));
        top.processes.iter().for_each(|process| table.line(&process.join("\t")));
        Plain::Out.write_all(table.draw().as_bytes())?;
        Ok(0)
    }
}
