//! A remote agent's connection: it dials, says `Upgrade: coracle-agent`, and
//! then serves HTTP/2 on it while this side is the client.

use std::time::Duration;

use hyper::client::conn::http2;
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};

use super::{Link, NodeLinks};
use crate::body::{Body, BoxError};

/// A silent connection is asked for a sign of life this often, so that a node
/// that vanished is noticed although the server seldom has anything to say.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

impl NodeLinks {
    /// Takes over a connection that a node's agent has dialled; returns when it ends.
    pub async fn serve_remote(&self, node: &str, connection: Upgraded) -> Result<(), BoxError> {
        self.serve_io(node, TokioIo::new(TokioIo::new(connection))).await
    }

    async fn serve_io<T>(&self, node: &str, io: TokioIo<T>) -> Result<(), BoxError>
    where
        T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .handshake::<_, Body>(io)
            .await?;
        let id = self.fresh_id();
        self.insert(node, Link::Remote { id, sender });
        tracing::info!(node, "agent connected");
        let ended = connection.await;
        self.remove_remote(node, id);
        tracing::info!(node, "agent disconnected");
        Ok(ended?)
    }

    fn fresh_id(&self) -> u64 {
        let mut links = self.lock();
        links.next_id += 1;
        links.next_id
    }

    /// Removes a link; the node may have another one.
    fn remove_remote(&self, node: &str, ended: u64) {
        let mut links = self.lock();
        let Some(all) = links.by_node.get_mut(node) else {
            return;
        };
        all.retain(|link| !matches!(link, Link::Remote { id, .. } if *id == ended));
        if all.is_empty() {
            links.by_node.remove(node);
        }
        let count = links.by_node.len();
        links.connected.send_replace(count);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{NodeDialer, tests::text};
    use super::*;
    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::{BodyExt, Full};
    use std::convert::Infallible;

    #[tokio::test]
    async fn requests_reach_an_agent_that_dialled() {
        let (server_end, agent_end) = tokio::io::duplex(64 * 1024);
        let links = NodeLinks::new();
        let serving = links.clone();
        let link =
            tokio::spawn(async move { serving.serve_io("edge", TokioIo::new(server_end)).await.is_ok() });
        let agent = tokio::spawn(async move {
            let service = hyper::service::service_fn(|request: Request<hyper::body::Incoming>| async move {
                let said = request
                    .into_body()
                    .collect()
                    .await
                    .map(|b| b.to_bytes())
                    .unwrap_or_default();
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(
                    [b"echo ", &said[..]].concat(),
                ))))
            });
            hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(agent_end), service)
                .await
        });
        while !links.connected("edge") {
            tokio::task::yield_now().await;
        }
        let request = Request::post("/exec/a/b/c?command=ls").body(text("hi")).unwrap();
        let response = links.request("edge", request).await.unwrap();
        assert_eq!(
            &response.into_body().collect().await.unwrap().to_bytes()[..],
            b"echo hi"
        );
        agent.abort();
        let _ = link.await;
        assert!(!links.connected("edge"));
    }
}
