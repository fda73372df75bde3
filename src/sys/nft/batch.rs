//! What is to change, in one step.

use crate::netlink::{Ack, Buffer};

use super::error::NftError;
use super::expr::{Expr, Verdict};
use super::family::Family;
use super::messages::{
    DELETE_ELEMENT, DELETE_TABLE, NEW_CHAIN, NEW_ELEMENT, NEW_RULE, NEW_SET, NEW_TABLE, SUBSYSTEM, header,
};

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// Elements per message: well below the 64 KiB that one attribute can hold.
const ELEMENTS_PER_MESSAGE: usize = 256;
/// `NFT_DATA_VERDICT`.
const VERDICT_TYPE: u32 = 0xffff_ff00;
const SET_HAS_RANGES: u32 = 4;
const SET_IS_MAP: u32 = 8;
const SET_FORGETS: u32 = 0x10;
const SET_LEARNS: u32 = 0x20;
const SET_IS_CONCATENATED: u32 = 0x80;

/// Where in a packet's way a chain stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookPoint {
    /// Came in, before routing.
    Prerouting,
    /// For this machine.
    Input,
    /// Through this machine.
    Forward,
    /// From this machine.
    Output,
    /// Going out, after routing.
    Postrouting,
}

/// What a chain on a hook may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainKind {
    /// Let through or not.
    Filter,
    /// Translate addresses; sees the first packet of each connection only.
    Nat,
}

/// A chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain<'a> {
    /// Its name.
    pub name: &'a str,
    /// Kind, place and priority if packets enter it by themselves; None if
    /// only other chains lead into it.
    pub hook: Option<(ChainKind, HookPoint, i32)>,
}

/// A set or map. Types are the numbers by which `nft list` prints values
/// (7 IPv4 address, 8 IPv6 address, 12 protocol, 13 port, 19 mark; six bits
/// each when concatenated); the kernel looks at the lengths alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetSpec<'a> {
    /// Its name.
    pub name: &'a str,
    /// Type and bytes of a key.
    pub key: (u32, u32),
    /// What a key leads to.
    pub data: Data,
    /// How its elements come about.
    pub kind: SetKind<'a>,
}

/// How a set's elements come about and what a key covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetKind<'a> {
    /// Single keys, put there by batches.
    Plain,
    /// Single keys, at most so many, that rules put there and that go by
    /// themselves after a while.
    Learned(u32),
    /// Ranges: parts of these many bytes, each with its own beginning and end.
    Ranges(&'a [u32]),
}

impl SetKind<'_> {
    fn flags(self) -> u32 {
        match self {
            SetKind::Plain => 0,
            SetKind::Learned(_) => SET_FORGETS | SET_LEARNS,
            SetKind::Ranges(_) => SET_HAS_RANGES | SET_IS_CONCATENATED,
        }
    }

    /// The content of `NFTA_SET_DESC`.
    fn describe(self, b: &mut Buffer) {
        match self {
            SetKind::Plain => {}
            SetKind::Learned(size) => {
                b.attribute(1, &size.to_be_bytes());
            }
            SetKind::Ranges(fields) => {
                b.nest(2, |b| {
                    for field in fields {
                        b.nest(1, |b| {
                            b.attribute(1, &field.to_be_bytes());
                        });
                    }
                });
            }
        }
    }
}

/// What the elements of a set carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data {
    /// Nothing: it is a set.
    None,
    /// A verdict.
    Verdict,
    /// A value of this type and this many bytes.
    Value(u32, u32),
}

/// A member of a set or map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Element {
    /// Of a set; or of anything, where it is to be removed.
    Key(Vec<u8>),
    /// Of a verdict map.
    Verdict(Vec<u8>, Verdict),
    /// Of a map.
    Value(Vec<u8>, Vec<u8>),
    /// Of a set of ranges: all keys from the first to the second.
    Range(Vec<u8>, Vec<u8>),
}

/// Operations that take effect together or not at all, in their order.
#[derive(Debug)]
pub struct Batch {
    family: Family,
    messages: Vec<Pending>,
    sets: u32,
}

#[derive(Debug)]
struct Pending {
    kind: u16,
    flags: u16,
    body: Vec<u8>,
    operation: String,
}

impl Batch {
    /// Nothing yet, for tables of this family.
    pub fn new(family: Family) -> Batch {
        Batch {
            family,
            messages: Vec::new(),
            sets: 0,
        }
    }

    /// Whether nothing would change.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Makes a table; one that exists stays as it is.
    pub fn add_table(&mut self, table: &str) -> &mut Batch {
        self.push(NEW_TABLE, libc::NLM_F_CREATE, format!("add table {table}"), |b| {
            b.text(1, table);
        })
    }

    /// Removes a table with all that is in it; it must exist.
    pub fn delete_table(&mut self, table: &str) -> &mut Batch {
        self.push(DELETE_TABLE, 0, format!("delete table {table}"), |b| {
            b.text(1, table);
        })
    }

    /// Removes a table whether it exists or not.
    pub fn clear_table(&mut self, table: &str) -> &mut Batch {
        self.add_table(table).delete_table(table)
    }

    /// Makes a chain.
    pub fn add_chain(&mut self, table: &str, chain: &Chain<'_>) -> &mut Batch {
        self.push(
            NEW_CHAIN,
            libc::NLM_F_CREATE,
            format!("add chain {}", chain.name),
            |b| {
                b.text(1, table).text(3, chain.name);
                if let Some((kind, point, priority)) = chain.hook {
                    b.nest(4, |b| {
                        b.attribute(1, &(point as u32).to_be_bytes());
                        b.attribute(2, &priority.to_be_bytes());
                    });
                    b.text(7, if kind == ChainKind::Nat { "nat" } else { "filter" });
                }
            },
        )
    }

    /// Adds a rule at a chain's end.
    pub fn add_rule(&mut self, table: &str, chain: &str, rule: &[Expr]) -> &mut Batch {
        let flags = libc::NLM_F_CREATE | libc::NLM_F_APPEND;
        self.push(NEW_RULE, flags, format!("add rule to {chain}"), |b| {
            b.text(1, table).text(2, chain).nest(4, |b| {
                for expr in rule {
                    b.nest(1, |b| expr.write(b));
                }
            });
        })
    }

    /// Makes a set or map.
    pub fn add_set(&mut self, table: &str, set: &SetSpec<'_>) -> &mut Batch {
        // The kernel wants a number per new set, for references within the batch.
        self.sets += 1;
        let id = self.sets;
        self.push(
            NEW_SET,
            libc::NLM_F_CREATE,
            format!("add set {}", set.name),
            |b| {
                b.text(1, table).text(2, set.name);
                let map = if set.data == Data::None { 0 } else { SET_IS_MAP };
                let flags = set.kind.flags() | map;
                b.attribute(3, &flags.to_be_bytes());
                b.attribute(4, &set.key.0.to_be_bytes())
                    .attribute(5, &set.key.1.to_be_bytes());
                match set.data {
                    Data::None => {}
                    Data::Verdict => {
                        b.attribute(6, &VERDICT_TYPE.to_be_bytes());
                    }
                    Data::Value(kind, length) => {
                        b.attribute(6, &kind.to_be_bytes())
                            .attribute(7, &length.to_be_bytes());
                    }
                }
                if set.kind != SetKind::Plain {
                    b.nest(9, |b| set.kind.describe(b));
                }
                b.attribute(10, &id.to_be_bytes());
            },
        )
    }

    /// Adds elements. A map's key that is there already with other data is an
    /// error: remove it first, in the same batch.
    pub fn add_elements(&mut self, table: &str, set: &str, elements: &[Element]) -> &mut Batch {
        self.elements(
            NEW_ELEMENT,
            libc::NLM_F_CREATE,
            "add elements to",
            table,
            set,
            elements,
        )
    }

    /// Removes elements, which must be there; only their keys count.
    pub fn delete_elements(&mut self, table: &str, set: &str, elements: &[Element]) -> &mut Batch {
        self.elements(DELETE_ELEMENT, 0, "delete elements from", table, set, elements)
    }

    fn elements(
        &mut self,
        kind: u16,
        flags: i32,
        what: &str,
        table: &str,
        set: &str,
        elements: &[Element],
    ) -> &mut Batch {
        for chunk in elements.chunks(ELEMENTS_PER_MESSAGE) {
            self.push(kind, flags, format!("{what} {set}"), |b| {
                b.text(1, table).text(2, set).nest(3, |b| {
                    for element in chunk {
                        b.nest(1, |b| element.write(b, kind == NEW_ELEMENT));
                    }
                });
            });
        }
        self
    }

    fn push(
        &mut self,
        kind: u16,
        flags: i32,
        operation: String,
        body: impl FnOnce(&mut Buffer),
    ) -> &mut Batch {
        let mut b = Buffer::new();
        header(&mut b, self.family.number());
        body(&mut b);
        self.messages.push(Pending {
            kind,
            flags: flags as u16,
            body: b.bytes().to_vec(),
            operation,
        });
        self
    }

    /// The datagram. Sequence 0 is its beginning, n its n-th operation; only
    /// the last is acknowledged, the others speak up when they fail.
    pub(super) fn finish(&self) -> Vec<u8> {
        let request = libc::NLM_F_REQUEST as u16;
        let mut out = Buffer::new();
        let edge = |b: &mut Buffer| {
            b.raw(&[0, 0]).raw(&(SUBSYSTEM >> 8).to_be_bytes());
        };
        out.message(BATCH_BEGIN, request, 0, edge);
        for (sequence, message) in (1..).zip(&self.messages) {
            let ack = if sequence == self.last_sequence() {
                libc::NLM_F_ACK as u16
            } else {
                0
            };
            out.message(message.kind, request | message.flags | ack, sequence, |b| {
                b.raw(&message.body);
            });
        }
        out.message(BATCH_END, request, self.last_sequence() + 1, edge);
        out.into_bytes()
    }

    pub(super) fn last_sequence(&self) -> u32 {
        self.messages.len() as u32
    }

    pub(super) fn refused(&self, ack: Ack) -> NftError {
        let index = (ack.sequence as usize).checked_sub(1);
        let operation = index
            .and_then(|i| self.messages.get(i))
            .map(|m| m.operation.clone());
        let operation = operation.unwrap_or_else(|| "change nftables".to_string());
        NftError::Refused {
            operation,
            errno: ack.errno,
            words: ack.text,
        }
    }
}

impl Element {
    fn write(&self, b: &mut Buffer, with_data: bool) {
        let (Element::Key(key) | Element::Verdict(key, _) | Element::Value(key, _) | Element::Range(key, _)) =
            self;
        b.nest(1, |b| {
            b.attribute(1, key);
        });
        match self {
            Element::Verdict(_, verdict) if with_data => {
                b.nest(2, |b| {
                    b.nest(2, |b| verdict.write(b));
                });
            }
            Element::Value(_, value) if with_data => {
                b.nest(2, |b| {
                    b.attribute(1, value);
                });
            }
            // The end belongs to the key: without it the range is not found again.
            Element::Range(_, end) => {
                b.nest(10, |b| {
                    b.attribute(1, end);
                });
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_operation_asks_for_an_acknowledgement() {
        let mut batch = Batch::new(Family::Ip);
        batch.clear_table("t").add_table("t");
        let bytes = batch.finish();
        let flags = |at: usize| u16::from_ne_bytes([bytes[at + 6], bytes[at + 7]]);
        let length =
            |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]) as usize;
        let mut at = 0;
        let mut acks = Vec::new();
        while at < bytes.len() {
            acks.push(flags(at) & libc::NLM_F_ACK as u16 != 0);
            at += length(at);
        }
        assert_eq!(acks, [false, false, false, true, false]);
    }

    #[test]
    fn many_elements_are_spread_over_messages() {
        let elements: Vec<Element> = (0..1000u32)
            .map(|n| Element::Key(n.to_be_bytes().to_vec()))
            .collect();
        let mut batch = Batch::new(Family::Ip);
        batch.add_elements("t", "s", &elements);
        assert_eq!(batch.messages.len(), 4);
        assert!(batch.messages.iter().all(|m| m.body.len() < 60_000));
    }

    #[test]
    fn a_refusal_names_the_operation() {
        let mut batch = Batch::new(Family::Ip);
        batch.add_table("t").add_chain(
            "t",
            &Chain {
                name: "c",
                hook: None,
            },
        );
        let error = batch.refused(Ack {
            sequence: 2,
            errno: libc::EPERM,
            text: Some("why".into()),
        });
        assert_eq!(
            error.to_string(),
            "add chain c: Operation not permitted (os error 1) (why)"
        );
    }
}
