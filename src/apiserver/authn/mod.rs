//! Who is asking: by client certificate, service-account token, join token, or nobody.

mod certificate;
mod claims;
mod service_account;

use std::sync::Arc;

use api::request::User;
use api::status::Status;
use base::Clock;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, header};
use rustls::pki_types::CertificateDer;

pub use certificate::{CertificateUser, Certificates};
pub use service_account::ServiceAccounts;

use crate::pki::{JoinRole, Pki};

const AUTHENTICATED: &str = "system:authenticated";
const WEBSOCKET_BEARER: &str = "base64url.bearer.authorization.k8s.io.";

/// Every way in which a request over the network can prove who sent it.
pub struct Authn {
    pki: Arc<Pki>,
    certificates: Certificates,
    tokens: Arc<ServiceAccounts>,
    anonymous: bool,
    clock: Arc<dyn Clock>,
}

impl Authn {
    /// Authentication against that PKI; `anonymous` lets requests without credentials go on.
    pub fn new(
        pki: Arc<Pki>,
        tokens: Arc<ServiceAccounts>,
        anonymous: bool,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, rustls::Error> {
        let certificates = Certificates::new(pki.client_ca.der().clone())?;
        Ok(Self {
            pki,
            certificates,
            tokens,
            anonymous,
            clock,
        })
    }

    /// What the certificates of a connection prove; asked once for each connection.
    pub fn connection(&self, chain: Option<&[CertificateDer<'static>]>) -> CertificateUser {
        self.certificates
            .check(chain.unwrap_or_default(), self.clock.now())
    }

    /// Who sent a request with these headers over a connection with that certificate.
    pub fn request(&self, connection: &CertificateUser, headers: &HeaderMap) -> Result<User, Status> {
        if let CertificateUser::Known { user, ends } = connection
            && *ends > self.clock.now().as_second()
        {
            return Ok(user.clone());
        }
        match bearer(headers) {
            Some(token) => self.bearer(&token),
            // A certificate that proves nothing is a wrong credential, not a missing one.
            None if matches!(connection, CertificateUser::Nobody) && self.anonymous => Ok(User::anonymous()),
            None => Err(Status::unauthorized()),
        }
    }

    fn bearer(&self, token: &str) -> Result<User, Status> {
        if let Some(role) = self.pki.join.role_of(token) {
            return Ok(joiner(role));
        }
        self.tokens
            .authenticate(token, &[])
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
        let tokens =
            ServiceAccounts::new(&pki, "https://issuer", Arc::new(Fixed::default()), clock.clone()).unwrap();
        (
            pki.clone(),
            Authn::new(pki, Arc::new(tokens), anonymous, clock).unwrap(),
        )
    }

    fn with_bearer(token: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
        headers
    }

    #[test]
    fn certificates_tokens_and_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let (pki, authn) = authn(dir.path(), true);
        let now = jiff::Timestamp::now();
        let chain = |pem: &str| vec![CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()];
        let node = pki.client("system:node:a", &["system:nodes"], now).unwrap();
        let connection = authn.connection(Some(&chain(&node.cert_pem)));
        let user = authn.request(&connection, &HeaderMap::new()).unwrap();
        assert_eq!(user.name, "system:node:a");
        assert_eq!(user.groups, ["system:nodes", "system:authenticated"]);
        let peer = pki
            .peer_ca
            .issue(&crate::pki::Leaf::client("admin", &["system:masters"]), now, 600)
            .unwrap();
        let connection = authn.connection(Some(&chain(&peer.cert_pem)));
        assert_eq!(
            authn.request(&connection, &HeaderMap::new()).unwrap_err().code,
            401
        );
        let nobody = authn.connection(None);
        assert_eq!(
            authn.request(&nobody, &HeaderMap::new()).unwrap(),
            User::anonymous()
        );
        assert_eq!(
            authn.request(&nobody, &with_bearer("wrong")).unwrap_err().message,
            "Unauthorized"
        );
        let join = pki.join.token(JoinRole::Agent).text();
        let user = authn.request(&nobody, &with_bearer(&join)).unwrap();
        assert_eq!(user.name, "system:bootstrap:agent");
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

    #[test]
    fn nobody_is_refused_when_anonymous_requests_are_off() {
        let dir = tempfile::tempdir().unwrap();
        let (_, authn) = authn(dir.path(), false);
        let nobody = authn.connection(None);
        assert_eq!(authn.request(&nobody, &HeaderMap::new()).unwrap_err().code, 401);
    }
}
