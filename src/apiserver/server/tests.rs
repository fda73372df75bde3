//! The whole server over real TLS, with a real store and a made-up agent.

mod forms;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base::Tasks;
use bytes::{Bytes, BytesMut};
use client::kubeconfig::Kubeconfig;
use client::link::frames;
use client::{Credentials, HttpApi, HttpConfig};
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, Method, Request, Response, header};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use store::{Store, StoreConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::body::{self, Body};
use crate::http::reply;
use crate::pki::JoinRole;
use crate::{ApiServer, NodeDialer, ServerConfig};

struct Fixture {
    dir: tempfile::TempDir,
    store: Store,
    tasks: Tasks,
    server: ApiServer,
}

async fn start_in(dir: tempfile::TempDir) -> Fixture {
    let store = Store::open(StoreConfig::new(dir.path())).await.unwrap();
    let tasks = Tasks::new();
    let mut config = ServerConfig::new(dir.path());
    config.listen = vec![([127, 0, 0, 1], 0).into()];
    let server = ApiServer::start(config, store.clone(), &tasks).await.unwrap();
    Fixture {
        dir,
        store,
        tasks,
        server,
    }
}

async fn start() -> Fixture {
    start_in(tempfile::tempdir().unwrap()).await
}

impl Fixture {
    async fn stop(self) -> tempfile::TempDir {
        self.tasks.shutdown().await;
        self.store.close().await;
        self.dir
    }

    fn kubeconfig(&self) -> Kubeconfig {
        Kubeconfig::read(&self.dir.path().join("admin.kubeconfig")).unwrap()
    }

    fn client(&self, credentials: Credentials) -> HttpApi {
        let kubeconfig = self.kubeconfig();
        HttpApi::new(HttpConfig {
            server: kubeconfig.server,
            ca_pem: kubeconfig.ca_pem,
            credentials,
            ..HttpConfig::default()
        })
        .unwrap()
    }

    fn admin(&self) -> HttpApi {
        let kubeconfig = self.kubeconfig();
        self.client(Credentials {
            cert_pem: kubeconfig.client_cert_pem,
            key_pem: kubeconfig.client_key_pem,
            token: String::new(),
        })
    }

    fn anyone(&self) -> HttpApi {
        self.client(Credentials::default())
    }

    fn bearer(&self, token: &str) -> HttpApi {
        self.client(Credentials {
            token: token.to_owned(),
            ..Credentials::default()
        })
    }

    /// An HTTP/1.1 request in the admin's name, with headers of its own.
    async fn plain(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Response<hyper::body::Incoming> {
        let admin = self
            .server
            .pki
            .client("kubernetes-admin", &["system:masters"], jiff::Timestamp::now());
        let admin = admin.unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.server.pki.now().serving_ca.der().clone()).unwrap();
        use rustls::pki_types::pem::PemObject;
        let chain =
            vec![rustls::pki_types::CertificateDer::from_pem_slice(admin.cert_pem.as_bytes()).unwrap()];
        let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(admin.key_pem.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .unwrap();
        let stream = tokio::net::TcpStream::connect(self.server.addresses()[0])
            .await
            .unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(tls));
        let stream = connector
            .connect("localhost".try_into().unwrap(), stream)
            .await
            .unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        sender
            .send_request(request.body(Empty::<Bytes>::new()).unwrap())
            .await
            .unwrap()
    }

    async fn upgraded(&self, path: &str, headers: &[(&str, &str)]) -> (HeaderMap, Upgraded) {
        let response = self.plain("GET", path, headers).await;
        assert_eq!(response.status(), 101, "{response:?}");
        let said = response.headers().clone();
        (said, hyper::upgrade::on(response).await.unwrap())
    }

    async fn pod(&self) {
        let admin = self.admin();
        let account = json!({"metadata": {"name": "default"}});
        post(&admin, "/api/v1/namespaces/default/serviceaccounts", &account).await;
        let pod = json!({"metadata": {"name": "web"}, "spec": {
            "nodeName": "edge", "containers": [{"name": "c", "image": "x"}]}});
        post(&admin, "/api/v1/namespaces/default/pods", &pod).await;
        self.server.nodes().register_local("edge", agent);
    }
}

async fn get(client: &HttpApi, path: &str) -> (u16, Value) {
    let (code, body) = client.raw(Method::GET, path, Bytes::new()).await.unwrap();
    let text = || Value::String(String::from_utf8_lossy(&body).into_owned());
    (code, serde_json::from_slice(&body).unwrap_or_else(|_| text()))
}

async fn post(client: &HttpApi, path: &str, body: &Value) -> Value {
    let (code, answer) = client
        .raw(Method::POST, path, body.to_string().into())
        .await
        .unwrap();
    let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
    assert!(code < 300, "{code} {answer}");
    answer
}

/// An agent that says what it was asked, and echoes what comes in.
async fn agent(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let (parts, mut body) = request.into_parts();
    let asked = parts.uri.path_and_query().unwrap().to_string();
    let (send, receive) = tokio::sync::mpsc::channel::<Bytes>(8);
    let frames_wanted = asked.starts_with("/exec");
    tokio::spawn(async move {
        let _ = send
            .send(if frames_wanted {
                frames::encode(frames::STDOUT, asked.as_bytes())
            } else {
                asked.into()
            })
            .await;
        let mut decoder = frames::Decoder::default();
        while let Some(Ok(frame)) = body.frame().await {
            let bytes = frame.into_data().unwrap_or_default();
            if !frames_wanted {
                let _ = send.send(bytes).await;
                continue;
            }
            decoder.push(&bytes);
            while let Ok(Some((channel, bytes))) = decoder.next_frame() {
                if channel == frames::CLOSE {
                    let status = br#"{"metadata":{},"status":"Success"}"#;
                    let _ = send.send(frames::encode(frames::ERROR, status)).await;
                    return;
                }
                let _ = send.send(frames::encode(frames::STDOUT, &bytes)).await;
            }
        }
    });
    let chunks = futures_util::stream::unfold(receive, |mut receive| async move {
        receive.recv().await.map(|bytes| (Ok(bytes), receive))
    });
    Ok(Response::new(body::streamed(chunks)))
}

#[tokio::test]
async fn callers_are_told_apart() {
    let fixture = start().await;
    assert_eq!(get(&fixture.anyone(), "/healthz").await, (200, "ok".into()));
    assert_eq!(get(&fixture.anyone(), "/readyz").await, (200, "ok".into()));
    let (code, refused) = get(&fixture.anyone(), "/api/v1/namespaces/default/pods").await;
    assert_eq!(code, 403);
    assert_eq!(
        refused["message"],
        r#"pods is forbidden: User "system:anonymous" cannot list resource "pods" in API group "" in the namespace "default""#
    );
    assert_eq!(get(&fixture.bearer("wrong"), "/healthz").await.0, 401);
    let admin = fixture.admin();
    let (code, list) = get(&admin, "/api/v1/namespaces").await;
    assert_eq!((code, &list["kind"]), (200, &"NamespaceList".into()));
    assert_eq!(get(&admin, "/version").await.1["gitVersion"], "v1.36.0+coracle");
    assert_eq!(get(&admin, "/apis/apps/v1").await.1["kind"], "APIResourceList");
    fixture.stop().await;
}

#[tokio::test]
async fn service_accounts_hold_what_they_are_given() {
    let fixture = start().await;
    let admin = fixture.admin();
    let account = json!({"metadata": {"name": "bot"}});
    post(&admin, "/api/v1/namespaces/default/serviceaccounts", &account).await;
    let path = "/api/v1/namespaces/default/serviceaccounts/bot/token";
    let token = post(&admin, path, &json!({"spec": {"expirationSeconds": 3600}})).await;
    let bot = fixture.bearer(token["status"]["token"].as_str().unwrap());
    assert_eq!(get(&bot, "/api/v1/namespaces/default/pods").await.0, 403);
    let binding = json!({"metadata": {"name": "bots"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "ServiceAccount", "name": "bot", "namespace": "default"}]});
    post(
        &admin,
        "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings",
        &binding,
    )
    .await;
    let mut code = 0;
    for _ in 0..100 {
        code = get(&bot, "/api/v1/namespaces/default/pods").await.0;
        if code == 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(code, 200);
    assert_eq!(get(&bot, "/api/v1/namespaces/default/secrets").await.0, 403);
    admin
        .raw(
            Method::DELETE,
            "/api/v1/namespaces/default/serviceaccounts/bot",
            Bytes::new(),
        )
        .await
        .unwrap();
    assert_eq!(get(&bot, "/api/v1/namespaces/default/pods").await.0, 401);
    fixture.stop().await;
}

#[tokio::test]
async fn an_agent_joins_and_serves_on_the_connection_it_dialled() {
    let fixture = start().await;
    let joiner = fixture.bearer(
        &fixture
            .server
            .pki
            .now()
            .join
            .token(JoinRole::Agent)
            .unwrap()
            .text(),
    );
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(rcgen::DnType::OrganizationName, "system:nodes");
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "system:node:edge");
    let request = params.serialize_request(&key).unwrap().pem().unwrap();
    use base64::Engine;
    let base64 = base64::engine::general_purpose::STANDARD;
    let csr = json!({"metadata": {"name": "edge"}, "spec": {"request": base64.encode(request),
        "signerName": "kubernetes.io/kube-apiserver-client-kubelet", "usages": ["digital signature", "client auth"]}});
    let path = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    post(&joiner, path, &csr).await;
    let mut signed = Value::Null;
    for _ in 0..200 {
        signed = get(&joiner, &format!("{path}/edge")).await.1["status"]["certificate"].clone();
        if signed.is_string() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let cert_pem = String::from_utf8(base64.decode(signed.as_str().unwrap()).unwrap()).unwrap();
    let node = fixture.client(Credentials {
        cert_pem,
        key_pem: key.serialize_pem(),
        token: String::new(),
    });
    assert_eq!(get(&node, "/api/v1/nodes").await.0, 200);
    assert_eq!(get(&node, "/api/v1/namespaces/default/secrets").await.0, 403);
    assert!(
        node.upgrade("/apis/coracle.dev/v1/nodes/other/connect", "coracle-agent")
            .await
            .is_err()
    );
    let connection = node
        .upgrade("/apis/coracle.dev/v1/nodes/edge/connect", "coracle-agent")
        .await
        .unwrap();
    tokio::spawn(async move {
        let service = hyper::service::service_fn(|request: Request<hyper::body::Incoming>| {
            agent(request.map(|body| Body::new(body.map_err(|error| error.into()))))
        });
        let _ = hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new())
            .serve_connection(TokioIo::new(TokioIo::new(connection)), service)
            .await;
    });
    while !fixture.server.nodes().connected("edge") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let asked = Request::get("/logs/a/b/c").body(reply::empty()).unwrap();
    let answer = fixture.server.nodes().request("edge", asked).await.unwrap();
    assert_eq!(
        answer.into_body().collect().await.unwrap().to_bytes(),
        "/logs/a/b/c"
    );
    fixture.stop().await;
}

#[tokio::test]
async fn commands_run_over_websockets() {
    let fixture = start().await;
    fixture.pod().await;
    let headers = [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-protocol", "v5.channel.k8s.io, v4.channel.k8s.io"),
    ];
    let path = "/api/v1/namespaces/default/pods/web/exec?command=cat&stdin=true&stdout=true";
    let (said, connection) = fixture.upgraded(path, &headers).await;
    assert_eq!(said["sec-websocket-protocol"], "v5.channel.k8s.io");
    let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(connection), Role::Client, None).await;
    socket
        .send(Message::Binary(Bytes::from_static(b"\x00hello")))
        .await
        .unwrap();
    socket
        .send(Message::Binary(Bytes::from_static(b"\xff\x00")))
        .await
        .unwrap();
    let mut heard = Vec::new();
    while let Some(Ok(message)) = socket.next().await {
        match message {
            Message::Binary(bytes) => heard.push(bytes),
            Message::Close(frame) => {
                assert_eq!(u16::from(frame.unwrap().code), 1000);
                break;
            }
            _ => {}
        }
    }
    assert_eq!(
        heard,
        [
            &b"\x01"[..],
            b"\x01/exec/default/web/c?command=cat&stdin=true&stdout=true",
            b"\x01hello",
            b"\x03{\"metadata\":{},\"status\":\"Success\"}",
        ]
    );
    let without = fixture.plain("GET", path, &[]).await;
    assert_eq!(without.status(), 400);
    fixture.stop().await;
}

#[tokio::test]
async fn ports_are_forwarded_over_websocket_channels() {
    let fixture = start().await;
    fixture.pod().await;
    let headers = [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-protocol", "v4.channel.k8s.io"),
    ];
    let path = "/api/v1/namespaces/default/pods/web/portforward?ports=80";
    let (_, connection) = fixture.upgraded(path, &headers).await;
    let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(connection), Role::Client, None).await;
    let ping = Message::Binary(Bytes::from_static(b"\x00ping"));
    socket.send(ping.clone()).await.unwrap();
    for expected in [
        &b"\x00\x50\x00"[..],
        b"\x01\x50\x00",
        b"\x00/portforward/default/web?port=80",
        b"\x00ping",
    ] {
        assert_eq!(
            socket.next().await.unwrap().unwrap(),
            Message::Binary(Bytes::from_static(expected))
        );
    }
    fixture.stop().await;
}

#[tokio::test]
async fn ports_are_forwarded_over_spdy() {
    use crate::streams::spdy_for_tests as spdy;
    let fixture = start().await;
    fixture.pod().await;
    let headers = [
        ("connection", "Upgrade"),
        ("upgrade", "SPDY/3.1"),
        ("x-stream-protocol-version", "portforward.k8s.io"),
    ];
    let path = "/api/v1/namespaces/default/pods/web/portforward";
    let (_, connection) = fixture.upgraded(path, &headers).await;
    let mut io = TokioIo::new(connection);
    let opened = spdy::open(&[(1, "error"), (3, "data")]);
    io.write_all(&opened).await.unwrap();
    io.write_all(&spdy::data(3, b"ping")).await.unwrap();
    let mut heard = Vec::new();
    let mut buffer = BytesMut::new();
    while heard != b"/portforward/default/web?port=80ping" {
        assert_ne!(io.read_buf(&mut buffer).await.unwrap(), 0, "{heard:?}");
        heard.extend(spdy::data_of(&mut buffer, 3));
    }
    fixture.stop().await;
}

#[tokio::test]
async fn watches_end_when_the_server_stops_and_it_starts_again_where_it_was() {
    let fixture = start().await;
    let response = fixture.plain("GET", "/api/v1/namespaces?watch=true", &[]).await;
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(
        first.starts_with(b"{\"type\":\"ADDED\",\"object\":{"),
        "{first:?}"
    );
    let rest = tokio::spawn(async move { while let Some(Ok(_)) = body.frame().await {} });
    let began = Instant::now();
    let dir = fixture.stop().await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    rest.await.unwrap();
    let again = start_in(dir).await;
    assert_eq!(get(&again.admin(), "/api/v1/namespaces/default").await.0, 200);
    again.stop().await;
}

#[tokio::test]
async fn watches_come_over_websockets_too() {
    let fixture = start().await;
    let headers = [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let path = "/api/v1/watch/namespaces/default";
    let (_, connection) = fixture.upgraded(path, &headers).await;
    let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(connection), Role::Client, None).await;
    let Some(Ok(Message::Text(text))) = socket.next().await else {
        panic!("no event came")
    };
    let event: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&event["type"], &event["object"]["metadata"]["name"]),
        (&"ADDED".into(), &"default".into())
    );
    fixture.stop().await;
}

#[tokio::test]
async fn custom_kinds_are_in_discovery_and_openapi() {
    let fixture = start().await;
    let admin = fixture.admin();
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "size": {"type": "integer", "nullable": true, "description": "How large."}}}}});
    let definition = json!({"metadata": {"name": "things.example.com"}, "spec": {"group": "example.com", "scope": "Cluster",
        "names": {"plural": "things", "kind": "Thing", "shortNames": ["th"]},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema},
            "deprecated": true, "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}]}]}});
    assert_eq!(get(&admin, "/apis/example.com/v1").await.0, 404);
    let before = get(&admin, "/openapi/v3").await.1;
    post(
        &admin,
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        &definition,
    )
    .await;
    let began = Instant::now();
    while get(&admin, "/apis/example.com/v1").await.0 != 200 {
        assert!(began.elapsed() < Duration::from_secs(30), "it is not served");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let resources = get(&admin, "/apis/example.com/v1").await.1;
    assert_eq!(resources["resources"][0]["shortNames"], json!(["th"]));
    let index = get(&admin, "/openapi/v3").await.1;
    assert!(before["paths"]["apis/example.com/v1"].is_null());
    let place = index["paths"]["apis/example.com/v1"]["serverRelativeURL"]
        .as_str()
        .unwrap();
    let document = get(&admin, place).await.1;
    let thing = &document["components"]["schemas"]["com.example.v1.Thing"];
    assert_eq!(
        thing["properties"]["spec"]["properties"]["size"]["description"],
        "How large."
    );
    assert_eq!(thing["x-kubernetes-group-version-kind"][0]["kind"], "Thing");
    let patch = &document["paths"]["/apis/example.com/v1/things/{name}"]["patch"]["requestBody"]["content"];
    assert!(patch["application/merge-patch+json"].is_object());
    assert!(
        patch["application/strategic-merge-patch+json"].is_null(),
        "kubectl would send it"
    );
    let old = get(&admin, "/openapi/v2").await.1;
    let size = &old["definitions"]["com.example.v1.Thing"]["properties"]["spec"]["properties"]["size"];
    assert_eq!((&size["type"], &size["nullable"]), (&Value::Null, &Value::Null));
    let path = "/apis/example.com/v1/things";
    let answer = fixture
        .plain(
            "GET",
            path,
            &[("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")],
        )
        .await;
    assert_eq!(
        answer.headers()["warning"],
        "299 - \"example.com/v1 Thing is deprecated\""
    );
    let table: Value =
        serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap();
    assert_eq!(table["columnDefinitions"][1]["name"], "Size");
    fixture.stop().await;
}
