//! Serves a `wasi:http` program: connections, instances, draining.

use super::handler::Handler;
use super::reply::{Answer, Reply, plain};
use super::routes::Router;
use super::told;
use crate::Exit;
use crate::control::{Control, Report};
use crate::interfaces::Offer;
use crate::limits::{Account, OutOfMemory};
use crate::program::Program;
use crate::sockets::Listener;
use crate::state::Blueprint;
use crate::tools::Tools;
use futures_util::FutureExt;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::service::service_fn;
use hyper::{Request, StatusCode, Version, header};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wasmtime::PoolConcurrencyLimitError;
use wasmtime_wasi::I32Exit;
use wasmtime_wasi_http::{Error, WasiBody};

/// Connections one program holds at once; more wait to be accepted. Keeps its
/// clients from using up the descriptors of the whole process.
const CONNECTIONS_MAX: usize = 4096;

/// How long a stopping server keeps a connection on which nothing is asked: a
/// client that is about to ask is answered, and told to use another next time.
const IDLE_DRAIN: Duration = Duration::from_secs(1);

/// Time a client has for sending its request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Programs and the routes to them.
pub(crate) struct Site {
    handlers: Vec<Handler>,
    /// None: the only program answers everything.
    router: Option<Router>,
}

impl Site {
    /// One program that answers everything.
    pub(crate) fn of_one(program: Program, blueprint: Arc<Blueprint>, reuse: bool) -> Site {
        Site {
            handlers: vec![Handler::new(program, blueprint, reuse)],
            router: None,
        }
    }

    /// Several programs, each with its routes. The first's name and log stand for all.
    pub(crate) fn of_parts(parts: Vec<(Program, Vec<String>, Arc<Blueprint>)>, reuse: bool) -> Site {
        let (mut router, mut handlers) = (Router::default(), Vec::new());
        for (program, routes, blueprint) in parts {
            routes.iter().for_each(|route| router.add(route, handlers.len()));
            handlers.push(Handler::new(program, blueprint, reuse));
        }
        Site {
            handlers,
            router: Some(router),
        }
    }

    /// Counts what all programs do.
    pub(super) fn account(&self) -> Option<&Account> {
        self.handlers.first().map(|handler| &*handler.blueprint.account)
    }

    /// The program for a request, which is told by headers how it was found.
    fn handler(&self, request: &mut Request<WasiBody>, client: Option<SocketAddr>) -> Option<usize> {
        let Some(router) = &self.router else {
            return Some(0);
        };
        let path = request.uri().path().to_owned();
        let found = router.find(&path)?;
        told::tell(request, &found, client);
        Some(found.handler)
    }
}

/// A program, or several behind one address, and what is being done for their clients.
pub(crate) struct Server {
    tools: Arc<Tools>,
    pub(super) site: Site,
    /// For logs.
    name: String,
    /// For requests without a `Host` header, which guests cannot be given.
    host: Option<HeaderValue>,
    pub(super) connections: Arc<Semaphore>,
    /// All connections and requests.
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
    pub(super) kill: CancellationToken,
    control: Arc<Control>,
}

impl Server {
    /// A server at the listener's address, which ends when the control says so.
    pub(crate) fn new(
        tools: Arc<Tools>,
        site: Site,
        name: String,
        listener: &Listener,
        control: &Arc<Control>,
    ) -> Arc<Server> {
        Arc::new(Server {
            tools,
            site,
            name,
            host: HeaderValue::from_str(&listener.address().to_string()).ok(),
            connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            tasks: TaskTracker::new(),
            stop: control.stop.clone(),
            kill: control.kill.clone(),
            control: control.clone(),
        })
    }

    /// Serves until stopped or killed, or until a guest breaks its memory limit. What other programs call of it ends
    /// with it.
    pub(crate) async fn run(self: Arc<Self>, listener: Arc<Listener>, offer: Option<Offer>, report: Report) {
        tokio::select! {
            biased;
            () = self.kill.cancelled() => {}
            () = self.accept(&listener) => {}
        }
        // No new connections from here on but those that the kernel has accepted
        // already; all finish, or are cut off by the kill that ends the grace.
        if !self.kill.is_cancelled() {
            self.accept_waiting(&listener);
        }
        drop(listener);
        self.tasks.close();
        self.tasks.wait().await;
        if let Some(offer) = offer {
            offer.drained().await;
        }
        let exit = match self.kill.is_cancelled() {
            true => Exit::killed(),
            false => Exit::with_code(0),
        };
        tracing::debug!(
            instance = self.name,
            code = exit.code,
            message = exit.message,
            "wasm server ended"
        );
        drop(self);
        report.end(exit);
    }

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
        Ok((listener.accept().await?, permit))
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, _permit: OwnedSemaphorePermit) {
        // Answers are small and each is written in one go.
        let _ = stream.set_nodelay(true);
        let client = stream.peer_addr().ok();
        let server = self.clone();
        // HTTP/2 has a farewell of its own, which loses no request.
        let is_http2 = Arc::new(AtomicBool::new(false));
        let seen = is_http2.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let server = server.clone();
            let http2 = request.version() == Version::HTTP_2;
            seen.store(http2, Ordering::Relaxed);
            let request = request.map(|body| body.map_err(Error::from).boxed_unsync());
            async move {
                let mut answer = server.clone().answer(request, client).await;
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
            tracing::trace!(instance = self.name, error, "connection to a wasm server ended");
        }
    }

    pub(super) async fn answer(
        self: Arc<Self>,
        mut request: Request<WasiBody>,
        client: Option<SocketAddr>,
    ) -> Answer {
        if let Err(why) = self.ensure_host(&mut request) {
            return plain(StatusCode::BAD_REQUEST, why);
        }
        let Some(number) = self.site.handler(&mut request, client) else {
            return plain(StatusCode::NOT_FOUND, "no route of the application leads there");
        };
        let (reply, answer) = Reply::new();
        let kill = self.kill.clone();
        let tasks = self.tasks.clone();
        // A task of its own: the guest may go on after its answer has begun,
        // and must not be cut off when the client goes away.
        tasks.spawn(kill.run_until_cancelled_owned(async move { self.handle(number, request, reply).await }));
        let ended = || plain(StatusCode::SERVICE_UNAVAILABLE, "the wasm program was ended");
        answer.await.unwrap_or_else(|_| ended())
    }

    fn ensure_host(&self, request: &mut Request<WasiBody>) -> Result<(), &'static str> {
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

    async fn handle(&self, number: usize, request: Request<WasiBody>, reply: Reply) {
        let Some(handler) = self.site.handlers.get(number) else {
            return;
        };
        let Ok(_permit) = handler.permits.acquire().await else {
            return;
        };
        handler.blueprint.account.count_request();
        let what = format!("{} {}", request.method(), request.uri().path());
        let (engine, ticker) = (&self.tools.base.engine, &self.tools.ticker);
        let mut guest = match handler.guest(engine, ticker).await {
            Ok(guest) => guest,
            Err(error) => return self.failed(handler, &what, &error, &reply),
        };
        match guest.call(ticker, request, &reply).await {
            Ok(()) => {
                // Has an effect only if the guest gave no answer.
                reply.send(plain(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "the wasm program gave no answer",
                ));
                if !self.stop.is_cancelled() {
                    handler.put_back(guest);
                }
            }
            Err(error) => self.failed(handler, &what, &error, &reply),
        }
    }

    /// A request went wrong: tells the client, the log, and, if the guest broke
    /// its memory limit, ends the server, as the kernel would.
    fn failed(&self, handler: &Handler, what: &str, error: &wasmtime::Error, reply: &Reply) {
        if let Some(I32Exit(0)) = error.downcast_ref() {
            return reply.send(plain(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the wasm program gave no answer",
            ));
        }
        let exit = Exit::from_error(error);
        handler.blueprint.tell(&format!("{what}: {}", exit.message));
        if error.is::<PoolConcurrencyLimitError>() {
            return reply.send(plain(StatusCode::SERVICE_UNAVAILABLE, &exit.message));
        }
        reply.send(plain(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the wasm program failed, see its log",
        ));
        if error.is::<OutOfMemory>() {
            self.control.break_off(exit);
        }
    }
}
