//! How many connections there may be, and how many of them from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base::telemetry::Metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    reason: &'static str,
}

/// Who is connected.
pub struct Guests {
    max: usize,
    // A std lock: nothing awaits while it is held.
    counts: Mutex<HashMap<IpAddr, usize>>,
    open: Gauge,
    refused: Family<Refused, Counter>,
}

impl Guests {
    /// Room for that many connections. One address may have half of them: it cannot keep the others out.
    pub fn new(max: usize, metrics: &Metrics) -> Arc<Self> {
        Arc::new(Self {
            max,
            counts: Mutex::default(),
            open: metrics.add(
                "coracle_connections",
                "Connections of clients and other servers that are open",
                Gauge::default(),
            ),
            refused: metrics.add(
                "coracle_connections_refused",
                "Connections that were closed at once, because there were too many from all or from one address",
                Family::default(),
            ),
        })
    }

    /// Lets a connection in, until what is returned is dropped; `None` when there are too many.
    pub fn admit(self: &Arc<Self>, from: IpAddr) -> Option<Guest> {
        let from = from.to_canonical();
        let mut counts = self.counts();
        let reason = if counts.values().sum::<usize>() >= self.max {
            "all"
        } else if counts.get(&from).copied().unwrap_or_default() >= self.max.div_ceil(2) {
            "address"
        } else {
            *counts.entry(from).or_default() += 1;
            self.open.inc();
            let all = self.clone();
            return Some(Guest { all, from });
        };
        self.refused.get_or_create(&Refused { reason }).inc();
        None
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection, while it lives.
pub struct Guest {
    all: Arc<Guests>,
    from: IpAddr,
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut counts = self.all.counts();
        if let Some(count) = counts.get_mut(&self.from) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.from);
            }
        }
        self.all.open.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_leaves_room_for_others() {
        let guests = Guests::new(4, &Metrics::new());
        let (one, other): (IpAddr, IpAddr) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        let mapped = "::ffff:192.0.2.1".parse().unwrap();
        let first = guests.admit(one).unwrap();
        let second = guests.admit(mapped).unwrap();
        assert!(guests.admit(one).is_none(), "half is taken");
        let third = guests.admit(other).unwrap();
        drop(first);
        let fourth = guests.admit(one).unwrap();
        let fifth = guests.admit(other).unwrap();
        assert!(guests.admit([192, 0, 2, 3].into()).is_none(), "all is taken");
        drop((second, third, fourth, fifth));
        assert!(guests.counts().is_empty());
    }
}
