//! What a signature says that lies in one of sigstore's bundles (format 0.3): a statement about a digest, in an envelope
//! that is signed (DSSE). It names no repository. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::claim::{Asked, PAYLOAD_BYTES_MAX, decoded};
use super::voucher::Voucher;

/// Type of bundles in a registry, and in themselves. Others begin so and are of other versions.
pub(in crate::images) const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// The same in the words of earlier tools.
const BUNDLE_LONG: &str = "application/vnd.dev.sigstore.bundle+json;version=0.3";
/// Most bytes of one: what it proves of logs and times is in it as well.
pub(in crate::images) const BUNDLE_BYTES_MAX: u64 = 256 << 10;
/// What such a statement says of its subject: that somebody has signed it, and no more.
pub(in crate::images) const SIGNED: &str = "https://sigstore.dev/cosign/sign/v1";

const STATEMENT: &str = "application/vnd.in-toto+json";
const STATEMENT_TYPES: [&str; 2] = [
    "https://in-toto.io/Statement/v1",
    "https://in-toto.io/Statement/v0.1",
];
/// Signatures of one envelope that are looked at.
const SIGNATURES_MAX: usize = 8;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    media_type: String,
    #[serde(default)]
    verification_material: Material,
    dsse_envelope: Option<Envelope>,
}

/// By what a bundle wants to be checked: a hint at most, for whoever made it wrote it.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Material {
    certificate: Option<IgnoredAny>,
    x509_certificate_chain: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<Signature>,
}

#[derive(Deserialize)]
struct Signature {
    sig: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    predicate_type: String,
    subject: Vec<Subject>,
}

#[derive(Deserialize)]
struct Subject {
    digest: Digests,
}

#[derive(Deserialize)]
struct Digests {
    #[serde(default)]
    sha256: String,
}

impl Asked<'_> {
    /// Who answers for the image by that bundle. Nothing of its statement is read before it is known whose it is.
    ///
    /// # Errors
    /// Why it does not count.
    pub(in crate::images) fn check_bundle(&self, bundle: &[u8]) -> Result<Voucher, String> {
        let bundle: Bundle =
            serde_json::from_slice(bundle).map_err(|error| format!("it is no bundle: {error}"))?;
        if ![BUNDLE, BUNDLE_LONG].contains(&bundle.media_type.as_str()) {
            return Err(format!("it is a {:?}, not a {BUNDLE:?}", bundle.media_type));
        }
        let envelope = bundle.dsse_envelope.ok_or("it holds no signed statement")?;
        if envelope.payload.len() as u64 > PAYLOAD_BYTES_MAX * 4 / 3 + 4 {
            return Err(format!("it signs more than {PAYLOAD_BYTES_MAX} bytes"));
        }
        let payload = STANDARD
            .decode(&envelope.payload)
            .map_err(|_| "what it signs is not base64".to_owned())?;
        let message = message(&envelope.payload_type, &payload);
        let signatures = envelope.signatures.iter().take(SIGNATURES_MAX);
        let signatures = signatures.map(|signature| decoded(&signature.sig));
        let signatures = signatures.collect::<Result<Vec<_>, _>>()?;
        let mut keys = self.keys.iter();
        let key = keys.find(|key| signatures.iter().any(|bytes| key.has_signed(&message, bytes)));
        let material = &bundle.verification_material;
        let is_keyless = material.certificate.is_some() || material.x509_certificate_chain.is_some();
        let key = key.ok_or(match is_keyless {
            true => "it is by a certificate (keyless), and by none of the policy's keys",
            false => "it is by none of the policy's keys",
        })?;
        self.check_statement(&envelope.payload_type, &payload)?;
        Ok(Voucher::Signature {
            key: key.id().to_owned(),
            identity: String::new(),
        })
    }

    fn check_statement(&self, kind: &str, payload: &[u8]) -> Result<(), String> {
        if kind != STATEMENT {
            return Err(format!("it signs a {kind:?}, not a {STATEMENT:?}"));
        }
        let statement: Statement = serde_json::from_slice(payload)
            .map_err(|error| format!("it signs something else than a statement: {error}"))?;
        if !STATEMENT_TYPES.contains(&statement.kind.as_str()) {
            return Err(format!(
                "it signs a {:?}, not a {:?}",
                statement.kind, STATEMENT_TYPES[0]
            ));
        }
        // The same key may state other things of an image: that it has a fault, for instance.
        if statement.predicate_type != SIGNED {
            return Err(format!(
                "it states {:?}, not {SIGNED:?}",
                statement.predicate_type
            ));
        }
        let wanted = self.digest.strip_prefix("sha256:").filter(|hex| !hex.is_empty());
        let mut subjects = statement.subject.iter();
        match wanted.is_some_and(|hex| subjects.any(|subject| subject.digest.sha256 == hex)) {
            true => Ok(()),
            false => Err(format!("it signs something else than {}", self.digest)),
        }
    }
}

/// What is signed of an envelope: its type and its payload, each with its length (DSSE's PAE).
pub(super) fn message(kind: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::key::Keys;
    use super::super::signers::Signer;
    use super::*;
    use crate::images::reference;

    const HEX: &str = "f3cfc9d0dbf931d3db4685ec659b7ac68e2a578219da4aae65427886e649b06b";

    #[test]
    fn what_is_signed_has_its_lengths_with_it() {
        assert_eq!(message("a/b", b"text"), b"DSSEv1 3 a/b 4 text");
    }

    #[test]
    fn a_bundle_counts_by_its_key_its_statement_and_its_digest() {
        for signer in [Signer::p256(), Signer::ed25519()] {
            let stranger = Signer::p256();
            let keys = Keys::try_from(signer.pem()).unwrap();
            let (name, digest) = (reference::parse("lan:5000/app").unwrap(), format!("sha256:{HEX}"));
            let asked = Asked {
                name: &name,
                digest: &digest,
                keys: keys.all().collect(),
                bundles: true,
            };
            let check = |bundle: &Value| asked.check_bundle(bundle.to_string().as_bytes());
            let statement = |change: fn(&mut Value)| {
                let mut statement = Signer::statement(&digest);
                change(&mut statement);
                signer.enveloped(STATEMENT, statement.to_string().as_bytes())
            };
            let good = signer.bundle(&digest);
            let expected = Voucher::Signature {
                key: asked.keys[0].id().to_owned(),
                identity: String::new(),
            };
            assert_eq!(check(&good), Ok(expected));
            let changed = |change: &dyn Fn(&mut Value)| {
                let mut bundle = good.clone();
                change(&mut bundle);
                bundle
            };
            let keyless = json!({"certificate": {"rawBytes": "AA=="}});
            let mut by_certificate = stranger.bundle(&digest);
            by_certificate["verificationMaterial"] = keyless;
            let other = Signer::statement(&format!("sha256:{}", "0".repeat(64)));
            for (bundle, words) in [
                (stranger.bundle(&digest), "it is by none of the policy's keys"),
                (by_certificate, "by a certificate (keyless)"),
                (
                    changed(&|b| b["mediaType"] = json!("application/x")),
                    "it is a \"application/x\"",
                ),
                (
                    changed(&|b| b["dsseEnvelope"] = Value::Null),
                    "no signed statement",
                ),
                (
                    changed(&|b| b["dsseEnvelope"]["payloadType"] = json!("other")),
                    "by none of the policy's keys",
                ),
                (
                    changed(&|b| b["dsseEnvelope"]["signatures"] = json!([])),
                    "by none of the policy's keys",
                ),
                (
                    changed(&|b| b["dsseEnvelope"]["payload"] = json!("e30=")),
                    "by none of the policy's keys",
                ),
                (
                    changed(&|b| b["dsseEnvelope"]["payload"] = json!("?")),
                    "not base64",
                ),
                (
                    changed(&|b| b["dsseEnvelope"]["payload"] = json!("A".repeat(90_000))),
                    "65536 bytes",
                ),
                (
                    signer.enveloped(STATEMENT, b"[]"),
                    "something else than a statement",
                ),
                (signer.enveloped("text/plain", b"{}"), "it signs a \"text/plain\""),
                (statement(|s| s["_type"] = json!("x")), "it signs a \"x\""),
                (
                    statement(|s| s["predicateType"] = json!("https://spdx.dev/Document")),
                    "it states \"https://spdx.dev/Document\"",
                ),
                (
                    statement(|s| s["subject"] = json!([])),
                    "something else than sha256:",
                ),
                (
                    statement(|s| s["subject"][0]["digest"] = json!({})),
                    "something else than sha256:",
                ),
                (
                    signer.enveloped(STATEMENT, other.to_string().as_bytes()),
                    "something else than sha256:",
                ),
                (json!([]), "it is no bundle"),
            ] {
                let why = check(&bundle).unwrap_err();
                assert!(why.contains(words), "{words}: {why}");
            }
        }
    }
}
