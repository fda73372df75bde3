//! Which service addresses and node ports there are, and which to hand out.
//! Pure: what is taken is a parameter, and the record of it lives in the store.

use std::net::IpAddr;

use base::Random;

/// A range of numbers of which the first few are left to those who ask for one
/// by number (Kubernetes' ServiceCIDR and node-port allocators).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Band {
    first: u128,
    size: u64,
    reserved: u64,
}

impl Band {
    /// A free number: above the reserved ones while there is one.
    fn pick(&self, random: &dyn Random, taken: impl Fn(u128) -> bool) -> Option<u128> {
        let upper = self.size.saturating_sub(self.reserved);
        let scan = |start: u64, from: u64, size: u64| {
            (0..size)
                .map(|i| self.first + u128::from(from + (start + i) % size))
                .find(|n| !taken(*n))
        };
        let random_start = random.below(upper.max(1));
        scan(random_start, self.reserved, upper).or_else(|| scan(0, 0, self.reserved.min(self.size)))
    }
}

/// The addresses of Services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ServiceRange {
    network: IpAddr,
    bits: u8,
}

impl ServiceRange {
    /// Reads a range such as `10.43.0.0/16`.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.trim().split_once('/')?;
        let (network, bits): (IpAddr, u8) = (address.parse().ok()?, bits.parse().ok()?);
        let range = Self { network, bits };
        let fits = bits <= range.width() && range.host_bits() >= 2;
        fits.then(|| Self {
            network: range.ip(range.number(network) & !range.mask()),
            bits,
        })
    }

    /// Reads one range, or one of each family with a comma between them.
    pub fn parse_all(text: &str) -> Option<Vec<Self>> {
        let ranges: Vec<Self> = text.split(',').map(Self::parse).collect::<Option<_>>()?;
        match &ranges[..] {
            [_] => Some(ranges),
            [first, second] if first.family() != second.family() => Some(ranges),
            _ => None,
        }
    }

    fn width(&self) -> u8 {
        if self.network.is_ipv4() { 32 } else { 128 }
    }

    fn host_bits(&self) -> u8 {
        self.width() - self.bits
    }

    fn mask(&self) -> u128 {
        1u128
            .checked_shl(u32::from(self.host_bits()))
            .map_or(u128::MAX, |n| n - 1)
    }

    fn number(&self, ip: IpAddr) -> u128 {
        match ip {
            IpAddr::V4(v4) => u128::from(u32::from(v4)),
            IpAddr::V6(v6) => u128::from(v6),
        }
    }

    fn ip(&self, number: u128) -> IpAddr {
        match self.network {
            IpAddr::V4(_) => IpAddr::V4(u32::try_from(number).unwrap_or(u32::MAX).into()),
            IpAddr::V6(_) => IpAddr::V6(number.into()),
        }
    }

    /// `IPv4` or `IPv6`.
    pub fn family(&self) -> &'static str {
        if self.network.is_ipv4() { "IPv4" } else { "IPv6" }
    }

    /// The first usable address: the API's own.
    pub fn first(&self) -> IpAddr {
        self.ip(self.number(self.network) + 1)
    }

    /// Whether an address may be handed out: inside, and neither the network's nor the broadcast address.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let offset = self.number(ip).wrapping_sub(self.number(self.network));
        let last = if self.network.is_ipv4() {
            self.mask() - 1
        } else {
            self.mask()
        };
        ip.is_ipv4() == self.network.is_ipv4() && (1..=last).contains(&offset)
    }

    /// A free address.
    pub fn pick(&self, random: &dyn Random, taken: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
        let usable = if self.network.is_ipv4() {
            self.mask() - 1
        } else {
            self.mask()
        };
        // More than anyone can have services, and keeps a full scan bounded.
        let size = u64::try_from(usable).unwrap_or(u64::MAX).min(1 << 20);
        let reserved = (size / 16).clamp(16, 256).min(size / 2);
        let band = Band {
            first: self.number(self.network) + 1,
            size,
            reserved,
        };
        band.pick(random, |n| taken(self.ip(n))).map(|n| self.ip(n))
    }
}

impl std::fmt::Display for ServiceRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.network, self.bits)
    }
}

/// The ports of nodes that Services may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PortRange {
    /// The first port.
    pub first: u16,
    /// The last port.
    pub last: u16,
}

impl PortRange {
    /// Whether a port may be handed out.
    pub fn contains(&self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }

    /// A free port.
    pub fn pick(&self, random: &dyn Random, taken: impl Fn(u16) -> bool) -> Option<u16> {
        let size = u64::from(self.last.saturating_sub(self.first)) + 1;
        // Kubernetes keeps a band free in ranges of more than 16 ports.
        let reserved = if size < 16 {
            0
        } else {
            (size / 32).clamp(16, 128).min(size / 2)
        };
        let band = Band {
            first: u128::from(self.first),
            size,
            reserved,
        };
        let port = |n: u128| u16::try_from(n).unwrap_or(u16::MAX);
        band.pick(random, |n| taken(port(n))).map(port)
    }
}

#[cfg(test)]
mod tests {
    use base::SeededRandom;

    use super::*;

    #[test]
    fn ranges_know_what_is_in_them() {
        let range = ServiceRange::parse("10.43.7.9/16").unwrap();
        assert_eq!(
            (range.to_string().as_str(), range.family()),
            ("10.43.0.0/16", "IPv4")
        );
        assert_eq!(range.first().to_string(), "10.43.0.1");
        for (ip, inside) in [
            ("10.43.0.0", false),
            ("10.43.0.1", true),
            ("10.43.255.255", false),
            ("10.44.0.1", false),
            ("::1", false),
        ] {
            assert_eq!(range.contains(ip.parse().unwrap()), inside, "{ip}");
        }
        assert_eq!(ServiceRange::parse("10.43.0.0/33"), None);
        assert_eq!(ServiceRange::parse("nonsense"), None);
        let both = ServiceRange::parse_all("10.43.0.0/16, fd43::/112").unwrap();
        assert_eq!([both[0].family(), both[1].family()], ["IPv4", "IPv6"]);
        assert_eq!(ServiceRange::parse_all("10.43.0.0/16,10.44.0.0/16"), None);
        assert!(
            ServiceRange::parse("fd00::/108")
                .unwrap()
                .contains("fd00::5".parse().unwrap())
        );
    }

    #[test]
    fn the_low_addresses_are_the_last_to_go() {
        let random = SeededRandom::new(3);
        let range = ServiceRange::parse("10.0.0.0/24").unwrap();
        let mut taken = Vec::new();
        while let Some(ip) = range.pick(&random, |ip| taken.contains(&ip)) {
            assert!(range.contains(ip));
            taken.push(ip);
        }
        assert_eq!(taken.len(), 254);
        let low: Vec<String> = taken.iter().rev().take(16).map(IpAddr::to_string).collect();
        assert!(low.contains(&"10.0.0.1".to_owned()) && low.contains(&"10.0.0.16".to_owned()));
    }

    #[test]
    fn ports_come_from_their_range() {
        let random = SeededRandom::new(3);
        let range = PortRange {
            first: 30000,
            last: 32767,
        };
        let port = range.pick(&random, |_| false).unwrap();
        assert!((30086..=32767).contains(&port), "{port}");
        assert_eq!(PortRange { first: 5, last: 5 }.pick(&random, |_| false), Some(5));
        assert_eq!(PortRange { first: 5, last: 5 }.pick(&random, |_| true), None);
    }
}
