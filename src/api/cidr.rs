//! Ranges of addresses of either family, and what there is one of per family.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A range such as `10.64.0.0/20` or `fd00:64::/64`, host bits zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    base: IpAddr,
    bits: u8,
}

/// Why a text is not a range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// It is not `ADDRESS/BITS`.
    #[error("{0:?} is not a range of addresses like 10.64.0.0/20 or fd00:64::/64")]
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
    /// The range of `bits` (at most the family's 32 or 128) that `address` lies in.
    pub fn new(address: impl Into<IpAddr>, bits: u8) -> Cidr {
        let address = address.into();
        let bits = bits.min(width(address));
        Cidr {
            base: of_number(number(address) & mask(width(address), bits), address),
            bits,
        }
    }

    /// Its first address.
    pub fn base(&self) -> IpAddr {
        self.base
    }

    /// How many bits are fixed.
    pub fn bits(&self) -> u8 {
        self.bits
    }

    /// How many bits an address of its family has.
    pub fn width(&self) -> u8 {
        width(self.base)
    }

    /// Whether it is a range of IPv6.
    pub fn is_ipv6(&self) -> bool {
        self.base.is_ipv6()
    }

    /// The fixed bits as a mask.
    pub fn mask(&self) -> IpAddr {
        of_number(mask(self.width(), self.bits), self.base)
    }

    /// How many addresses it has; the largest number there is for all of IPv6.
    pub fn size(&self) -> u128 {
        1u128
            .checked_shl(u32::from(self.width() - self.bits))
            .unwrap_or(u128::MAX)
    }

    /// The address `offset` after the first, if it lies in the range.
    pub fn nth(&self, offset: u128) -> Option<IpAddr> {
        (offset < self.size()).then(|| of_number(number(self.base) + offset, self.base))
    }

    /// How far after the first an address lies.
    pub fn offset(&self, address: impl Into<IpAddr>) -> Option<u128> {
        let address = address.into();
        self.contains(address)
            .then(|| number(address) - number(self.base))
    }

    /// Whether an address lies in it.
    pub fn contains(&self, address: impl Into<IpAddr>) -> bool {
        let address = address.into();
        address.is_ipv6() == self.is_ipv6()
            && number(address) & mask(self.width(), self.bits) == number(self.base)
    }

    /// Whether all of another range lies in it.
    pub fn encloses(&self, other: &Cidr) -> bool {
        self.bits <= other.bits && self.contains(other.base)
    }

    /// Whether two ranges have an address in common.
    pub fn overlaps(&self, other: &Cidr) -> bool {
        self.encloses(other) || other.encloses(self)
    }
}

fn width(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

/// The address with this number, of the family that `like` has.
fn of_number(number: u128, like: IpAddr) -> IpAddr {
    match like {
        // What is cut off is zero for all numbers made of IPv4 addresses.
        IpAddr::V4(_) => IpAddr::V4((number as u32).into()),
        IpAddr::V6(_) => IpAddr::V6(number.into()),
    }
}

fn mask(width: u8, bits: u8) -> u128 {
    let all = u128::MAX >> (128 - u32::from(width));
    let host = 1u128
        .checked_shl(u32::from(width - bits))
        .map_or(u128::MAX, |size| size - 1);
    all & !host
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Cidr, CidrError> {
        let error = || CidrError::Malformed(text.to_string());
        let (address, bits) = text.split_once('/').ok_or_else(error)?;
        let address: IpAddr = address.parse().map_err(|_| error())?;
        let bits: u8 = bits
            .parse()
            .ok()
            .filter(|bits| *bits <= width(address))
            .ok_or_else(error)?;
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

/// What belongs to one family of addresses.
pub trait OfFamily {
    /// Whether that is IPv6.
    fn of_ipv6(&self) -> bool;
}

impl OfFamily for Cidr {
    fn of_ipv6(&self) -> bool {
        self.is_ipv6()
    }
}

impl OfFamily for IpAddr {
    fn of_ipv6(&self) -> bool {
        self.is_ipv6()
    }
}

/// One thing, or one of each family, written with a comma between them. The
/// first is the primary family's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[serde(bound(
    serialize = "T: Copy + fmt::Display",
    deserialize = "T: Copy + OfFamily + FromStr<Err: fmt::Display>"
))]
pub struct PerFamily<T> {
    primary: T,
    secondary: Option<T>,
}

/// One or two ranges: `10.64.0.0/10,fd00:64::/64`.
pub type Ranges = PerFamily<Cidr>;
/// One or two addresses: `192.0.2.10,2001:db8::10`.
pub type Addresses = PerFamily<IpAddr>;

/// Why a text does not name one thing per family.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PerFamilyError {
    /// A part of it makes no sense.
    #[error("{text:?}: {why}")]
    Part {
        /// The part.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// There is more than one of a family.
    #[error("{0:?} is not one, nor one of IPv4 and one of IPv6 with a comma between them")]
    Family(String),
}

impl<T: Copy + OfFamily> PerFamily<T> {
    /// Of one or two of different families; `None` for anything else.
    pub fn new(all: &[T]) -> Option<Self> {
        match *all {
            [primary] => Some(Self::from(primary)),
            [primary, secondary] if primary.of_ipv6() != secondary.of_ipv6() => Some(PerFamily {
                primary,
                secondary: Some(secondary),
            }),
            _ => None,
        }
    }

    /// The same with `other` beside the primary one, if that is of another family.
    pub fn and(self, other: Option<T>) -> Self {
        let primary = self.primary;
        PerFamily {
            primary,
            secondary: other.filter(|other| other.of_ipv6() != primary.of_ipv6()),
        }
    }

    /// The first.
    pub fn primary(&self) -> T {
        self.primary
    }

    /// The second, if there is one.
    pub fn secondary(&self) -> Option<T> {
        self.secondary
    }

    /// Both, the primary first.
    pub fn iter(&self) -> impl Iterator<Item = T> + use<T> {
        std::iter::once(self.primary).chain(self.secondary)
    }

    /// The one of a family.
    pub fn family(&self, ipv6: bool) -> Option<T> {
        self.iter().find(|one| one.of_ipv6() == ipv6)
    }
}

impl Ranges {
    /// Whether an address lies in one of them.
    pub fn contains(&self, address: impl Into<IpAddr>) -> bool {
        let address = address.into();
        self.iter().any(|range| range.contains(address))
    }

    /// Whether two sets of ranges have an address in common.
    pub fn overlaps(&self, other: &Ranges) -> bool {
        self.iter().any(|a| other.iter().any(|b| a.overlaps(&b)))
    }
}

impl<T> From<T> for PerFamily<T> {
    fn from(primary: T) -> Self {
        PerFamily {
            primary,
            secondary: None,
        }
    }
}

impl From<[u8; 4]> for Addresses {
    fn from(address: [u8; 4]) -> Self {
        Self::from(IpAddr::from(address))
    }
}

impl<T: Copy + OfFamily + FromStr<Err: fmt::Display>> FromStr for PerFamily<T> {
    type Err = PerFamilyError;

    fn from_str(text: &str) -> Result<Self, PerFamilyError> {
        let part = |text: &str| {
            text.parse::<T>().map_err(|why| PerFamilyError::Part {
                text: text.to_string(),
                why: why.to_string(),
            })
        };
        let all: Result<Vec<T>, PerFamilyError> = text.split(',').map(|text| part(text.trim())).collect();
        Self::new(&all?).ok_or_else(|| PerFamilyError::Family(text.to_string()))
    }
}

impl<T: fmt::Display> fmt::Display for PerFamily<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.primary)?;
        match &self.secondary {
            Some(secondary) => write!(f, ",{secondary}"),
            None => Ok(()),
        }
    }
}

impl<T: Copy + OfFamily + FromStr<Err: fmt::Display>> TryFrom<String> for PerFamily<T> {
    type Error = PerFamilyError;

    fn try_from(text: String) -> Result<Self, PerFamilyError> {
        text.parse()
    }
}

impl<T: fmt::Display> From<PerFamily<T>> for String {
    fn from(all: PerFamily<T>) -> String {
        all.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn text_and_arithmetic() {
        let range: Cidr = "10.64.16.0/20".parse().unwrap();
        assert_eq!(range.to_string(), "10.64.16.0/20");
        assert_eq!(range.size(), 4096);
        assert_eq!(range.nth(4095), Some(ip("10.64.31.255")));
        assert_eq!(range.nth(4096), None);
        assert_eq!(range.offset(ip("10.64.17.1")), Some(257));
        assert_eq!(range.offset(ip("10.64.32.0")), None);
        assert_eq!(range.mask(), ip("255.255.240.0"));
        assert_eq!("0.0.0.0/0".parse::<Cidr>().unwrap().size(), 1 << 32);
    }

    #[test]
    fn arithmetic_of_ipv6() {
        let range: Cidr = "fd00:64::1:0/112".parse().unwrap();
        assert_eq!(range.to_string(), "fd00:64::1:0/112");
        assert_eq!(range.size(), 65_536);
        assert_eq!(range.nth(65_535), Some(ip("fd00:64::1:ffff")));
        assert_eq!(range.offset(ip("fd00:64::1:2")), Some(2));
        assert_eq!(range.mask(), ip("ffff:ffff:ffff:ffff:ffff:ffff:ffff:0"));
        assert!(!range.contains(ip("10.64.0.1")));
        assert_eq!("::/0".parse::<Cidr>().unwrap().size(), u128::MAX);
        assert_eq!("::1/128".parse::<Cidr>().unwrap().nth(1), None);
        assert!(
            !"::/0"
                .parse::<Cidr>()
                .unwrap()
                .overlaps(&"0.0.0.0/0".parse().unwrap())
        );
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "10.0.0.0",
            "10.0.0.0/33",
            "10.0.0.1/24",
            "fd00::1/64",
            "fd00::/129",
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

    #[test]
    fn one_range_of_each_family() {
        let ranges: Ranges = "10.64.0.0/10, fd00:64::/64".parse().unwrap();
        assert_eq!(ranges.to_string(), "10.64.0.0/10,fd00:64::/64");
        assert_eq!(ranges.family(true), ranges.secondary());
        assert!(ranges.contains(ip("fd00:64::7")) && !ranges.contains(ip("fd00:65::7")));
        for text in [
            "",
            "10.64.0.0/10,10.128.0.0/10",
            "fd00::/64,fd01::/64",
            "10.64.0.0/10,",
        ] {
            assert!(text.parse::<Ranges>().is_err(), "{text}");
        }
        let addresses: Addresses = "192.0.2.1,2001:db8::1".parse().unwrap();
        assert_eq!(addresses.secondary(), Some(ip("2001:db8::1")));
    }
}
