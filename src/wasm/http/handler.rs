//! One program of a server: its instances and how they are called.

use super::reply::{Answer, Reply};
use crate::idle::Idle;
use crate::meter::Meter;
use crate::program::{Program, Ready};
use crate::state::{Blueprint, State};
use crate::ticker::Ticker;
use hyper::Request;
use std::sync::Arc;
use tokio::sync::Semaphore;
use wasmtime::{Engine, Store};
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::p2::bindings::{Proxy, ProxyPre};
use wasmtime_wasi_http::{WasiBody, WasiHttpView};

/// Requests one program answers at once; more wait.
const REQUESTS_MAX: usize = 512;

/// With reuse: requests after which an instance is given up, so that what it
/// leaks does not pile up.
const SERVED_MAX: u32 = 100_000;

/// A program and what its instances are made from.
pub(super) struct Handler {
    program: Program,
    pub(super) blueprint: Arc<Blueprint>,
    pub(super) permits: Semaphore,
    /// Instances between two requests; None if each serves one only.
    idle: Option<Idle<Guest>>,
}

/// An instance that can answer requests, one at a time.
pub(super) struct Guest {
    store: Store<State>,
    meter: Meter,
    proxy: Proxy,
    served: u32,
}

impl Guest {
    /// Hands it a request; its answer goes to `reply`.
    pub(super) async fn call(
        &mut self,
        ticker: &Ticker,
        request: Request<WasiBody>,
        reply: &Reply,
    ) -> wasmtime::Result<()> {
        let reply = reply.clone();
        let mut http = self.store.data_mut().http();
        let request = http.new_incoming_request(Scheme::Http, request)?;
        let send = move |answer: Result<Answer, _>| reply.send_guest(answer);
        let out = http.new_response_outparam_from_callback(send)?;
        let handler = self.proxy.wasi_http_incoming_handler();
        self.meter
            .run(ticker, handler.call_handle(&mut self.store, request, out))
            .await
    }
}

impl Handler {
    pub(super) fn new(program: Program, blueprint: Arc<Blueprint>, reuse: bool) -> Handler {
        Handler {
            program,
            blueprint,
            permits: Semaphore::new(REQUESTS_MAX),
            idle: reuse.then(Idle::default),
        }
    }

    /// An instance for a request: a used one, or a new one.
    pub(super) async fn guest(&self, engine: &Engine, ticker: &Ticker) -> wasmtime::Result<Guest> {
        match &self.idle {
            None => self.blueprint.account.room().await,
            Some(idle) => {
                if let Some(guest) = idle.take_or_room(&self.blueprint.account).await {
                    return Ok(guest);
                }
            }
        }
        let (mut store, meter) = self.blueprint.handler(engine)?;
        let instantiate = self.proxy_pre()?.instantiate_async(&mut store);
        let proxy = meter.run(ticker, instantiate).await?;
        Ok(Guest {
            store,
            meter,
            proxy,
            served: 0,
        })
    }

    fn proxy_pre(&self) -> wasmtime::Result<&ProxyPre<State>> {
        match &self.program.inner.ready {
            Ready::Http(pre) => Ok(pre),
            _ => Err(wasmtime::Error::msg("not a wasi:http program")),
        }
    }

    /// Keeps an instance for the next request, if that is wanted.
    pub(super) fn put_back(&self, mut guest: Guest) {
        guest.served += 1;
        if let Some(idle) = &self.idle
            && guest.served < SERVED_MAX
        {
            idle.put(guest);
        }
    }
}
