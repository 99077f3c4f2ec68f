//! What `docker save` writes: `manifest.json`, configs, layers. It has no manifest in OCI's sense; one is made.

use std::collections::BTreeMap;

use oci::{
    Digest, Reference,
    image::{Descriptor, ImageConfig, Manifest, media},
};
use serde::Deserialize;

use crate::{
    Error,
    archive_file::ArchiveFile,
    blobs::{StagedFile, stage_bytes},
    catalog,
    load::{Claim, Found, name, verify},
};

/// One image in `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

impl Entry {
    fn names(&self) -> Result<Vec<Reference>, Error> {
        let tags = self.repo_tags.iter().flatten();
        tags.filter_map(|tag| name(tag).transpose()).collect()
    }
}

fn entries(archive: &ArchiveFile) -> Result<Vec<Entry>, Error> {
    let bytes = archive.document("manifest.json")?;
    serde_json::from_slice(&bytes).map_err(|e| Error::Invalid(format!("manifest.json: {e}")))
}

pub(crate) fn find(archive: &ArchiveFile) -> Result<Vec<Found>, Error> {
    let entries = entries(archive)?;
    entries.iter().enumerate().map(|(number, entry)| one(archive, entry, number)).collect()
}

/// The names that `manifest.json` has for images that were found by other means.
pub(crate) fn add_names(archive: &ArchiveFile, found: &mut [Found]) -> Result<(), Error> {
    for entry in entries(archive)? {
        let config = &archive.file(&entry.config)?.digest;
        let names = entry.names()?;
        if let Some(one) = found.iter_mut().find(|one| one.image.id == *config) {
            one.image.names.extend(names);
        }
    }
    Ok(())
}

fn one(archive: &ArchiveFile, entry: &Entry, number: usize) -> Result<Found, Error> {
    let config_file = archive.file(&entry.config)?;
    check_name(&entry.config, config_file)?;
    let bytes = archive.document(&entry.config)?;
    let config = ImageConfig::parse(&bytes).map_err(|e| Error::Invalid(format!("{}: {e}", entry.config)))?;
    let names: Vec<_> = entry.layers.iter().flatten().collect();
    let diff_ids = &config.rootfs.diff_ids;
    if names.len() != diff_ids.len() {
        let (layers, ids) = (names.len(), diff_ids.len());
        let what = format!("manifest.json lists {layers} layers for {}, which names {ids}", entry.config);
        return Err(Error::Invalid(what));
    }
    let layers: Vec<_> = names.iter().map(|name| archive.file(name)).collect::<Result<_, _>>()?;
    let claims: Vec<_> = layers.iter().zip(diff_ids).map(|(file, diff_id)| Claim { file, diff_id }).collect();
    let compressions = verify(&claims)?;
    let described = layers.iter().zip(compressions).map(|(file, c)| describe(file, c.layer_type()));
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media::MANIFEST.to_owned()),
        config: describe(config_file, media::CONFIG),
        layers: described.collect(),
        annotations: BTreeMap::new(),
    };
    let text = serde_json::to_vec(&manifest).map_err(Error::invalid)?;
    let staged = stage_bytes(archive.staging().join(format!("manifest-{number}")), &text)?;
    let mut image = catalog::image(&staged.digest, staged.size, &manifest, &bytes)?;
    image.names = entry.names()?;
    let files = layers.into_iter().chain([config_file, &staged]);
    let files = files.map(|file| (file.digest.clone(), file.path.clone())).collect();
    Ok(Found { image, files })
}

pub(crate) fn describe(file: &StagedFile, media_type: &str) -> Descriptor {
    Descriptor {
        media_type: media_type.to_owned(),
        digest: file.digest.clone(),
        size: file.size,
        platform: None,
        annotations: BTreeMap::new(),
    }
}

/// A config is named by its digest; another name says nothing.
fn check_name(name: &str, file: &StagedFile) -> Result<(), Error> {
    let base = name.rsplit('/').next().unwrap_or(name);
    let hex = base.strip_suffix(".json").unwrap_or(base);
    match format!("sha256:{hex}").parse::<Digest>() {
        Ok(digest) if digest != file.digest => Err(Error::Invalid(format!(
            "archive member {name} has wrong content: its digest is {}",
            file.digest
        ))),
        _ => Ok(()),
    }
}
