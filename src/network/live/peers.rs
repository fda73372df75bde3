//! Ways to other nodes' pods, in the kernel and after a start without a server.

use sys::link::{Route, Routing, Table};

use super::{OUTSIDE, OUTSIDE_MTU, World, live};
use crate::names;
use crate::peers::{Peer, PodRouting};
use crate::pods::PodNetwork;

fn peer(address: [u8; 4]) -> Peer {
    Peer {
        name: "other".into(),
        ranges: "10.64.16.0/20".parse().unwrap(),
        addresses: vec![address.into()],
        routing: PodRouting::Auto,
    }
}

/// The routes to the peer's pods.
fn ways(world: &World) -> Vec<Route> {
    let mut routes = Routing::open().unwrap().routes(Table::Main).unwrap();
    routes.retain(|route| route.metric == names::route_metric(&world.config.instance_id));
    routes
}

#[test]
fn a_route_comes_back_without_a_server_and_goes_with_the_node() {
    live(async |world| {
        let network = PodNetwork::open(world.config.clone()).await.unwrap();
        network.connect(vec![peer(OUTSIDE.octets())]).await.unwrap();
        let found = ways(&world);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].gateway, Some(OUTSIDE.into()));
        drop(network);
        // As after a reboot: the kernel has forgotten, the disk has not.
        Routing::open().unwrap().delete_route(&found[0]).unwrap();
        let network = PodNetwork::open(world.config.clone()).await.unwrap();
        assert_eq!(ways(&world), found);
        network.connect(Vec::new()).await.unwrap();
        assert!(ways(&world).is_empty());
    });
}

#[test]
fn a_node_elsewhere_is_reached_by_vxlan_until_it_goes() {
    live(async |world| {
        let network = PodNetwork::open(world.config.clone()).await.unwrap();
        network.connect(vec![peer([198, 51, 100, 7])]).await.unwrap();
        let mut routing = Routing::open().unwrap();
        let name = names::overlay_link(&world.config.instance_id);
        let link = routing.link(&name).unwrap().unwrap();
        assert_eq!(link.mtu, OUTSIDE_MTU - 50);
        assert_eq!(ways(&world)[0].link, link.index);
        let forwards = routing.forwards(link.index, 0).unwrap();
        assert_eq!(forwards.len(), 1);
        assert_eq!(forwards[0].mac, [0x0e, 0xc0, 10, 64, 16, 0]);
        assert_eq!(routing.neighbours(link.index).unwrap().len(), 1);
        // Pods' links shrink with it and grow again.
        let shared = names::shared_link(&world.config.instance_id);
        let mtu = |routing: &mut Routing| routing.link(&shared).unwrap().unwrap().mtu;
        assert_eq!(mtu(&mut routing), OUTSIDE_MTU - 50);
        network.connect(Vec::new()).await.unwrap();
        assert_eq!(routing.link(&name).unwrap(), None);
        assert_eq!(mtu(&mut routing), OUTSIDE_MTU);
        network.connect(vec![peer([198, 51, 100, 7])]).await.unwrap();
        network.teardown_all().await.unwrap();
        assert!(ways(&world).is_empty());
        assert_eq!(routing.link(&name).unwrap(), None);
    });
}
