//! Where registries are reached, and with what: mirrors, authorities of their
//! own, credentials of the machine; and which of their images are let in
//! ([`super::trust`]). The file has the form of k3s's `registries.yaml`:
//!
//! ```yaml
//! mirrors:
//!   docker.io:
//!     endpoint: ["https://mirror.example.com:5000"]
//! configs:
//!   "mirror.example.com:5000":
//!     auth: {username: edge, password: secret}
//!     tls: {ca_file: /etc/ssl/mirror.pem}
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;
use serde::Deserialize;

use super::error::ImageError;
use super::trust::Policy;

/// How to identify oneself to a registry.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// User name.
    pub username: String,
    /// Password or token. A secret: never logged (there is no `Debug`).
    pub password: String,
}

/// What the machine knows of registries besides their names.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Registries {
    /// By registry (`docker.io`, `host:port`), `*` for all others.
    mirrors: BTreeMap<String, Mirror>,
    /// By host (`host` or `host:port`) of an endpoint.
    configs: BTreeMap<String, Settings>,
    /// Who must answer for images, by the beginning of their names.
    policy: Policy,
    /// Registries (`host[:port]`) spoken to over plain HTTP besides those on loopback.
    #[serde(skip)]
    insecure: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Mirror {
    endpoint: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    auth: Option<Auth>,
    tls: Tls,
}

/// A secret: its `Debug` shows nothing of it.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Auth {
    username: String,
    password: String,
    /// `username:password` in base64, as docker's configuration has it.
    auth: String,
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Auth")
    }
}

/// How to speak TLS with a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Tls {
    /// PEM file of authorities to trust besides those the machine trusts.
    pub(super) ca_file: Option<PathBuf>,
    /// PEM file of the certificate to show.
    pub(super) cert_file: Option<PathBuf>,
    /// PEM file of its key.
    pub(super) key_file: Option<PathBuf>,
    /// Trust any certificate.
    pub(super) insecure_skip_verify: bool,
}

/// One place to ask for a registry's content.
#[derive(Clone)]
pub(super) struct Endpoint {
    /// Scheme, host and path in front of `/NAME/manifests/…`.
    pub(super) base: String,
    /// It is the registry itself, not a mirror of it.
    pub(super) own: bool,
    /// No TLS.
    pub(super) plain: bool,
    /// TLS settings.
    pub(super) tls: Tls,
    /// The machine's credentials for it.
    pub(super) credentials: Option<Credentials>,
}

impl Registries {
    /// Reads the file, if there is one to be read; `insecure` lists registries without TLS.
    ///
    /// # Errors
    /// When it cannot be read, has an unknown key, or names an endpoint that is no URL.
    pub fn load(file: Option<&Path>, insecure: &[String]) -> Result<Registries, ImageError> {
        let mut registries = match file {
            None => Registries::default(),
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|error| wrong(path, &error))?;
                Registries::parse(&text).map_err(|reason| wrong(path, &reason))?
            }
        };
        registries.insecure = insecure.to_vec();
        Ok(registries)
    }

    /// Reads the text of such a file.
    pub(super) fn parse(text: &str) -> Result<Registries, String> {
        let registries: Registries = if text.trim().is_empty() {
            Registries::default()
        } else {
            serde_saphyr::from_str(text).map_err(|error| error.to_string())?
        };
        for endpoint in registries.mirrors.values().flat_map(|mirror| &mirror.endpoint) {
            base(endpoint)
                .ok_or_else(|| format!("the endpoint {endpoint:?} is not a URL like https://HOST:PORT"))?;
        }
        registries.policy.check()?;
        Ok(registries)
    }

    /// Which images are let in.
    pub(super) fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Where to ask for the content of `registry`, in this order: its mirrors, then itself at `host`.
    pub(super) fn endpoints(&self, registry: &str, host: &str) -> Vec<Endpoint> {
        let mirror = self.mirrors.get(registry).or_else(|| self.mirrors.get("*"));
        let scheme = if self.is_plain(registry) { "http" } else { "https" };
        let Some(own) = base(&format!("{scheme}://{host}")) else {
            return Vec::new();
        };
        let mirrors = mirror.into_iter().flat_map(|mirror| mirror.endpoint.iter());
        let mut urls: Vec<Url> = mirrors.filter_map(|text| base(text)).collect();
        // A "mirror" at the registry's own host says how to reach that: http instead of https, say.
        if !urls.iter().any(|url| authority(url) == authority(&own)) {
            urls.push(own.clone());
        }
        let is_own = |url: &Url| authority(url) == authority(&own);
        urls.iter()
            .map(|url| self.endpoint(url, is_own(url), registry))
            .collect()
    }

    fn endpoint(&self, url: &Url, own: bool, registry: &str) -> Endpoint {
        let host = authority(url);
        let names = [Some(host.as_str()), own.then_some(registry), url.host_str()];
        let settings = names
            .into_iter()
            .flatten()
            .find_map(|name| self.configs.get(name))
            .cloned()
            .unwrap_or_default();
        Endpoint {
            base: url.as_str().trim_end_matches('/').to_owned(),
            own,
            plain: url.scheme() == "http",
            tls: settings.tls,
            credentials: settings.auth.and_then(Auth::credentials),
        }
    }

    fn is_plain(&self, registry: &str) -> bool {
        let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
        let local = host == "localhost" || host == "[::1]" || host.starts_with("127.");
        // Settings for TLS mean TLS, even on loopback.
        let wants_tls = self
            .configs
            .get(registry)
            .is_some_and(|c| c.tls != Tls::default());
        (local && !wants_tls) || self.insecure.iter().any(|known| known == registry)
    }
}

impl Auth {
    fn credentials(self) -> Option<Credentials> {
        if !self.username.is_empty() {
            let (username, password) = (self.username, self.password);
            return Some(Credentials { username, password });
        }
        let decoded = String::from_utf8(STANDARD.decode(self.auth).ok()?).ok()?;
        let (username, password) = decoded.split_once(':')?;
        Some(Credentials {
            username: username.to_owned(),
            password: password.to_owned(),
        })
    }
}

fn wrong(path: &Path, reason: &dyn fmt::Display) -> ImageError {
    ImageError::Io {
        context: format!("reading the registries' settings in {}", path.display()),
        reason: reason.to_string(),
    }
}

/// The URL under which an endpoint's API lies: `/v2` unless the endpoint has a path of its own.
fn base(endpoint: &str) -> Option<Url> {
    let mut url = Url::parse(endpoint).ok()?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return None;
    }
    if matches!(url.path(), "" | "/") {
        url.set_path("/v2");
    }
    Some(url)
}

fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bases(registries: &Registries, registry: &str) -> Vec<(String, bool)> {
        let endpoints = registries.endpoints(registry, registry);
        endpoints.into_iter().map(|e| (e.base, e.own)).collect()
    }

    #[test]
    fn a_registry_without_settings_is_reached_by_its_name() {
        let registries = Registries::load(None, &["lan:5000".to_owned()]).unwrap();
        let only = |name, base: &str| assert_eq!(bases(&registries, name), [(base.to_owned(), true)]);
        only("example.com", "https://example.com/v2");
        only("lan:5000", "http://lan:5000/v2");
        only("127.0.0.1:5000", "http://127.0.0.1:5000/v2");
        only("localhost:5000", "http://localhost:5000/v2");
    }

    #[test]
    fn mirrors_come_first_and_a_host_may_be_said_to_be_plain() {
        let text = "
mirrors:
  docker.io: {endpoint: ['https://one:5000', 'http://two/v2/hub']}
  lan: {endpoint: ['http://lan']}
  '*': {endpoint: ['https://all']}
configs:
  'one:5000':
    auth: {username: u, password: p}
    tls: {ca_file: /ca.pem}
  127.0.0.1:5000: {tls: {insecure_skip_verify: true}}
";
        let registries = Registries::parse(text).unwrap();
        let endpoints = registries.endpoints("docker.io", "registry-1.docker.io");
        let found: Vec<(&str, bool, bool)> = endpoints
            .iter()
            .map(|e| (e.base.as_str(), e.own, e.plain))
            .collect();
        assert_eq!(
            found,
            [
                ("https://one:5000/v2", false, false),
                ("http://two/v2/hub", false, true),
                ("https://registry-1.docker.io/v2", true, false)
            ]
        );
        let first = endpoints.first().unwrap();
        assert_eq!(first.credentials.as_ref().unwrap().username, "u");
        assert_eq!(first.tls.ca_file.as_deref(), Some(Path::new("/ca.pem")));
        assert_eq!(bases(&registries, "lan"), [("http://lan/v2".to_owned(), true)]);
        assert_eq!(bases(&registries, "quay.io").first().unwrap().0, "https://all/v2");
        assert_eq!(
            bases(&registries, "127.0.0.1:5000").last().unwrap().0,
            "https://127.0.0.1:5000/v2"
        );
    }

    #[test]
    fn what_is_not_understood_is_an_error_that_names_it() {
        assert!(Registries::parse("mirors: {}").unwrap_err().contains("mirors"));
        let odd = "mirrors: {x: {endpoint: [host:5000]}}";
        assert!(Registries::parse(odd).unwrap_err().contains("host:5000"));
        assert!(Registries::parse("").is_ok());
    }

    #[test]
    fn nothing_shows_a_password() {
        let text = "configs: {h: {auth: {username: u, password: hidden}}}";
        assert!(!format!("{:?}", Registries::parse(text).unwrap()).contains("hidden"));
    }
}
