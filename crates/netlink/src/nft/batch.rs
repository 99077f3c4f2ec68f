//! Several changes that happen together.

use rustix::{io::Errno, net::sockopt};

use super::{Element, Expression, Family, Set, set::ITEM};
use crate::{
    Socket,
    error::{Error, Result},
    message::{Message, flag},
    socket::Answer,
};

/// `NFNL_SUBSYS_NFTABLES`
const NFTABLES: u16 = 10;
/// `NFNL_MSG_BATCH_BEGIN`, `NFNL_MSG_BATCH_END`
const BEGIN: u16 = 0x10;
const END: u16 = 0x11;
/// Elements are cut into messages that stay below an attribute's 64 KiB.
const PIECE: usize = 32 << 10;

/// `NFT_MSG_*`
mod nft {
    pub(super) const NEW_TABLE: u16 = 0;
    pub(super) const DELETE_TABLE: u16 = 2;
    pub(super) const NEW_CHAIN: u16 = 3;
    pub(super) const DELETE_CHAIN: u16 = 5;
    pub(super) const NEW_RULE: u16 = 6;
    pub(super) const DELETE_RULE: u16 = 8;
    pub(super) const NEW_SET: u16 = 9;
    pub(super) const NEW_ELEMENTS: u16 = 12;
    pub(super) const DELETE_ELEMENTS: u16 = 14;
    pub(super) const GET_GENERATION: u16 = 16;
}

/// Where a base chain sees packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // The kernel's words.
pub enum Hook {
    Prerouting = 0,
    Input = 1,
    Forward = 2,
    Output = 3,
    Postrouting = 4,
}

/// What a base chain is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Type {
    Filter,
    Nat,
}

/// What becomes of packets at the end of a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Policy {
    Drop = 0,
    Accept = 1,
}

/// A chain of rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Unique in its table.
    pub name: String,
    /// Type, hook, priority (lower is earlier) and policy of a base chain; others are jumped to.
    pub base: Option<(Type, Hook, i32, Policy)>,
}

impl Chain {
    /// One that others jump to.
    pub fn plain(name: &str) -> Self {
        Self { name: name.to_owned(), base: None }
    }
}

/// Changes to one table that happen together or not at all.
#[derive(Debug)]
pub struct Batch {
    family: Family,
    table: String,
    messages: Vec<Message>,
    sets: u32,
}

impl Batch {
    /// Nothing yet, to `table`.
    pub fn new(family: Family, table: &str) -> Self {
        Self { family, table: table.to_owned(), messages: Vec::new(), sets: 0 }
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    fn message(&self, kind: u16, flags: u16) -> Message {
        Message::new(NFTABLES << 8 | kind, flags)
            .fixed(&[self.family as u8, 0, 0, 0])
            .with(1, self.table.as_str())
    }

    /// Makes the table; one that is there stays as it is.
    pub fn add_table(&mut self) -> &mut Self {
        self.messages.push(self.message(nft::NEW_TABLE, flag::CREATE));
        self
    }

    /// Makes the table anew and empty, whatever it was before.
    pub fn replace_table(&mut self) -> &mut Self {
        self.add_table().delete_table().add_table()
    }

    /// Removes the table with everything in it.
    pub fn delete_table(&mut self) -> &mut Self {
        self.messages.push(self.message(nft::DELETE_TABLE, 0));
        self
    }

    /// Makes a chain; one that is there stays as it is.
    pub fn add_chain(&mut self, chain: &Chain) -> &mut Self {
        let message = self.message(nft::NEW_CHAIN, flag::CREATE).with(3, chain.name.as_str());
        self.messages.push(match chain.base {
            None => message,
            Some((kind, hook, priority, policy)) => message
                .nest(4, |at| at.with(1, &(hook as u32).to_be_bytes()).with(2, &priority.to_be_bytes()))
                .with(5, &(policy as u32).to_be_bytes())
                .with(7, if kind == Type::Nat { "nat" } else { "filter" }),
        });
        self
    }

    /// Removes every rule of a chain.
    pub fn flush_chain(&mut self, chain: &str) -> &mut Self {
        self.messages.push(self.message(nft::DELETE_RULE, 0).with(2, chain));
        self
    }

    /// Removes a chain without rules.
    pub fn delete_chain(&mut self, chain: &str) -> &mut Self {
        self.messages.push(self.message(nft::DELETE_CHAIN, 0).with(3, chain));
        self
    }

    /// Appends a rule to a chain. The comment, at most 127 bytes, is for whoever reads the rules.
    pub fn add_rule(&mut self, chain: &str, comment: &str, expressions: &[Expression]) -> &mut Self {
        let message = self.message(nft::NEW_RULE, flag::CREATE | flag::APPEND).with(2, chain);
        let message = message.nest(4, |list| {
            expressions.iter().fold(list, |list, expression| list.nest(ITEM, |item| expression.put(item)))
        });
        // As `nft(8)` keeps comments: type 0, length, text with its NUL.
        let note = || {
            let text = &comment.as_bytes()[..comment.floor_char_boundary(127)];
            [&[0, text.len() as u8 + 1], text, &[0]].concat()
        };
        self.messages.push(message.with_some(7, (!comment.is_empty()).then(note).as_ref()));
        self
    }

    /// Makes a set or map; one that is there and alike stays.
    pub fn add_set(&mut self, set: &Set) -> &mut Self {
        self.sets += 1;
        self.messages.push(set.put(self.message(nft::NEW_SET, flag::CREATE), self.sets));
        self
    }

    /// Puts elements into a set; what is there already and alike is fine.
    pub fn add_elements(&mut self, set: &str, elements: &[Element]) -> &mut Self {
        self.elements(nft::NEW_ELEMENTS, flag::CREATE, set, elements)
    }

    /// Takes elements out of a set; one that is not there fails the batch.
    pub fn delete_elements(&mut self, set: &str, elements: &[Element]) -> &mut Self {
        self.elements(nft::DELETE_ELEMENTS, 0, set, elements)
    }

    /// Takes every element out of a set.
    pub fn flush_set(&mut self, set: &str) -> &mut Self {
        self.messages.push(self.message(nft::DELETE_ELEMENTS, 0).with(2, set));
        self
    }

    fn elements(&mut self, kind: u16, flags: u16, set: &str, mut elements: &[Element]) -> &mut Self {
        while !elements.is_empty() {
            let mut size = 0;
            let fits = |element: &&Element| {
                size += element.size();
                size <= PIECE
            };
            let count = elements.iter().take_while(fits).count().max(1);
            let (now, later) = elements.split_at(count);
            let message = self.message(kind, flags).with(2, set);
            self.messages.push(message.nest(3, |list| {
                now.iter().fold(list, |list, element| list.nest(ITEM, |item| element.put(item)))
            }));
            elements = later;
        }
        self
    }
}

/// The bare `nfgenmsg` of a batch's first and last message.
fn edge(kind: u16) -> Message {
    Message::new(kind, 0).fixed(&[0, 0, 0, NFTABLES as u8])
}

impl Socket {
    /// Does all of a batch at once, or nothing of it. `what`, in the infinitive, is for the error.
    pub fn commit(&mut self, batch: Batch, what: impl FnOnce() -> String) -> Result<()> {
        let Some(last) = batch.messages.len().checked_sub(1) else { return Ok(()) };
        let first = self.next_sequence();
        let mut bytes = edge(BEGIN).finish(first, 0);
        let mut sequence = first;
        for (number, message) in batch.messages.into_iter().enumerate() {
            sequence = self.next_sequence();
            // The kernel answers in order, and anything that fails; the last answer ends the list.
            bytes.extend(message.finish(sequence, if number == last { flag::ACK } else { 0 }));
        }
        let end = self.next_sequence();
        bytes.extend(edge(END).finish(end, 0));
        self.make_room(bytes.len())?;
        self.send(&bytes)?;
        self.outcome(first, sequence, what)
    }

    /// A batch is one datagram, however long.
    fn make_room(&self, length: usize) -> Result<()> {
        let has = sockopt::socket_send_buffer_size(self).map_err(Error::io("set a netlink socket up"))?;
        if length < has / 2 {
            return Ok(());
        }
        sockopt::set_socket_send_buffer_size_force(self, length * 2)
            .map_err(Error::io("set a netlink socket up"))
    }

    fn outcome(&mut self, first: u32, last: u32, what: impl FnOnce() -> String) -> Result<()> {
        let mut refused: Option<(Errno, String)> = None;
        loop {
            for (sequence, answer) in self.receive_numbered(first)? {
                if let Answer::Refused(errno, said) = answer {
                    refused.get_or_insert((errno, said));
                }
                if sequence == last {
                    let Some((errno, said)) = refused else { return Ok(()) };
                    return Err(Error::Refused { what: what(), errno, said });
                }
            }
        }
    }

    /// A number that changes with every change of any packet rule of the namespace.
    pub fn generation(&mut self) -> Result<u32> {
        let message = Message::new(NFTABLES << 8 | nft::GET_GENERATION, 0).fixed(&[0; 4]);
        let what = || "ask for the packet rules' generation".to_owned();
        let replies = self.get(message, what)?;
        let number = replies.iter().find_map(|reply| reply.attributes(4).get(1)?.first_chunk().copied());
        number.map(u32::from_be_bytes).ok_or_else(|| Error::Malformed { what: what() })
    }
}
