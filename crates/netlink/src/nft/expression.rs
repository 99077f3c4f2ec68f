//! What a rule is made of: loads into registers, comparisons, lookups, and what becomes of the packet.

use crate::message::Message;

/// `NFTA_EXPR_NAME`, `NFTA_EXPR_DATA`
const NAME: u16 = 1;
const DATA: u16 = 2;
/// `NFTA_DATA_VALUE`, `NFTA_DATA_VERDICT`
pub(super) const VALUE: u16 = 1;
const VERDICT: u16 = 2;
/// `NFT_REG32_00`: the first of sixteen registers of four bytes.
const FIRST: u32 = 8;

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on, past the rest of this chain.
    Accept,
    /// It is gone.
    Drop,
    /// Back to the chain that jumped here.
    Return,
    /// To a chain, and then back.
    Jump(String),
    /// To a chain, for good.
    Goto(String),
}

impl Verdict {
    /// Appends `NFTA_DATA_VERDICT`.
    pub(super) fn put(&self, to: Message) -> Message {
        let (code, chain) = match self {
            Self::Accept => (1, None),
            Self::Drop => (0, None),
            Self::Return => (-5, None),
            Self::Jump(chain) => (-3, Some(chain)),
            Self::Goto(chain) => (-4, Some(chain)),
        };
        to.nest(VERDICT, |verdict| {
            verdict.with(1, &i32::to_be_bytes(code)).with_some(2, chain.map(String::as_str))
        })
    }
}

/// Something of a packet that can be loaded into registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // Named as `nft(8)` does.
pub enum Field {
    /// `meta KEY`: the kernel's number of it, and bytes.
    Meta(u32, u32),
    /// `ct KEY`
    Connection(u32, u32),
    /// Base (0 link, 1 network, 2 transport), offset, bytes.
    Payload(u32, u32, u32),
    /// Kind of the destination address, as routing sees it (`RTN_*`).
    FibDestinationType,
    /// Kind of the source address, as routing sees it.
    FibSourceType,
}

/// Fields by their names in `nft(8)`.
pub mod field {
    #![allow(missing_docs)]
    use super::Field;

    pub const MARK: Field = Field::Meta(3, 4);
    pub const IN_INTERFACE: Field = Field::Meta(6, 16);
    pub const OUT_INTERFACE: Field = Field::Meta(7, 16);
    pub const FAMILY: Field = Field::Meta(15, 1);
    pub const PROTOCOL: Field = Field::Meta(16, 1);
    pub const CT_STATE: Field = Field::Connection(0, 4);
    pub const CT_STATUS: Field = Field::Connection(2, 4);
    pub const CT_MARK: Field = Field::Connection(3, 4);
    pub const IP_SOURCE: Field = Field::Payload(1, 12, 4);
    pub const IP_DESTINATION: Field = Field::Payload(1, 16, 4);
    pub const IP6_SOURCE: Field = Field::Payload(1, 8, 16);
    pub const IP6_DESTINATION: Field = Field::Payload(1, 24, 16);
    pub const SOURCE_PORT: Field = Field::Payload(2, 0, 2);
    pub const DESTINATION_PORT: Field = Field::Payload(2, 2, 2);
    pub const ICMPV6_TYPE: Field = Field::Payload(2, 0, 1);
    pub const ETHER_SOURCE: Field = Field::Payload(0, 6, 6);
    pub const ETHER_TYPE: Field = Field::Payload(0, 12, 2);
}

impl Field {
    /// Bytes of its value.
    pub fn length(self) -> u32 {
        match self {
            Self::Meta(_, length) | Self::Connection(_, length) | Self::Payload(_, _, length) => length,
            Self::FibDestinationType | Self::FibSourceType => 4,
        }
    }

    /// How many registers it takes.
    pub fn registers(self) -> u32 {
        self.length().div_ceil(4)
    }
}

/// How a value is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Compare {
    Equal = 0,
    Unequal = 1,
    Less = 2,
    LessOrEqual = 3,
    Greater = 4,
    GreaterOrEqual = 5,
}

/// Which address a translation changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nat {
    /// Who sent it.
    Source = 0,
    /// Who gets it.
    Destination = 1,
}

/// One step of a rule. Registers are counted from 0, four bytes each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expression {
    /// Loads a field.
    Load(Field, u32),
    /// Goes on only if the value at a register compares so.
    Compare(u32, Compare, Vec<u8>),
    /// `value & mask`, in place.
    Mask(u32, Vec<u8>),
    /// Goes on only if the registers from here on are (or, if false, are not) in a set.
    InSet(u32, String, bool),
    /// Goes on only if the registers are in a map, and loads what stands there (from the register given second); a map
    /// of verdicts takes its verdict.
    Map(u32, String, Option<u32>),
    /// Puts a value into registers.
    Immediate(u32, Vec<u8>),
    /// Translates to the address and, if there is one, the port at these registers; `true` is IPv4.
    Translate(Nat, bool, u32, Option<u32>),
    /// Translates the source to the address of the link that the packet leaves by.
    Masquerade,
    /// Sets the packet's mark from a register.
    SetMark(u32),
    /// Sets the connection's mark from a register.
    SetConnectionMark(u32),
    /// Counts packets and bytes.
    Counter,
    /// Answers "administratively prohibited".
    Reject,
    /// Ends the rule.
    Verdict(Verdict),
}

/// Loads `field` and goes on only if it is `value`.
pub fn matches(field: Field, value: &[u8]) -> [Expression; 2] {
    let mut whole = value.to_vec();
    // Names are compared to the end of the register.
    whole.resize(field.length() as usize, 0);
    [Expression::Load(field, 0), Expression::Compare(0, Compare::Equal, whole)]
}

fn register(number: u32) -> [u8; 4] {
    (FIRST + number).to_be_bytes()
}

fn be(number: u32) -> [u8; 4] {
    number.to_be_bytes()
}

impl Expression {
    /// Appends `NFTA_EXPR_NAME` and `NFTA_EXPR_DATA`.
    pub(super) fn put(&self, to: Message) -> Message {
        to.with(NAME, self.name()).nest(DATA, |data| self.data(data))
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Load(Field::Meta(..), _) | Self::SetMark(_) => "meta",
            Self::Load(Field::Connection(..), _) | Self::SetConnectionMark(_) => "ct",
            Self::Load(Field::Payload(..), _) => "payload",
            Self::Load(Field::FibDestinationType | Field::FibSourceType, _) => "fib",
            Self::Compare(..) => "cmp",
            Self::Mask(..) => "bitwise",
            Self::InSet(..) | Self::Map(..) => "lookup",
            Self::Immediate(..) | Self::Verdict(_) => "immediate",
            Self::Translate(..) => "nat",
            Self::Masquerade => "masq",
            Self::Counter => "counter",
            Self::Reject => "reject",
        }
    }

    fn data(&self, data: Message) -> Message {
        match self {
            Self::Load(field, to) => load(*field, *to, data),
            Self::Compare(from, how, value) => data
                .with(1, &register(*from))
                .with(2, &be(*how as u32))
                .nest(3, |operand| operand.with(VALUE, value)),
            Self::Mask(at, mask) => mask_with(*at, mask, data),
            Self::InSet(from, set, inside) => {
                let flags = be(u32::from(!inside));
                data.with(1, set.as_str()).with(2, &register(*from)).with(5, &flags)
            }
            Self::Map(from, map, to) => {
                // Register 0 is the verdict's.
                let to = to.map_or(be(0), register);
                data.with(1, map.as_str()).with(2, &register(*from)).with(3, &to)
            }
            Self::Immediate(to, value) => {
                data.with(1, &register(*to)).nest(2, |operand| operand.with(VALUE, value))
            }
            Self::Verdict(verdict) => data.with(1, &be(0)).nest(2, |operand| verdict.put(operand)),
            Self::Translate(kind, ipv4, address, port) => {
                let family = if *ipv4 { 2 } else { 10 };
                data.with(1, &be(*kind as u32))
                    .with(2, &be(family))
                    .with(3, &register(*address))
                    .with_some(5, port.map(register).as_ref())
            }
            // `NFT_META_MARK`, `NFT_CT_MARK`
            Self::SetMark(from) | Self::SetConnectionMark(from) => {
                let source = if matches!(self, Self::SetMark(_)) { 3 } else { 4 };
                data.with(2, &be(3)).with(source, &register(*from))
            }
            // `NFT_REJECT_ICMPX_UNREACH`, `NFT_REJECT_ICMPX_ADMIN_PROHIBITED`
            Self::Reject => data.with(1, &be(2)).with(2, &3u8),
            Self::Masquerade | Self::Counter => data,
        }
    }
}

fn load(field: Field, to: u32, data: Message) -> Message {
    match field {
        Field::Meta(key, _) | Field::Connection(key, _) => data.with(1, &register(to)).with(2, &be(key)),
        Field::Payload(base, offset, length) => {
            data.with(1, &register(to)).with(2, &be(base)).with(3, &be(offset)).with(4, &be(length))
        }
        // `NFT_FIB_RESULT_ADDRTYPE` of `NFTA_FIB_F_SADDR` or `NFTA_FIB_F_DADDR`.
        Field::FibSourceType | Field::FibDestinationType => {
            let which = if field == Field::FibSourceType { 1 } else { 2 };
            data.with(1, &register(to)).with(2, &be(3)).with(3, &be(which))
        }
    }
}

fn mask_with(at: u32, mask: &Vec<u8>, data: Message) -> Message {
    data.with(1, &register(at))
        .with(2, &register(at))
        .with(3, &be(mask.len() as u32))
        .nest(4, |operand| operand.with(VALUE, mask))
        .nest(5, |operand| operand.with(VALUE, &vec![0; mask.len()]))
}
