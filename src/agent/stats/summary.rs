//! `stats/summary` (`stats.k8s.io/v1alpha1`), as the kubelet gives it. Pure.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{ClaimUse, ContainerSample, PodSample, Sample, network};
use crate::eviction::usage::Space;
use crate::pods::spec;

/// The summary of a sample. `before` is an earlier one: what has been used since
/// then per second is left out without it, as the kubelet does after its start.
pub fn summary(sample: &Sample, before: Option<&Sample>) -> Value {
    let (node, at) = (&sample.node, sample.at);
    let used = node.memory_bytes.saturating_sub(node.memory_available_bytes);
    let (capacity, available) = node.storage;
    let before_node = before.map(|b| (b.at, b.node.cpu_ns));
    json!({
        "node": {
            "nodeName": node.name,
            "startTime": node.booted,
            "cpu": cpu(at, node.cpu_ns, before_node),
            "memory": {
                "time": at, "availableBytes": node.memory_available_bytes,
                "usageBytes": used, "workingSetBytes": used,
            },
            "fs": {
                "time": at, "capacityBytes": capacity, "availableBytes": available,
                "usedBytes": capacity.saturating_sub(available),
            },
            "network": network::summary(&node.network, at),
            "rlimit": {"time": at, "maxpid": node.tasks_max, "curproc": node.tasks},
        },
        "pods": sample.pods.iter().map(|one| pod(one, at, before)).collect::<Vec<_>>(),
    })
}

fn pod(one: &PodSample, at: Timestamp, before: Option<&Sample>) -> Value {
    let uid = spec::uid(&one.pod);
    let old = before.and_then(|b| Some((b.at, b.pods.iter().find(|p| spec::uid(&p.pod) == uid)?)));
    let volumes = one.disk.empty_dirs.iter();
    let own = volumes.map(|(name, used)| space(at, Some(name), *used));
    let claims = one
        .claims
        .iter()
        .map(|claim| claimed(at, spec::namespace(&one.pod), claim));
    let volumes = own.chain(claims);
    let containers = one.containers.iter().map(|c| {
        let earlier = old.and_then(|(then, p)| {
            let same = p.containers.iter().find(|o| o.id == c.id)?;
            Some((then, same.usage.cpu_ns))
        });
        container(one, c, at, earlier)
    });
    let pids: u64 = one.containers.iter().map(|c| c.usage.pids).sum();
    json!({
        "podRef": {"name": spec::name(&one.pod), "namespace": spec::namespace(&one.pod), "uid": uid},
        "startTime": one.pod.status.as_ref().and_then(|s| s.start_time.clone()),
        "containers": containers.collect::<Vec<_>>(),
        "cpu": cpu(at, one.cpu_ns(), old.map(|(then, p)| (then, p.cpu_ns()))),
        "memory": memory(at, one.memory_bytes()),
        "network": network::summary(&one.network, at),
        "volume": volumes.collect::<Vec<_>>(),
        "ephemeral-storage": space(at, None, one.disk.disk()),
        "process_stats": {"process_count": pids},
    })
}

fn container(pod: &PodSample, c: &ContainerSample, at: Timestamp, before: Option<(Timestamp, u64)>) -> Value {
    let disk = pod.disk.containers.get(&c.name).copied().unwrap_or_default().disk;
    json!({
        "name": c.name,
        "startTime": c.started,
        "cpu": cpu(at, c.usage.cpu_ns, before),
        "memory": memory(at, c.usage.memory_bytes),
        "rootfs": space(at, None, disk),
    })
}

fn claimed(at: Timestamp, namespace: &str, one: &ClaimUse) -> Value {
    let (bytes, inodes) = (one.fill.bytes, one.fill.inodes);
    json!({
        "time": at, "name": one.volume, "pvcRef": {"name": one.claim, "namespace": namespace},
        "capacityBytes": bytes.0, "availableBytes": bytes.1, "usedBytes": bytes.2,
        "inodes": inodes.0, "inodesFree": inodes.1, "inodesUsed": inodes.2,
    })
}

fn cpu(at: Timestamp, now_ns: u64, before: Option<(Timestamp, u64)>) -> Value {
    let mut value = json!({"time": at, "usageCoreNanoSeconds": now_ns});
    let rate = before.and_then(|(then, then_ns)| {
        let passed = at.duration_since(then).as_secs_f64();
        let used = now_ns.checked_sub(then_ns)?;
        (passed > 0.0).then_some((used as f64 / passed) as u64)
    });
    if let Some(rate) = rate {
        value["usageNanoCores"] = rate.into();
    }
    value
}

fn memory(at: Timestamp, bytes: u64) -> Value {
    json!({"time": at, "usageBytes": bytes, "workingSetBytes": bytes})
}

fn space(at: Timestamp, name: Option<&str>, used: Space) -> Value {
    let mut value = json!({"time": at, "usedBytes": used.bytes, "inodesUsed": used.inodes});
    if let Some(name) = name {
        value["name"] = name.into();
    }
    value
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::eviction::usage::PodUse;
    use crate::fill::Fill;

    /// A node with one pod of one container.
    pub(in super::super) fn sample(second: i64, cpu_ns: u64) -> Sample {
        let pod = json!({"metadata": {"name": "p", "namespace": "ns", "uid": "u"},
            "spec": {"containers": [{"name": "c", "image": "i:1",
                "resources": {"limits": {"memory": "1Mi", "cpu": "500m"}}}]}});
        let container = ContainerSample {
            name: "c".to_owned(),
            id: "coracle-oci://1".to_owned(),
            image: "i:1".to_owned(),
            started: Timestamp::from_second(5).ok(),
            usage: oci::Usage {
                cpu_ns,
                memory_bytes: 4096,
                pids: 2,
            },
        };
        let mut sample = Sample {
            at: Timestamp::from_second(second).unwrap(),
            pods: vec![PodSample {
                pod: Arc::new(serde_json::from_value(pod).unwrap()),
                containers: vec![container],
                disk: PodUse::default(),
                claims: vec![ClaimUse {
                    volume: "v".to_owned(),
                    claim: "data".to_owned(),
                    fill: Fill {
                        bytes: (100, 60, 40),
                        inodes: (10, 8, 2),
                    },
                }],
                network: Vec::new(),
            }],
            ..Sample::default()
        };
        sample.node.name = "n1".to_owned();
        sample.node.memory_bytes = 100;
        sample.node.memory_available_bytes = 40;
        sample
    }

    #[test]
    fn a_volume_says_whose_it_is_and_how_full() {
        let volume = &summary(&sample(10, 0), None)["pods"][0]["volume"][0];
        assert_eq!(volume["pvcRef"], json!({"name": "data", "namespace": "ns"}));
        assert_eq!(
            (&volume["capacityBytes"], &volume["usedBytes"]),
            (&json!(100), &json!(40))
        );
    }

    #[test]
    fn rates_need_an_earlier_look() {
        let alone = summary(&sample(10, 2_000), None);
        let c = &alone["pods"][0]["containers"][0];
        assert_eq!(c["cpu"]["usageCoreNanoSeconds"], 2_000);
        assert!(c["cpu"].get("usageNanoCores").is_none());
        assert_eq!(c["memory"]["workingSetBytes"], 4096);
        assert_eq!(alone["node"]["memory"]["workingSetBytes"], 60);
        assert_eq!(alone["pods"][0]["podRef"]["uid"], "u");
        let later = summary(&sample(20, 7_000), Some(&sample(10, 2_000)));
        assert_eq!(later["pods"][0]["cpu"]["usageNanoCores"], 500);
        assert_eq!(later["pods"][0]["process_stats"]["process_count"], 2);
    }
}
