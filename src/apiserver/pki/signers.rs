//! The authorities whose certificates prove who a client is, for those who remember which one it was: a connection
//! outlives the trust in it.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

/// The hash of an authority's certificate.
pub type Signer = [u8; 32];

/// Those that are trusted, now and as they will be.
pub type Signers = watch::Receiver<Arc<[Signer]>>;

/// The hash of that authority.
pub fn signer(authority: &CertificateDer<'_>) -> Signer {
    Sha256::digest(authority).into()
}

/// Where it is said which are trusted.
pub(super) struct Said(watch::Sender<Arc<[Signer]>>);

impl Said {
    /// Says these.
    pub fn new<'a>(trusted: impl IntoIterator<Item = &'a CertificateDer<'static>>) -> Self {
        Self(watch::Sender::new(hashes(trusted)))
    }

    /// From now on says these.
    pub fn change<'a>(&self, trusted: impl IntoIterator<Item = &'a CertificateDer<'static>>) {
        let trusted = hashes(trusted);
        // Nobody is woken for nothing: every connection and every watch listens.
        self.0.send_if_modified(|said| {
            let changes = *said != trusted;
            *said = trusted;
            changes
        });
    }

    /// What is said.
    pub fn follow(&self) -> Signers {
        self.0.subscribe()
    }
}

fn hashes<'a>(trusted: impl IntoIterator<Item = &'a CertificateDer<'static>>) -> Arc<[Signer]> {
    trusted.into_iter().map(|root| signer(root)).collect()
}
