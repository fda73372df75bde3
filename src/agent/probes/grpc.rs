//! The gRPC health check (`grpc.health.v1.Health/Check`), by hand: one unary
//! call with one field each way is no reason to carry a gRPC stack.

use std::net::IpAddr;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::http::connect;

/// Asks the service on that port how it is.
///
/// # Errors
/// Why it is not serving.
pub async fn check(ip: IpAddr, port: u16, service: &str, timeout: Duration) -> Result<(), String> {
    let shown = format!("{ip}:{port}");
    match tokio::time::timeout(timeout, call(ip, port, service)).await {
        Ok(result) => result,
        Err(_) => Err(format!(
            "timeout: failed to connect service {shown:?} within {}: context deadline exceeded",
            api::go::duration(timeout)
        )),
    }
}

async fn call(ip: IpAddr, port: u16, service: &str) -> Result<(), String> {
    let stream = connect(&ip.to_string(), port).await?;
    let text = |e: hyper::Error| e.to_string();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(text)?;
    let driver = tokio::spawn(connection);
    let request = http::Request::post(format!("http://{ip}:{port}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(frame(service)))
        .map_err(|e| e.to_string())?;
    let result = match sender.send_request(request).await {
        Ok(answer) => read(answer).await,
        Err(error) => Err(text(error)),
    };
    driver.abort();
    result
}

async fn read(answer: http::Response<hyper::body::Incoming>) -> Result<(), String> {
    let code = |headers: &http::HeaderMap| {
        headers
            .get("grpc-status")
            .map(|v| v.to_str().unwrap_or("?").to_owned())
    };
    let early = code(answer.headers());
    let body = answer.into_body().collect().await.map_err(|e| e.to_string())?;
    let late = body.trailers().and_then(code);
    match late.or(early).as_deref() {
        Some("0") => {}
        None => return Err("error: health rpc probe failed: the answer is none of gRPC".to_owned()),
        Some("12") => {
            return Err(
                "this server does not implement the grpc health protocol (grpc.health.v1.Health)".into(),
            );
        }
        Some(code) => return Err(format!("health rpc failed with status {code}")),
    }
    // HealthCheckResponse { status = 1: SERVING }: field 1 as a varint.
    match body.to_bytes().get(5..) {
        Some([0x08, 1, ..]) => Ok(()),
        _ => Err("service unhealthy (responded with \"NOT_SERVING\")".to_owned()),
    }
}

/// `HealthCheckRequest { service }` in gRPC's framing.
fn frame(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.put_u8((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        message.put_u8(length as u8);
        message.put_slice(service.as_bytes());
    }
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.unsplit(message);
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_on_the_wire() {
        assert_eq!(&frame("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&frame("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
    }
}
