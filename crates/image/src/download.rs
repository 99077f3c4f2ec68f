//! One blob on its way: kept while it comes, hashed, and handed on at the same time.
//!
//! ```text
//! network ─▶ partial file + digest ─▶ (bounded) ─▶ decompress ─▶ (bounded) ─▶ diff id + unpack
//! ```
//! Each arrow between brackets is a thread. Whoever reads at the end sees an end only after the digest was right.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::{Duration, Instant},
};

use oci::Digest;

use crate::{
    Error, Step,
    blobs::{Blobs, Hasher},
};

/// Pieces that wait between two threads.
const DEPTH: usize = 16;
const PIECE: usize = 128 << 10;
/// Between two messages about one blob.
const PACE: Duration = Duration::from_millis(100);

/// A part of a stream, or its good end.
enum Piece {
    Bytes(Vec<u8>),
    End,
}

/// The writing side of a bounded stream between two threads.
pub(crate) struct Feed {
    pieces: SyncSender<Piece>,
    /// What waits in between is of no use any more: a stream that breaks off ends at once.
    broken: Arc<AtomicBool>,
}

/// The reading side; a stream that ends without [`Feed::end`] is an error.
pub(crate) struct Stream {
    pieces: Receiver<Piece>,
    piece: Vec<u8>,
    at: usize,
    ended: bool,
    broken: Arc<AtomicBool>,
}

pub(crate) fn stream() -> (Feed, Stream) {
    let (sender, pieces) = sync_channel(DEPTH);
    let broken = Arc::new(AtomicBool::new(false));
    let feed = Feed { pieces: sender, broken: broken.clone() };
    (feed, Stream { pieces, piece: Vec::new(), at: 0, ended: false, broken })
}

impl Feed {
    /// Fails when nobody reads any more.
    pub(crate) fn bytes(&self, bytes: Vec<u8>) -> io::Result<()> {
        self.pieces.send(Piece::Bytes(bytes)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// What came was whole and good.
    pub(crate) fn end(mut self) {
        // A reader that has gone does not need it.
        let _ = self.pieces.send(Piece::End);
        self.broken = Arc::default();
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.broken.store(true, Ordering::Relaxed);
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.piece.len() {
            if self.ended || buffer.is_empty() {
                return Ok(0);
            }
            let broke_off = || io::Error::new(io::ErrorKind::UnexpectedEof, "the stream broke off");
            if self.broken.load(Ordering::Relaxed) {
                return Err(broke_off());
            }
            match self.pieces.recv() {
                Ok(Piece::Bytes(bytes)) => (self.piece, self.at) = (bytes, 0),
                Ok(Piece::End) => self.ended = true,
                Err(_) => return Err(broke_off()),
            }
        }
        let length = buffer.len().min(self.piece.len() - self.at);
        buffer[..length].copy_from_slice(&self.piece[self.at..self.at + length]);
        self.at += length;
        Ok(length)
    }
}

/// Reads `source` to its end in a thread of its own.
pub(crate) fn ahead(mut source: impl Read, feed: Feed) -> io::Result<()> {
    loop {
        let mut piece = vec![0; PIECE];
        match source.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => {
                piece.truncate(length);
                feed.bytes(piece)?;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    feed.end();
    Ok(())
}

/// A blob that is to come.
pub(crate) struct Download<'a> {
    pub(crate) blobs: &'a Blobs,
    pub(crate) client: &'a registry::Client,
    pub(crate) digest: &'a Digest,
    pub(crate) size: u64,
}

impl Download<'_> {
    /// Fetches what is missing of the blob into its partial file, handing on all of it, and checks its digest. What
    /// is not the blob is removed; what broke off stays.
    pub(crate) fn run(&self, feed: Feed, tell: &mut dyn FnMut(Step)) -> Result<(), Error> {
        let path = self.blobs.partial(self.digest);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(Error::io("open", &path))?;
        let mut intake = Intake {
            file: &mut file,
            hasher: Hasher::default(),
            feed: &feed,
            at: 0,
            told: Instant::now(),
            tell,
            size: self.size,
        };
        intake.known(self.size).map_err(|e| self.local(e))?;
        let from = intake.at;
        self.client.blob(self.digest, self.size, from, &mut intake)?;
        (intake.tell)(Step::Verifying);
        let found = intake.hasher.digest();
        if found != *self.digest {
            self.forget();
            let digest = self.digest;
            return Err(Error::Invalid(format!(
                "filesystem layer verification failed for digest {digest}: it is {found}"
            )));
        }
        tell(Step::Downloaded);
        feed.end();
        file.sync_all().map_err(Error::io("sync", &path))
    }

    /// Whether an earlier attempt left something.
    pub(crate) fn has_begun(&self) -> bool {
        std::fs::metadata(self.blobs.partial(self.digest)).is_ok_and(|found| found.len() > 0)
    }

    fn local(&self, error: io::Error) -> Error {
        Error::io("keep", &self.blobs.partial(self.digest))(error)
    }

    /// Removes what came so far: it is of no use.
    pub(crate) fn forget(&self) {
        // What cannot be removed is written over, or swept.
        let _ = std::fs::remove_file(self.blobs.partial(self.digest));
    }
}

/// Takes the bytes of a blob, first those that came before.
struct Intake<'a> {
    file: &'a mut File,
    hasher: Hasher,
    feed: &'a Feed,
    at: u64,
    size: u64,
    told: Instant,
    tell: &'a mut dyn FnMut(Step),
}

impl Intake<'_> {
    /// What an earlier attempt kept; the digest's state is computed anew from it.
    fn known(&mut self, most: u64) -> io::Result<()> {
        if self.file.metadata()?.len() > most {
            self.file.set_len(0)?;
        }
        loop {
            let mut piece = vec![0; PIECE];
            let length = self.file.read(&mut piece)?;
            if length == 0 {
                break;
            }
            piece.truncate(length);
            self.pass(piece)?;
        }
        self.file.seek(SeekFrom::Start(self.at)).map(drop)
    }

    fn pass(&mut self, piece: Vec<u8>) -> io::Result<()> {
        self.hasher.write_all(&piece)?;
        self.at += piece.len() as u64;
        if self.told.elapsed() >= PACE || self.at == self.size {
            self.told = Instant::now();
            (self.tell)(Step::Downloading { current: self.at, total: self.size });
        }
        self.feed.bytes(piece)
    }
}

impl registry::Receiver for Intake<'_> {
    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.pass(bytes.to_vec())
    }

    fn retrying(&mut self, pause: Duration) {
        (self.tell)(Step::Retrying { pause });
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_stream_ends_well_or_not_at_all() {
        let (feed, mut stream) = stream();
        thread::scope(|scope| {
            scope.spawn(move || ahead(io::repeat(7).take(300_000), feed));
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            assert_eq!(all.len(), 300_000);
        });
        let (feed, mut stream) = super::stream();
        feed.bytes(vec![1]).unwrap();
        drop(feed);
        let error = stream.read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        let (feed, stream) = super::stream();
        drop(stream);
        assert!(feed.bytes(vec![1]).is_err());
    }
}
