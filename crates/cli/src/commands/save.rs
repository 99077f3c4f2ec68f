//! `save`, and answers that go into a file.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::Context;
use crate::client::{empty, plain, with_query};
use crate::error::{Result, message};
use crate::terminal::{self, Plain};

/// Save one or more images to a tar archive (streamed to STDOUT by default)
///
/// By name with that name, by repository with all its tags, by id without a name.
#[derive(Debug, Args)]
pub(crate) struct Save {
    /// Form of the archive: docker (with an OCI layout inside), or oci (the layout alone, with the layers as they
    /// are stored)
    #[arg(long, value_name = "docker|oci")]
    format: Option<String>,
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "string")]
    output: Option<PathBuf>,
    /// Save only this platform's image
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    /// Names or ids.
    #[arg(required = true, value_names = ["IMAGE", "[IMAGE...]"], num_args = 1..)]
    images: Vec<String>,
}

impl Save {
    pub(super) async fn run(self, cx: &Context) -> Result<u8> {
        let mut query = vec![("format", self.format), ("platform", self.platform)];
        query.extend(self.images.into_iter().map(|name| ("names", Some(name))));
        fetch(cx, &with_query("/images/get", &query), self.output.as_deref(), "save").await
    }
}

/// Asks for an archive and puts it into a file, or on standard output if that is none's eyes.
pub(super) async fn fetch(cx: &Context, path: &str, output: Option<&Path>, verb: &str) -> Result<u8> {
    if output.is_none() && terminal::output_is_terminal() {
        let text = format!("cowardly refusing to {verb} to a terminal. Use the -o flag or redirect");
        return Err(message(text));
    }
    if let Some(output) = output {
        check(output, verb)?;
    }
    let body = cx.client.open(hyper::Method::GET, path, empty()).await?.into_body();
    match output {
        None => copy(body, &mut Plain::Out).await?,
        Some(output) => into_file(body, output).await?,
    }
    Ok(0)
}

/// Docker's checks: the directory is there, and what is overwritten is a file.
fn check(output: &Path, verb: &str) -> Result<()> {
    let directory = output.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(directory) = directory
        && !directory.is_dir()
    {
        let shown = directory.display();
        return Err(message(format!(
            "failed to {verb}: invalid output path: directory \"{shown}\" does not exist"
        )));
    }
    match fs::metadata(output) {
        Ok(there) if there.is_dir() => {
            let shown = output.display();
            Err(message(format!("failed to {verb}: invalid output path: \"{shown}\" must be a regular file")))
        }
        _ => Ok(()),
    }
}

/// Under another name until it is whole. What is no file (`/dev/null`) is written to directly.
async fn into_file(body: Incoming, output: &Path) -> Result<()> {
    let failed = |e: std::io::Error| message(format!("write {}: {}", output.display(), plain(&e)));
    if fs::symlink_metadata(output).is_ok_and(|there| !there.is_file()) {
        let mut file = fs::File::options().write(true).open(output).map_err(failed)?;
        return copy(body, &mut file).await;
    }
    let name = output.file_name().unwrap_or_default().to_string_lossy();
    let temporary = output.with_file_name(format!(".{name}.{}", std::process::id()));
    let mut file = fs::File::create(&temporary).map_err(failed)?;
    let copied = match copy(body, &mut file).await {
        Ok(()) => fs::rename(&temporary, output).map_err(failed),
        Err(error) => Err(error),
    };
    if copied.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    copied
}

async fn copy(mut body: Incoming, to: &mut dyn Write) -> Result<()> {
    while let Some(frame) = body.frame().await {
        if let Ok(piece) = frame?.into_data() {
            to.write_all(&piece)?;
        }
    }
    Ok(to.flush()?)
}
