//! What a signature says, in the form that cosign calls simple signing. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oci_spec::distribution::Reference;
use serde::Deserialize;

use super::key::PublicKey;
use super::voucher::Voucher;

/// Most bytes of what is signed: cosign's own take a quarter of one KiB.
pub(in crate::images) const PAYLOAD_BYTES_MAX: u64 = 64 << 10;
/// Most characters of a signature: those of the largest RSA keys have 1368.
const SIGNATURE_CHARS_MAX: usize = 4 << 10;
/// `critical.type` of what cosign signs.
const TYPE: &str = "cosign container image signature";

/// An image that somebody must have signed.
pub(in crate::images) struct Asked<'a> {
    /// By what name it is wanted.
    pub(in crate::images) name: &'a Reference,
    /// What that name was resolved to.
    pub(in crate::images) digest: &'a str,
    /// Whose signature counts.
    pub(in crate::images) keys: Vec<&'a PublicKey>,
    /// Whether those in bundles do, which name no repository.
    pub(in crate::images) bundles: bool,
}

#[derive(Deserialize)]
struct Payload {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    identity: Identity,
    image: Pinned,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Identity {
    #[serde(rename = "docker-reference")]
    reference: String,
}

#[derive(Deserialize)]
struct Pinned {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

impl Asked<'_> {
    /// Who answers for the image by that signature (base64) of that payload.
    /// Nothing of a payload is read before it is known whose it is.
    ///
    /// # Errors
    /// Why it does not count.
    pub(in crate::images) fn check(&self, payload: &[u8], signature: &str) -> Result<Voucher, String> {
        let bytes = decoded(signature)?;
        let mut keys = self.keys.iter();
        let key = keys.find(|key| key.has_signed(payload, &bytes));
        let key = key.ok_or("it is by none of the policy's keys")?;
        let payload: Payload = serde_json::from_slice(payload)
            .map_err(|error| format!("it signs something else than an image: {error}"))?;
        let Critical {
            identity,
            image,
            kind,
        } = payload.critical;
        if kind != TYPE {
            return Err(format!("it signs a {kind:?}, not a {TYPE:?}"));
        }
        if image.digest != self.digest {
            return Err(format!("it signs {}, not {}", image.digest, self.digest));
        }
        if !is_of(&identity.reference, self.name) {
            return Err(format!(
                "it signs {}, not {}",
                identity.reference,
                repository(self.name)
            ));
        }
        Ok(Voucher::Signature {
            key: key.id().to_owned(),
            identity: identity.reference,
        })
    }
}

pub(super) fn decoded(signature: &str) -> Result<Vec<u8>, String> {
    if signature.len() > SIGNATURE_CHARS_MAX {
        return Err(format!(
            "it has {} characters, {SIGNATURE_CHARS_MAX} are allowed",
            signature.len()
        ));
    }
    // Some tools break lines.
    let text: String = signature.split_ascii_whitespace().collect();
    STANDARD.decode(text).map_err(|_| "it is not base64".to_owned())
}

/// A name without tag and digest.
pub(super) fn repository(name: &Reference) -> String {
    format!("{}/{}", name.registry(), name.repository())
}

/// Whether an image that a signature calls `identity` may go by that name. A
/// repository stands for all its tags; a tag only for itself, unless the name
/// has a digest, which leaves no choice.
pub(super) fn is_of(identity: &str, name: &Reference) -> bool {
    // As Go's tools call Docker Hub.
    let hub = identity.strip_prefix("index.");
    let identity = hub
        .filter(|rest| rest.starts_with("docker.io/"))
        .unwrap_or(identity);
    match identity.strip_prefix(&repository(name)) {
        Some("") => true,
        Some(rest) => rest
            .strip_prefix(':')
            .is_some_and(|tag| name.digest().is_some() || name.tag() == Some(tag)),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::key::Keys;
    use super::super::signers::Signer;
    use super::*;
    use crate::images::reference;

    const DIGEST: &str = "sha256:f3cfc9d0dbf931d3db4685ec659b7ac68e2a578219da4aae65427886e649b06b";

    fn keys(pem: &str) -> Keys {
        Keys::try_from(pem.to_owned()).unwrap()
    }

    #[test]
    fn what_cosign_has_signed_counts() {
        let keys = keys(
            "-----BEGIN PUBLIC KEY-----\n\
             MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAENptdY/l3nB0yqkXLBWkZWQwo6+cu\n\
             OSWS1X9vPavpiQOoTTGC0xX57OojUadxF1cdQmrsiReWg2Wn4FneJfa8xw==\n\
             -----END PUBLIC KEY-----\n",
        );
        let identity = "registry-testing.svc.lan/busybox";
        let name = reference::parse(identity).unwrap();
        let asked = Asked {
            name: &name,
            digest: DIGEST,
            keys: keys.all().collect(),
            bundles: false,
        };
        let payload = format!(
            r#"{{"critical":{{"identity":{{"docker-reference":"{identity}"}},"image":{{"docker-manifest-digest":"{DIGEST}"}},"type":"cosign container image signature"}},"optional":null}}"#
        );
        let signature = "MEUCIQD6q/COgzOyW0YH1Dk+CCYSt4uAhm3FDHUwvPI55zwnlwIgE0ZK58ZOWpZw8YVmBapJhBqCfdPekIknimuO0xH8Jh8=";
        let expected = Voucher::Signature {
            key: asked.keys[0].id().to_owned(),
            identity: identity.to_owned(),
        };
        assert_eq!(asked.check(payload.as_bytes(), signature), Ok(expected.clone()));
        let (first, rest) = signature.split_at(44);
        assert_eq!(
            asked.check(payload.as_bytes(), &format!("{first}\n{rest}\n")),
            Ok(expected)
        );
        let other = payload.replace("null", "{}");
        let why = asked.check(other.as_bytes(), signature).unwrap_err();
        assert!(why.contains("none of the policy's keys"), "{why}");
    }

    #[test]
    fn a_signature_that_does_not_count_says_why() {
        let (signer, stranger) = (Signer::p256(), Signer::p256());
        let (keys, name) = (
            keys(&signer.pem()),
            reference::parse("lan:5000/team/app:2").unwrap(),
        );
        let asked = Asked {
            name: &name,
            digest: DIGEST,
            keys: keys.all().collect(),
            bundles: false,
        };
        let check = |(payload, signature): (Vec<u8>, String)| asked.check(&payload, &signature);
        let good = signer.cosign("lan:5000/team/app", DIGEST);
        assert!(check(good.clone()).is_ok());
        let elsewhere = format!("sha256:{}", "0".repeat(64));
        let other_type = String::from_utf8(good.0.clone())
            .unwrap()
            .replace("cosign", "atomic");
        for (signed, words) in [
            (
                stranger.cosign("lan:5000/team/app", DIGEST),
                "by none of the policy's keys",
            ),
            (
                signer.cosign("lan:5000/team/app", &elsewhere),
                "it signs sha256:0000",
            ),
            (
                signer.cosign("lan:5000/team/other", DIGEST),
                "it signs lan:5000/team/other, not",
            ),
            (
                signer.cosign("lan:5000/team/app:1", DIGEST),
                "it signs lan:5000/team/app:1, not",
            ),
            (
                signer.signed(other_type.as_bytes()),
                "atomic container image signature",
            ),
            (signer.signed(b"[]"), "something else than an image"),
            ((good.0.clone(), "not base64!".to_owned()), "not base64"),
            (
                (good.0.clone(), "QUJD".repeat(2000)),
                "8000 characters, 4096 are allowed",
            ),
            ((good.0.clone(), String::new()), "by none of the policy's keys"),
        ] {
            let why = check(signed).unwrap_err();
            assert!(why.contains(words), "{words}: {why}");
        }
    }

    #[test]
    fn an_identity_is_a_repository_or_a_tag_of_it() {
        let digest = format!("@{DIGEST}");
        for (identity, name, fits) in [
            ("lan.x/app", "lan.x/app:1", true),
            ("lan.x/app:1", "lan.x/app:1", true),
            ("lan.x/app:1", "lan.x/app:2", false),
            ("lan.x/app:1", &format!("lan.x/app{digest}"), true),
            ("lan.x/app:1", &format!("lan.x/app:2{digest}"), true),
            ("index.docker.io/library/busybox", "busybox", true),
            ("docker.io/library/busybox:latest", "busybox", true),
            ("busybox", "busybox", false),
            ("lan.x/app-evil", &format!("lan.x/app{digest}"), false),
            ("lan.x/ap", "lan.x/app", false),
            ("index.lan.x/app", "lan.x/app", false),
            ("", "lan.x/app", false),
        ] {
            let name = reference::parse(name).unwrap();
            assert_eq!(is_of(identity, &name), fits, "{identity} of {name}");
        }
    }
}
