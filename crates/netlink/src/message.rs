//! Netlink's wire format: a header, a fixed part, then attributes, all padded to four bytes (`netlink(7)`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// `struct nlmsghdr`
pub(crate) const HEADER: usize = 16;
/// `NLA_F_NESTED`: the attribute holds attributes.
const NESTED: u16 = 1 << 15;
/// The kind of an attribute, without its flags.
const KIND: u16 = !(NESTED | 1 << 14);

/// `NLM_F_*` of `linux/netlink.h`.
pub(crate) mod flag {
    pub(crate) const REQUEST: u16 = 0x1;
    pub(crate) const ACK: u16 = 0x4;
    pub(crate) const DUMP: u16 = 0x300;
    pub(crate) const REPLACE: u16 = 0x100;
    pub(crate) const EXCL: u16 = 0x200;
    pub(crate) const CREATE: u16 = 0x400;
    pub(crate) const APPEND: u16 = 0x800;
}

/// Something that can be an attribute's payload. Numbers are in the host's order; hand in `to_be_bytes()` where the
/// kernel wants the network's.
pub trait Value {
    /// Appends the payload.
    fn put(&self, to: &mut Vec<u8>);
}

impl Value for [u8] {
    fn put(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(self);
    }
}

impl<const N: usize> Value for [u8; N] {
    fn put(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(self);
    }
}

impl Value for Vec<u8> {
    fn put(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(self);
    }
}

/// Ends with a NUL byte, as the kernel wants names.
impl Value for str {
    fn put(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(self.as_bytes());
        to.push(0);
    }
}

impl Value for IpAddr {
    fn put(&self, to: &mut Vec<u8>) {
        match self {
            IpAddr::V4(address) => to.extend_from_slice(&address.octets()),
            IpAddr::V6(address) => to.extend_from_slice(&address.octets()),
        }
    }
}

macro_rules! numbers {
    ($($number:ty)*) => {$(
        impl Value for $number {
            fn put(&self, to: &mut Vec<u8>) {
                to.extend_from_slice(&self.to_ne_bytes());
            }
        }
    )*};
}
numbers!(u8 u16 u32 u64 i32);

/// A request under construction.
#[derive(Debug, Clone)]
pub struct Message(Vec<u8>);

impl Message {
    /// A request of `kind` with `NLM_F_*` flags beyond `REQUEST`.
    pub fn new(kind: u16, flags: u16) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags | flag::REQUEST).to_ne_bytes());
        Self(bytes)
    }

    /// Appends the fixed part that follows the header.
    #[must_use]
    pub fn fixed(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self.pad();
        self
    }

    /// Appends an attribute.
    #[must_use]
    pub fn with(mut self, kind: u16, value: &(impl Value + ?Sized)) -> Self {
        let start = self.open(kind);
        value.put(&mut self.0);
        self.close(start);
        self
    }

    /// Appends an attribute if there is a value.
    #[must_use]
    pub fn with_some(self, kind: u16, value: Option<&(impl Value + ?Sized)>) -> Self {
        match value {
            Some(value) => self.with(kind, value),
            None => self,
        }
    }

    /// Appends an attribute that holds what `fill` appends.
    #[must_use]
    pub fn nest(mut self, kind: u16, fill: impl FnOnce(Self) -> Self) -> Self {
        let start = self.open(kind | NESTED);
        let mut filled = fill(self);
        filled.close(start);
        filled
    }

    fn open(&mut self, kind: u16) -> usize {
        let start = self.0.len();
        self.0.extend_from_slice(&[0, 0]);
        self.0.extend_from_slice(&kind.to_ne_bytes());
        start
    }

    fn close(&mut self, start: usize) {
        // Callers put names and addresses here; nothing of this size comes from outside.
        let length = (self.0.len() - start) as u16;
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.pad();
    }

    fn pad(&mut self) {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    /// Whether this asks for a dump.
    pub(crate) fn is_dump(&self) -> bool {
        u16::from_ne_bytes([self.0[6], self.0[7]]) & flag::DUMP == flag::DUMP
    }

    /// The bytes to send, numbered and with more flags.
    pub(crate) fn finish(mut self, sequence: u32, flags: u16) -> Vec<u8> {
        let length = self.0.len() as u32;
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        let flags = u16::from_ne_bytes([self.0[6], self.0[7]]) | flags;
        self.0[6..8].copy_from_slice(&flags.to_ne_bytes());
        self.0[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.0
    }
}

/// Attributes, read one after another up to the first that is malformed.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    /// Those in `bytes`, which begin with one.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The payload of the first attribute of `kind`.
    pub fn get(self, kind: u16) -> Option<&'a [u8]> {
        self.iter().find_map(|(found, value)| (found == kind).then_some(value))
    }

    /// The attributes with their kinds.
    pub fn iter(self) -> impl Iterator<Item = (u16, &'a [u8])> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let &[length_low, length_high, kind_low, kind_high] = rest.first_chunk::<4>()?;
            let length = usize::from(u16::from_ne_bytes([length_low, length_high]));
            let value = rest.get(4..length)?;
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            Some((u16::from_ne_bytes([kind_low, kind_high]) & KIND, value))
        })
    }

    /// The attributes inside the first attribute of `kind`; none if it is not there.
    #[must_use]
    pub fn nested(self, kind: u16) -> Attributes<'a> {
        Attributes(self.get(kind).unwrap_or_default())
    }

    /// A number in the host's order.
    pub fn u32(self, kind: u16) -> Option<u32> {
        Some(u32::from_ne_bytes(self.get(kind)?.first_chunk().copied()?))
    }

    /// A name; what is not UTF-8 is replaced.
    pub fn text(self, kind: u16) -> Option<String> {
        let bytes = self.get(kind)?;
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
    }

    /// An address of either family, by its length.
    pub fn address(self, kind: u16) -> Option<IpAddr> {
        let bytes = self.get(kind)?;
        match bytes.len() {
            4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into()),
            16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into()),
            _ => None,
        }
    }

    /// A hardware address.
    pub fn mac(self, kind: u16) -> Option<[u8; 6]> {
        self.get(kind)?.try_into().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let message = Message::new(16, flag::CREATE)
            .fixed(&[7])
            .with(3, "lo")
            .nest(18, |nest| nest.with(1, "veth").with(2, &5u32))
            .with_some(9, None::<&u8>)
            .with(4, &IpAddr::from([10, 0, 0, 1]));
        let bytes = message.finish(99, flag::ACK);
        assert_eq!(u32::from_ne_bytes(bytes[..4].try_into().unwrap()) as usize, bytes.len());
        assert_eq!(u16::from_ne_bytes(bytes[6..8].try_into().unwrap()), 0x405);
        let attributes = Attributes::new(&bytes[HEADER + 4..]);
        assert_eq!(attributes.text(3).unwrap(), "lo");
        assert_eq!(attributes.nested(18).text(1).unwrap(), "veth");
        assert_eq!(attributes.nested(18).u32(2), Some(5));
        assert_eq!(attributes.address(4), Some([10, 0, 0, 1].into()));
        assert_eq!(attributes.get(9), None);
    }

    #[test]
    fn malformed_attributes_end_the_list() {
        for bytes in [&[][..], &[3, 0, 1, 0], &[9, 0, 1, 0, 1], &[0, 0, 1, 0], &[4]] {
            assert_eq!(Attributes::new(bytes).iter().count(), 0, "{bytes:?}");
        }
    }
}
