//! The content of a layer, checked while it is read.

use std::{
    fs::File,
    io::{self, Read, Write},
    sync::Arc,
};

use oci::Digest;

use crate::{
    Error, Layer, Shared,
    ahead::Ahead,
    blobs::{Hasher, StagedFile},
    compression::{Compression, Decoder},
};

const BUFFER: usize = 128 << 10;

pub(crate) fn open(shared: &Arc<Shared>, layer: &Layer) -> Result<Box<dyn Read + Send>, Error> {
    let blobs = &shared.blobs;
    let file = blobs.open_blob(&layer.blob)?;
    let content = verified(file, &layer.diff_id, shared);
    let content = content.map_err(Error::io("read", &blobs.path(&layer.blob)))?;
    let ahead = Ahead::new(content).map_err(Error::io("start reading", &blobs.path(&layer.blob)))?;
    Ok(Box::new(ahead))
}

/// Bytes of the uncompressed archive; read through once, if nobody has before.
pub(crate) fn plain_size(shared: &Arc<Shared>, layer: &Layer) -> Result<u64, Error> {
    if layer.blob == layer.diff_id {
        return Ok(layer.size);
    }
    if let Some(size) = shared.known_size(&layer.diff_id) {
        return Ok(size);
    }
    let read = io::copy(&mut open(shared, layer)?, &mut io::sink());
    read.map_err(Error::io("read", &shared.blobs.path(&layer.blob)))
}

/// The uncompressed content of a layer that comes as `source`; fails at its end if it is not `expected`.
pub(crate) fn verified<R: Read + Send + 'static>(
    source: R,
    expected: &Digest,
    shared: &Arc<Shared>,
) -> io::Result<impl Read + Send + use<R>> {
    let (source, shared) = (Decoder::new(source)?, shared.clone());
    Ok(Verified { source, hasher: Some(Hasher::default()), expected: expected.clone(), size: 0, shared })
}

/// Fails at its end, and again after it, if what was read is not what was expected.
struct Verified<R> {
    source: R,
    /// Until the end was reached and the content was good.
    hasher: Option<Hasher>,
    expected: Digest,
    size: u64,
    shared: Arc<Shared>,
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.source.read(buffer)?;
        if length > 0 {
            if let Some(hasher) = &mut self.hasher {
                hasher.write_all(&buffer[..length])?;
                self.size += length as u64;
            }
            return Ok(length);
        }
        if !buffer.is_empty()
            && let Some(hasher) = self.hasher.take()
        {
            check(&hasher.digest(), &self.expected)?;
            self.shared.remember_size(&self.expected, self.size);
        }
        Ok(0)
    }
}

fn check(found: &Digest, expected: &Digest) -> io::Result<()> {
    if found == expected {
        return Ok(());
    }
    let what = format!("layer has wrong content: its diff id should be {expected}, but is {found}");
    Err(io::Error::new(io::ErrorKind::InvalidData, what))
}

/// Reads a staged layer to check its diff id; tells how it is compressed.
pub(crate) fn verify(staged: &StagedFile, diff_id: &Digest) -> Result<Compression, Error> {
    let blob = &staged.digest;
    let file = File::open(&staged.path).map_err(Error::io("open", &staged.path))?;
    let read = || -> io::Result<Compression> {
        let mut source = Decoder::new(file)?;
        let compression = source.compression();
        if compression == Compression::None {
            // Hashed when it was staged.
            check(blob, diff_id)?;
            return Ok(compression);
        }
        let mut hasher = Hasher::default();
        let mut buffer = vec![0; BUFFER];
        loop {
            match source.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => hasher.write_all(&buffer[..length])?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        check(&hasher.digest(), diff_id)?;
        Ok(compression)
    };
    read().map_err(|e| Error::Invalid(format!("layer {blob}: {e}")))
}
