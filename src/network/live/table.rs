//! A large table of Services: loading it, and changing one endpoint, from the
//! EndpointSlice in the cache to the element in the kernel.
//!
//! The row for the books:
//! `cargo nextest run --workspace --run-ignored only -E 'test(a_table_of_five_thousand)' --no-capture`

use base::Tasks;
use client::Cache;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use sys::nft::{Family, Nft};

use super::*;
use crate::catalog::Catalog;
use crate::services::Services;

const ENDPOINTS: u32 = 10;
/// A change may take this long, from end to end.
const GOAL: Duration = Duration::from_millis(10);

/// What was measured.
struct Row {
    load: (Duration, Duration),
    /// Of one change, in order: wall and processor time.
    changes: Vec<(Duration, Duration)>,
}

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

/// Processor time of all threads so far.
fn used() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let texts = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok());
    let nanos = texts.filter_map(|text| text.split(' ').next()?.parse::<u64>().ok());
    Duration::from_nanos(nanos.sum())
}

async fn measure(world: &World, services: u32, changes: u32) -> Row {
    let tasks = Tasks::new();
    let slices = Cache::fixed((0..services).flat_map(|n| endpoints(n, 8080)));
    let catalog = Catalog::over(Cache::fixed((0..services).map(service)), slices.clone(), &tasks);
    catalog.synced().await;
    let (wall, cpu) = (Instant::now(), used());
    let balancing = Services::start(&catalog, &Cache::fixed([]), &world.config, &tasks).unwrap();
    balancing.ready().await;
    let load = (wall.elapsed(), used() - cpu);
    let mut nft = Nft::open().unwrap();
    let table = crate::names::services_table(&world.config.instance_id);
    let count = |nft: &mut Nft, set: &str| nft.keys(Family::Ip, &table, set).unwrap().len() as u32;
    assert_eq!(count(&mut nft, "services"), services);
    assert_eq!(count(&mut nft, "s10"), ENDPOINTS * services);
    let mut times = Vec::new();
    for change in 0..changes {
        // All over the table, and another port than before.
        let (n, port) = (change * 7919 % services, 9000 + (change / services) as u16);
        let address = Ipv4Addr::from(0x0a2b_0100 + n).octets();
        let last = (ENDPOINTS - 1).to_ne_bytes();
        let key = [&address[..], &[6, 0, 0, 0, 0, 80, 0, 0], &last].concat();
        let (wall, cpu) = (Instant::now(), used());
        slices.apply(endpoints(n, port).remove(1));
        let wanted = port.to_be_bytes();
        while !nft
            .value(Family::Ip, (&table, "s10"), &key)
            .unwrap()
            .is_some_and(|value| value[4..6] == wanted)
        {
            tokio::task::yield_now().await;
        }
        times.push((wall.elapsed(), used() - cpu));
    }
    tasks.shutdown().await;
    times.sort();
    Row { load, changes: times }
}

#[test]
fn a_changed_endpoint_reaches_the_kernel_alone() {
    live(async |world| {
        let row = measure(&world, 300, 20).await;
        assert_eq!(row.changes.len(), 20);
    });
}

#[test]
#[ignore = "a measurement: it wants a quiet machine"]
fn a_table_of_five_thousand() {
    live(async |world| {
        let row = measure(&world, 5000, 401).await;
        let at = |part: usize| row.changes[row.changes.len() * part / 100];
        let cpu: Duration = row.changes.iter().map(|(_, cpu)| *cpu).sum();
        println!(
            "| services x endpoints | load, wall | load, CPU | change, median | change, p99 | change, CPU |"
        );
        println!("|---|---|---|---|---|---|");
        println!(
            "| 5000 x {ENDPOINTS} | {:.0?} | {:.0?} | {:.2?} | {:.2?} | {:.2?} |",
            row.load.0,
            row.load.1,
            at(50).0,
            at(99).0,
            cpu / row.changes.len() as u32
        );
        assert!(at(50).0 < GOAL, "{:?}", at(50));
    });
}
