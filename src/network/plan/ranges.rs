//! `loadBalancerSourceRanges`: who may use a load balancer's address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use k8s_openapi::api::core::v1::ServiceSpec;

/// All addresses from the first to the last, of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourceRange {
    /// The first.
    pub first: IpAddr,
    /// The last.
    pub last: IpAddr,
}

impl SourceRange {
    /// `10.0.0.0/8`; host bits do not matter.
    pub fn parse(text: &str) -> Option<SourceRange> {
        let (address, bits) = text.trim().split_once('/')?;
        let bits: u32 = bits.parse().ok()?;
        match address.parse().ok()? {
            IpAddr::V4(ip) if bits <= 32 => {
                let host = u32::MAX.checked_shr(bits).unwrap_or(0);
                let ip = u32::from(ip);
                Some(SourceRange {
                    first: Ipv4Addr::from(ip & !host).into(),
                    last: Ipv4Addr::from(ip | host).into(),
                })
            }
            IpAddr::V6(ip) if bits <= 128 => {
                let host = u128::MAX.checked_shr(bits).unwrap_or(0);
                let ip = u128::from(ip);
                Some(SourceRange {
                    first: Ipv6Addr::from(ip & !host).into(),
                    last: Ipv6Addr::from(ip | host).into(),
                })
            }
            _ => None,
        }
    }

    /// Whether an address lies in it.
    pub fn contains(&self, ip: IpAddr) -> bool {
        ip.is_ipv4() == self.first.is_ipv4() && (self.first..=self.last).contains(&ip)
    }
}

/// Those of a Service. None and all addresses are the same: everybody.
pub(super) fn of(spec: &ServiceSpec) -> Vec<SourceRange> {
    let given = spec.load_balancer_source_ranges.iter().flatten();
    let mut ranges: Vec<SourceRange> = given.filter_map(|text| SourceRange::parse(text)).collect();
    ranges.sort();
    ranges.dedup();
    merge(ranges)
}

/// The kernel refuses ranges that overlap.
fn merge(sorted: Vec<SourceRange>) -> Vec<SourceRange> {
    let mut merged: Vec<SourceRange> = Vec::new();
    for range in sorted {
        match merged.last_mut() {
            Some(last) if last.contains(range.first) => last.last = last.last.max(range.last),
            _ => merged.push(range),
        }
    }
    merged
}
