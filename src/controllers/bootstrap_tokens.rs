//! Bootstrap tokens: those that have expired go, and the others sign `cluster-info`, by which a machine that knows a
//! token, and nothing else, can tell that what it was told of the cluster is true.

use std::collections::BTreeMap;
use std::time::Duration;

use api::tokens::INFO;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use sha2::{Digest, Sha256};

use crate::Reconciler;
use crate::plan::{Key, Plan, Write};
use crate::view::View;

const SIGNATURE: &str = "jws-kubeconfig-";
const BLOCK: usize = 64;

/// Removes tokens that have expired; keyed by Secret.
pub struct Cleaner;

impl Reconciler for Cleaner {
    const NAME: &'static str = "token-cleaner-controller";
    const QUEUE: &'static str = "token_cleaner";

    fn reconcile(&self, key: &Key, view: &View, now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        let Some(token) = view.bootstrap_tokens.get(&key.namespace, &key.name) else {
            return plan;
        };
        match left(&token, now) {
            None => {}
            Some(Duration::ZERO) => plan.write(Write::delete(token.as_ref())),
            Some(wait) => plan.look_again(wait),
        }
        plan
    }
}

/// Keeps the signatures of `cluster-info`; it is the only key.
pub struct Signer;

impl Reconciler for Signer {
    const NAME: &'static str = "bootstrap-signer-controller";
    const QUEUE: &'static str = "bootstrap_signer_queue";

    fn reconcile(&self, _: &Key, view: &View, now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        let Some(info) = view.cluster_infos.get(INFO.0, INFO.1) else {
            return plan;
        };
        let data = info.data.clone().unwrap_or_default();
        let Some(content) = data.get("kubeconfig") else {
            return plan;
        };
        let mut wanted: BTreeMap<String, String> = data
            .iter()
            .filter(|(key, _)| !key.starts_with(SIGNATURE))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        for token in view.bootstrap_tokens.list() {
            let signs = text(&token, "usage-bootstrap-signing") == "true";
            if signs && left(&token, now) != Some(Duration::ZERO) {
                let (id, secret) = (text(&token, "token-id"), text(&token, "token-secret"));
                wanted.insert(format!("{SIGNATURE}{id}"), signature(content, &id, &secret));
            }
        }
        if wanted != data {
            let mut new = (*info).clone();
            new.data = Some(wanted);
            plan.write(Write::update(&new));
        }
        plan
    }
}

/// The key of what is signed, whatever has changed.
pub fn key() -> Vec<Key> {
    vec![Key::new(INFO.0, INFO.1)]
}

fn text(token: &Secret, key: &str) -> String {
    let bytes = token.data.as_ref().and_then(|data| data.get(key));
    bytes
        .map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned())
        .unwrap_or_default()
}

/// How long a token is still good; `None` for ever. What is no time is over, as in Kubernetes.
fn left(token: &Secret, now: Timestamp) -> Option<Duration> {
    let expiration = text(token, "expiration");
    if expiration.is_empty() {
        return None;
    }
    let ends = expiration.parse::<Timestamp>().unwrap_or(Timestamp::MIN);
    Some(Duration::try_from(ends.duration_since(now)).unwrap_or_default())
}

/// A JWS by a token's secret, without the content that it signs.
fn signature(content: &str, id: &str, secret: &str) -> String {
    let header = serde_json::json!({"alg": "HS256", "kid": id}).to_string();
    let (header, payload) = (URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(content));
    let mac = hmac(secret.as_bytes(), format!("{header}.{payload}").as_bytes());
    format!("{header}..{}", URL_SAFE_NO_PAD.encode(mac))
}

/// HMAC-SHA256 (RFC 2104).
fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut padded = [0; BLOCK];
    let digest = Sha256::digest(key);
    let key = if key.len() > BLOCK { &digest[..] } else { key };
    for (place, byte) in padded.iter_mut().zip(key) {
        *place = *byte;
    }
    let mixed = |pad: u8| padded.map(|byte| byte ^ pad);
    let inner = Sha256::new_with_prefix(mixed(0x36))
        .chain_update(message)
        .finalize();
    Sha256::new_with_prefix(mixed(0x5c))
        .chain_update(inner)
        .finalize()
        .into()
}

#[cfg(test)]
mod tests {
    use api::tokens::{BOOTSTRAP_NAMESPACE, BOOTSTRAP_TYPE};
    use client::Cache;
    use k8s_openapi::ByteString;
    use serde_json::{Value, json};

    use super::*;

    fn token(id: &str, expiration: &str) -> Secret {
        let mut token: Secret = serde_json::from_value(json!({
            "metadata": {"name": format!("bootstrap-token-{id}"), "namespace": BOOTSTRAP_NAMESPACE, "uid": "u"}, "type": BOOTSTRAP_TYPE,
        }))
        .unwrap();
        let texts = [
            ("token-id", id),
            ("token-secret", "0123456789abcdef"),
            ("usage-bootstrap-signing", "true"),
            ("expiration", expiration),
        ];
        let bytes = texts
            .into_iter()
            .map(|(key, text)| (key.to_owned(), ByteString(text.into())));
        token.data = Some(bytes.filter(|(_, text)| !text.0.is_empty()).collect());
        token
    }

    fn view(tokens: Vec<Secret>, info: Value) -> View {
        let info = json!({"metadata": {"name": INFO.1, "namespace": INFO.0, "uid": "u"}, "data": info});
        View {
            bootstrap_tokens: Cache::fixed(tokens),
            cluster_infos: Cache::fixed([serde_json::from_value(info).unwrap()]),
            ..View::empty()
        }
    }

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    #[test]
    fn what_has_expired_goes() {
        let of = |expiration: &str| {
            let view = view(vec![token("abcdef", expiration)], json!({}));
            Cleaner.reconcile(
                &Key::new(BOOTSTRAP_NAMESPACE, "bootstrap-token-abcdef"),
                &view,
                now(),
            )
        };
        assert_eq!(of("2026-01-01T00:00:00Z").writes.len(), 1);
        assert_eq!(of("nonsense").writes.len(), 1);
        let later = of("2026-01-01T00:01:00Z");
        assert!(
            later.writes.is_empty() && later.again == Some(Duration::from_secs(60)),
            "{later:?}"
        );
        let never = of("");
        assert!(never.writes.is_empty() && never.again.is_none());
    }

    #[test]
    fn tokens_sign_what_the_cluster_says_of_itself() {
        let expired = token("zzzzzz", "2020-01-01T00:00:00Z");
        let view = view(
            vec![token("abcdef", ""), expired],
            json!({"kubeconfig": "k", "jws-kubeconfig-zzzzzz": "old"}),
        );
        let plan = Signer.reconcile(&Key::new(INFO.0, INFO.1), &view, now());
        let [Write::Update(_, new)] = plan.writes.as_slice() else {
            panic!("{plan:?}")
        };
        let data = new["data"].as_object().unwrap();
        assert_eq!(
            data.keys().collect::<Vec<_>>(),
            ["jws-kubeconfig-abcdef", "kubeconfig"]
        );
        let signed = data["jws-kubeconfig-abcdef"].as_str().unwrap();
        assert_eq!(signed, signature("k", "abcdef", "0123456789abcdef"));
        assert!(
            signed.starts_with("eyJhbGciOiJIUzI1NiIsImtpZCI6ImFiY2RlZiJ9.."),
            "{signed}"
        );
    }

    #[test]
    fn the_mac_is_that_of_the_standard() {
        // RFC 4231, test case 2.
        let mac = hmac(b"Jefe", b"what do ya want for nothing?");
        let hex: String = mac.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }
}
