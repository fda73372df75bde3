//! Whom a node trusts, and who has certified it: followed while the cluster's authorities are changed.
//!
//! Which step of such a change the node has taken up stands on its Node, so that nobody makes the next one too early.

use std::sync::Arc;

use api::request::PatchType;
use client::link::{AUTHORITIES_PATH, Authorities as Told, TRUST_ANNOTATION};
use client::{Client, HttpApi};
use http::Method;
use k8s_openapi::api::core::v1::Node;
use serde_json::json;
use x509_parser::pem::parse_x509_pem;

use crate::join::{Files, JoinConfig, JoinError, put_on, renewed};

/// See the module.
pub(crate) struct Authorities<'a> {
    config: &'a JoinConfig,
    client: &'a Client,
    api: &'a Arc<HttpApi>,
    /// The step that stands on the Node.
    told: u64,
    looks: u32,
}

/// So many looks after which it is said again on the Node, which may be another one.
const LOOKS: u32 = 60;

impl<'a> Authorities<'a> {
    /// For the node that joined so.
    pub fn new(config: &'a JoinConfig, client: &'a Client, api: &'a Arc<HttpApi>) -> Self {
        Self {
            config,
            client,
            api,
            told: 0,
            looks: 0,
        }
    }

    /// Asks a server whom to trust and does what follows from it. What fails is tried again at the next look.
    pub async fn look(&mut self, files: &Files) {
        self.looks += 1;
        if self.looks.is_multiple_of(LOOKS) {
            self.told = 0;
        }
        let Some(now) = self.ask().await.filter(|now| now.generation > self.told) else {
            return;
        };
        match self.take_up(&now, files).await {
            Ok(true) => self.tell(now.generation).await,
            // Who signs is a step behind.
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "the cluster's authorities were not taken up, trying again"),
        }
    }

    /// What a server says; nothing when none answers, or an earlier version that has no such thing.
    async fn ask(&self) -> Option<Told> {
        let (code, body) = self
            .api
            .raw(Method::GET, AUTHORITIES_PATH, Default::default())
            .await
            .ok()?;
        (code == 200).then(|| serde_json::from_slice(&body).ok())?
    }

    /// Trusts whom the cluster trusts, and gets a certificate of whoever signs now; whether it has one then.
    async fn take_up(&self, now: &Told, files: &Files) -> Result<bool, JoinError> {
        let Some(mut identity) = files.read() else {
            return Ok(false);
        };
        if identity.ca_pem != now.serving {
            identity.ca_pem.clone_from(&now.serving);
            files.write(&identity)?;
            put_on(self.api, &identity).await?;
            tracing::info!(
                generation = now.generation,
                "the authorities of servers were taken up"
            );
        }
        if is_signed_by(&identity.cert_pem, &now.clients) {
            return Ok(true);
        }
        renewed(self.config, self.api, files, identity).await?;
        let own = files.read().map(|identity| identity.cert_pem).unwrap_or_default();
        tracing::info!(
            generation = now.generation,
            "the node has a certificate of the new authority"
        );
        Ok(is_signed_by(&own, &now.clients))
    }

    async fn tell(&mut self, generation: u64) {
        let patch = json!({"metadata": {"annotations": {TRUST_ANNOTATION: generation.to_string()}}});
        match self
            .client
            .patch::<Node>("", &self.config.node_name, PatchType::Merge, &patch, "")
            .await
        {
            Ok(_) => self.told = generation,
            Err(error) => tracing::debug!(%error, "not told yet that the authorities were taken up"),
        }
    }
}

/// Whether the first authority of a bundle is the one that a certificate names. They have names of their own.
fn is_signed_by(cert_pem: &str, authorities: &str) -> bool {
    let first = |text: &str| parse_x509_pem(text.as_bytes()).ok().map(|(_, pem)| pem);
    let (Some(cert), Some(ca)) = (first(cert_pem), first(authorities)) else {
        return false;
    };
    match (cert.parse_x509(), ca.parse_x509()) {
        (Ok(cert), Ok(ca)) => cert.issuer() == ca.subject(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair};

    fn authority(name: &str) -> (String, Issuer<'static, KeyPair>) {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        (pem, Issuer::new(params, key))
    }

    #[test]
    fn a_certificate_is_of_whoever_signs_now_or_of_another() {
        let ((old, signer), (new, _)) = (authority("ca"), authority("ca@2"));
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::default()
            .signed_by(&key, &signer)
            .unwrap()
            .pem();
        assert!(is_signed_by(&cert, &old));
        assert!(is_signed_by(&cert, &format!("{old}{new}")));
        assert!(!is_signed_by(&cert, &format!("{new}{old}")));
        assert!(!is_signed_by(&cert, "") && !is_signed_by("", &old));
    }
}
