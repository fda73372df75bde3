//! Ranges of addresses to hand out.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use api::cidr::Cidr;

/// All addresses from the first to the last: `192.0.2.100-192.0.2.120` or
/// `192.0.2.128/28`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressPool {
    first: IpAddr,
    last: IpAddr,
}

/// Why a text is no pool.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither a range like 192.0.2.128/28 nor one like 192.0.2.100-192.0.2.120")]
pub struct PoolError(String);

impl AddressPool {
    /// Whether an address is in it.
    pub fn contains(&self, ip: IpAddr) -> bool {
        ip.is_ipv6() == self.is_ipv6() && (self.first..=self.last).contains(&ip)
    }

    /// Whether it has addresses of IPv6.
    pub fn is_ipv6(&self) -> bool {
        self.first.is_ipv6()
    }

    /// Whether it has an address of a range.
    pub fn overlaps(&self, range: &Cidr) -> bool {
        self.contains(range.base()) || range.contains(self.first)
    }

    /// Its addresses in their order.
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let (first, last, is_ipv6) = (number(self.first), number(self.last), self.is_ipv6());
        (first..=last).map(move |n| match is_ipv6 {
            true => IpAddr::V6(Ipv6Addr::from(n)),
            false => IpAddr::V4(Ipv4Addr::from(n as u32)),
        })
    }
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u32::from(ip).into(),
        IpAddr::V6(ip) => ip.into(),
    }
}

impl FromStr for AddressPool {
    type Err = PoolError;

    fn from_str(text: &str) -> Result<AddressPool, PoolError> {
        let wrong = || PoolError(text.to_owned());
        let ip = |text: &str| text.trim().parse::<IpAddr>().map_err(|_| wrong());
        let (first, last) = match text.split_once('-') {
            Some((first, last)) => (ip(first)?, ip(last)?),
            None => {
                let range: Cidr = text.trim().parse().map_err(|_| wrong())?;
                (range.base(), range.nth(range.size() - 1).unwrap_or(range.base()))
            }
        };
        let fits = first.is_ipv6() == last.is_ipv6() && first <= last;
        fits.then_some(AddressPool { first, last }).ok_or_else(wrong)
    }
}

impl fmt::Display for AddressPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_mean_their_first_and_last_too() {
        let pool: AddressPool = "192.0.2.128/30".parse().unwrap();
        assert_eq!(pool.to_string(), "192.0.2.128-192.0.2.131");
        assert_eq!(pool.iter().count(), 4);
        let pool: AddressPool = "192.0.2.254 - 192.0.3.1".parse().unwrap();
        let all: Vec<String> = pool.iter().map(|ip| ip.to_string()).collect();
        assert_eq!(all, ["192.0.2.254", "192.0.2.255", "192.0.3.0", "192.0.3.1"]);
        assert!(pool.contains([192, 0, 3, 0].into()) && !pool.contains([192, 0, 3, 2].into()));
        assert!(pool.overlaps(&"192.0.0.0/16".parse().unwrap()));
        assert!(!pool.overlaps(&"10.0.0.0/8".parse().unwrap()));
        assert_eq!(
            "fd00::1-fd00::2".parse::<AddressPool>().unwrap().iter().count(),
            2
        );
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "192.0.2.1",
            "192.0.2.9-192.0.2.1",
            "192.0.2.1-fd00::1",
            "192.0.2.1/24",
        ] {
            assert!(text.parse::<AddressPool>().is_err(), "{text}");
        }
    }
}
