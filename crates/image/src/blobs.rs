//! Blobs on disk: an OCI layout (image-spec, image-layout.md) without an index, for names are records.
//!
//! A blob is written to a file of its own while it is hashed, synced, and renamed to its digest: what has a digest
//! for a name is whole.

use std::{
    ffi::OsStr,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use oci::{
    Digest,
    image::{Document, Manifest},
};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::Error;

pub(crate) const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

#[derive(Debug)]
pub(crate) struct Blobs {
    dir: PathBuf,
    staging: PathBuf,
    partial: PathBuf,
}

/// A download that nobody goes on with is swept.
const STALE: Duration = Duration::from_hours(7 * 24);

impl Blobs {
    pub(crate) fn open(root: &Path) -> Result<Self, Error> {
        let blobs = Self {
            dir: root.join("blobs/sha256"),
            // Beside the blobs, so that a rename is enough.
            staging: root.join("blobs/staging"),
            partial: root.join("blobs/partial"),
        };
        if blobs.staging.exists() {
            fs::remove_dir_all(&blobs.staging).map_err(Error::io("remove", &blobs.staging))?;
        }
        for dir in [&blobs.dir, &blobs.staging, &blobs.partial] {
            DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(Error::io("create", dir))?;
        }
        blobs.sweep_partial()?;
        let layout = root.join("oci-layout");
        if !layout.exists() {
            fs::write(&layout, LAYOUT).map_err(Error::io("write", &layout))?;
        }
        Ok(blobs)
    }

    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(digest.hex())
    }

    pub(crate) fn has(&self, digest: &Digest) -> bool {
        self.path(digest).exists()
    }

    /// Where a download of that blob is kept until it is whole.
    pub(crate) fn partial(&self, digest: &Digest) -> PathBuf {
        self.partial.join(digest.hex())
    }

    /// Takes a whole blob back among the downloads.
    pub(crate) fn set_aside(&self, digest: &Digest) -> Result<(), Error> {
        let path = self.path(digest);
        fs::rename(&path, self.partial(digest)).map_err(Error::io("rename", &path))
    }

    fn sweep_partial(&self) -> Result<(), Error> {
        for entry in fs::read_dir(&self.partial).map_err(Error::io("list", &self.partial))? {
            let path = entry.map_err(Error::io("list", &self.partial))?.path();
            let age = fs::metadata(&path).and_then(|found| found.modified()).map(|at| at.elapsed());
            if !matches!(age, Ok(Ok(age)) if age < STALE) {
                fs::remove_file(&path).map_err(Error::io("remove", &path))?;
            }
        }
        Ok(())
    }

    pub(crate) fn open_blob(&self, digest: &Digest) -> Result<File, Error> {
        let path = self.path(digest);
        File::open(&path).map_err(Error::io("open", &path))
    }

    /// A manifest or config, checked.
    pub(crate) fn document(&self, digest: &Digest) -> Result<Vec<u8>, Error> {
        let path = self.path(digest);
        let bytes = read_document(&path)?;
        let found = hash(&bytes);
        if found != *digest {
            return Err(Error::Invalid(format!("{} is damaged: its content has {found}", path.display())));
        }
        Ok(bytes)
    }

    /// An image's manifest, checked.
    pub(crate) fn manifest(&self, digest: &Digest) -> Result<Manifest, Error> {
        match Document::parse(&self.document(digest)?, None).map_err(Error::invalid)? {
            Document::Manifest(manifest) => Ok(manifest),
            Document::Index(_) => Err(Error::Invalid(format!("{digest} is an index, not a manifest"))),
        }
    }

    /// A directory for one load or import, removed with the value; on the blobs' file system.
    pub(crate) fn stage(&self) -> Result<TempDir, Error> {
        TempDir::new_in(&self.staging).map_err(Error::io("create a directory in", &self.staging))
    }

    /// Gives a staged file its place. The caller syncs the directory after the last one.
    pub(crate) fn adopt(&self, staged: &Path, digest: &Digest) -> Result<(), Error> {
        let path = self.path(digest);
        File::open(staged).and_then(|file| file.sync_all()).map_err(Error::io("sync", staged))?;
        // Over a blob that is there already: it may be a damaged one.
        fs::rename(staged, &path).map_err(Error::io("create", &path))
    }

    /// Makes the names given so far durable.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(Error::io("sync", &self.dir))
    }

    /// Every blob that is there. Whatever else lies in the directory is nobody's and not touched.
    pub(crate) fn all(&self) -> Result<Vec<Digest>, Error> {
        let digest = |name: &OsStr| format!("sha256:{}", name.to_str()?).parse().ok();
        fs::read_dir(&self.dir)
            .map_err(Error::io("list", &self.dir))?
            .map(|entry| entry.map(|entry| digest(&entry.file_name())))
            .filter_map(Result::transpose)
            .collect::<io::Result<_>>()
            .map_err(Error::io("list", &self.dir))
    }

    pub(crate) fn remove(&self, digest: &Digest) -> Result<(), Error> {
        let path = self.path(digest);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", &path)(e)),
            _ => Ok(()),
        }
    }
}

/// A file of bounded length: documents are read whole.
pub(crate) fn read_document(path: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(oci::image::MAX_DOCUMENT + 1).read_to_end(&mut bytes))
        .map_err(Error::io("read", path))?;
    Ok(bytes)
}

pub(crate) fn hash(bytes: &[u8]) -> Digest {
    Digest::sha256(Sha256::digest(bytes).into())
}

/// Hashes what is written to it.
#[derive(Debug, Default)]
pub(crate) struct Hasher(Sha256);

impl Hasher {
    pub(crate) fn digest(self) -> Digest {
        Digest::sha256(self.0.finalize().into())
    }
}

impl Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file that is hashed while it is written.
#[derive(Debug)]
pub(crate) struct HashedFile {
    file: File,
    path: PathBuf,
    hasher: Hasher,
    size: u64,
}

/// A staged file and what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StagedFile {
    pub(crate) path: PathBuf,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

impl HashedFile {
    pub(crate) fn create(path: PathBuf) -> Result<Self, Error> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(Error::io("create", &path))?;
        Ok(Self { file, path, hasher: Hasher::default(), size: 0 })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn finish(self) -> StagedFile {
        StagedFile { path: self.path, digest: self.hasher.digest(), size: self.size }
    }
}

impl Write for HashedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.write_all(&bytes[..written])?;
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Stages bytes that are at hand.
pub(crate) fn stage_bytes(path: PathBuf, bytes: &[u8]) -> Result<StagedFile, Error> {
    let mut file = HashedFile::create(path)?;
    file.write_all(bytes).map_err(Error::io("write", &file.path.clone()))?;
    Ok(file.finish())
}
