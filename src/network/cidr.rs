//! IPv4 ranges.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An IPv4 range such as `10.64.0.0/20`, host bits zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    base: Ipv4Addr,
    bits: u8,
}

/// Why a text is not a range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// It is not `ADDRESS/BITS`.
    #[error("{0:?} is not an IPv4 range like 10.64.0.0/20")]
    Malformed(String),
    /// Host bits are set, a typing mistake more often than a wish.
    #[error("{text:?} has bits behind its prefix: did you mean {meant}?")]
    HostBits {
        /// What was written.
        text: String,
        /// The range that its address lies in.
        meant: Cidr,
    },
}

impl Cidr {
    /// The range of `bits` (at most 32) that `address` lies in.
    pub fn new(address: Ipv4Addr, bits: u8) -> Cidr {
        let bits = bits.min(32);
        Cidr {
            base: Ipv4Addr::from(u32::from(address) & mask(bits)),
            bits,
        }
    }

    /// Its first address.
    pub fn base(&self) -> Ipv4Addr {
        self.base
    }

    /// How many bits are fixed.
    pub fn bits(&self) -> u8 {
        self.bits
    }

    /// The fixed bits as a mask.
    pub fn mask(&self) -> Ipv4Addr {
        Ipv4Addr::from(mask(self.bits))
    }

    /// How many addresses it has.
    pub fn size(&self) -> u64 {
        1u64 << (32 - u32::from(self.bits))
    }

    /// The address `offset` after the first, if it lies in the range.
    pub fn nth(&self, offset: u32) -> Option<Ipv4Addr> {
        (u64::from(offset) < self.size()).then(|| Ipv4Addr::from(u32::from(self.base) + offset))
    }

    /// How far after the first an address lies.
    pub fn offset(&self, address: Ipv4Addr) -> Option<u32> {
        self.contains(address)
            .then(|| u32::from(address) - u32::from(self.base))
    }

    /// Whether an address lies in it.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        u32::from(address) & mask(self.bits) == u32::from(self.base)
    }

    /// Whether two ranges have an address in common.
    pub fn overlaps(&self, other: &Cidr) -> bool {
        let bits = self.bits.min(other.bits);
        (u32::from(self.base) ^ u32::from(other.base)) & mask(bits) == 0
    }
}

fn mask(bits: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0)
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Cidr, CidrError> {
        let error = || CidrError::Malformed(text.to_string());
        let (address, bits) = text.split_once('/').ok_or_else(error)?;
        let address: Ipv4Addr = address.parse().map_err(|_| error())?;
        let bits: u8 = bits.parse().ok().filter(|bits| *bits <= 32).ok_or_else(error)?;
        let range = Cidr::new(address, bits);
        if range.base == address {
            Ok(range)
        } else {
            Err(CidrError::HostBits {
                text: text.to_string(),
                meant: range,
            })
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.bits)
    }
}

impl TryFrom<String> for Cidr {
    type Error = CidrError;

    fn try_from(text: String) -> Result<Cidr, CidrError> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(range: Cidr) -> String {
        range.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_arithmetic() {
        let range: Cidr = "10.64.16.0/20".parse().unwrap();
        assert_eq!(range.to_string(), "10.64.16.0/20");
        assert_eq!(range.size(), 4096);
        assert_eq!(range.nth(4095), Some(Ipv4Addr::new(10, 64, 31, 255)));
        assert_eq!(range.nth(4096), None);
        assert_eq!(range.offset(Ipv4Addr::new(10, 64, 17, 1)), Some(257));
        assert_eq!(range.offset(Ipv4Addr::new(10, 64, 32, 0)), None);
        assert_eq!("0.0.0.0/0".parse::<Cidr>().unwrap().size(), 1 << 32);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "10.0.0.0",
            "10.0.0.0/33",
            "10.0.0.1/24",
            "fd00::/64",
            "10.0.0.0/-1",
        ] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
    }

    #[test]
    fn overlap() {
        let pods: Cidr = "10.64.0.0/10".parse().unwrap();
        assert!(pods.overlaps(&"10.96.0.0/16".parse().unwrap()));
        assert!(!pods.overlaps(&"10.43.0.0/16".parse().unwrap()));
    }
}
