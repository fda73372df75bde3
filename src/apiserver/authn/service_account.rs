//! Service-account tokens: JWTs signed with ES256, good while their service
//! account and the object they are bound to exist.

mod kept;
mod uses;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::request::{Notes, User};
use api::status::Status;
use async_trait::async_trait;
use base::{Clock, Random, SystemRandom};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, Header, Validation};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::claims::{Audience, Claims, KEPT_ISSUER, Kept, Named, Private, Said};
use crate::lookup::Lookup;
use crate::pki::{AccountKey, Pki};
use crate::tokens::{IssuedToken, KeptSpec, TokenSpec, Tokens};
pub use uses::{Used, Uses};

/// Verified tokens that are remembered, so that a busy client costs one signature check.
const REMEMBERED_MAX: usize = 1024;
/// A pod's token outlives its deletion by this much, as in Kubernetes.
const DELETED_GRACE_SECONDS: i64 = 60;

/// Issues and checks service-account tokens.
pub struct ServiceAccounts {
    issuer: String,
    pki: Arc<Pki>,
    lookup: Arc<dyn Lookup>,
    clock: Arc<dyn Clock>,
    // A std mutex: nothing awaits while it is held.
    remembered: Mutex<Remembered>,
    uses: Arc<Uses>,
}

/// What tokens say, by the hash of each, as verified by one generation of the cluster's keys.
#[derive(Default)]
struct Remembered {
    generation: u64,
    said: HashMap<[u8; 32], Arc<Said>>,
}

impl ServiceAccounts {
    /// Tokens signed by the PKI's service-account key, in the name of `issuer`.
    pub fn new(pki: Arc<Pki>, issuer: &str, lookup: Arc<dyn Lookup>, clock: Arc<dyn Clock>) -> Self {
        Self {
            issuer: issuer.to_owned(),
            pki,
            lookup,
            clock,
            remembered: Mutex::default(),
            uses: Arc::default(),
        }
    }

    /// The default audience: the issuer's own name.
    pub fn audience(&self) -> &str {
        &self.issuer
    }

    /// Uses of tokens that Secrets keep, to be written down.
    pub fn uses(&self) -> &Arc<Uses> {
        &self.uses
    }

    /// The public keys as a JSON Web Key set.
    pub fn key_set(&self) -> Value {
        let key = |key: &AccountKey| {
            let half = |range: std::ops::Range<usize>| {
                URL_SAFE_NO_PAD.encode(key.point.get(range).unwrap_or_default())
            };
            json!({
                "use": "sig", "kty": "EC", "kid": key.id, "crv": "P-256", "alg": "ES256",
                "x": half(1..33), "y": half(33..65),
            })
        };
        let keys: Vec<Value> = self.pki.now().accounts.iter().map(key).collect();
        json!({ "keys": keys })
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
    /// else why not, in words for a log or a `TokenReview`. What is to be said of the token besides goes to `notes`.
    pub fn authenticate(
        &self,
        token: &str,
        audiences: &[String],
        notes: &Notes,
    ) -> Result<(User, Vec<String>), String> {
        let said = self.verified(token)?;
        let own = [self.issuer.clone()];
        let wanted = if audiences.is_empty() { &own[..] } else { audiences };
        let has = match &*said {
            Said::Bound(claims) => claims.aud.list(),
            // It names nobody, so it is for this server alone.
            Said::Kept(_) => &own,
        };
        let good = wanted.iter().filter(|audience| has.contains(audience));
        let good: Vec<String> = good.cloned().collect();
        if good.is_empty() {
            return Err(format!(
                "token audiences {has:?} is invalid for the target audiences {wanted:?}"
            ));
        }
        let user = match &*said {
            Said::Bound(claims) => {
                self.check_time(claims)?;
                self.check_objects(&claims.private)?;
                user(claims)
            }
            Said::Kept(claims) => {
                self.check_kept(claims, token, notes)?;
                account(&claims.namespace, &claims.account, &claims.uid)
            }
        };
        Ok((user, good))
    }

    fn verified(&self, token: &str) -> Result<Arc<Said>, String> {
        let keys = self.pki.now();
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        if let Some(said) = self.memory(keys.generation()).said.get(&digest) {
            return Ok(said.clone());
        }
        let said = Arc::new(self.decode(token, &keys.accounts)?);
        let mut memory = self.memory(keys.generation());
        if memory.said.len() >= REMEMBERED_MAX {
            memory.said.clear();
        }
        memory.said.insert(digest, said.clone());
        Ok(said)
    }

    /// What a token says that one of these keys has signed.
    fn decode(&self, token: &str, keys: &[AccountKey]) -> Result<Said, String> {
        let invalid = |error: jsonwebtoken::errors::Error| format!("invalid bearer token: {error}");
        let named = jsonwebtoken::decode_header(token).map_err(invalid)?.kid;
        let mut rules = Validation::new(Algorithm::ES256);
        // Times and audiences are checked on every use, against our own clock.
        rules.validate_exp = false;
        rules.validate_nbf = false;
        rules.validate_aud = false;
        rules.required_spec_claims.clear();
        rules.set_issuer(&[self.issuer.as_str(), KEPT_ISSUER]);
        let mut why = "invalid bearer token: no key that is trusted has signed it".to_owned();
        for key in keys {
            if named.as_ref().is_some_and(|named| *named != key.id) {
                continue;
            }
            match jsonwebtoken::decode::<Said>(token, &key.decoding, &rules) {
                Ok(data) if data.claims.is_from(&self.issuer) => return Ok(data.claims),
                Ok(_) => {
                    why = "invalid bearer token: it is not of the sort that its issuer issues".to_owned()
                }
                Err(error) => why = invalid(error),
            }
        }
        Err(why)
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
            sub: account_name(&spec.namespace, &spec.name),
        }
    }

    /// What is remembered of that generation of keys; an older one's is forgotten.
    fn memory(&self, generation: u64) -> MutexGuard<'_, Remembered> {
        let mut memory = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if memory.generation != generation {
            memory.said.clear();
            memory.generation = generation;
        }
        memory
    }

    /// Signs what a new token says with the key whose turn it is.
    fn sign(&self, claims: &impl Serialize) -> Result<String, Status> {
        let mut header = Header::new(Algorithm::ES256);
        header.typ = None;
        let keys = self.pki.now();
        let none = || Status::internal("there is no key to sign tokens with");
        let key = keys.accounts.first().ok_or_else(none)?;
        header.kid = Some(key.id.clone());
        jsonwebtoken::encode(&header, claims, &key.encoding).map_err(Status::internal)
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
    let named = &private.serviceaccount;
    User {
        extra: extra.into(),
        ..account(&private.namespace, &named.name, &named.uid)
    }
}

/// The user that a service account is.
fn account(namespace: &str, name: &str, uid: &str) -> User {
    User {
        name: account_name(namespace, name),
        uid: uid.to_owned(),
        groups: vec![
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{namespace}"),
            super::AUTHENTICATED.to_owned(),
        ],
        extra: Arc::default(),
    }
}

/// What a new token says that is kept in a Secret.
fn claims_of_kept(spec: &KeptSpec) -> Kept {
    Kept {
        iss: KEPT_ISSUER.to_owned(),
        namespace: spec.namespace.clone(),
        secret: spec.secret.clone(),
        account: spec.account.clone(),
        uid: spec.uid.clone(),
        sub: account_name(&spec.namespace, &spec.account),
    }
}

fn account_name(namespace: &str, name: &str) -> String {
    format!("system:serviceaccount:{namespace}:{name}")
}

#[async_trait]
impl Tokens for ServiceAccounts {
    fn issue(&self, spec: &TokenSpec) -> Result<IssuedToken, Status> {
        let claims = self.claims(spec);
        let expires = jiff::Timestamp::from_second(claims.exp).map_err(Status::internal)?;
        let audiences = claims.aud.list().to_vec();
        Ok(IssuedToken {
            token: self.sign(&claims)?,
            expires,
            audiences,
        })
    }

    fn issue_kept(&self, spec: &KeptSpec) -> Result<String, Status> {
        self.sign(&claims_of_kept(spec))
    }

    fn has_lost_its_key(&self, token: &str) -> bool {
        let named = jsonwebtoken::decode_header(token)
            .ok()
            .and_then(|header| header.kid);
        let keys = self.pki.now();
        named.is_some_and(|named| keys.accounts.iter().all(|key| key.id != named))
    }

    async fn review(
        &self,
        token: &str,
        audiences: &[String],
        notes: &Notes,
    ) -> Result<(User, Vec<String>), String> {
        self.authenticate(token, audiences, notes)
    }
}

#[cfg(test)]
mod tests;
