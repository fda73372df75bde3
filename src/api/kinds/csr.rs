//! CertificateSigningRequest: asks for a certificate.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::cells;
use crate::certificate_request::CertificateRequest;
use crate::duration;
use crate::kind::{Column, Kind, PART_VERBS, Part, Subresource};
use crate::names;
use crate::status::FieldError;
use crate::value::{Field, each, fill, fill_text, get, get_mut, int, keep, list, remove, set, text};

/// The descriptor. `spec.username`, `uid`, `groups` and `extra` are the server's to fill in.
pub static KIND: Kind = Kind {
    group: "certificates.k8s.io",
    kind: "CertificateSigningRequest",
    plural: "certificatesigningrequests",
    singular: "certificatesigningrequest",
    short_names: &["csr"],
    subresources: &[
        Subresource::new("approval", "CertificateSigningRequest", PART_VERBS).view(Part {
            prepare: prepare_approval,
            validate: validate_approval,
            reset_fields: &["spec", "status.certificate"],
        }),
        Subresource::status("CertificateSigningRequest"),
    ],
    storage_version_hash: "95fRKMXA+00=",
    name_rule: names::path_segment,
    default: |csr| {
        each(csr, "status.conditions", |condition| {
            fill_text(condition, "status", "True")
        });
    },
    prepare_create: |csr| remove(csr, "status"),
    prepare_update: |new, old| {
        keep(new, old, "spec");
        keep(new, old, "status");
    },
    prepare_status,
    validate,
    validate_update: |_, _| Vec::new(),
    reset_fields: &["spec", "status"],
    reset_fields_status: &["spec", "status.conditions"],
    field_names: &["spec.signerName"],
    fields: |csr| vec![("spec.signerName", text(csr, "spec.signerName").to_owned())],
    columns: &[
        Column::NAME,
        Column::AGE,
        Column::text("SignerName"),
        Column::text("Requestor"),
        Column::text("RequestedDuration"),
        Column::text("Condition"),
    ],
    row,
    ..Kind::CLUSTER
};

fn conditions_of<'a>(csr: &'a Value, kinds: &'a [&str]) -> impl Iterator<Item = &'a Value> {
    list(csr, "status.conditions")
        .iter()
        .filter(move |c| kinds.contains(&text(c, "type")))
}

/// An approver decides, but cannot issue the certificate.
fn prepare_approval(new: &mut Value, old: &Value) {
    keep(new, old, "spec");
    fill(new, "status", json!({}));
    let certificate = get(old, "status.certificate").clone();
    if let Some(status) = get_mut(new, "status") {
        remove(status, "certificate");
        if !certificate.is_null() {
            set(status, "certificate", certificate);
        }
    }
}

/// A signer issues or fails, but cannot decide.
fn prepare_status(new: &mut Value, old: &Value) {
    keep(new, old, "spec");
    let mut conditions: Vec<Value> = conditions_of(old, &["Approved", "Denied"]).cloned().collect();
    let other = |c: &&Value| !matches!(text(c, "type"), "Approved" | "Denied");
    conditions.extend(list(new, "status.conditions").iter().filter(other).cloned());
    fill(new, "status", json!({}));
    if let Some(status) = get_mut(new, "status") {
        set(status, "conditions", conditions);
    }
}

fn validate_approval(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let at = Field::at(new, "status.conditions");
    for kind in ["Approved", "Denied", "Failed"] {
        if conditions_of(old, &[kind]).next().is_some() && conditions_of(new, &[kind]).next().is_none() {
            errors.push(at.forbidden(format!("updates may not remove a condition of type {kind:?}")));
        }
    }
    if conditions_of(new, &["Approved"]).next().is_some() && conditions_of(new, &["Denied"]).next().is_some()
    {
        errors.push(at.invalid("Approved and Denied conditions are mutually exclusive"));
    }
    errors
}

/// What a key may be certified for.
const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

fn validate(csr: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = Field::at(csr, "spec");
    let request = spec.get("request");
    if let Err(why) = CertificateRequest::of(csr) {
        errors.push(request.invalid(why));
    }
    spec.get("usages").needed(&mut errors);
    for usage in spec.items("usages") {
        if !USAGES.contains(&usage.text()) {
            errors.push(usage.not_supported(&USAGES));
        }
    }
    spec.unique("usages", "", &mut errors);
    signer_name(&spec.get("signerName"), &mut errors);
    let seconds = spec.get("expirationSeconds");
    if seconds.int().is_some_and(|n| n < 600) {
        errors.push(seconds.invalid("may not specify a duration less than 600 seconds (10 minutes)"));
    }
    errors
}

fn signer_name(signer: &Field, errors: &mut Vec<FieldError>) {
    if signer.is_blank() {
        errors.push(signer.required(""));
        return;
    }
    match signer.text().split_once('/') {
        Some((domain, path)) if !path.contains('/') => {
            errors.extend(signer.invalid_each(names::is_dns_subdomain(domain)));
            errors.extend(signer.invalid_each(path.split('.').flat_map(names::is_dns_label).collect()));
        }
        _ => errors.push(
            signer.invalid("must be a fully qualified domain and path of the form 'example.com/signer-name'"),
        ),
    }
}

fn row(csr: &Value, now: Timestamp) -> Vec<Value> {
    let requested = int(csr, "spec.expirationSeconds").map(|s| duration::human(SignedDuration::from_secs(s)));
    vec![
        cells::name(csr),
        cells::age(csr, now),
        json!(cells::or_none(text(csr, "spec.signerName"))),
        json!(text(csr, "spec.username")),
        json!(cells::or_none(requested.unwrap_or_default())),
        json!(condition(csr)),
    ]
}

fn condition(csr: &Value) -> String {
    let has = |kind: &str| conditions_of(csr, &[kind]).next().is_some();
    let decided = match (has("Denied"), has("Approved")) {
        (true, _) => "Denied",
        (_, true) => "Approved",
        _ => "Pending",
    };
    let failed = if has("Failed") { ",Failed" } else { "" };
    let issued = if text(csr, "status.certificate").is_empty() {
        ""
    } else {
        ",Issued"
    };
    format!("{decided}{failed}{issued}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn approver_and_signer_keep_to_their_parts() {
        let old = json!({"spec": {"signerName": "a.b/c"}, "status": {}});
        let wanted =
            json!({"spec": {}, "status": {"certificate": "Y2VydA==", "conditions": [{"type": "Approved"}]}});
        let (mut approval, mut status) = (wanted.clone(), wanted);
        (KIND.part("approval").unwrap().prepare)(&mut approval, &old);
        assert_eq!(approval["status"], json!({"conditions": [{"type": "Approved"}]}));
        (KIND.part("status").unwrap().prepare)(&mut status, &old);
        assert_eq!(
            status["status"],
            json!({"certificate": "Y2VydA==", "conditions": []})
        );
        assert_eq!(status["spec"], old["spec"]);
        assert_eq!(validate_approval(&old, &approval).len(), 1);
    }

    #[test]
    fn conditions_are_summed_up() {
        for (status, shown) in [
            (json!({}), "Pending"),
            (json!({"conditions": [{"type": "Approved"}]}), "Approved"),
            (
                json!({"conditions": [{"type": "Approved"}], "certificate": "eA=="}),
                "Approved,Issued",
            ),
            (json!({"conditions": [{"type": "Denied"}]}), "Denied"),
            (
                json!({"conditions": [{"type": "Approved"}, {"type": "Failed"}]}),
                "Approved,Failed",
            ),
        ] {
            assert_eq!(condition(&json!({"status": status})), shown);
        }
    }

    #[test]
    fn requests_are_checked() {
        use base64::Engine as _;
        let request = base64::engine::general_purpose::STANDARD.encode(include_str!("golden/request.pem"));
        let csr = |signer: &str| json!({"spec": {"request": request, "signerName": signer, "usages": ["client auth"]}});
        assert!(validate(&csr("kubernetes.io/kube-apiserver-client")).is_empty());
        assert!(
            validate(&csr("nothing"))[0]
                .to_string()
                .ends_with("of the form 'example.com/signer-name'")
        );
        assert_eq!(validate(&json!({"spec": {}})).len(), 3);
    }
}
