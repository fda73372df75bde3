//! By what others know this server.

use std::sync::{Arc, Mutex, PoisonError};

use client::Credentials;
use jiff::Timestamp;

use crate::pki::{Issued, Pki};

/// The certificate is made anew when it is this old, in seconds; it is good for much longer.
const RENEW_AFTER_SECONDS: i64 = 30 * 86_400;

/// A certificate, since when it is there, and as of which generation of the cluster's keys.
struct Made {
    since: Timestamp,
    generation: u64,
    issued: Issued,
}

/// The certificate by which others know that this server speaks, and that it may say for whom.
pub(super) struct Identity {
    pki: Arc<Pki>,
    // A std mutex: nothing awaits while it is held.
    made: Mutex<Option<Made>>,
}

impl Identity {
    /// One that is made as soon as it is needed.
    pub(super) fn new(pki: Arc<Pki>) -> Self {
        Self {
            pki,
            made: Mutex::default(),
        }
    }

    /// What connections show.
    pub(super) fn credentials(&self, now: Timestamp) -> Result<Credentials, String> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let generation = self.pki.now().generation();
        let fresh = made.as_ref().filter(|made| {
            made.generation == generation && now.duration_since(made.since).as_secs() < RENEW_AFTER_SECONDS
        });
        let issued = match fresh {
            Some(made) => made.issued.clone(),
            None => {
                let issued = self.pki.front_proxy(now).map_err(|error| error.to_string())?;
                let new = Made {
                    since: now,
                    generation,
                    issued,
                };
                made.insert(new).issued.clone()
            }
        };
        Ok(Credentials {
            cert_pem: issued.cert_pem,
            key_pem: issued.key_pem,
            token: String::new(),
        })
    }
}
