//! Damaged tokens and key sets of issuers elsewhere: none of them proves anything, and none does harm.

use std::sync::LazyLock;

use base::SeededRandom;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{EncodingKey, Header};
use proptest::prelude::*;
use rcgen::PublicKeyData;
use serde_json::json;

use super::*;

const ISSUER: &str = "https://issuer.example";

struct Issued {
    set: Vec<u8>,
    token: String,
    keys: Keys,
}

static ISSUED: LazyLock<Issued> = LazyLock::new(|| {
    let pair = rcgen::KeyPair::generate().unwrap();
    let point = pair.der_bytes();
    let half = |range: std::ops::Range<usize>| URL_SAFE_NO_PAD.encode(&point[range]);
    let key = json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "one",
        "x": half(1..33), "y": half(33..65)});
    let set = json!({"keys": [key]}).to_string().into_bytes();
    let mut header = Header::new(Algorithm::ES256);
    header.kid = Some("one".to_owned());
    let claims = json!({"iss": ISSUER, "aud": "coracle", "sub": "jane", "exp": 32_503_680_000_i64});
    let key = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap();
    let issuer = IssuerConfig {
        url: ISSUER.to_owned(),
        ..IssuerConfig::default()
    };
    let keys = Keys::new(&issuer, Outbound::to_hosts()).unwrap();
    keys.known.lock().unwrap().keys = usable(&set).unwrap();
    Issued {
        token: jsonwebtoken::encode(&header, &claims, &key).unwrap(),
        set,
        keys,
    }
});

/// The claims that a token proves, by the keys that are known.
fn proven(token: &str) -> Option<Value> {
    let header = jsonwebtoken::decode_header(token).ok()?;
    ISSUED.keys.tried(token, "", header.alg)
}

fn damaged(seed: u64, whole: &[u8]) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    SeededRandom::new(seed).damage(&mut bytes);
    bytes
}

#[test]
fn what_is_not_damaged_proves_who_it_is() {
    assert_eq!(proven(&ISSUED.token).unwrap()["sub"], "jane");
    assert!(proven(&ISSUED.token.replace('.', "")).is_none());
}

proptest! {
    #[test]
    fn damaged_tokens_prove_nothing(seed: u64) {
        let bytes = damaged(seed, ISSUED.token.as_bytes());
        let token = String::from_utf8_lossy(&bytes);
        let _ = super::super::unverified_issuer(&token);
        prop_assert!(proven(&token).is_none() || token == ISSUED.token);
    }

    #[test]
    fn damaged_key_sets_do_no_harm(seed: u64) {
        let set = damaged(seed, &ISSUED.set);
        for (_, key) in usable(&set).unwrap_or_default() {
            let mut rules = Validation::new(Algorithm::ES256);
            rules.validate_aud = false;
            // Another key proves another's tokens; one that is the same but for its name proves this one.
            let _ = jsonwebtoken::decode::<Value>(&ISSUED.token, &key, &rules);
        }
    }
}
