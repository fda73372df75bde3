//! Those who sign images in tests.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

/// What precedes the 65 bytes of a point on P-256 in a SubjectPublicKeyInfo.
const P256_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// What precedes the 32 bytes of an Ed25519 key.
const ED25519_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// Somebody with a key of their own.
pub(in crate::images) enum Signer {
    /// As `cosign generate-key-pair` makes them.
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Signer {
    pub(in crate::images) fn p256() -> Signer {
        let (rng, kind) = (SystemRandom::new(), &ECDSA_P256_SHA256_ASN1_SIGNING);
        let key = EcdsaKeyPair::generate_pkcs8(kind, &rng).unwrap();
        Signer::P256(EcdsaKeyPair::from_pkcs8(kind, key.as_ref(), &rng).unwrap())
    }

    pub(in crate::images) fn ed25519() -> Signer {
        let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Signer::Ed25519(Ed25519KeyPair::from_pkcs8(key.as_ref()).unwrap())
    }

    /// The public key.
    pub(in crate::images) fn pem(&self) -> String {
        let der = match self {
            Signer::P256(key) => [&P256_PREFIX[..], key.public_key().as_ref()].concat(),
            Signer::Ed25519(key) => [&ED25519_PREFIX[..], key.public_key().as_ref()].concat(),
        };
        let text = STANDARD.encode(der);
        let lines: Vec<&str> = text
            .as_bytes()
            .chunks(64)
            .map(|line| str::from_utf8(line).unwrap())
            .collect();
        format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            lines.join("\n")
        )
    }

    pub(in crate::images) fn sign(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Signer::P256(key) => key.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec(),
            Signer::Ed25519(key) => key.sign(message).as_ref().to_vec(),
        }
    }

    /// A payload and its signature, as a registry keeps them.
    pub(in crate::images) fn signed(&self, payload: &[u8]) -> (Vec<u8>, String) {
        (payload.to_vec(), STANDARD.encode(self.sign(payload)))
    }

    /// What cosign states of an image that it signs.
    pub(in crate::images) fn statement(digest: &str) -> Value {
        let hex = digest.trim_start_matches("sha256:");
        json!({"_type": "https://in-toto.io/Statement/v1", "subject": [{"digest": {"sha256": hex}}],
            "predicateType": "https://sigstore.dev/cosign/sign/v1", "predicate": {}})
    }

    /// A bundle with a signed envelope in it.
    pub(in crate::images) fn enveloped(&self, kind: &str, payload: &[u8]) -> Value {
        let signature = STANDARD.encode(self.sign(&super::bundle::message(kind, payload)));
        json!({"mediaType": super::BUNDLE,
            "verificationMaterial": {"publicKey": {"hint": "a hint"}, "tlogEntries": []},
            "dsseEnvelope": {"payload": STANDARD.encode(payload), "payloadType": kind,
                "signatures": [{"sig": signature, "keyid": ""}]}})
    }

    /// What `cosign sign --key` makes from version 3 on.
    pub(in crate::images) fn bundle(&self, digest: &str) -> Value {
        let statement = Signer::statement(digest).to_string();
        self.enveloped("application/vnd.in-toto+json", statement.as_bytes())
    }

    /// What `cosign sign --key` makes, before version 3 or if it is told to.
    pub(in crate::images) fn cosign(&self, identity: &str, digest: &str) -> (Vec<u8>, String) {
        let payload = json!({"critical": {
            "identity": {"docker-reference": identity}, "image": {"docker-manifest-digest": digest},
            "type": "cosign container image signature"}, "optional": null});
        self.signed(payload.to_string().as_bytes())
    }
}
