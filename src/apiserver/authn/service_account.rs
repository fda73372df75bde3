//! Service-account tokens: JWTs signed with ES256, good while their service
//! account and the object they are bound to exist.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use api::request::User;
use api::status::Status;
use async_trait::async_trait;
use base::{Clock, Random, SystemRandom};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rcgen::PublicKeyData;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::claims::{Audience, Claims, Named, Private};
use crate::lookup::Lookup;
use crate::pki::{Pki, PkiError};
use crate::tokens::{IssuedToken, TokenSpec, Tokens};

/// Verified tokens that are remembered, so that a busy client costs one signature check.
const REMEMBERED_MAX: usize = 1024;
/// A pod's token outlives its deletion by this much, as in Kubernetes.
const DELETED_GRACE_SECONDS: i64 = 60;

/// Issues and checks service-account tokens.
pub struct ServiceAccounts {
    issuer: String,
    key_id: String,
    public_point: Vec<u8>,
    encoding: EncodingKey,
    decoding: DecodingKey,
    lookup: Arc<dyn Lookup>,
    clock: Arc<dyn Clock>,
    // A std mutex: nothing awaits while it is held.
    remembered: Mutex<HashMap<[u8; 32], Arc<Claims>>>,
}

impl ServiceAccounts {
    /// Tokens signed by the PKI's service-account key, in the name of `issuer`.
    pub fn new(
        pki: &Pki,
        issuer: &str,
        lookup: Arc<dyn Lookup>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, PkiError> {
        let path = pki.dir().join("service-account.key");
        let malformed = |why: String| PkiError::Malformed {
            path: path.clone(),
            why,
        };
        let pem = &pki.service_account_key;
        let pair = rcgen::KeyPair::from_pem(pem)?;
        let point = pair.der_bytes().to_vec();
        let encoding = EncodingKey::from_ec_pem(pem.as_bytes()).map_err(|e| malformed(e.to_string()))?;
        let decoding = DecodingKey::from_ec_pem(pair.public_key_pem().as_bytes())
            .map_err(|e| malformed(e.to_string()))?;
        let key_id = URL_SAFE_NO_PAD.encode(Sha256::digest(pair.subject_public_key_info()));
        Ok(Self {
            issuer: issuer.to_owned(),
            key_id,
            public_point: point,
            encoding,
            decoding,
            lookup,
            clock,
            remembered: Mutex::default(),
        })
    }

    /// The default audience: the issuer's own name.
    pub fn audience(&self) -> &str {
        &self.issuer
    }

    /// The public key as a JSON Web Key set.
    pub fn key_set(&self) -> Value {
        let half = |range: std::ops::Range<usize>| {
            URL_SAFE_NO_PAD.encode(self.public_point.get(range).unwrap_or_default())
        };
        json!({"keys": [{
            "use": "sig", "kty": "EC", "kid": self.key_id, "crv": "P-256", "alg": "ES256",
            "x": half(1..33), "y": half(33..65),
        }]})
    }

    /// The OpenID discovery document; `jwks_uri` is where the key set is served.
    pub fn discovery(&self, jwks_uri: &str) -> Value {
        json!({
            "issuer": self.issuer,
            "jwks_uri": jwks_uri,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    }

    /// Who holds `token` and for which of `audiences` (empty: the server's own) it is good;
    /// else why not, in words for a log or a `TokenReview`.
    pub fn authenticate(&self, token: &str, audiences: &[String]) -> Result<(User, Vec<String>), String> {
        let claims = self.verified(token)?;
        let own = [self.issuer.clone()];
        let wanted = if audiences.is_empty() { &own[..] } else { audiences };
        let good: Vec<String> = wanted
            .iter()
            .filter(|audience| claims.aud.list().contains(audience))
            .cloned()
            .collect();
        if good.is_empty() {
            let (has, wants) = (claims.aud.list(), wanted);
            return Err(format!(
                "token audiences {has:?} is invalid for the target audiences {wants:?}"
            ));
        }
        self.check_time(&claims)?;
        self.check_objects(&claims.private)?;
        Ok((user(&claims), good))
    }

    fn verified(&self, token: &str) -> Result<Arc<Claims>, String> {
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        if let Some(claims) = self.memory().get(&digest) {
            return Ok(claims.clone());
        }
        let mut rules = Validation::new(Algorithm::ES256);
        // Times and audiences are checked on every use, against our own clock.
        rules.validate_exp = false;
        rules.validate_nbf = false;
        rules.validate_aud = false;
        rules.required_spec_claims.clear();
        rules.set_issuer(&[&self.issuer]);
        let data = jsonwebtoken::decode::<Claims>(token, &self.decoding, &rules)
            .map_err(|error| format!("invalid bearer token: {error}"))?;
        let claims = Arc::new(data.claims);
        let mut memory = self.memory();
        if memory.len() >= REMEMBERED_MAX {
            memory.clear();
        }
        memory.insert(digest, claims.clone());
        Ok(claims)
    }

    /// What a new token says.
    fn claims(&self, spec: &TokenSpec) -> Claims {
        let now = self.clock.now().as_second();
        let own = || vec![self.issuer.clone()];
        let named = |name: &str, uid: &str| Named {
            name: name.to_owned(),
            uid: uid.to_owned(),
        };
        let bound = |kind: &str| {
            let bound = spec.bound.as_ref().filter(|bound| bound.kind == kind)?;
            Some(named(&bound.name, &bound.uid))
        };
        let node = spec.node.as_ref().map(|(name, uid)| named(name, uid));
        let audiences = if spec.audiences.is_empty() {
            own()
        } else {
            spec.audiences.clone()
        };
        Claims {
            aud: Audience::Many(audiences),
            exp: now.saturating_add(spec.expiration_seconds),
            iat: now,
            iss: self.issuer.clone(),
            jti: SystemRandom.uuid(),
            private: Private {
                namespace: spec.namespace.clone(),
                node: node.or_else(|| bound("Node")),
                pod: bound("Pod"),
                secret: bound("Secret"),
                serviceaccount: named(&spec.name, &spec.uid),
            },
            nbf: now,
            sub: format!("system:serviceaccount:{}:{}", spec.namespace, spec.name),
        }
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, HashMap<[u8; 32], Arc<Claims>>> {
        self.remembered
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn check_time(&self, claims: &Claims) -> Result<(), String> {
        let now = self.clock.now().as_second();
        if claims.exp <= now {
            return Err("service account token has expired".into());
        }
        if claims.nbf > now + 1 {
            return Err("service account token is not valid yet".into());
        }
        Ok(())
    }

    fn check_objects(&self, claims: &Private) -> Result<(), String> {
        let (namespace, account) = (&claims.namespace, &claims.serviceaccount);
        self.exists("serviceaccounts", namespace, account)?;
        if let Some(pod) = &claims.pod {
            self.exists("pods", namespace, pod)?;
        }
        if let Some(secret) = &claims.secret {
            self.exists("secrets", namespace, secret)?;
        }
        // A pod's token only mentions its node; it is bound to the node when there is no pod.
        if let (Some(node), None) = (&claims.node, &claims.pod) {
            self.exists("nodes", "", node)?;
        }
        Ok(())
    }

    fn exists(&self, plural: &str, namespace: &str, wanted: &Named) -> Result<(), String> {
        let gone = || format!("{plural} {:?} of the token no longer exists", wanted.name);
        let found = self
            .lookup
            .find("", plural, namespace, &wanted.name)
            .ok_or_else(gone)?;
        if found.uid != wanted.uid {
            return Err(format!(
                "{plural} {:?} of the token has been made anew",
                wanted.name
            ));
        }
        let object: Value = serde_json::from_slice(&found.text).unwrap_or_default();
        let deleted = object["metadata"]["deletionTimestamp"].as_str();
        let deleted = deleted.and_then(|text| text.parse::<jiff::Timestamp>().ok());
        let limit = self.clock.now().as_second() - DELETED_GRACE_SECONDS;
        if deleted.is_some_and(|at| at.as_second() < limit) {
            Err(gone())
        } else {
            Ok(())
        }
    }
}

fn user(claims: &Claims) -> User {
    let private = &claims.private;
    let mut extra = BTreeMap::new();
    let mut add = |key: &str, value: &str| {
        if !value.is_empty() {
            extra.insert(
                format!("authentication.kubernetes.io/{key}"),
                vec![value.to_owned()],
            );
        }
    };
    if !claims.jti.is_empty() {
        add("credential-id", &format!("JTI={}", claims.jti));
    }
    for (kind, named) in [("pod", &private.pod), ("node", &private.node)] {
        if let Some(named) = named {
            add(&format!("{kind}-name"), &named.name);
            add(&format!("{kind}-uid"), &named.uid);
        }
    }
    User {
        name: format!(
            "system:serviceaccount:{}:{}",
            private.namespace, private.serviceaccount.name
        ),
        uid: private.serviceaccount.uid.clone(),
        groups: vec![
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{}", private.namespace),
            super::AUTHENTICATED.to_owned(),
        ],
        extra,
    }
}

#[async_trait]
impl Tokens for ServiceAccounts {
    fn issue(&self, spec: &TokenSpec) -> Result<IssuedToken, Status> {
        let claims = self.claims(spec);
        let expires = jiff::Timestamp::from_second(claims.exp).map_err(Status::internal)?;
        let audiences = claims.aud.list().to_vec();
        let mut header = Header::new(Algorithm::ES256);
        header.typ = None;
        header.kid = Some(self.key_id.clone());
        let token = jsonwebtoken::encode(&header, &claims, &self.encoding).map_err(Status::internal)?;
        Ok(IssuedToken {
            token,
            expires,
            audiences,
        })
    }

    async fn review(&self, token: &str, audiences: &[String]) -> Result<(User, Vec<String>), String> {
        self.authenticate(token, audiences)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ServerConfig;
    use crate::lookup::tests::Fixed;
    use crate::tokens::BoundObject;
    use base::ManualClock;
    use std::time::Duration;

    fn spec() -> TokenSpec {
        TokenSpec {
            namespace: "a".into(),
            name: "bot".into(),
            uid: "sa-1".into(),
            audiences: vec![],
            expiration_seconds: 3600,
            bound: Some(BoundObject {
                kind: "Pod".into(),
                name: "web".into(),
                uid: "pod-1".into(),
            }),
            node: Some(("n1".into(), "node-1".into())),
        }
    }

    fn object(name: &str, uid: &str) -> Value {
        json!({"metadata": {"namespace": "a", "name": name, "uid": uid}})
    }

    fn tokens(lookup: Fixed) -> (tempfile::TempDir, Arc<ManualClock>, ServiceAccounts) {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(jiff::Timestamp::now()));
        let pki = Pki::open(&ServerConfig::new(dir.path()), 6443, clock.now()).unwrap();
        let tokens = ServiceAccounts::new(&pki, "https://issuer", Arc::new(lookup), clock.clone()).unwrap();
        (dir, clock, tokens)
    }

    #[test]
    fn a_token_is_good_until_it_ends() {
        let lookup = Fixed::default()
            .with("", "serviceaccounts", object("bot", "sa-1"))
            .with("", "pods", object("web", "pod-1"));
        let (_dir, clock, tokens) = tokens(lookup);
        let issued = tokens.issue(&spec()).unwrap();
        let (user, audiences) = tokens.authenticate(&issued.token, &[]).unwrap();
        assert_eq!(user.name, "system:serviceaccount:a:bot");
        assert_eq!(
            user.groups,
            [
                "system:serviceaccounts",
                "system:serviceaccounts:a",
                "system:authenticated"
            ]
        );
        assert_eq!(user.extra["authentication.kubernetes.io/pod-name"], ["web"]);
        assert_eq!(audiences, ["https://issuer"]);
        assert!(tokens.authenticate(&issued.token, &["vault".to_owned()]).is_err());
        clock.advance(Duration::from_secs(3601));
        assert_eq!(
            tokens.authenticate(&issued.token, &[]).unwrap_err(),
            "service account token has expired"
        );
    }

    #[test]
    fn a_token_dies_with_its_pod() {
        let lookup = Fixed::default()
            .with("", "serviceaccounts", object("bot", "sa-1"))
            .with("", "pods", object("web", "another"));
        let (_dir, _, tokens) = tokens(lookup);
        let issued = tokens.issue(&spec()).unwrap();
        assert!(
            tokens
                .authenticate(&issued.token, &[])
                .unwrap_err()
                .contains("made anew")
        );
        let free = TokenSpec {
            bound: None,
            node: None,
            ..spec()
        };
        assert!(
            tokens
                .authenticate(&tokens.issue(&free).unwrap().token, &[])
                .is_ok()
        );
        let stranger = TokenSpec {
            uid: "sa-2".into(),
            bound: None,
            ..spec()
        };
        assert!(
            tokens
                .authenticate(&tokens.issue(&stranger).unwrap().token, &[])
                .is_err()
        );
    }

    #[test]
    fn forged_tokens_are_refused() {
        let lookup = Fixed::default().with("", "serviceaccounts", object("bot", "sa-1"));
        let (_dir, _, ours) = tokens(lookup.clone());
        let (_other, _, theirs) = tokens(lookup);
        let free = TokenSpec {
            bound: None,
            node: None,
            ..spec()
        };
        let forged = theirs.issue(&free).unwrap().token;
        assert!(ours.authenticate(&forged, &[]).is_err());
        let token = ours.issue(&free).unwrap().token;
        let mut parts: Vec<&str> = token.split('.').collect();
        let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
        parts[0] = &none;
        parts[2] = "";
        assert!(ours.authenticate(&parts.join("."), &[]).is_err());
        assert!(ours.authenticate("", &[]).is_err());
    }
}
