//! Joining a cluster: from a token to a certificate, and to the next one in time.
//!
//! ```text
//! token: coracle1.<SHA-256 of the serving CA>.agent.<secret>
//! 1. look at the server's certificates, take the one with that hash as the CA
//! 2. with the token as identity, ask for a certificate for system:node:NAME
//! 3. from then on speak with that certificate; renew it after two thirds of its life
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::request::User;
use api::status::Status;
use base::{Random, SystemRandom};
use client::link::INSTANCE;
use client::pin::{self, PinError};
use client::{Client, Credentials, HttpApi, HttpConfig};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

use crate::{disk, servers};

const SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const POLL_EVERY: Duration = Duration::from_millis(200);
const SIGN_TIMEOUT: Duration = Duration::from_secs(60);

/// How to join.
#[derive(Clone)]
pub struct JoinConfig {
    /// The server's URL, such as `https://10.0.0.5:6443`.
    pub server: String,
    /// The token's text; not needed once a certificate is there. A secret.
    pub token: Option<String>,
    /// The node's name.
    pub node_name: String,
    /// What tells this machine from another one of the same name: the data folder's instance id.
    pub instance_id: String,
    /// The data folder; certificate and key go to `pki/` in it.
    pub data_dir: PathBuf,
}

/// Why a node cannot join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// There is neither a certificate nor a token.
    #[error("this node has no certificate yet: give it the server's agent-token with --token-file")]
    NoToken,
    /// The token's text is none.
    #[error("this is not an agent token: it should read coracle1.<hash>.agent.<secret>")]
    BadToken,
    /// The server is not to be had, or another one.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// Keys or certificates cannot be made.
    #[error("certificate: {0}")]
    Certificate(String),
    /// The server does not know the token.
    #[error(
        "the server does not accept this token: take what stands in agent-token in the server's data folder now"
    )]
    TokenRefused,
    /// The server does not want this node.
    #[error("the server refused to let this node in: {0}")]
    Denied(String),
    /// The server refused.
    #[error("the server refused: {0}")]
    Refused(#[from] Status),
    /// The certificate did not come.
    #[error("the server did not sign the certificate in time")]
    NotSigned,
    /// The disk.
    #[error("{0}: {1}")]
    Disk(PathBuf, std::io::Error),
}

impl JoinError {
    /// Whether it may be over by itself: the server is away, or not well.
    pub fn may_pass(&self) -> bool {
        match self {
            JoinError::Pin(PinError::Unreachable(..)) | JoinError::NotSigned => true,
            JoinError::Refused(status) => status.code >= 500 || status.code == 429,
            _ => false,
        }
    }
}

/// Certificate, key and CA on disk.
pub(crate) struct Files {
    pub(crate) dir: PathBuf,
}

/// What is in them.
#[derive(Clone)]
pub(crate) struct Identity {
    /// Those who sign servers' certificates, PEM.
    pub ca_pem: String,
    /// The node's certificate, PEM.
    pub cert_pem: String,
    /// Its key, PEM. A secret.
    pub key_pem: String,
}

impl Files {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// What is there, if all of it is.
    pub(crate) fn read(&self) -> Option<Identity> {
        let read = |name: &str| std::fs::read_to_string(self.path(name)).ok();
        let (ca_pem, cert_pem) = (read("agent-ca.crt")?, read("agent.crt")?);
        Some(Identity {
            ca_pem,
            cert_pem,
            key_pem: read("agent.key")?,
        })
    }

    /// Keeps an identity.
    ///
    /// # Errors
    /// The disk.
    pub(crate) fn write(&self, identity: &Identity) -> Result<(), JoinError> {
        // The certificate last: with it there, all is there.
        let files = [
            ("agent-ca.crt", &identity.ca_pem),
            ("agent.key", &identity.key_pem),
            ("agent.crt", &identity.cert_pem),
        ];
        for (name, text) in files {
            let path = self.path(name);
            disk::write(&path, text.as_bytes(), true).map_err(|error| JoinError::Disk(path, error))?;
        }
        Ok(())
    }
}

impl Identity {
    fn credentials(&self) -> Credentials {
        Credentials {
            cert_pem: self.cert_pem.clone(),
            key_pem: self.key_pem.clone(),
            token: String::new(),
        }
    }
}

/// Connects as this node: with the certificate it has, or with one that it
/// gets for the token.
///
/// # Errors
/// See [`JoinError`]; an unreachable server matters only to a node without a certificate.
pub async fn join(config: &JoinConfig) -> Result<Arc<HttpApi>, JoinError> {
    let files = Files {
        dir: config.data_dir.join("pki"),
    };
    let identity = match files.read().filter(|i| usable(&i.cert_pem, config)) {
        Some(identity) => {
            warn_of_end(&identity.cert_pem);
            identity
        }
        None => {
            let identity = first(config).await?;
            files.write(&identity)?;
            identity
        }
    };
    let api = open(config, &identity.ca_pem, identity.credentials())?;
    Ok(Arc::new(api))
}

/// A certificate that has ended is of use only to a node whose clock may be
/// wrong and that has nothing else.
fn usable(cert_pem: &str, config: &JoinConfig) -> bool {
    let ended = life(cert_pem).is_none_or(|(_, ends)| ends <= Timestamp::now());
    !ended || config.token.is_none()
}

/// Says what to do when a certificate has ended, as after a long time in a cupboard.
pub(crate) fn warn_of_end(cert_pem: &str) {
    let end = life(cert_pem).map(|(_, ends)| ends);
    if let Some(end) = end.filter(|end| *end <= Timestamp::now()) {
        tracing::warn!(
            %end,
            "the node's certificate has ended: if this machine's clock is right, start the agent with --server and \
             --token-file agent-token, as when it joined; its pods go on meanwhile"
        );
    }
}

fn open(config: &JoinConfig, ca_pem: &str, credentials: Credentials) -> Result<HttpApi, JoinError> {
    let config = HttpConfig {
        server: config.server.clone(),
        others: servers::remembered(&config.data_dir),
        ca_pem: ca_pem.to_owned(),
        credentials,
        ..HttpConfig::default()
    };
    HttpApi::new(config).map_err(|error| JoinError::Certificate(error.to_string()))
}

async fn first(config: &JoinConfig) -> Result<Identity, JoinError> {
    let token = config.token.as_deref().map(str::trim).ok_or(JoinError::NoToken)?;
    let hash = pin::ca_hash(token, "agent").ok_or(JoinError::BadToken)?;
    let ca_pem = pin::fetch_ca(&config.server, hash).await?;
    let credentials = Credentials {
        token: token.to_owned(),
        ..Credentials::default()
    };
    let api = Arc::new(open(config, &ca_pem, credentials)?);
    let asked = certificate(api, config).await;
    let (cert_pem, key_pem) = asked.map_err(|error| match error {
        JoinError::Refused(status) if status.code == 401 => JoinError::TokenRefused,
        other => other,
    })?;
    Ok(Identity {
        ca_pem,
        cert_pem,
        key_pem,
    })
}

/// Asks for a client certificate for the node and waits for it: certificate and key.
async fn certificate(api: Arc<HttpApi>, config: &JoinConfig) -> Result<(String, String), JoinError> {
    let node_name = &config.node_name;
    let (request_pem, key_pem) = request(node_name)?;
    let client = Client::new(api, User::new(format!("system:node:{node_name}"), &[]));
    let name = format!("node-csr-{}", SystemRandom.suffix(20));
    let csr = CertificateSigningRequest {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            annotations: Some([(INSTANCE.to_owned(), config.instance_id.clone())].into()),
            ..ObjectMeta::default()
        },
        spec: CertificateSigningRequestSpec {
            request: ByteString(request_pem.into_bytes()),
            signer_name: SIGNER.to_owned(),
            usages: Some(vec!["digital signature".to_owned(), "client auth".to_owned()]),
            ..CertificateSigningRequestSpec::default()
        },
        ..CertificateSigningRequest::default()
    };
    client.create(&csr).await?;
    let wait = async {
        loop {
            let csr: CertificateSigningRequest = client.get("", &name).await?;
            let status = csr.status.unwrap_or_default();
            let mut conditions = status.conditions.iter().flatten();
            if let Some(no) = conditions.find(|c| matches!(c.type_.as_str(), "Denied" | "Failed")) {
                return Err(JoinError::Denied(no.message.clone().unwrap_or_default()));
            }
            let signed = status.certificate.filter(|c| !c.0.is_empty());
            if let Some(certificate) = signed {
                return Ok::<_, JoinError>(String::from_utf8_lossy(&certificate.0).into_owned());
            }
            tokio::time::sleep(POLL_EVERY).await;
        }
    };
    let cert_pem = tokio::time::timeout(SIGN_TIMEOUT, wait)
        .await
        .map_err(|_| JoinError::NotSigned)??;
    Ok((cert_pem, key_pem))
}

fn request(node_name: &str) -> Result<(String, String), JoinError> {
    let failed = |error: rcgen::Error| JoinError::Certificate(error.to_string());
    let key = KeyPair::generate().map_err(failed)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, "system:nodes");
    params
        .distinguished_name
        .push(DnType::CommonName, format!("system:node:{node_name}"));
    let request = params.serialize_request(&key).map_err(failed)?;
    Ok((request.pem().map_err(failed)?, key.serialize_pem()))
}

/// From when to when a certificate is good.
pub(crate) fn life(cert_pem: &str) -> Option<(Timestamp, Timestamp)> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(cert_pem.as_bytes()).ok()?;
    let certificate = pem.parse_x509().ok()?;
    let validity = certificate.validity();
    let time = |t: x509_parser::time::ASN1Time| Timestamp::from_second(t.timestamp()).ok();
    Some((time(validity.not_before)?, time(validity.not_after)?))
}

/// Gets another certificate, and speaks with it and trusts as `old` says from then on.
pub(crate) async fn renewed(
    config: &JoinConfig,
    api: &Arc<HttpApi>,
    files: &Files,
    old: Identity,
) -> Result<(), JoinError> {
    let (cert_pem, key_pem) = certificate(api.clone(), config).await?;
    let identity = Identity {
        cert_pem,
        key_pem,
        ..old
    };
    files.write(&identity)?;
    put_on(api, &identity).await
}

/// Speaks and trusts as `identity` says from now on.
pub(crate) async fn put_on(api: &HttpApi, identity: &Identity) -> Result<(), JoinError> {
    let changed = api.set_identity(&identity.ca_pem, &identity.credentials()).await;
    changed.map_err(|error| JoinError::Certificate(error.to_string()))
}

/// Whether a node in that data folder has joined before.
pub fn joined(data_dir: &Path) -> bool {
    Files {
        dir: data_dir.join("pki"),
    }
    .read()
    .is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_name_the_node() {
        let (request, key) = request("edge-1").unwrap();
        assert!(key.contains("PRIVATE KEY"));
        let (_, pem) = x509_parser::pem::parse_x509_pem(request.as_bytes()).unwrap();
        let text = String::from_utf8_lossy(&pem.contents).into_owned();
        assert!(text.contains("system:node:edge-1") && text.contains("system:nodes"));
    }
}
