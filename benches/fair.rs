//! One hostile client at full speed, and another beside it: what the other one waits.
//!
//! Hostile is a service account with an editor's rights and all the connections that it likes; the other one, an
//! account like it, reads an object and writes one of its own, one request after another. Both are to stand for machines
//! of their own: half of the processors are the server's alone, the other half theirs, where the hostile one's threads
//! give way to the other's at once. On fewer than two processors there is nothing to share out, and all share them.

mod herd;
mod way;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Method;

use crate::maps::MAPS;
use crate::node::Node;
use herd::{Greed, Herd};
use kit::table::{self, ms, quantile};
use way::{Way, account, map};

/// What is listed: so many objects of so many bytes.
const OBJECTS: usize = 150;
const OBJECT_BYTES: usize = 4096;
/// Between two requests of the one who is not hostile.
const PAUSE: Duration = Duration::from_millis(3);
/// How long a herd is at work before it counts: its handshakes are a question of their own.
const BEFORE: Duration = Duration::from_secs(3);
/// The client's place among the machine's threads.
const FIRST: i32 = -15;

/// What requests took, in milliseconds.
#[derive(Default)]
struct Took {
    reads: Vec<f64>,
    writes: Vec<f64>,
}

/// Prints the table, each round of that many seconds.
pub async fn measure(bin: &Path, scratch: &Path, seconds: u64) -> anyhow::Result<()> {
    let processors = std::thread::available_parallelism()?.get();
    let share = processors / 2;
    if share > 0 {
        sys::process::set_processors(share..processors)?;
    }
    // It keeps to the processors of the thread that starts it.
    let node = Node::start(bin, scratch, &[])?;
    if share > 0 {
        sys::process::set_processors(0..share)?;
    }
    node.ready().await?;
    let admin = crate::maps::wires(&node, 1).await?.remove(0);
    let elephant = Arc::new(account(&node, &admin, "elephant").await?);
    let mouse = account(&node, &admin, "mouse").await?;
    for number in 0..OBJECTS {
        admin
            .ask(Method::POST, MAPS, map(&format!("map-{number}"), OBJECT_BYTES))
            .await?;
    }
    admin.ask(Method::POST, MAPS, map("of-the-mouse", 100)).await?;
    let time = Duration::from_secs(seconds);
    let alone = beside(&mouse, time)?;
    let mut rows = vec![row("nobody", String::new(), &alone, &alone)];
    for greed in Greed::ALL {
        let herd = Herd::start(&elephant, greed)?;
        tokio::time::sleep(BEFORE).await;
        let before = herd.answered();
        let took = beside(&mouse, time)?;
        let (answered, refused) = herd.answered();
        herd.end().await;
        let a_second = (answered - before.0) / seconds;
        let told = match refused - before.1 {
            0 => format!("{a_second}"),
            some => format!("{a_second}, {} refused", some / seconds),
        };
        rows.push(row(greed.name(), told, &took, &alone));
    }
    let head = [
        "beside",
        "it got, a second",
        "GET p50",
        "p99",
        "× alone",
        "PUT p50",
        "p99",
        "× alone",
    ];
    table::print(
        &format!(
            "One request after another beside a hostile client at full speed, {seconds} s each, milliseconds"
        ),
        &head,
        &rows,
    );
    Ok(())
}

fn row(name: &str, told: String, took: &Took, alone: &Took) -> Vec<String> {
    let at = |values: &[f64], share| quantile(&mut values.to_vec(), share);
    let of = |took: &[f64], alone: &[f64]| {
        let (p50, p99) = (at(took, 0.5), at(took, 0.99));
        [
            format!("{p50:.2}"),
            format!("{p99:.2}"),
            format!("{:.1}", p99 / at(alone, 0.99)),
        ]
    };
    let (reads, writes) = (of(&took.reads, &alone.reads), of(&took.writes, &alone.writes));
    [name.to_owned(), told]
        .into_iter()
        .chain(reads)
        .chain(writes)
        .collect()
}

/// The client that is not hostile, in a thread of its own.
fn beside(way: &Way, time: Duration) -> anyhow::Result<Took> {
    std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            sys::process::set_nice(FIRST)?;
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(nibble(way, time))
        });
        let ended = client.join();
        ended.map_err(|_| anyhow::anyhow!("the client panicked"))?
    })
}

async fn nibble(way: &Way, time: Duration) -> anyhow::Result<Took> {
    let wire = way.wire().await?;
    let (mut took, until) = (Took::default(), Instant::now() + time);
    let (read, own) = (format!("{MAPS}/map-0"), format!("{MAPS}/of-the-mouse"));
    let mut text = 100;
    while Instant::now() < until {
        let began = Instant::now();
        wire.ask(Method::GET, &read, String::new()).await?;
        took.reads.push(ms(began.elapsed()));
        tokio::time::sleep(PAUSE).await;
        // Another text each time: what changes nothing is not written.
        text = 100 + (text + 1) % 100;
        let body = map("of-the-mouse", text);
        let began = Instant::now();
        wire.ask(Method::PUT, &own, body).await?;
        took.writes.push(ms(began.elapsed()));
        tokio::time::sleep(PAUSE).await;
    }
    Ok(took)
}
