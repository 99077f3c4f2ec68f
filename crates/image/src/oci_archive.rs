//! An OCI layout in an archive: `index.json`, from there descriptors all the way down (image-spec, image-layout.md).

use std::collections::BTreeMap;

use oci::{
    Platform, Reference,
    image::{Descriptor, Document, Index, Manifest},
};

use crate::{
    Error,
    archive_file::ArchiveFile,
    blobs::StagedFile,
    catalog, host_platform,
    load::{Claim, Found, name, verify},
};

/// containerd's and Docker's annotation: the full name.
pub(crate) const IMAGE_NAME: &str = "io.containerd.image.name";
/// OCI's: the full name, or only a tag.
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// `buildx`'s annotation of what is not an image but belongs to one.
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";
/// Indexes within indexes.
const MAX_DEPTH: usize = 4;

pub(crate) fn find(archive: &ArchiveFile) -> Result<Vec<Found>, Error> {
    let bytes = archive.document("index.json")?;
    let document = Document::parse(&bytes, None).map_err(|e| Error::Invalid(format!("index.json: {e}")))?;
    let Document::Index(index) = document else {
        return Err(Error::invalid("index.json is a manifest, not an index"));
    };
    let mut found = Vec::new();
    for (name, descriptors) in by_name(&index)? {
        for descriptor in pick(descriptors, name.is_none())? {
            let mut one = resolve(archive, descriptor, MAX_DEPTH)?;
            one.image.names.extend(name.clone());
            found.push(one);
        }
    }
    Ok(found)
}

/// Several descriptors of one name are one image for several platforms.
fn by_name(index: &Index) -> Result<BTreeMap<Option<Reference>, Vec<&Descriptor>>, Error> {
    let mut groups: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for descriptor in index.manifests.iter().filter(|d| is_image(d)) {
        groups.entry(name_of(&descriptor.annotations)?).or_default().push(descriptor);
    }
    Ok(groups)
}

fn is_image(descriptor: &Descriptor) -> bool {
    !descriptor.annotations.contains_key(REFERENCE_TYPE)
}

/// A word without `/` and `:` in OCI's annotation is a tag, as layouts of one repository have it: not a name.
fn name_of(annotations: &BTreeMap<String, String>) -> Result<Option<Reference>, Error> {
    match (annotations.get(IMAGE_NAME), annotations.get(REF_NAME)) {
        (Some(full), _) => name(full),
        (None, Some(text)) if text.contains([':', '/']) => name(text),
        _ => Ok(None),
    }
}

/// The descriptors to load of one name. Without a name they are images of their own, unless each is for another
/// platform.
fn pick(descriptors: Vec<&Descriptor>, nameless: bool) -> Result<Vec<&Descriptor>, Error> {
    let platforms: Vec<_> = descriptors.iter().filter_map(|d| d.platform.as_ref()).collect();
    let differ = platforms.len() == descriptors.len()
        && platforms.iter().enumerate().all(|(at, one)| !platforms[..at].contains(one));
    if nameless && !differ {
        return Ok(descriptors);
    }
    choose(&descriptors).map(|one| vec![one])
}

/// The one for this host, or the only one.
fn choose<'a>(descriptors: &[&'a Descriptor]) -> Result<&'a Descriptor, Error> {
    let host = host_platform();
    let fits = |d: &&&Descriptor| {
        d.platform.as_ref().is_some_and(|p| (&p.os, &p.architecture) == (&host.os, &host.architecture))
    };
    let exact = |d: &&&Descriptor| d.platform.as_ref().is_some_and(|p| p.variant == host.variant);
    let fitting: Vec<_> = descriptors.iter().filter(fits).collect();
    let best = fitting.iter().copied().find(exact).or(fitting.first().copied());
    match (best, descriptors) {
        (Some(best), _) => Ok(best),
        (None, [only]) => Ok(only),
        (None, [first, ..]) if descriptors.iter().all(|d| d.digest == first.digest) => Ok(first),
        (None, _) => {
            let have: Vec<_> =
                descriptors.iter().map(|d| d.platform.as_ref().map_or("?".to_owned(), show)).collect();
            Err(Error::Invalid(format!(
                "no image for {} in the archive; it has {}",
                show(&host),
                have.join(", ")
            )))
        }
    }
}

fn show(platform: &Platform) -> String {
    let variant = platform.variant.iter().flat_map(|v| ["/", v]);
    [&platform.os, "/", &platform.architecture].into_iter().chain(variant).collect()
}

fn resolve(archive: &ArchiveFile, descriptor: &Descriptor, depth: usize) -> Result<Found, Error> {
    let file = blob(archive, descriptor)?;
    let name = format!("blobs/sha256/{}", descriptor.digest.hex());
    let bytes = archive.document(&name)?;
    let document = Document::parse(&bytes, Some(&descriptor.media_type))
        .map_err(|e| Error::Invalid(format!("archive member {name}: {e}")))?;
    match document {
        Document::Manifest(manifest) => image(archive, file, &manifest),
        Document::Index(_) if depth == 0 => Err(Error::invalid("indexes are nested too deeply")),
        Document::Index(index) => {
            let images: Vec<_> = index.manifests.iter().filter(|d| is_image(d)).collect();
            resolve(archive, choose(&images)?, depth - 1)
        }
    }
}

fn blob<'a>(archive: &'a ArchiveFile, descriptor: &Descriptor) -> Result<&'a StagedFile, Error> {
    let file = archive.blob(&descriptor.digest)?;
    if file.size == descriptor.size {
        return Ok(file);
    }
    let (digest, said, found) = (&descriptor.digest, descriptor.size, file.size);
    Err(Error::Invalid(format!("blob {digest} has {found} bytes, its descriptor says {said}")))
}

fn image(archive: &ArchiveFile, manifest_file: &StagedFile, manifest: &Manifest) -> Result<Found, Error> {
    let config_file = blob(archive, &manifest.config)?;
    let config = archive.document(&format!("blobs/sha256/{}", config_file.digest.hex()))?;
    let image = catalog::image(&manifest_file.digest, manifest_file.size, manifest, &config)?;
    let layers: Vec<_> = manifest.layers.iter().map(|d| blob(archive, d)).collect::<Result<_, _>>()?;
    let claims: Vec<_> = layers
        .iter()
        .zip(&image.layers)
        .map(|(file, layer)| Claim { file, diff_id: &layer.diff_id })
        .collect();
    verify(&claims)?;
    let files = layers.into_iter().chain([config_file, manifest_file]);
    let files = files.map(|file| (file.digest.clone(), file.path.clone())).collect();
    Ok(Found { image, files })
}
