//! Sparse maps: which parts of a file an archive holds (GNU tar manual, "Storing Sparse Files").

use crate::{
    MAX_EXTENTS,
    block::{Block, Field, number},
    pax::{Records, decimal},
};

/// A part of a file that holds data; everything between extents reads as zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
}

const OLD_MAP: Field = 386..482;
const OLD_MORE: usize = 482;
const OLD_SIZE: Field = 483..495;
const EXTENSION_MAP: Field = 0..504;
const EXTENSION_MORE: usize = 504;

/// Which map an extended header announces.
pub(crate) enum Announced {
    None,
    /// 0.0 and 0.1: in the header itself.
    Here(Vec<Extent>),
    /// 1.0: at the start of the content.
    InContent,
}

pub(crate) fn announced(records: &Records) -> Result<Announced, String> {
    let get = |key: &[u8]| records.map.get(key).map(Vec::as_slice);
    match (get(b"GNU.sparse.major"), get(b"GNU.sparse.minor")) {
        (Some(b"1"), Some(b"0")) => return Ok(Announced::InContent),
        (None, None) | (Some(b"0"), Some(b"0" | b"1")) => {}
        _ => return Err("unknown version of a sparse map".to_owned()),
    }
    let numbers = match get(b"GNU.sparse.map") {
        Some([]) => Some(Vec::new()),
        Some(map) => map.split(|byte| *byte == b',').map(decimal).collect(),
        None if records.sparse.is_empty() && get(b"GNU.sparse.numblocks").is_none() => {
            return Ok(Announced::None);
        }
        None => Some(records.sparse.clone()),
    };
    let numbers = numbers.filter(|numbers| numbers.len().is_multiple_of(2));
    let extents = pairs(&numbers.ok_or("bad sparse map")?);
    if get(b"GNU.sparse.numblocks").is_some_and(|count| decimal(count) != Some(extents.len() as u64)) {
        return Err("a sparse map with fewer or more extents than announced".to_owned());
    }
    Ok(Announced::Here(extents))
}

pub(crate) fn pairs(numbers: &[u64]) -> Vec<Extent> {
    let pair = |pair: &[u64]| Extent { offset: pair[0], len: pair[1] };
    numbers.chunks_exact(2).map(pair).collect()
}

/// The map of format 1.0, padded to whole blocks. GNU tar marks a hole at the end by an empty extent there.
pub(crate) fn map(extents: &[Extent], size: u64) -> Vec<u8> {
    let end = extents.last().map_or(0, |last| last.offset + last.len);
    let last = (end < size).then_some(Extent { offset: size, len: 0 });
    let all: Vec<_> = extents.iter().copied().chain(last).collect();
    let mut map = format!("{}\n", all.len()).into_bytes();
    for Extent { offset, len } in all {
        map.extend_from_slice(format!("{offset}\n{len}\n").as_bytes());
    }
    map.resize(map.len().next_multiple_of(crate::block::BLOCK), 0);
    map
}

/// Size and first extents of an old GNU sparse header, and whether an extension block follows.
pub(crate) fn old_header(block: &Block) -> Option<(u64, Vec<Extent>, bool)> {
    let size = u64::try_from(number(&block.0[OLD_SIZE])?).ok()?;
    let mut extents = Vec::new();
    old_map(&block.0[OLD_MAP], &mut extents)?;
    Some((size, extents, block.0[OLD_MORE] != 0))
}

/// Adds an extension block's extents; whether another follows.
pub(crate) fn old_extension(block: &Block, extents: &mut Vec<Extent>) -> Option<bool> {
    old_map(&block.0[EXTENSION_MAP], extents)?;
    (extents.len() <= MAX_EXTENTS).then_some(block.0[EXTENSION_MORE] != 0)
}

fn old_map(map: &[u8], extents: &mut Vec<Extent>) -> Option<()> {
    for pair in map.chunks_exact(24) {
        if pair[0] == 0 || pair[12] == 0 {
            break;
        }
        extents.push(Extent {
            offset: u64::try_from(number(&pair[..12])?).ok()?,
            len: u64::try_from(number(&pair[12..])?).ok()?,
        });
    }
    Some(())
}

/// Extents must be in order, apart, inside the file, and add up to what the archive stores. Empty ones (GNU tar
/// marks a hole at the end by one) are dropped.
pub(crate) fn check(extents: &mut Vec<Extent>, size: u64, stored: u64) -> Result<(), String> {
    let (mut end, mut sum) = (0_u64, 0_u64);
    for extent in &*extents {
        let next = extent.offset.checked_add(extent.len).filter(|next| *next <= size);
        match next {
            Some(next) if extent.offset >= end => end = next,
            _ => return Err("a sparse map with overlapping or misplaced extents".to_owned()),
        }
        sum += extent.len;
    }
    if sum != stored {
        return Err(format!("a sparse map of {sum} bytes over content of {stored}"));
    }
    extents.retain(|extent| extent.len > 0);
    Ok(())
}
