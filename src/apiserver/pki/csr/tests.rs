use rcgen::{DistinguishedName, DnType, KeyPair};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::*;
use crate::config::ServerConfig;

const ODD: &str = include_str!("../../../api/kinds/golden/request.pem");

fn request(name: &str, group: &str, sans: Vec<SanType>) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, group);
    params.distinguished_name.push(DnType::CommonName, name);
    params.subject_alt_names = sans;
    let key = KeyPair::generate().unwrap();
    params.serialize_request(&key).unwrap().pem().unwrap()
}

/// A PKI and what it says to requests.
struct Desk(
    Pki,
    #[expect(dead_code, reason = "keeps the folder")] tempfile::TempDir,
);

impl Desk {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self(
            Pki::open(&ServerConfig::new(dir.path()), 6443, Timestamp::now()).unwrap(),
            dir,
        )
    }

    fn sign(&self, pem: &str, signer: &str, usages: &[&str]) -> Result<String, String> {
        let usages: Vec<String> = usages.iter().map(|usage| (*usage).to_owned()).collect();
        let spec = CsrSpec {
            request_pem: pem,
            signer,
            usages: &usages,
            expiration_seconds: Some(3600),
        };
        self.0.sign(&spec, Timestamp::now()).map_err(|refusal| refusal.0)
    }
}

const OF_CLIENTS: [&str; 2] = ["digital signature", "client auth"];

#[test]
fn nodes_get_client_certificates_for_their_own_name_only() {
    let (desk, now) = (Desk::new(), Timestamp::now());
    let good = request("system:node:edge", "system:nodes", vec![]);
    let cert = desk.sign(&good, SIGNER_KUBELET_CLIENT, &OF_CLIENTS).unwrap();
    assert!(desk.0.now().client_ca.issued(&cert) && !desk.0.now().serving_ca.issued(&cert));
    let ends = super::super::ca::ends(&cert).unwrap();
    assert!((ends - now.as_second() - 3600).abs() < 5);
    let refused = |pem: &str, signer, usages: &[&str], why: &str| {
        assert_eq!(desk.sign(pem, signer, usages).unwrap_err(), why);
    };
    let masters = request("system:node:edge", "system:masters", vec![]);
    let why = "subject organization is not system:nodes";
    refused(&masters, SIGNER_KUBELET_CLIENT, &OF_CLIENTS, why);
    let other = request("edge", "system:nodes", vec![]);
    let why = "subject common name does not begin with system:node:";
    refused(&other, SIGNER_KUBELET_CLIENT, &OF_CLIENTS, why);
    let why = "usages did not match [client auth digital signature key encipherment]";
    refused(&good, SIGNER_KUBELET_CLIENT, &["server auth"], why);
    let serving = ["server auth", "key encipherment", "digital signature"];
    let why = "DNS or IP subjectAltName is required";
    refused(&good, SIGNER_KUBELET_SERVING, &serving, why);
    let at = SanType::IpAddress([10, 0, 0, 1].into());
    let named = request("system:node:edge", "system:nodes", vec![at]);
    assert!(desk.sign(&named, SIGNER_KUBELET_SERVING, &serving).is_ok());
    let why = "IP subjectAltNames are not allowed";
    refused(&named, SIGNER_KUBELET_CLIENT, &OF_CLIENTS, why);
    assert!(desk.sign("nonsense", SIGNER_CLIENT, &OF_CLIENTS).is_err());
}

#[test]
fn a_subject_is_certified_as_it_is() {
    let desk = Desk::new();
    let cert = desk.sign(ODD, SIGNER_CLIENT, &OF_CLIENTS).unwrap();
    assert!(desk.0.now().client_ca.issued(&cert));
    let (_, pem) = x509_parser::pem::parse_x509_pem(cert.as_bytes()).unwrap();
    let (_, cert) = X509Certificate::from_der(&pem.contents).unwrap();
    let asked = CertificateRequest::read(ODD.as_bytes()).unwrap();
    assert_eq!(cert.subject().as_raw(), asked.subject);
    assert_eq!(cert.public_key().raw, asked.public_key);
    let groups: Vec<_> = cert
        .subject()
        .iter_organization()
        .map(|o| o.as_str().unwrap())
        .collect();
    assert_eq!(groups, ["dev", "ops"]);
    let names = cert.subject_alternative_name().unwrap().unwrap();
    assert_eq!(names.value.general_names.len(), 4, "all but the directory's");
    // Nothing that was only wished for: a comment, and what nobody knows.
    let foreign = ["2.16.840.1.113730.1.13", "1.2.3.4"];
    let oids = cert
        .extensions()
        .iter()
        .map(|extension| extension.oid.to_id_string());
    assert_eq!(oids.filter(|oid| foreign.contains(&oid.as_str())).count(), 0);
}
