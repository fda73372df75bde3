//! HTTP to a pod's port, for the API server's `proxy` subresource.

use std::time::Duration;

use api::status::Status;
use http::{Request, Response, Uri, header};
use http_body_util::BodyExt;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{Body, Target};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) async fn answer(
    target: &Target,
    port: &str,
    path: &str,
    request: Request<Body>,
) -> Result<Response<Body>, Status> {
    let port: u16 = port
        .parse()
        .map_err(|_| Status::bad_request(format!("{port:?} is not a port")))?;
    let ip = target
        .view
        .borrow()
        .ip
        .ok_or_else(|| Status::bad_request("the pod has no address yet"))?;
    let failed = |error: String| {
        let text = format!("error trying to reach service: {error}");
        Status::unavailable(text)
    };
    let connecting = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect((ip, port))).await;
    let stream = match connecting {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(failed(format!("dial tcp {ip}:{port}: {error}"))),
        Err(_) => return Err(failed(format!("dial tcp {ip}:{port}: i/o timeout"))),
    };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| failed(e.to_string()))?;
    tokio::spawn(connection);
    let request = rewrite(request, path, &format!("{ip}:{port}"))?;
    let response = sender
        .send_request(request)
        .await
        .map_err(|e| failed(e.to_string()))?;
    Ok(response.map(|body| body.map_err(Into::into).boxed()))
}

fn rewrite(request: Request<Body>, path: &str, host: &str) -> Result<Request<Body>, Status> {
    let (mut parts, body) = request.into_parts();
    let query = parts.uri.query().map(|q| format!("?{q}")).unwrap_or_default();
    parts.uri = format!("/{path}{query}")
        .parse::<Uri>()
        .map_err(|e| Status::bad_request(e.to_string()))?;
    parts.version = http::Version::HTTP_11;
    // The link's own, not the client's.
    for name in [
        header::CONNECTION,
        header::UPGRADE,
        header::TE,
        header::TRANSFER_ENCODING,
    ] {
        parts.headers.remove(name);
    }
    if !parts.headers.contains_key(header::HOST) {
        let host = host
            .parse()
            .map_err(|_| Status::internal("the pod's address is no host"))?;
        parts.headers.insert(header::HOST, host);
    }
    Ok(Request::from_parts(parts, body))
}
