//! Answering calls on a unix socket.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::path::Path;

use futures_util::Stream;
use hyper::body::Incoming;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::UnixListener;
use tonic::body::Body;
use tonic::server::Grpc;
use tonic::{Request, Response, Status};

use crate::Call;
use crate::proto::Proto;

/// A call as it came: its path names the method.
pub type Asked = http::Request<Incoming>;
/// What goes back.
pub type Answer = http::Response<Body>;

/// Answers one call with what `work` makes of it.
pub async fn answer<C, F>(asked: Asked, work: impl FnOnce(C) -> F + Send) -> Answer
where
    C: Call,
    F: Future<Output = Result<C::Reply, Status>> + Send + 'static,
{
    let mut work = Some(work);
    let service = tower::service_fn(move |request: Request<C>| {
        // One request is one call.
        let future = work.take().map(|work| work(request.into_inner()));
        async move {
            match future {
                Some(future) => future.await.map(Response::new),
                None => Err(Status::internal("asked twice")),
            }
        }
    });
    let codec: Proto<C::Reply, C> = Proto::default();
    Grpc::new(codec).unary(service, asked).await
}

/// Answers one call with all that `work` makes of it, as it comes.
pub async fn answer_with_stream<C, S>(asked: Asked, work: impl FnOnce(C) -> S + Send) -> Answer
where
    C: Call,
    S: Stream<Item = Result<C::Reply, Status>> + Send + 'static,
{
    let mut work = Some(work);
    let service = tower::service_fn(move |request: Request<C>| {
        // One request is one call.
        let parts = work.take().map(|work| work(request.into_inner()));
        let parts = parts.ok_or_else(|| Status::internal("asked twice"));
        std::future::ready(parts.map(Response::new))
    });
    let codec: Proto<C::Reply, C> = Proto::default();
    Grpc::new(codec).server_streaming(service, asked).await
}

/// Says that there is no such method here.
pub fn unknown(asked: &Asked) -> Answer {
    Status::unimplemented(format!("unknown method {}", asked.uri().path())).into_http()
}

/// Listens on a socket at `path`, in place of one that is there from before, and answers until it is dropped.
///
/// # Errors
/// The disk.
pub async fn serve<H, F>(path: &Path, handle: H) -> io::Result<()>
where
    H: Fn(Asked) -> F + Clone + Send + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    loop {
        let (stream, _) = listener.accept().await?;
        let handle = handle.clone();
        let service = service_fn(move |asked| {
            let answer = handle(asked);
            async move { Ok::<_, Infallible>(answer.await) }
        });
        tokio::spawn(async move {
            let connection =
                Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a caller's connection ended");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Plugin;
    use crate::csi::{NodeGetInfoRequest, NodeGetInfoResponse, ProbeRequest};

    async fn handle(asked: Asked) -> Answer {
        match asked.uri().path() {
            NodeGetInfoRequest::METHOD => {
                answer(asked, |_: NodeGetInfoRequest| async {
                    Ok(NodeGetInfoResponse {
                        node_id: "n1".to_owned(),
                        max_volumes_per_node: 3,
                        accessible_topology: None,
                    })
                })
                .await
            }
            _ => unknown(&asked),
        }
    }

    #[tokio::test]
    async fn a_plugin_answers_and_may_come_back() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("csi.sock");
        let plugin = Plugin::at(&path);
        let patience = Duration::from_secs(30);
        let info = || plugin.call(NodeGetInfoRequest::default(), patience);
        assert_eq!(info().await.unwrap_err().code(), tonic::Code::Unavailable);
        for _ in 0..2 {
            let place = path.clone();
            let serving = tokio::spawn(async move { serve(&place, handle).await });
            while !matches!(info().await, Ok(reply) if reply.node_id == "n1") {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let unknown = plugin.call(ProbeRequest::default(), patience).await.unwrap_err();
            assert_eq!(unknown.code(), tonic::Code::Unimplemented);
            serving.abort();
            let _ = serving.await;
        }
    }
}
