//! The one parser: a stream of bytes in, a stream of entries out, in bounded memory.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Read},
};

use crate::{
    Error, Extent, Header, Kind, MAX_EXTENDED, MAX_EXTENTS,
    block::{self, BLOCK, Block, Dialect, until_nul},
    fields::Fields,
    pax::{self, Records},
    shown,
    sparse::{self, Announced},
};

const BUFFER: usize = 64 << 10;

/// Reads an uncompressed archive entry by entry. Reads ahead: its source is of no use to others afterwards.
#[derive(Debug)]
pub struct Reader<R> {
    stream: Stream<R>,
    /// From global headers: `mtime`, `uid`, `gid`, `uname`, `gname` only.
    global: BTreeMap<Vec<u8>, Vec<u8>>,
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Open,
    /// The source ended between entries.
    Ended,
    /// End blocks were read.
    Marked,
    Failed,
}

/// The source, and how much of the current entry is still in it.
#[derive(Debug)]
struct Stream<R> {
    source: BufReader<R>,
    /// Where the source stands.
    offset: u64,
    /// Where the current header started.
    header_at: u64,
    /// Stored content not read yet.
    left: u64,
    /// What pads it to whole blocks.
    padding: u64,
    /// Name of the current entry, for messages.
    inside: String,
}

/// Headers that speak about the entry after them.
#[derive(Default)]
struct Pending {
    records: Option<Records>,
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl<R: Read> Reader<R> {
    /// A reader at the start of an archive.
    pub fn new(source: R) -> Self {
        Self {
            stream: Stream {
                source: BufReader::with_capacity(BUFFER, source),
                offset: 0,
                header_at: 0,
                left: 0,
                padding: 0,
                inside: "a header".to_owned(),
            },
            global: BTreeMap::new(),
            state: State::Open,
        }
    }

    /// The next entry; what was not read of the one before is skipped. `None` at the archive's end.
    #[expect(
        clippy::should_implement_trait,
        reason = "an entry borrows the reader, which no iterator can say"
    )]
    pub fn next(&mut self) -> Result<Option<Entry<'_, R>>, Error> {
        match self.state {
            State::Open => {}
            State::Ended | State::Marked => return Ok(None),
            State::Failed => return Err(self.stream.malformed("reading went on after an error")),
        }
        // Until it is known to be well.
        self.state = State::Failed;
        let Some((header, extents)) = self.advance()? else {
            return Ok(None);
        };
        self.state = State::Open;
        self.stream.inside = format!("the content of {:?}", shown(&header.path));
        Ok(Some(Entry { header, extents, position: 0, extent: 0, stream: &mut self.stream }))
    }

    /// Reads the source to its very end, behind the end blocks, where a verifying source says its word. Call it
    /// after [`Reader::next`] gave `None`.
    pub fn finish(&mut self) -> Result<(), Error> {
        loop {
            match self.stream.source.fill_buf() {
                Ok([]) => return Ok(()),
                Ok(buffer) => {
                    let length = buffer.len();
                    self.stream.source.consume(length);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether the end blocks were read. An archive may lack them, as all readers of the field accept; if no
    /// digest vouches for it either, it may have been cut between two entries.
    pub fn is_marked(&self) -> bool {
        self.state == State::Marked
    }

    fn advance(&mut self) -> Result<Option<(Header, Vec<Extent>)>, Error> {
        self.stream.skip_entry()?;
        let mut pending = Pending::default();
        loop {
            "a header".clone_into(&mut self.stream.inside);
            let Some(block) = self.next_block()? else {
                if pending.is_empty() {
                    return Ok(None);
                }
                return Err(self.stream.malformed("an extended header with no entry behind it"));
            };
            let bad = match block.0[block::TYPE] {
                b'x' => {
                    let body = self.stream.extension(&block)?;
                    let records = pax::parse(&body).map_err(|what| self.stream.malformed(&what))?;
                    pending.records.replace(records).is_some()
                }
                b'L' => pending.path.replace(self.stream.long_name(&block)?).is_some(),
                b'K' => pending.link.replace(self.stream.long_name(&block)?).is_some(),
                b'g' => {
                    self.global_header(&block)?;
                    !pending.is_empty()
                }
                _ => return self.entry(&block, pending).map(Some),
            };
            if bad {
                // Readers disagree on which of them counts.
                return Err(self.stream.malformed("several extended headers for one entry"));
            }
        }
    }

    /// A header block whose checksum fits; `None` at the end.
    fn next_block(&mut self) -> Result<Option<Block>, Error> {
        self.stream.header_at = self.stream.offset;
        let Some(block) = self.stream.block_or_end()? else {
            self.state = State::Ended;
            return Ok(None);
        };
        if block.is_zero() {
            return match self.stream.block_or_end()? {
                Some(second) if !second.is_zero() => {
                    Err(self.stream.malformed("an end block in the middle of the archive"))
                }
                _ => {
                    self.state = State::Marked;
                    Ok(None)
                }
            };
        }
        if !block.checksum_fits() {
            return Err(self.stream.malformed("not a tar header: its checksum is wrong"));
        }
        Ok(Some(block))
    }

    fn global_header(&mut self, block: &Block) -> Result<(), Error> {
        let body = self.stream.extension(block)?;
        let records = pax::parse(&body).map_err(|what| self.stream.malformed(&what))?;
        for (key, value) in records.map {
            match &key[..] {
                b"mtime" | b"uid" | b"gid" | b"uname" | b"gname" => {
                    self.global.insert(key, value);
                }
                // One name, size or map for all entries is never meant.
                b"path" | b"linkpath" | b"size" => {
                    let what = format!("a global {:?} record", shown(&key));
                    return Err(self.stream.malformed(&what));
                }
                _ if key.starts_with(b"GNU.sparse.") => {
                    return Err(self.stream.malformed("a global sparse map"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn entry(&mut self, block: &Block, pending: Pending) -> Result<(Header, Vec<Extent>), Error> {
        let mut records = pending.records.unwrap_or_default();
        let sparse = sparse::announced(&records).map_err(|what| self.stream.malformed(&what))?;
        let fields = Fields { block, local: &records.map, global: &self.global };
        let (mut header, stored) =
            fields.header(pending.path, pending.link).map_err(|what| self.stream.malformed(&what))?;
        self.stream.inside = format!("the header of {:?}", shown(&header.path));
        self.stream.begin(if has_content(header.kind) { stored } else { 0 });
        let extents = self.extents(block, &mut header, &records, sparse)?;
        header.xattrs = pax::xattrs(&records.map).map_err(|what| self.stream.malformed(&what))?;
        records.map.retain(|key, _| !key.starts_with(b"GNU.sparse."));
        header.pax = records.map;
        Ok((header, extents))
    }

    /// Which parts of the file are stored; sets its full size.
    fn extents(
        &mut self,
        block: &Block,
        header: &mut Header,
        records: &Records,
        sparse: Announced,
    ) -> Result<Vec<Extent>, Error> {
        let old = block.0[block::TYPE] == b'S';
        let mut extents = match sparse {
            Announced::None if old => self.old_sparse(block, header)?,
            Announced::None => {
                header.size = self.stream.left;
                return Ok(vec![Extent { offset: 0, len: header.size }; usize::from(header.size > 0)]);
            }
            _ if old || header.kind != Kind::File => {
                return Err(self.stream.malformed("a sparse map for something that is not a file"));
            }
            Announced::Here(extents) => {
                header.size = self.sparse_size(records)?;
                extents
            }
            Announced::InContent => {
                header.size = self.sparse_size(records)?;
                self.stream.map_in_content()?
            }
        };
        sparse::check(&mut extents, header.size, self.stream.left)
            .map_err(|what| self.stream.malformed(&what))?;
        Ok(extents)
    }

    fn sparse_size(&self, records: &Records) -> Result<u64, Error> {
        let given: Vec<_> = [&b"GNU.sparse.realsize"[..], b"GNU.sparse.size"]
            .iter()
            .filter_map(|key| records.map.get(*key))
            .map(|text| pax::decimal(text).filter(|size| i64::try_from(*size).is_ok()))
            .collect();
        match given[..] {
            [Some(size)] => Ok(size),
            [Some(size), Some(same)] if size == same => Ok(size),
            _ => Err(self.stream.malformed("a sparse map without a proper file size")),
        }
    }

    /// The old format: a map in the header and in blocks after it, which the stored size does not count.
    fn old_sparse(&mut self, block: &Block, header: &mut Header) -> Result<Vec<Extent>, Error> {
        let first = (block.dialect() == Dialect::Gnu).then(|| sparse::old_header(block)).flatten();
        let Some((size, mut extents, mut more)) = first else {
            return Err(self.stream.malformed("bad sparse header"));
        };
        while more {
            let extension = self.stream.block()?;
            more = sparse::old_extension(&extension, &mut extents)
                .ok_or_else(|| self.stream.malformed("bad sparse header"))?;
        }
        header.size = size;
        Ok(extents)
    }
}

/// Only these carry content; a size that others claim is not followed by any (as Go and Python read it).
fn has_content(kind: Kind) -> bool {
    matches!(kind, Kind::File | Kind::Other(_))
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.records.is_none() && self.path.is_none() && self.link.is_none()
    }
}

impl<R: Read> Stream<R> {
    fn malformed(&self, what: &str) -> Error {
        Error::Malformed { offset: self.header_at, what: what.to_owned() }
    }

    fn truncated(&self) -> Error {
        Error::Truncated(self.inside.clone())
    }

    /// `None` if the source ends right here.
    fn block_or_end(&mut self) -> Result<Option<Block>, Error> {
        let mut block = Block([0; BLOCK]);
        let mut filled = 0;
        while filled < BLOCK {
            match self.source.read(&mut block.0[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(self.truncated()),
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.offset += BLOCK as u64;
        Ok(Some(block))
    }

    fn block(&mut self) -> Result<Block, Error> {
        self.block_or_end()?.ok_or_else(|| self.truncated())
    }

    /// What follows is `stored` bytes of content.
    fn begin(&mut self, stored: u64) {
        self.left = stored;
        self.padding = stored.wrapping_neg() % BLOCK as u64;
    }

    fn skip_entry(&mut self) -> Result<(), Error> {
        // Content and padding apart: their sum may be more than 64 bits hold.
        while self.left > 0 || self.padding > 0 {
            let available = match self.source.fill_buf() {
                Ok([]) => return Err(self.truncated()),
                Ok(buffer) => buffer.len() as u64,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            let rest = if self.left > 0 { &mut self.left } else { &mut self.padding };
            let step = available.min(*rest);
            *rest -= step;
            self.source.consume(step as usize);
            self.offset += step;
        }
        Ok(())
    }

    /// Stored content of the current entry.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if want == 0 {
            return Ok(0);
        }
        let read = self.source.read(&mut buffer[..want])?;
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, self.truncated()));
        }
        self.left -= read as u64;
        self.offset += read as u64;
        Ok(read)
    }

    /// The whole body of an extended header.
    fn extension(&mut self, block: &Block) -> Result<Vec<u8>, Error> {
        let size = block.number(block::SIZE).and_then(|size| u64::try_from(size).ok());
        let size = size.filter(|size| *size <= MAX_EXTENDED).ok_or_else(|| {
            self.malformed(&format!("an extended header of more than {MAX_EXTENDED} bytes, or a bad size"))
        })?;
        "an extended header".clone_into(&mut self.inside);
        self.begin(size);
        let mut body = Vec::new();
        while self.left > 0 {
            let mut piece = [0; BLOCK];
            match self.read(&mut piece) {
                Ok(read) => body.extend_from_slice(&piece[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(self.truncated()),
                Err(error) => return Err(error.into()),
            }
        }
        self.skip_entry()?;
        Ok(body)
    }

    fn long_name(&mut self, block: &Block) -> Result<Vec<u8>, Error> {
        let body = self.extension(block)?;
        Ok(until_nul(&body).to_vec())
    }

    /// A 1.0 map: decimal lines, the first one their pairs' number, padded to a block.
    fn map_in_content(&mut self) -> Result<Vec<Extent>, Error> {
        let before = self.left;
        let count = self.map_number()?;
        if count > MAX_EXTENTS as u64 {
            return Err(self.malformed("a sparse map with too many extents"));
        }
        let mut numbers = Vec::new();
        for _ in 0..count * 2 {
            numbers.push(self.map_number()?);
        }
        let mut padding = (before - self.left).wrapping_neg() % BLOCK as u64;
        while padding > 0 {
            self.map_byte()?;
            padding -= 1;
        }
        Ok(sparse::pairs(&numbers))
    }

    fn map_number(&mut self) -> Result<u64, Error> {
        let mut digits = Vec::new();
        loop {
            match self.map_byte()? {
                b'\n' => break,
                digit if digits.len() < 20 => digits.push(digit),
                _ => return Err(self.malformed("bad sparse map")),
            }
        }
        pax::decimal(&digits).ok_or_else(|| self.malformed("bad sparse map"))
    }

    fn map_byte(&mut self) -> Result<u8, Error> {
        let mut byte = [0];
        loop {
            match self.read(&mut byte) {
                Ok(0) => return Err(self.malformed("bad sparse map")),
                Ok(_) => return Ok(byte[0]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(self.truncated()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// One entry. As [`Read`], its content with zeros for holes; a source that ends inside it is an error of kind
/// `UnexpectedEof`.
#[derive(Debug)]
pub struct Entry<'a, R> {
    header: Header,
    extents: Vec<Extent>,
    /// In the file, holes included.
    position: u64,
    /// The extent at or after `position`.
    extent: usize,
    stream: &'a mut Stream<R>,
}

impl<R: Read> Entry<'_, R> {
    /// What it says about itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The parts of the file that hold data, in order, none empty; one for a file that is not sparse.
    pub fn extents(&self) -> &[Extent] {
        &self.extents
    }

    /// The data of all extents, one after the other, without holes. Use this or [`Read`], not both.
    pub fn data(&mut self) -> Data<'_, R> {
        Data(self.stream)
    }
}

impl<R: Read> Read for Entry<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.extents.get(self.extent).is_some_and(|extent| extent.offset + extent.len <= self.position)
        {
            self.extent += 1;
        }
        let (until, hole) = match self.extents.get(self.extent) {
            Some(extent) if extent.offset > self.position => (extent.offset, true),
            Some(extent) => (extent.offset + extent.len, false),
            None => (self.header.size, true),
        };
        let want = usize::try_from(until - self.position).unwrap_or(usize::MAX).min(buffer.len());
        let read = if hole {
            buffer[..want].fill(0);
            want
        } else {
            self.stream.read(&mut buffer[..want])?
        };
        self.position += read as u64;
        Ok(read)
    }
}

/// The stored data of an entry: see [`Entry::data`].
#[derive(Debug)]
pub struct Data<'a, R>(&'a mut Stream<R>);

impl<R: Read> Read for Data<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}
