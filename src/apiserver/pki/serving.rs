//! The serving certificate: made for every name and address the server is
//! reached by, renewed before it ends, and changed without a restart.

use std::net::IpAddr;
use std::sync::{Arc, RwLock};

use jiff::Timestamp;
use rcgen::SanType;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::terms::{LEAF_SECONDS, RENEW_SECONDS};
use super::{Ca, Leaf, Pki, PkiError, ca, files};
use crate::config::ServerConfig;

/// The certificate in use; shared with the TLS layer, which asks at each handshake.
#[derive(Debug)]
pub struct Serving {
    key: RwLock<Arc<CertifiedKey>>,
    names: Vec<String>,
}

impl ResolvesServerCert for Serving {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(
            self.key
                .read()
                .unwrap_or_else(|poisoned| poisoned.into_inner())
                .clone(),
        )
    }
}

impl Serving {
    /// This certificate (PEM), as it is: who is given it cannot make another.
    ///
    /// # Errors
    /// When it makes no sense, or the key is another's.
    pub(super) fn given(
        cert_pem: &str,
        key_pem: &str,
        authorities: Vec<CertificateDer<'static>>,
    ) -> Result<Serving, PkiError> {
        let key = certified(cert_pem, key_pem, authorities)?;
        key.keys_match()?;
        Ok(Serving {
            key: RwLock::new(Arc::new(key)),
            names: Vec::new(),
        })
    }
}

impl Pki {
    /// The serving certificate, made anew when it lacks a name or ends soon.
    pub fn serving(&self, config: &ServerConfig, now: Timestamp) -> Result<Serving, PkiError> {
        let names = names(config);
        let key = self.serving_key(&names, now)?;
        Ok(Serving {
            key: RwLock::new(Arc::new(key)),
            names,
        })
    }

    /// Takes up a certificate that was put in the folder, or makes a new one when it ends soon.
    pub fn renew(&self, serving: &Serving, now: Timestamp) -> Result<(), PkiError> {
        let key = self.serving_key(&serving.names, now)?;
        *serving
            .key
            .write()
            .unwrap_or_else(|poisoned| poisoned.into_inner()) = Arc::new(key);
        Ok(())
    }

    fn serving_key(&self, names: &[String], now: Timestamp) -> Result<CertifiedKey, PkiError> {
        let (cert_path, key_path) = (self.dir.join("serving.crt"), self.dir.join("serving.key"));
        let keys = self.now();
        let ca = &keys.serving_ca;
        // Damaged ones are made anew: nobody trusts this certificate but by its CA.
        if let (Ok(Some(cert)), Ok(Some(key))) = (files::read(&cert_path), files::read(&key_path))
            && good(&cert, ca, names, now)
            && let Ok(key) = certified(&cert, &key, ca.shown())
            && key.keys_match().is_ok()
        {
            self.note("serving", &cert);
            return Ok(key);
        }
        let issued = ca.issue(&leaf(names), now, LEAF_SECONDS)?;
        files::write_secret(&key_path, issued.key_pem.as_bytes())?;
        files::write_public(&cert_path, issued.cert_pem.as_bytes())?;
        self.note("serving", &issued.cert_pem);
        certified(&issued.cert_pem, &issued.key_pem, ca.shown())
    }
}

/// What a serving certificate for these names and addresses says.
pub(super) fn leaf(names: &[String]) -> Leaf {
    Leaf {
        name: "kube-apiserver".into(),
        sans: names.iter().filter_map(|name| san(name)).collect(),
        server: true,
        ..Leaf::default()
    }
}

/// The authorities go along in the handshake: a joiner knows only the hash of one.
fn certified(
    cert_pem: &str,
    key_pem: &str,
    authorities: Vec<CertificateDer<'static>>,
) -> Result<CertifiedKey, PkiError> {
    let malformed = |why: String| PkiError::Malformed {
        path: "serving.crt".into(),
        why,
    };
    let mut chain = CertificateDer::pem_slice_iter(cert_pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| malformed(e.to_string()))?;
    chain.extend(authorities);
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|e| malformed(e.to_string()))?;
    let key = rustls::crypto::ring::sign::any_supported_type(&key)?;
    Ok(CertifiedKey::new(chain, key))
}

fn good(cert_pem: &str, ca: &Ca, names: &[String], now: Timestamp) -> bool {
    let Ok(der) = CertificateDer::from_pem_slice(cert_pem.as_bytes()) else {
        return false;
    };
    let Ok((_, cert)) = X509Certificate::from_der(&der) else {
        return false;
    };
    let Ok(Some(sans)) = cert.subject_alternative_name() else {
        return false;
    };
    let held: Vec<String> = sans.value.general_names.iter().filter_map(name_text).collect();
    names.iter().all(|name| held.contains(name))
        && ca.issued(cert_pem)
        && ca::ends(cert_pem).is_some_and(|ends| ends > now.as_second() + RENEW_SECONDS)
}

fn name_text(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(text) => Some((*text).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let ip = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            ip.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from))
                .ok()
                .map(|ip| ip.to_string())
        }
        _ => None,
    }
}

fn san(name: &str) -> Option<SanType> {
    match name.parse::<IpAddr>() {
        Ok(ip) => Some(SanType::IpAddress(ip)),
        Err(_) => name.try_into().ok().map(SanType::DnsName),
    }
}

/// Every name and address the server is reached by, addresses in their usual spelling.
fn names(config: &ServerConfig) -> Vec<String> {
    let domain = &config.cluster_domain;
    let mut names: Vec<String> = [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
    ]
    .map(str::to_owned)
    .into();
    names.push(format!("kubernetes.default.svc.{domain}"));
    let mut addresses = vec![
        IpAddr::from([127, 0, 0, 1]),
        "::1".parse().unwrap_or(config.advertise),
    ];
    addresses.push(config.advertise);
    addresses.extend(
        config
            .listen
            .iter()
            .map(|a| a.ip())
            .filter(|ip| !ip.is_unspecified()),
    );
    addresses.extend(config.service_ip());
    names.extend(addresses.iter().map(IpAddr::to_string));
    names.extend(config.extra_sans.iter().cloned());
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_certificate_is_kept_until_a_name_is_added() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = ServerConfig::new(dir.path());
        let now = Timestamp::now();
        let pki = Pki::open(&config, 6443, now).unwrap();
        let read = || std::fs::read_to_string(dir.path().join("pki/serving.crt")).unwrap();
        let serving = pki.serving(&config, now).unwrap();
        let first = read();
        pki.serving(&config, now).unwrap();
        assert_eq!(first, read());
        config.extra_sans = vec!["edge.example".into(), "192.0.2.7".into()];
        pki.serving(&config, now).unwrap();
        assert_ne!(first, read());
        let later = now + jiff::SignedDuration::from_hours(24 * 300);
        let second = read();
        pki.renew(&serving, later).unwrap();
        assert_ne!(second, read());
    }
}
