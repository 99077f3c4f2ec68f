//! Files and directories of the engine's own, outside of every container.

use std::{
    fs,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::Path,
};

use crate::error::{Error, Result};

/// Makes a directory that only its owner (and, by `mode`, a group) may enter; one that exists is left as it is.
pub(crate) fn make_directory(path: &Path, mode: u32) -> Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(mode).create(path);
    made.map_err(|error| Error::at("create directory", path, &error))
}

/// A small file in one write.
pub(crate) fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_vec(value).map_err(Error::internal)?;
    fs::write(path, text).map_err(|error| Error::at("write", path, &error))
}

/// Bytes on disk of a directory of the engine's own and all below it; what vanishes meanwhile does not count.
pub(crate) fn usage(path: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    let each = entries.flatten().map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => usage(&entry.path()),
        Ok(found) => found.blocks() * 512,
        Err(_) => 0,
    });
    fs::metadata(path).map_or(0, |found| found.blocks() * 512) + each.sum::<u64>()
}
