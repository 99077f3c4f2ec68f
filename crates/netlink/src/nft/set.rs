//! Sets and maps: the cost of a lookup does not grow with what is in them.

use crate::message::Message;

use super::{Verdict, expression::VALUE};

/// `NFT_SET_*`
const INTERVAL: u32 = 0x4;
const MAP: u32 = 0x8;
const CONCATENATION: u32 = 0x80;
/// `NFT_DATA_VERDICT`
const OF_VERDICTS: u32 = 0xffff_ff00;
/// `NFTA_LIST_ELEM`
pub(super) const ITEM: u16 = 1;

/// A part of a key, or of what a map gives: the number by which `nft(8)` knows its type, and its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // Named as `nft(8)` does.
pub enum Key {
    Ipv4Address,
    Ipv6Address,
    Protocol,
    Port,
    InterfaceName,
    Mark,
}

impl Key {
    fn number(self) -> u32 {
        match self {
            Self::Ipv4Address => 7,
            Self::Ipv6Address => 8,
            Self::Protocol => 12,
            Self::Port => 13,
            Self::Mark => 19,
            Self::InterfaceName => 41,
        }
    }

    fn length(self) -> u32 {
        match self {
            Self::Ipv4Address | Self::Mark => 4,
            Self::Ipv6Address | Self::InterfaceName => 16,
            Self::Protocol => 1,
            Self::Port => 2,
        }
    }
}

/// What a map gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mapped {
    /// Values.
    Values(Vec<Key>),
    /// Verdicts.
    Verdicts,
}

/// A set, or with `gives` a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// At most 31 bytes here.
    pub name: String,
    /// The parts of a key; each begins at a register of its own.
    pub key: Vec<Key>,
    /// Of a map.
    pub gives: Option<Mapped>,
    /// Keys may be ranges.
    pub interval: bool,
}

/// A key in a set, with what it is mapped to in a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// The parts one after another, each padded to four bytes: see [`Element::key`].
    pub key: Vec<u8>,
    /// The last key of a range.
    pub end: Option<Vec<u8>>,
    /// What a map of values gives.
    pub value: Option<Vec<u8>>,
    /// What a map of verdicts gives.
    pub verdict: Option<Verdict>,
    /// No key itself, but where the interval of the key before it has ended.
    pub closes: bool,
}

impl Element {
    /// Joins the parts of a key or of a value.
    pub fn join(parts: &[&[u8]]) -> Vec<u8> {
        let mut whole = Vec::new();
        for part in parts {
            whole.extend_from_slice(part);
            if parts.len() > 1 {
                whole.resize(whole.len().next_multiple_of(4), 0);
            }
        }
        whole
    }

    /// One key.
    pub fn key(parts: &[&[u8]]) -> Self {
        Self { key: Self::join(parts), end: None, value: None, verdict: None, closes: false }
    }

    /// All keys from `first` to `last` of a set whose key has one part, whose intervals have two elements.
    pub fn interval(first: &[u8], last: &[u8]) -> Vec<Self> {
        let mut after = last.to_vec();
        let carried = after.iter_mut().rev().all(|byte| {
            *byte = byte.wrapping_add(1);
            *byte == 0
        });
        let mut both = vec![Self::key(&[first])];
        // What reaches to the last key of all needs no end.
        both.extend((!carried).then(|| Self { closes: true, ..Self::key(&[&after]) }));
        both
    }

    /// All keys from `first` to `last`, part by part; for keys of several parts.
    pub fn range(first: &[&[u8]], last: &[&[u8]]) -> Self {
        Self { end: Some(Self::join(last)), ..Self::key(first) }
    }

    /// In a map of values.
    #[must_use]
    pub fn to(self, parts: &[&[u8]]) -> Self {
        Self { value: Some(Self::join(parts)), ..self }
    }

    /// In a map of verdicts.
    #[must_use]
    pub fn then(self, verdict: Verdict) -> Self {
        Self { verdict: Some(verdict), ..self }
    }

    /// Bytes on the wire, at most.
    pub(super) fn size(&self) -> usize {
        let parts = [Some(&self.key), self.end.as_ref(), self.value.as_ref()];
        64 + parts.into_iter().flatten().map(Vec::len).sum::<usize>()
    }

    pub(super) fn put(&self, to: Message) -> Message {
        let mut to = to.nest(1, |key| key.with(VALUE, &self.key));
        if self.closes {
            // `NFT_SET_ELEM_INTERVAL_END`
            to = to.with(3, &1u32.to_be_bytes());
        }
        if let Some(end) = &self.end {
            to = to.nest(10, |key| key.with(VALUE, end));
        }
        if let Some(value) = &self.value {
            to = to.nest(2, |data| data.with(VALUE, value));
        }
        if let Some(verdict) = &self.verdict {
            to = to.nest(2, |data| verdict.put(data));
        }
        to
    }
}

/// The type and the bytes of several parts: in a concatenation each is padded to a register.
fn of(parts: &[Key]) -> (u32, u32) {
    let number = parts.iter().fold(0, |number, part| number << 6 | part.number());
    let padded = |part: &Key| if parts.len() > 1 { part.length().next_multiple_of(4) } else { part.length() };
    (number, parts.iter().map(padded).sum())
}

impl Set {
    /// Appends everything after the table's name.
    pub(super) fn put(&self, to: Message, id: u32) -> Message {
        let several = self.key.len() > 1;
        let mut flags = 0;
        for (wanted, flag) in [
            (self.interval, INTERVAL),
            (self.gives.is_some(), MAP),
            (several && self.interval, CONCATENATION),
        ] {
            flags |= if wanted { flag } else { 0 };
        }
        let (kind, length) = of(&self.key);
        let to = to
            .with(2, self.name.as_str())
            .with(3, &flags.to_be_bytes())
            .with(4, &kind.to_be_bytes())
            .with(5, &length.to_be_bytes())
            .with(10, &id.to_be_bytes());
        let to = match &self.gives {
            None => to,
            Some(Mapped::Verdicts) => to.with(6, &OF_VERDICTS.to_be_bytes()),
            Some(Mapped::Values(parts)) => {
                let (kind, length) = of(parts);
                to.with(6, &kind.to_be_bytes()).with(7, &length.to_be_bytes())
            }
        };
        // How `nft(8)` is to read keys (`NFTNL_UDATA_SET_KEYBYTEORDER`): in the host's order, or the network's.
        let host = matches!(self.key[..], [Key::InterfaceName | Key::Mark]);
        let order: u32 = if host { 1 } else { 2 };
        let to = to.with(13, &[&[0, 4], &order.to_ne_bytes()[..]].concat());
        if !(several && self.interval) {
            return to;
        }
        // `NFTA_SET_DESC_CONCAT`: the length of each field.
        to.nest(9, |description| {
            description.nest(2, |fields| {
                self.key.iter().fold(fields, |fields, part| {
                    fields.nest(ITEM, |field| field.with(1, &part.length().to_be_bytes()))
                })
            })
        })
    }
}
