//! A request of one guest to another of its pod, handed over in memory. Whatever a connection between the two would
//! count, wait for or notice, this does as well; only the bytes of HTTP/1 there are none of.

use super::body::Handed;
use crate::neighbours::Entrance;
use http_body_util::BodyExt;
use hyper::{Request, Response};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use wasmtime_wasi_http::{Error, WasiBody};

/// A neighbour's server and how it sees who asks.
pub(super) struct Neighbour {
    pub(super) entrance: Entrance,
    pub(super) client: SocketAddr,
}

impl Neighbour {
    /// The answer, and what says, by being dropped, that nobody wants the rest of it.
    pub(super) async fn ask(
        self,
        request: Request<WasiBody>,
        patience: Duration,
    ) -> Result<(Response<WasiBody>, DropGuard), Error> {
        let gone = CancellationToken::new();
        let guard = gone.clone().drop_guard();
        let (head, body) = request.into_parts();
        let body = Handed::new(body, &head.headers, gone, ()).boxed_unsync();
        let answering = (self.entrance)(Request::from_parts(head, body), self.client);
        let answer = timeout(patience, answering).await;
        Ok((answer.map_err(|_| Error::ConnectionReadTimeout)??, guard))
    }
}
