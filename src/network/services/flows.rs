//! Conversations by UDP that the kernel remembers although their endpoint is
//! not one any more, or did not exist when they began.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;

use sys::conntrack::Flow;
use sys::nft::Family;

use super::table::{Delta, Table};
use crate::plan::{Clients, Frontend, Place, Protocol};

/// Makes clients of changed UDP frontends be balanced again, unless they talk
/// to somebody who still answers there. Without this they would stay with what
/// was chosen for them for as long as they keep talking.
pub(super) async fn forget_stale(deltas: &[Delta], table: &Table) {
    let changed: HashMap<Frontend, HashSet<SocketAddr>> = deltas
        .iter()
        .map(|delta| delta.frontend.with(Clients::All))
        .filter(|frontend| frontend.protocol == Protocol::Udp)
        .map(|frontend| (frontend, table.backends(frontend).collect()))
        .collect();
    if changed.is_empty() {
        return;
    }
    let wanted = move |flow: &Flow| is_stale(flow, &changed);
    let done = tokio::task::spawn_blocking(move || sys::conntrack::forget(wanted)).await;
    if let Err(error) = done.map_err(io::Error::other).and_then(|result| result) {
        tracing::warn!(%error, "UDP clients may keep asking endpoints that are gone");
    }
}

/// A node port is told by its number alone, so that a stranger's conversation
/// may be forgotten with it: it goes on and is remembered anew.
fn is_stale(flow: &Flow, changed: &HashMap<Frontend, HashSet<SocketAddr>>) -> bool {
    let ip = flow.destination.ip();
    let known = [Place::Address(ip), Place::Node(Family::of(ip))]
        .into_iter()
        .find_map(|place| {
            changed.get(&Frontend {
                place,
                clients: Clients::All,
                protocol: Protocol::Udp,
                port: flow.destination.port(),
            })
        });
    flow.protocol == Protocol::Udp.number() && known.is_some_and(|backends| !backends.contains(&flow.server))
}
