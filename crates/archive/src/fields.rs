//! What a header block and the extended headers before it say together.

use std::collections::BTreeMap;

use crate::{
    Header, Kind, MAX_PATH, Time,
    block::{self, Block, Dialect},
    pax, shown,
};

/// A header block under its extended records.
pub(crate) struct Fields<'a> {
    pub(crate) block: &'a Block,
    pub(crate) local: &'a BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) global: &'a BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Fields<'_> {
    /// An empty value means: as if there were no record.
    fn record(&self, key: &[u8]) -> Option<&[u8]> {
        let found = self.local.get(key).or_else(|| self.global.get(key))?;
        (!found.is_empty()).then_some(found)
    }

    /// The header but for sparse files and extended attributes, and the size of the stored content.
    pub(crate) fn header(
        &self,
        path: Option<Vec<u8>>,
        link: Option<Vec<u8>>,
    ) -> Result<(Header, u64), String> {
        let path = self.name(path, &[b"GNU.sparse.name", b"path"], self.block.path())?;
        if path.is_empty() {
            return Err("an entry without a name".to_owned());
        }
        let about = |what: &str| format!("{what} of {:?}", shown(&path));
        let kind = self.kind(&path);
        // The extended header wins (CVE-2025-62518: it must, also for how much is skipped).
        let stored = self.unsigned(b"size", block::SIZE).filter(|size| i64::try_from(*size).is_ok());
        let mode = self.block.number(block::MODE).ok_or_else(|| about("bad mode"))?;
        let devices = matches!(kind, Kind::CharDevice | Kind::BlockDevice);
        let header = Header {
            kind,
            mode: (mode & 0o7777) as u32,
            uid: self.id(b"uid", block::UID).ok_or_else(|| about("bad user id"))?,
            gid: self.id(b"gid", block::GID).ok_or_else(|| about("bad group id"))?,
            user: self.account(b"uname", block::USER),
            group: self.account(b"gname", block::GROUP),
            mtime: self.mtime().ok_or_else(|| about("bad modification time"))?,
            size: 0,
            link: self.name(link, &[b"linkpath"], self.block.text(block::LINK).to_vec())?,
            device: if devices { self.device().ok_or_else(|| about("bad device number"))? } else { (0, 0) },
            xattrs: BTreeMap::new(),
            pax: BTreeMap::new(),
            path: Vec::new(),
        };
        let stored = stored.ok_or_else(|| about("bad size"))?;
        Ok((Header { path, ..header }, stored))
    }

    fn kind(&self, path: &[u8]) -> Kind {
        match self.block.0[block::TYPE] {
            // Before POSIX a slash was the mark of a directory.
            0 if path.ends_with(b"/") => Kind::Directory,
            0 | b'0' | b'7' | b'S' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => Kind::CharDevice,
            b'4' => Kind::BlockDevice,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => Kind::Other(other),
        }
    }

    /// A name from GNU's long entry or from the extended header, which must agree, or from the block.
    fn name(&self, long: Option<Vec<u8>>, keys: &[&[u8]], short: Vec<u8>) -> Result<Vec<u8>, String> {
        let record = keys.iter().find_map(|key| self.record(key)).map(<[u8]>::to_vec);
        let name = match (long, record) {
            (Some(long), Some(record)) if long != record => {
                return Err(format!("two names for one entry: {:?}, {:?}", shown(&long), shown(&record)));
            }
            (Some(name), _) | (None, Some(name)) => name,
            (None, None) => short,
        };
        if name.len() >= MAX_PATH {
            return Err(format!("a path of more than {} bytes: {:?}", MAX_PATH - 1, shown(&name)));
        }
        Ok(name)
    }

    fn unsigned(&self, key: &[u8], field: block::Field) -> Option<u64> {
        match self.record(key) {
            Some(text) => pax::decimal(text),
            None => u64::try_from(self.block.number(field)?).ok(),
        }
    }

    fn id(&self, key: &[u8], field: block::Field) -> Option<u32> {
        u32::try_from(self.unsigned(key, field)?).ok()
    }

    fn account(&self, key: &[u8], field: block::Field) -> Vec<u8> {
        if self.block.dialect() == Dialect::V7 {
            return self.record(key).unwrap_or_default().to_vec();
        }
        self.record(key).unwrap_or_else(|| self.block.text(field)).to_vec()
    }

    fn mtime(&self) -> Option<Time> {
        match self.record(b"mtime") {
            Some(text) => pax::time(text),
            None => Some(Time { seconds: self.block.number(block::MTIME)?, nanoseconds: 0 }),
        }
    }

    fn device(&self) -> Option<(u32, u32)> {
        let number = |field| u32::try_from(self.block.number(field)?).ok();
        Some((number(block::MAJOR)?, number(block::MINOR)?))
    }
}
