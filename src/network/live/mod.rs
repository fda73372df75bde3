//! The whole thing against the real kernel, as root in network and mount
//! namespaces that end with the test.
//!
//! The world of each test: a node at 192.0.2.2, and outside of it a machine
//! at 192.0.2.1 that the node reaches by its device `up0`.

mod peers;
mod pods;
mod policies;
mod services;
mod table;

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use sys::link::{Address, Route, RouteKind, Routing, Scope, Table, VethEnd};
use sys::netns;

use crate::config::NetworkConfig;
use crate::fixtures;
use crate::pods::{PodLink, PodNetwork};

const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const NODE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const OUTSIDE_MTU: u32 = 1400;

/// A node to experiment with.
struct World {
    dir: tempfile::TempDir,
    config: NetworkConfig,
    /// The namespace of the machine outside.
    outside: PathBuf,
}

/// Runs `test` in a world of its own. Without the rights of root the test is
/// skipped and says so; with `CI=true` that is a failure.
fn live<F: Future<Output = ()>>(test: impl FnOnce(World) -> F + Send) {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(test(World::new()));
        // Servers in threads may still be waiting for clients.
        runtime.shutdown_background();
    };
    if let Err(e) = netns::isolated(run) {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "needs root in CI: {e}"
        );
        eprintln!("SKIPPED, needs root: {e}");
    }
}

impl World {
    fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        let namespace = netns::create(&outside).unwrap();
        let up0 = VethEnd {
            name: "up0",
            mac: [2, 0, 0, 0, 0, 2],
        };
        let out0 = VethEnd {
            name: "out0",
            mac: [2, 0, 0, 0, 0, 1],
        };
        Routing::open()
            .unwrap()
            .add_veth(&up0, &out0, namespace.as_fd(), OUTSIDE_MTU)
            .unwrap();
        plug("up0", NODE);
        netns::with(&namespace, || plug("out0", OUTSIDE)).unwrap();
        let config = fixtures::config(&dir.path().join("data"));
        World { dir, config, outside }
    }

    /// A second node's configuration on the same machine.
    fn neighbour(&self) -> NetworkConfig {
        NetworkConfig {
            instance_id: "ffffffff".into(),
            data_dir: self.dir.path().join("other"),
            pod_cidr: "10.128.0.0/10".parse().unwrap(),
            node_cidr: "10.128.0.0/20".parse().unwrap(),
            service_cidr: "10.44.0.0/16".parse().unwrap(),
            dns_ip: [10, 44, 0, 10].into(),
            ..self.config.clone()
        }
    }
}

fn plug(name: &str, address: Ipv4Addr) {
    let mut routing = Routing::open().unwrap();
    let link = routing.link(name).unwrap().unwrap().index;
    routing
        .add_address(
            &Address {
                link,
                address: address.into(),
                prefix: 24,
            },
            Scope::Universe,
        )
        .unwrap();
    routing.set_up(netns::LOOPBACK).unwrap();
    routing.set_up(link).unwrap();
    // An address that was added by hand brings this route with it only if it
    // is given with its broadcast address; nobody here relies on that.
    let route = Route {
        destination: [192, 0, 2, 0].into(),
        prefix: 24,
        link,
        gateway: None,
        source: Some(address.into()),
        kind: RouteKind::Unicast,
        table: Table::Main,
        metric: 0,
    };
    routing.replace_route(&route).unwrap();
}

/// Where a socket is made and what it is bound to.
#[derive(Clone)]
struct Place {
    netns: Option<PathBuf>,
    source: Option<Ipv4Addr>,
}

impl Place {
    fn host() -> Place {
        Place {
            netns: None,
            source: None,
        }
    }

    fn at(netns: &Path) -> Place {
        Place {
            netns: Some(netns.to_path_buf()),
            source: None,
        }
    }

    /// A pod; in the shared namespace its sockets are bound to its address,
    /// as the Wasm host does it.
    fn of(network: &PodNetwork, pod: &PodLink) -> Place {
        match &pod.netns {
            Some(own) => Place::at(own),
            None => Place {
                netns: Some(network.shared_netns().to_path_buf()),
                source: Some(ip(pod)),
            },
        }
    }

    fn visit<R>(&self, work: impl FnOnce() -> R) -> R {
        match &self.netns {
            Some(path) => netns::with(netns::open(path).unwrap(), work).unwrap(),
            None => work(),
        }
    }

    /// A server that tells every client its own name and the client's address.
    fn serve(&self, address: impl Into<SocketAddr>, name: &str) {
        let address = address.into();
        let listener = self.visit(|| TcpListener::bind(address)).unwrap();
        let name = name.to_string();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut stream = stream;
                let peer = stream.peer_addr().map(|a| a.ip().to_string()).unwrap_or_default();
                let _ = stream.write_all(format!("{name} sees {peer}").as_bytes());
            }
        });
    }

    fn connect(&self, to: SocketAddr) -> io::Result<std::net::TcpStream> {
        let socket = self.visit(|| Socket::new(Domain::IPV4, Type::STREAM, None))?;
        if let Some(source) = self.source {
            socket.bind(&SocketAddr::from((source, 0)).into())?;
        }
        socket.connect_timeout(&to.into(), Duration::from_secs(2))?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        Ok(socket.into())
    }

    /// What a server says, or how the connection failed.
    async fn ask(&self, to: impl Into<SocketAddr>) -> String {
        let (place, to) = (self.clone(), to.into());
        let talk = move || {
            let mut said = String::new();
            place.connect(to)?.read_to_string(&mut said)?;
            Ok(said)
        };
        let said: io::Result<String> = tokio::task::spawn_blocking(talk).await.unwrap();
        said.unwrap_or_else(|e| format!("{:?}", e.kind()))
    }

    /// Like [`Place::ask`], but a refusal must come at once.
    async fn refused(&self, to: impl Into<SocketAddr>) -> bool {
        let start = Instant::now();
        self.ask(to).await == "ConnectionRefused" && start.elapsed() < Duration::from_secs(1)
    }
}

fn ip(pod: &PodLink) -> Ipv4Addr {
    match pod.ip() {
        std::net::IpAddr::V4(ip) => ip,
        std::net::IpAddr::V6(_) => unreachable!("IPv4 only"),
    }
}
