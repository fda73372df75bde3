//! Who is asking: by client certificate, as a front proxy says, by a bearer token of some sort, or nobody.

mod bearers;
mod bootstrap;
mod certificate;
mod claims;
mod configured;
pub mod front_proxy;
#[cfg(test)]
mod fuzz;
mod groups;
pub mod oidc;
mod service_account;
mod tally;
mod token_webhook;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use api::request::{Notes, User};
use api::status::Status;
use base::Clock;
use base::telemetry::Metrics;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, header};
use rustls::pki_types::CertificateDer;

pub use bearers::Bearers;
pub use certificate::{CertificateUser, Certificates};
pub use configured::{Configured, Known};
pub use front_proxy::RequestHeaders;
pub use service_account::{ServiceAccounts, Used, Uses};
pub use token_webhook::TokenWebhook;

use crate::pki::{JoinRole, Material, Pki, Signers};
use groups::AUTHENTICATED;
use tally::Tally;

const WEBSOCKET_BEARER: &str = "base64url.bearer.authorization.k8s.io.";

/// Whose certificates are trusted, and as of which generation of the cluster's keys.
#[derive(Clone)]
struct Trusted {
    generation: u64,
    certificates: Arc<Certificates>,
}

impl Trusted {
    fn of(keys: &Material) -> Result<Self, rustls::Error> {
        Ok(Self {
            generation: keys.generation(),
            certificates: Arc::new(Certificates::of(keys)?),
        })
    }
}

/// Every way in which a request over the network can prove who sent it.
pub struct Authn {
    pki: Arc<Pki>,
    // A std lock: nothing awaits while it is held.
    certificates: RwLock<Trusted>,
    tokens: Arc<Bearers>,
    clock: Arc<dyn Clock>,
    tally: Tally,
}

impl Authn {
    /// Authentication against that PKI, and by tokens.
    pub fn new(
        pki: Arc<Pki>,
        tokens: Arc<Bearers>,
        clock: Arc<dyn Clock>,
        metrics: &Metrics,
    ) -> Result<Self, rustls::Error> {
        let trusted = Trusted::of(&pki.now())?;
        Ok(Self {
            pki,
            certificates: RwLock::new(trusted),
            tokens,
            clock,
            tally: Tally::new(metrics),
        })
    }

    /// What the certificates of a connection prove; asked once for each connection.
    pub fn connection(&self, chain: Option<&[CertificateDer<'static>]>) -> CertificateUser {
        self.certificates()
            .check(chain.unwrap_or_default(), self.clock.now())
    }

    /// The authorities whose certificates prove anything.
    pub fn signers(&self) -> Signers {
        self.pki.signers()
    }

    /// Whose certificates are trusted now.
    fn certificates(&self) -> Arc<Certificates> {
        let keys = self.pki.now();
        let known = self.certificates.read();
        let known = known.unwrap_or_else(PoisonError::into_inner).clone();
        if known.generation == keys.generation() {
            return known.certificates;
        }
        match Trusted::of(&keys) {
            Ok(now) => {
                let certificates = now.certificates.clone();
                *self.certificates.write().unwrap_or_else(PoisonError::into_inner) = now;
                certificates
            }
            // They were read when they were taken up, so this cannot be.
            Err(error) => {
                tracing::error!(%error, "the authorities of clients cannot be used");
                known.certificates
            }
        }
    }

    /// Who sent a request for that path with these headers over a connection with that certificate. What is to be said
    /// of the proof besides goes to `notes`.
    ///
    /// # Errors
    /// 401 for credentials that prove nothing.
    pub async fn request(
        &self,
        connection: &CertificateUser,
        headers: &HeaderMap,
        path: &str,
        notes: &Notes,
    ) -> Result<User, Status> {
        let began = Instant::now();
        let known = self.prove(connection, headers, path, notes).await;
        self.tally.known(known.as_ref().ok(), began.elapsed());
        known
    }

    async fn prove(
        &self,
        connection: &CertificateUser,
        headers: &HeaderMap,
        path: &str,
        notes: &Notes,
    ) -> Result<User, Status> {
        let (now, trusted) = (self.clock.now().as_second(), self.certificates());
        match connection {
            CertificateUser::FrontProxy { ends, by } if *ends > now && trusted.trusts(by) => {
                if let Some(user) = trusted.headers().user(headers) {
                    return Ok(user);
                }
            }
            CertificateUser::Known { user, ends, by } if *ends > now && trusted.trusts(by) => {
                self.tally.by_certificate(*ends - now);
                return Ok(user.clone());
            }
            _ => {}
        }
        match bearer(headers) {
            // Boxed: asking others takes room that few requests need.
            Some(token) => Box::pin(self.bearer(&token, notes)).await,
            // A certificate that proves nothing is a wrong credential, not a missing one.
            None if matches!(connection, CertificateUser::Nobody) && self.may_anybody_ask(path) => {
                Ok(User::anonymous())
            }
            None => Err(Status::unauthorized()),
        }
    }

    fn may_anybody_ask(&self, path: &str) -> bool {
        self.tokens.configured.now().anonymous.may_ask(path)
    }

    async fn bearer(&self, token: &str, notes: &Notes) -> Result<User, Status> {
        if let Some(role) = self.pki.now().join.role_of(token, self.clock.now()) {
            return Ok(joiner(role));
        }
        self.tokens
            .authenticate(token, &[], notes)
            .await
            .map(|(user, _)| user)
            .map_err(|why| {
                tracing::debug!(why, "bearer token refused");
                Status::unauthorized()
            })
    }
}

fn joiner(role: JoinRole) -> User {
    let (name, group) = match role {
        JoinRole::Server => ("system:bootstrap:server", "system:bootstrappers:coracle:servers"),
        JoinRole::Agent => ("system:bootstrap:agent", "system:bootstrappers:coracle:agents"),
    };
    User::new(name, &["system:bootstrappers", group, AUTHENTICATED])
}

/// The token of the `Authorization` header, or of a WebSocket's subprotocol, which is where
/// browsers can put it.
fn bearer(headers: &HeaderMap) -> Option<String> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let (scheme, token) = value.to_str().ok()?.trim().split_once(' ')?;
        let token = token.trim();
        return (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| token.to_owned());
    }
    let values = headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|v| v.to_str().ok());
    let mut offered = values.flat_map(|value| value.split(','));
    let encoded = offered.find_map(|protocol| protocol.trim().strip_prefix(WEBSOCKET_BEARER))?;
    String::from_utf8(URL_SAFE_NO_PAD.decode(encoded.trim_end_matches('=')).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ServerConfig;
    use crate::lookup::tests::Fixed;
    use base::SystemClock;
    use rustls::pki_types::pem::PemObject;

    fn authn(dir: &std::path::Path, anonymous: bool) -> (Arc<Pki>, Authn) {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let pki = Arc::new(Pki::open(&ServerConfig::new(dir), 6443, clock.now()).unwrap());
        let lookup = Arc::new(Fixed::default());
        let tokens = ServiceAccounts::new(pki.clone(), "https://issuer", lookup.clone(), clock.clone());
        let tokens = Bearers::own(Arc::new(tokens), lookup, clock.clone());
        tokens.configured.change(Known {
            anonymous: oidc::config::Anonymous {
                enabled: anonymous,
                ..Default::default()
            },
            ..Known::default()
        });
        (
            pki.clone(),
            Authn::new(pki, Arc::new(tokens), clock, &Metrics::new()).unwrap(),
        )
    }

    fn with_bearer(token: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
        headers
    }

    async fn ask(authn: &Authn, connection: &CertificateUser, headers: &HeaderMap) -> Result<User, Status> {
        authn.request(connection, headers, "/", &Notes::default()).await
    }

    async fn assert_refused(authn: &Authn, connection: &CertificateUser, headers: &HeaderMap) {
        let refused = ask(authn, connection, headers).await.unwrap_err();
        assert_eq!((refused.code, refused.message.as_str()), (401, "Unauthorized"));
    }

    #[tokio::test]
    async fn certificates_tokens_and_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let (pki, authn) = authn(dir.path(), true);
        let now = jiff::Timestamp::now();
        let chain = |pem: &str| vec![CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()];
        let node = pki.client("system:node:a", &["system:nodes"], now).unwrap();
        let connection = authn.connection(Some(&chain(&node.cert_pem)));
        let user = ask(&authn, &connection, &HeaderMap::new()).await.unwrap();
        assert_eq!(user.name, "system:node:a");
        assert_eq!(user.groups, ["system:nodes", "system:authenticated"]);
        let peer = pki
            .now()
            .peer_ca
            .issue(&crate::pki::Leaf::client("admin", &["system:masters"]), now, 600)
            .unwrap();
        let connection = authn.connection(Some(&chain(&peer.cert_pem)));
        assert_refused(&authn, &connection, &HeaderMap::new()).await;
        let nobody = authn.connection(None);
        assert_eq!(
            ask(&authn, &nobody, &HeaderMap::new()).await.unwrap(),
            User::anonymous()
        );
        assert_refused(&authn, &nobody, &with_bearer("wrong")).await;
        let join = pki.now().join.token(JoinRole::Agent).unwrap().text();
        let user = ask(&authn, &nobody, &with_bearer(&join)).await.unwrap();
        assert_eq!(user.name, "system:bootstrap:agent");
    }

    #[tokio::test]
    async fn only_a_front_proxy_says_whose_its_requests_are() {
        let dir = tempfile::tempdir().unwrap();
        let (pki, authn) = authn(dir.path(), true);
        let now = jiff::Timestamp::now();
        let chain = |pem: &str| vec![CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()];
        let mut headers = HeaderMap::new();
        headers.insert("x-remote-user", "jane".parse().unwrap());
        let proxy = pki.front_proxy(now).unwrap();
        let connection = authn.connection(Some(&chain(&proxy.cert_pem)));
        let jane = User::new("jane", &[AUTHENTICATED]);
        assert_eq!(ask(&authn, &connection, &headers).await.unwrap(), jane);
        assert_refused(&authn, &connection, &HeaderMap::new()).await;
        // The same name from another CA, and another name from the right one.
        let stranger = pki.client(front_proxy::CLIENT_NAME, &[], now).unwrap();
        let connection = authn.connection(Some(&chain(&stranger.cert_pem)));
        assert_eq!(
            ask(&authn, &connection, &headers).await.unwrap().name,
            front_proxy::CLIENT_NAME
        );
        let leaf = crate::pki::Leaf::client("somebody", &[]);
        let other = pki.now().front_proxy_ca.issue(&leaf, now, 600).unwrap();
        let connection = authn.connection(Some(&chain(&other.cert_pem)));
        assert_refused(&authn, &connection, &headers).await;
        let nobody = authn.connection(None);
        assert_eq!(ask(&authn, &nobody, &headers).await.unwrap(), User::anonymous());
    }

    #[test]
    fn browsers_put_their_token_into_the_subprotocol() {
        let mut headers = HeaderMap::new();
        let offer = format!(
            "v5.channel.k8s.io, {WEBSOCKET_BEARER}{}",
            URL_SAFE_NO_PAD.encode("secret")
        );
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, offer.parse().unwrap());
        assert_eq!(bearer(&headers).as_deref(), Some("secret"));
        assert_eq!(bearer(&with_bearer("x")).as_deref(), Some("x"));
        assert_eq!(bearer(&HeaderMap::new()), None);
    }

    #[tokio::test]
    async fn nobody_is_refused_when_anonymous_requests_are_off() {
        let dir = tempfile::tempdir().unwrap();
        let (_, authn) = authn(dir.path(), false);
        let nobody = authn.connection(None);
        assert_refused(&authn, &nobody, &HeaderMap::new()).await;
    }
}
