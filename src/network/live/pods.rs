//! Pods among themselves, with the host and with the world.

use std::collections::BTreeSet;

use super::*;
use crate::pods::PodNetKind::{Own, Shared};

const PORT: u16 = 8080;

#[test]
fn everybody_reaches_everybody_under_their_own_address() {
    live(async |world| {
        let network = PodNetwork::open(world.config.clone()).await.unwrap();
        let mut places = vec![("host", NODE, Place::host())];
        for (name, kind) in [
            ("own-a", Own),
            ("own-b", Own),
            ("wasm-a", Shared),
            ("wasm-b", Shared),
        ] {
            let pod = network.attach(name, kind, None).await.unwrap();
            places.push((name, ip(&pod), Place::of(&network, &pod)));
        }
        // The host's listener on all addresses must not stand in for the pods'.
        Place::host().serve(([0, 0, 0, 0], PORT), "host");
        for (name, address, place) in &places[1..] {
            place.serve((*address, PORT), name);
        }
        for (client, source, place) in &places {
            for (server, address, _) in &places {
                let said = place.ask((*address, PORT)).await;
                assert_eq!(said, format!("{server} sees {source}"), "{client} asked {server}");
            }
        }
    });
}

#[test]
fn what_is_nobodys_is_refused_at_once() {
    live(async |world| {
        let network = PodNetwork::open(world.config.clone()).await.unwrap();
        let own = network.attach("own", Own, None).await.unwrap();
        let shared = network.attach("wasm", Shared, None).await.unwrap();
        let nobody = world.config.node_cidr.primary().nth(999).unwrap();
        let service = world.config.service_cidr.primary().nth(999).unwrap();
        for place in [
            Place::host(),
            Place::of(&network, &own),
            Place::of(&network, &shared),
        ] {
            assert!(place.refused((nobody, PORT)).await);
            assert!(place.refused((service, 80)).await);
            // A pod's address without a listener.
            assert!(place.refused((ip(&own), PORT)).await);
            assert!(place.refused((ip(&shared), PORT)).await);
        }
    });
}

#[test]
fn pods_go_out_as_the_node() {
    live(async |world| {
        let network = PodNetwork::open(world.config.clone()).await.unwrap();
        Place::at(&world.outside).serve((OUTSIDE, 7000), "outside");
        for (name, kind) in [("own", Own), ("wasm", Shared)] {
            let pod = network.attach(name, kind, None).await.unwrap();
            let said = Place::of(&network, &pod).ask((OUTSIDE, 7000)).await;
            assert_eq!(said, format!("outside sees {NODE}"), "{name}");
            let mut routing = Place::of(&network, &pod).visit(|| Routing::open().unwrap());
            assert_eq!(routing.link("eth0").unwrap().unwrap().mtu, OUTSIDE_MTU);
        }
    });
}

#[test]
fn a_restart_leaves_own_namespaces_alone_and_addresses_where_they_were() {
    live(async |world| {
        let network = PodNetwork::open(world.config.clone()).await.unwrap();
        let own = network.attach("own", Own, None).await.unwrap();
        let shared = network.attach("wasm", Shared, None).await.unwrap();
        let place = Place::of(&network, &own);
        let listener = place.visit(|| TcpListener::bind((ip(&own), PORT))).unwrap();
        let mut before = Place::host().connect((ip(&own), PORT).into()).unwrap();
        let (mut served, _) = listener.accept().unwrap();
        drop(network);

        let network = PodNetwork::open(world.config.clone()).await.unwrap();
        served.write_all(b"still here").unwrap();
        let mut said = [0; 10];
        before.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"still here");
        // Reachable before anybody attached it again.
        Place::host().connect((ip(&own), PORT).into()).unwrap();
        assert_eq!(network.attached().await.unwrap(), ["own", "wasm"]);
        assert_eq!(network.attach("wasm", Shared, None).await.unwrap(), shared);
        assert_eq!(network.attach("own", Own, None).await.unwrap(), own);
        let fresh = network.attach("fresh", Shared, None).await.unwrap();
        assert!(fresh.ip() != own.ip() && fresh.ip() != shared.ip());
    });
}

#[test]
fn after_a_reboot_a_pod_is_wired_again_under_its_address() {
    live(async |world| {
        let network = PodNetwork::open(world.config.clone()).await.unwrap();
        let own = network.attach("own", Own, None).await.unwrap();
        drop(network);
        // What a reboot leaves: plain files where namespaces were mounted.
        let records = world.config.state_dir().join("addresses");
        let kept = std::fs::read(&records).unwrap();
        crate::cleanup(&world.config.instance_id, &world.config.data_dir).unwrap();
        std::fs::create_dir_all(world.config.state_dir()).unwrap();
        std::fs::write(&records, kept).unwrap();
        std::fs::create_dir_all(world.config.netns_dir()).unwrap();
        std::fs::write(own.netns.as_ref().unwrap(), "").unwrap();

        let network = PodNetwork::open(world.config.clone()).await.unwrap();
        assert_eq!(network.attach("own", Own, None).await.unwrap(), own);
        Place::of(&network, &own).serve((ip(&own), PORT), "own");
        assert_eq!(
            Place::host().ask((ip(&own), PORT)).await,
            format!("own sees {NODE}")
        );
    });
}

#[test]
fn detached_pods_leave_nothing_and_free_their_address() {
    live(async |world| {
        let network = PodNetwork::open(world.config.clone()).await.unwrap();
        let mut routing = Routing::open().unwrap();
        let links = |routing: &mut Routing| routing.links().unwrap().len();
        let before = links(&mut routing);
        let pod = network.attach("own", Own, None).await.unwrap();
        assert_eq!(links(&mut routing), before + 1);
        // Nor can it pose as a router or under another's address meanwhile.
        for setting in [
            "net/ipv6/conf/cp0a1b2c3d00002/disable_ipv6",
            "net/ipv4/conf/cp0a1b2c3d00002/rp_filter",
        ] {
            assert!(
                sys::sysctl::get(setting).is_ok_and(|value| value == "1"),
                "{setting}"
            );
        }
        network.detach("own").await.unwrap();
        network.detach("own").await.unwrap();
        assert_eq!(links(&mut routing), before);
        assert!(!pod.netns.as_ref().unwrap().exists());
        // The address is ordinary again: a pod of the other sort can have it.
        let again = network.attach("again", Shared, Some(pod.ip())).await.unwrap();
        assert_eq!(again.ip(), pod.ip());
        Place::of(&network, &again).serve((ip(&again), PORT), "again");
        assert_eq!(
            Place::host().ask((ip(&again), PORT)).await,
            format!("again sees {NODE}")
        );
    });
}

#[test]
fn two_nodes_share_a_machine_and_clean_up_after_themselves_alone() {
    live(async |world| {
        let here = kernel_objects();
        let one = PodNetwork::open(world.config.clone()).await.unwrap();
        let other = PodNetwork::open(world.neighbour()).await.unwrap();
        let pod = one.attach("own", Own, None).await.unwrap();
        let foreign = other.attach("own", Own, None).await.unwrap();
        other.attach("wasm", Shared, None).await.unwrap();
        Place::of(&one, &pod).serve((ip(&pod), PORT), "own");
        let said = Place::of(&other, &foreign).ask((ip(&pod), PORT)).await;
        assert!(said.starts_with("own sees"), "{said}");

        other.teardown_all().await.unwrap();
        assert!(matches!(
            other.attach("late", Own, None).await,
            Err(crate::NetworkError::Closed)
        ));
        assert_eq!(
            Place::host().ask((ip(&pod), PORT)).await,
            format!("own sees {NODE}")
        );
        drop(one);
        let (id, data) = (&world.config.instance_id, &world.config.data_dir);
        crate::cleanup(id, data).unwrap();
        crate::cleanup(id, data).unwrap();
        assert_eq!(kernel_objects(), here);
        assert!(!world.config.netns_dir().exists() && !world.config.state_dir().exists());
    });
}

#[test]
fn what_a_killed_predecessor_left_half_done_is_finished_or_removed() {
    live(async |world| {
        let network = PodNetwork::open(world.config.clone()).await.unwrap();
        let own = network.attach("own", Own, None).await.unwrap();
        drop(network);
        let mut routing = Routing::open().unwrap();
        // A pod whose record was lost, one whose link is gone, and a shared
        // namespace that was never connected.
        let stray = world.config.netns_dir().join("0a1b2c3d-stray");
        let namespace = netns::create(&stray).unwrap();
        let ends = ["cp0a1b2c3d00fff", "eth0"].map(|name| VethEnd {
            name,
            mac: [2, 0, 0, 0, 0, 9],
        });
        routing
            .add_veth(&ends[0], &ends[1], namespace.as_fd(), 1400)
            .unwrap();
        routing.delete_link("cp0a1b2c3d00002").unwrap();
        routing.delete_link("cw0a1b2c3d").unwrap();

        let network = PodNetwork::open(world.config.clone()).await.unwrap();
        assert!(!stray.exists());
        let names: BTreeSet<String> = routing
            .links()
            .unwrap()
            .into_iter()
            .map(|link| link.name)
            .collect();
        assert!(!names.contains("cp0a1b2c3d00fff") && names.contains("cw0a1b2c3d"));
        assert_eq!(network.attach("own", Own, None).await.unwrap(), own);
        Place::of(&network, &own).serve((ip(&own), PORT), "own");
        assert_eq!(
            Place::host().ask((ip(&own), PORT)).await,
            format!("own sees {NODE}")
        );
    });
}

#[test]
fn a_thousand_wasm_pods_cost_no_kernel_objects() {
    live(async |world| {
        let network = PodNetwork::open(world.config.clone()).await.unwrap();
        let before = kernel_objects();
        let start = Instant::now();
        for n in 0..1000 {
            network.attach(&format!("pod-{n}"), Shared, None).await.unwrap();
        }
        println!("1000 Wasm pods attached in {:?}", start.elapsed());
        assert_eq!(kernel_objects(), before);
        let start = Instant::now();
        for n in 0..20 {
            network.attach(&format!("own-{n}"), Own, None).await.unwrap();
        }
        println!("an own namespace takes {:?}", start.elapsed() / 20);
    });
}

/// Links, routes, tables and mounts by name.
fn kernel_objects() -> BTreeSet<String> {
    let mut routing = Routing::open().unwrap();
    let mut objects: BTreeSet<String> = routing
        .links()
        .unwrap()
        .into_iter()
        .map(|link| format!("link {}", link.name))
        .collect();
    let routes = [Table::Main, Table::Local].map(|table| routing.routes(table).unwrap());
    objects.extend(
        routes
            .iter()
            .flatten()
            .map(|r| format!("route {}/{}", r.destination, r.prefix))
            // Every link that is up gets this one by itself, some time after.
            .filter(|route| route != "route fe80::/64"),
    );
    let tables = sys::nft::Nft::open()
        .unwrap()
        .tables(sys::nft::Family::Ip)
        .unwrap();
    objects.extend(tables.into_iter().map(|table| format!("table {table}")));
    let mounts = std::fs::read_to_string("/proc/thread-self/mounts").unwrap();
    objects.extend(mounts.lines().map(|line| format!("mount {line}")));
    objects
}
