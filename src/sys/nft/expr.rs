//! The expressions that rules are made of.

use super::family::Family;
use crate::netlink::Buffer;

/// One of the sixteen 32-bit registers. A value of several words, such as a
/// concatenated key, occupies consecutive ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reg(u8);

impl Reg {
    /// Register `n`, modulo 16.
    pub const fn new(n: u8) -> Reg {
        Reg(n % 16)
    }

    /// The kernel's number; the first eight are the older 128-bit names.
    fn number(self) -> u32 {
        8 + u32::from(self.0)
    }
}

/// Where evaluation goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The packet goes on to the next hook.
    Accept,
    /// It disappears.
    Drop,
    /// Back to the calling chain.
    Return,
    /// Into a chain, and back here at its end.
    Jump(String),
    /// Into a chain, and at its end back to the calling one.
    Goto(String),
}

impl Verdict {
    /// The content of `NFTA_DATA_VERDICT`.
    pub(super) fn write(&self, b: &mut Buffer) {
        let (code, chain): (i32, Option<&str>) = match self {
            Verdict::Drop => (0, None),
            Verdict::Accept => (1, None),
            Verdict::Jump(chain) => (-3, Some(chain)),
            Verdict::Goto(chain) => (-4, Some(chain)),
            Verdict::Return => (-5, None),
        };
        b.attribute(1, &code.to_be_bytes());
        if let Some(chain) = chain {
            b.text(2, chain);
        }
    }
}

/// One step of a rule, encoded. A rule ends at the first comparison or lookup
/// that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expr {
    name: &'static str,
    data: Vec<u8>,
}

/// The register number that stands for "the verdict".
const VERDICT: u32 = 0;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
/// `NFT_LOOKUP_F_INV`.
const INVERT: u32 = 1;
/// `NFT_DYNSET_OP_UPDATE` and `NFT_DYNSET_OP_DELETE`.
const UPDATE: u32 = 1;
const DELETE: u32 = 2;

impl Expr {
    /// Loads the source address: one word or four.
    pub fn source(family: Family, to: Reg) -> Expr {
        match family {
            Family::Ip => Expr::payload(1, 12, 4, to),
            Family::Ip6 => Expr::payload(1, 8, 16, to),
        }
    }

    /// Loads the destination address: one word or four.
    pub fn destination(family: Family, to: Reg) -> Expr {
        match family {
            Family::Ip => Expr::payload(1, 16, 4, to),
            Family::Ip6 => Expr::payload(1, 24, 16, to),
        }
    }

    /// Loads the destination port of TCP, UDP or SCTP (two bytes).
    pub fn destination_port(to: Reg) -> Expr {
        Expr::payload(2, 2, 2, to)
    }

    /// Loads the transport protocol's number (one byte).
    pub fn protocol(to: Reg) -> Expr {
        Expr::meta(16, to)
    }

    /// Loads the name of the device that the packet came by (four words).
    pub fn input_name(to: Reg) -> Expr {
        Expr::meta(6, to)
    }

    /// Loads the name of the device that the packet leaves by (four words).
    pub fn output_name(to: Reg) -> Expr {
        Expr::meta(7, to)
    }

    /// Loads the connection's status bits (host byte order).
    pub fn connection_status(to: Reg) -> Expr {
        Expr::new("ct", |b| {
            number(b, 1, to.number());
            number(b, 2, 2);
        })
    }

    /// Loads the kind of the destination address (`RTN_*`, host byte order).
    pub fn destination_kind(to: Reg) -> Expr {
        Expr::new("fib", |b| {
            number(b, 1, to.number());
            number(b, 2, 3);
            number(b, 3, 2);
        })
    }

    /// Loads a random number below `modulus` (host byte order).
    pub fn random(to: Reg, modulus: u32) -> Expr {
        Expr::new("numgen", |b| {
            number(b, 1, to.number());
            number(b, 2, modulus.max(1));
            number(b, 3, 1);
        })
    }

    /// Loads a constant of at most 16 bytes.
    pub fn constant(to: Reg, value: &[u8]) -> Expr {
        Expr::new("immediate", |b| {
            number(b, 1, to.number());
            data(b, 2, value);
        })
    }

    /// Keeps only the bits of `mask`, in place.
    pub fn mask(register: Reg, mask: &[u8]) -> Expr {
        Expr::new("bitwise", |b| {
            number(b, 1, register.number());
            number(b, 2, register.number());
            number(b, 3, mask.len() as u32);
            data(b, 4, mask);
            data(b, 5, &vec![0; mask.len()]);
        })
    }

    /// Goes on only if the register holds `value`.
    pub fn equal(register: Reg, value: &[u8]) -> Expr {
        Expr::compare(register, 0, value)
    }

    /// Goes on only if the register does not hold `value`.
    pub fn not_equal(register: Reg, value: &[u8]) -> Expr {
        Expr::compare(register, 1, value)
    }

    /// Goes on only if the key that begins at `key` is in the set.
    pub fn member(set: &str, key: Reg) -> Expr {
        Expr::lookup(set, key, None)
    }

    /// Goes on only if the key that begins at `key` is not in the set.
    pub fn stranger(set: &str, key: Reg) -> Expr {
        Expr::new("lookup", |b| {
            b.text(1, set);
            number(b, 2, key.number());
            number(b, 5, INVERT);
        })
    }

    /// Puts a key into a map with the data that begins at `data`, or keeps what
    /// it leads to; either way for so many milliseconds from now. Ends the
    /// rule if the map is full.
    pub fn learn(map: &str, key: Reg, data: Reg, timeout_ms: u64) -> Expr {
        Expr::new("dynset", |b| {
            b.text(1, map);
            number(b, 3, UPDATE);
            number(b, 4, key.number());
            number(b, 5, data.number());
            b.attribute(6, &timeout_ms.to_be_bytes());
        })
    }

    /// Takes a key out of a map that learns.
    pub fn unlearn(map: &str, key: Reg, data: Reg) -> Expr {
        Expr::new("dynset", |b| {
            b.text(1, map);
            number(b, 3, DELETE);
            number(b, 4, key.number());
            // The kernel wants it for maps, and does not look at it.
            number(b, 5, data.number());
        })
    }

    /// Replaces the key by what the map holds for it, or ends the rule.
    pub fn map(map: &str, key: Reg, to: Reg) -> Expr {
        Expr::lookup(map, key, Some(to.number()))
    }

    /// Follows the verdict that the map holds for the key, or ends the rule.
    pub fn verdict_map(map: &str, key: Reg) -> Expr {
        Expr::lookup(map, key, Some(VERDICT))
    }

    /// Follows a verdict.
    pub fn verdict(verdict: Verdict) -> Expr {
        Expr::new("immediate", |b| {
            number(b, 1, VERDICT);
            b.nest(2, |b| {
                b.nest(DATA_VERDICT, |b| verdict.write(b));
            });
        })
    }

    /// Sends the connection to the address and port in two registers.
    pub fn destination_nat(family: Family, address: Reg, port: Reg) -> Expr {
        Expr::new("nat", |b| {
            number(b, 1, 1);
            number(b, 2, family.number().into());
            number(b, 3, address.number());
            number(b, 5, port.number());
        })
    }

    /// Makes the connection come from the address in a register.
    pub fn source_nat(family: Family, address: Reg) -> Expr {
        Expr::new("nat", |b| {
            number(b, 1, 0);
            number(b, 2, family.number().into());
            number(b, 3, address.number());
        })
    }

    /// Makes the connection come from the leaving device's address.
    pub fn masquerade() -> Expr {
        Expr::new("masq", |_| {})
    }

    /// Answers with a TCP reset; the rule must have checked that it is TCP.
    pub fn reject_tcp() -> Expr {
        Expr::new("reject", |b| {
            number(b, 1, 1);
        })
    }

    /// Answers with "port unreachable" of ICMP or ICMPv6.
    pub fn reject(family: Family) -> Expr {
        let code = match family {
            Family::Ip => 3,
            Family::Ip6 => 4,
        };
        Expr::new("reject", |b| {
            number(b, 1, 0);
            b.attribute(2, &[code]);
        })
    }

    /// The content of `NFTA_LIST_ELEM`.
    pub(super) fn write(&self, b: &mut Buffer) {
        b.text(1, self.name).nest(2, |b| {
            b.raw(&self.data);
        });
    }

    fn new(name: &'static str, body: impl FnOnce(&mut Buffer)) -> Expr {
        let mut b = Buffer::new();
        body(&mut b);
        Expr {
            name,
            data: b.bytes().to_vec(),
        }
    }

    fn payload(base: u32, offset: u32, length: u32, to: Reg) -> Expr {
        Expr::new("payload", |b| {
            number(b, 1, to.number());
            number(b, 2, base);
            number(b, 3, offset);
            number(b, 4, length);
        })
    }

    fn meta(key: u32, to: Reg) -> Expr {
        Expr::new("meta", |b| {
            number(b, 1, to.number());
            number(b, 2, key);
        })
    }

    fn compare(register: Reg, operator: u32, value: &[u8]) -> Expr {
        Expr::new("cmp", |b| {
            number(b, 1, register.number());
            number(b, 2, operator);
            data(b, 3, value);
        })
    }

    fn lookup(set: &str, key: Reg, to: Option<u32>) -> Expr {
        Expr::new("lookup", |b| {
            b.text(1, set);
            number(b, 2, key.number());
            if let Some(to) = to {
                number(b, 3, to);
            }
        })
    }
}

fn number(b: &mut Buffer, kind: u16, value: u32) {
    b.attribute(kind, &value.to_be_bytes());
}

fn data(b: &mut Buffer, kind: u16, value: &[u8]) {
    b.nest(kind, |b| {
        b.attribute(DATA_VALUE, value);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::attribute;

    #[test]
    fn a_comparison_in_bytes() {
        let expr = Expr::equal(Reg::new(2), &[10, 0, 0, 1]);
        assert_eq!(expr.name, "cmp");
        assert_eq!(attribute(&expr.data, 1), Some(&10u32.to_be_bytes()[..]));
        let value = attribute(attribute(&expr.data, 3).unwrap(), DATA_VALUE);
        assert_eq!(value, Some(&[10, 0, 0, 1][..]));
    }

    #[test]
    fn a_jump_names_its_chain() {
        let mut b = Buffer::new();
        Verdict::Jump("x".into()).write(&mut b);
        assert_eq!(attribute(b.bytes(), 1), Some(&(-3i32).to_be_bytes()[..]));
        assert_eq!(attribute(b.bytes(), 2), Some(&b"x\0"[..]));
    }
}
