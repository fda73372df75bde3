//! A request from another program of the pod, in the server. Whatever a connection between the two would count, wait for
//! or notice, this does as well; only the bytes of HTTP/1 there are none of.

use super::body::Handed;
use super::serve::Server;
use crate::neighbours::{Answering, Door, Entrance};
use http_body_util::{BodyExt, Empty};
use hyper::body::Body;
use hyper::header::{CONTENT_LENGTH, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio_util::task::task_tracker::TaskTrackerToken;
use wasmtime_wasi_http::{Error, WasiBody};

impl Door for Server {
    fn open(self: Arc<Self>) -> Option<Entrance> {
        // Taken before looking: a server that is told to end from here on waits for it.
        let token = self.tasks.token();
        if self.stop.is_cancelled() || self.kill.is_cancelled() {
            return None;
        }
        let visit = Visit {
            server: self,
            _token: token,
        };
        let enter = move |request, client| Box::pin(visit.answer(request, client)) as Answering;
        Some(Box::new(enter))
    }
}

/// Somebody in a server. What keeps the server from ending goes last.
struct Visit {
    server: Arc<Server>,
    _token: TaskTrackerToken,
}

impl Visit {
    async fn answer(
        self,
        request: Request<WasiBody>,
        client: SocketAddr,
    ) -> Result<Response<WasiBody>, Error> {
        let server = &self.server;
        let place = server.connections.clone().acquire_owned().await;
        let place = place.map_err(|_| Error::ConnectionRefused)?;
        if let Some(account) = server.site.account() {
            account.count_neighbour();
        }
        let is_head = request.method() == Method::HEAD;
        let answering = server.clone().answer(request, Some(client));
        let answer = server.kill.run_until_cancelled(answering).await;
        // An answer that comes with the end is about the end: over a connection nobody would get it.
        let answer = answer.filter(|_| !server.kill.is_cancelled());
        let answer = answer.ok_or(Error::ConnectionTerminated)?;
        let (mut head, body) = answer.into_parts();
        if is_head || has_no_body(head.status) {
            return Ok(Response::from_parts(head, empty()));
        }
        if let Some(length) = body.size_hint().exact() {
            let length = HeaderValue::from(length);
            head.headers.entry(CONTENT_LENGTH).or_insert(length);
        }
        let body = Handed::new(body, &head.headers, server.kill.clone(), place);
        Ok(Response::from_parts(head, body.boxed_unsync()))
    }
}

fn has_no_body(status: StatusCode) -> bool {
    status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

fn empty() -> WasiBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

#[cfg(test)]
mod tests {
    use super::super::neighbour::Neighbour;
    use super::*;
    use crate::network::ResolveError;
    use crate::{Host, HostConfig, Instance, InstanceSpec, Neighbours, Network};
    use async_trait::async_trait;
    use bytes::Bytes;
    use futures_util::{StreamExt, stream};
    use http_body_util::StreamBody;
    use hyper::body::Frame;
    use std::net::{IpAddr, Ipv4Addr};
    use std::path::Path;
    use std::time::Duration;
    use tokio::time::timeout;
    use tokio_util::sync::DropGuard;

    /// The plain host as a pod of its own.
    #[derive(Default)]
    struct Pod(Neighbours);

    #[async_trait]
    impl Network for Pod {
        fn pod_ip(&self) -> IpAddr {
            Ipv4Addr::UNSPECIFIED.into()
        }
        fn loopback(&self) -> IpAddr {
            Ipv4Addr::LOCALHOST.into()
        }
        fn may_bind(&self, _: SocketAddr) -> bool {
            true
        }
        fn may_connect(&self, _: SocketAddr) -> bool {
            true
        }
        fn neighbours(&self) -> Option<&Neighbours> {
            Some(&self.0)
        }
        async fn resolve(&self, _: &str) -> Result<Vec<IpAddr>, ResolveError> {
            Err(ResolveError::NotFound)
        }
    }

    async fn server(pod: &Arc<Pod>) -> Instance {
        let settings = HostConfig {
            max_instances: 8,
            threads: Some(2),
            ..HostConfig::default()
        };
        let home = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where the package is");
        let file = Path::new(&home).join("../../wasm-examples/hello-http.wasm");
        let host = Host::new(settings).unwrap();
        let program = host.compile_file("sha256:hello", &file).await.unwrap();
        let mut spec = InstanceSpec::new("test", pod.clone());
        spec.http_address = Some(([127, 0, 0, 1], 0).into());
        host.start(&program, spec).await.unwrap()
    }

    fn request(method: Method, path: &str, body: WasiBody) -> Request<WasiBody> {
        let request = Request::builder().method(method).uri(path);
        request.header("host", "neighbour").body(body).unwrap()
    }

    async fn ask(
        pod: &Pod,
        server: &Instance,
        request: Request<WasiBody>,
    ) -> Result<(Response<WasiBody>, DropGuard), Error> {
        let address = server.http_address().unwrap();
        let entrance = pod.0.enter(address).expect("it is open");
        let client = SocketAddr::from(([127, 0, 0, 1], 0));
        let patience = Duration::from_secs(60);
        Neighbour { entrance, client }.ask(request, patience).await
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn requests_are_answered_as_over_a_connection() {
        let pod = Arc::new(Pod::default());
        let instance = server(&pod).await;

        // A body that comes in pieces.
        let pieces = stream::iter(["one ", "two"]).then(|text| async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Ok::<_, Error>(Frame::data(Bytes::from(text)))
        });
        let body = StreamBody::new(pieces).boxed_unsync();
        let (answer, _open) = ask(&pod, &instance, request(Method::POST, "/echo", body))
            .await
            .unwrap();
        assert_eq!(answer.headers()[CONTENT_LENGTH], "7");
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "one two");

        // No body where there is none to be.
        let (answer, _open) = ask(&pod, &instance, request(Method::HEAD, "/", empty()))
            .await
            .unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "");
        let usage = instance.usage();
        assert_eq!((usage.requests, usage.requests_inside), (2, 2));

        // Who asks may go, also in the middle of its body: nothing waits for the rest.
        let silent = StreamBody::new(stream::pending::<Result<Frame<Bytes>, Error>>()).boxed_unsync();
        let asking = ask(&pod, &instance, request(Method::POST, "/echo", silent));
        let left = timeout(Duration::from_millis(100), asking).await;
        assert!(left.is_err(), "there is no answer before the body's end");
        instance.stop(Duration::from_secs(60));
        assert_eq!(instance.wait().await.code, 0, "it drains");
        assert!(pod.0.enter(instance.http_address().unwrap()).is_none());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_asks_hears_of_a_violent_end() {
        let pod = Arc::new(Pod::default());
        let instance = server(&pod).await;
        let slow = request(Method::GET, "/sleep?ms=600000", empty());
        let (asked, _) = tokio::join!(ask(&pod, &instance, slow), async {
            while instance.usage().requests == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            instance.kill();
        });
        assert!(matches!(asked, Err(Error::ConnectionTerminated)));
        assert_eq!(instance.wait().await.code, 137);
    }
}
