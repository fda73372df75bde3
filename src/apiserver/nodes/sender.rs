//! Requests to an agent over the connection that it dialled.

use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::client::conn::http2;

use crate::body::{Body, BoxError};

/// This side's end of such a connection.
pub(super) type Sender = http2::SendRequest<Body>;

pub(super) async fn send(mut sender: Sender, request: Request<Body>) -> Result<Response<Body>, BoxError> {
    let (mut parts, body) = request.into_parts();
    // HTTP/2 wants a scheme and an authority; the agent looks at neither.
    let path = parts.uri.path_and_query().map_or("/", |p| p.as_str()).to_owned();
    parts.uri = http::Uri::builder()
        .scheme("http")
        .authority("agent")
        .path_and_query(path)
        .build()?;
    parts.version = http::Version::HTTP_2;
    sender.ready().await?;
    let response = sender.send_request(Request::from_parts(parts, body)).await?;
    Ok(response.map(|body| body.map_err(Into::into).boxed()))
}
