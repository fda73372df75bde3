//! One certificate authority.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::terms::{CA_SECONDS, DAY};
use super::{PkiError, files};

/// Certificates are good from a day before they were made: clocks at the edge differ.
const BACKDATED_SECONDS: i64 = DAY;

/// A certificate authority: a self-signed certificate and its key.
pub struct Ca {
    pem: String,
    der: CertificateDer<'static>,
    pub(super) issuer: Issuer<'static, KeyPair>,
    ends: i64,
}

/// A certificate to be made.
#[derive(Clone, Debug, Default)]
pub struct Leaf {
    /// Common name: the user's name for a client.
    pub name: String,
    /// Organisation: the user's group for a client. X.509 allows several, rcgen one.
    pub group: Option<String>,
    /// Names and addresses for a server.
    pub sans: Vec<SanType>,
    /// Whether it may prove a client.
    pub client: bool,
    /// Whether it may prove a server.
    pub server: bool,
}

impl Leaf {
    /// A client's certificate. Only the first group fits in.
    pub fn client(name: &str, groups: &[&str]) -> Self {
        let group = groups.first().map(|g| (*g).to_owned());
        Self {
            name: name.to_owned(),
            group,
            client: true,
            ..Self::default()
        }
    }
}

/// A certificate with its key. The key is a secret.
#[derive(Clone)]
pub struct Issued {
    /// PEM of the certificate.
    pub cert_pem: String,
    /// PEM (PKCS#8) of the key.
    pub key_pem: String,
}

impl Ca {
    /// Reads `<dir>/<name>.crt` and `.key`, or makes them.
    pub fn open(dir: &Path, name: &str, subject: &str, now: Timestamp) -> Result<Self, PkiError> {
        let (cert_path, key_path) = (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")));
        let key_pem = files::key(&key_path)?;
        let pem = match files::read(&cert_path)? {
            Some(pem) => pem,
            None => {
                let key = KeyPair::from_pem(&key_pem)?;
                let pem = ca_params(subject, now).self_signed(&key)?.pem();
                files::write_public(&cert_path, pem.as_bytes())?;
                pem
            }
        };
        Self::of(&pem, &key_pem).map_err(|error| match error {
            PkiError::Malformed { why, .. } => PkiError::Malformed { path: cert_path, why },
            other => other,
        })
    }

    /// The authority of that certificate, the first of those in `pem`, and that key.
    ///
    /// # Errors
    /// When they make no sense.
    pub fn of(pem: &str, key_pem: &str) -> Result<Self, PkiError> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| malformed_certificate(&e))?;
        let ends = ends(pem).ok_or_else(|| malformed_certificate(&"not a certificate"))?;
        let issuer = Issuer::from_ca_cert_der(&der, KeyPair::from_pem(key_pem)?)?;
        Ok(Self {
            pem: alone(pem),
            der,
            issuer,
            ends,
        })
    }

    /// A new authority of that name: its certificate and its key.
    ///
    /// # Errors
    /// When the key cannot be made.
    pub fn make(name: &str, now: Timestamp) -> Result<Issued, PkiError> {
        let key = KeyPair::generate()?;
        let cert = ca_params(name, now).self_signed(&key)?;
        Ok(Issued {
            cert_pem: cert.pem(),
            key_pem: key.serialize_pem(),
        })
    }

    /// A certificate of this authority for another one: who trusts this one alone trusts what that one signs, as long
    /// as it is shown both.
    ///
    /// # Errors
    /// When the other's certificate makes no sense.
    pub(super) fn vouch_for(&self, other: &Ca) -> Result<CertificateDer<'static>, PkiError> {
        let (_, named) =
            X509Certificate::from_der(&other.der).map_err(|error| malformed_certificate(&error))?;
        let name = named.subject().iter_common_name().next();
        let name = name.and_then(|name| name.as_str().ok()).unwrap_or_default();
        let mut params = ca_params(name, Timestamp::UNIX_EPOCH);
        let begins = named.validity().not_before.timestamp();
        span(&mut params, begins, other.ends.min(self.ends));
        let vouched = params.signed_by(other.issuer.key(), &self.issuer)?;
        Ok(vouched.der().clone())
    }

    /// When it ends, in seconds since 1970.
    pub fn ends(&self) -> i64 {
        self.ends
    }

    /// PEM of the certificate.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The certificate.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// Makes a key and a certificate for it, good for `seconds` but not longer than this CA.
    pub fn issue(&self, leaf: &Leaf, now: Timestamp, seconds: i64) -> Result<Issued, PkiError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(&leaf.name, leaf.group.as_deref());
        params.subject_alt_names = leaf.sans.clone();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        if leaf.client {
            params
                .extended_key_usages
                .push(ExtendedKeyUsagePurpose::ClientAuth);
        }
        if leaf.server {
            params
                .extended_key_usages
                .push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        self.limit(&mut params, now, seconds);
        let cert = params.signed_by(&key, &self.issuer)?;
        Ok(Issued {
            cert_pem: cert.pem(),
            key_pem: key.serialize_pem(),
        })
    }

    /// Sets validity and everything else that the subject of a certificate has no say in.
    pub(super) fn limit(&self, params: &mut CertificateParams, now: Timestamp, seconds: i64) {
        let now = now.as_second();
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        span(params, now - BACKDATED_SECONDS, (now + seconds).min(self.ends));
    }

    /// Whether this CA signed that certificate (PEM); says nothing about time.
    pub(super) fn issued(&self, pem: &str) -> bool {
        let Ok(der) = CertificateDer::from_pem_slice(pem.as_bytes()) else {
            return false;
        };
        let (Ok((_, cert)), Ok((_, ca))) = (
            X509Certificate::from_der(&der),
            X509Certificate::from_der(&self.der),
        ) else {
            return false;
        };
        cert.issuer() == ca.subject() && cert.verify_signature(Some(ca.public_key())).is_ok()
    }
}

/// The first of the certificates in a PEM text, alone; the text itself when it has no other.
fn alone(pem: &str) -> String {
    const END: &str = "-----END CERTIFICATE-----\n";
    match pem.find(END).and_then(|at| pem.get(..at + END.len())) {
        Some(first) => first.to_owned(),
        None => pem.to_owned(),
    }
}

fn malformed_certificate(error: &dyn std::fmt::Display) -> PkiError {
    PkiError::Malformed {
        path: "a certificate authority".into(),
        why: error.to_string(),
    }
}

fn ca_params(name: &str, now: Timestamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = subject(name, None);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
    ];
    span(
        &mut params,
        now.as_second() - BACKDATED_SECONDS,
        now.as_second() + CA_SECONDS,
    );
    params
}

fn subject(name: &str, group: Option<&str>) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    if let Some(group) = group {
        subject.push(DnType::OrganizationName, group);
    }
    subject.push(DnType::CommonName, name);
    subject
}

/// Sets the span in which a certificate is good, in seconds since 1970. rcgen's time type
/// comes from a crate that this one does not name, hence the sum.
fn span(params: &mut CertificateParams, from: i64, until: i64) {
    let since_1970 = |seconds: i64| Duration::from_secs(seconds.max(0).unsigned_abs());
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + since_1970(from);
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + since_1970(until);
}

/// When a certificate (PEM) ends, in seconds since 1970.
pub(super) fn ends(pem: &str) -> Option<i64> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    let (_, cert) = X509Certificate::from_der(&der).ok()?;
    Some(cert.validity().not_after.timestamp())
}

/// Hexadecimal SHA-256 of a certificate.
pub fn fingerprint(der: &[u8]) -> String {
    format!("{:x}", Sha256::digest(der))
}
