//! A reader whose source is read on a thread of its own: decompressing and hashing go on while what came before is
//! written to a disk.

use std::{
    io::{self, Read},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
};

/// Pieces under way: a megabyte.
const PIECES: usize = 4;
const PIECE: usize = 256 << 10;

/// See the module.
pub(crate) struct Ahead {
    /// An empty piece is the end.
    pieces: Receiver<io::Result<Vec<u8>>>,
    piece: Vec<u8>,
    /// How much of the piece was handed on.
    at: usize,
    ended: bool,
}

impl Ahead {
    pub(crate) fn new(source: impl Read + Send + 'static) -> io::Result<Self> {
        let (sender, pieces) = sync_channel(PIECES);
        let thread = std::thread::Builder::new().name("knarr-read".to_owned());
        // It ends with its source, or when nobody takes any more.
        thread.spawn(move || fill(source, &sender))?;
        Ok(Self { pieces, piece: Vec::new(), at: 0, ended: false })
    }
}

fn fill(mut source: impl Read, to: &SyncSender<io::Result<Vec<u8>>>) {
    loop {
        let mut piece = Vec::with_capacity(PIECE);
        let read = source.by_ref().take(PIECE as u64).read_to_end(&mut piece);
        let last = piece.is_empty() || read.is_err();
        // What came before an error comes first.
        let taken = read.is_err() && piece.is_empty() || to.send(Ok(piece)).is_ok();
        if let Err(error) = read {
            // Nobody may be there any more.
            let _ = to.send(Err(error));
        }
        if !taken || last {
            return;
        }
    }
}

impl Read for Ahead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.piece.len() && !self.ended {
            self.at = 0;
            self.piece = match self.pieces.recv() {
                Ok(Ok(piece)) => piece,
                Ok(Err(error)) => {
                    // Whoever reads on after an error is told again, never that all is well.
                    self.piece = Vec::new();
                    return Err(error);
                }
                Err(_) => return Err(io::Error::other("reading failed before")),
            };
            self.ended = self.piece.is_empty();
        }
        let length = buffer.len().min(self.piece.len() - self.at);
        buffer[..length].copy_from_slice(&self.piece[self.at..][..length]);
        self.at += length;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_comes_and_then_the_end() {
        let content: Vec<u8> = (0..3_000_000_u32).map(|number| number as u8).collect();
        let mut read = Vec::new();
        let mut ahead = Ahead::new(io::Cursor::new(content.clone())).unwrap();
        ahead.read_to_end(&mut read).unwrap();
        assert!(read == content);
        assert_eq!(ahead.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn an_error_stays_one() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken"))
            }
        }
        let mut ahead = Ahead::new(io::Cursor::new(b"good").chain(Broken)).unwrap();
        let mut read = Vec::new();
        assert_eq!(ahead.read_to_end(&mut read).unwrap_err().to_string(), "broken");
        assert_eq!(read, b"good");
        assert!(ahead.read(&mut [0; 9]).is_err());
    }
}
