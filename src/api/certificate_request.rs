//! Requests for certificates (PKCS#10), as CertificateSigningRequests carry them.

use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::error::X509Error;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::{OID_KEY_TYPE_EC_PUBLIC_KEY, OID_SIG_ED25519, OID_X509_EXT_SUBJECT_ALT_NAME};
use x509_parser::prelude::FromDer;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use crate::value;

/// A request that was read, and that was signed with the key it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRequest {
    /// The subject's common name, a client's user; empty if there is none.
    pub common_name: String,
    /// The subject's organisations, a client's groups.
    pub organizations: Vec<String>,
    /// The whole subject as it was written (DER): it may say more than the two.
    pub subject: Vec<u8>,
    /// What else the key is to stand for. Names of other sorts are left out, as are all other extensions: they are
    /// wishes, and Kubernetes' signers do not grant them.
    pub names: Vec<AlternativeName>,
    /// The key (DER, SubjectPublicKeyInfo).
    pub public_key: Vec<u8>,
}

/// What a key may stand for beside its subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AlternativeName {
    /// A host's name.
    Dns(String),
    /// An address.
    Ip(IpAddr),
    /// An address of e-mail.
    Email(String),
    /// A URI.
    Uri(String),
}

impl CertificateRequest {
    /// Reads the request of a CertificateSigningRequest.
    ///
    /// # Errors
    /// See [`CertificateRequest::read`].
    pub fn of(object: &Value) -> Result<Self, String> {
        let pem = STANDARD.decode(value::text(object, "spec.request"));
        Self::read(&pem.unwrap_or_default())
    }

    /// Reads a request (PEM).
    ///
    /// # Errors
    /// What is wrong with it, in Kubernetes' words where they are known.
    pub fn read(pem: &[u8]) -> Result<Self, String> {
        let wrong = || "PEM block type must be CERTIFICATE REQUEST".to_owned();
        let (_, pem) = x509_parser::pem::parse_x509_pem(pem).map_err(|_| wrong())?;
        if pem.label != "CERTIFICATE REQUEST" {
            return Err(wrong());
        }
        let (rest, request) = X509CertificationRequest::from_der(&pem.contents)
            .map_err(|_| "asn1: structure error: malformed certificate request".to_owned())?;
        if !rest.is_empty() {
            return Err("asn1: syntax error: trailing data".to_owned());
        }
        let read = Self {
            common_name: common_name(&request.certification_request_info.subject)?,
            organizations: texts(request.certification_request_info.subject.iter_organization())?,
            subject: request.certification_request_info.subject.as_raw().to_vec(),
            names: names(&request)?,
            public_key: request.certification_request_info.subject_pki.raw.to_vec(),
        };
        signed(&request)?;
        Ok(read)
    }
}

/// Readers of certificates differ in which of several they take, and whoever approves a name should know which.
fn common_name(subject: &X509Name<'_>) -> Result<String, String> {
    let mut found = texts(subject.iter_common_name())?;
    match found.len() {
        0 | 1 => Ok(found.pop().unwrap_or_default()),
        _ => Err("x509: invalid RDNSequence: several common names".to_owned()),
    }
}

fn texts<'a>(found: impl Iterator<Item = &'a AttributeTypeAndValue<'a>>) -> Result<Vec<String>, String> {
    found
        .map(|attribute| match attribute.as_str() {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err("x509: invalid RDNSequence: invalid attribute value".to_owned()),
        })
        .collect()
}

fn names(request: &X509CertificationRequest<'_>) -> Result<Vec<AlternativeName>, String> {
    let mut names = Vec::new();
    for attribute in request.certification_request_info.iter_attributes() {
        let ParsedCriAttribute::ExtensionRequest(wishes) = attribute.parsed_attribute() else {
            continue;
        };
        let wishes = wishes.extensions.iter();
        for wish in wishes.filter(|wish| wish.oid == OID_X509_EXT_SUBJECT_ALT_NAME) {
            let ParsedExtension::SubjectAlternativeName(wish) = wish.parsed_extension() else {
                return Err("x509: invalid subject alternative names".to_owned());
            };
            for name in &wish.general_names {
                names.extend(alternative(name)?);
            }
        }
    }
    Ok(names)
}

fn alternative(name: &GeneralName<'_>) -> Result<Option<AlternativeName>, String> {
    Ok(Some(match name {
        GeneralName::DNSName(name) => AlternativeName::Dns((*name).to_owned()),
        GeneralName::RFC822Name(name) => AlternativeName::Email((*name).to_owned()),
        GeneralName::URI(name) => AlternativeName::Uri((*name).to_owned()),
        GeneralName::IPAddress(bytes) => AlternativeName::Ip(address(bytes)?),
        _ => return Ok(None),
    }))
}

fn address(bytes: &[u8]) -> Result<IpAddr, String> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let sixteen = || <[u8; 16]>::try_from(bytes).map(IpAddr::from);
    four.or_else(|_| sixteen())
        .map_err(|_| format!("x509: cannot parse IP address of length {}", bytes.len()))
}

/// Whoever asks has the key.
fn signed(request: &X509CertificationRequest<'_>) -> Result<(), String> {
    let key = &request.certification_request_info.subject_pki.algorithm.algorithm;
    request.verify_signature().map_err(|error| {
        let failure = match error {
            X509Error::SignatureUnsupportedAlgorithm => {
                "x509: cannot verify signature: algorithm unimplemented"
            }
            _ if *key == OID_KEY_TYPE_EC_PUBLIC_KEY => "x509: ECDSA verification failure",
            _ if *key == OID_SIG_ED25519 => "x509: Ed25519 verification failure",
            _ => "crypto/rsa: verification error",
        };
        failure.to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by openssl: two groups, an organisational unit in the same set as the first, a comment, a key's id, an
    /// extension that nobody knows, and a directory's name among the alternative ones.
    const REQUEST: &str = include_str!("kinds/golden/request.pem");

    #[test]
    fn a_request_is_read_with_all_its_groups_and_without_what_is_foreign() {
        let read = CertificateRequest::read(REQUEST.as_bytes()).unwrap();
        assert_eq!(read.common_name, "jane");
        assert_eq!(read.organizations, ["dev", "ops"]);
        let names = [
            AlternativeName::Dns("a.example".into()),
            AlternativeName::Ip([192, 0, 2, 1].into()),
            AlternativeName::Email("a@b.c".into()),
            AlternativeName::Uri("https://x/y".into()),
        ];
        assert_eq!(read.names, names);
        let (rest, subject) = X509Name::from_der(&read.subject).unwrap();
        assert!(rest.is_empty() && subject.iter_rdn().count() == 3, "{subject}");
    }

    fn der() -> Vec<u8> {
        let (_, pem) = x509_parser::pem::parse_x509_pem(REQUEST.as_bytes()).unwrap();
        pem.contents
    }

    fn read(der: &[u8]) -> Result<CertificateRequest, String> {
        let text = STANDARD.encode(der);
        let pem = format!("-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n");
        CertificateRequest::read(pem.as_bytes())
    }

    #[test]
    fn what_is_wrong_is_named() {
        let wrong = "PEM block type must be CERTIFICATE REQUEST";
        assert_eq!(CertificateRequest::read(b"").unwrap_err(), wrong);
        let other = REQUEST.replace("CERTIFICATE REQUEST", "CERTIFICATE");
        assert_eq!(CertificateRequest::read(other.as_bytes()).unwrap_err(), wrong);
        assert!(read(&[0x30, 0]).unwrap_err().starts_with("asn1: structure error"));
        let mut der = der();
        der.push(0);
        assert_eq!(read(&der).unwrap_err(), "asn1: syntax error: trailing data");
    }

    #[test]
    fn no_damage_makes_another_good_request() {
        let good = der();
        let whole = read(&good).unwrap();
        let mut failed = 0;
        for at in 0..good.len() {
            let mut der = good.clone();
            der[at] ^= 1;
            match read(&der) {
                // How many bits of the signature's last byte count is not signed, and changes nothing.
                Ok(same) => assert_eq!(same, whole, "byte {at} of {}", good.len()),
                Err(why) => failed += usize::from(why == "x509: ECDSA verification failure"),
            }
        }
        assert!(failed > good.len() / 2, "{failed} failed by their signature");
    }
}
