//! `pods|services|nodes/NAME/proxy/…`: HTTP to what runs on a node.

mod links;
mod pages;
mod tags;

use std::sync::Arc;

use api::status::Status;
use http::header::{HOST, HeaderName, HeaderValue};
use http::{Method, Response};
use rustls::pki_types::ServerName;

use super::Incoming;
use crate::body::Body;
use crate::http::path::ResourcePath;
use crate::http::{Door, reply};
use crate::nodes::unreachable;
use crate::nodes::{Dialled, NodeDialer};
use crate::passing::{Passed, rewrite};
use links::Links;

/// The port of a kubelet, on which the agent answers itself.
const KUBELET: &str = "10250";
/// Under which path the client sees what it asks for.
const FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");

/// `[scheme:]name[:port]`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target<'a> {
    scheme: &'a str,
    name: &'a str,
    port: &'a str,
}

impl<'a> Target<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let parts: Vec<&str> = text.split(':').collect();
        let made = match parts.as_slice() {
            [name] => Some(Self {
                scheme: "",
                name,
                port: "",
            }),
            [name, port] => Some(Self {
                scheme: "",
                name,
                port,
            }),
            [scheme @ ("" | "http" | "https"), name, port] => Some(Self { scheme, name, port }),
            _ => None,
        };
        made.filter(|target| !target.name.is_empty())
    }
}

/// Passes a request on.
pub async fn answer(
    door: &Arc<Door>,
    path: &ResourcePath,
    incoming: Incoming,
) -> Result<Response<Body>, Status> {
    let mut request = incoming.request;
    Passed::limit(&mut request, &incoming.until);
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if path.rest.is_empty() && reads {
        return Ok(to_root(&request));
    }
    let plural = path.resource.plural.as_str();
    let target = Target::parse(&path.name).ok_or_else(|| {
        let kind = plural.trim_end_matches('s');
        Status::bad_request(format!("invalid {kind} request {:?}", path.name))
    })?;
    let own = request.uri().path().to_owned();
    let mut links = Links {
        prefix: own
            .strip_suffix(path.rest.as_str())
            .unwrap_or_default()
            .to_owned(),
        asked: asked(&request),
        backend: String::new(),
    };
    if let Ok(uri) = HeaderValue::from_str(&own) {
        request.headers_mut().insert(FORWARDED_URI, uri);
    }
    let response = match plural {
        "nodes" if matches!(target.port, "" | KUBELET) => {
            let prefix = format!("/{}", client::link::NODE);
            let request = rewrite(request, &prefix, &path.rest)?;
            door.nodes.request(target.name, request).await?
        }
        _ => {
            let dialled = dial(door, plural, &path.namespace, &target).await?;
            links.backend = dialled.address.to_string();
            pass(request, &path.rest, target.scheme == "https", &links, dialled).await?
        }
    };
    Ok(returned(response, links))
}

/// The host that a request names.
fn asked(request: &http::Request<Body>) -> String {
    let header = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let named = header.or_else(|| request.uri().authority().map(http::uri::Authority::as_str));
    named.unwrap_or_default().to_owned()
}

async fn dial(door: &Door, plural: &str, namespace: &str, target: &Target<'_>) -> Result<Dialled, Status> {
    let dialer = door.dialer();
    match plural {
        "pods" => dialer.pod(namespace, target.name, target.port).await,
        "services" => dialer.service(namespace, target.name, target.port).await,
        _ => {
            let port = target.port.parse();
            let port = port.map_err(|_| Status::bad_request(format!("{:?} is no port", target.port)))?;
            dialer.node(target.name, port).await
        }
    }
}

/// Relative links work only below a path that ends in a slash.
fn to_root(request: &http::Request<Body>) -> Response<Body> {
    let query = request.uri().query().map(|q| format!("?{q}")).unwrap_or_default();
    reply::moved(&format!("{}/{query}", request.uri().path()))
}

/// Sends a request over a connection of its own.
async fn pass(
    request: http::Request<Body>,
    rest: &str,
    tls: bool,
    links: &Links,
    dialled: Dialled,
) -> Result<Response<Body>, Status> {
    let host = match links.asked.as_str() {
        "" => &links.backend,
        asked => asked,
    };
    let passed = Passed::new(request, rest, host)?;
    if !tls {
        return passed.over(dialled.stream).await;
    }
    let config = client::trust::anyone().map_err(Status::internal)?;
    let name = ServerName::from(dialled.address.ip());
    let connecting = tokio_rustls::TlsConnector::from(config).connect(name, dialled.stream);
    passed.over(connecting.await.map_err(unreachable)?).await
}

/// The answer, led back through the proxy: where it redirects to, else where its links lead.
fn returned(mut response: Response<Body>, links: Links) -> Response<Body> {
    let redirects = response.headers().contains_key(http::header::LOCATION);
    links.correct(response.headers_mut());
    match redirects || response.status().is_informational() {
        true => response,
        false => pages::corrected(response, links),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_carry_scheme_and_port() {
        for (text, scheme, name, port) in [
            ("web", "", "web", ""),
            ("web:80", "", "web", "80"),
            ("https:web:tls", "https", "web", "tls"),
            (":web:80", "", "web", "80"),
        ] {
            assert_eq!(Target::parse(text), Some(Target { scheme, name, port }), "{text}");
        }
        for wrong in ["ftp:web:80", "a:b:c:d", "https::80", ":80"] {
            assert_eq!(Target::parse(wrong), None, "{wrong}");
        }
    }
}
