//! What the node gives every pod: clients, runtimes, network, folders. The
//! parts that touch the world are traits, so that a test or a simulator can
//! be the world.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use api::cidr::Addresses;
use async_trait::async_trait;
use base::{Clock, Random};
use client::{Cache, Client, EventType, Recorder};
use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service};
use oci::{Attempt, Image, ImageError, ImageKind, Images};

use crate::config::AgentConfig;
use crate::cpus::Cpus;
use crate::csi::Csi;
use crate::devices::Devices;
use crate::env::NodeFacts;
use crate::moment::Moment;
use crate::node::machine;
use crate::objects::ObjectStore;
use crate::paths::Paths;
use crate::pods::resize::Room;
use crate::pods::resources::of_pod;
use crate::pods::spec::{self, Role};
use crate::pods::table::PodTable;
use crate::providers::Providers;
use crate::runtime::Runtimes;
use crate::static_pods::mirrored::Mirrors;
use crate::stats::LastSample;
use crate::users::UserRanges;
use crate::volumes::{LocalPaths, VolumeMaker};

/// Where images come from.
#[async_trait]
pub trait ImageSource: Send + Sync + 'static {
    /// The image, if it is on this machine.
    async fn find(&self, reference: &str) -> Result<Option<Image>, ImageError>;
    /// Whether the node's policy lets it run under that name; the error says what is missing.
    fn admits(&self, reference: &str, image: &Image) -> Result<(), ImageError>;
    /// Where the files of an ordinary image lie: its layers, lowest first.
    fn layers(&self, image: &Image) -> Vec<PathBuf>;
    /// Fetches it.
    async fn pull(&self, reference: &str, attempts: &[Attempt]) -> Result<Image, ImageError>;
    /// Notes who else could have pulled the image of that digest under that name.
    async fn note(&self, digest: &str, reference: &str, note: &str) -> Result<(), ImageError>;
}

#[async_trait]
impl ImageSource for Images {
    async fn find(&self, reference: &str) -> Result<Option<Image>, ImageError> {
        Images::find(self, reference).await
    }

    fn admits(&self, reference: &str, image: &Image) -> Result<(), ImageError> {
        Images::admits(self, reference, image)
    }

    fn layers(&self, image: &Image) -> Vec<PathBuf> {
        match &image.kind {
            ImageKind::Oci { layers } => layers.iter().map(|layer| self.layer_path(layer)).collect(),
            ImageKind::Wasm { .. } | ImageKind::App { .. } => Vec::new(),
        }
    }

    async fn pull(&self, reference: &str, attempts: &[Attempt]) -> Result<Image, ImageError> {
        Images::pull(self, reference, attempts).await
    }

    async fn note(&self, digest: &str, reference: &str, note: &str) -> Result<(), ImageError> {
        Images::note(self, digest, reference, note).await
    }
}

/// A pod's connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The pod's addresses.
    pub ip: Addresses,
    /// Its own network namespace; `None`: the shared one.
    pub netns: Option<PathBuf>,
    /// What stands for 127.0.0.1 and ::1 among its Wasm containers.
    pub loopback: Addresses,
}

/// Connects pods.
#[async_trait]
pub trait PodNet: Send + Sync + 'static {
    /// Connects a pod, in the shared namespace if it is Wasm only; the same
    /// pod keeps its address, and `wanted` is given where it can be.
    async fn attach(&self, uid: &str, wasm_only: bool, wanted: Option<IpAddr>) -> Result<Link, String>;
    /// Makes the namespace of a pod whose users are the machine's from `first` on, before it is connected.
    async fn prepare(&self, uid: &str, first: u32) -> Result<(), String>;
    /// Disconnects it; an unknown one is no error.
    async fn detach(&self, uid: &str) -> Result<(), String>;
    /// The UIDs of all connected pods.
    async fn attached(&self) -> Result<Vec<String>, String>;
}

/// The node's balancing of Services, as far as a pod that ends is concerned.
#[async_trait]
pub trait Balancing: Send + Sync + 'static {
    /// Waits until no new connections are led to the pod any more; at once if
    /// none ever were. May take for ever while the server is away.
    async fn withdrawn(&self, ip: IpAddr, uid: &str);
    /// Leads these ports of the node to a pod, and no others of the pod's.
    fn set_host_ports(&self, uid: &str, ports: Vec<network::HostPort>);
}

/// How many ordinary containers are created at the same time: each is a
/// handful of processes for a moment, and a node that restarts has hundreds to make.
const STARTS_AT_ONCE: usize = 8;

/// Everything of the node that pods use.
pub struct Context {
    /// Settings.
    pub config: AgentConfig,
    /// Folders.
    pub paths: Paths,
    /// The API.
    pub client: Client,
    /// Events.
    pub recorder: Recorder,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness, for container ids.
    pub random: Arc<dyn Random>,
    /// Images.
    pub images: Arc<dyn ImageSource>,
    /// Programs that know credentials for registries.
    pub providers: Providers,
    /// Runtimes.
    pub runtimes: Runtimes,
    /// Network.
    pub net: Arc<dyn PodNet>,
    /// Balancing of Services.
    pub balancing: Arc<dyn Balancing>,
    /// Devices that plugins provide.
    pub devices: Devices,
    /// Processors that containers have for themselves.
    pub cpus: Cpus,
    /// Users that pods have for themselves.
    pub users: UserRanges,
    /// Volumes.
    pub volumes: VolumeMaker,
    /// ConfigMaps and Secrets.
    pub objects: ObjectStore,
    /// Services, for the variables that pods get.
    pub services: Cache<Service>,
    /// What the node tells its pods of itself.
    pub facts: Arc<NodeFacts>,
    /// The pods that are here.
    pub table: PodTable,
    /// Under which ids the API knows static pods.
    pub mirrors: Mirrors,
    /// What was last used, for rates.
    pub last: LastSample,
    /// Admits so many starts of ordinary containers at a time.
    pub starts: tokio::sync::Semaphore,
}

/// The parts of a [`Context`] that the world provides.
pub struct World {
    /// The API.
    pub client: Client,
    /// Events.
    pub recorder: Recorder,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// Images.
    pub images: Arc<dyn ImageSource>,
    /// Programs that know credentials for registries.
    pub providers: Providers,
    /// Runtimes.
    pub runtimes: Runtimes,
    /// Network.
    pub net: Arc<dyn PodNet>,
    /// Balancing of Services.
    pub balancing: Arc<dyn Balancing>,
    /// Services.
    pub services: Cache<Service>,
    /// What the node is.
    pub facts: NodeFacts,
    /// Devices that plugins provide.
    pub devices: Devices,
    /// The pods that are here.
    pub table: PodTable,
    /// For what follows objects in the background.
    pub tasks: base::Tasks,
}

impl Context {
    /// Puts the parts together.
    pub fn new(config: AgentConfig, world: World) -> Context {
        let paths = Paths::new(&config.data_dir);
        let facts = Arc::new(world.facts);
        let local = LocalPaths::new(world.client.clone(), paths.clone(), world.tasks.clone());
        let objects = ObjectStore::new(world.client.clone(), paths.clone(), world.tasks);
        let csi = Csi::new(
            world.client.clone(),
            world.recorder.clone(),
            paths.clone(),
            facts.name.clone(),
        );
        let volumes = VolumeMaker {
            csi,
            paths: paths.clone(),
            client: world.client.clone(),
            objects: objects.clone(),
            node: facts.clone(),
            local,
            clock: world.clock.clone(),
        };
        Context {
            cpus: Cpus::open(&paths, machine::cpus(), config.limits.reserved_cpus.clone()),
            config,
            users: UserRanges::new(paths.clone()),
            paths,
            client: world.client,
            recorder: world.recorder,
            clock: world.clock,
            random: world.random,
            images: world.images,
            providers: world.providers,
            runtimes: world.runtimes,
            net: world.net,
            balancing: world.balancing,
            devices: world.devices,
            volumes,
            objects,
            services: world.services,
            facts,
            table: world.table,
            mirrors: Mirrors::default(),
            last: LastSample::default(),
            starts: tokio::sync::Semaphore::new(STARTS_AT_ONCE),
        }
    }

    /// What pods other than the one with that UID leave of the node.
    pub fn room_for(&self, uid: &str) -> Room {
        let views = self.table.all();
        let others = views
            .iter()
            .filter(|view| view.active && spec::uid(&view.pod) != uid);
        let asked: Vec<oci::Resources> = others.map(|view| of_pod(&view.pod)).collect();
        let sum = |of: fn(&oci::Resources) -> Option<u64>| asked.iter().filter_map(of).sum::<u64>();
        let number = |n: i64| u64::try_from(n).unwrap_or(0);
        let (cpu, memory) = (number(self.facts.cpu_millis), number(self.facts.memory_bytes));
        Room {
            cpu_millis: cpu.saturating_sub(sum(|r| r.cpu_request_millis)),
            memory_bytes: memory.saturating_sub(sum(|r| r.memory_request_bytes)),
            cpu_millis_all: cpu,
            memory_bytes_all: memory,
        }
    }

    /// The present.
    pub fn now(&self) -> Moment {
        Moment::read(self.clock.as_ref())
    }

    /// Writes an event about a pod, or about one of its containers.
    pub fn event(
        &self,
        pod: &Pod,
        container: Option<&str>,
        kind: EventType,
        reason: &str,
        message: impl Into<String>,
    ) {
        self.recorder
            .event(&pod_reference(pod, container), kind, reason, message);
    }
}

/// A reference to a pod as events carry it; `fieldPath` names the container.
fn pod_reference(pod: &Pod, container: Option<&str>) -> ObjectReference {
    let mut about = client::reference(pod);
    about.field_path = container.and_then(|name| {
        let (role, _) = spec::container(pod, name)?;
        let list = match role {
            Role::Main => "containers",
            Role::Init | Role::Sidecar => "initContainers",
            Role::Ephemeral => "ephemeralContainers",
        };
        Some(format!("spec.{list}{{{name}}}"))
    });
    about
}
