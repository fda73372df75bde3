//! Service-account tokens for a pod: asked for, kept, renewed in time.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use api::status::Status;
use client::Client;
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount, ServiceAccountTokenProjection};

use crate::objects::away;
use crate::pods::spec;

/// Kubernetes' `expirationSeconds` where none is given.
const SECONDS_DEFAULT: i64 = 3600;
/// A token is renewed at this age even if it is good for longer.
const AGE_MAX: Duration = Duration::from_secs(24 * 3600);

struct Token {
    text: String,
    issued: Timestamp,
    expires: Timestamp,
}

impl Token {
    /// One of unknown age, to be renewed as soon as possible.
    fn overdue(text: &str, now: Timestamp) -> Token {
        Token {
            text: text.to_owned(),
            issued: now,
            expires: now,
        }
    }

    /// When to ask for the next one: after four fifths of its life, a day at most.
    fn renew_at(&self) -> Timestamp {
        let life = Duration::try_from(self.expires.duration_since(self.issued)).unwrap_or_default();
        let age = (life * 4 / 5).min(AGE_MAX);
        self.issued.saturating_add(age).unwrap_or(self.expires)
    }
}

/// The tokens of one pod, by volume and path.
#[derive(Default)]
pub struct Tokens {
    // A std mutex: nothing awaits while it is held.
    held: Mutex<BTreeMap<(String, String), Token>>,
}

impl Tokens {
    /// The volume's tokens by path, renewed where it is time. A token that
    /// cannot be renewed stays as long as it is good, and longer where the
    /// alternative is none: the server that will refuse it is the one that is away.
    /// `stored` gives the token that a path held before, if this agent was not here then.
    ///
    /// # Errors
    /// When a token was never had and cannot be.
    pub async fn get(
        &self,
        client: &Client,
        pod: &Pod,
        volume: &str,
        wanted: impl Iterator<Item = &ServiceAccountTokenProjection>,
        stored: impl Fn(&str) -> Option<String>,
        now: Timestamp,
    ) -> Result<BTreeMap<String, String>, String> {
        let mut texts = BTreeMap::new();
        for projection in wanted {
            let key = (volume.to_owned(), projection.path.clone());
            let held = self
                .lock()
                .get(&key)
                .map(|token| (token.text.clone(), token.renew_at()));
            let text = match held {
                Some((text, renew)) if now < renew => text,
                held => match request(client, pod, projection).await {
                    Ok((text, expires)) => {
                        self.lock().insert(
                            key,
                            Token {
                                text: text.clone(),
                                issued: now,
                                expires,
                            },
                        );
                        text
                    }
                    Err(error) => {
                        let held = held.map(|(text, _)| text);
                        // What the server refuses, it will refuse to the old token as well.
                        let stored = || away(&error).then(|| stored(&projection.path)).flatten();
                        let text = held.or_else(stored);
                        let text = text.ok_or_else(|| format!("failed to fetch token: {}", error.message))?;
                        self.lock()
                            .entry(key)
                            .or_insert_with(|| Token::overdue(&text, now));
                        text
                    }
                },
            };
            texts.insert(projection.path.clone(), text);
        }
        Ok(texts)
    }

    /// When the next token is to be renewed.
    pub fn renew_at(&self) -> Option<Timestamp> {
        self.lock().values().map(Token::renew_at).min()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<(String, String), Token>> {
        self.held
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

async fn request(
    client: &Client,
    pod: &Pod,
    projection: &ServiceAccountTokenProjection,
) -> Result<(String, Timestamp), Status> {
    let account = spec::spec(pod)
        .service_account_name
        .as_deref()
        .unwrap_or("default");
    let audience = projection.audience.clone().filter(|a| !a.is_empty());
    let body = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: Some(audience.into_iter().collect()),
            expiration_seconds: Some(projection.expiration_seconds.unwrap_or(SECONDS_DEFAULT)),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: Some(spec::name(pod).to_owned()),
                uid: Some(spec::uid(pod).to_owned()),
            }),
        }),
        ..TokenRequest::default()
    };
    let namespace = spec::namespace(pod);
    let answer: TokenRequest = client
        .create_subresource::<ServiceAccount, _, _>(namespace, account, "token", &body)
        .await?;
    let token = answer.status.and_then(|s| s.token.zip(s.expiration_timestamp));
    let (text, expires) = token.ok_or_else(|| Status::internal("the answer has none"))?;
    Ok((text, expires.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_comes_in_time() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let token = |life: i64| Token {
            text: String::new(),
            issued: at(1000),
            expires: at(1000 + life),
        };
        assert_eq!(token(3600).renew_at(), at(1000 + 2880));
        assert_eq!(token(86_400 * 365).renew_at(), at(1000 + 86_400));
    }
}
