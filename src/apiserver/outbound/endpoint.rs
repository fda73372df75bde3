//! Where something is that the server calls: a `clientConfig`, or a Service alone. Pure.

use api::value::{get, has, int, text};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// The port of a Service that names none.
const PORT: u16 = 443;

/// How the other side is reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// A host and port, from here.
    Host(String, u16),
    /// A Service of this cluster: its namespace, name and port.
    Service(String, String, u16),
}

/// Somebody whom the server calls over TLS.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// How they are reached.
    pub place: Place,
    /// Scheme, host and port, as errors show it.
    pub origin: String,
    /// The path asked for, which begins with a slash.
    pub path: String,
    /// The name that their certificate must carry.
    pub server_name: String,
    /// Who signed it, PEM; empty for those whom the machine trusts.
    pub authorities: String,
    /// Whether any certificate will do.
    pub unchecked: bool,
}

impl Endpoint {
    /// What a `clientConfig` of a webhook names.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of(config: &Value) -> Result<Self, String> {
        let mut made = if has(config, "service") {
            let service = get(config, "service");
            let port = int(service, "port").and_then(|port| u16::try_from(port).ok());
            Self::service(
                text(service, "namespace"),
                text(service, "name"),
                port.unwrap_or(PORT),
            )
        } else {
            Self::url(text(config, "url"))?
        };
        if let Some(path) = Some(text(config, "service.path")).filter(|path| !path.is_empty()) {
            made.path = path.to_owned();
        }
        made.authorities = bundle(text(config, "caBundle"))?;
        Ok(made)
    }

    /// The port of a Service.
    pub fn service(namespace: &str, name: &str, port: u16) -> Self {
        let server_name = format!("{name}.{namespace}.svc");
        Self {
            place: Place::Service(namespace.to_owned(), name.to_owned(), port),
            origin: format!("https://{server_name}:{port}"),
            path: "/".to_owned(),
            server_name,
            authorities: String::new(),
            unchecked: false,
        }
    }

    /// What an https URL names.
    ///
    /// # Errors
    /// When it is none.
    pub fn url(url: &str) -> Result<Self, String> {
        let wrong = || format!("{url:?} is not https://HOST[:PORT][/PATH]");
        let uri: http::Uri = url.parse().map_err(|_| wrong())?;
        let host = uri.host().filter(|_| uri.scheme_str() == Some("https"));
        let host = host.ok_or_else(wrong)?;
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = uri.port_u16();
        Ok(Self {
            place: Place::Host(bare.clone(), port.unwrap_or(PORT)),
            origin: match port {
                Some(port) => format!("https://{host}:{port}"),
                None => format!("https://{host}"),
            },
            path: uri.path().to_owned(),
            server_name: bare,
            authorities: String::new(),
            unchecked: false,
        })
    }

    /// What is called, as errors show it.
    pub fn shown(&self, query: &str) -> String {
        let mark = if query.is_empty() { "" } else { "?" };
        format!("{}{}{mark}{query}", self.origin, self.path)
    }
}

/// A `caBundle`, which objects carry in base64, as PEM.
///
/// # Errors
/// When it is neither.
pub fn bundle(encoded: &str) -> Result<String, String> {
    let bytes = STANDARD.decode(encoded.trim());
    let bytes = bytes.map_err(|error| format!("unable to load root certificates: {error}"))?;
    String::from_utf8(bytes).map_err(|_| "unable to load root certificates: they are not PEM".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn services_and_urls_are_endpoints() {
        let service = json!({"service": {"namespace": "ns", "name": "svc", "path": "/validate", "port": 8443},
            "caBundle": "UEVN"});
        let made = Endpoint::of(&service).unwrap();
        assert_eq!(made.place, Place::Service("ns".into(), "svc".into(), 8443));
        assert_eq!(
            (made.server_name.as_str(), made.authorities.as_str()),
            ("svc.ns.svc", "PEM")
        );
        assert_eq!(
            made.shown("timeout=10s"),
            "https://svc.ns.svc:8443/validate?timeout=10s"
        );
        let url = Endpoint::of(&json!({"url": "https://[::1]:9443/p"})).unwrap();
        assert_eq!(url.place, Place::Host("::1".into(), 9443));
        assert_eq!(url.shown(""), "https://[::1]:9443/p");
        assert_eq!(
            Endpoint::of(&json!({"url": "https://hooks.example"}))
                .unwrap()
                .shown(""),
            "https://hooks.example/"
        );
        assert!(Endpoint::of(&json!({"url": "http://plain.example"})).is_err());
        assert!(Endpoint::of(&json!({"url": "https://a", "caBundle": "?"})).is_err());
    }
}
