//! Measures a store: time to open, memory, writes a second.
//!
//! `cargo run --example store-bench -- DIR [WRITERS] [SECONDS]`

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use coracle_store::{Expect, Op, Record, Store, StoreConfig};

fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let lines = status
        .lines()
        .filter(|line| line.starts_with("VmRSS") || line.starts_with("RssAnon"));
    lines
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect::<Vec<_>>()
        .join(", ")
}

fn op(number: u64) -> Op {
    let text = format!("{{\"resourceVersion\":\"\",\"data\":\"{}\"}}", "x".repeat(1000)).into();
    let record = Record {
        text,
        revision_at: 20,
        ..Record::default()
    };
    let key = format!(
        "/core/pods/default/pod-{:08}",
        number.wrapping_mul(0x9e37_79b9) % 10_000
    );
    Op::Put {
        key,
        record,
        expect: Expect::Any,
    }
}

async fn write(store: Store, numbers: Arc<AtomicU64>, end: Instant) -> Vec<Duration> {
    let mut latencies = vec![];
    while Instant::now() < end {
        let start = Instant::now();
        if let Err(error) = store
            .commit(vec![op(numbers.fetch_add(1, Ordering::Relaxed))])
            .await
        {
            eprintln!("{error}");
            break;
        }
        latencies.push(start.elapsed());
    }
    latencies
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().ok_or("which folder?")?;
    let writers: u64 = arguments.next().map_or(Ok(16), |n| n.parse())?;
    let seconds: u64 = arguments.next().map_or(Ok(3), |n| n.parse())?;
    println!("before: {}", memory());
    let start = Instant::now();
    let store = Store::open(StoreConfig::new(&dir)).await?;
    println!(
        "open: {:.1} ms at revision {}",
        start.elapsed().as_secs_f64() * 1e3,
        store.revision()
    );
    tokio::time::sleep(Duration::from_millis(300)).await;
    println!("idle: {}", memory());
    let (numbers, end) = (
        Arc::new(AtomicU64::new(0)),
        Instant::now() + Duration::from_secs(seconds),
    );
    let tasks = (0..writers).map(|_| tokio::spawn(write(store.clone(), numbers.clone(), end)));
    let mut latencies = vec![];
    for task in tasks.collect::<Vec<_>>() {
        latencies.extend(task.await?);
    }
    latencies.sort_unstable();
    if let (Some(median), Some(last)) = (latencies.get(latencies.len() / 2), latencies.last()) {
        let rate = latencies.len() as u64 / seconds.max(1);
        println!("{writers} writers: {rate} writes/s, median {median:?}, worst {last:?}");
    }
    println!("after: {}", memory());
    let start = Instant::now();
    store.close().await;
    println!("close: {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
    Ok(())
}
