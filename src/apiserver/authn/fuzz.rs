//! Damaged certificates, requests for them, and tokens: none of them proves anything, and none does harm.

use std::sync::{Arc, LazyLock};

use api::request::Notes;
use base::{SeededRandom, SystemClock};
use jiff::Timestamp;
use proptest::prelude::*;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::json;

use super::certificate::{CertificateUser, Certificates};
use super::service_account::ServiceAccounts;
use crate::config::ServerConfig;
use crate::lookup::tests::Fixed;
use crate::pki::{CsrSpec, Pki, SIGNER_CLIENT};
use crate::tokens::{TokenSpec, Tokens};

struct Known {
    pki: Arc<Pki>,
    certificates: Certificates,
    certificate: Vec<u8>,
    tokens: ServiceAccounts,
    token: String,
    request: String,
}

static KNOWN: LazyLock<Known> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let now = Timestamp::now();
    let pki = Arc::new(Pki::open(&ServerConfig::new(dir.path()), 6443, now).unwrap());
    let issued = pki.client("jane", &["dev"], now).unwrap();
    let certificate = CertificateDer::from_pem_slice(issued.cert_pem.as_bytes()).unwrap();
    let account = json!({"metadata": {"namespace": "a", "name": "bot", "uid": "sa-1"}});
    let lookup = Arc::new(Fixed::default().with("", "serviceaccounts", account));
    let tokens = ServiceAccounts::new(
        pki.clone(),
        "https://issuer",
        lookup,
        Arc::new(SystemClock::new()),
    );
    let spec = TokenSpec {
        namespace: "a".into(),
        name: "bot".into(),
        uid: "sa-1".into(),
        audiences: vec![],
        expiration_seconds: 3600,
        bound: None,
        node: None,
    };
    let request = rcgen::CertificateParams::new(vec!["a.example.com".to_owned()]).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    Known {
        certificates: Certificates::of(&pki.now()).unwrap(),
        certificate: certificate.to_vec(),
        token: tokens.issue(&spec).unwrap().token,
        request: request.serialize_request(&key).unwrap().pem().unwrap(),
        tokens,
        pki,
    }
});

fn check(der: &[u8]) -> CertificateUser {
    KNOWN
        .certificates
        .check(&[CertificateDer::from(der.to_vec())], Timestamp::now())
}

fn damaged(seed: u64, whole: &[u8]) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    SeededRandom::new(seed).damage(&mut bytes);
    bytes
}

#[test]
fn what_is_not_damaged_proves_who_it_is() {
    assert!(matches!(check(&KNOWN.certificate), CertificateUser::Known { .. }));
    assert!(
        KNOWN
            .tokens
            .authenticate(&KNOWN.token, &[], &Notes::default())
            .is_ok()
    );
}

proptest! {
    #[test]
    fn damaged_certificates_prove_nothing(seed: u64) {
        let der = damaged(seed, &KNOWN.certificate);
        let proves = matches!(check(&der), CertificateUser::Known { .. } | CertificateUser::FrontProxy { .. });
        prop_assert!(!proves || der == KNOWN.certificate);
    }

    #[test]
    fn damaged_requests_for_certificates_do_no_harm(seed: u64) {
        let pem = damaged(seed, KNOWN.request.as_bytes());
        let spec = CsrSpec {
            request_pem: &String::from_utf8_lossy(&pem),
            signer: SIGNER_CLIENT,
            usages: &["client auth".to_owned()],
            expiration_seconds: None,
        };
        let _ = KNOWN.pki.sign(&spec, Timestamp::now());
    }

    #[test]
    fn damaged_tokens_prove_nothing(seed: u64) {
        let bytes = damaged(seed, KNOWN.token.as_bytes());
        let token = String::from_utf8_lossy(&bytes);
        prop_assert!(KNOWN.tokens.authenticate(&token, &[], &Notes::default()).is_err() || token == KNOWN.token);
    }
}
