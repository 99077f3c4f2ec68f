//! `load`: from an archive, read once from its beginning to its end, to images whose blobs are stored.

use std::{collections::BTreeMap, io::Read, path::PathBuf, sync::Arc, thread};

use oci::{Digest, Reference};

use crate::{
    Error, Image, Pin, Shared, Staged, archive_file::ArchiveFile, blobs::StagedFile, catalog,
    compression::Compression, docker_archive, layer, oci_archive,
};

/// An image found in an archive and checked; its files are still staged.
pub(crate) struct Found {
    pub(crate) image: Image,
    /// Where each of its blobs is staged.
    pub(crate) files: BTreeMap<Digest, PathBuf>,
}

pub(crate) fn load(shared: &Arc<Shared>, archive: &mut dyn Read) -> Result<Vec<Staged>, Error> {
    let archive = ArchiveFile::read(archive, shared.blobs.stage()?)?;
    let found = find(&archive)?;
    adopt(shared, &found)
}

/// Newer archives of Docker are both; then the layout is the whole truth, and `manifest.json` adds names.
fn find(archive: &ArchiveFile) -> Result<Vec<Found>, Error> {
    let found = match (archive.has("index.json"), archive.has("manifest.json")) {
        (true, has_names) => {
            let mut found = oci_archive::find(archive)?;
            if has_names {
                docker_archive::add_names(archive, &mut found)?;
            }
            found
        }
        (false, true) => docker_archive::find(archive)?,
        (false, false) if archive.has("repositories") => {
            return Err(Error::invalid(
                "the archive has no manifest.json: it was saved by Docker before 1.10; save it again with a newer one",
            ));
        }
        (false, false) => {
            return Err(Error::invalid(
                "not an image archive: it has neither index.json nor manifest.json (a root file system is imported, not loaded)",
            ));
        }
    };
    if found.is_empty() {
        return Err(Error::invalid("the archive holds no image"));
    }
    Ok(merge(found))
}

/// One image may be in an archive once for each of its names.
fn merge(found: Vec<Found>) -> Vec<Found> {
    let mut merged: Vec<Found> = Vec::new();
    for mut one in found {
        match merged.iter_mut().find(|other| other.image.id == one.image.id) {
            Some(other) => other.image.names.append(&mut one.image.names),
            None => merged.push(one),
        }
    }
    for one in &mut merged {
        one.image.names.sort();
        one.image.names.dedup();
    }
    merged
}

/// Gives the blobs their places: first the layers, last the documents that name them.
pub(crate) fn adopt(shared: &Arc<Shared>, found: &[Found]) -> Result<Vec<Staged>, Error> {
    let staged: Vec<_> = found
        .iter()
        .map(|one| Staged {
            image: one.image.clone(),
            pin: Arc::new(Pin::new(shared, catalog::blobs_of(&one.image).cloned().collect())),
        })
        .collect();
    let files: BTreeMap<_, _> = found.iter().flat_map(|one| &one.files).collect();
    for (digest, path) in files {
        shared.blobs.adopt(path, digest)?;
    }
    shared.blobs.sync()?;
    Ok(staged)
}

/// A layer that is staged, and what it should be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claim<'a> {
    pub(crate) file: &'a StagedFile,
    pub(crate) diff_id: &'a Digest,
}

/// Checks the diff ids and tells how each layer is compressed. Decompression is most of a load, so every layer gets
/// a thread, a few at a time.
pub(crate) fn verify(claims: &[Claim<'_>]) -> Result<Vec<Compression>, Error> {
    const AT_ONCE: usize = 4;
    let mut all = Vec::with_capacity(claims.len());
    for some in claims.chunks(AT_ONCE) {
        let results: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> =
                some.iter().map(|claim| scope.spawn(|| layer::verify(claim.file, claim.diff_id))).collect();
            threads.into_iter().map(join).collect()
        });
        for result in results {
            all.push(result?);
        }
    }
    Ok(all)
}

/// A name as archives have it. One by digest only is no name to give.
pub(crate) fn name(text: &str) -> Result<Option<Reference>, Error> {
    let name: Reference =
        text.parse().map_err(|e| Error::Invalid(format!("the archive names an image {text:?}: {e}")))?;
    match (name.tag(), name.digest()) {
        (None, Some(_)) => Ok(None),
        (Some(tag), Some(_)) => name.with_tag(tag).map(Some).map_err(Error::invalid),
        _ => Ok(Some(name.with_default_tag())),
    }
}

fn join<T>(thread: thread::ScopedJoinHandle<'_, Result<T, Error>>) -> Result<T, Error> {
    thread.join().unwrap_or_else(|_| Err(Error::invalid("checking a layer failed")))
}
