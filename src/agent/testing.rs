//! A small world for tests: an API of a few objects, fake runtimes, fake network.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use api::request::{EventStream, Reply, Request, User, Verb};
use api::status::Status;
use async_trait::async_trait;
use base::{SystemClock, SystemRandom, Tasks};
use client::{Api, Cache, Client, Recorder};
use k8s_openapi::api::core::v1::Pod;
use oci::{Attempt, Image, ImageConfig, ImageError, ImageKind};
use serde_json::{Value, json};

use crate::config::AgentConfig;
use crate::context::{Balancing, Context, ImageSource, Link, PodNet, World};
use crate::env::NodeFacts;
use crate::pods::manager::Manager;
use crate::pods::table::PodTable;
use crate::runtime::Runtimes;
use crate::runtime::fake::FakeRuntime;

/// Objects by `plural/namespace/name`, and what was asked.
#[derive(Default)]
pub(crate) struct FakeApi {
    pub(crate) objects: Mutex<BTreeMap<String, Value>>,
    pub(crate) log: Mutex<Vec<String>>,
    /// Answers 503 to everything.
    pub(crate) away: Mutex<bool>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

fn merge(into: &mut Value, patch: &Value) {
    match (into, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            for (key, value) in patch {
                if value.is_null() {
                    into.remove(key);
                } else {
                    merge(into.entry(key.clone()).or_insert(Value::Null), value);
                }
            }
        }
        (into, patch) => *into = patch.clone(),
    }
}

impl FakeApi {
    pub(crate) fn put(&self, plural: &str, object: Value) {
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        let key = format!("{plural}/{}/{}", text("namespace"), text("name"));
        lock(&self.objects).insert(key, object);
    }

    pub(crate) fn get(&self, key: &str) -> Option<Value> {
        lock(&self.objects).get(key).cloned()
    }

    fn events(&self) -> Vec<String> {
        let log = lock(&self.log);
        log.iter()
            .filter_map(|line| line.strip_prefix("event "))
            .map(str::to_owned)
            .collect()
    }

    fn answer(&self, request: &Request) -> Result<Value, Status> {
        let plural = request.resource.plural.as_str();
        let key = format!("{plural}/{}/{}", request.namespace, request.name);
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let not_found = || Status::not_found(&request.resource.group, plural, &request.name);
        let mut objects = lock(&self.objects);
        match (request.verb, plural, request.subresource.as_str()) {
            (Verb::Create, "events", _) => {
                let text = |field: &str| body[field].as_str().unwrap_or_default().to_owned();
                lock(&self.log).push(format!("event {} {}", text("reason"), text("message")));
                Ok(body)
            }
            (Verb::Create, "serviceaccounts", "token") => Ok(json!({
                "metadata": {}, "spec": body["spec"],
                "status": {"token": "jwt", "expirationTimestamp": "2099-01-01T00:00:00Z"},
            })),
            (Verb::Create, ..) => {
                let name = body["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                let mut body = body;
                body["metadata"]["uid"] = format!("made-{name}").into();
                objects.insert(format!("{plural}/{}/{name}", request.namespace), body.clone());
                Ok(body)
            }
            (Verb::Get, ..) => objects.get(&key).cloned().ok_or_else(not_found),
            (Verb::Patch(_), ..) => {
                let object = objects.get_mut(&key).ok_or_else(not_found)?;
                merge(object, &body);
                Ok(object.clone())
            }
            (Verb::Update, ..) => {
                objects.insert(key, body.clone());
                Ok(body)
            }
            (Verb::Delete, ..) => {
                lock(&self.log).push(format!("delete {key}"));
                objects.remove(&key).ok_or_else(not_found)
            }
            _ => Err(Status::new(501, "NotImplemented", "not in this world")),
        }
    }
}

#[async_trait]
impl Api for FakeApi {
    async fn call(&self, request: Request) -> Result<Reply, Status> {
        if *lock(&self.away) {
            return Err(Status::unavailable("away"));
        }
        let body = self.answer(&request)?;
        Ok(Reply {
            code: 200,
            body: body.to_string().into(),
            warnings: Vec::new(),
        })
    }

    async fn watch(&self, _: Request) -> Result<EventStream, Status> {
        Err(Status::unavailable("away"))
    }
}

/// Images: every name has one; `wasm…` holds a Wasm program, `missing…` does not exist, `unsigned…` is refused.
pub(crate) struct FakeImages;

#[async_trait]
impl ImageSource for FakeImages {
    async fn find(&self, _: &str) -> Result<Option<Image>, ImageError> {
        Ok(None)
    }

    fn admits(&self, _: &str, _: &Image) -> Result<(), ImageError> {
        Ok(())
    }

    fn layers(&self, _: &Image) -> Vec<std::path::PathBuf> {
        Vec::new()
    }

    async fn note(&self, _: &str, _: &str, _: &str) -> Result<(), ImageError> {
        Ok(())
    }

    async fn pull(&self, reference: &str, _: &[Attempt]) -> Result<Image, ImageError> {
        let name = reference.rsplit('/').next().unwrap_or(reference);
        if name.starts_with("missing") {
            return Err(ImageError::NotFound {
                reference: reference.to_owned(),
            });
        }
        if name.starts_with("unsigned") {
            return Err(ImageError::Untrusted("it is not signed".to_owned()));
        }
        let digest = "sha256:00".to_owned();
        let kind = match name.starts_with("wasm") {
            true => ImageKind::Wasm {
                module: "/none".into(),
                digest: digest.clone(),
            },
            false => ImageKind::Oci { layers: vec![] },
        };
        let references = vec![reference.to_owned()];
        Ok(Image {
            references,
            id: digest.clone(),
            digest,
            size_bytes: 7,
            config: ImageConfig::default(),
            kind,
            vouchers: Vec::new(),
            pulled_by: Default::default(),
        })
    }
}

/// Hands out addresses and remembers them, as the real one does on disk.
#[derive(Default)]
pub(crate) struct FakeNet {
    links: Mutex<HashMap<String, (IpAddr, bool)>>,
    /// While this is true, Services lead to every pod.
    pub(crate) popular: tokio::sync::watch::Sender<bool>,
}

impl FakeNet {
    /// Gives a pod that address when it comes.
    pub(crate) fn pin(&self, uid: &str, ip: IpAddr) {
        lock(&self.links).insert(uid.to_owned(), (ip, false));
    }
}

#[async_trait]
impl Balancing for FakeNet {
    async fn withdrawn(&self, _: IpAddr, _: &str) {
        // The sender is part of this.
        let _ = self.popular.subscribe().wait_for(|popular| !popular).await;
    }

    fn set_host_ports(&self, _: &str, _: Vec<network::HostPort>) {}
}

#[async_trait]
impl PodNet for FakeNet {
    async fn attach(&self, uid: &str, wasm_only: bool, wanted: Option<IpAddr>) -> Result<Link, String> {
        let mut links = lock(&self.links);
        let next = IpAddr::from([10, 64, 0, 2 + links.len() as u8]);
        let (ip, _) = *links
            .entry(uid.to_owned())
            .or_insert((wanted.unwrap_or(next), wasm_only));
        Ok(Link {
            ip: ip.into(),
            netns: (!wasm_only).then(|| "/proc/self/ns/net".into()),
            loopback: [127, 0, 0, 1].into(),
        })
    }

    async fn prepare(&self, _: &str, _: u32) -> Result<(), String> {
        Ok(())
    }

    async fn detach(&self, uid: &str) -> Result<(), String> {
        lock(&self.links).remove(uid);
        Ok(())
    }

    async fn attached(&self) -> Result<Vec<String>, String> {
        Ok(lock(&self.links).keys().cloned().collect())
    }
}

/// A node with nothing real in it.
pub(crate) struct FakeNode {
    pub(crate) api: Arc<FakeApi>,
    pub(crate) oci: Arc<FakeRuntime>,
    pub(crate) wasm: Arc<FakeRuntime>,
    pub(crate) net: Arc<FakeNet>,
    pub(crate) pods: Cache<Pod>,
    pub(crate) table: PodTable,
    pub(crate) context: Arc<Context>,
    pub(crate) tasks: Tasks,
    /// What the node is short of.
    pub(crate) pressure: tokio::sync::watch::Sender<crate::eviction::Pressure>,
    /// Asks for evictions.
    pub(crate) evict: tokio::sync::mpsc::UnboundedSender<crate::eviction::evictor::Eviction>,
    /// Ends pods with the node.
    pub(crate) end: tokio::sync::mpsc::UnboundedSender<crate::pods::shutdown::Ending>,
}

impl FakeNode {
    /// A node that begins with nothing.
    pub(crate) fn start(dir: &Path) -> FakeNode {
        let clock = Arc::new(SystemClock::new());
        let oci = Arc::new(FakeRuntime::new("coracle-oci", clock.clone()));
        Self::with(dir, Arc::default(), oci, Arc::default(), Cache::fixed([]))
    }

    /// The agent is gone and comes back: the API, ordinary containers and the
    /// network stay, Wasm guests and everything in memory do not.
    pub(crate) async fn restart(self) -> FakeNode {
        self.tasks.shutdown().await;
        let dir = self.context.paths.data().to_owned();
        Self::with(&dir, self.api, self.oci, self.net, self.pods)
    }

    fn with(
        dir: &Path,
        api: Arc<FakeApi>,
        oci: Arc<FakeRuntime>,
        net: Arc<FakeNet>,
        pods: Cache<Pod>,
    ) -> FakeNode {
        let tasks = Tasks::new();
        let clock = Arc::new(SystemClock::new());
        let wasm = Arc::new(FakeRuntime::new("coracle-wasm", clock.clone()));
        let client = Client::new(api.clone(), User::new("system:node:n1", &["system:nodes"]));
        let ip: IpAddr = [192, 0, 2, 1].into();
        let mut config = AgentConfig::new("n1", dir.to_owned(), "00000000", ip);
        config.timing.crash_base = Duration::from_millis(50);
        config.timing.image_base = Duration::from_millis(50);
        config.timing.retry = Duration::from_millis(20);
        config.static_pods = Some(dir.join("static"));
        let node = NodeFacts {
            name: "n1".into(),
            ip: ip.into(),
            cpu_millis: 1000,
            memory_bytes: 1,
            storage_bytes: 1,
        };
        let world = World {
            recorder: Recorder::new(client.clone(), "kubelet", "n1", clock.clone(), &tasks),
            client,
            clock,
            random: Arc::new(SystemRandom),
            images: Arc::new(FakeImages),
            providers: crate::providers::Providers::default(),
            runtimes: Runtimes {
                oci: oci.clone(),
                wasm: wasm.clone(),
            },
            net: net.clone(),
            balancing: net.clone(),
            services: Cache::fixed([]),
            facts: node,
            devices: crate::devices::Devices::open(&crate::paths::Paths::new(&config.data_dir)),
            table: PodTable::default(),
            tasks: tasks.clone(),
        };
        let context = Arc::new(Context::new(config, world));
        let table = context.table.clone();
        let (evict, evictions) = tokio::sync::mpsc::unbounded_channel();
        let (end, endings) = tokio::sync::mpsc::unbounded_channel();
        let pressure = tokio::sync::watch::Sender::<crate::eviction::Pressure>::default();
        let manager = Manager::new(
            context.clone(),
            table.clone(),
            tasks.clone(),
            pressure.subscribe(),
            evictions,
            endings,
        );
        tasks.spawn("pods", base::OnError::Log, manager.run(pods.clone()));
        FakeNode {
            api,
            oci,
            wasm,
            net,
            pods,
            table,
            context,
            tasks,
            pressure,
            evict,
            end,
        }
    }

    /// Assigns a pod to this node.
    pub(crate) fn assign(&self, name: &str, spec: Value) {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "ns", "uid": format!("uid-{name}"), "generation": 1},
            "spec": spec,
        });
        self.api.put("pods", pod);
        self.refresh(name);
    }

    /// Lets the node see the pod as the API has it.
    pub(crate) fn refresh(&self, name: &str) {
        match self.api.get(&format!("pods/ns/{name}")) {
            Some(pod) => self.pods.apply(serde_json::from_value(pod).unwrap()),
            None => self.pods.remove("ns", name),
        }
    }

    /// Asks for a pod's deletion, as the API server marks it.
    pub(crate) fn delete(&self, name: &str, grace: i64) {
        let key = format!("pods/ns/{name}");
        let mut pod = self.api.get(&key).unwrap();
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        pod["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
        self.api.put("pods", pod);
        self.refresh(name);
    }

    pub(crate) fn pod(&self, name: &str) -> Value {
        self.api.get(&format!("pods/ns/{name}")).unwrap_or_default()
    }

    /// The phase of a pod as the disk has it.
    pub(crate) fn kept_phase(&self, uid: &str) -> Option<String> {
        let kept = crate::disk::read_json::<Pod>(&self.context.paths.checkpoint(uid))?;
        kept.status?.phase
    }

    /// Waits until something holds.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&FakeNode) -> bool) {
        for _ in 0..6000 {
            if holds(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!(
            "it never came to this: {what}\n{:#}\n{:#?}",
            self.dump(),
            self.api.events()
        );
    }

    /// Waits until a pod's phase and readiness are these.
    pub(crate) async fn until_phase(&self, name: &str, phase: &str, ready: bool) {
        let is = |node: &FakeNode| {
            let status = &node.pod(name)["status"];
            let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
            let found = conditions
                .iter()
                .any(|c| c["type"] == "Ready" && c["status"] == "True");
            status["phase"] == phase && found == ready
        };
        self.until(&format!("{name} {phase} ready={ready}"), is).await;
    }

    /// Waits until an event with that text was written.
    pub(crate) async fn until_event(&self, text: &str) {
        self.until(text, |node| {
            node.api.events().iter().any(|event| event.contains(text))
        })
        .await;
    }

    fn dump(&self) -> Value {
        json!(*lock(&self.api.objects))
    }
}
