//! Running something in a container that is there, beside crun and runc, and what a pod takes that only waits: the
//! memory of its shim.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, ensure};

use crate::containers::{Ours, PEERS, bundle, busybox, version, with_version_two};
use kit::table::{self, median, mib, ms, quantile, range};

/// What the containers run meanwhile.
const WAITS: [&str; 3] = ["/bin/busybox", "sleep", "86400"];
/// How many pods wait for the second table.
const WAITING: usize = 20;

/// Prints the tables.
pub async fn measure(bin: &Path, scratch: &Path, count: usize) -> anyhow::Result<()> {
    let root = busybox(scratch)?;
    let ours = Ours::open(bin, scratch, &root).await?;
    latencies(&ours, &bundle(scratch, &root, &WAITS)?, count).await?;
    memory(&ours).await
}

async fn latencies(ours: &Ours, bundle: &Path, count: usize) -> anyhow::Result<()> {
    let id = waiting(ours, "bench-exec", 0).await?;
    for peer in PEERS {
        begin(peer, bundle)?;
    }
    let mut took = vec![Vec::new(); 1 + PEERS.len()];
    // Turn 0 warms caches and is not counted.
    for turn in 0..=count {
        for (at, took) in took.iter_mut().enumerate() {
            let wall = match at.checked_sub(1).and_then(|at| PEERS.get(at)) {
                None => once(ours, &id).await?,
                Some(peer) => peer_once(peer)?,
            };
            if turn > 0 {
                took.push(wall);
            }
        }
    }
    for peer in PEERS {
        with_version_two(move || silent(peer, &["delete", "--force", &name(peer)]))?;
    }
    ours.containers.close_pod("bench-exec").await?;
    let names = std::iter::once("coracle, from call to exit code".to_owned());
    let rows = names.chain(PEERS.iter().map(|peer| version(peer))).zip(&mut took);
    let rows = rows.map(|(name, took)| {
        let p99 = format!("{:.1} ms", quantile(took, 0.99));
        vec![name, format!("{:.1} ms", median(took)), p99, range(took)]
    });
    let title = format!("`/bin/true` in a container that runs, {count} each, in turns");
    table::print(
        &title,
        &["runtime", "median", "p99", "range"],
        &rows.collect::<Vec<_>>(),
    );
    Ok(())
}

/// A pod with a container that waits; the container's id.
async fn waiting(ours: &Ours, uid: &str, number: usize) -> anyhow::Result<String> {
    ours.open_pod(uid).await?;
    let id = format!("e{number:063x}");
    let mut spec = ours.container(uid, &id);
    spec.args = WAITS.map(str::to_owned).to_vec();
    ours.containers.create(&spec).await?;
    ours.containers.start(&id).await?;
    Ok(id)
}

async fn once(ours: &Ours, id: &str) -> anyhow::Result<f64> {
    let began = Instant::now();
    let spec = oci::ExecSpec {
        args: vec!["/bin/true".to_owned()],
        ..oci::ExecSpec::default()
    };
    let process = ours.containers.exec(id, &spec).await?;
    let code = process.exit.await.context("the shim said nothing")??;
    ensure!(code == 0, "/bin/true ended with {code}");
    Ok(ms(began.elapsed()))
}

fn name(peer: &str) -> String {
    format!("bench-exec-{peer}")
}

/// Runs a peer without our streams, which what it leaves running would keep open.
fn silent(peer: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let mut command = Command::new(peer);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let status = command.status().with_context(|| format!("running {peer}"))?;
    ensure!(status.success(), "{peer} {arguments:?}: {status}");
    Ok(())
}

fn begin(peer: &'static str, bundle: &Path) -> anyhow::Result<()> {
    let bundle = bundle.display().to_string();
    with_version_two(move || silent(peer, &["run", "--detach", "--bundle", &bundle, &name(peer)]))
}

fn peer_once(peer: &'static str) -> anyhow::Result<f64> {
    with_version_two(move || {
        let began = Instant::now();
        silent(peer, &["exec", &name(peer), "/bin/true"])?;
        Ok(ms(began.elapsed()))
    })
}

/// What the shims of pods that wait have in memory.
async fn memory(ours: &Ours) -> anyhow::Result<()> {
    let (mut resident, mut private) = (Vec::new(), Vec::new());
    for number in 0..WAITING {
        waiting(ours, &format!("bench-wait-{number}"), number + 1).await?;
    }
    for number in 0..WAITING {
        let pid = std::fs::read_to_string(ours.folder().join(format!("bench-wait-{number}/shim.pid")))?;
        let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", pid.trim()))?;
        let sum = |fields: &[&str]| fields.iter().map(|field| kib(&rollup, field)).sum::<u64>() << 10;
        resident.push(mib(sum(&["Rss:"])));
        private.push(mib(sum(&["Private_Clean:", "Private_Dirty:"])));
    }
    for number in 0..WAITING {
        ours.containers.close_pod(&format!("bench-wait-{number}")).await?;
    }
    let row = |name: &str, values: &[f64]| {
        let (low, high) = values
            .iter()
            .fold((f64::MAX, 0f64), |(low, high), v| (low.min(*v), high.max(*v)));
        vec![
            name.to_owned(),
            format!("{:.2} MiB", median(values)),
            format!("{low:.2} to {high:.2} MiB"),
        ]
    };
    let rows = [
        row("resident, shared pages included", &resident),
        row("its own alone", &private),
    ];
    let title = format!("Memory of the shim of a pod that waits, {WAITING} of them");
    table::print(&title, &["memory", "median", "range"], &rows);
    Ok(())
}

fn kib(rollup: &str, field: &str) -> u64 {
    let line = rollup.lines().find_map(|line| line.strip_prefix(field));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}
