//! Serves a `wasi:http` program: connections, instances, draining.

use super::Listener;
use super::reply::{Answer, Reply, plain};
use crate::Exit;
use crate::host::Tools;
use crate::instance::Report;
use crate::limits::OutOfMemory;
use crate::meter::Meter;
use crate::program::{Program, Ready};
use crate::spec::Stdin;
use crate::state::{Blueprint, State};
use futures_util::FutureExt;
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::service::service_fn;
use hyper::{Request, StatusCode, Version, header};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wasmtime::{PoolConcurrencyLimitError, Store};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::p2::bindings::{Proxy, ProxyPre};

/// Requests one program answers at once; more wait.
const REQUESTS_MAX: usize = 512;

/// Connections one program holds at once; more wait to be accepted. Keeps its
/// clients from using up the descriptors of the whole process.
const CONNECTIONS_MAX: usize = 4096;

/// How long a stopping server keeps a connection on which nothing is asked: a
/// client that is about to ask is answered, and told to use another next time.
const IDLE_DRAIN: Duration = Duration::from_secs(1);

/// Time a client has for sending its request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// With reuse: instances kept for the next requests, and requests after which
/// one is given up, so that what it leaks does not pile up.
const IDLE_MAX: usize = 16;
const SERVED_MAX: u32 = 100_000;

/// Serves until stopped or killed, or until the guest breaks its memory limit.
pub(crate) async fn serve(
    tools: Arc<Tools>,
    program: Program,
    blueprint: Arc<Blueprint>,
    listener: Listener,
    reuse: bool,
    report: Report,
) {
    let control = report.0.clone();
    let server = Arc::new(Server {
        tools,
        program,
        blueprint,
        host: HeaderValue::from_str(&listener.address().to_string()).ok(),
        permits: Semaphore::new(REQUESTS_MAX),
        connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        idle: reuse.then(Idle::default),
        tasks: TaskTracker::new(),
        stop: control.stop.clone(),
        kill: control.kill.clone(),
        end: OnceLock::new(),
    });
    tokio::select! {
        biased;
        () = server.kill.cancelled() => {}
        () = server.accept(&listener) => {}
    }
    // No new connections from here on but those that the kernel has accepted
    // already; all finish, or are cut off by the kill that ends the grace.
    if !server.kill.is_cancelled() {
        server.accept_waiting(&listener);
    }
    drop(listener);
    server.tasks.close();
    server.tasks.wait().await;
    let was_killed = server.kill.is_cancelled();
    let exit = server.end.get().cloned();
    let exit = exit.unwrap_or_else(|| {
        if was_killed {
            Exit::killed()
        } else {
            Exit::with_code(0)
        }
    });
    let name = &server.blueprint.name;
    tracing::debug!(
        instance = name,
        code = exit.code,
        message = exit.message,
        "wasm server ended"
    );
    drop(server);
    report.end(exit);
}

struct Server {
    tools: Arc<Tools>,
    program: Program,
    blueprint: Arc<Blueprint>,
    /// For requests without a `Host` header, which guests cannot be given.
    host: Option<HeaderValue>,
    permits: Semaphore,
    connections: Arc<Semaphore>,
    /// Instances between two requests; None if each serves one only.
    idle: Option<Idle>,
    /// All connections and requests.
    tasks: TaskTracker,
    stop: CancellationToken,
    kill: CancellationToken,
    /// Why the guest itself made the server end.
    end: OnceLock<Exit>,
}

/// Instances that wait for their next request.
#[derive(Default)]
struct Idle {
    guests: Mutex<Vec<Guest>>,
    returned: Notify,
}

impl Idle {
    fn take(&self) -> Option<Guest> {
        self.lock().pop()
    }

    fn put(&self, guest: Guest) {
        let mut guests = self.lock();
        if guests.len() < IDLE_MAX {
            guests.push(guest);
            self.returned.notify_one();
        }
    }

    // A std mutex: nothing awaits while it is held.
    fn lock(&self) -> MutexGuard<'_, Vec<Guest>> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An instance that can answer requests, one at a time.
struct Guest {
    store: Store<State>,
    meter: Meter,
    proxy: Proxy,
    served: u32,
}

impl Server {
    async fn accept(self: &Arc<Self>, listener: &Listener) {
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                accepted = self.next(listener) => accepted,
            };
            match accepted {
                Ok((stream, permit)) => self.take(stream, permit),
                // Out of descriptors or memory: give others time to end.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Takes the connections that nobody has asked for yet: closing the socket
    /// would reset them.
    fn accept_waiting(self: &Arc<Self>, listener: &Listener) {
        while let Some(Ok((stream, permit))) = self.next(listener).now_or_never() {
            self.take(stream, permit);
        }
    }

    fn take(self: &Arc<Self>, stream: TcpStream, permit: OwnedSemaphorePermit) {
        let connection = self.clone().connection(stream, permit);
        self.tasks
            .spawn(self.kill.clone().run_until_cancelled_owned(connection));
    }

    async fn next(&self, listener: &Listener) -> std::io::Result<(TcpStream, OwnedSemaphorePermit)> {
        let permit = self
            .connections
            .clone()
            .acquire_owned()
            .await
            .map_err(std::io::Error::other)?;
        let (stream, _) = listener.socket.accept().await?;
        Ok((stream, permit))
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, _permit: OwnedSemaphorePermit) {
        // Answers are small and each is written in one go.
        let _ = stream.set_nodelay(true);
        let server = self.clone();
        // HTTP/2 has a farewell of its own, which loses no request.
        let is_http2 = Arc::new(AtomicBool::new(false));
        let seen = is_http2.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let server = server.clone();
            let http2 = request.version() == Version::HTTP_2;
            seen.store(http2, Ordering::Relaxed);
            async move {
                let mut answer = server.clone().answer(request).await;
                if server.stop.is_cancelled() && !http2 {
                    let close = HeaderValue::from_static("close");
                    answer.headers_mut().insert(header::CONNECTION, close);
                }
                Ok::<_, Infallible>(answer)
            }
        });
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(128);
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let result = tokio::select! {
            biased;
            () = self.stop.cancelled() => {
                let patience = match is_http2.load(Ordering::Relaxed) {
                    true => Duration::ZERO,
                    false => IDLE_DRAIN,
                };
                match tokio::time::timeout(patience, connection.as_mut()).await {
                    Ok(result) => result,
                    Err(_) => {
                        connection.as_mut().graceful_shutdown();
                        connection.await
                    }
                }
            }
            result = connection.as_mut() => result,
        };
        if let Err(error) = result {
            tracing::trace!(
                instance = self.blueprint.name,
                error,
                "connection to a wasm server ended"
            );
        }
    }

    async fn answer(self: Arc<Self>, mut request: Request<Incoming>) -> Answer {
        if let Err(why) = self.ensure_host(&mut request) {
            return plain(StatusCode::BAD_REQUEST, why);
        }
        let (reply, answer) = Reply::new();
        let kill = self.kill.clone();
        let tasks = self.tasks.clone();
        // A task of its own: the guest may go on after its answer has begun,
        // and must not be cut off when the client goes away.
        tasks.spawn(kill.run_until_cancelled_owned(async move { self.handle(request, reply).await }));
        let ended = || plain(StatusCode::SERVICE_UNAVAILABLE, "the wasm program was ended");
        answer.await.unwrap_or_else(|_| ended())
    }

    fn ensure_host(&self, request: &mut Request<Incoming>) -> Result<(), &'static str> {
        match (request.headers().get(header::HOST), &self.host) {
            _ if request.uri().authority().is_some() => Ok(()),
            (Some(host), _) if host.to_str().is_ok() => Ok(()),
            (Some(_), _) => Err("the Host header is not plain text"),
            (None, Some(own)) => {
                request.headers_mut().insert(header::HOST, own.clone());
                Ok(())
            }
            (None, None) => Err("the Host header is missing"),
        }
    }

    async fn handle(&self, request: Request<Incoming>, reply: Reply) {
        let Ok(_permit) = self.permits.acquire().await else {
            return;
        };
        self.blueprint.account.count_request();
        let what = format!("{} {}", request.method(), request.uri().path());
        let mut guest = match self.guest().await {
            Ok(guest) => guest,
            Err(error) => return self.failed(&what, &error, &reply),
        };
        match self.call(&mut guest, request, &reply).await {
            Ok(()) => {
                // Has an effect only if the guest gave no answer.
                reply.send(plain(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "the wasm program gave no answer",
                ));
                self.put_back(guest);
            }
            Err(error) => self.failed(&what, &error, &reply),
        }
    }

    async fn call(
        &self,
        guest: &mut Guest,
        request: Request<Incoming>,
        reply: &Reply,
    ) -> wasmtime::Result<()> {
        let reply = reply.clone();
        let mut http = guest.store.data_mut().http();
        let request = http.new_incoming_request(Scheme::Http, request)?;
        let out = http.new_response_outparam_from_callback(move |answer| reply.send_guest(answer))?;
        let handler = guest.proxy.wasi_http_incoming_handler();
        guest
            .meter
            .run(
                &self.tools.ticker,
                handler.call_handle(&mut guest.store, request, out),
            )
            .await
    }

    /// An instance for a request: a used one, or a new one.
    async fn guest(&self) -> wasmtime::Result<Guest> {
        match &self.idle {
            None => self.blueprint.account.room().await,
            Some(idle) => {
                if let Some(guest) = self.idle_guest(idle).await {
                    return Ok(guest);
                }
            }
        }
        let (mut store, meter) = self.blueprint.component(&self.tools.base.engine, Stdin::None)?;
        let instantiate = self.proxy_pre()?.instantiate_async(&mut store);
        let proxy = meter.run(&self.tools.ticker, instantiate).await?;
        Ok(Guest {
            store,
            meter,
            proxy,
            served: 0,
        })
    }

    /// A used instance, or None once there is room for a new one. The used ones
    /// take up memory too: waiting for room alone could be waiting for ever.
    async fn idle_guest(&self, idle: &Idle) -> Option<Guest> {
        loop {
            if let Some(guest) = idle.take() {
                return Some(guest);
            }
            tokio::select! {
                () = idle.returned.notified() => {}
                () = self.blueprint.account.room() => return None,
            }
        }
    }

    fn proxy_pre(&self) -> wasmtime::Result<&ProxyPre<State>> {
        match &self.program.inner.ready {
            Ready::Http(pre) => Ok(pre),
            _ => Err(wasmtime::Error::msg("not a wasi:http program")),
        }
    }

    fn put_back(&self, mut guest: Guest) {
        guest.served += 1;
        if let Some(idle) = &self.idle
            && guest.served < SERVED_MAX
            && !self.stop.is_cancelled()
        {
            idle.put(guest);
        }
    }

    /// A request went wrong: tells the client, the log, and, if the guest broke
    /// its memory limit, ends the server, as the kernel would.
    fn failed(&self, what: &str, error: &wasmtime::Error, reply: &Reply) {
        if let Some(I32Exit(0)) = error.downcast_ref() {
            return reply.send(plain(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the wasm program gave no answer",
            ));
        }
        let exit = Exit::from_error(error);
        self.blueprint.tell(&format!("{what}: {}", exit.message));
        if error.is::<PoolConcurrencyLimitError>() {
            return reply.send(plain(StatusCode::SERVICE_UNAVAILABLE, &exit.message));
        }
        reply.send(plain(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the wasm program failed, see its log",
        ));
        if error.is::<OutOfMemory>() && self.end.set(exit).is_ok() {
            self.kill.cancel();
        }
    }
}
