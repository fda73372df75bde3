//! `pods|services|nodes/NAME/proxy/…`: HTTP to what runs on a node.

use std::sync::Arc;

use api::status::Status;
use http::header::{HeaderValue, LOCATION};
use http::{Method, Response, StatusCode};
use rustls::pki_types::ServerName;

use super::Incoming;
use crate::http::path::ResourcePath;
use crate::http::{Door, reply};
use crate::nodes::{Body, Dialled, NodeDialer};
use crate::passing::{Passed, rewrite, unreachable};

/// The port of a kubelet, on which the agent answers itself.
const KUBELET: &str = "10250";

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
        match parts.as_slice() {
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
        }
    }
}

/// Passes a request on.
pub async fn answer(
    door: &Arc<Door>,
    path: &ResourcePath,
    incoming: Incoming,
) -> Result<Response<Body>, Status> {
    let request = incoming.request;
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if path.rest.is_empty() && reads {
        return Ok(to_root(&request));
    }
    let plural = path.resource.plural.as_str();
    let target = Target::parse(&path.name)
        .ok_or_else(|| Status::bad_request(format!("invalid {} request {:?}", plural, path.name)))?;
    let own = request.uri().path().strip_suffix(path.rest.as_str());
    let own = own.unwrap_or_default().to_owned();
    let response = match plural {
        "nodes" if matches!(target.port, "" | KUBELET) => {
            let prefix = format!("/{}", client::link::NODE);
            let request = rewrite(request, &prefix, &path.rest)?;
            door.nodes.request(target.name, request).await?
        }
        _ => {
            let dialled = dial(door, plural, &path.namespace, &target).await?;
            pass(request, &path.rest, target.scheme == "https", dialled).await?
        }
    };
    Ok(returned(response, &own))
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
    let mut response = reply::text(301, "");
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    if let Ok(value) = HeaderValue::from_str(&format!("{}/{query}", request.uri().path())) {
        response.headers_mut().insert(LOCATION, value);
    }
    response
}

/// Sends a request over a connection of its own.
async fn pass(
    request: http::Request<Body>,
    rest: &str,
    tls: bool,
    dialled: Dialled,
) -> Result<Response<Body>, Status> {
    let passed = Passed::new(request, rest, &dialled.address.to_string())?;
    if !tls {
        return passed.over(dialled.stream).await;
    }
    let config = client::trust::anyone().map_err(Status::internal)?;
    let name = ServerName::from(dialled.address.ip());
    let connecting = tokio_rustls::TlsConnector::from(config).connect(name, dialled.stream);
    passed.over(connecting.await.map_err(unreachable)?).await
}

/// The answer, with a redirect led back through the proxy.
fn returned(mut response: Response<Body>, own: &str) -> Response<Body> {
    let headers = response.headers_mut();
    let led = headers
        .get(LOCATION)
        .and_then(|value| value.to_str().ok())
        .filter(|l| l.starts_with('/'));
    if let Some(Ok(value)) = led.map(|location| HeaderValue::from_str(&format!("{own}{location}"))) {
        headers.insert(LOCATION, value);
    }
    response
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
        assert_eq!(Target::parse("ftp:web:80"), None);
        assert_eq!(Target::parse("a:b:c:d"), None);
    }
}
