//! Looks at the node and its pods once.

use std::fs;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use oci::Usage;

use super::network::{self, Interface};
use super::sample::{ClaimUse, ContainerSample, NodeSample, PodSample, Sample};
use crate::context::Context;
use crate::eviction::usage::{self, PodUse};
use crate::node::machine::Machine;
use crate::pods::spec;
use crate::pods::table::PodView;

/// Looks at everything; `disks` at what pods have on the disk too, which takes a walk through their folders.
pub async fn collect(node: &Arc<Context>, disks: bool) -> Sample {
    let at = node.clock.now();
    let (name, data) = (node.config.node_name.clone(), node.paths.data().to_owned());
    let whole = tokio::task::spawn_blocking(move || look_at_node(name, &data, at)).await;
    let mut pods = Vec::new();
    for view in node.table.all().into_iter().filter(|view| view.active) {
        let mut containers = Vec::new();
        for (name, container) in &view.containers {
            let Some(id) = &container.container_id else {
                continue;
            };
            let Some((runtime, bare)) = node.runtimes.of_container(id) else {
                continue;
            };
            // One that has just ended uses nothing.
            if let Ok(usage) = runtime.usage(bare).await {
                containers.push(described(&view, name, id, usage));
            }
        }
        let disk = if disks {
            on_disk(node, &view).await
        } else {
            PodUse::default()
        };
        pods.push(PodSample {
            pod: view.pod.clone(),
            containers,
            disk,
            claims: if disks {
                claims(node, &view).await
            } else {
                Vec::new()
            },
            network: network_of(&view).await,
        });
    }
    Sample {
        at,
        node: whole.unwrap_or_default(),
        pods,
    }
}

fn described(view: &PodView, name: &str, id: &str, usage: Usage) -> ContainerSample {
    let image = spec::container(&view.pod, name).map(|(_, c)| spec::image(&c).to_owned());
    let started = status_of(&view.pod, name).and_then(|status| {
        let running = status.state.as_ref()?.running.as_ref()?;
        running.started_at.as_ref().map(|time| time.0)
    });
    ContainerSample {
        name: name.to_owned(),
        id: id.to_owned(),
        image: image.unwrap_or_default(),
        started,
        usage,
    }
}

fn status_of<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let all = [
        &status.container_statuses,
        &status.init_container_statuses,
        &status.ephemeral_container_statuses,
    ];
    all.into_iter().flatten().flatten().find(|s| s.name == name)
}

async fn network_of(view: &PodView) -> Vec<Interface> {
    let Some(namespace) = view.netns.clone() else {
        return Vec::new();
    };
    let looked = tokio::task::spawn_blocking(move || network::inside(&namespace)).await;
    looked.unwrap_or_default()
}

/// How full the volumes are that claims of a pod mean, as far as it is known.
async fn claims(node: &Arc<Context>, view: &PodView) -> Vec<ClaimUse> {
    let mut all = Vec::new();
    for volume in spec::spec(&view.pod).volumes.iter().flatten() {
        let Some((claim, _)) = api::storage::claim_of(&view.pod, volume) else {
            continue;
        };
        if let Some(fill) = node.volumes.fullness(&view.pod, volume).await {
            let volume = volume.name.clone();
            all.push(ClaimUse { volume, claim, fill });
        }
    }
    all
}

async fn on_disk(node: &Arc<Context>, view: &PodView) -> PodUse {
    let (view, paths) = (view.clone(), node.paths.clone());
    let looked = tokio::task::spawn_blocking(move || usage::on_disk(&view.pod, &view, &paths)).await;
    looked.unwrap_or_default()
}

fn look_at_node(name: String, data: &std::path::Path, now: Timestamp) -> NodeSample {
    let (machine, load) = (Machine::read(data), crate::node::machine::Load::read(data));
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let uptime = text("/proc/uptime");
    let up = uptime
        .split_whitespace()
        .next()
        .and_then(|s| s.parse::<f64>().ok());
    let up = jiff::SignedDuration::from_secs_f64(up.unwrap_or(0.0));
    NodeSample {
        name,
        booted: now.checked_sub(up).unwrap_or(now),
        cores: machine.cpus,
        cpu_ns: busy_ns(&text("/proc/stat")),
        memory_bytes: machine.memory_bytes,
        memory_available_bytes: load.memory_available_bytes,
        tasks: load.tasks,
        tasks_max: load.tasks_max,
        storage: (load.storage_bytes, load.storage_available_bytes),
        network: network::here(),
    }
}

/// CPU time that all cores were not idle, from `/proc/stat`, which counts hundredths of a second.
fn busy_ns(stat: &str) -> u64 {
    const TICK_NS: u64 = 10_000_000;
    const IDLE: [usize; 2] = [3, 4];
    // Guest time, in the two columns after these, is part of user time already.
    const COLUMNS: usize = 8;
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "));
    let columns = line
        .unwrap_or_default()
        .split_whitespace()
        .take(COLUMNS)
        .enumerate();
    let busy = columns.filter(|(at, _)| !IDLE.contains(at));
    busy.filter_map(|(_, text)| text.parse::<u64>().ok()).sum::<u64>() * TICK_NS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_time_is_not_used() {
        let stat = "cpu  10 1 5 1000 200 2 3 4 99 99\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(busy_ns(stat), 25 * 10_000_000);
        assert_eq!(busy_ns(""), 0);
    }
}
