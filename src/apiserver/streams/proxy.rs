//! `pods|services|nodes/NAME/proxy/…`: HTTP to what runs on a node.

use std::sync::Arc;

use api::status::Status;
use http::header::{
    AUTHORIZATION, CONNECTION, HOST, HeaderName, HeaderValue, LOCATION, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, Method, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::client::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Incoming;
use crate::http::path::ResourcePath;
use crate::http::{Door, negotiate, reply};
use crate::nodes::{Body, Dialled, NodeDialer};

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

/// The request as it goes on: to the rest of its path, without what was for this hop.
fn rewrite(request: http::Request<Body>, prefix: &str, rest: &str) -> Result<http::Request<Body>, Status> {
    let (mut parts, body) = request.into_parts();
    let query = parts.uri.query().map(|q| format!("?{q}")).unwrap_or_default();
    let rest = if rest.is_empty() { "/" } else { rest };
    parts.uri = format!("{prefix}{rest}{query}")
        .parse()
        .map_err(|_| Status::bad_request("the path is none"))?;
    parts.version = http::Version::HTTP_11;
    clean(&mut parts.headers);
    Ok(http::Request::from_parts(parts, body))
}

/// Sends a request over a connection of its own, and goes on with whatever protocol both change to.
async fn pass(
    mut request: http::Request<Body>,
    rest: &str,
    tls: bool,
    dialled: Dialled,
) -> Result<Response<Body>, Status> {
    let wanted = wanted(request.headers());
    let theirs = wanted.is_some().then(|| hyper::upgrade::on(&mut request));
    let mut request = rewrite(request, "", rest)?;
    let headers = request.headers_mut();
    if let Some(protocol) = wanted {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, protocol);
    }
    let address = dialled.address.to_string();
    if let (false, Ok(host)) = (headers.contains_key(HOST), HeaderValue::from_str(&address)) {
        headers.insert(HOST, host);
    }
    if !tls {
        return exchange(request, dialled.stream, theirs).await;
    }
    let config = client::trust::anyone().map_err(Status::internal)?;
    let name = ServerName::from(dialled.address.ip());
    let connecting = tokio_rustls::TlsConnector::from(config).connect(name, dialled.stream);
    exchange(request, connecting.await.map_err(unreachable)?, theirs).await
}

fn unreachable(error: impl std::fmt::Display) -> Status {
    Status::unavailable(format!("error trying to reach service: {error}"))
}

/// The protocol that the client wants to change to.
fn wanted(headers: &HeaderMap) -> Option<HeaderValue> {
    let asks = negotiate::lists(headers, &CONNECTION, "upgrade");
    headers.get(UPGRADE).filter(|_| asks).cloned()
}

async fn exchange<T>(
    request: http::Request<Body>,
    stream: T,
    theirs: Option<OnUpgrade>,
) -> Result<Response<Body>, Status>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(unreachable)?;
    tokio::spawn(connection.with_upgrades());
    let mut response = sender.send_request(request).await.map_err(unreachable)?;
    let Some(theirs) = theirs.filter(|_| response.status() == StatusCode::SWITCHING_PROTOCOLS) else {
        return Ok(cleaned(response.map(|body| body.map_err(Into::into).boxed())));
    };
    let ours = hyper::upgrade::on(&mut response);
    tokio::spawn(async move {
        if let (Ok(client), Ok(program)) = (theirs.await, ours.await) {
            let (mut client, mut program) = (TokioIo::new(client), TokioIo::new(program));
            // Whichever side breaks off, the other one sees its end.
            let _ = tokio::io::copy_bidirectional(&mut client, &mut program).await;
        }
    });
    Ok(response.map(|body| body.map_err(Into::into).boxed()))
}

/// Takes out what is for this hop only, and the caller's credentials, which are none of the
/// pod's business.
fn clean(headers: &mut HeaderMap) {
    let listed: Vec<String> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(|name| name.trim().to_ascii_lowercase()))
        .collect();
    let hop = [CONNECTION, UPGRADE, TRANSFER_ENCODING, AUTHORIZATION];
    let hop_names = [
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
    ];
    let gone: Vec<HeaderName> = headers
        .keys()
        .filter(|name| {
            hop.contains(name)
                || hop_names.contains(&name.as_str())
                || listed.iter().any(|l| l == name.as_str())
                || name.as_str().starts_with("impersonate-")
        })
        .cloned()
        .collect();
    for name in gone {
        headers.remove(name);
    }
}

/// The answer without what was for that hop.
fn cleaned(mut response: Response<Body>) -> Response<Body> {
    for name in [CONNECTION, TRANSFER_ENCODING, UPGRADE] {
        response.headers_mut().remove(name);
    }
    response
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

    #[test]
    fn credentials_do_not_reach_the_pod() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Bearer x"),
            ("connection", "close, x-mine"),
            ("x-mine", "1"),
            ("impersonate-user", "a"),
            ("accept", "text/html"),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        clean(&mut headers);
        assert_eq!(
            headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(),
            ["accept"]
        );
    }
}
