//! Addresses of the node's pods: who has which, and which comes next.
//!
//! Addresses are handed out in a circle, so that one which became free is
//! used again as late as possible: peers may still hold connections to it.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::config::NetworkError;
use crate::pods::PodNetKind;
use api::cidr::Cidr;

/// The range's own address and the node's.
const RESERVED_FIRST: u32 = 2;
/// Where loopback addresses of pods begin: clear of 127.0.0.1 and of what
/// resolvers and test suites like to use.
const LOOPBACK_BASE: Ipv4Addr = Ipv4Addr::new(127, 128, 0, 0);
/// The same of IPv6, which has a single loopback address: a range of our own
/// among those that everybody may use inside ("coracle" in it).
const LOOPBACK_V6_BASE: Ipv6Addr = Ipv6Addr::new(0xfdc0, 0x7261, 0x636c, 0x6500, 0, 0, 0, 0);

/// What stands for ::1 in the shared namespace, where every pod has one of
/// its own: a range that no cluster uses and no route outside leads to.
pub fn loopback_v6() -> Cidr {
    Cidr::new(LOOPBACK_V6_BASE, 96)
}

/// What a pod has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Its address.
    pub ip: Ipv4Addr,
    /// Whose namespace it is in.
    pub kind: PodNetKind,
}

/// The node's addresses.
#[derive(Debug, Clone)]
pub struct Pool {
    range: Cidr,
    /// Offset that is looked at first for the next pod.
    next: u32,
    pods: BTreeMap<String, Lease>,
    taken: HashMap<Ipv4Addr, String>,
}

impl Pool {
    /// All of `range`, which is of IPv4, is free, but for its first two addresses and its last.
    pub fn new(range: Cidr) -> Pool {
        Pool {
            range,
            next: RESERVED_FIRST,
            pods: BTreeMap::new(),
            taken: HashMap::new(),
        }
    }

    /// The range.
    pub fn range(&self) -> Cidr {
        self.range
    }

    /// The offset at which the search for the next address begins.
    pub fn next(&self) -> u32 {
        self.next
    }

    /// Continues the circle at an offset that [`Pool::next`] returned.
    pub fn set_next(&mut self, next: u32) {
        self.next = next;
    }

    /// What a pod has.
    pub fn get(&self, pod: &str) -> Option<Lease> {
        self.pods.get(pod).copied()
    }

    /// All pods, by uid.
    pub fn pods(&self) -> impl Iterator<Item = (&str, Lease)> {
        self.pods.iter().map(|(pod, lease)| (pod.as_str(), *lease))
    }

    /// How many pods have an address.
    pub fn len(&self) -> usize {
        self.pods.len()
    }

    /// Whether no pod has one.
    pub fn is_empty(&self) -> bool {
        self.pods.is_empty()
    }

    /// Gives a pod an address: the one it has, else `wanted` if nobody has that
    /// and it is in the range, else the next in the circle.
    pub fn take(
        &mut self,
        pod: &str,
        kind: PodNetKind,
        wanted: Option<Ipv4Addr>,
    ) -> Result<Lease, NetworkError> {
        let ip = match (self.get(pod), wanted) {
            (Some(lease), _) => lease.ip,
            (None, Some(ip)) if self.usable(ip) && !self.taken.contains_key(&ip) => ip,
            (None, _) => self.find()?,
        };
        let lease = Lease { ip, kind };
        self.insert(pod, lease);
        Ok(lease)
    }

    /// Notes what a record says a pod had. Of two that claim one address the
    /// later wins; addresses outside the range are forgotten.
    pub fn restore(&mut self, pod: &str, lease: Lease) {
        if !self.usable(lease.ip) {
            return;
        }
        if let Some(other) = self.taken.get(&lease.ip).filter(|other| *other != pod).cloned() {
            self.release(&other);
        }
        self.release(pod);
        self.insert(pod, lease);
    }

    /// Frees a pod's address.
    pub fn release(&mut self, pod: &str) -> Option<Lease> {
        let lease = self.pods.remove(pod)?;
        self.taken.remove(&lease.ip);
        Some(lease)
    }

    /// The 127/8 address of the pod that has `ip`.
    pub fn loopback(&self, ip: Ipv4Addr) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(LOOPBACK_BASE) + self.offset(ip))
    }

    /// The address that stands for ::1 for the pod that has `ip`.
    pub fn loopback_v6(&self, ip: Ipv4Addr) -> IpAddr {
        let range = loopback_v6();
        let address = range.nth(u128::from(self.offset(ip)));
        address.unwrap_or(range.base())
    }

    fn insert(&mut self, pod: &str, lease: Lease) {
        self.next = self.offset(lease.ip) + 1;
        self.pods.insert(pod.to_string(), lease);
        self.taken.insert(lease.ip, pod.to_string());
    }

    /// How far after the range's first an address of it lies.
    pub fn offset(&self, ip: Ipv4Addr) -> u32 {
        let offset = self
            .range
            .offset(ip)
            .and_then(|offset| u32::try_from(offset).ok());
        offset.unwrap_or(0)
    }

    fn usable(&self, ip: Ipv4Addr) -> bool {
        self.range.contains(ip) && (RESERVED_FIRST..=self.last()).contains(&self.offset(ip))
    }

    /// The last offset before the broadcast address.
    fn last(&self) -> u32 {
        u32::try_from(self.range.size().saturating_sub(2)).unwrap_or(u32::MAX)
    }

    fn find(&self) -> Result<Ipv4Addr, NetworkError> {
        let start = if self.next > self.last() {
            RESERVED_FIRST
        } else {
            self.next.max(RESERVED_FIRST)
        };
        (start..=self.last())
            .chain(RESERVED_FIRST..start)
            .filter_map(|offset| match self.range.nth(u128::from(offset))? {
                IpAddr::V4(ip) => Some(ip),
                IpAddr::V6(_) => None,
            })
            .find(|ip| !self.taken.contains_key(ip))
            .ok_or(NetworkError::Exhausted(self.range))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use PodNetKind::{Own, Shared};

    fn pool() -> Pool {
        Pool::new("10.64.0.0/28".parse().unwrap())
    }

    fn ip(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 64, 0, last)
    }

    #[test]
    fn a_pod_keeps_its_address() {
        let mut pool = pool();
        let first = pool.take("a", Own, None).unwrap();
        assert_eq!(first.ip, ip(2));
        assert_eq!(pool.take("a", Own, Some(ip(9))).unwrap(), first);
        assert_eq!(pool.take("b", Shared, None).unwrap().ip, ip(3));
    }

    #[test]
    fn a_freed_address_waits_for_the_circle_to_close() {
        let mut pool = pool();
        for pod in ["a", "b", "c"] {
            pool.take(pod, Shared, None).unwrap();
        }
        pool.release("a");
        let later: Vec<u8> = (0..11)
            .map(|n| pool.take(&format!("p{n}"), Shared, None).unwrap().ip.octets()[3])
            .collect();
        assert_eq!(later, [5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 2]);
        assert!(matches!(
            pool.take("more", Own, None),
            Err(NetworkError::Exhausted(_))
        ));
    }

    #[test]
    fn wanted_addresses_are_given_if_they_are_free_and_ours() {
        let mut pool = pool();
        assert_eq!(pool.take("a", Own, Some(ip(7))).unwrap().ip, ip(7));
        for foreign in [ip(7), ip(0), ip(1), ip(15), Ipv4Addr::new(10, 64, 9, 9)] {
            let given = pool.take(&foreign.to_string(), Own, Some(foreign)).unwrap().ip;
            assert_ne!(given, foreign);
        }
    }

    #[test]
    fn records_are_believed_the_later_the_more() {
        let mut pool = pool();
        pool.restore("a", Lease { ip: ip(4), kind: Own });
        pool.restore(
            "b",
            Lease {
                ip: ip(4),
                kind: Shared,
            },
        );
        pool.restore(
            "c",
            Lease {
                ip: Ipv4Addr::new(10, 0, 0, 1),
                kind: Shared,
            },
        );
        assert_eq!(pool.get("a"), None);
        assert_eq!(
            pool.get("b"),
            Some(Lease {
                ip: ip(4),
                kind: Shared
            })
        );
        assert_eq!(pool.len(), 1);
        assert_eq!(pool.take("d", Own, None).unwrap().ip, ip(5));
    }

    #[test]
    fn loopbacks_differ_and_stay_clear_of_the_common_one() {
        let pool = Pool::new("10.64.0.0/12".parse().unwrap());
        assert_eq!(
            pool.loopback(Ipv4Addr::new(10, 64, 0, 2)),
            Ipv4Addr::new(127, 128, 0, 2)
        );
        assert!(pool.loopback(Ipv4Addr::new(10, 79, 255, 254)).is_loopback());
    }
}
