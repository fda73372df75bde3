//! Guests in pods: many in one network namespace, each with its own addresses,
//! and one in a namespace of its own. Needs root, as such namespaces do.

use crate::support::*;
use async_trait::async_trait;
use coracle_wasm::{Host, HostConfig, Instance, Network, Protocol, ResolveError};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use sys::link::{Route, RouteKind, Routing, Table};

/// The service address, its name, and where it leads.
const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 43, 0, 1);
const ENDPOINT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

/// A network namespace in which 10.77.0.0/16 is local, as on a node.
struct Namespace {
    fd: Arc<OwnedFd>,
    path: std::path::PathBuf,
    _dir: tempfile::TempDir,
}

impl Namespace {
    /// None without root.
    fn new() -> Option<Namespace> {
        if !nix::unistd::geteuid().is_root() {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ns");
        let fd = sys::netns::create(&path).unwrap();
        sys::netns::with(&fd, || {
            let mut routing = Routing::open().unwrap();
            let lo = routing.link("lo").unwrap().unwrap().index;
            routing.set_up(lo).unwrap();
            let (destination, prefix) = (Ipv4Addr::new(10, 77, 0, 0), 16);
            routing.replace_route(&local(lo, destination, prefix)).unwrap();
        })
        .unwrap();
        Some(Namespace {
            fd: Arc::new(fd),
            path,
            _dir: dir,
        })
    }

    /// A host whose guests live here.
    fn host(&self) -> Host {
        let fd = self.fd.clone();
        let enter = move || sys::netns::enter(fd.as_ref()).unwrap();
        Host::new(HostConfig {
            on_thread_start: Some(Arc::new(enter)),
            ..config()
        })
        .unwrap()
    }

    /// What a server here says first, and what it echoes.
    fn greeting(&self, address: &str) -> std::io::Result<String> {
        let address: SocketAddr = address.parse().unwrap();
        sys::netns::with(self.fd.as_ref(), || {
            let mut stream = TcpStream::connect(address)?;
            stream.write_all(b"ping")?;
            let mut got = String::new();
            let mut buffer = [0; 256];
            while !got.contains("ping") {
                let count = stream.read(&mut buffer)?;
                if count == 0 {
                    break;
                }
                got += &String::from_utf8_lossy(&buffer[..count]);
            }
            Ok(got)
        })?
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = sys::netns::delete(&self.path);
    }
}

/// A pod: 10.77.0.N, with 127.77.0.N as its loopback.
struct Pod {
    number: u8,
    netns: Option<OwnedFd>,
}

#[async_trait]
impl Network for Pod {
    fn pod_ip(&self) -> IpAddr {
        [10, 77, 0, self.number].into()
    }
    fn loopback(&self) -> IpAddr {
        [127, 77, 0, self.number].into()
    }
    fn netns(&self) -> Option<&OwnedFd> {
        self.netns.as_ref()
    }
    fn may_bind(&self, _: SocketAddr) -> bool {
        true
    }
    fn may_connect(&self, address: SocketAddr) -> bool {
        address.port() != 6666
    }
    fn pick(&self, destination: SocketAddr, _: Protocol) -> SocketAddr {
        let is_service = destination == SocketAddr::from((SERVICE, 80));
        if is_service {
            SocketAddr::from((ENDPOINT, 8080))
        } else {
            destination
        }
    }
    async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, ResolveError> {
        // The answer takes a moment, as real ones do.
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        if name == "web.default.svc.cluster.local" {
            Ok(vec![SERVICE.into()])
        } else {
            Err(ResolveError::NotFound)
        }
    }
}

fn in_pod(number: u8, args: &[&str]) -> Spec {
    let mut spec = spec(args);
    spec.spec.network = Arc::new(Pod { number, netns: None });
    spec.spec.env = vec![("POD_NAME".into(), format!("pod-{number}"))];
    spec
}

async fn start(host: &Host, spec: Spec) -> Instance {
    let program = compile(host, "tcp-echo.wasm").await;
    let stdout = spec.stdout.clone();
    let instance = host.start(&program, spec.spec).await.unwrap();
    eventually("listening", || stdout.text().contains("listening on")).await;
    instance
}

async fn client(host: &Host, number: u8, args: &[&str]) -> Result<String, String> {
    let program = compile(host, "tcp-echo.wasm").await;
    let (exit, stdout, stderr) = run(host, &program, in_pod(number, args)).await;
    if exit.code == 0 { Ok(stdout) } else { Err(stderr) }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_of_two_pods_on_one_port() {
    let Some(namespace) = Namespace::new() else { return };
    let host = namespace.host();
    let _one = start(&host, in_pod(1, &[])).await;
    let _two = start(&host, in_pod(2, &[])).await;
    assert_eq!(
        namespace.greeting("10.77.0.1:8080").unwrap(),
        "hello from pod-1\nping"
    );
    assert_eq!(
        namespace.greeting("10.77.0.2:8080").unwrap(),
        "hello from pod-2\nping"
    );
    assert!(namespace.greeting("10.77.0.3:8080").is_err());
    // Each reaches itself at 127.0.0.1, a third one nobody.
    for number in [1, 2] {
        let said = client(&host, number, &["connect", "127.0.0.1:8080", "ping"])
            .await
            .unwrap();
        assert!(said.contains(&format!("hello from pod-{number}\n")), "{said}");
        assert!(said.contains("-> 127.0.0.1:8080"), "{said}");
    }
    let refused = client(&host, 3, &["connect", "127.0.0.1:8080", "ping"])
        .await
        .unwrap_err();
    assert!(refused.contains("connection-refused"), "{refused}");
    let refused = client(&host, 3, &["connect", "127.77.0.1:8080", "ping"])
        .await
        .unwrap_err();
    assert!(refused.contains("connection-refused"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn services_by_name_from_the_pod_s_own_address() {
    let Some(namespace) = Namespace::new() else { return };
    let host = namespace.host();
    let _two = start(&host, in_pod(2, &[])).await;
    let said = client(&host, 1, &["connect", "web.default.svc.cluster.local:80", "ping"])
        .await
        .unwrap();
    assert!(said.contains("hello from pod-2\nping"), "{said}");
    assert!(
        said.starts_with("connected 10.77.0.1:") && said.contains("-> 10.43.0.1:80"),
        "{said}"
    );
    let unknown = client(&host, 1, &["connect", "unknown:80", "ping"])
        .await
        .unwrap_err();
    assert!(unknown.contains("name-unresolvable"), "{unknown}");
    let denied = client(&host, 1, &["connect", "10.77.0.2:6666", "ping"])
        .await
        .unwrap_err();
    assert!(denied.contains("access-denied"), "{denied}");
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_to_services_and_neighbours() {
    let Some(namespace) = Namespace::new() else { return };
    let host = namespace.host();
    let mut server = in_pod(2, &["udp-serve"]);
    server.spec.env.push(("PORT".into(), "8080".into()));
    let _two = start(&host, server).await;
    let said = client(
        &host,
        1,
        &["udp-send", "web.default.svc.cluster.local:80", "ping"],
    )
    .await
    .unwrap();
    assert_eq!(said, "10.43.0.1:80 says pod-2: ping\n");
    let said = client(&host, 2, &["udp-send", "127.0.0.1:8080", "ping"])
        .await
        .unwrap();
    assert!(said.contains("says pod-2: ping"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn http_servers_on_one_port_and_requests_between_them() {
    let Some(namespace) = Namespace::new() else { return };
    let host = namespace.host();
    let program = compile(&host, "hello-http.wasm").await;
    let mut servers = Vec::new();
    for number in [1, 2] {
        let mut spec = in_pod(number, &[]);
        spec.spec.http_address = Some("0.0.0.0:8080".parse().unwrap());
        let server = host.start(&program, spec.spec).await.unwrap();
        assert_eq!(
            server.http_address(),
            Some(SocketAddr::from(([10, 77, 0, number], 8080)))
        );
        servers.push(server);
    }
    let fd = namespace.fd.clone();
    let fetch = move |url: &str| {
        let request = format!("GET /fetch?url={url} HTTP/1.0\r\nHost: x\r\n\r\n");
        let answer = sys::netns::with(fd.as_ref(), || {
            let mut stream = TcpStream::connect("10.77.0.1:8080").unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        });
        answer.unwrap()
    };
    tokio::task::spawn_blocking(move || {
        assert!(
            fetch("http://web.default.svc.cluster.local/x").ends_with("HTTP 200\n\nhello from pod-2: /x\n")
        );
        assert!(fetch("http://127.0.0.1:8080/x").ends_with("HTTP 200\n\nhello from pod-1: /x\n"));
        assert!(fetch("http://localhost:8080/x").ends_with("HTTP 200\n\nhello from pod-1: /x\n"));
        assert!(fetch("http://10.77.0.2:6666/x").contains("DestinationIpProhibited"));
    })
    .await
    .unwrap();
    drop(servers);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_of_its_own() {
    let Some(namespace) = Namespace::new() else { return };
    // The host's threads stay outside: only the sockets are made within.
    let host = host();
    let own = || sys::netns::open(&namespace.path).unwrap();
    let inside = |args: &[&str]| {
        let mut spec = in_pod(1, args);
        spec.spec.network = Arc::new(Pod {
            number: 1,
            netns: Some(own()),
        });
        spec
    };
    let _server = start(&host, inside(&[])).await;
    for address in ["10.77.0.1:8080", "127.0.0.1:8080"] {
        assert_eq!(
            namespace.greeting(address).unwrap(),
            "hello from pod-1\nping",
            "{address}"
        );
    }
    let program = compile(&host, "tcp-echo.wasm").await;
    let (exit, stdout, stderr) = run(&host, &program, inside(&["connect", "localhost:8080", "ping"])).await;
    assert_eq!(exit.code, 0, "{stderr}");
    assert!(stdout.contains("hello from pod-1"), "{stdout}");
    let http = compile(&host, "hello-http.wasm").await;
    let mut spec = inside(&[]);
    spec.spec.http_address = Some("10.77.0.1:8081".parse().unwrap());
    let _http = host.start(&http, spec.spec).await.unwrap();
    for address in ["10.77.0.1:8081", "127.0.0.1:8081"] {
        sys::netns::with(namespace.fd.as_ref(), || TcpStream::connect(address).unwrap()).unwrap();
    }
}

fn local(link: u32, destination: Ipv4Addr, prefix: u8) -> Route {
    Route {
        destination: destination.into(),
        prefix,
        link,
        gateway: None,
        source: None,
        kind: RouteKind::Local,
        table: Table::Local,
        metric: 0,
    }
}
