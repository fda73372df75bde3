//! Service-account tokens for a pod: asked for, kept, renewed in time.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use api::status::Status;
use client::Client;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount, ServiceAccountTokenProjection};

use crate::moment::Moment;
use crate::objects::{away, within_patience};
use crate::pods::spec;

/// Kubernetes' `expirationSeconds` where none is given.
const SECONDS_DEFAULT: i64 = 3600;
/// A token is renewed at this age even if it is good for longer.
const AGE_MAX: Duration = Duration::from_secs(24 * 3600);

/// Both clocks may differ by so much in what they say has passed; more, and
/// the wall clock was set, or the machine slept.
const CLOCKS_APART_MAX: Duration = Duration::from_secs(60);

struct Token {
    text: String,
    issued: Moment,
    expires: Timestamp,
}

impl Token {
    /// One of unknown age, to be renewed as soon as possible.
    fn overdue(text: &str, now: Moment) -> Token {
        Token {
            text: text.to_owned(),
            issued: now,
            expires: now.wall,
        }
    }

    /// How long until the next one is asked for: after four fifths of its life,
    /// a day at most; and at once when the wall clock was set meanwhile. After
    /// that, to whoever reads the new time, the token may be from the future or
    /// long past.
    fn due_in(&self, now: Moment) -> Duration {
        let life = Duration::try_from(self.expires.duration_since(self.issued.wall)).unwrap_or_default();
        let passed = now.mono.saturating_sub(self.issued.mono);
        let on_the_wall = now.wall.duration_since(self.issued.wall);
        let apart = on_the_wall.saturating_sub(SignedDuration::try_from(passed).unwrap_or_default());
        if apart.unsigned_abs() > CLOCKS_APART_MAX {
            return Duration::ZERO;
        }
        (life * 4 / 5).min(AGE_MAX).saturating_sub(passed)
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
        now: Moment,
    ) -> Result<BTreeMap<String, String>, String> {
        let mut texts = BTreeMap::new();
        for projection in wanted {
            let key = (volume.to_owned(), projection.path.clone());
            let held = self
                .lock()
                .get(&key)
                .map(|token| (token.text.clone(), token.due_in(now)));
            let text = match held {
                Some((text, due)) if !due.is_zero() => text,
                held => match ask(client, pod, projection, stored(&projection.path).is_some()).await {
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

    /// How long until the next token is to be renewed; `None` without tokens.
    pub fn due_in(&self, now: Moment) -> Option<Duration> {
        self.lock().values().map(|token| token.due_in(now)).min()
    }

    /// How many a volume has.
    pub fn of(&self, volume: &str) -> usize {
        self.lock().keys().filter(|(of, _)| of == volume).count()
    }

    /// Until when a token is good.
    pub fn expires(&self, volume: &str, path: &str) -> Option<Timestamp> {
        let key = (volume.to_owned(), path.to_owned());
        self.lock().get(&key).map(|token| token.expires)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<(String, String), Token>> {
        self.held
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Asks for a token, for a short time only if there is one that would do.
async fn ask(
    client: &Client,
    pod: &Pod,
    projection: &ServiceAccountTokenProjection,
    has_stored: bool,
) -> Result<(String, Timestamp), Status> {
    let asked = request(client, pod, projection);
    if has_stored {
        within_patience(asked).await
    } else {
        asked.await
    }
}

/// A new token for a pod, and until when it is good.
///
/// # Errors
/// The server's.
pub async fn request(
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

    const HOUR: u64 = 3600;

    fn token(life_seconds: u64) -> Token {
        Token {
            text: String::new(),
            issued: Moment::at(1000 * HOUR),
            expires: Moment::at(1000 * HOUR + life_seconds).wall,
        }
    }

    #[test]
    fn renewal_comes_in_time() {
        let in_time = |life| token(life).due_in(Moment::at(1000 * HOUR)).as_secs();
        assert_eq!([in_time(HOUR), in_time(86_400 * 365)], [2880, 86_400]);
        assert_eq!(token(HOUR).due_in(Moment::at(1000 * HOUR + 2880)), Duration::ZERO);
        let overdue = Token::overdue("", Moment::at(HOUR));
        assert_eq!(overdue.due_in(Moment::at(HOUR)), Duration::ZERO);
    }

    #[test]
    fn a_clock_that_was_set_makes_it_due() {
        let start = 1000 * HOUR;
        let after = |wall: u64, mono: u64| {
            token(HOUR).due_in(Moment {
                wall: Moment::at(wall).wall,
                mono: Duration::from_secs(mono),
            })
        };
        // Years ahead, years back, and a correction by some seconds.
        assert_eq!(after(90_000 * HOUR, start + 60), Duration::ZERO);
        assert_eq!(after(HOUR, start + 60), Duration::ZERO);
        assert_eq!(after(start + 30, start + 60), Duration::from_secs(2820));
    }
}
