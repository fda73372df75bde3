//! kill -9 of the node at random moments, again and again, under clients that
//! write and read: nothing acknowledged is lost, nothing is doubled.
//!
//! `CORACLE_CRASHES` is how often (200), `CORACLE_SEED` which moments.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader};
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use base::{Random, SeededRandom};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use kube::core::NamespaceResourceScope;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use tokio::sync::RwLock;

use crate::support::ledger::{Ledger, Shown};
use crate::support::{Cluster, eventually, sandboxed};

/// How often the process is killed.
const CRASHES: u64 = 200;
/// Clients that write ConfigMaps, each its own, and one that writes Deployments.
const WRITERS: u64 = 3;
/// Names that a writer uses over and over.
const NAMES: u64 = 6;
/// Most replicas that a Deployment ever has.
const REPLICAS_MAX: u64 = 3;

/// A kind that is written, and what of it counts.
trait Written: Clone + DeserializeOwned + std::fmt::Debug + serde::Serialize + Send + Sync + 'static {
    /// An object of that name with these contents.
    fn make(name: &str, contents: &str) -> Self;
    /// The other way round.
    fn contents(&self) -> String;
}

impl Written for ConfigMap {
    fn make(name: &str, contents: &str) -> Self {
        from(json!({"metadata": {"name": name, "labels": {"by": "crashes"}}, "data": {"n": contents}}))
    }

    fn contents(&self) -> String {
        self.data
            .iter()
            .flatten()
            .map(|(_, value)| value.clone())
            .collect()
    }
}

impl Written for Deployment {
    fn make(name: &str, contents: &str) -> Self {
        let replicas: i32 = contents.parse().expect("a number");
        from(json!({
            "metadata": {"name": name, "labels": {"by": "crashes"}},
            "spec": {
                "replicas": replicas, "selector": {"matchLabels": {"app": name}},
                "template": {"metadata": {"labels": {"app": name}}, "spec": {
                    "terminationGracePeriodSeconds": 1,
                    "containers": [{"name": "web", "image": "local/hello-http:1", "imagePullPolicy": "Never"}]}},
            },
        }))
    }

    fn contents(&self) -> String {
        let replicas = self.spec.as_ref().and_then(|spec| spec.replicas);
        replicas.unwrap_or(1).to_string()
    }
}

fn from<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("a good manifest")
}

/// What the scenario's threads share.
struct Shared {
    client: kube::Client,
    /// Held by everybody who writes, and by nobody while the whole is looked at.
    gate: RwLock<()>,
    stop: AtomicBool,
    maps: Mutex<Ledger>,
    deployments: Mutex<Ledger>,
    /// What broke a promise.
    broken: Mutex<Vec<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder panics")
}

impl Shared {
    fn hold(&self, promise: Result<(), String>) {
        if let Err(why) = promise {
            eprintln!("BROKEN: {why}");
            lock(&self.broken).push(why);
        }
    }
}

fn shown<K: Written + kube::Resource>(object: &K) -> Shown {
    let meta = object.meta();
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    Shown {
        name: text(&meta.name),
        uid: text(&meta.uid),
        revision: text(&meta.resource_version).parse().unwrap_or(0),
        contents: object.contents(),
    }
}

/// Writes objects of one kind under names of its own until told to stop.
struct Writer<K> {
    shared: Arc<Shared>,
    ledger: fn(&Shared) -> &Mutex<Ledger>,
    api: Api<K>,
    random: SeededRandom,
    prefix: String,
    /// Contents are drawn below this.
    bound: u64,
    pause: Duration,
}

impl<K> Writer<K>
where
    K: Written + kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock((self.ledger)(&self.shared))
    }

    async fn run(self) {
        while !self.shared.stop.load(Ordering::Relaxed) {
            let name = format!("{}-{}", self.prefix, self.random.below(NAMES));
            let gate = self.shared.gate.read().await;
            if self.settled(&name).await {
                self.write(&name).await;
            }
            drop(gate);
            tokio::time::sleep(self.pause).await;
        }
    }

    /// Finds out what became of a doubtful write; false while the server is away.
    async fn settled(&self, name: &str) -> bool {
        if !self.ledger().doubts(name) {
            return true;
        }
        let Ok(found) = self.api.get_opt(name).await else {
            return false;
        };
        let found = found.as_ref().map(shown);
        let settled = self.ledger().settle(name, found.as_ref());
        self.shared.hold(settled);
        true
    }

    async fn write(&self, name: &str) {
        let (before, highest) = {
            let ledger = self.ledger();
            (ledger.contents(name), ledger.highest())
        };
        let new = self.random.below(self.bound).to_string();
        let delete = before.is_some() && self.random.below(5) == 0;
        self.ledger().sent(name, (!delete).then(|| new.clone()));
        let params = PostParams::default();
        let object = K::make(name, &new);
        let answer = match (&before, delete) {
            (Some(_), true) => self
                .api
                .delete(name, &DeleteParams::background())
                .await
                .map(|_| None),
            (Some(before), false) if *before == new => return self.ledger().refused(name),
            (Some(_), false) => self.api.replace(name, &params, &object).await.map(Some),
            (None, _) => self.api.create(&params, &object).await.map(Some),
        };
        match answer {
            Ok(object) => {
                let object = object.as_ref().map(shown);
                let done = self.ledger().done(object.as_ref(), name, highest);
                self.shared.hold(done);
            }
            // An answer that says no is an answer; the server being away is none.
            Err(kube::Error::Api(status)) if status.code < 500 => {
                self.ledger().refused(name);
                let text = format!("{name}: {before:?} to {new}, deleted: {delete}: {status:?}");
                self.shared.hold(Err(text));
            }
            Err(_) => {}
        }
    }
}

/// Adds one, with the resourceVersion as the guard, until told to stop; how often it was acknowledged.
async fn count(shared: Arc<Shared>) -> (u64, u64) {
    let api: Api<ConfigMap> = Api::default_namespaced(shared.client.clone());
    let (mut sure, mut doubtful) = (0, 0);
    while !shared.stop.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let Ok(mut map) = api.get("counter").await else {
            continue;
        };
        let value: u64 = map.contents().parse().expect("a number");
        if value < sure || value > sure + doubtful {
            shared.hold(Err(format!(
                "the counter is {value}, not {sure} (or {doubtful} more)"
            )));
        }
        (sure, doubtful) = (value, 0);
        map.data = Some(BTreeMap::from([("n".to_owned(), (value + 1).to_string())]));
        match api.replace("counter", &PostParams::default(), &map).await {
            Ok(_) => sure += 1,
            Err(kube::Error::Api(status)) if status.code < 500 => {
                shared.hold(Err(format!("the counter's only writer is refused: {status:?}")));
            }
            Err(_) => doubtful = 1,
        }
    }
    (sure, doubtful)
}

/// A watch that is begun again where it broke off; what it told by revision.
struct Watcher {
    told: Arc<Mutex<BTreeMap<u64, String>>>,
    child: Option<Child>,
    pump: Option<std::thread::JoinHandle<()>>,
}

impl Watcher {
    /// Follows the ConfigMaps from where the last one ended.
    fn resume(&mut self, cluster: &Cluster, shared: &Arc<Shared>, from: u64) {
        self.end();
        let last = lock(&self.told)
            .last_key_value()
            .map_or(from, |(revision, _)| *revision);
        let path = format!(
            "/api/v1/namespaces/default/configmaps?labelSelector=by%3Dcrashes&watch=1&resourceVersion={last}"
        );
        let mut child = cluster.stream(&path);
        let lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
        let (told, shared) = (self.told.clone(), shared.clone());
        self.pump = Some(std::thread::spawn(move || {
            // The last line may be cut off by the crash: it is told again.
            let events = lines
                .map_while(Result::ok)
                .map_while(|line| serde_json::from_str::<Value>(&line).ok());
            events.for_each(|event| shared.hold(note(&mut lock(&told), &event)));
        }));
        self.child = Some(child);
    }

    fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It has ended by itself if the server has.
            let _ = child.kill();
            let _ = child.wait();
        }
        if let Some(pump) = self.pump.take() {
            pump.join().expect("the watch's reader");
        }
    }
}

fn note(told: &mut BTreeMap<u64, String>, event: &Value) -> Result<(), String> {
    if event["type"] == "ERROR" {
        return Err(format!("the watch broke: {event}"));
    }
    let meta = &event["object"]["metadata"];
    let revision = meta["resourceVersion"]
        .as_str()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    let name = meta["name"].as_str().unwrap_or_default().to_owned();
    match told.last_key_value() {
        Some((last, _)) if *last >= revision => {
            Err(format!("the watch tells {revision} after {last}: {event}"))
        }
        _ => {
            told.insert(revision, name);
            Ok(())
        }
    }
}

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

fn writer<K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>>(
    shared: &Arc<Shared>,
    ledger: fn(&Shared) -> &Mutex<Ledger>,
    number: u64,
    seed: u64,
    (bound, pause): (u64, Duration),
) -> Writer<K> {
    Writer {
        shared: shared.clone(),
        ledger,
        api: Api::default_namespaced(shared.client.clone()),
        random: SeededRandom::new(seed ^ (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        prefix: format!("w{number}"),
        bound,
        pause,
    }
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
            tasks.push(runtime.spawn(writer::<ConfigMap>(&shared, ledger, n, seed, pace).run()));
        }
        let ledger: fn(&Shared) -> &Mutex<Ledger> = |shared| &shared.deployments;
        let pace = (REPLICAS_MAX + 1, Duration::from_millis(100));
        tasks.push(runtime.spawn(writer::<Deployment>(&shared, ledger, WRITERS, seed, pace).run()));
        let counting = runtime.spawn(count(shared.clone()));
        let mut watch = Watcher {
            told: Arc::default(),
            child: None,
            pump: None,
        };
        watch.resume(&cluster, &shared, start);

        let random = SeededRandom::new(seed);
        let began = Instant::now();
        for crash in 1..=crashes {
            std::thread::sleep(Duration::from_millis(random.below(400)));
            cluster.kill();
            cluster.restart();
            watch.resume(&cluster, &shared, start);
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
            lock(&shared.maps).all_told(&lock(&watch.told))
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
