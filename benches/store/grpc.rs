//! A gRPC client on hyper, for everything but the load of single calls: the same for every store.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use anyhow::{Context as _, bail, ensure};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper::header::{CONTENT_TYPE, TE};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use prost::Message;
use tokio::net::TcpStream;

use crate::proto::{frame, unframe};

/// A connection; clones share it.
#[derive(Clone)]
pub struct Client {
    requests: SendRequest<Asked>,
    address: String,
}

/// A request's body: one message, after which the stream stays open or does not.
pub struct Asked {
    message: Option<Bytes>,
    open: bool,
}

impl Body for Asked {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.message.take() {
            Some(message) => Poll::Ready(Some(Ok(Frame::data(message)))),
            None if self.open => Poll::Pending,
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.message.is_none() && !self.open
    }
}

impl Client {
    /// Connects.
    pub async fn connect(address: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (requests, connection) = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(8 << 20)
            .initial_connection_window_size(64 << 20)
            .handshake(TokioIo::new(stream))
            .await?;
        tokio::spawn(connection);
        let address = address.to_owned();
        Ok(Self { requests, address })
    }

    /// Asks, and waits for the answer.
    pub async fn call<A: Message + Default>(
        &mut self,
        path: &str,
        question: &impl Message,
    ) -> anyhow::Result<A> {
        let answer = self.send(path, question, false).await?.collect().await?;
        let trailers = answer.trailers().cloned().unwrap_or_default();
        ensure!(
            trailers.get("grpc-status").is_some_and(|status| status == "0"),
            "{path}: {trailers:?}"
        );
        let mut bytes = BytesMut::from(answer.to_bytes());
        unframe(&mut bytes)?.with_context(|| format!("{path}: half an answer"))
    }

    /// Asks, and gives the answers as they come.
    pub async fn stream(&mut self, path: &str, question: &impl Message) -> anyhow::Result<Answers> {
        let body = self.send(path, question, true).await?;
        let bytes = BytesMut::new();
        Ok(Answers { body, bytes })
    }

    async fn send(&mut self, path: &str, question: &impl Message, open: bool) -> anyhow::Result<Incoming> {
        let request = hyper::Request::post(format!("http://{}{path}", self.address))
            .header(CONTENT_TYPE, "application/grpc")
            .header(TE, "trailers")
            .body(Asked {
                message: Some(frame(question)),
                open,
            })?;
        self.requests.ready().await?;
        let answer = self.requests.send_request(request).await?;
        if let Some(status) = answer
            .headers()
            .get("grpc-status")
            .filter(|status| *status != "0")
        {
            bail!(
                "{path}: gRPC status {status:?}: {:?}",
                answer.headers().get("grpc-message")
            );
        }
        Ok(answer.into_body())
    }
}

/// A stream of answers.
pub struct Answers {
    body: Incoming,
    bytes: BytesMut,
}

impl Answers {
    /// The next one; waits for it.
    pub async fn next<A: Message + Default>(&mut self) -> anyhow::Result<A> {
        loop {
            if let Some(answer) = unframe(&mut self.bytes)? {
                return Ok(answer);
            }
            let frame = self.body.frame().await.context("the stream ended")??;
            if let Ok(data) = frame.into_data() {
                self.bytes.extend_from_slice(&data);
            }
        }
    }
}
