//! A table of many Services: a change of one endpoint, from the EndpointSlice
//! in the cache to the element in the kernel.

use base::Tasks;
use client::Cache;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use sys::nft::{Family, Nft};

use super::*;
use crate::catalog::Catalog;
use crate::services::Services;

const SERVICES: u32 = 300;
const ENDPOINTS: u32 = 10;
const CHANGES: u32 = 20;

fn service(n: u32) -> Service {
    let ip = Ipv4Addr::from(0x0a2b_0100 + n).to_string();
    fixtures::service("x", &format!("s{n}"), &ip, &[("", 80)])
}

/// The last endpoint has this port, the others 8080.
fn endpoints(n: u32, port: u16) -> Vec<EndpointSlice> {
    let ip = |e| Ipv4Addr::from(0x0a40_0000 + n * ENDPOINTS + e).to_string();
    let name = format!("s{n}");
    let first: Vec<String> = (0..ENDPOINTS - 1).map(ip).collect();
    let first: Vec<&str> = first.iter().map(String::as_str).collect();
    let slice = |suffix: &str, ips: &[&str], port: u16| {
        fixtures::slice("x", &name, &format!("{name}-{suffix}"), ips, &[("", port.into())])
    };
    vec![slice("a", &first, 8080), slice("b", &[&ip(ENDPOINTS - 1)], port)]
}

#[test]
fn a_changed_endpoint_reaches_the_kernel_alone() {
    live(async |world| {
        let tasks = Tasks::new();
        let slices = Cache::fixed((0..SERVICES).flat_map(|n| endpoints(n, 8080)));
        let catalog = Catalog::over(Cache::fixed((0..SERVICES).map(service)), slices.clone(), &tasks);
        catalog.synced().await;
        let balancing = Services::start(&catalog, &Cache::fixed([]), &world.config, &tasks).unwrap();
        balancing.ready().await;
        let mut nft = Nft::open().unwrap();
        let table = crate::names::services_table(&world.config.instance_id);
        let count = |nft: &mut Nft, set: &str| nft.keys(Family::Ip, &table, set).unwrap().len() as u32;
        assert_eq!(count(&mut nft, "services"), SERVICES);
        assert_eq!(count(&mut nft, "s10"), ENDPOINTS * SERVICES);
        for change in 0..CHANGES {
            // All over the table, and another port than before.
            let (n, port) = (change * 7919 % SERVICES, 9000 + change as u16);
            slices.apply(endpoints(n, port).remove(1));
            let (wanted, key) = (port.to_be_bytes(), last_of(n));
            let arrived = |value: Option<Vec<u8>>| value.is_some_and(|value| value[4..6] == wanted);
            while !arrived(nft.value(Family::Ip, (&table, "s10"), &key).unwrap()) {
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(count(&mut nft, "services"), SERVICES);
        assert_eq!(count(&mut nft, "s10"), ENDPOINTS * SERVICES);
        tasks.shutdown().await;
    });
}

/// The key of a Service's last endpoint in the kernel's map.
fn last_of(n: u32) -> Vec<u8> {
    let address = Ipv4Addr::from(0x0a2b_0100 + n).octets();
    let last = (ENDPOINTS - 1).to_ne_bytes();
    [&address[..], &[6, 0, 0, 0, 0, 80, 0, 0], &last].concat()
}
