//! A witness keeps no state, so it cannot follow what the cluster has agreed on: whoever leads brings it there.
//!
//! ```text
//! leader ─ POST witness, as administrator ─▶ the witness, known by its serving certificate: takes it up, answers
//!    ─▶ the leader says in the store that the witness has taken it up
//! ```
//! Both sides prove themselves by what the peers' authority does not sign: its key is the one that a witness has, and
//! whoever stole it from one that was removed shall not get the next one with it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base::Clock;
use client::{Credentials, HttpApi, HttpConfig};
use http::Method;
use store::{Peer, Status, Store, StoreError};

use super::record;
use super::wire::WITNESS;
use crate::members::wire::ROOT;
use crate::members::witness_names;
use crate::own;
use crate::pki::Pki;

/// Between two looks whether there is a witness that is behind.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long a witness may take to take something up.
const PATIENCE: Duration = Duration::from_secs(20);

/// Brings witnesses what the cluster has agreed on, for as long as this server leads.
pub async fn supply(store: Store, pki: Arc<Pki>, clock: Arc<dyn Clock>) {
    let mut changes = pki.changes();
    let mut failed = None;
    loop {
        changes.mark_unchanged();
        match level(&store, &pki, &*clock).await {
            Ok(()) => failed = None,
            Err(why) => {
                // Once for each reason: a witness may be away for weeks.
                if failed.as_ref() != Some(&why) {
                    tracing::warn!(why, "the witness has not taken up the cluster's keys, trying on");
                }
                failed = Some(why);
            }
        }
        let changed = tokio::time::timeout(LOOK_EVERY, changes.changed()).await;
        if matches!(changed, Ok(Err(_))) {
            return;
        }
    }
}

/// One look, and what is to be done about it.
async fn level(store: &Store, pki: &Pki, clock: &dyn Clock) -> Result<(), String> {
    let text = |error: StoreError| error.to_string();
    let status = store.status().await.map_err(text)?;
    let (_, said) = store.peek_prefix(record::TAKEN);
    let said = said
        .iter()
        .filter_map(|entry| record::read_taken(&entry.key, &entry.text));
    let Some(witness) = behind(&status, &said.collect(), pki.now().generation()) else {
        return Ok(());
    };
    let generation = tokio::time::timeout(PATIENCE, bring(pki, witness, clock)).await;
    let generation =
        generation.unwrap_or_else(|_| Err(format!("{} does not answer in time", witness.name)))?;
    let written = store.commit(vec![record::taken(witness.id, generation)]).await;
    written.map_err(text)?;
    tracing::info!(
        name = witness.name,
        generation,
        "the witness has taken up the cluster's keys"
    );
    Ok(())
}

/// The witness that has not taken up that generation, by what was said in the store.
fn behind<'a>(status: &'a Status, taken: &BTreeMap<u64, u64>, generation: u64) -> Option<&'a Peer> {
    let has = |peer: &Peer| taken.get(&peer.id).copied().unwrap_or(0);
    let mut witnesses = status.peers.iter().filter(|peer| peer.witness);
    witnesses.find(|peer| has(peer) < generation)
}

/// Brings a witness the keys of now; which generation it has then.
async fn bring(pki: &Pki, witness: &Peer, clock: &dyn Clock) -> Result<u64, String> {
    let (now, names) = (clock.now(), witness_names(&witness.name, &witness.address));
    let document = pki.for_witness(&names, now).map_err(|error| error.to_string())?;
    let body = document.text().map_err(|error| error.to_string())?;
    let own = pki.client(own::USER.0, &[own::USER.1], now);
    let own = own.map_err(|error| error.to_string())?;
    let api = HttpApi::new(HttpConfig {
        server: format!("https://{}", witness.address),
        ca_pem: pki.now().serving_ca.bundle().to_owned(),
        credentials: Credentials {
            cert_pem: own.cert_pem,
            key_pem: own.key_pem,
            token: String::new(),
        },
        ..HttpConfig::default()
    });
    let api = api.map_err(|error| error.to_string())?;
    let answer = api
        .raw(Method::POST, &format!("{ROOT}/{WITNESS}"), body.into())
        .await;
    let said = |why: &dyn std::fmt::Display| format!("{}: {why}", witness.name);
    match answer.map_err(|status| said(&status.message))? {
        (200, text) => serde_json::from_slice(&text).map_err(|error| said(&error)),
        (code, text) => Err(said(&format_args!("{code} {}", String::from_utf8_lossy(&text)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_witness_is_brought_what_it_lacks() {
        let peer = |id, witness| Peer {
            id,
            name: format!("n{id}"),
            address: String::new(),
            witness,
        };
        let status = Status {
            peers: vec![peer(1, false), peer(2, true)],
            ..Status::default()
        };
        let behind = |taken: &[(u64, u64)], generation| {
            let taken = taken.iter().copied().collect();
            behind(&status, &taken, generation).map(|peer| peer.id)
        };
        assert_eq!(behind(&[], 0), None, "it got these when it joined");
        assert_eq!(behind(&[], 1), Some(2));
        assert_eq!(behind(&[(1, 3), (2, 2)], 3), Some(2));
        assert_eq!(behind(&[(2, 3)], 3), None);
    }
}
