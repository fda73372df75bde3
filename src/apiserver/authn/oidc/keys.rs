//! The keys of an issuer: found by its discovery document, fetched anew when a token names one that is not known.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde_json::Value;

use super::config::IssuerConfig;
use crate::outbound::Outbound;
use crate::outbound::endpoint::Endpoint;

/// How long the issuer may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Whoever sends tokens with made-up keys must not make us ask all the time.
const ASK_EVERY: Duration = Duration::from_secs(1);
const DISCOVERY: &str = "/.well-known/openid-configuration";

/// What may sign; nothing that needs a shared secret.
const ALGORITHMS: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

/// The keys of one issuer.
pub(super) struct Keys {
    issuer: String,
    discovery: Endpoint,
    outbound: Outbound,
    // A std mutex: nothing awaits while it is held.
    known: Mutex<Known>,
    /// Held while asking, so that a burst of tokens asks once.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Known {
    keys: Vec<(String, DecodingKey)>,
    asked: Option<Instant>,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

impl Keys {
    /// Those of an issuer; none is fetched yet.
    pub fn new(issuer: &IssuerConfig, outbound: Outbound) -> Result<Self, String> {
        let url = match issuer.discovery_url.as_str() {
            "" => format!("{}{DISCOVERY}", issuer.url.trim_end_matches('/')),
            other => other.to_owned(),
        };
        let discovery = Endpoint {
            authorities: issuer.certificate_authority.clone(),
            ..Endpoint::url(&url).map_err(|why| format!("issuer.url: Invalid value: {why}"))?
        };
        Ok(Self {
            issuer: issuer.url.clone(),
            discovery,
            outbound,
            known: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
        })
    }

    /// The claims of a token, if one of the keys has signed it.
    pub async fn verified(&self, token: &str) -> Result<Value, String> {
        let header = jsonwebtoken::decode_header(token).map_err(|error| error.to_string())?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(format!("{:?} may not sign tokens", header.alg));
        }
        let id = header.kid.unwrap_or_default();
        if let Some(claims) = self.tried(token, &id, header.alg) {
            return Ok(claims);
        }
        self.refresh().await?;
        let unknown = || "failed to verify signature: failed to verify id token signature".to_owned();
        self.tried(token, &id, header.alg).ok_or_else(unknown)
    }

    fn tried(&self, token: &str, id: &str, algorithm: Algorithm) -> Option<Value> {
        let mut rules = Validation::new(algorithm);
        // Times and audiences are checked where the clock is ours.
        rules.validate_exp = false;
        rules.validate_nbf = false;
        rules.validate_aud = false;
        rules.required_spec_claims.clear();
        rules.set_issuer(&[&self.issuer]);
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let fitting = known.keys.iter().filter(|(name, _)| id.is_empty() || name == id);
        let mut tried = fitting.map(|(_, key)| jsonwebtoken::decode::<Value>(token, key, &rules));
        tried.find_map(Result::ok).map(|data| data.claims)
    }

    async fn refresh(&self) -> Result<(), String> {
        let wanted = Instant::now();
        let _turn = self.asking.lock().await;
        let asked = self.known.lock().unwrap_or_else(PoisonError::into_inner).asked;
        if asked.is_some_and(|asked| asked >= wanted || asked.elapsed() < ASK_EVERY) {
            return Ok(());
        }
        let keys = self.fetch().await?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Known {
            keys,
            asked: Some(Instant::now()),
        };
        Ok(())
    }

    async fn fetch(&self) -> Result<Vec<(String, DecodingKey)>, String> {
        let document = self.outbound.get(&self.discovery, ANSWER_WITHIN).await?;
        let found: Discovery = serde_json::from_slice(&document).map_err(|error| error.to_string())?;
        if found.issuer != self.issuer {
            return Err(format!(
                "oidc: issuer did not match the issuer returned by provider, expected {:?} got {:?}",
                self.issuer, found.issuer
            ));
        }
        let place = Endpoint {
            authorities: self.discovery.authorities.clone(),
            ..Endpoint::url(&found.jwks_uri)?
        };
        usable(&self.outbound.get(&place, ANSWER_WITHIN).await?)
    }
}

/// The keys of a set, with their names.
fn usable(set: &[u8]) -> Result<Vec<(String, DecodingKey)>, String> {
    let set: JwkSet = serde_json::from_slice(set).map_err(|error| error.to_string())?;
    // A key that is of no use here does not spoil the others.
    let usable = set.keys.iter().filter_map(|key| {
        let id = key.common.key_id.clone().unwrap_or_default();
        Some((id, DecodingKey::from_jwk(key).ok()?))
    });
    Ok(usable.collect())
}

#[cfg(test)]
mod fuzz;
