//! Signing what others ask for (`certificates.k8s.io`), within each signer's rules.

use jiff::Timestamp;
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DnType, DnValue, ExtendedKeyUsagePurpose,
    KeyUsagePurpose, SanType,
};

use super::{LEAF_SECONDS, Pki};

/// Signs certificates for clients of the API.
pub const SIGNER_CLIENT: &str = "kubernetes.io/kube-apiserver-client";
/// Signs certificates with which nodes are clients of the API.
pub const SIGNER_KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
/// Signs certificates with which nodes serve.
pub const SIGNER_KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
/// Signs what older clients ask for.
pub const SIGNER_LEGACY: &str = "kubernetes.io/legacy-unknown";

/// The API refuses shorter ones, too.
const SECONDS_MIN: i64 = 600;

/// A request for a certificate.
#[derive(Clone, Debug)]
pub struct CsrSpec<'a> {
    /// The PKCS#10 request, PEM.
    pub request_pem: &'a str,
    /// One of the signers above.
    pub signer: &'a str,
    /// Usages as the API writes them, such as `client auth`.
    pub usages: &'a [String],
    /// How long it is wanted for; `None` for the signer's own choice.
    pub expiration_seconds: Option<i64>,
}

/// Why a request is not signed, in words for its `Failed` condition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CsrRefusal(pub String);

/// Who asks, as the request's subject has it.
struct Asker {
    name: String,
    group: String,
}

impl Pki {
    /// Signs a request; the certificate as PEM. Whether it was approved is for the caller to know.
    pub fn sign(&self, spec: &CsrSpec<'_>, now: Timestamp) -> Result<String, CsrRefusal> {
        let refuse = |why: &str| CsrRefusal(why.to_owned());
        let mut request = CertificateSigningRequestParams::from_pem(spec.request_pem)
            .map_err(|error| CsrRefusal(format!("unable to parse certificate request: {error}")))?;
        let asker = asker(&request.params);
        let usages: Vec<&str> = spec.usages.iter().map(String::as_str).collect();
        match spec.signer {
            SIGNER_CLIENT => client_usages(&usages)?,
            SIGNER_KUBELET_CLIENT => {
                node_subject(&asker)?;
                client_usages(&usages)?;
                if !request.params.subject_alt_names.is_empty() {
                    return Err(refuse("DNS, IP, URI and e-mail names are not allowed"));
                }
            }
            SIGNER_KUBELET_SERVING => {
                node_subject(&asker)?;
                serving_usages(&usages)?;
                serving_names(&request.params.subject_alt_names)?;
            }
            SIGNER_LEGACY => {}
            other => return Err(CsrRefusal(format!("unknown signer {other:?}"))),
        }
        set_usages(&mut request.params, &usages);
        let seconds = spec
            .expiration_seconds
            .unwrap_or(LEAF_SECONDS)
            .clamp(SECONDS_MIN, LEAF_SECONDS);
        // Serving certificates of nodes come from this CA too, which no client trusts for serving
        // the API: signed by the serving CA, a node could pose as the API server.
        self.client_ca.limit(&mut request.params, now, seconds);
        let cert = request.signed_by(&self.client_ca.issuer);
        cert.map(|cert| cert.pem())
            .map_err(|error| CsrRefusal(error.to_string()))
    }
}

fn asker(params: &CertificateParams) -> Asker {
    let text = |kind: DnType| match params.distinguished_name.get(&kind) {
        Some(DnValue::Utf8String(text)) => text.clone(),
        Some(DnValue::PrintableString(text)) => text.as_str().to_owned(),
        Some(DnValue::Ia5String(text)) => text.as_str().to_owned(),
        _ => String::new(),
    };
    Asker {
        name: text(DnType::CommonName),
        group: text(DnType::OrganizationName),
    }
}

fn node_subject(asker: &Asker) -> Result<(), CsrRefusal> {
    if asker.group != "system:nodes" {
        return Err(CsrRefusal("subject organization is not system:nodes".into()));
    }
    if !asker.name.starts_with("system:node:") {
        return Err(CsrRefusal(
            "subject common name does not begin with system:node:".into(),
        ));
    }
    Ok(())
}

fn only(usages: &[&str], required: &str, allowed: &[&str]) -> Result<(), CsrRefusal> {
    if !usages.contains(&required) {
        return Err(CsrRefusal(format!("usages did not include {required:?}")));
    }
    match usages.iter().find(|usage| !allowed.contains(usage)) {
        Some(usage) => Err(CsrRefusal(format!("usages may not include {usage:?}"))),
        None => Ok(()),
    }
}

fn client_usages(usages: &[&str]) -> Result<(), CsrRefusal> {
    only(
        usages,
        "client auth",
        &["client auth", "digital signature", "key encipherment"],
    )
}

fn serving_usages(usages: &[&str]) -> Result<(), CsrRefusal> {
    only(
        usages,
        "server auth",
        &["server auth", "digital signature", "key encipherment"],
    )
}

fn serving_names(names: &[SanType]) -> Result<(), CsrRefusal> {
    if names.is_empty() {
        return Err(CsrRefusal(
            "at least one DNS or IP subjectAltName is required".into(),
        ));
    }
    let plain = |name: &SanType| matches!(name, SanType::DnsName(_) | SanType::IpAddress(_));
    if names.iter().all(plain) {
        Ok(())
    } else {
        Err(CsrRefusal("URI and e-mail names are not allowed".into()))
    }
}

fn set_usages(params: &mut CertificateParams, usages: &[&str]) {
    params.key_usages = Vec::new();
    params.extended_key_usages = Vec::new();
    for usage in usages {
        match *usage {
            "digital signature" | "signing" => params.key_usages.push(KeyUsagePurpose::DigitalSignature),
            "key encipherment" => params.key_usages.push(KeyUsagePurpose::KeyEncipherment),
            "data encipherment" => params.key_usages.push(KeyUsagePurpose::DataEncipherment),
            "key agreement" => params.key_usages.push(KeyUsagePurpose::KeyAgreement),
            "content commitment" => params.key_usages.push(KeyUsagePurpose::ContentCommitment),
            "client auth" => params
                .extended_key_usages
                .push(ExtendedKeyUsagePurpose::ClientAuth),
            "server auth" => params
                .extended_key_usages
                .push(ExtendedKeyUsagePurpose::ServerAuth),
            "code signing" => params
                .extended_key_usages
                .push(ExtendedKeyUsagePurpose::CodeSigning),
            // "cert sign" and the like would make a CA of the subject.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ServerConfig;
    use rcgen::{DistinguishedName, KeyPair};

    fn request(name: &str, group: &str, sans: Vec<SanType>) -> String {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, group);
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = sans;
        params
            .serialize_request(&KeyPair::generate().unwrap())
            .unwrap()
            .pem()
            .unwrap()
    }

    fn own(usages: &[&str]) -> Vec<String> {
        usages.iter().map(|u| (*u).to_owned()).collect()
    }

    #[test]
    fn nodes_get_client_certificates_for_their_own_name_only() {
        let dir = tempfile::tempdir().unwrap();
        let now = Timestamp::now();
        let pki = Pki::open(&ServerConfig::new(dir.path()), 6443, now).unwrap();
        let usages = own(&["digital signature", "client auth"]);
        let sign = |pem: &str, signer: &str, usages: &[String]| {
            pki.sign(
                &CsrSpec {
                    request_pem: pem,
                    signer,
                    usages,
                    expiration_seconds: Some(3600),
                },
                now,
            )
        };
        let good = request("system:node:edge", "system:nodes", vec![]);
        let cert = sign(&good, SIGNER_KUBELET_CLIENT, &usages).unwrap();
        assert!(pki.client_ca.issued(&cert) && !pki.serving_ca.issued(&cert));
        let ends = super::super::ca::ends(&cert).unwrap();
        assert!((ends - now.as_second() - 3600).abs() < 5);
        let masters = request("system:node:edge", "system:masters", vec![]);
        let refused = sign(&masters, SIGNER_KUBELET_CLIENT, &usages).unwrap_err();
        assert_eq!(refused.0, "subject organization is not system:nodes");
        let serving = own(&["server auth"]);
        assert!(sign(&good, SIGNER_KUBELET_CLIENT, &serving).is_err());
        assert!(sign(&good, SIGNER_KUBELET_SERVING, &serving).is_err());
        let named = request(
            "system:node:edge",
            "system:nodes",
            vec![SanType::IpAddress([10, 0, 0, 1].into())],
        );
        assert!(sign(&named, SIGNER_KUBELET_SERVING, &serving).is_ok());
        assert!(sign("nonsense", SIGNER_CLIENT, &usages).is_err());
    }
}
