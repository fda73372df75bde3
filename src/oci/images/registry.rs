//! Speaks to a registry (OCI distribution specification): authorisation,
//! mirrors, time limits, another try where that may help.

mod challenge;
mod retry;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use challenge::Challenge;
use oci_spec::distribution::Reference;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue, RANGE, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::{Certificate, Client, Identity, Response, StatusCode, Url};
use serde::Deserialize;

use super::registries::{Endpoint, Registries};
use super::{Credentials, ImageError};
use crate::with_causes;

const CONNECT_MAX: Duration = Duration::from_secs(20);
/// Answers of token servers are read whole, so they must be small.
const TOKEN_MAX: usize = 1 << 20;

/// Why a request failed.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// There is no such thing.
    NotFound,
    /// These credentials do not suffice.
    Denied(String),
    /// Asking again may help, after the time that the registry gave.
    Transient(String, Option<Duration>),
    /// Asking again does not help.
    Final(String),
}

/// A repository at its registry and that one's mirrors, asked with one set of credentials.
pub(super) struct Repository {
    name: String,
    registry: String,
    places: Vec<Place>,
}

/// One endpoint, and what is known of it by now.
struct Place {
    endpoint: Endpoint,
    client: Client,
    credentials: Option<Credentials>,
    authorization: tokio::sync::Mutex<Option<HeaderValue>>,
    /// It could not be reached: not asked again while there are others.
    is_dead: AtomicBool,
}

/// What to ask for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    /// Below the repository: `manifests/TAG`, `blobs/DIGEST`.
    pub(super) path: &'a str,
    /// Types that are taken; empty for any.
    pub(super) accept: &'a str,
    /// First byte wanted.
    pub(super) from: u64,
}

impl Repository {
    /// Prepares to ask; `credentials` are for the registry itself, and go to no mirror.
    ///
    /// # Errors
    /// When files that the settings name cannot be used.
    pub(super) fn new(
        registries: &Registries,
        silence_max: Duration,
        reference: &Reference,
        credentials: Option<&Credentials>,
    ) -> Result<Repository, ImageError> {
        let endpoints = registries.endpoints(reference.registry(), reference.resolve_registry());
        let place = |endpoint: Endpoint| {
            let given = credentials.filter(|_| endpoint.own).cloned();
            Ok(Place {
                client: client(&endpoint, silence_max)?,
                credentials: given.or_else(|| endpoint.credentials.clone()),
                endpoint,
                authorization: tokio::sync::Mutex::default(),
                is_dead: AtomicBool::new(false),
            })
        };
        Ok(Repository {
            name: reference.repository().to_owned(),
            registry: reference.registry().to_owned(),
            places: endpoints
                .into_iter()
                .map(place)
                .collect::<Result<_, ImageError>>()?,
        })
    }

    /// Asks mirrors and registry in order until one has it; each several times where that may help.
    pub(super) async fn get(&self, wanted: Wanted<'_>) -> Result<Response, Failure> {
        let mut last = Failure::Final(format!("{:?} is not the name of a registry", self.registry));
        for place in &self.places {
            if !place.endpoint.own && place.is_dead.load(Relaxed) {
                continue;
            }
            match self.persistently(place, wanted).await {
                Ok(response) => return Ok(response),
                Err(failure) => {
                    place
                        .is_dead
                        .store(matches!(failure, Failure::Transient(..)), Relaxed);
                    tracing::debug!(
                        endpoint = place.endpoint.base,
                        path = wanted.path,
                        ?failure,
                        "not here"
                    );
                    last = failure;
                }
            }
        }
        Err(last)
    }

    async fn persistently(&self, place: &Place, wanted: Wanted<'_>) -> Result<Response, Failure> {
        let mut tries = 1;
        loop {
            let failure = match place.ask(self, wanted).await {
                Ok(response) => return Ok(response),
                Err(failure) => failure,
            };
            let Failure::Transient(why, asked) = &failure else {
                return Err(failure);
            };
            let Some(pause) = retry::pause(tries, *asked) else {
                return Err(failure);
            };
            tracing::debug!(
                endpoint = place.endpoint.base,
                path = wanted.path,
                why,
                ?pause,
                "asking again"
            );
            tokio::time::sleep(pause).await;
            tries += 1;
        }
    }
}

/// The pause before a body that broke off is asked for again, after that many
/// breaks without progress; `None`: give up.
pub(super) fn pause_after_break(breaks: u32) -> Option<Duration> {
    retry::pause(breaks, None)
}

fn client(endpoint: &Endpoint, silence_max: Duration) -> Result<Client, ImageError> {
    let read = |path: &std::path::Path| {
        let context = format!("reading {} for {}", path.display(), endpoint.base);
        std::fs::read(path).map_err(super::disk(&context))
    };
    let unusable = |what: &str, error: reqwest::Error| {
        ImageError::Registry(format!(
            "{what} for {} cannot be used: {}",
            endpoint.base,
            with_causes(&error)
        ))
    };
    let tls = &endpoint.tls;
    let mut builder = Client::builder()
        .user_agent(concat!("coracle/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_MAX.min(silence_max))
        .read_timeout(silence_max)
        .tls_danger_accept_invalid_certs(tls.insecure_skip_verify);
    if is_loopback(&endpoint.base) {
        builder = builder.no_proxy();
    }
    if let Some(path) = &tls.ca_file {
        let certificates = Certificate::from_pem_bundle(&read(path)?);
        builder =
            builder.tls_certs_merge(certificates.map_err(|error| unusable("the authority's file", error))?);
    }
    if let (Some(certificate), Some(key)) = (&tls.cert_file, &tls.key_file) {
        let pem = [read(certificate)?, b"\n".to_vec(), read(key)?].concat();
        builder =
            builder.identity(Identity::from_pem(&pem).map_err(|error| unusable("the certificate", error))?);
    }
    builder.build().map_err(|error| unusable("TLS", error))
}

fn is_loopback(base: &str) -> bool {
    let url = Url::parse(base).ok();
    let host = url.as_ref().and_then(Url::host_str).unwrap_or_default();
    host == "localhost" || host == "[::1]" || host.starts_with("127.")
}

impl Place {
    /// One try, with an authorisation got on the way if the registry wants one.
    async fn ask(&self, repository: &Repository, wanted: Wanted<'_>) -> Result<Response, Failure> {
        let mut authorization = self.authorization.lock().await.clone();
        let mut fresh = false;
        loop {
            let response = self.send(repository, wanted, authorization.as_ref()).await?;
            if response.status() != StatusCode::UNAUTHORIZED {
                return check(response).await;
            }
            if fresh {
                return Err(Failure::Denied("authorization failed".to_owned()));
            }
            let header = self.authorize(repository, &response).await?;
            *self.authorization.lock().await = Some(header.clone());
            authorization = Some(header);
            fresh = true;
        }
    }

    async fn send(
        &self,
        repository: &Repository,
        wanted: Wanted<'_>,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response, Failure> {
        let url = format!("{}/{}/{}", self.endpoint.base, repository.name, wanted.path);
        let mut request = self.client.get(url);
        if !self.endpoint.own {
            // So that one mirror can stand in for several registries.
            request = request.query(&[("ns", repository.registry.as_str())]);
        }
        if !wanted.accept.is_empty() {
            request = request.header(ACCEPT, wanted.accept);
        }
        if wanted.from > 0 {
            request = request.header(RANGE, format!("bytes={}-", wanted.from));
        }
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        request.send().await.map_err(|error| unreachable(&error))
    }

    /// The header that answers the registry's challenge.
    async fn authorize(&self, repository: &Repository, response: &Response) -> Result<HeaderValue, Failure> {
        let headers = response.headers().get_all(WWW_AUTHENTICATE);
        let challenges: Vec<&str> = headers.iter().filter_map(|value| value.to_str().ok()).collect();
        let header = match challenge::parse(&challenges.join(", ")) {
            Some(Challenge::Bearer {
                realm,
                service,
                scope,
            }) => {
                let scope = scope.unwrap_or_else(|| format!("repository:{}:pull", repository.name));
                format!("Bearer {}", self.token(&realm, service.as_deref(), &scope).await?)
            }
            Some(Challenge::Basic) => match &self.credentials {
                Some(credentials) => basic(credentials),
                None => {
                    return Err(Failure::Denied(
                        "authorization failed: no basic auth credentials".to_owned(),
                    ));
                }
            },
            None => {
                return Err(Failure::Denied(
                    "authorization failed: no supported auth scheme".to_owned(),
                ));
            }
        };
        let mut value = HeaderValue::from_str(&header)
            .map_err(|_| Failure::Final("the registry's token is no text".to_owned()))?;
        value.set_sensitive(true);
        Ok(value)
    }

    async fn token(&self, realm: &str, service: Option<&str>, scope: &str) -> Result<String, Failure> {
        let url = Url::parse(realm).map_err(|_| {
            Failure::Final(format!(
                "the registry sends to a token server {realm:?} that is no URL"
            ))
        })?;
        if url.scheme() != "https" && !self.endpoint.plain {
            // Credentials would cross the network in the clear.
            return Err(Failure::Final(format!(
                "the registry sends to a token server without TLS, {realm}"
            )));
        }
        let mut request = self.client.get(url).query(&[("scope", scope)]);
        if let Some(service) = service {
            request = request.query(&[("service", service)]);
        }
        if let Some(credentials) = &self.credentials {
            request = request.header(AUTHORIZATION, basic(credentials));
        }
        let response = request.send().await.map_err(|error| unreachable(&error))?;
        let status = response.status();
        if matches!(
            status,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST
        ) {
            let whose = if self.credentials.is_some() {
                "oauth"
            } else {
                "anonymous"
            };
            return Err(Failure::Denied(format!(
                "failed to authorize: failed to fetch {whose} token: unexpected status from GET request to {realm}: {status}"
            )));
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Token {
            token: String,
            access_token: String,
        }
        let bytes = whole(check(response).await?, TOKEN_MAX).await?;
        let token: Token = serde_json::from_slice(&bytes)
            .map_err(|error| Failure::Final(format!("the token server's answer is malformed: {error}")))?;
        match [token.token, token.access_token]
            .into_iter()
            .find(|token| !token.is_empty())
        {
            Some(token) => Ok(token),
            None => Err(Failure::Denied(
                "failed to authorize: the token server gave no token".to_owned(),
            )),
        }
    }
}

fn basic(credentials: &Credentials) -> String {
    let pair = format!("{}:{}", credentials.username, credentials.password);
    format!("Basic {}", STANDARD.encode(pair))
}

/// Errors of the connection: worth another try, unless it is the certificate.
fn unreachable(error: &reqwest::Error) -> Failure {
    let text = if error.is_timeout() {
        format!("the registry does not answer: {}", with_causes(error))
    } else {
        with_causes(error)
    };
    let is_final = error.is_builder() || error.is_redirect() || text.contains("certificate");
    if is_final {
        Failure::Final(text)
    } else {
        Failure::Transient(text, None)
    }
}

/// Takes successes, tells the rest apart.
async fn check(response: Response) -> Result<Response, Failure> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let asked = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok());
    let asked = asked.and_then(|text| retry::asked(text, jiff::Timestamp::now().as_second()));
    let url = response.url().clone();
    let said = told(response).await;
    let text = format!("unexpected status from GET request to {url}: {status}{said}");
    Err(match status {
        StatusCode::NOT_FOUND => Failure::NotFound,
        StatusCode::FORBIDDEN => Failure::Denied(format!("{status}{said}")),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => Failure::Transient(text, asked),
        _ if status.is_server_error() => Failure::Transient(text, asked),
        _ => Failure::Final(text),
    })
}

/// What an error's body says, shortened.
async fn told(response: Response) -> String {
    const TOLD_MAX: usize = 300;
    let bytes = whole(response, 64 << 10).await.unwrap_or_default();
    #[derive(Deserialize)]
    struct Body {
        errors: Vec<Told>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Told {
        code: String,
        message: String,
    }
    let text = match serde_json::from_slice::<Body>(&bytes) {
        Ok(body) => {
            let texts = body
                .errors
                .iter()
                .map(|e| format!("{}: {}", e.code.to_lowercase(), e.message));
            texts.collect::<Vec<_>>().join(", ")
        }
        Err(_) => String::new(),
    };
    let text: String = text.chars().filter(|c| !c.is_control()).take(TOLD_MAX).collect();
    if text.is_empty() {
        text
    } else {
        format!(": {text}")
    }
}

/// A body that must be small.
pub(super) async fn whole(mut response: Response, bytes_max: usize) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| unreachable(&error))? {
        if bytes.len() + chunk.len() > bytes_max {
            return Err(Failure::Final(format!(
                "the answer has more than {bytes_max} bytes"
            )));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}
