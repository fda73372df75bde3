//! How servers prove to each other who they are.
//!
//! Each makes a certificate for itself when it starts and keeps it in memory:
//! all of them hold the key of the peers' CA. The name in it is the member and
//! its cluster, `MEMBER.CLUSTER.peers.coracle`, in hexadecimal digits.
//!
//! **Invariant:** no clock is asked whether a certificate is good. A server
//! whose clock is wrong must not lose the others, and one that was away for
//! years must be able to come back; who may be a member is the group's to say.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rcgen::SanType;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
};
use tokio::sync::watch;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::PROTOCOL;
use crate::pki::{Ca, LEAF_SECONDS, Leaf, PkiError};

const SUFFIX: &str = "peers.coracle";

/// One member of one cluster, as certificates name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerName {
    /// The cluster's id.
    pub cluster: u64,
    /// The member's id.
    pub member: u64,
}

impl PeerName {
    fn text(self) -> String {
        format!("{:016x}.{:016x}.{SUFFIX}", self.member, self.cluster)
    }

    fn parse(text: &str) -> Option<Self> {
        let (member, rest) = text.split_once('.')?;
        let (cluster, suffix) = rest.split_once('.')?;
        let number = |digits: &str| u64::from_str_radix(digits, 16).ok();
        (suffix == SUFFIX).then_some(Self {
            cluster: number(cluster)?,
            member: number(member)?,
        })
    }

    /// Whom a certificate names, if it names a server.
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let names = certificate.subject_alternative_name().ok()??;
        names.value.general_names.iter().find_map(|name| match name {
            GeneralName::DNSName(text) => Self::parse(text),
            _ => None,
        })
    }
}

/// This server's identity towards the others, and whom it takes for one of them.
pub struct PeerTls {
    me: PeerName,
    now: watch::Sender<Sides>,
}

/// Both sides of a connection, as they are at the moment.
#[derive(Clone)]
struct Sides {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    roots: Vec<CertificateDer<'static>>,
}

impl PeerTls {
    /// The identity of the member `member` of `cluster`, certified by the peers' CA.
    ///
    /// # Errors
    /// When the certificate cannot be made or TLS does not take it.
    pub fn new(
        ca: &Ca,
        roots: &[CertificateDer<'static>],
        cluster: u64,
        member: u64,
        now: Timestamp,
    ) -> Result<Self, PkiError> {
        let me = PeerName { cluster, member };
        let sides = Sides::new(ca, roots, me, now)?;
        Ok(Self {
            me,
            now: watch::Sender::new(sides),
        })
    }

    /// From now on certified by that CA, and trusting these.
    ///
    /// # Errors
    /// When the certificate cannot be made or TLS does not take it; then nothing changes.
    pub fn renew(&self, ca: &Ca, roots: &[CertificateDer<'static>], now: Timestamp) -> Result<(), PkiError> {
        self.now.send_replace(Sides::new(ca, roots, self.me, now)?);
        Ok(())
    }

    /// Waits until a CA that is trusted now is trusted no more.
    pub async fn distrusted(&self) {
        let mut now = self.now.subscribe();
        let trusted = now.borrow_and_update().roots.clone();
        let lost = |sides: &Sides| trusted.iter().any(|root| !sides.roots.contains(root));
        let _ = now.wait_for(lost).await;
    }
    /// Who this server is.
    pub fn me(&self) -> PeerName {
        self.me
    }

    /// For connections that come in.
    pub fn server(&self) -> Arc<ServerConfig> {
        self.now.borrow().server.clone()
    }

    /// For connections to others.
    pub fn client(&self) -> Arc<ClientConfig> {
        self.now.borrow().client.clone()
    }

    /// The name that the certificate of another member must have.
    ///
    /// # Errors
    /// Never: such names are well-formed.
    pub fn name_of(
        &self,
        member: u64,
    ) -> Result<ServerName<'static>, rustls::pki_types::InvalidDnsNameError> {
        let name = PeerName { member, ..self.me };
        ServerName::try_from(name.text())
    }
}

impl Sides {
    fn new(
        ca: &Ca,
        roots: &[CertificateDer<'static>],
        me: PeerName,
        now: Timestamp,
    ) -> Result<Self, PkiError> {
        let name = me.text();
        let leaf = Leaf {
            sans: name
                .as_str()
                .try_into()
                .map(SanType::DnsName)
                .into_iter()
                .collect(),
            name,
            client: true,
            server: true,
            ..Leaf::default()
        };
        let issued = ca.issue(&leaf, now, LEAF_SECONDS)?;
        let unreadable = |error: rustls::pki_types::pem::Error| rustls::Error::General(error.to_string());
        let mut trusted = RootCertStore::empty();
        for root in roots {
            trusted.add(root.clone())?;
        }
        let parts = Parts {
            provider: Arc::new(rustls::crypto::ring::default_provider()),
            roots: Arc::new(trusted),
            chain: vec![CertificateDer::from_pem_slice(issued.cert_pem.as_bytes()).map_err(unreadable)?],
            key: PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).map_err(unreadable)?,
        };
        Ok(Self {
            server: Arc::new(parts.server()?),
            client: Arc::new(parts.client()?),
            roots: roots.to_vec(),
        })
    }
}

/// What both sides of a connection are made of.
struct Parts {
    provider: Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Parts {
    fn server(&self) -> Result<ServerConfig, PkiError> {
        let verifier = WebPkiClientVerifier::builder_with_provider(self.roots.clone(), self.provider.clone())
            .build()
            .map_err(unverifiable)?;
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(Arc::new(AnyTime(verifier)))
            .with_single_cert(self.chain.clone(), self.key.clone_key())?;
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        Ok(config)
    }

    fn client(&self) -> Result<ClientConfig, PkiError> {
        let verifier = WebPkiServerVerifier::builder_with_provider(self.roots.clone(), self.provider.clone())
            .build()
            .map_err(unverifiable)?;
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyTime(verifier)))
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())?;
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        Ok(config)
    }
}

fn unverifiable(error: VerifierBuilderError) -> rustls::Error {
    rustls::Error::General(error.to_string())
}

/// Checks everything about a certificate but its dates.
#[derive(Debug)]
struct AnyTime<V: ?Sized>(Arc<V>);

/// A moment at which a certificate says that it is good.
fn within(certificate: &CertificateDer<'_>) -> UnixTime {
    let begins = X509Certificate::from_der(certificate).map_or(0, |(_, certificate)| {
        certificate.validity().not_before.timestamp()
    });
    UnixTime::since_unix_epoch(Duration::from_secs(begins.max(0).unsigned_abs() + 1))
}

/// What both sorts of verifiers say of signatures: dates do not matter there.
macro_rules! signatures_as_within {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            self.0
                .verify_tls12_signature(message, certificate, signature)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            self.0
                .verify_tls13_signature(message, certificate, signature)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.supported_verify_schemes()
        }
    };
}

impl ServerCertVerifier for AnyTime<WebPkiServerVerifier> {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.0.verify_server_cert(leaf, rest, name, ocsp, within(leaf))
    }

    signatures_as_within!();
}

impl ClientCertVerifier for AnyTime<dyn ClientCertVerifier> {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.0.verify_client_cert(leaf, rest, within(leaf))
    }

    signatures_as_within!();
}

#[cfg(test)]
mod tests {
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;

    /// Whether `dialler` and `dialled`, taken for `member`, would talk; who came.
    async fn meet(dialler: &PeerTls, dialled: &PeerTls, member: u64) -> Option<PeerName> {
        let (near, far) = tokio::io::duplex(16 << 10);
        let accepting = TlsAcceptor::from(dialled.server()).accept(far);
        let name = dialler.name_of(member).unwrap();
        let dialling = TlsConnector::from(dialler.client()).connect(name, near);
        let (accepted, connected) = tokio::join!(accepting, dialling);
        let (accepted, _) = (accepted.ok()?, connected.ok()?);
        let chain = accepted.get_ref().1.peer_certificates()?;
        PeerName::of(chain.first()?)
    }

    #[tokio::test]
    async fn members_know_each_other_by_name_whatever_the_time() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let now = Timestamp::now();
        let ca = Ca::open(dir.path(), "peer-ca", "coracle-peer-ca", now).unwrap();
        let foreign = Ca::open(other.path(), "peer-ca", "coracle-peer-ca", now).unwrap();
        let long_ago = now - jiff::SignedDuration::from_hours(24 * 3000);
        let tls = |ca: &Ca, cluster, member, now| {
            PeerTls::new(ca, &[ca.der().clone()], cluster, member, now).unwrap()
        };
        let (a, b) = (tls(&ca, 7, 1, now), tls(&ca, 7, 2, long_ago));
        assert_eq!(meet(&a, &b, 2).await, Some(a.me()));
        assert_eq!(meet(&b, &a, 1).await, Some(b.me()));
        assert_eq!(meet(&a, &b, 3).await, None, "another member than was wanted");
        let stranger = tls(&foreign, 7, 1, now);
        assert_eq!(meet(&stranger, &b, 2).await, None, "a foreign certificate");
        assert_eq!(meet(&a, &stranger, 1).await, None, "a foreign server");
        let neighbour = tls(&ca, 8, 2, now);
        assert_eq!(meet(&a, &neighbour, 2).await, None, "another cluster");
    }
    #[tokio::test]
    async fn one_authority_takes_anothers_place_and_members_talk_at_every_step() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let now = Timestamp::now();
        let old = Ca::open(dir.path(), "peer-ca", "coracle-peer-ca", now).unwrap();
        let new = Ca::open(other.path(), "peer-ca", "coracle-peer-ca@2", now).unwrap();
        let (one, both, other) = (
            [old.der().clone()],
            [old.der().clone(), new.der().clone()],
            [new.der().clone()],
        );
        let a = PeerTls::new(&old, &one, 7, 1, now).unwrap();
        let b = PeerTls::new(&old, &one, 7, 2, now).unwrap();
        let steps = [(&old, &both[..]), (&new, &both[..]), (&new, &other[..])];
        for (signer, roots) in steps {
            let distrusted = a.distrusted();
            tokio::pin!(distrusted);
            assert!(futures_util::poll!(&mut distrusted).is_pending());
            // First one, then the other: in between they are a step apart.
            for tls in [&a, &b] {
                tls.renew(signer, roots, now).unwrap();
                assert_eq!(meet(&a, &b, 2).await, Some(a.me()));
                assert_eq!(meet(&b, &a, 1).await, Some(b.me()));
            }
            let lost = roots.len() == 1;
            assert_eq!(futures_util::poll!(&mut distrusted).is_ready(), lost);
        }
        let late = PeerTls::new(&old, &both, 7, 2, now).unwrap();
        assert_eq!(meet(&a, &late, 2).await, None, "who missed a step is not let in");
    }
}
