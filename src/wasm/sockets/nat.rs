//! What a socket's datagrams were translated to.

use super::translate::{Refused, Sockets};
use crate::Protocol;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How long a destination keeps the endpoint that was picked for it, counted
/// from its last use; as long as the kernel's connection tracking would.
const STICKY: Duration = Duration::from_secs(120);

/// Most destinations remembered for one socket.
const DESTINATIONS_MAX: usize = 1024;

/// What one socket's datagrams were translated to, so that a conversation stays
/// with one endpoint and its answers seem to come from where they were asked.
#[derive(Default)]
pub(crate) struct Nat {
    sent: HashMap<SocketAddr, (SocketAddr, Instant)>,
    back: HashMap<SocketAddr, SocketAddr>,
}

impl Nat {
    /// The peer for a destination.
    pub(super) fn forward(
        &mut self,
        named: SocketAddr,
        sockets: &Sockets,
        now: Instant,
    ) -> Result<SocketAddr, Refused> {
        if let Some((peer, used)) = self.sent.get_mut(&named)
            && now.saturating_duration_since(*used) < STICKY
        {
            *used = now;
            return Ok(*peer);
        }
        let peer = sockets.route(named, Protocol::Udp)?.peer;
        if peer != named {
            self.remember(named, peer, now);
        }
        Ok(peer)
    }

    fn remember(&mut self, named: SocketAddr, peer: SocketAddr, now: Instant) {
        if self.sent.len() >= DESTINATIONS_MAX {
            self.sent
                .retain(|_, (_, used)| now.saturating_duration_since(*used) < STICKY);
        }
        // Still full: start anew rather than grow with what a guest sends.
        if self.sent.len() >= DESTINATIONS_MAX {
            self.sent.clear();
        }
        self.sent.insert(named, (peer, now));
        self.back = self
            .sent
            .iter()
            .map(|(named, (peer, _))| (*peer, *named))
            .collect();
    }

    /// The peer as the guest named it.
    pub(super) fn shown(&self, peer: SocketAddr, sockets: &Sockets) -> SocketAddr {
        self.back
            .get(&peer)
            .copied()
            .unwrap_or_else(|| sockets.shown(peer))
    }
}
