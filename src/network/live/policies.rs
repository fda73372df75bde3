//! What a Service may ask for beyond "anybody": the same endpoint again, an
//! endpoint here, certain clients only; ports of the node for one pod; IPv6.

use std::collections::BTreeSet;

use base::Tasks;
use client::Cache;
use k8s_openapi::api::core::v1::{
    ClientIPConfig, LoadBalancerIngress, LoadBalancerStatus, Service, ServiceSpec, ServiceStatus,
    SessionAffinityConfig,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::*;
use crate::HostPort;
use crate::catalog::Catalog;
use crate::plan::Protocol;
use crate::pods::PodNetKind::{Own, Shared};
use crate::services::Services;

const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 43, 0, 7);
const BALANCED: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);

/// A Service `web` whose spec was changed, with pods behind it.
struct Shop {
    slices: Cache<EndpointSlice>,
    services: Cache<Service>,
    balancing: Services,
    network: PodNetwork,
    _tasks: Tasks,
}

impl Shop {
    async fn start(world: &World, change: impl FnOnce(&mut ServiceSpec)) -> Shop {
        let tasks = Tasks::new();
        let mut web = fixtures::service("shop", "web", &SERVICE.to_string(), &[("http", 80)]);
        let spec = web.spec.as_mut().unwrap();
        spec.ports.as_mut().unwrap()[0].node_port = Some(30080);
        change(spec);
        let ingress = LoadBalancerIngress {
            ip: Some(BALANCED.to_string()),
            ..LoadBalancerIngress::default()
        };
        web.status = Some(ServiceStatus {
            load_balancer: Some(LoadBalancerStatus {
                ingress: Some(vec![ingress]),
            }),
            ..ServiceStatus::default()
        });
        let (services, slices) = (Cache::fixed([web]), Cache::fixed([]));
        let catalog = Catalog::over(services.clone(), slices.clone(), &tasks);
        let network = PodNetwork::open(world.config.clone()).await.unwrap();
        let balancing = Services::start(&catalog, &Cache::fixed([]), &world.config, &tasks).unwrap();
        balancing.ready().await;
        // Packets for the balancer's address come to the node, as if it announced it.
        let route = Route {
            destination: BALANCED.into(),
            prefix: 32,
            link: 0,
            gateway: Some(NODE.into()),
            source: None,
            kind: RouteKind::Unicast,
            table: Table::Main,
            metric: 0,
        };
        // The pool is of the network that both are on.
        let mut routing = Routing::open().unwrap();
        let link = routing.link("up0").unwrap().unwrap().index;
        let on_link = Route {
            link,
            gateway: None,
            ..route
        };
        routing.replace_route(&on_link).unwrap();
        netns::with(netns::open(&world.outside).unwrap(), || {
            let mut routing = Routing::open().unwrap();
            let link = routing.link("out0").unwrap().unwrap().index;
            routing.replace_route(&Route { link, ..route }).unwrap();
        })
        .unwrap();
        Shop {
            slices,
            services,
            balancing,
            network,
            _tasks: tasks,
        }
    }

    async fn pod(&self, name: &str, kind: crate::PodNetKind) -> (PodLink, Place) {
        let pod = self.network.attach(name, kind, None).await.unwrap();
        let place = Place::of(&self.network, &pod);
        place.serve((ip(&pod), 8080), name);
        (pod, place)
    }

    /// Puts these behind the Service, each on the node named with it.
    async fn endpoints(&self, pods: &[(&PodLink, &str)]) {
        let ips: Vec<String> = pods.iter().map(|(pod, _)| ip(pod).to_string()).collect();
        let ips: Vec<&str> = ips.iter().map(String::as_str).collect();
        let mut slice = fixtures::slice("shop", "web", "web-1", &ips, &[("http", 8080)]);
        for (endpoint, (_, node)) in slice.endpoints.iter_mut().flatten().zip(pods) {
            endpoint.node_name = Some((*node).into());
        }
        self.slices.apply(slice);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Who answered these many connections.
async fn answers(place: &Place, to: (Ipv4Addr, u16), count: usize) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    for _ in 0..count {
        seen.insert(
            place
                .ask(to)
                .await
                .split(' ')
                .next()
                .unwrap_or_default()
                .to_string(),
        );
    }
    seen
}

#[test]
fn a_sticky_client_meets_the_same_endpoint_until_it_goes() {
    live(async |world| {
        let shop = Shop::start(&world, |spec| {
            spec.session_affinity = Some("ClientIP".into());
            let client = ClientIPConfig {
                timeout_seconds: Some(2),
            };
            spec.session_affinity_config = Some(SessionAffinityConfig {
                client_ip: Some(client),
            });
        })
        .await;
        let mut pods = Vec::new();
        for name in ["own-a", "own-b", "own-c", "own-d"] {
            pods.push((name, shop.pod(name, Own).await.0));
        }
        let all: Vec<(&PodLink, &str)> = pods.iter().map(|(_, pod)| (pod, "here")).collect();
        shop.endpoints(&all).await;
        let outside = Place::at(&world.outside);
        let kept = answers(&outside, (NODE, 30080), 20).await;
        assert_eq!(kept.len(), 1, "{kept:?}");
        assert_eq!(answers(&Place::host(), (SERVICE, 80), 20).await.len(), 1);
        // Another number of endpoints changes nothing for who has one.
        let mine = kept.first().unwrap().clone();
        let others: Vec<(&PodLink, &str)> = pods
            .iter()
            .skip_while(|(name, _)| *name != mine)
            .map(|(_, pod)| (pod, "here"))
            .collect();
        shop.endpoints(&others).await;
        assert_eq!(answers(&outside, (NODE, 30080), 10).await, kept);
        let without: Vec<(&PodLink, &str)> = pods
            .iter()
            .filter(|(name, _)| *name != mine)
            .map(|(_, pod)| (pod, "here"))
            .collect();
        shop.endpoints(&without).await;
        let next = answers(&outside, (NODE, 30080), 20).await;
        assert!(next.len() == 1 && next != kept, "{next:?}");
        // The new one is remembered like the first, also after that came back.
        shop.endpoints(&all).await;
        assert_eq!(answers(&outside, (NODE, 30080), 20).await, next);
        // After a silence anybody may be next.
        let mut seen = next.clone();
        for _ in 0..12 {
            tokio::time::sleep(Duration::from_millis(2200)).await;
            seen.extend(answers(&outside, (NODE, 30080), 1).await);
            if seen.len() > 1 {
                return;
            }
        }
        panic!("always {seen:?}");
    });
}

#[test]
fn outside_stays_on_the_node_and_inside_does_not_mind() {
    live(async |world| {
        let shop = Shop::start(&world, |spec| {
            spec.type_ = Some("LoadBalancer".into());
            spec.external_traffic_policy = Some("Local".into());
        })
        .await;
        let (a, in_a) = shop.pod("own-a", Own).await;
        let (b, _) = shop.pod("own-b", Own).await;
        shop.endpoints(&[(&a, "here"), (&b, "there")]).await;
        let outside = Place::at(&world.outside);
        let only = |name: &str| BTreeSet::from([name.to_string()]);
        for to in [(NODE, 30080), (BALANCED, 80)] {
            assert_eq!(answers(&outside, to, 20).await, only("own-a"));
            assert_eq!(answers(&in_a, to, 30).await.len(), 2, "{to:?}");
            assert_eq!(answers(&Place::host(), (NODE, 30080), 30).await.len(), 2);
        }
        assert_eq!(outside.ask((BALANCED, 80)).await, format!("own-a sees {OUTSIDE}"));
        // Somebody answers, but not here: silence, as Kubernetes has it. Nobody at all: told at once.
        shop.endpoints(&[(&b, "there")]).await;
        assert!(!outside.refused((BALANCED, 80)).await);
        shop.endpoints(&[]).await;
        for to in [(NODE, 30080), (BALANCED, 80)] {
            assert!(outside.refused(to).await, "{to:?}");
        }
    });
}

#[test]
fn only_the_clients_that_were_named_get_in() {
    live(async |world| {
        let shop = Shop::start(&world, |spec| {
            spec.type_ = Some("LoadBalancer".into());
            spec.load_balancer_source_ranges = Some(vec!["198.51.100.0/24".into()]);
        })
        .await;
        let (a, _) = shop.pod("own-a", Own).await;
        shop.endpoints(&[(&a, "here")]).await;
        let outside = Place::at(&world.outside);
        assert_eq!(outside.ask((NODE, 30080)).await, format!("own-a sees {OUTSIDE}"));
        assert!(!outside.ask((BALANCED, 80)).await.starts_with("own-a"));
        let mut web = (*shop.services.get("shop", "web").unwrap()).clone();
        let ranges = vec!["198.51.100.0/24".into(), format!("{OUTSIDE}/32")];
        web.spec.as_mut().unwrap().load_balancer_source_ranges = Some(ranges);
        shop.services.apply(web.clone());
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(outside.ask((BALANCED, 80)).await, format!("own-a sees {OUTSIDE}"));
        web.spec.as_mut().unwrap().load_balancer_source_ranges = None;
        shop.services.apply(web);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(outside.ask((BALANCED, 80)).await, format!("own-a sees {OUTSIDE}"));
    });
}

#[test]
fn a_port_of_the_node_leads_to_its_pod() {
    live(async |world| {
        let shop = Shop::start(&world, |_| {}).await;
        let outside = Place::at(&world.outside);
        for (name, kind, port) in [("own-a", Own, 8001), ("wasm-b", Shared, 8002)] {
            let (pod, place) = shop.pod(name, kind).await;
            let host_port = |address: Option<Ipv4Addr>| HostPort {
                address: address.map(Into::into),
                protocol: Protocol::Tcp,
                port,
                target: (ip(&pod), 8080).into(),
            };
            for address in [None, Some(NODE)] {
                shop.balancing.set_host_ports(name, vec![host_port(address)]);
                tokio::time::sleep(Duration::from_millis(50)).await;
                assert_eq!(outside.ask((NODE, port)).await, format!("{name} sees {OUTSIDE}"));
                assert!(Place::host().ask((NODE, port)).await.starts_with(name));
                assert!(place.ask((NODE, port)).await.starts_with(name), "its own port");
            }
            shop.balancing.set_host_ports(name, vec![]);
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert!(outside.refused((NODE, port)).await);
        }
    });
}

#[test]
fn the_other_family_has_a_table_of_the_same_kind() {
    live(async |world| {
        let mut config = world.config.clone();
        config.pod_cidr = "10.64.0.0/10,fd64::/64".parse().unwrap();
        config.node_cidr = "10.64.0.0/20,fd64::/112".parse().unwrap();
        config.service_cidr = "10.43.0.0/16,fd43::/112".parse().unwrap();
        let here: std::net::Ipv6Addr = "fd02::2".parse().unwrap();
        let mut routing = Routing::open().unwrap();
        let link = routing.link("up0").unwrap().unwrap().index;
        let address = Address {
            link: netns::LOOPBACK,
            address: here.into(),
            prefix: 128,
        };
        routing.add_address(&address, Scope::Universe).unwrap();
        let route = Route {
            destination: "fd43::".parse().unwrap(),
            prefix: 112,
            link,
            gateway: None,
            source: None,
            kind: RouteKind::Unicast,
            table: Table::Main,
            metric: 0,
        };
        routing.replace_route(&route).unwrap();
        let mut web = fixtures::service("shop", "web", "fd43::7", &[("http", 80)]);
        let spec = web.spec.as_mut().unwrap();
        spec.session_affinity = Some("ClientIP".into());
        let mut slice = fixtures::slice("shop", "web", "web-6", &["fd02::2"], &[("http", 8080)]);
        slice.address_type = "IPv6".into();
        let tasks = Tasks::new();
        let slices = Cache::fixed([slice.clone()]);
        let catalog = Catalog::over(Cache::fixed([web]), slices.clone(), &tasks);
        let balancing = Services::start(&catalog, &Cache::fixed([]), &config, &tasks).unwrap();
        balancing.ready().await;
        let listener = TcpListener::bind((here, 8080)).unwrap();
        let connect = || {
            let to = SocketAddr::from(("fd43::7".parse::<std::net::Ipv6Addr>().unwrap(), 80));
            std::net::TcpStream::connect_timeout(&to, Duration::from_secs(2))
        };
        for _ in 0..3 {
            connect().unwrap();
            listener.accept().unwrap();
        }
        slice.endpoints = None;
        slices.apply(slice);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(connect().unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        tasks.shutdown().await;
    });
}
