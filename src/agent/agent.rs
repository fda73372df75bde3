//! The agent put together: what [`crate::Agent::start`] starts, in what order.
//!
//! ```text
//! images, containers ─▶ (node registered, or its range known from before)
//!    ─▶ network, Wasm host, Services, DNS ─▶ pods from disk ─▶ pods from the API
//! ```

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use base::{Clock, OnError, SystemClock, SystemRandom, Tasks};
use client::{Cache, Client, Recorder, Selectors};
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use network::catalog::kept;
use network::{Catalog, Dns, NetworkConfig, NetworkError, PodNetwork, Ranges, Services};
use oci::{Containers, ContainersConfig, ImageError, Images, ImagesConfig, OciError, Registries};
use tokio::sync::{mpsc, watch};
use wasm::{Compiler, Host, HostConfig, WasmError};

use crate::certificate::Certificate;
use crate::config::AgentConfig;
use crate::context::{Context, World};
use crate::devices::Devices;
use crate::devices::report::Reporter;
use crate::env::NodeFacts;
use crate::eviction::Pressure;
use crate::eviction::evictor::Evictor;
use crate::handover::{self, Inheritance};
use crate::image_gc::Collector;
use crate::node::heartbeat::Heart;
use crate::node::machine::Machine;
use crate::node::{object, register};
use crate::paths::Paths;
use crate::pods::manager::Manager;
use crate::pods::shutdown::{self, Ending, ShutdownGrace};
use crate::pods::table::PodTable;
use crate::providers::Providers;
use crate::runtime::Runtimes;
use crate::runtime::oci::OciRuntime;
use crate::runtime::wasm::WasmRuntime;
use crate::server::LinkService;
use crate::volumes;
use crate::wiring::GuestServices;

/// Why an agent cannot start.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The settings contradict themselves.
    #[error("{0}")]
    Config(String),
    /// The image store.
    #[error("images: {0}")]
    Images(#[from] ImageError),
    /// The container store.
    #[error("containers: {0}")]
    Containers(#[from] OciError),
    /// The network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The Wasm host.
    #[error("wasm: {0}")]
    Wasm(#[from] WasmError),
}

/// A running agent. Cheap to clone; it lives as long as its tasks.
#[derive(Clone)]
pub struct Agent {
    service: LinkService,
    ready: watch::Receiver<Option<String>>,
    images: Images,
    trouble: Arc<watch::Sender<Option<String>>>,
    grace: ShutdownGrace,
    end: mpsc::UnboundedSender<Ending>,
    program: PathBuf,
    paths: Paths,
    /// As soon as there is one.
    guests: Arc<OnceLock<Arc<WasmRuntime>>>,
}

/// How long requests that guests have begun to answer are given when the agent ends.
const REQUESTS_MAX: Duration = Duration::from_secs(10);
/// For how long after its start an agent keeps sockets that an earlier one has left and no pod has asked for yet.
const UNCLAIMED_MAX: Duration = Duration::from_secs(60);

/// Said of a node that is shut down (the kubelet's words).
const SHUTTING_DOWN: &str = "node is shutting down";

/// Said of a node whose network is not up yet (the kubelet's words).
const STARTING: &str = "container runtime network not ready: NetworkReady=false";

impl Agent {
    /// Starts an agent that speaks to the API through `client` (as
    /// `system:node:NAME`). Returns at once; node, network and pods come up in
    /// tasks of `tasks`, which shuts down if the network cannot be made.
    ///
    /// # Errors
    /// When folders cannot be used or settings make no sense.
    pub async fn start(config: AgentConfig, client: Client, tasks: &Tasks) -> Result<Agent, AgentError> {
        check(&config)?;
        let images = Images::open(images_config(&config)?).await?;
        let containers = Containers::open(containers_config(&config), images.clone()).await?;
        let providers = providers(&config)?;
        let (trouble, ready) = watch::channel(Some(STARTING.to_owned()));
        let trouble = Arc::new(trouble);
        let (end, endings) = mpsc::unbounded_channel();
        let service = LinkService {
            table: PodTable::default(),
            context: Arc::new(OnceLock::new()),
            certificate: Certificate::default(),
        };
        let agent = Agent {
            service: service.clone(),
            ready,
            images: images.clone(),
            trouble: trouble.clone(),
            grace: config.shutdown,
            end,
            program: config.program.clone(),
            paths: Paths::new(&config.data_dir),
            guests: Arc::default(),
        };
        let devices = Devices::open(&Paths::new(&config.data_dir));
        let start = Start {
            machine: Machine::read(&config.data_dir),
            paths: Paths::new(&config.data_dir),
            config,
            client,
            tasks: tasks.clone(),
            clock: Arc::new(SystemClock::new()),
            images,
            providers: Mutex::new(providers),
            containers,
            service,
            devices,
            pressure: watch::Sender::default(),
            trouble,
            endings: Mutex::new(Some(endings)),
            guests: agent.guests.clone(),
        };
        tasks.spawn("agent", OnError::Shutdown, start.run());
        Ok(agent)
    }

    /// What answers the API server's requests to this node.
    pub fn service(&self) -> LinkService {
        self.service.clone()
    }

    /// What the node's metrics tell of its certificate.
    pub fn certificate(&self) -> Certificate {
        self.service.certificate.clone()
    }

    /// Waits until the network is up and pods are being run.
    pub async fn ready(&self) {
        let mut ready = self.ready.clone();
        let _ = ready.wait_for(Option::is_none).await;
    }

    /// Ends the pods in order, if the settings give them time for that; the node is to be shut down next.
    pub async fn end_pods(&self) {
        if self.grace.total.is_zero() || self.ready.borrow().is_some() {
            return;
        }
        self.trouble.send_replace(Some(SHUTTING_DOWN.to_owned()));
        shutdown::run(&self.service.table, self.grace, &self.end).await;
    }

    /// Leaves the sockets of Wasm guests to the agent that begins next, if there are any; what they have begun to
    /// answer is finished first. To be called last: nothing answers on them from here on.
    pub async fn leave_guests(&self) {
        let Some(guests) = self.guests.get() else { return };
        let legacy = guests.leave(REQUESTS_MAX).await;
        if legacy.is_empty() {
            return;
        }
        let (program, socket) = (self.program.clone(), self.paths.handover());
        let left = tokio::task::spawn_blocking(move || handover::leave(&program, &socket, &legacy)).await;
        if let Err(error) = left.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
            tracing::warn!(%error, "guests' sockets are not handed over: they refuse connections until the next start");
        }
    }

    /// The node's images.
    pub fn images(&self) -> &Images {
        &self.images
    }

    /// How many pods are on the node.
    pub fn pods(&self) -> usize {
        self.service.table.len()
    }
}

fn images_config(config: &AgentConfig) -> Result<ImagesConfig, ImageError> {
    let settings = &config.images;
    Ok(ImagesConfig {
        dir: config.data_dir.join("images"),
        registries: Registries::load(settings.registry_config.as_deref(), &settings.insecure_registries)?,
        silence_max: settings.registry_silence,
    })
}

fn providers(config: &AgentConfig) -> Result<Providers, AgentError> {
    match &config.images.credential_providers {
        None => Ok(Providers::default()),
        Some((file, folder)) => Providers::load(file, folder).map_err(AgentError::Config),
    }
}

fn containers_config(config: &AgentConfig) -> ContainersConfig {
    ContainersConfig {
        dir: config.data_dir.join("containers"),
        instance_id: config.instance_id.clone(),
        program: config.program.clone(),
    }
}

fn check(config: &AgentConfig) -> Result<(), AgentError> {
    if config.node_name.is_empty() {
        return Err(AgentError::Config("the node has no name".to_owned()));
    }
    // A range that is not one would otherwise surface minutes later.
    network_config(config, config.node_cidr.as_deref().unwrap_or(&config.pod_cidr)).map(drop)
}

fn v4(ip: IpAddr, what: &str) -> Result<Ipv4Addr, AgentError> {
    match ip {
        IpAddr::V4(ip) => Ok(ip),
        IpAddr::V6(_) => Err(AgentError::Config(format!("{what} {ip} is not an IPv4 address"))),
    }
}

fn network_config(config: &AgentConfig, node_cidr: &str) -> Result<NetworkConfig, AgentError> {
    let cidr = |text: &str| {
        text.parse::<Ranges>()
            .map_err(|error| AgentError::Config(format!("ranges of addresses: {error}")))
    };
    Ok(NetworkConfig {
        instance_id: config.instance_id.clone(),
        data_dir: config.data_dir.clone(),
        pod_cidr: cidr(&config.pod_cidr)?,
        node_cidr: cidr(node_cidr)?,
        service_cidr: cidr(&config.service_cidr)?,
        node_name: config.node_name.clone(),
        node_ip: v4(config.node_ip, "the node's address")?,
        node_ip6: match config.node_ip6 {
            Some(IpAddr::V6(ip)) => Some(ip),
            _ => None,
        },
        routing: config.pod_routing,
        proxy: config.service_proxy,
        dns_ip: v4(config.dns_ip, "the address of DNS")?,
        domain: config.domain.clone(),
        resolv_conf: PathBuf::from("/etc/resolv.conf"),
    })
}

struct Start {
    config: AgentConfig,
    machine: Machine,
    paths: Paths,
    client: Client,
    tasks: Tasks,
    clock: Arc<dyn Clock>,
    images: Images,
    /// Taken by the first world.
    providers: Mutex<Providers>,
    containers: Containers,
    service: LinkService,
    devices: Devices,
    pressure: watch::Sender<Pressure>,
    trouble: Arc<watch::Sender<Option<String>>>,
    /// Taken by the pods' manager.
    endings: Mutex<Option<mpsc::UnboundedReceiver<Ending>>>,
    guests: Arc<OnceLock<Arc<WasmRuntime>>>,
}

impl Start {
    async fn run(self) -> Result<(), AgentError> {
        let kept = register::kept(&self.paths, &self.config.node_name).map(|kept| kept.pod_cidr);
        let known = self.config.node_cidr.clone().or(kept);
        let registering = self.register(known.as_ref());
        let node_cidr = match known {
            // Known from before: pods do not wait for any server.
            Some(cidr) => cidr,
            None => match registering.await {
                Ok(cidr) => cidr,
                Err(_) => return Ok(()),
            },
        };
        self.run_pods(&node_cidr).await?;
        self.trouble.send_replace(None);
        // The node is ready as long as this task is there to say so.
        std::future::pending::<()>().await;
        Ok(())
    }

    /// Registers in the background, then beats; the node's range as soon as it is known.
    fn register(&self, known: Option<&String>) -> tokio::sync::oneshot::Receiver<String> {
        let (sender, range) = tokio::sync::oneshot::channel();
        let mut heart = Heart {
            config: AgentConfig {
                node_cidr: known.cloned(),
                ..self.config.clone()
            },
            machine: self.machine.clone(),
            client: self.client.clone(),
            clock: self.clock.clone(),
            images: self.images.clone(),
            devices: self.devices.amounts(),
            pressure: self.pressure.subscribe(),
            trouble: self.trouble.subscribe(),
        };
        let paths = self.paths.clone();
        self.tasks.spawn("node", OnError::Log, async move {
            let known = heart.config.node_cidr.clone();
            let cidr = register::register(&heart.config, &heart.machine, &heart.client, &paths).await;
            if let Some(known) = known.filter(|known| *known != cidr) {
                tracing::error!(%cidr, %known, "the node has another range now: restart it to move its pods");
            }
            heart.config.node_cidr = Some(cidr.clone());
            let _ = sender.send(cidr);
            heart.run().await;
        });
        range
    }

    async fn run_pods(&self, node_cidr: &str) -> Result<(), AgentError> {
        // Before any pod: what is mounted later is not seen by those that began before.
        if let Err(error) = volumes::memory::open(&self.paths.memory()) {
            tracing::warn!(%error, "volumes of Secrets lie on the disk: no memory can be mounted for them");
        }
        let (client, tasks) = (&self.client, &self.tasks);
        let network_config = network_config(&self.config, node_cidr)?;
        let network = PodNetwork::open(network_config.clone()).await?;
        let services = kept::cache::<Service>(client, self.paths.kept("services"), tasks);
        let slices = kept::cache(client, self.paths.kept("endpointslices"), tasks);
        let catalog = Catalog::over(services.clone(), slices, tasks);
        let nodes = kept::cache::<Node>(client, self.paths.kept("nodes"), tasks);
        network::peers::follow(nodes.clone(), network.clone(), tasks);
        let balancing = Services::start(&catalog, &nodes, &network_config, tasks)?;
        network::announce::start(&catalog, &nodes, &network_config, tasks)?;
        let balancer = balancing.balancer();
        let dns = Dns::start(&catalog, &network_config, tasks).await?;
        let guests = Arc::new(GuestServices { balancer, dns });
        let host = Host::new(self.host_config(&network))?;
        let inheritance = self.inherit().await;
        let wasm = WasmRuntime::new(host.clone(), guests, self.clock.clone(), inheritance);
        let wasm = Arc::new(wasm);
        let _ = self.guests.set(wasm.clone());
        let oci = OciRuntime::new(self.containers.clone());
        let runtimes = Runtimes {
            oci: Arc::new(oci),
            wasm,
        };
        let context = Arc::new(Context::new(
            self.config.clone(),
            self.world(runtimes, network, Arc::new(balancing), services),
        ));
        let selectors = Selectors::all().fields(format!("spec.nodeName={}", self.config.node_name));
        let pods = Cache::<Pod>::start(client, selectors, tasks);
        context.volumes.local.resume();
        let cpus = context.cpus.clone().follow(context.clone());
        tasks.spawn("processors", OnError::Log, cpus);
        tasks.spawn("device plugins", OnError::Log, self.devices.clone().serve());
        let reporter = Reporter {
            folder: context.paths.pod_resources(),
            devices: self.devices.clone(),
            table: self.service.table.clone(),
        };
        tasks.spawn("pod resources", OnError::Log, reporter.serve());
        let csi = &context.volumes.csi;
        tasks.spawn("plugins' registry", OnError::Log, csi.clone().follow_registry());
        tasks.spawn("growing volumes", OnError::Log, csi.clone().follow_growth());
        let _ = self.service.context.set(context.clone());
        let (evict, evictions) = mpsc::unbounded_channel();
        let collector = Arc::new(Collector {
            node: context.clone(),
            images: self.images.clone(),
            table: self.service.table.clone(),
            host,
        });
        let evictor = Evictor {
            node: context.clone(),
            machine: self.machine.clone(),
            images: collector.clone(),
            table: self.service.table.clone(),
            pressure: self.pressure.clone(),
            evict,
        };
        tasks.spawn("eviction", OnError::Log, evictor.run());
        tasks.spawn("image garbage collection", OnError::Log, collector.run());
        let (table, pressure) = (self.service.table.clone(), self.pressure.subscribe());
        let endings = self.endings.lock().unwrap_or_else(PoisonError::into_inner).take();
        let endings = endings.unwrap_or_else(|| mpsc::unbounded_channel().1);
        let manager = Manager::new(context, table, tasks.clone(), pressure, evictions, endings);
        tasks.spawn("pods", OnError::Shutdown, manager.run(pods));
        Ok(())
    }

    /// What an earlier agent's guests have left; what nobody asks for is given up after a while.
    async fn inherit(&self) -> Arc<Inheritance> {
        let socket = self.paths.handover();
        let fetched = tokio::task::spawn_blocking(move || Inheritance::fetch(&socket)).await;
        let inheritance = Arc::new(fetched.unwrap_or_default());
        let unclaimed = inheritance.clone();
        self.tasks.spawn("unclaimed sockets", OnError::Log, async move {
            tokio::time::sleep(UNCLAIMED_MAX).await;
            unclaimed.close();
        });
        inheritance
    }

    fn host_config(&self, network: &PodNetwork) -> HostConfig {
        let path = network.shared_netns().to_owned();
        // Every socket a guest makes is born where its thread lives.
        let enter = move || {
            let entered = sys::netns::open(&path).and_then(sys::netns::enter);
            if let Err(error) = entered {
                tracing::error!(%error, "a guest thread is not in the pods' namespace");
            }
            // The node's own threads go first. (Raising it is refused to nobody.)
            let _ = sys::process::set_nice(0);
        };
        HostConfig {
            cache_dir: Some(self.config.data_dir.join("cwasm")),
            compiler: Some(Compiler::new(self.config.program.clone())),
            max_instances: self.config.pods_max.max(HostConfig::default().max_instances),
            on_thread_start: Some(Arc::new(enter)),
            ..HostConfig::default()
        }
    }

    fn world(
        &self,
        runtimes: Runtimes,
        network: PodNetwork,
        balancing: Arc<Services>,
        services: Cache<Service>,
    ) -> World {
        let (cpu, memory, storage) = object::allocatable(&self.config, &self.machine);
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let node = &self.config.node_name;
        World {
            client: self.client.clone(),
            recorder: Recorder::new(
                self.client.clone(),
                "kubelet",
                node,
                self.clock.clone(),
                &self.tasks,
            ),
            clock: self.clock.clone(),
            random: Arc::new(SystemRandom),
            images: Arc::new(self.images.clone()),
            providers: self
                .providers
                .lock()
                .map(|mut all| std::mem::take(&mut *all))
                .unwrap_or_default(),
            runtimes,
            net: Arc::new(network),
            balancing,
            services,
            facts: NodeFacts {
                name: node.clone(),
                ip: self.config.node_ips(),
                cpu_millis: number(cpu),
                memory_bytes: number(memory),
                storage_bytes: number(storage),
            },
            devices: self.devices.clone(),
            table: self.service.table.clone(),
            tasks: self.tasks.clone(),
        }
    }
}

/// Ends every pod on this machine and removes what the agent made on it,
/// except the data folder: `coracle down`. No agent must be running.
///
/// # Errors
/// The first thing that could not be removed; the rest was tried.
pub async fn teardown(config: &AgentConfig) -> Result<(), AgentError> {
    let images = Images::open(images_config(config)?).await?;
    let ended = oci::containers::end_all(&containers_config(config), &images).await;
    let paths = Paths::new(&config.data_dir);
    // Whoever still holds sockets for a next agent lets go of them.
    Inheritance::fetch(&paths.handover()).close();
    let (pods, memory, stages, id, data) = (
        paths.pods(),
        paths.memory(),
        paths.plugins(),
        config.instance_id.clone(),
        config.data_dir.clone(),
    );
    let cleaned = tokio::task::spawn_blocking(move || {
        volumes::unmount_below(&pods);
        volumes::unmount_below(&memory);
        volumes::unmount_below(&stages);
        network::cleanup(&id, &data)
    });
    let cleaned = cleaned
        .await
        .map_err(|error| AgentError::Config(error.to_string()))?;
    ended?;
    Ok(cleaned?)
}
