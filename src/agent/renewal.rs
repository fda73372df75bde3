//! A node's certificate, and whom it trusts, kept fresh.

use std::sync::Arc;
use std::time::Duration;

use client::{Client, HttpApi};
use jiff::Timestamp;
use tokio::time::Instant;

use crate::authorities::Authorities;
use crate::certificate::Certificate;
use crate::join::{Files, JoinConfig, life, renewed, warn_of_end};

/// Between attempts to renew.
const RENEW_RETRY: Duration = Duration::from_secs(600);

/// How often it is looked whether it is time, and whom to trust.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Keeps certificate and authorities fresh. Runs until dropped; a node that is offline
/// when it is time goes on trying until the server is back.
/// What comes of it is noted in `metrics`.
pub async fn renew(config: &JoinConfig, client: &Client, api: &Arc<HttpApi>, metrics: &Certificate) {
    let files = Files {
        dir: config.data_dir.join("pki"),
    };
    let mut authorities = Authorities::new(config, client, api);
    let mut not_before = Instant::now();
    loop {
        let Some(identity) = files.read() else { return };
        metrics.ends(life(&identity.cert_pem).map_or(0, |(_, ends)| ends.as_second()));
        let due = until_renewal(&identity.cert_pem).max(not_before.saturating_duration_since(Instant::now()));
        // The clock may be put right meanwhile, so nobody sleeps for months.
        tokio::time::sleep(due.min(LOOK_EVERY)).await;
        authorities.look(&files).await;
        let Some(identity) = files.read() else { return };
        if not_before > Instant::now() || !until_renewal(&identity.cert_pem).is_zero() {
            continue;
        }
        match renewed(config, api, &files, identity).await {
            Ok(()) => tracing::info!("the node's certificate was renewed"),
            Err(error) => {
                metrics.not_renewed();
                tracing::warn!(%error, "the node's certificate was not renewed, trying again later");
                warn_of_end(&files.read().map(|own| own.cert_pem).unwrap_or_default());
                not_before = Instant::now() + RENEW_RETRY;
            }
        }
    }
}

fn until_renewal(cert_pem: &str) -> Duration {
    let Some((begins, ends)) = life(cert_pem) else {
        return Duration::ZERO;
    };
    let life = Duration::try_from(ends.duration_since(begins)).unwrap_or_default();
    let due = begins.saturating_add(life * 2 / 3).unwrap_or(ends);
    Duration::try_from(due.duration_since(Timestamp::now())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};

    #[test]
    fn certificates_are_renewed_after_two_thirds() {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        let now = Timestamp::now().as_second();
        let date = |second: i64| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(second as u64);
        params.not_before = date(now - 1000);
        params.not_after = date(now + 2000);
        let pem = params.self_signed(&key).unwrap().pem();
        let left = until_renewal(&pem).as_secs();
        assert!((990..=1000).contains(&left), "{left}");
        assert_eq!(until_renewal("nonsense"), Duration::ZERO);
        let (_, ends) = life(&pem).unwrap();
        assert_eq!(ends.as_second(), now + 2000);
    }
}
