//! kill -9 of the node at random moments, again and again, under clients that
//! write and read: nothing acknowledged is lost, nothing is doubled.
//!
//! `CORACLE_CRASHES` is how often (200), `CORACLE_SEED` which moments.

mod shared;
mod writers;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base::{Random, SeededRandom};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Api, ListParams};
use kube::core::NamespaceResourceScope;
use tokio::sync::RwLock;

use self::shared::{Shared, lock};
use self::writers::{Writer, Written, count, shown};
use crate::support::ledger::{Ledger, Shown};
use crate::support::watcher::Watcher;
use crate::support::{Cluster, eventually, sandboxed};

/// How often the process is killed.
const CRASHES: u64 = 200;
/// Clients that write ConfigMaps, each its own, and one that writes Deployments.
const WRITERS: u64 = 3;
/// Most replicas that a Deployment ever has.
const REPLICAS_MAX: u64 = 3;

async fn list<K>(client: &kube::Client) -> Result<(Vec<K>, u64), String>
where
    K: Written + kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    let api: Api<K> = Api::default_namespaced(client.clone());
    let list = api.list(&ListParams::default().labels("by=crashes")).await;
    let list = list.map_err(|error| error.to_string())?;
    let revision = list.metadata.resource_version.clone().unwrap_or_default();
    Ok((list.items, revision.parse().unwrap_or(0)))
}

/// Compares what was acknowledged with what is there; nobody writes meanwhile.
async fn check<K>(shared: &Shared, ledger: &Mutex<Ledger>)
where
    K: Written + kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    match list::<K>(&shared.client).await {
        Ok((items, revision)) => {
            let items: Vec<Shown> = items.iter().map(shown).collect();
            let agreed = lock(ledger).check(&items, revision);
            shared.hold(agreed);
        }
        Err(why) => shared.hold(Err(format!("a list was refused: {why}"))),
    }
}

async fn check_all(shared: &Shared) {
    let gate = shared.gate.write().await;
    check::<ConfigMap>(shared, &shared.maps).await;
    check::<Deployment>(shared, &shared.deployments).await;
    drop(gate);
    shared.hold(check_pods(&shared.client).await);
}

/// No ReplicaSet has more pods than any Deployment ever asked for, and no pod is nobody's.
async fn check_pods(client: &kube::Client) -> Result<(), String> {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let list = pods
        .list(&ListParams::default())
        .await
        .map_err(|error| error.to_string())?;
    let mut by_owner: HashMap<String, Vec<String>> = HashMap::new();
    for pod in list
        .items
        .into_iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
    {
        let owner = pod.metadata.owner_references.iter().flatten().next();
        let uid = owner.map(|owner| owner.uid.clone()).unwrap_or_default();
        by_owner
            .entry(uid)
            .or_default()
            .push(pod.metadata.name.unwrap_or_default());
    }
    match by_owner
        .into_iter()
        .find(|(uid, pods)| uid.is_empty() || pods.len() as u64 > REPLICAS_MAX)
    {
        Some((uid, pods)) => Err(format!("ReplicaSet {uid:?} has the pods {pods:?}")),
        None => Ok(()),
    }
}

/// In the end every Deployment has one ReplicaSet and as many pods as it asks for, and there are no others.
async fn settled(client: &kube::Client) -> Result<(), String> {
    let (deployments, _) = list::<Deployment>(client).await?;
    let sets: Api<ReplicaSet> = Api::default_namespaced(client.clone());
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let all = ListParams::default();
    let sets = sets.list(&all).await.map_err(|error| error.to_string())?.items;
    let pods = pods.list(&all).await.map_err(|error| error.to_string())?.items;
    let wanted: u64 = deployments
        .iter()
        .filter_map(|d| d.contents().parse::<u64>().ok())
        .sum();
    if sets.len() != deployments.len() || pods.len() as u64 != wanted {
        let (sets, deployments, pods) = (sets.len(), deployments.len(), pods.len());
        return Err(format!(
            "{sets} ReplicaSets of {deployments} Deployments, {pods} pods of {wanted}"
        ));
    }
    let ready = |pod: &Pod| {
        let status = pod.status.as_ref();
        status.and_then(|s| s.phase.as_deref()) == Some("Running")
    };
    match pods.iter().find(|pod| !ready(pod)) {
        Some(pod) => Err(format!("{:?} is {:?}", pod.metadata.name, pod.status)),
        None => Ok(()),
    }
}

fn number(variable: &str, otherwise: u64) -> u64 {
    let text = std::env::var(variable).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

async fn connect(cluster: &Cluster) -> kube::Client {
    let file = cluster.dir.join("admin.kubeconfig");
    let kubeconfig = kube::config::Kubeconfig::read_from(file).expect("a kubeconfig");
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await;
    let mut config = config.expect("a usable kubeconfig");
    config.connect_timeout = Some(Duration::from_secs(5));
    config.read_timeout = Some(Duration::from_secs(10));
    // What was not answered is this scenario's subject; nobody may ask again behind its back.
    config.default_retry = false;
    kube::Client::try_from(config).expect("a client")
}

#[test]
fn nothing_acknowledged_is_lost_or_doubled() {
    sandboxed(|dir| {
        let crashes = number("CORACLE_CRASHES", CRASHES);
        let seed = number(
            "CORACLE_SEED",
            u64::from(std::process::id()) ^ Instant::now().elapsed().as_nanos() as u64,
        );
        eprintln!("{crashes} crashes, CORACLE_SEED={seed}");
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let mut cluster = Cluster::stocked(dir, &["--crash-back-off", "1"]);
        let shared = Arc::new(Shared {
            client: runtime.block_on(connect(&cluster)),
            stop: AtomicBool::new(false),
            gate: RwLock::default(),
            maps: Mutex::default(),
            deployments: Mutex::new(Ledger::shared()),
            broken: Mutex::default(),
        });
        cluster.ok(&["create", "configmap", "counter", "--from-literal=n=0"]);
        let (_, start) = runtime
            .block_on(list::<ConfigMap>(&shared.client))
            .expect("a list");
        let mut tasks = Vec::new();
        for n in 0..WRITERS {
            let ledger: fn(&Shared) -> &Mutex<Ledger> = |shared| &shared.maps;
            let pace = (1_000_000, Duration::from_millis(5));
            tasks.push(runtime.spawn(Writer::<ConfigMap>::new(&shared, ledger, n, seed, pace).run()));
        }
        let ledger: fn(&Shared) -> &Mutex<Ledger> = |shared| &shared.deployments;
        let pace = (REPLICAS_MAX + 1, Duration::from_millis(100));
        tasks.push(runtime.spawn(Writer::<Deployment>::new(&shared, ledger, WRITERS, seed, pace).run()));
        let counting = runtime.spawn(count(shared.clone()));
        let mut watch = Watcher::new("/api/v1/namespaces/default/configmaps?labelSelector=by%3Dcrashes");
        let listener = || {
            let shared = shared.clone();
            move |promise| shared.hold(promise)
        };
        watch.resume(&cluster, start, listener());

        let random = SeededRandom::new(seed);
        let began = Instant::now();
        for crash in 1..=crashes {
            std::thread::sleep(Duration::from_millis(random.below(400)));
            cluster.kill();
            cluster.restart();
            watch.resume(&cluster, start, listener());
            runtime.block_on(check_all(&shared));
            if crash % 20 == 0 {
                let maps = lock(&shared.maps).acknowledged();
                eprintln!(
                    "{crash} crashes in {:?}, {maps} ConfigMaps written",
                    began.elapsed()
                );
            }
            assert!(
                lock(&shared.broken).is_empty(),
                "CORACLE_SEED={seed}: {:#?}",
                lock(&shared.broken)
            );
        }
        shared.stop.store(true, Ordering::Relaxed);
        for task in tasks {
            runtime.block_on(task).expect("a writer");
        }
        let (sure, doubtful) = runtime.block_on(counting).expect("the counter");
        runtime.block_on(check_all(&shared));
        let counted: u64 = cluster
            .field("configmap/counter", "{.data.n}")
            .unwrap()
            .parse()
            .expect("a number");
        assert!(
            counted == sure || counted == sure + doubtful,
            "counted {counted}, acknowledged {sure}"
        );
        eventually("a watch that has told everything", || {
            lock(&shared.maps).all_told(&watch.told())
        });
        watch.end();
        eventually("the Deployments' pods", || {
            runtime.block_on(settled(&shared.client))
        });
        let broken = lock(&shared.broken);
        assert!(broken.is_empty(), "CORACLE_SEED={seed}: {broken:#?}");
        eprintln!(
            "{crashes} crashes in {:?}: {} ConfigMaps and {} Deployments written, counted to {counted}",
            began.elapsed(),
            lock(&shared.maps).acknowledged(),
            lock(&shared.deployments).acknowledged()
        );
        cluster.ok(&["delete", "deployments", "--all"]);
    });
}
