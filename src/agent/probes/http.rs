//! One HTTP request to a container, for probes and hooks.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// As much of an answer as a failed probe's event shows.
const BODY_BYTES_MAX: usize = 10 * 1024;

/// A request made ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// `http` or `https`.
    pub tls: bool,
    /// Whom to connect to: an address, or a name for hosts that the manifest names.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path and query.
    pub path: String,
    /// Headers, `Host` among them.
    pub headers: Vec<(String, String)>,
}

/// The number behind a port that may be the name of one of the container's ports.
///
/// # Errors
/// When there is no such port.
pub fn port(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let named = container
                .ports
                .iter()
                .flatten()
                .find(|p| p.name.as_deref() == Some(name));
            named.map(|p| p.container_port).or_else(|| name.parse().ok())
        }
    };
    let number = number.and_then(|n| u16::try_from(n).ok()).filter(|n| *n > 0);
    number.ok_or_else(|| match port {
        IntOrString::Int(number) => format!("invalid port number: {number}"),
        IntOrString::String(name) => format!("couldn't find port: {name:?}"),
    })
}

impl Target {
    /// The request of an `httpGet`, to the pod's address unless it names a host.
    ///
    /// # Errors
    /// When its port is none.
    pub fn of(
        action: &HTTPGetAction,
        container: &Container,
        ip: IpAddr,
        agent: &str,
    ) -> Result<Target, String> {
        let host = action
            .host
            .clone()
            .filter(|h| !h.is_empty())
            .unwrap_or_else(|| ip.to_string());
        let path = action.path.clone().unwrap_or_default();
        let mut headers: Vec<(String, String)> = action
            .http_headers
            .iter()
            .flatten()
            .map(|h| (h.name.clone(), h.value.clone()))
            .collect();
        let mut default = |name: &str, value: String| {
            if !headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name)) {
                headers.push((name.to_owned(), value));
            }
        };
        let port = port(&action.port, container)?;
        default("User-Agent", agent.to_owned());
        default("Accept", "*/*".to_owned());
        default("Host", format!("{}:{port}", bracketed(&host)));
        Ok(Target {
            tls: action.scheme.as_deref() == Some("HTTPS"),
            path: if path.starts_with('/') {
                path
            } else {
                format!("/{path}")
            },
            host,
            port,
            headers,
        })
    }

    /// The URL, for messages.
    pub fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}:{}{}", bracketed(&self.host), self.port, self.path)
    }

    /// Sends the request; the answer's code and the beginning of its body.
    ///
    /// # Errors
    /// In Go's words, as event texts have them: `Get "http://…": …`.
    pub async fn get(&self, timeout: Duration) -> Result<(u16, String), String> {
        let failed = |why: String| format!("Get {:?}: {why}", self.url());
        match tokio::time::timeout(timeout, self.exchange()).await {
            Ok(result) => result.map_err(failed),
            Err(_) => Err(failed(
                "context deadline exceeded (Client.Timeout exceeded while awaiting headers)".to_owned(),
            )),
        }
    }

    async fn exchange(&self) -> Result<(u16, String), String> {
        let stream = connect(&self.host, self.port).await?;
        if !self.tls {
            return self.send(stream).await;
        }
        let name = ServerName::try_from(self.host.clone()).map_err(|e| e.to_string())?;
        let connector = tokio_rustls::TlsConnector::from(client::trust::anyone().map_err(|e| e.to_string())?);
        let stream = connector
            .connect(name, stream)
            .await
            .map_err(|e| format!("tls: {e}"))?;
        self.send(stream).await
    }

    async fn send<S>(&self, stream: S) -> Result<(u16, String), String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let text = |e: hyper::Error| go_http_error(&e);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(text)?;
        let driver = tokio::spawn(connection);
        let mut request = http::Request::get(&self.path);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|e| e.to_string())?;
        let answer = sender.send_request(request).await.map_err(text);
        let result = match answer {
            Ok(answer) => {
                let code = answer.status().as_u16();
                let body = Limited::new(answer.into_body(), BODY_BYTES_MAX).collect().await;
                let body = body
                    .map(|b| String::from_utf8_lossy(&b.to_bytes()).into_owned())
                    .unwrap_or_default();
                Ok((code, body))
            }
            Err(error) => Err(error),
        };
        driver.abort();
        result
    }
}

fn go_http_error(error: &hyper::Error) -> String {
    if error.is_incomplete_message() || error.is_closed() {
        return "EOF".to_owned();
    }
    error.to_string()
}

/// Connects, with failures in Go's words: `dial tcp 10.64.0.5:80: connect: connection refused`.
///
/// # Errors
/// That text.
pub async fn connect(host: &str, port: u16) -> Result<TcpStream, String> {
    let shown = format!("{}:{port}", bracketed(host));
    let result = match host.parse::<IpAddr>() {
        Ok(ip) => TcpStream::connect(SocketAddr::new(ip, port)).await,
        Err(_) => TcpStream::connect((host, port)).await,
    };
    result.map_err(|error| {
        let why = match error.kind() {
            std::io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
            std::io::ErrorKind::TimedOut => "i/o timeout".to_owned(),
            std::io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
            std::io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_owned(),
            _ => error.to_string(),
        };
        format!("dial tcp {shown}: {why}")
    })
}

fn bracketed(host: &str) -> String {
    if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    fn action(port: IntOrString, path: &str) -> HTTPGetAction {
        HTTPGetAction {
            port,
            path: Some(path.to_owned()),
            ..Default::default()
        }
    }

    async fn server(answer: &'static str) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 1024];
            let n = stream.read(&mut buffer).await.unwrap();
            assert!(
                String::from_utf8_lossy(&buffer[..n])
                    .to_lowercase()
                    .contains("user-agent: kube-probe/1")
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        port
    }

    fn target(port: u16) -> Target {
        let action = action(IntOrString::Int(i32::from(port)), "healthz");
        Target::of(
            &action,
            &Container::default(),
            [127, 0, 0, 1].into(),
            "kube-probe/1",
        )
        .unwrap()
    }

    #[tokio::test]
    async fn an_answer_is_code_and_body() {
        let port = server("HTTP/1.1 503 Nope\r\ncontent-length: 4\r\n\r\ndown").await;
        let answer = target(port).get(Duration::from_secs(5)).await;
        assert_eq!(answer, Ok((503, "down".to_owned())));
    }

    #[tokio::test]
    async fn failures_read_as_go_writes_them() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let waiting = target(port).get(Duration::from_millis(30)).await.unwrap_err();
        let url = format!("Get \"http://127.0.0.1:{port}/healthz\": ");
        let text = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
        assert_eq!(waiting, format!("{url}{text}"));
        drop(listener);
        let refused = target(port).get(Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(
            refused,
            format!("{url}dial tcp 127.0.0.1:{port}: connect: connection refused")
        );
    }

    #[test]
    fn ports_by_name() {
        let container: Container = serde_json::from_value(
            serde_json::json!({"name": "c", "ports": [{"name": "web", "containerPort": 81}]}),
        )
        .unwrap();
        assert_eq!(port(&IntOrString::String("web".to_owned()), &container), Ok(81));
        assert_eq!(port(&IntOrString::Int(80), &container), Ok(80));
        assert!(port(&IntOrString::String("nope".to_owned()), &container).is_err());
        assert!(port(&IntOrString::Int(0), &container).is_err());
    }
}
