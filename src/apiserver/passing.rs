//! Passing a request on over a connection of its own, and whatever protocol both sides change to.

use std::sync::Arc;

use api::status::Status;
use http::header::{AUTHORIZATION, CONNECTION, HOST, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::client::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::authn::front_proxy;
use crate::body::Body;
use crate::http::{Until, negotiate};
use crate::nodes::unreachable;

/// A request as it goes on.
pub struct Passed {
    /// What is sent.
    pub request: Request<Body>,
    /// The client's side of a change of protocol that it asked for.
    theirs: Option<OnUpgrade>,
    /// When what both sides changed to ends.
    until: Option<Arc<Until>>,
}

impl Passed {
    /// A request that goes on to another path (with its query), without what was for this hop, to that host unless
    /// the client named one.
    ///
    /// # Errors
    /// 400 when the path is none.
    pub fn new(mut request: Request<Body>, path: &str, host: &str) -> Result<Self, Status> {
        let wanted = wanted(request.headers());
        let theirs = wanted.is_some().then(|| hyper::upgrade::on(&mut request));
        let until = request.extensions_mut().remove();
        let mut request = rewrite(request, "", path)?;
        let headers = request.headers_mut();
        if let Some(protocol) = wanted {
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(UPGRADE, protocol);
        }
        if let (false, Ok(host)) = (headers.contains_key(HOST), HeaderValue::from_str(host)) {
            headers.insert(HOST, host);
        }
        Ok(Self {
            request,
            theirs,
            until,
        })
    }

    /// Says in a request when the protocol that it asks to change to ends.
    pub fn limit(request: &mut Request<Body>, until: &Arc<Until>) {
        if wanted(request.headers()).is_some() {
            request.extensions_mut().insert(until.clone());
        }
    }

    /// Sends it; the answer may be the change of protocol, which then goes on by itself.
    ///
    /// # Errors
    /// 503 when the other side breaks off.
    pub async fn over<T>(self, stream: T) -> Result<Response<Body>, Status>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(unreachable)?;
        tokio::spawn(connection.with_upgrades());
        let mut response = sender.send_request(self.request).await.map_err(unreachable)?;
        let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let Some(theirs) = self.theirs.filter(|_| switched) else {
            return Ok(cleaned(response.map(|body| body.map_err(Into::into).boxed())));
        };
        let (ours, until) = (hyper::upgrade::on(&mut response), self.until);
        tokio::spawn(async move {
            if let (Ok(client), Ok(program)) = (theirs.await, ours.await) {
                let (mut client, mut program) = (TokioIo::new(client), TokioIo::new(program));
                // Whichever side breaks off, the other one sees its end.
                let passed = tokio::io::copy_bidirectional(&mut client, &mut program);
                match until {
                    Some(until) => tokio::select! {
                        _ = passed => {}
                        _ = until.over() => {}
                    },
                    None => drop(passed.await),
                }
            }
        });
        Ok(response.map(|body| body.map_err(Into::into).boxed()))
    }
}

/// The request as it goes on: to the rest of its path, without what was for this hop.
///
/// # Errors
/// 400 when the path is none.
pub fn rewrite(request: Request<Body>, prefix: &str, rest: &str) -> Result<Request<Body>, Status> {
    let (mut parts, body) = request.into_parts();
    let query = parts.uri.query().map(|q| format!("?{q}")).unwrap_or_default();
    let rest = if rest.is_empty() { "/" } else { rest };
    parts.uri = format!("{prefix}{rest}{query}")
        .parse()
        .map_err(|_| Status::bad_request("the path is none"))?;
    parts.version = http::Version::HTTP_11;
    clean(&mut parts.headers);
    Ok(Request::from_parts(parts, body))
}

/// The protocol that the client wants to change to.
fn wanted(headers: &HeaderMap) -> Option<HeaderValue> {
    let asks = negotiate::lists(headers, &CONNECTION, "upgrade");
    headers.get(UPGRADE).filter(|_| asks).cloned()
}

/// Takes out what is for this hop only, and the caller's credentials, which are none of the
/// other side's business.
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
    front_proxy::remove(headers);
}

/// The answer without what was for that hop.
fn cleaned(mut response: Response<Body>) -> Response<Body> {
    for name in [CONNECTION, TRANSFER_ENCODING, UPGRADE] {
        response.headers_mut().remove(name);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_do_not_go_on() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Bearer x"),
            ("connection", "close, x-mine"),
            ("x-mine", "1"),
            ("impersonate-user", "a"),
            ("x-remote-user", "a"),
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
