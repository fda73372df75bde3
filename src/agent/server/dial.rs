//! Calls the API server and then serves it on that connection: nodes at the
//! edge cannot be called.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use base::{Backoff, SystemRandom};
use client::HttpApi;
use client::link::PROTOCOL;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};

use super::LinkService;

const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(30);
/// A dead connection is noticed from this side too.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection that lasted so long was a good one: the next attempt comes at once.
const GOOD_AFTER: Duration = Duration::from_secs(60);

/// Keeps a connection to the API server on which `service` answers. Runs until dropped.
pub async fn run(api: Arc<HttpApi>, node_name: &str, service: LinkService) {
    let path = format!("/apis/coracle.dev/v1/nodes/{node_name}/connect");
    let mut backoff = Backoff::new(FIRST_RETRY, LAST_RETRY);
    let mut told = false;
    loop {
        let begin = tokio::time::Instant::now();
        match api.upgrade(&path, PROTOCOL).await {
            Ok(connection) => {
                tracing::info!("connected to the server");
                told = false;
                serve(connection, service.clone()).await;
                tracing::info!("the connection to the server has ended");
            }
            Err(status) if told => tracing::debug!(%status, "the server cannot be reached"),
            Err(status) => {
                tracing::warn!(%status, "the server cannot be reached, trying again until it can");
                told = true;
            }
        }
        if begin.elapsed() > GOOD_AFTER {
            backoff = Backoff::new(FIRST_RETRY, LAST_RETRY);
        }
        tokio::time::sleep(backoff.next(&SystemRandom)).await;
    }
}

async fn serve(connection: hyper::upgrade::Upgraded, service: LinkService) {
    serve_io(TokioIo::new(TokioIo::new(connection)), service).await;
}

async fn serve_io<T>(io: TokioIo<T>, service: LinkService)
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let answer = service_fn(move |request| {
        let service = service.clone();
        async move { Ok::<_, Infallible>(service.handle(request).await) }
    });
    let served = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE_EVERY)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .serve_connection(io, answer)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "the link to the server broke");
    }
}

/// Serves one end of a pipe, for the tests of the paths.
#[cfg(test)]
pub(super) async fn tests_serve(io: tokio::io::DuplexStream, service: LinkService) {
    serve_io(TokioIo::new(io), service).await;
}
