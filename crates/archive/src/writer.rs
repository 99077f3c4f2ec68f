//! The one writer: ustar, with PAX records where ustar cannot say it. The same entries always give the same bytes.

use std::io::{self, Read, Write};

use crate::{
    Error, Extent, Header, Kind, Time,
    block::{self, BLOCK, Block, Field},
    pax, shown, sparse,
};

/// Largest number in a field of eight and of twelve bytes, with its NUL.
const OCTAL_7: u64 = 0o7_777_777;
const OCTAL_11: u64 = 0o77_777_777_777;

/// Writes an archive entry by entry.
#[derive(Debug)]
pub struct Writer<W> {
    to: W,
    sub_second: bool,
}

impl<W: Write> Writer<W> {
    /// A writer of whole-second times.
    pub fn new(to: W) -> Self {
        Self { to, sub_second: false }
    }

    /// Whether times keep their nanoseconds, which costs a PAX header for nearly every entry.
    #[must_use]
    pub fn sub_second(mut self, yes: bool) -> Self {
        self.sub_second = yes;
        self
    }

    /// Adds one entry; a file's `content` must be `header.size` bytes. Uses all of the header but `pax`.
    pub fn append(&mut self, header: &Header, content: impl Read) -> Result<(), Error> {
        let refuse = |what| Error::Unwritable { path: shown(&header.path), what };
        let size = if header.kind == Kind::File { header.size } else { 0 };
        let mut path = header.path.clone();
        if header.kind == Kind::Directory && !path.ends_with(b"/") {
            path.push(b'/');
        }
        if path.is_empty() || path.contains(&0) || header.link.contains(&0) {
            return Err(refuse("its name or target is empty or has a NUL"));
        }
        let kind = letter(header.kind).ok_or_else(|| refuse("its type is unknown"))?;
        let draft = self.draft(header, &path, kind, size);
        if !draft.records.is_empty() || !header.xattrs.is_empty() {
            self.extended(&path, &draft.text(&header.xattrs).map_err(refuse)?)?;
        }
        self.to.write_all(&draft.sealed().0)?;
        let copied = io::copy(&mut content.take(size), &mut self.to)?;
        if copied != size {
            return Err(refuse("its content is shorter than its size"));
        }
        self.pad(size)
    }

    /// Adds a file of `header.size` bytes of which only these parts are stored, in order and apart; the rest reads as
    /// zeros. GNU tar's sparse format 1.0, which every reader of the field knows.
    pub fn append_sparse<C: Read>(
        &mut self,
        header: &Header,
        parts: impl IntoIterator<Item = (Extent, C)>,
    ) -> Result<(), Error> {
        let refuse = |what| Error::Unwritable { path: shown(&header.path), what };
        let (extents, contents): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
        let stored = extents.iter().map(|extent| extent.len).sum();
        let mut checked = extents.clone();
        let fits = header.kind == Kind::File && sparse::check(&mut checked, header.size, stored).is_ok();
        if !fits || header.path.is_empty() || header.path.contains(&0) {
            return Err(refuse("it is no file of such parts"));
        }
        let map = sparse::map(&extents, header.size);
        let name = [b"GNUSparseFile.0/", header.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()];
        let size = map.len() as u64 + stored;
        let mut draft = self.draft(header, &name.concat(), b'0', size);
        // The true name stands in a record of its own.
        draft.records.retain(|(key, _)| *key != "path");
        draft.records.extend([
            ("GNU.sparse.major", b"1".to_vec()),
            ("GNU.sparse.minor", b"0".to_vec()),
            ("GNU.sparse.name", header.path.clone()),
            ("GNU.sparse.realsize", header.size.to_string().into_bytes()),
        ]);
        self.extended(&header.path, &draft.text(&header.xattrs).map_err(refuse)?)?;
        self.to.write_all(&draft.sealed().0)?;
        self.to.write_all(&map)?;
        for (extent, content) in extents.iter().zip(contents) {
            if io::copy(&mut content.take(extent.len), &mut self.to)? != extent.len {
                return Err(refuse("its content is shorter than its size"));
            }
        }
        self.pad(size)
    }

    /// Writes the end blocks and gives the destination back, not flushed.
    pub fn finish(mut self) -> Result<W, Error> {
        self.to.write_all(&[0; 2 * BLOCK])?;
        Ok(self.to)
    }

    fn draft(&self, header: &Header, path: &[u8], kind: u8, size: u64) -> Draft {
        let mut draft = Draft::new(kind);
        draft.path(path);
        draft.link(&header.link);
        draft.octal(block::MODE, u64::from(header.mode & 0o7777), OCTAL_7, "");
        draft.octal(block::UID, u64::from(header.uid), OCTAL_7, "uid");
        draft.octal(block::GID, u64::from(header.gid), OCTAL_7, "gid");
        draft.octal(block::SIZE, size, OCTAL_11, "size");
        draft.mtime(header.mtime, self.sub_second);
        draft.account(block::USER, &header.user, "uname");
        draft.account(block::GROUP, &header.group, "gname");
        draft.octal(block::MAJOR, u64::from(header.device.0), OCTAL_7, "");
        draft.octal(block::MINOR, u64::from(header.device.1), OCTAL_7, "");
        draft
    }

    fn extended(&mut self, path: &[u8], records: &[u8]) -> Result<(), Error> {
        let mut draft = Draft::new(b'x');
        let base = path.strip_suffix(b"/").unwrap_or(path);
        let base = base.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let mut name = b"PaxHeaders.0/".to_vec();
        name.extend(base.iter().filter(|byte| byte.is_ascii_graphic()).take(80));
        draft.block.0[..name.len()].copy_from_slice(&name);
        draft.octal(block::MODE, 0o644, OCTAL_7, "");
        for field in [block::UID, block::GID, block::MAJOR, block::MINOR] {
            draft.octal(field, 0, OCTAL_7, "");
        }
        draft.octal(block::MTIME, 0, OCTAL_11, "");
        draft.octal(block::SIZE, records.len() as u64, OCTAL_11, "");
        self.to.write_all(&draft.sealed().0)?;
        self.to.write_all(records)?;
        self.pad(records.len() as u64)
    }

    fn pad(&mut self, size: u64) -> Result<(), Error> {
        let padding = size.wrapping_neg() % BLOCK as u64;
        self.to.write_all(&[0; BLOCK][..padding as usize])?;
        Ok(())
    }
}

fn letter(kind: Kind) -> Option<u8> {
    Some(match kind {
        Kind::File => b'0',
        Kind::HardLink => b'1',
        Kind::Symlink => b'2',
        Kind::CharDevice => b'3',
        Kind::BlockDevice => b'4',
        Kind::Directory => b'5',
        Kind::Fifo => b'6',
        Kind::Other(_) => return None,
    })
}

/// A header block in the making, and the records for what does not fit.
struct Draft {
    block: Block,
    records: Vec<(&'static str, Vec<u8>)>,
}

impl Draft {
    fn new(kind: u8) -> Self {
        let mut block = Block([0; BLOCK]);
        block.0[block::TYPE] = kind;
        block.0[block::MAGIC].copy_from_slice(block::POSIX_MAGIC);
        Self { block, records: Vec::new() }
    }

    fn octal(&mut self, field: Field, value: u64, most: u64, key: &'static str) {
        let width = field.len() - 1;
        let shown = if value <= most {
            value
        } else {
            if !key.is_empty() {
                self.records.push((key, value.to_string().into_bytes()));
            }
            0
        };
        let text = format!("{shown:0width$o}");
        self.block.0[field][..width].copy_from_slice(text.as_bytes());
    }

    /// In the name field, split over name and prefix, or as a record.
    fn path(&mut self, path: &[u8]) {
        let most = block::NAME.len();
        if path.is_ascii() {
            if path.len() <= most {
                self.block.0[block::NAME][..path.len()].copy_from_slice(path);
                return;
            }
            let splits = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
            for (at, _) in splits {
                let (prefix, name) = (&path[..at], &path[at + 1..]);
                if (1..=block::PREFIX.len()).contains(&prefix.len()) && (1..=most).contains(&name.len()) {
                    self.block.0[block::PREFIX][..prefix.len()].copy_from_slice(prefix);
                    self.block.0[block::NAME][..name.len()].copy_from_slice(name);
                    return;
                }
            }
        }
        self.long(block::NAME, path, "path");
    }

    fn link(&mut self, link: &[u8]) {
        if link.is_ascii() && link.len() <= block::LINK.len() {
            self.block.0[block::LINK][..link.len()].copy_from_slice(link);
        } else {
            self.long(block::LINK, link, "linkpath");
        }
    }

    /// A record, and for readers without PAX what fits.
    fn long(&mut self, field: Field, text: &[u8], key: &'static str) {
        let short: Vec<u8> = text.iter().copied().filter(u8::is_ascii_graphic).take(field.len()).collect();
        self.block.0[field][..short.len()].copy_from_slice(&short);
        self.records.push((key, text.to_vec()));
    }

    fn account(&mut self, field: Field, name: &[u8], key: &'static str) {
        if name.is_ascii() && name.len() < field.len() && !name.contains(&0) {
            self.block.0[field][..name.len()].copy_from_slice(name);
        } else if !name.contains(&0) {
            self.records.push((key, name.to_vec()));
        }
    }

    fn mtime(&mut self, time: Time, sub_second: bool) {
        let time = Time { nanoseconds: if sub_second { time.nanoseconds } else { 0 }, ..time };
        let whole = u64::try_from(time.seconds).unwrap_or(0).min(OCTAL_11);
        self.octal(block::MTIME, whole, OCTAL_11, "");
        if i64::try_from(whole) != Ok(time.seconds) || time.nanoseconds != 0 {
            self.records.push(("mtime", pax::time_text(time).into_bytes()));
        }
    }

    /// The body of the extended header.
    fn text(&self, xattrs: &std::collections::BTreeMap<Vec<u8>, Vec<u8>>) -> Result<Vec<u8>, &'static str> {
        let mut text = Vec::new();
        let names = self
            .records
            .iter()
            .filter(|(key, _)| matches!(*key, "path" | "linkpath" | "uname" | "gname" | "GNU.sparse.name"));
        if names.clone().any(|(_, value)| std::str::from_utf8(value).is_err()) {
            // Before the names, so that readers know what they are.
            pax::write(&mut text, b"hdrcharset", b"BINARY");
        }
        for (key, value) in &self.records {
            pax::write(&mut text, key.as_bytes(), value);
        }
        for (name, value) in xattrs {
            if name.is_empty() || name.contains(&0) || name.contains(&b'=') {
                return Err("an extended attribute's name is empty or has a NUL or an equals sign");
            }
            pax::write(&mut text, &[b"SCHILY.xattr.", &name[..]].concat(), value);
        }
        if text.len() as u64 > crate::MAX_EXTENDED {
            return Err("its extended attributes are too large");
        }
        Ok(text)
    }

    fn sealed(mut self) -> Block {
        self.block.seal();
        self.block
    }
}
