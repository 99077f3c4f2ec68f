//! `create`

use std::io::Write;

use api::create::CreateResponse;
use clap::Args;

use super::{Context, pull, say, warn};
use crate::client::with_query;
use crate::container::{Flags, Place, request};
use crate::error::{Error, Result, message};

/// Create a new container
///
/// Everything `run` does before the start: the image is found (or asked for), the name reserved, the file system
/// prepared. `start` does the rest.
#[derive(Debug, Args)]
pub(crate) struct Create {
    #[command(flatten)]
    flags: Flags,
}

impl Create {
    pub(super) async fn run(self, cx: &Context) -> Result<u8> {
        let console =
            crate::terminal::size().filter(|_| self.flags.tty).map(|(rows, columns)| [rows, columns]);
        let place = Place { detached: false, console: console.unwrap_or_default() };
        say(create(cx, &self.flags, place).await?.id)?;
        Ok(0)
    }
}

/// Creates the container that the flags describe; asks for its image when that is missing and may be asked for.
pub(super) async fn create(cx: &Context, flags: &Flags, place: Place) -> Result<CreateResponse> {
    if !matches!(flags.pull.as_str(), "always" | "missing" | "never") {
        return Err(message(format!(
            "invalid pull option: '{}': must be one of \"always\", \"missing\" or \"never\"",
            flags.pull
        )));
    }
    let mut request = request(flags, place)?;
    if let Some(path) = flags.cidfile.as_ref().filter(|path| path.exists()) {
        let path = path.display();
        return Err(message(format!(
            "container ID file found, make sure the other container isn't running or delete {path}"
        )));
    }
    let image = &request.config.image.clone();
    if flags.pull == "always" {
        pull::pull(cx, image, flags.platform.clone(), flags.quiet).await?;
    }
    if cx.client.is_older_than("1.44").await? {
        // Before, a hardware address was the container's, not that of its place in a network.
        request.config.mac_address = flags.mac_address.clone().unwrap_or_default();
    }
    let path = with_query("/containers/create", &[("name", flags.name.clone())]);
    let answer = match cx.client.post_json(&path, &request).await {
        Err(e) if missing_image(&e) && flags.pull == "missing" => {
            if !flags.quiet {
                warn(format!("Unable to find image '{}' locally", pull::tagged(image)));
            }
            pull::pull(cx, image, flags.platform.clone(), flags.quiet).await?;
            cx.client.post_json(&path, &request).await
        }
        other => other,
    };
    let answer: CreateResponse = answer?;
    for warning in &answer.warnings {
        warn(format!("WARNING: {warning}"));
    }
    if let Some(path) = &flags.cidfile {
        let file = std::fs::File::create_new(path);
        file.and_then(|mut file| file.write_all(answer.id.as_bytes())).map_err(|e| {
            message(format!("failed to create the container ID file {}: {e}", path.display()))
        })?;
    }
    Ok(answer)
}

fn missing_image(error: &Error) -> bool {
    matches!(error, Error::Daemon { status: 404, message } if message.to_lowercase().contains("no such image"))
}
