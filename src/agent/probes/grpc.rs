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
    let early = Outcome::of(answer.headers());
    let body = answer.into_body().collect().await.map_err(|e| e.to_string())?;
    let outcome = body.trailers().and_then(Outcome::of).or(early);
    let outcome = outcome.ok_or("error: health rpc probe failed: the answer is none of gRPC")?;
    outcome.check()?;
    // HealthCheckResponse { status }: field 1 as a varint, which is left out where it is 0.
    let status = match body.to_bytes().get(5..) {
        Some([0x08, status, ..]) => *status,
        _ => 0,
    };
    match STATUSES.get(usize::from(status)) {
        Some(&SERVING) => Ok(()),
        Some(name) => Err(format!("service unhealthy (responded with {name:?})")),
        None => Err(format!("service unhealthy (responded with \"{status}\")")),
    }
}

const SERVING: &str = "SERVING";
/// What a server says of a service, by number.
const STATUSES: [&str; 4] = ["UNKNOWN", SERVING, "NOT_SERVING", "SERVICE_UNKNOWN"];

/// How calls end, by number, as Go's library calls it.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// How a call ended.
struct Outcome {
    code: String,
    message: String,
}

impl Outcome {
    /// As the headers or trailers of the answer say it.
    fn of(headers: &http::HeaderMap) -> Option<Outcome> {
        let text = |name| Some(headers.get(name)?.to_str().unwrap_or("?"));
        let code = text("grpc-status")?;
        let name = code.parse().ok().and_then(|code: usize| CODES.get(code));
        Some(Outcome {
            code: name.map_or_else(|| format!("Code({code})"), |name| (*name).to_owned()),
            message: decoded(text("grpc-message").unwrap_or_default()),
        })
    }

    /// The kubelet's words for one that did not end well.
    fn check(&self) -> Result<(), String> {
        let Outcome { code, message } = self;
        match code.as_str() {
            "OK" => Ok(()),
            "Unimplemented" => Err(format!(
                "this server does not implement the grpc health protocol (grpc.health.v1.Health): {message}"
            )),
            _ => Err(format!(
                "error: health rpc probe failed: rpc error: code = {code} desc = {message}"
            )),
        }
    }
}

/// A message as it was before it became a header.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, more @ ..] = rest {
        let digits = more.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        let (byte, after) = match (first, byte) {
            (b'%', Some(byte)) => (byte, more.get(2..).unwrap_or_default()),
            _ => (*first, more),
        };
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
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

    #[test]
    fn ends_of_calls_in_words() {
        let said = |code: &'static str, message: &'static str| {
            let headers = [("grpc-status", code), ("grpc-message", message)];
            let headers = headers.map(|(name, value)| {
                let name = http::HeaderName::from_static(name);
                (name, http::HeaderValue::from_static(value))
            });
            Outcome::of(&headers.into_iter().collect()).unwrap().check()
        };
        assert_eq!(said("0", ""), Ok(()));
        assert_eq!(
            said("5", "no%20such %C3%A9%").unwrap_err(),
            "error: health rpc probe failed: rpc error: code = NotFound desc = no such é%"
        );
        assert!(said("99", "").unwrap_err().contains("code = Code(99)"));
        assert!(
            said("12", "x")
                .unwrap_err()
                .contains("does not implement the grpc health protocol")
        );
        assert!(Outcome::of(&http::HeaderMap::new()).is_none());
    }
}
