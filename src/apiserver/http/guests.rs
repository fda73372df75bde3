//! How many connections there may be, and how many of them from one address.

use std::net::IpAddr;
use std::sync::Arc;

use base::telemetry::Metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::shares::{Full, Share, Shares};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    reason: &'static str,
}

/// Who is connected.
pub struct Guests {
    room: Arc<Shares<IpAddr>>,
    refused: Family<Refused, Counter>,
}

impl Guests {
    /// Room for that many connections.
    pub fn new(max: usize, metrics: &Metrics) -> Self {
        Self {
            room: Shares::new(max),
            refused: metrics.add(
                "coracle_connections_refused",
                "Connections that were closed at once, because there were too many from all or from one address",
                Family::default(),
            ),
        }
    }

    /// Lets a connection in, until what is returned is dropped; `None` when there are too many.
    pub fn admit(&self, from: IpAddr) -> Option<Share<IpAddr>> {
        let full = match self.room.take(from.to_canonical(), 1) {
            Ok(share) => return Some(share),
            Err(full) => full,
        };
        let reason = match full {
            Full::All => "all",
            Full::One => "address",
        };
        self.refused.get_or_create(&Refused { reason }).inc();
        None
    }
}
