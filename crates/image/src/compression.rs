//! Compressed streams, told by how they begin, never by what they are called.

use std::io::{self, BufReader, Chain, Cursor, Read};

use flate2::bufread::MultiGzDecoder;
use oci::image::media;

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
    /// One that is not read here.
    Unsupported(&'static str),
}

impl Compression {
    /// By the first bytes.
    pub(crate) fn of(start: &[u8]) -> Self {
        const MAGIC: [(&[u8], Compression); 5] = [
            (&[0x1f, 0x8b], Compression::Gzip),
            (&[0x28, 0xb5, 0x2f, 0xfd], Compression::Zstd),
            (&[0xfd, b'7', b'z', b'X', b'Z', 0], Compression::Unsupported("xz")),
            (b"BZh", Compression::Unsupported("bzip2")),
            (&[0x04, 0x22, 0x4d, 0x18], Compression::Unsupported("lz4")),
        ];
        let known = MAGIC.iter().find(|(magic, _)| start.starts_with(magic));
        known.map_or(Compression::None, |(_, compression)| *compression)
    }

    /// The media type of a layer that is compressed so.
    pub(crate) fn layer_type(self) -> &'static str {
        match self {
            Self::Gzip => media::LAYER_GZIP,
            Self::Zstd => media::LAYER_ZSTD,
            Self::None | Self::Unsupported(_) => media::LAYER,
        }
    }
}

/// Longest magic number above.
const MAGIC_LENGTH: usize = 6;
const BUFFER: usize = 128 << 10;

type Stream<R> = BufReader<Chain<Cursor<Vec<u8>>, R>>;

/// Uncompressed content.
pub(crate) enum Decoder<R: Read> {
    None(Stream<R>),
    Gzip(Box<MultiGzDecoder<Stream<R>>>),
    Zstd(zstd::Decoder<'static, Stream<R>>),
}

impl<R: Read> Decoder<R> {
    pub(crate) fn new(mut source: R) -> io::Result<Self> {
        let mut start = Vec::with_capacity(MAGIC_LENGTH);
        source.by_ref().take(MAGIC_LENGTH as u64).read_to_end(&mut start)?;
        let compression = Compression::of(&start);
        let stream = BufReader::with_capacity(BUFFER, Cursor::new(start).chain(source));
        Ok(match compression {
            Compression::None => Self::None(stream),
            Compression::Gzip => Self::Gzip(Box::new(MultiGzDecoder::new(stream))),
            // Its window is at most 128 MiB, so that a few bytes of input cannot claim gigabytes of memory.
            Compression::Zstd => Self::Zstd(zstd::Decoder::with_buffer(stream)?),
            Compression::Unsupported(name) => {
                let what =
                    format!("{name} compression is not supported; use gzip or zstd, or decompress it first");
                return Err(io::Error::new(io::ErrorKind::Unsupported, what));
            }
        })
    }

    pub(crate) fn compression(&self) -> Compression {
        match self {
            Self::None(_) => Compression::None,
            Self::Gzip(_) => Compression::Gzip,
            Self::Zstd(_) => Compression::Zstd,
        }
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::None(stream) => stream.read(buffer),
            Self::Gzip(stream) => stream.read(buffer),
            Self::Zstd(stream) => stream.read(buffer),
        }
    }
}
