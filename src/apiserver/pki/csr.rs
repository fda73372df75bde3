//! Signing what others ask for (`certificates.k8s.io`), within each signer's rules.

use api::certificate_request::{AlternativeName, CertificateRequest};
use jiff::Timestamp;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyUsagePurpose, SanType, SubjectPublicKeyInfo};

use super::terms::LEAF_SECONDS;
use super::{Pki, subject};

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

impl Pki {
    /// Signs a request; the certificate as PEM. Whether it was approved is for the caller to know.
    ///
    /// # Errors
    /// What speaks against it.
    pub fn sign(&self, spec: &CsrSpec<'_>, now: Timestamp) -> Result<String, CsrRefusal> {
        let request = CertificateRequest::read(spec.request_pem.as_bytes())
            .map_err(|error| CsrRefusal(format!("unable to parse certificate request: {error}")))?;
        let mut usages: Vec<&str> = spec.usages.iter().map(String::as_str).collect();
        usages.sort_unstable();
        judge(spec.signer, &request, &usages).map_err(CsrRefusal)?;
        self.certify(&request, &usages, spec.expiration_seconds, now)
            .map_err(|error| CsrRefusal(error.to_string()))
    }

    fn certify(
        &self,
        request: &CertificateRequest,
        usages: &[&str],
        seconds: Option<i64>,
        now: Timestamp,
    ) -> Result<String, rcgen::Error> {
        let mut params = CertificateParams::default();
        for name in &request.names {
            params.subject_alt_names.push(san(name)?);
        }
        set_usages(&mut params, usages);
        let seconds = seconds.unwrap_or(LEAF_SECONDS).clamp(SECONDS_MIN, LEAF_SECONDS);
        // Serving certificates of nodes come from this CA too, which no client trusts for serving
        // the API: signed by the serving CA, a node could pose as the API server.
        let keys = self.now();
        let authority = &keys.client_ca;
        authority.limit(&mut params, now, seconds);
        let key = SubjectPublicKeyInfo::from_der(&request.public_key)?;
        let draft = params.signed_by(&key, &authority.issuer)?;
        let signed = subject::replaced(draft.der(), &request.subject, authority.issuer.key())?;
        Ok(client::pin::pem(&signed))
    }
}

fn san(name: &AlternativeName) -> Result<SanType, rcgen::Error> {
    Ok(match name {
        AlternativeName::Dns(name) => SanType::DnsName(name.as_str().try_into()?),
        AlternativeName::Email(name) => SanType::Rfc822Name(name.as_str().try_into()?),
        AlternativeName::Uri(name) => SanType::URI(name.as_str().try_into()?),
        AlternativeName::Ip(address) => SanType::IpAddress(*address),
    })
}

/// Whether a signer grants what is asked for; `usages` are sorted. The texts are Kubernetes'.
fn judge(signer: &str, request: &CertificateRequest, usages: &[&str]) -> Result<(), String> {
    match signer {
        SIGNER_CLIENT => client_usages(usages),
        SIGNER_KUBELET_CLIENT => {
            of_nodes(request)?;
            unnamed(request)?;
            node_usages(usages, "client auth")?;
            named_as_node(request)
        }
        SIGNER_KUBELET_SERVING => {
            of_nodes(request)?;
            serving_names(request)?;
            node_usages(usages, "server auth")?;
            named_as_node(request)
        }
        SIGNER_LEGACY => Ok(()),
        other => Err(format!("unknown signer {other:?}")),
    }
}

fn of_nodes(request: &CertificateRequest) -> Result<(), String> {
    match request.organizations.as_slice() {
        [group] if group == "system:nodes" => Ok(()),
        _ => Err("subject organization is not system:nodes".into()),
    }
}

fn named_as_node(request: &CertificateRequest) -> Result<(), String> {
    match request.common_name.starts_with("system:node:") {
        true => Ok(()),
        false => Err("subject common name does not begin with system:node:".into()),
    }
}

/// The sort of a name, in an order in which they are refused.
fn sort(name: &AlternativeName) -> &'static str {
    match name {
        AlternativeName::Dns(_) => "DNS",
        AlternativeName::Email(_) => "Email",
        AlternativeName::Ip(_) => "IP",
        AlternativeName::Uri(_) => "URI",
    }
}

fn unnamed(request: &CertificateRequest) -> Result<(), String> {
    match request.names.iter().map(sort).min() {
        Some(sort) => Err(format!("{sort} subjectAltNames are not allowed")),
        None => Ok(()),
    }
}

fn serving_names(request: &CertificateRequest) -> Result<(), String> {
    let sorts = || request.names.iter().map(sort);
    if !sorts().any(|sort| matches!(sort, "DNS" | "IP")) {
        return Err("DNS or IP subjectAltName is required".into());
    }
    match sorts().filter(|sort| matches!(*sort, "Email" | "URI")).min() {
        Some(sort) => Err(format!("{sort} subjectAltNames are not allowed")),
        None => Ok(()),
    }
}

/// A node's key either deciphers others' keys, as RSA's do, or does not.
fn node_usages(usages: &[&str], purpose: &str) -> Result<(), String> {
    let mut all = ["digital signature", "key encipherment", purpose];
    all.sort_unstable();
    let without: Vec<&str> = all
        .into_iter()
        .filter(|usage| *usage != "key encipherment")
        .collect();
    if usages == all || usages == without {
        return Ok(());
    }
    Err(format!("usages did not match [{}]", all.join(" ")))
}

fn client_usages(usages: &[&str]) -> Result<(), String> {
    let allowed = ["client auth", "digital signature", "key encipherment"];
    if let Some(other) = usages.iter().find(|usage| !allowed.contains(usage)) {
        return Err(format!("invalid usage for client certificate: {other}"));
    }
    match usages.contains(&"client auth") {
        true => Ok(()),
        false => Err("missing required usage for client certificate: client auth".into()),
    }
}

fn set_usages(params: &mut CertificateParams, usages: &[&str]) {
    params.key_usages = usages.iter().filter_map(|usage| key_usage(usage)).collect();
    params.extended_key_usages = usages.iter().filter_map(|usage| purpose(usage)).collect();
}

/// "cert sign" and "crl sign" would make a CA of the subject.
fn key_usage(usage: &str) -> Option<KeyUsagePurpose> {
    Some(match usage {
        "digital signature" | "signing" => KeyUsagePurpose::DigitalSignature,
        "key encipherment" => KeyUsagePurpose::KeyEncipherment,
        "data encipherment" => KeyUsagePurpose::DataEncipherment,
        "key agreement" => KeyUsagePurpose::KeyAgreement,
        "content commitment" => KeyUsagePurpose::ContentCommitment,
        "encipher only" => KeyUsagePurpose::EncipherOnly,
        "decipher only" => KeyUsagePurpose::DecipherOnly,
        _ => return None,
    })
}

fn purpose(usage: &str) -> Option<ExtendedKeyUsagePurpose> {
    Some(match usage {
        "any" => ExtendedKeyUsagePurpose::Any,
        "client auth" => ExtendedKeyUsagePurpose::ClientAuth,
        "server auth" => ExtendedKeyUsagePurpose::ServerAuth,
        "code signing" => ExtendedKeyUsagePurpose::CodeSigning,
        "email protection" | "s/mime" => ExtendedKeyUsagePurpose::EmailProtection,
        "timestamping" => ExtendedKeyUsagePurpose::TimeStamping,
        "ocsp signing" => ExtendedKeyUsagePurpose::OcspSigning,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
