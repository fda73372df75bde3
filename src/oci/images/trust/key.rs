//! Public keys of those who sign images.

use std::fmt;

use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ED25519, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm,
};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_PKCS1_RSAENCRYPTION, OID_SIG_ED25519,
};
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo};

/// The keys of one entry: of a text in PEM, or of the file that it names.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Keys(Vec<PublicKey>);

impl Keys {
    /// All of them, one at least.
    pub(super) fn all(&self) -> impl Iterator<Item = &PublicKey> {
        self.0.iter()
    }
}

impl TryFrom<String> for Keys {
    type Error = String;

    fn try_from(entry: String) -> Result<Keys, String> {
        if entry.trim_start().starts_with("-----BEGIN") {
            return Keys::of_pem(&entry).map_err(|why| format!("a key in the policy {why}"));
        }
        let text = std::fs::read_to_string(&entry)
            .map_err(|error| format!("reading the policy's key {entry:?}: {error}"))?;
        Keys::of_pem(&text).map_err(|why| format!("the policy's key {entry:?} {why}"))
    }
}

impl Keys {
    fn of_pem(text: &str) -> Result<Keys, String> {
        let sections = SubjectPublicKeyInfoDer::pem_slice_iter(text.as_bytes());
        let keys = sections
            .map(|der| PublicKey::of_der(&der.map_err(|error| format!("is no PEM: {error}"))?))
            .collect::<Result<Vec<PublicKey>, String>>()?;
        if keys.is_empty() {
            return Err("holds no `PUBLIC KEY`: take the public half, cosign's cosign.pub".to_owned());
        }
        Ok(Keys(keys))
    }
}

/// A key that signatures are checked with.
#[derive(Clone)]
pub(in crate::images) struct PublicKey {
    id: String,
    key: UnparsedPublicKey<Vec<u8>>,
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.id)
    }
}

impl PublicKey {
    /// Reads a SubjectPublicKeyInfo (RFC 5280).
    fn of_der(der: &[u8]) -> Result<PublicKey, String> {
        let (_, info) = SubjectPublicKeyInfo::from_der(der).map_err(|_| "is damaged".to_owned())?;
        let Some(algorithm) = algorithm(&info) else {
            return Err(format!(
                "is of a kind that is not understood ({}): ECDSA on P-256, Ed25519 and RSA are",
                info.algorithm.algorithm
            ));
        };
        Ok(PublicKey {
            id: format!("{:x}", Sha256::digest(der)),
            key: UnparsedPublicKey::new(algorithm, info.subject_public_key.data.to_vec()),
        })
    }

    /// SHA-256 of its DER form, in hex.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Whether its owner signed that message.
    pub(super) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        self.key.verify(message, signature).is_ok()
    }
}

/// How cosign signs with a key of that kind.
fn algorithm(info: &SubjectPublicKeyInfo<'_>) -> Option<&'static dyn VerificationAlgorithm> {
    let (kind, parameters) = (&info.algorithm.algorithm, info.algorithm.parameters.as_ref());
    if *kind == OID_SIG_ED25519 {
        return Some(&ED25519);
    }
    if *kind == OID_PKCS1_RSAENCRYPTION {
        return Some(&RSA_PKCS1_2048_8192_SHA256);
    }
    let curve = parameters.and_then(|any| any.as_oid().ok());
    if *kind == OID_KEY_TYPE_EC_PUBLIC_KEY && curve == Some(OID_EC_P256) {
        return Some(&ECDSA_P256_SHA256_ASN1);
    }
    None
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::super::signers::Signer;
    use super::*;

    #[test]
    fn keys_of_every_kind_are_read_and_told_apart() {
        let (one, other) = (Signer::p256(), Signer::ed25519());
        let both = Keys::of_pem(&format!("{}\n{}", one.pem(), other.pem())).unwrap();
        let ids: Vec<&str> = both.all().map(PublicKey::id).collect();
        assert!(
            ids.len() == 2 && ids[0] != ids[1] && ids[0].len() == 64,
            "{ids:?}"
        );
        for (signer, key) in [&one, &other].into_iter().zip(both.all()) {
            let signature = signer.sign(b"message");
            assert!(key.has_signed(b"message", &signature));
            assert!(!key.has_signed(b"messagf", &signature));
            assert!(!key.has_signed(b"message", b"") && !key.has_signed(b"message", &[0x30; 2000]));
        }
        let crossed = both.all().next().unwrap();
        assert!(!crossed.has_signed(b"message", &other.sign(b"message")));
    }

    #[test]
    fn what_an_rsa_key_has_signed_counts() {
        // Made by openssl, as ring makes no such keys.
        let pem = "-----BEGIN PUBLIC KEY-----\n\
             MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAp4Ipnhd9MMtUEBacuwGh\n\
             UjA2ZoAwaVJyZ2MSy23AOgmRdA1qz7FS8URTKveKqaxJfMCTUD7bhZ019yIC0QTG\n\
             gqcqHsvHRTjBc13LChul7p8OL9Hb2CUfhacfVTc/Yx6e01q+xn8hIgduH7iB6JxK\n\
             aKJ1wdcfDD4ykot25pFVJJUHikqVdL0wifKJ7caePya5MnNFZno82VTmT8NtdCf1\n\
             WK1t+AkpOyo7fufLh8vZKwe/rBuR3STdfR5JHSHSbIq/rthwIqoffDFxlyK1KIzZ\n\
             cmy5gembW6GZlL8v+lyDr/jYRA8HQ4uJ+Q9EDGW0Cgx1D8Pu7o9Beyp6Qfy6/Y8G\n\
             LwIDAQAB\n\
             -----END PUBLIC KEY-----\n";
        let signature = "JQ0m6j309Kq+WMJE5kdrRYvwFM8WSV80d04AgksJl9/4EBVOOmomBGTiIWSbVXdspwHzztZfQzJU9LBzGy8MvQ\
             hvAd2St50oIP/ujeZM2Lx2NnT4QZC6ws8/QXTmflikCJKAsO/7J1HSsj+Dmu7QWM45kHwyMRtmZAYhHLSnqRs7\
             EzTbwLZ4BhXEOQnxJbT0ZX86Ua5s456KYQ/K060E5b2CFZKMQs/NnDJLKLHzgVdVqrSDseQ9pBa2ND3KSBGWQG\
             X5qozAgoBSK5a6djwiRbje9ApSqAyas2u/XvJgB6dXXHaO+7XFkyTAyiOY4GTBMAIlL/IEZ6rdNK1+uOA9Lg==";
        let keys = Keys::try_from(pem.to_owned()).unwrap();
        let (key, signature) = (keys.all().next().unwrap(), STANDARD.decode(signature).unwrap());
        assert!(key.has_signed(b"message", &signature));
        assert!(!key.has_signed(b"messagf", &signature));
    }

    #[test]
    fn what_is_no_key_is_told_of_by_its_place() {
        let why = |entry: &str| Keys::try_from(entry.to_owned()).unwrap_err();
        let private = "-----BEGIN PRIVATE KEY-----\nMAo=\n-----END PRIVATE KEY-----\n";
        assert!(why(private).contains("holds no `PUBLIC KEY`"), "{}", why(private));
        let damaged = "-----BEGIN PUBLIC KEY-----\nMAo=\n-----END PUBLIC KEY-----\n";
        assert!(why(damaged).contains("damaged"), "{}", why(damaged));
        assert!(why("/no/such.pub").contains("\"/no/such.pub\""));
    }

    #[test]
    fn keys_of_other_kinds_are_refused_by_name() {
        // A point on P-384, which needs no more than to look like one.
        let mut der = vec![
            0x30, 0x76, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01,
        ];
        der.extend([0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22, 0x03, 0x62, 0x00, 0x04]);
        der.extend([7; 96]);
        let why = PublicKey::of_der(&der).unwrap_err();
        assert!(
            why.contains("1.2.840.10045.2.1") && why.contains("P-256"),
            "{why}"
        );
    }
}
