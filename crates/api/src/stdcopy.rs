//! Docker's multiplexed stream: an eight-byte header (stream, three zeros, length as big-endian) and that many
//! bytes, again and again.

/// Which stream a frame belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// 0; written to standard output by clients.
    Stdin,
    /// 1
    Stdout,
    /// 2
    Stderr,
    /// 3: an error of the engine in the middle of a stream.
    System,
}

/// The header of a frame of `length` bytes.
pub fn header(stream: Stream, length: u32) -> [u8; 8] {
    let [a, b, c, d] = length.to_be_bytes();
    [stream as u8, 0, 0, 0, a, b, c, d]
}

/// Bytes that are not a multiplexed stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotMultiplexed(pub u8);

impl std::fmt::Display for NotMultiplexed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "unrecognized stream: {}", self.0)
    }
}

impl std::error::Error for NotMultiplexed {}

/// Takes a multiplexed stream apart as it arrives, without keeping what it has handed on: a frame's announced
/// length is counted, never allocated.
#[derive(Debug, Default)]
pub struct Demux {
    head: [u8; 8],
    have: usize,
    left: u32,
}

impl Demux {
    /// Hands each piece of `bytes` to `each` with the stream that it belongs to.
    pub fn feed<'a>(
        &mut self,
        mut bytes: &'a [u8],
        mut each: impl FnMut(Stream, &'a [u8]),
    ) -> Result<(), NotMultiplexed> {
        while !bytes.is_empty() {
            if self.left > 0 {
                let (piece, rest) = bytes.split_at(bytes.len().min(self.left as usize));
                each(stream(self.head[0])?, piece);
                self.left -= piece.len() as u32;
                bytes = rest;
                continue;
            }
            self.head[self.have] = bytes[0];
            self.have += 1;
            bytes = &bytes[1..];
            if self.have == self.head.len() {
                stream(self.head[0])?;
                let [.., a, b, c, d] = self.head;
                self.left = u32::from_be_bytes([a, b, c, d]);
                self.have = 0;
            }
        }
        Ok(())
    }
}

fn stream(byte: u8) -> Result<Stream, NotMultiplexed> {
    match byte {
        0 => Ok(Stream::Stdin),
        1 => Ok(Stream::Stdout),
        2 => Ok(Stream::Stderr),
        3 => Ok(Stream::System),
        other => Err(NotMultiplexed(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_apart_wherever_they_are_cut() {
        let mut wire = Vec::new();
        for (which, text) in [(Stream::Stdout, "out"), (Stream::Stderr, ""), (Stream::Stderr, "err!")] {
            wire.extend(header(which, text.len() as u32));
            wire.extend(text.as_bytes());
        }
        assert_eq!(wire[..11], *b"\x01\0\0\0\0\0\0\x03out");
        for cut in 0..wire.len() {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let mut demux = Demux::default();
            for part in [&wire[..cut], &wire[cut..]] {
                demux
                    .feed(part, |which, piece| match which {
                        Stream::Stderr => err.extend(piece),
                        _ => out.extend(piece),
                    })
                    .unwrap();
            }
            assert_eq!((out.as_slice(), err.as_slice()), (&b"out"[..], &b"err!"[..]));
        }
        assert_eq!(Demux::default().feed(b"hello world", |_, _| ()), Err(NotMultiplexed(b'h')));
    }
}
