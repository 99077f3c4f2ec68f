//! `rmi`

use clap::Args;

use super::{Context, say, warn};
use crate::client::{encode, flag, with_query};
use crate::error::{Error, Result};

/// Remove one or more images
///
/// A name is taken away; the image goes with its last name, unless a container needs it.
#[derive(Debug, Args)]
pub(crate) struct Rmi {
    /// Force removal of the image
    #[arg(short, long)]
    force: bool,
    /// Do not delete untagged parents
    #[arg(long)]
    no_prune: bool,
    /// Names or ids.
    #[arg(required = true, value_names = ["IMAGE", "[IMAGE...]"], num_args = 1..)]
    images: Vec<String>,
}

impl Rmi {
    pub(super) async fn run(self, cx: &Context) -> Result<u8> {
        let mut code = 0;
        let query = [("force", flag(self.force)), ("noprune", flag(self.no_prune))];
        for name in &self.images {
            let path = with_query(&format!("/images/{}", encode(name)), &query);
            match cx.client.delete_json::<Vec<api::image::Deleted>>(&path).await {
                Ok(gone) => {
                    for one in gone {
                        match one.deleted.as_str() {
                            "" => say(format!("Untagged: {}", one.untagged))?,
                            id => say(format!("Deleted: {id}"))?,
                        }
                    }
                }
                Err(e @ Error::Connect(_)) => return Err(e),
                Err(e) => {
                    code |= u8::from(!(self.force && e.is_not_found()));
                    warn(e.to_string());
                }
            }
        }
        Ok(code)
    }
}
