//! Leaving HTTP: which protocol a client wants to go on with, and the answer
//! that lets it.

use api::status::Status;
use http::header::{CONNECTION, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY};
use http::header::{SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderMap, Response, StatusCode, Version};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::body::Body;
use crate::http::{negotiate, reply};

/// The header in which SPDY clients list what they speak inside.
pub const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const SPDY: &str = "SPDY/3.1";

/// The protocol to go on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// WebSocket (RFC 6455).
    WebSocket,
    /// SPDY/3.1.
    Spdy,
}

/// What the client wants; `None` when it wants to stay with HTTP.
pub fn wanted(version: Version, headers: &HeaderMap) -> Option<Wanted> {
    if version != Version::HTTP_11 || !negotiate::lists(headers, &CONNECTION, "upgrade") {
        return None;
    }
    if negotiate::lists(headers, &UPGRADE, "websocket") {
        Some(Wanted::WebSocket)
    } else if negotiate::lists(headers, &UPGRADE, SPDY) {
        Some(Wanted::Spdy)
    } else {
        None
    }
}

/// What the client wants; 400 when it wants to stay with HTTP.
pub fn required(version: Version, headers: &HeaderMap) -> Result<Wanted, Status> {
    wanted(version, headers).ok_or_else(|| Status::bad_request("Upgrade request required"))
}

fn offered<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<&'a str> {
    let values = headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|p| !p.is_empty())
        .collect()
}

/// The first of `ours` that the client offers in that header; `""` counts as offered when it
/// offers nothing.
pub fn choose(headers: &HeaderMap, name: &HeaderName, ours: &[&'static str]) -> Result<&'static str, Status> {
    let theirs = offered(headers, name);
    let found = ours
        .iter()
        .find(|p| theirs.contains(p) || (p.is_empty() && theirs.is_empty()));
    found.copied().ok_or_else(|| {
        Status::new(
            403,
            "Forbidden",
            format!("unable to upgrade: unable to negotiate protocol: client supports {theirs:?}, server accepts {ours:?}"),
        )
    })
}

fn switching(upgrade: &'static str) -> Response<Body> {
    let mut response = Response::new(reply::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(upgrade));
    response
}

/// The answer after which SPDY begins.
pub fn to_spdy(protocol: &'static str) -> Response<Body> {
    let mut response = switching(SPDY);
    response
        .headers_mut()
        .insert(STREAM_PROTOCOL, HeaderValue::from_static(protocol));
    response
}

/// The answer after which any other protocol begins.
pub fn to(protocol: &'static str) -> Response<Body> {
    switching(protocol)
}

/// The answer after which a WebSocket begins; 400 when the request is no proper opening.
pub fn to_websocket(headers: &HeaderMap, protocol: &'static str) -> Result<Response<Body>, Status> {
    let version = headers.get(SEC_WEBSOCKET_VERSION).map(HeaderValue::as_bytes);
    let Some(key) = headers.get(SEC_WEBSOCKET_KEY).filter(|_| version == Some(b"13")) else {
        return Err(Status::bad_request("not a WebSocket handshake of version 13"));
    };
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes())).map_err(Status::internal)?;
    let mut response = switching("websocket");
    response.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accept);
    if !protocol.is_empty() {
        response
            .headers_mut()
            .insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn upgrades_are_recognised() {
        let spdy = headers(&[(CONNECTION, "Upgrade"), (UPGRADE, "SPDY/3.1")]);
        assert_eq!(wanted(Version::HTTP_11, &spdy), Some(Wanted::Spdy));
        assert_eq!(wanted(Version::HTTP_2, &spdy), None);
        let socket = headers(&[(CONNECTION, "keep-alive, Upgrade"), (UPGRADE, "WebSocket")]);
        assert_eq!(wanted(Version::HTTP_11, &socket), Some(Wanted::WebSocket));
        assert_eq!(
            required(Version::HTTP_11, &HeaderMap::new()).unwrap_err().message,
            "Upgrade request required"
        );
    }

    #[test]
    fn our_first_common_protocol_is_chosen() {
        let offer = headers(&[
            (STREAM_PROTOCOL, "v4.channel.k8s.io"),
            (STREAM_PROTOCOL, "v3.channel.k8s.io"),
        ]);
        assert_eq!(
            choose(&offer, &STREAM_PROTOCOL, &["v5", "v4.channel.k8s.io"]).unwrap(),
            "v4.channel.k8s.io"
        );
        assert_eq!(
            choose(&HeaderMap::new(), &STREAM_PROTOCOL, &["v4", ""]).unwrap(),
            ""
        );
        assert_eq!(choose(&offer, &STREAM_PROTOCOL, &["x"]).unwrap_err().code, 403);
    }

    #[test]
    fn the_handshake_is_that_of_the_rfc() {
        let open = headers(&[
            (SEC_WEBSOCKET_VERSION, "13"),
            (SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ=="),
        ]);
        let response = to_websocket(&open, "v5.channel.k8s.io").unwrap();
        assert_eq!(
            response.headers()[SEC_WEBSOCKET_ACCEPT],
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
        assert!(to_websocket(&HeaderMap::new(), "").is_err());
    }
}
