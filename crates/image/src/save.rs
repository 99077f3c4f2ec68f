//! `save`: images as one archive, written as a stream in one pass.
//!
//! Two forms. [`Format::Docker`] is what Docker writes since 25.0: an OCI layout with uncompressed layers, and
//! `manifest.json` beside it for everything that reads the older form; the image ids are the same as here.
//! [`Format::Oci`] is an OCI layout of the very blobs that are stored, so that manifests keep their digests too.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    sync::Arc,
};

use archive::{Header, Kind, Writer};
use oci::{
    Digest, Reference,
    image::{Descriptor, Index, Manifest, media},
};
use serde::Serialize;

use crate::{
    Error, Image, Layer, Pin, Shared,
    blobs::{LAYOUT, hash},
    catalog, layer,
    oci_archive::{IMAGE_NAME, REF_NAME},
};

/// The form of an archive of images.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// Docker's.
    #[default]
    Docker,
    /// An OCI layout.
    Oci,
}

/// Images that are ready to be written out; their blobs stay as long as it lives.
#[derive(Debug)]
pub struct Outgoing {
    shared: Arc<Shared>,
    images: Vec<(Image, Vec<Reference>)>,
    format: Format,
    _pin: Pin,
}

/// What goes into the archive under `blobs/sha256/`.
enum Blob<'a> {
    Bytes(Vec<u8>),
    /// As it is stored.
    Stored(u64),
    /// A layer, uncompressed.
    Plain(&'a Layer, u64),
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
    layer_sources: BTreeMap<Digest, Descriptor>,
}

/// Resolves the words and holds their images, in one look at the catalog.
pub(crate) fn outgoing(shared: &Arc<Shared>, words: &[String], format: Format) -> Result<Outgoing, Error> {
    let mut catalog = shared.catalog();
    let mut images: Vec<(Image, Vec<Reference>)> = Vec::new();
    for word in words {
        for (image, names) in asked(&catalog, word)? {
            match images.iter_mut().find(|(other, _)| other.id == image.id) {
                Some((_, have)) => have.extend(names),
                None => images.push((image, names)),
            }
        }
    }
    for (_, names) in &mut images {
        names.sort();
        names.dedup();
    }
    let blobs: Vec<_> = images.iter().flat_map(|(image, _)| catalog::blobs_of(image).cloned()).collect();
    catalog.pin(&blobs);
    let pin = Pin { shared: shared.clone(), blobs };
    Ok(Outgoing { shared: shared.clone(), images, format, _pin: pin })
}

impl Outgoing {
    /// What is in it.
    pub fn images(&self) -> impl Iterator<Item = &Image> {
        self.images.iter().map(|(image, _)| image)
    }

    /// Writes the archive; the same images under the same names always give the same bytes.
    ///
    /// # Errors
    /// If a blob cannot be read, is damaged, or `out` fails; then what was written is not whole.
    pub fn write(self, out: &mut dyn Write) -> Result<(), Error> {
        let mut blobs = BTreeMap::new();
        let (mut manifests, mut entries) = (Vec::new(), Vec::new());
        for (image, names) in &self.images {
            let stored = self.shared.blobs.manifest(&image.manifest)?;
            let manifest = self.blobs(image, stored, &mut blobs)?;
            let bytes = match self.format {
                Format::Docker => serde_json::to_vec(&manifest).map_err(Error::invalid)?,
                Format::Oci => self.shared.blobs.document(&image.manifest)?,
            };
            let media_type = manifest.media_type.clone().unwrap_or_else(|| media::MANIFEST.to_owned());
            manifests.extend(described(&media_type, &bytes, names, image));
            entries.push(entry(image, names, &manifest));
            blobs.insert(hash(&bytes), Blob::Bytes(bytes));
        }
        let index = Index {
            schema_version: 2,
            media_type: Some(media::INDEX.to_owned()),
            manifests,
            annotations: BTreeMap::new(),
        };
        let mut archive = Archive(Writer::new(out));
        archive.directory("blobs/")?;
        archive.directory("blobs/sha256/")?;
        for (digest, blob) in blobs {
            self.write_blob(&mut archive, &digest, blob)?;
        }
        archive.json("index.json", &index)?;
        if self.format == Format::Docker {
            archive.json("manifest.json", &entries)?;
        }
        archive.file("oci-layout", LAYOUT.len() as u64, LAYOUT)?;
        if self.format == Format::Docker {
            archive.json("repositories", &self.repositories(&entries))?;
        }
        archive.0.finish().map(drop).map_err(failed)
    }

    /// Notes config and layers, and tells the manifest that speaks of them as they are in the archive.
    fn blobs<'a>(
        &'a self,
        image: &'a Image,
        stored: Manifest,
        blobs: &mut BTreeMap<Digest, Blob<'a>>,
    ) -> Result<Manifest, Error> {
        blobs.insert(image.id.clone(), Blob::Stored(stored.config.size));
        if self.format == Format::Oci {
            for layer in &image.layers {
                blobs.insert(layer.blob.clone(), Blob::Stored(layer.size));
            }
            return Ok(stored);
        }
        let mut layers = Vec::new();
        for layer in &image.layers {
            let size = layer::plain_size(&self.shared, layer)?;
            blobs.insert(layer.diff_id.clone(), Blob::Plain(layer, size));
            layers.push(descriptor(media::LAYER, layer.diff_id.clone(), size));
        }
        Ok(Manifest {
            schema_version: 2,
            media_type: Some(media::MANIFEST.to_owned()),
            config: descriptor(media::CONFIG, image.id.clone(), stored.config.size),
            layers,
            annotations: BTreeMap::new(),
        })
    }

    fn write_blob<W: Write>(
        &self,
        archive: &mut Archive<W>,
        digest: &Digest,
        blob: Blob<'_>,
    ) -> Result<(), Error> {
        let name = format!("blobs/sha256/{}", digest.hex());
        match blob {
            Blob::Bytes(bytes) => archive.file(&name, bytes.len() as u64, &bytes[..]),
            Blob::Stored(size) => archive.file(&name, size, self.shared.blobs.open_blob(digest)?),
            Blob::Plain(layer, size) => {
                let mut content = layer::open(&self.shared, layer)?;
                archive.file(&name, size, &mut content)?;
                // At its end stands whether it was what it should be.
                let rest = content.read(&mut [0]);
                rest.map(drop).map_err(Error::io("read", &self.shared.blobs.path(&layer.blob)))
            }
        }
    }

    /// The oldest form's table: repository, tag, id of the uppermost layer.
    fn repositories(&self, entries: &[Entry]) -> BTreeMap<String, BTreeMap<String, String>> {
        let mut all: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for ((_, names), entry) in self.images.iter().zip(entries) {
            let top = entry.layers.last().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
            for name in names {
                if let Some(tag) = name.tag() {
                    all.entry(name.familiar_name()).or_default().insert(tag.to_owned(), top.to_owned());
                }
            }
        }
        all
    }
}

fn descriptor(media_type: &str, digest: Digest, size: u64) -> Descriptor {
    Descriptor {
        media_type: media_type.to_owned(),
        digest,
        size,
        platform: None,
        annotations: BTreeMap::new(),
    }
}

/// One descriptor for each name; one without, if there are none.
fn described(media_type: &str, bytes: &[u8], names: &[Reference], image: &Image) -> Vec<Descriptor> {
    let plain = Descriptor {
        platform: Some(image.config.platform()).filter(|platform| !platform.os.is_empty()),
        ..descriptor(media_type, hash(bytes), bytes.len() as u64)
    };
    let named = names.iter().map(|name| Descriptor {
        annotations: BTreeMap::from([
            (IMAGE_NAME.to_owned(), name.to_string()),
            (REF_NAME.to_owned(), name.tag().unwrap_or_default().to_owned()),
        ]),
        ..plain.clone()
    });
    if names.is_empty() { vec![plain] } else { named.collect() }
}

fn entry(image: &Image, names: &[Reference], manifest: &Manifest) -> Entry {
    let place = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
    Entry {
        config: place(&image.id),
        repo_tags: (!names.is_empty()).then(|| names.iter().map(Reference::familiar).collect()),
        layers: manifest.layers.iter().map(|layer| place(&layer.digest)).collect(),
        layer_sources: manifest.layers.iter().map(|layer| (layer.digest.clone(), layer.clone())).collect(),
    }
}

/// Entries without owner and time, so that the archive tells nothing of this host.
struct Archive<W>(Writer<W>);

impl<W: Write> Archive<W> {
    fn directory(&mut self, path: &str) -> Result<(), Error> {
        let header = Header { path: path.into(), kind: Kind::Directory, mode: 0o755, ..Header::default() };
        self.0.append(&header, io::empty()).map_err(failed)
    }

    fn file(&mut self, path: &str, size: u64, content: impl Read) -> Result<(), Error> {
        let header = Header { path: path.into(), mode: 0o644, size, ..Header::default() };
        self.0.append(&header, content).map_err(failed)
    }

    fn json(&mut self, path: &str, value: &impl Serialize) -> Result<(), Error> {
        let bytes = serde_json::to_vec(value).map_err(Error::invalid)?;
        self.file(path, bytes.len() as u64, &bytes[..])
    }
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Invalid(format!("write the archive: {error}"))
}

/// What `docker save` means by a word: one name, all names of a repository, or an image without a name.
pub(crate) fn asked(catalog: &catalog::Catalog, text: &str) -> Result<Vec<(Image, Vec<Reference>)>, Error> {
    let id = crate::resolve::is_id(catalog, text);
    if let (false, Ok(name)) = (id, text.parse::<Reference>()) {
        if name.digest().is_none() && name.tag().is_none() {
            let all = catalog.in_repository(&name);
            if !all.is_empty() {
                return Ok(all.into_iter().map(|(name, image)| (image, vec![name])).collect());
            }
        }
        if name.digest().is_none()
            && let Some(image) = catalog.by_name(&name.clone().with_default_tag())
        {
            return Ok(vec![(image, vec![name.with_default_tag()])]);
        }
    }
    crate::resolve::get(catalog, text).map(|image| vec![(image, Vec::new())])
}

/// Sizes that were learned once, by diff id.
pub(crate) type Sizes = std::sync::Mutex<BTreeMap<Digest, u64>>;
