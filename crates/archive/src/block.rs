//! One 512-byte header block: fields, numbers, checksum (POSIX.1-2017 pax, "ustar Interchange Format"; GNU tar
//! manual, "Basic Tar Format").

use std::ops::Range;

pub(crate) const BLOCK: usize = 512;

/// A header field: where it stands.
pub(crate) type Field = Range<usize>;

pub(crate) const NAME: Field = 0..100;
pub(crate) const MODE: Field = 100..108;
pub(crate) const UID: Field = 108..116;
pub(crate) const GID: Field = 116..124;
pub(crate) const SIZE: Field = 124..136;
pub(crate) const MTIME: Field = 136..148;
pub(crate) const CHECKSUM: Field = 148..156;
pub(crate) const TYPE: usize = 156;
pub(crate) const LINK: Field = 157..257;
pub(crate) const MAGIC: Field = 257..265;
pub(crate) const USER: Field = 265..297;
pub(crate) const GROUP: Field = 297..329;
pub(crate) const MAJOR: Field = 329..337;
pub(crate) const MINOR: Field = 337..345;
pub(crate) const PREFIX: Field = 345..500;
const STAR_PREFIX: Field = 345..476;
const STAR_TRAILER: Field = 508..512;

pub(crate) const POSIX_MAGIC: &[u8] = b"ustar\x0000";
const GNU_MAGIC: &[u8] = b"ustar  \0";

/// Which tar wrote a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Before POSIX: no names, devices or prefix.
    V7,
    Posix,
    Star,
    Gnu,
}

pub(crate) struct Block(pub(crate) [u8; BLOCK]);

impl Block {
    pub(crate) fn is_zero(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }

    pub(crate) fn dialect(&self) -> Dialect {
        if self.0[MAGIC] == *GNU_MAGIC {
            Dialect::Gnu
        } else if !self.0[MAGIC].starts_with(b"ustar\0") {
            Dialect::V7
        } else if self.0[STAR_TRAILER] == *b"tar\0" {
            Dialect::Star
        } else {
            Dialect::Posix
        }
    }

    /// Text up to the first NUL.
    pub(crate) fn text(&self, field: Field) -> &[u8] {
        until_nul(&self.0[field])
    }

    pub(crate) fn number(&self, field: Field) -> Option<i64> {
        number(&self.0[field])
    }

    /// Name with prefix.
    pub(crate) fn path(&self) -> Vec<u8> {
        let prefix = match self.dialect() {
            Dialect::Posix => self.text(PREFIX),
            Dialect::Star => self.text(STAR_PREFIX),
            Dialect::V7 | Dialect::Gnu => b"",
        };
        let mut path = prefix.to_vec();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(self.text(NAME));
        path
    }

    /// Old tars summed signed bytes.
    pub(crate) fn checksum_fits(&self) -> bool {
        let Some(want) = self.number(CHECKSUM) else {
            return false;
        };
        let (mut unsigned, mut signed) = (0_i64, 0_i64);
        for (at, byte) in self.0.iter().enumerate() {
            let byte = if CHECKSUM.contains(&at) { b' ' } else { *byte };
            unsigned += i64::from(byte);
            signed += i64::from(byte.cast_signed());
        }
        want == unsigned || want == signed
    }

    /// Fills the checksum in; the last change to a block.
    pub(crate) fn seal(&mut self) {
        self.0[CHECKSUM].fill(b' ');
        let sum: u32 = self.0.iter().map(|byte| u32::from(*byte)).sum();
        self.0[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

pub(crate) fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Octal text, or GNU's big-endian two's complement where the first bit is set. `None`: neither, or beyond 63 bits.
pub(crate) fn number(bytes: &[u8]) -> Option<i64> {
    let first = *bytes.first()?;
    if first & 0x80 != 0 {
        let negative = first & 0x40 != 0;
        // The first byte's uppermost bit is the mark; copy the sign into it.
        let start = if negative { first } else { first & 0x7f };
        let mut value = i128::from(start.cast_signed());
        for byte in &bytes[1..] {
            value = value.checked_mul(256)? + i128::from(*byte);
        }
        return i64::try_from(value).ok();
    }
    let blank = |byte: &u8| matches!(*byte, b' ' | 0);
    let start = bytes.iter().position(|byte| !blank(byte)).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|byte| !blank(byte)).map_or(start, |at| at + 1);
    let digits = &bytes[start..end];
    // Some tars leave rubbish behind the terminating NUL.
    digits[..digits.iter().position(|byte| *byte == 0).unwrap_or(digits.len())].iter().try_fold(
        0_i64,
        |value, digit| match digit {
            b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
            _ => None,
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_two_s_complement() {
        for (bytes, want) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"77777777", Some(0o77_777_777)),
            (b"12\0junk\0", Some(0o12)),
            (b"-1\0\0\0\0\0\0", None),
            (b"9\0\0\0\0\0\0\0", None),
            (b"1 2\0\0\0\0\0", None),
            (b"\x80\0\0\0\0\0\x01\0", Some(256)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", Some(i64::MAX)),
            (b"\x80\0\0\0\x80\0\0\0\0\0\0\0", None),
            (b"\xff\xff\xff\xff\x80\0\0\0\0\0\0\0", Some(i64::MIN)),
        ] {
            assert_eq!(number(bytes), want, "{bytes:?}");
        }
    }
}
