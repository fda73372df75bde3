//! `healthCheckNodePort`: load balancers ask each node whether it has ready
//! endpoints of a Service. Answers are kube-proxy's.

use std::collections::HashMap;
use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::catalog::ServiceKey;

/// A client that is slower than this is not a load balancer.
const PATIENCE: Duration = Duration::from_secs(5);
/// A request without a body, headers and all.
const REQUEST_BYTES_MAX: usize = 8 * 1024;
/// Before a port that is taken is tried again.
const RETRY: Duration = Duration::from_secs(10);

/// The servers of this node, one per Service that is checked.
#[derive(Default)]
pub(super) struct HealthChecks {
    servers: HashMap<ServiceKey, Server>,
}

struct Server {
    port: u16,
    /// How many endpoints are ready here.
    count: watch::Sender<usize>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl HealthChecks {
    /// A Service is checked at a port, and has that many ready endpoints here;
    /// or it is not checked.
    pub(super) fn set(&mut self, key: &ServiceKey, check: Option<(u16, usize)>) {
        let Some((port, count)) = check else {
            self.servers.remove(key);
            return;
        };
        if let Some(server) = self.servers.get(key).filter(|server| server.port == port) {
            server.count.send_replace(count);
            return;
        }
        // Its old port must be free before another Service asks for it.
        self.servers.remove(key);
        let (count, told) = watch::channel(count);
        let task = tokio::spawn(serve(port, key.clone(), told));
        self.servers.insert(key.clone(), Server { port, count, task });
    }
}

async fn serve(port: u16, key: ServiceKey, count: watch::Receiver<usize>) {
    let listener = loop {
        match listen(port).await {
            Ok(listener) => break listener,
            Err(error) => {
                tracing::warn!(port, service = ?key, %error, "cannot answer health checks; trying again");
                tokio::time::sleep(RETRY).await;
            }
        }
    };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let answer = answer(&key, *count.borrow());
                tokio::spawn(tokio::time::timeout(PATIENCE, reply(stream, answer)));
            }
            // Out of descriptors, say.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// On all of the node's addresses, of both families where there are both.
async fn listen(port: u16) -> std::io::Result<TcpListener> {
    match TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).await {
        Err(error) if error.kind() != std::io::ErrorKind::AddrInUse => {
            TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], port))).await
        }
        other => other,
    }
}

async fn reply(mut stream: TcpStream, answer: String) {
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") && request.len() < REQUEST_BYTES_MAX {
        match stream.read(&mut buffer).await {
            Ok(length) if length > 0 => request.extend_from_slice(&buffer[..length]),
            _ => return,
        }
    }
    // A client that is gone needs no answer.
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

fn answer(key: &ServiceKey, count: usize) -> String {
    let status = if count > 0 {
        "200 OK"
    } else {
        "503 Service Unavailable"
    };
    let body = json!({
        "service": { "namespace": key.namespace, "name": key.name },
        "localEndpoints": count,
        "serviceProxyHealthy": true,
    })
    .to_string();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nX-Content-Type-Options: nosniff\r\n\
         X-Load-Balancing-Endpoint-Weight: {count}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_those_of_kube_proxy() {
        let key = ServiceKey {
            namespace: "shop".into(),
            name: "web".into(),
        };
        let healthy = answer(&key, 2);
        assert!(healthy.starts_with("HTTP/1.1 200 OK\r\n"));
        assert!(healthy.contains("\r\nX-Load-Balancing-Endpoint-Weight: 2\r\n"));
        let (_, body) = healthy.split_once("\r\n\r\n").unwrap();
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["service"], json!({"namespace": "shop", "name": "web"}));
        assert_eq!(
            (
                body["localEndpoints"].as_i64(),
                body["serviceProxyHealthy"].as_bool()
            ),
            (Some(2), Some(true))
        );
        assert!(answer(&key, 0).starts_with("HTTP/1.1 503 "));
    }
}
