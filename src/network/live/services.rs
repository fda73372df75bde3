//! Services and DNS through the kernel and at guests' sockets.

use std::collections::BTreeMap;

use base::Tasks;
use client::Cache;
use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RData, RecordType};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::*;
use crate::catalog::Catalog;
use crate::pods::PodNetKind::{Own, Shared};
use crate::services::Services;
use crate::{Dns, Protocol};

const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 43, 0, 7);
const NODE_PORT: u16 = 30080;

/// A cluster on a node: its objects and what follows them.
struct Cluster {
    services: Cache<Service>,
    slices: Cache<EndpointSlice>,
    catalog: Catalog,
    tasks: Tasks,
    network: PodNetwork,
    balancing: Services,
}

impl Cluster {
    async fn start(world: &World) -> Cluster {
        let tasks = Tasks::new();
        let (services, slices) = (Cache::fixed([web()]), Cache::fixed([]));
        let catalog = Catalog::over(services.clone(), slices.clone(), &tasks);
        let network = PodNetwork::open(world.config.clone()).await.unwrap();
        let balancing = Services::start(&catalog, &Cache::fixed([]), &world.config, &tasks).unwrap();
        balancing.ready().await;
        Cluster {
            services,
            slices,
            catalog,
            tasks,
            network,
            balancing,
        }
    }

    /// A pod that answers with its name on port 8080.
    async fn pod(&self, name: &str, kind: crate::PodNetKind) -> (PodLink, Place) {
        let pod = self.network.attach(name, kind, None).await.unwrap();
        let place = Place::of(&self.network, &pod);
        place.serve((ip(&pod), 8080), name);
        (pod, place)
    }

    /// Puts these pods, and no others, behind the Service.
    async fn endpoints(&self, pods: &[&PodLink]) {
        let ips: Vec<String> = pods.iter().map(|pod| pod.ip().to_string()).collect();
        let ips: Vec<&str> = ips.iter().map(String::as_str).collect();
        self.slices
            .apply(fixtures::slice("shop", "web", "web-1", &ips, &[("http", 8080)]));
        self.settle().await;
    }

    /// Waits until what the caches were told has reached the kernel.
    async fn settle(&self) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    /// How often each server answered `count` clients.
    async fn spread(&self, place: &Place, to: (Ipv4Addr, u16), count: usize) -> BTreeMap<String, usize> {
        let mut seen = BTreeMap::new();
        for _ in 0..count {
            let said = place.ask(to).await;
            let server = said.split(' ').next().unwrap_or_default().to_string();
            *seen.entry(server).or_default() += 1;
        }
        seen
    }
}

fn web() -> Service {
    let mut service = fixtures::service("shop", "web", &SERVICE.to_string(), &[("http", 80)]);
    service.spec.as_mut().unwrap().ports.as_mut().unwrap()[0].node_port = Some(NODE_PORT.into());
    service
}

#[test]
fn every_ready_endpoint_gets_its_share_from_host_and_pods() {
    live(async |world| {
        let cluster = Cluster::start(&world).await;
        let (a, in_a) = cluster.pod("own-a", Own).await;
        let (b, _) = cluster.pod("own-b", Own).await;
        let (c, in_c) = cluster.pod("wasm-c", Shared).await;
        let (d, _) = cluster.pod("wasm-d", Shared).await;
        cluster.endpoints(&[&a, &b, &c, &d]).await;
        // In the shared namespace this is what a socket that nobody balanced does.
        for place in [Place::host(), in_a.clone(), in_c] {
            let spread = cluster.spread(&place, (SERVICE, 80), 80).await;
            assert_eq!(spread.len(), 4, "{spread:?}");
            assert!(spread.values().all(|count| *count >= 5), "{spread:?}");
        }
        let outside = Place::at(&world.outside);
        assert_eq!(cluster.spread(&outside, (NODE, NODE_PORT), 80).await.len(), 4);
        assert_eq!(cluster.spread(&in_a, (NODE, NODE_PORT), 80).await.len(), 4);
        // A pod that is not ready is out.
        cluster.endpoints(&[&b, &c]).await;
        let spread = cluster.spread(&Place::host(), (SERVICE, 80), 40).await;
        assert_eq!(spread.keys().collect::<Vec<_>>(), ["own-b", "wasm-c"]);
    });
}

#[test]
fn sources_stay_where_they_can() {
    live(async |world| {
        let cluster = Cluster::start(&world).await;
        let (a, in_a) = cluster.pod("own-a", Own).await;
        let (b, in_b) = cluster.pod("own-b", Own).await;
        let (_, in_c) = cluster.pod("wasm-c", Shared).await;
        cluster.endpoints(&[&a]).await;
        assert_eq!(in_b.ask((SERVICE, 80)).await, format!("own-a sees {}", b.ip()));
        assert_eq!(
            Place::host().ask((SERVICE, 80)).await,
            format!("own-a sees {NODE}")
        );
        assert_eq!(
            Place::at(&world.outside).ask((NODE, NODE_PORT)).await,
            format!("own-a sees {OUTSIDE}")
        );
        // Hairpin: a pod must not get its own address as its peer's.
        assert_eq!(in_a.ask((SERVICE, 80)).await, format!("own-a sees {NODE}"));
        let picked = cluster
            .balancing
            .balancer()
            .pick(NODE.into(), (SERVICE, 80).into(), Protocol::Tcp);
        assert_eq!(picked, (a.ip(), 8080).into());
        assert!(in_c.ask(picked).await.starts_with("own-a sees 10.64."));
    });
}

#[test]
fn without_endpoints_clients_hear_it_at_once() {
    live(async |world| {
        let cluster = Cluster::start(&world).await;
        let (a, in_a) = cluster.pod("own-a", Own).await;
        let (_, in_c) = cluster.pod("wasm-c", Shared).await;
        // A process of the host on that port must not answer in the Service's place.
        Place::host().serve(([0, 0, 0, 0], NODE_PORT), "host");
        let everywhere = [Place::host(), in_a, in_c];
        for full in [false, true, false] {
            if full {
                cluster.endpoints(&[&a]).await;
            } else {
                cluster.endpoints(&[]).await;
            }
            for place in &everywhere {
                assert_eq!(place.refused((SERVICE, 80)).await, !full);
                assert!(place.refused((SERVICE, 81)).await);
            }
            assert_eq!(Place::at(&world.outside).refused((NODE, NODE_PORT)).await, !full);
        }
        cluster.services.remove("shop", "web");
        cluster.settle().await;
        assert!(Place::host().refused((SERVICE, 80)).await);
        assert_eq!(
            Place::at(&world.outside).ask((NODE, NODE_PORT)).await,
            format!("host sees {OUTSIDE}")
        );
    });
}

#[test]
fn udp_clients_leave_an_endpoint_that_went() {
    live(async |world| {
        let cluster = Cluster::start(&world).await;
        let mut service = fixtures::service("shop", "echo", "10.43.0.8", &[("echo", 7)]);
        service.spec.as_mut().unwrap().ports.as_mut().unwrap()[0].protocol = Some("UDP".into());
        cluster.services.apply(service);
        let point_at = async |pod: &PodLink| {
            let mut slice =
                fixtures::slice("shop", "echo", "echo-1", &[&pod.ip().to_string()], &[("echo", 7)]);
            slice.ports.as_mut().unwrap()[0].protocol = Some("UDP".into());
            cluster.slices.apply(slice);
            cluster.settle().await;
        };
        let (a, in_a) = cluster.pod("own-a", Own).await;
        let (b, in_b) = cluster.pod("wasm-b", Shared).await;
        for (pod, place, name) in [(&a, &in_a, "a"), (&b, &in_b, "b")] {
            let socket = place.visit(|| std::net::UdpSocket::bind((pod.ip(), 7)).unwrap());
            std::thread::spawn(move || {
                let mut buffer = [0; 16];
                while let Ok((_, client)) = socket.recv_from(&mut buffer) {
                    let _ = socket.send_to(name.as_bytes(), client);
                }
            });
        }
        let client = std::net::UdpSocket::bind((NODE, 4000)).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        client.connect("10.43.0.8:7").unwrap();
        for (pod, name) in [(&a, b"a"), (&b, b"b"), (&a, b"a")] {
            point_at(pod).await;
            for _ in 0..3 {
                client.send(b"who?").unwrap();
                let mut said = [0; 1];
                client.recv(&mut said).unwrap();
                assert_eq!(&said, name);
            }
        }
    });
}

#[test]
fn the_api_is_reached_at_the_first_service_address() {
    live(async |world| {
        let cluster = Cluster::start(&world).await;
        let first = Ipv4Addr::new(10, 43, 0, 1);
        cluster.services.apply(fixtures::service(
            "default",
            "kubernetes",
            "10.43.0.1",
            &[("https", 443)],
        ));
        let slice = fixtures::slice(
            "default",
            "kubernetes",
            "kubernetes",
            &["192.0.2.2"],
            &[("https", 6443)],
        );
        cluster.slices.apply(slice);
        cluster.settle().await;
        Place::host().serve((NODE, 6443), "api");
        let (a, in_a) = cluster.pod("own-a", Own).await;
        let (c, in_c) = cluster.pod("wasm-c", Shared).await;
        assert_eq!(in_a.ask((first, 443)).await, format!("api sees {}", a.ip()));
        assert_eq!(in_c.ask((first, 443)).await, format!("api sees {}", c.ip()));
        assert_eq!(Place::host().ask((first, 443)).await, format!("api sees {NODE}"));
    });
}

#[test]
fn a_successor_takes_over_without_a_gap() {
    live(async |world| {
        let cluster = Cluster::start(&world).await;
        let (a, _) = cluster.pod("own-a", Own).await;
        cluster.endpoints(&[&a]).await;
        cluster.tasks.shutdown().await;
        // While nobody is there, the kernel goes on.
        assert_eq!(
            Place::host().ask((SERVICE, 80)).await,
            format!("own-a sees {NODE}")
        );
        let tasks = Tasks::new();
        let catalog = Catalog::over(cluster.services.clone(), cluster.slices.clone(), &tasks);
        let successor = Services::start(&catalog, &Cache::fixed([]), &world.config, &tasks).unwrap();
        successor.ready().await;
        assert_eq!(
            Place::host().ask((SERVICE, 80)).await,
            format!("own-a sees {NODE}")
        );
        let (b, _) = cluster.pod("own-b", Own).await;
        cluster.endpoints(&[&b]).await;
        assert_eq!(
            Place::host().ask((SERVICE, 80)).await,
            format!("own-b sees {NODE}")
        );
        crate::cleanup(&world.config.instance_id, &world.config.data_dir).unwrap();
        assert!(
            sys::nft::Nft::open()
                .unwrap()
                .tables(sys::nft::Family::Ip)
                .unwrap()
                .is_empty()
        );
    });
}

#[test]
fn cluster_dns_answers_host_and_pods() {
    live(async |world| {
        let cluster = Cluster::start(&world).await;
        let _dns = Dns::start(&cluster.catalog, &world.config, &cluster.tasks)
            .await
            .unwrap();
        let (_, in_a) = cluster.pod("own-a", Own).await;
        let (_, in_c) = cluster.pod("wasm-c", Shared).await;
        for place in [Place::host(), in_a, in_c] {
            let answer = resolve(&place, world.config.dns_ip, "web.shop.svc.cluster.local.").await;
            assert_eq!(answer, [SERVICE]);
        }
    });
}

/// What a name server says by UDP.
async fn resolve(place: &Place, server: Ipv4Addr, name: &str) -> Vec<Ipv4Addr> {
    let mut message = Message::query();
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    let source = place.source.unwrap_or(Ipv4Addr::UNSPECIFIED);
    let socket = place.visit(|| std::net::UdpSocket::bind((source, 0)).unwrap());
    socket.set_nonblocking(true).unwrap();
    let socket = place.visit(|| tokio::net::UdpSocket::from_std(socket).unwrap());
    socket.connect((server, 53)).await.unwrap();
    socket.send(&message.to_vec().unwrap()).await.unwrap();
    let mut buffer = [0; 1024];
    let received = tokio::time::timeout(Duration::from_secs(2), socket.recv(&mut buffer)).await;
    let answer = Message::from_vec(&buffer[..received.unwrap().unwrap()]).unwrap();
    let address = |data: &RData| match data {
        RData::A(a) => Some(a.0),
        _ => None,
    };
    answer
        .answers
        .iter()
        .filter_map(|record| address(&record.data))
        .collect()
}
