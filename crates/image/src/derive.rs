//! New images made here: of another image and one more layer (`commit`), or of one layer alone (`squash`).
//!
//! The layer is compressed as [`crate::import`] does it, on a thread beside the one that reads the tree; the same
//! archive always gives the same blob.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    sync::{Arc, mpsc},
    thread::JoinHandle,
};

use jiff::Timestamp;
use oci::{
    Digest, Reference,
    image::{Config, History, ImageConfig, Manifest, RootFs, media},
};
use tempfile::TempDir;

use crate::{
    Error, Image, Shared, Staged,
    blobs::{HashedFile, Hasher, StagedFile, stage_bytes},
    catalog, changes,
    compression::Compression,
    docker_archive::describe,
    host_platform,
    load::{Found, adopt},
};

const LEVEL: i32 = 1;
/// What the compressor may lie behind: pieces of [`PIECE`] bytes.
const PIECES: usize = 8;
const PIECE: usize = 256 << 10;

/// What an image made here says of itself.
#[derive(Debug, Clone, Default)]
pub struct Derive {
    /// Its layers, history and platform are below; none for an image of the new layer alone.
    pub base: Option<Image>,
    /// How its containers run, before the changes.
    pub config: Config,
    /// What fills the gaps after the changes.
    pub below: Option<Config>,
    /// `Dockerfile` instructions, as for an import.
    pub changes: Vec<String>,
    /// Who made it.
    pub author: String,
    /// For the history.
    pub message: String,
    /// For the history: the command that made the layer.
    pub created_by: String,
    /// Steps that stand before this one where there is no base.
    pub history: Vec<History>,
    /// Its name.
    pub name: Option<Reference>,
}

/// An uncompressed layer archive on its way in: written to, then handed to [`crate::Images::derive`]. Dropped, it
/// leaves nothing.
#[derive(Debug)]
pub struct NewLayer {
    staging: TempDir,
    piece: Vec<u8>,
    /// None: nothing more comes.
    pieces: Option<mpsc::SyncSender<Vec<u8>>>,
    worker: Option<JoinHandle<io::Result<Packed>>>,
}

/// A layer that is staged.
#[derive(Debug)]
struct Packed {
    blob: StagedFile,
    diff_id: Digest,
    size: u64,
}

impl NewLayer {
    pub(crate) fn create(shared: &Shared) -> Result<Self, Error> {
        let staging = shared.blobs.stage()?;
        let path = staging.path().join("layer");
        let file = HashedFile::create(path.clone())?;
        let encoder = zstd::Encoder::new(file, LEVEL).map_err(Error::io("compress to", &path))?;
        let (pieces, taken) = mpsc::sync_channel(PIECES);
        let worker = std::thread::Builder::new().name("knarr-layer".to_owned());
        let worker =
            worker.spawn(move || pack(encoder, &taken)).map_err(Error::io("start a thread for", &path))?;
        Ok(Self { staging, piece: Vec::with_capacity(PIECE), pieces: Some(pieces), worker: Some(worker) })
    }

    fn pass_on(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        let sent = self.pieces.as_ref().is_some_and(|pieces| pieces.send(piece).is_ok());
        if sent { Ok(()) } else { Err(self.end().err().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into())) }
    }

    fn end(&mut self) -> io::Result<Packed> {
        self.pieces = None;
        let worker = self.worker.take().ok_or(io::ErrorKind::BrokenPipe)?;
        worker.join().unwrap_or_else(|_| Err(io::Error::other("the compressor failed")))
    }

    fn finish(mut self) -> Result<(Packed, TempDir), Error> {
        let path = self.staging.path().join("layer");
        self.pass_on()
            .and_then(|()| self.end())
            .map(|packed| (packed, self.staging))
            .map_err(Error::io("write", &path))
    }
}

impl Write for NewLayer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        if self.piece.len() == PIECE {
            self.pass_on()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn pack(
    mut encoder: zstd::Encoder<'static, HashedFile>,
    pieces: &mpsc::Receiver<Vec<u8>>,
) -> io::Result<Packed> {
    let (mut hasher, mut size) = (Hasher::default(), 0);
    while let Ok(piece) = pieces.recv() {
        hasher.write_all(&piece)?;
        size += piece.len() as u64;
        encoder.write_all(&piece)?;
    }
    Ok(Packed { blob: encoder.finish()?.finish(), diff_id: hasher.digest(), size })
}

pub(crate) fn derive(shared: &Arc<Shared>, layer: Option<NewLayer>, how: &Derive) -> Result<Staged, Error> {
    let (packed, staging) = match layer {
        Some(layer) => {
            let (packed, staging) = layer.finish()?;
            (Some(packed), staging)
        }
        None => (None, shared.blobs.stage()?),
    };
    let config = config(packed.as_ref(), how)?;
    let text = serde_json::to_vec(&config).map_err(Error::invalid)?;
    let config = stage_bytes(staging.path().join("config"), &text)?;
    let below = match &how.base {
        Some(base) => shared.blobs.manifest(&base.manifest)?.layers,
        None => Vec::new(),
    };
    let own = packed.as_ref().map(|packed| describe(&packed.blob, Compression::Zstd.layer_type()));
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media::MANIFEST.to_owned()),
        config: describe(&config, media::CONFIG),
        layers: below.into_iter().chain(own).collect(),
        annotations: BTreeMap::new(),
    };
    let bytes = serde_json::to_vec(&manifest).map_err(Error::invalid)?;
    let manifest_file = stage_bytes(staging.path().join("manifest"), &bytes)?;
    let mut image = catalog::image(&manifest_file.digest, manifest_file.size, &manifest, &text)?;
    image.names = how.name.iter().map(|name| name.clone().with_default_tag()).collect();
    let files = packed.iter().map(|packed| &packed.blob).chain([&config, &manifest_file]);
    let files = files.map(|file| (file.digest.clone(), file.path.clone())).collect();
    let staged = adopt(shared, &[Found { image, files }])?;
    if let Some(packed) = packed {
        shared.remember_size(&packed.diff_id, packed.size);
    }
    staged.into_iter().next().ok_or_else(|| Error::invalid("nothing was made"))
}

fn config(packed: Option<&Packed>, how: &Derive) -> Result<ImageConfig, Error> {
    let base = how.base.as_ref().map(|base| base.config.clone());
    let base = base.unwrap_or_else(|| {
        let platform = host_platform();
        ImageConfig {
            architecture: platform.architecture,
            variant: platform.variant,
            os: platform.os,
            history: how.history.clone(),
            ..ImageConfig::default()
        }
    });
    let mut config = changes::apply(how.config.clone(), &how.changes)?;
    if let Some(below) = &how.below {
        changes::inherit(&mut config, below);
    }
    let now = Timestamp::now().to_string();
    let mut diff_ids = base.rootfs.diff_ids;
    diff_ids.extend(packed.map(|packed| packed.diff_id.clone()));
    let mut history = base.history;
    history.push(History {
        created: Some(now.clone()),
        created_by: how.created_by.clone(),
        author: how.author.clone(),
        comment: how.message.clone(),
        empty_layer: packed.is_none(),
    });
    Ok(ImageConfig {
        created: Some(now),
        author: how.author.clone(),
        config,
        rootfs: RootFs { diff_ids, ..RootFs::default() },
        history,
        ..base
    })
}
