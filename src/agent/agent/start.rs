//! What an agent brings up, in what order.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use base::{Clock, OnError, SystemRandom, Tasks};
use client::{Cache, Client, Recorder, Selectors};
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use network::catalog::kept;
use network::{Catalog, Dns, PodNetwork, Services};
use oci::{Containers, Images};
use tokio::sync::{mpsc, watch};
use wasm::{Compiler, Host, HostConfig};

use super::error::AgentError;
use super::parts;
use crate::config::AgentConfig;
use crate::context::{Context, World};
use crate::devices::Devices;
use crate::devices::report::Reporter;
use crate::env::NodeFacts;
use crate::eviction::Pressure;
use crate::eviction::evictor::Evictor;
use crate::handover::Inheritance;
use crate::image_gc::Collector;
use crate::node::heartbeat::Heart;
use crate::node::machine::Machine;
use crate::node::{object, register};
use crate::paths::Paths;
use crate::pods::manager::Manager;
use crate::pods::shutdown::Ending;
use crate::providers::Providers;
use crate::runtime::Runtimes;
use crate::runtime::oci::OciRuntime;
use crate::runtime::wasm::WasmRuntime;
use crate::server::LinkService;
use crate::volumes;
use crate::wiring::GuestServices;

/// For how long after its start an agent keeps sockets that an earlier one has left and no pod has asked for yet.
const UNCLAIMED_MAX: Duration = Duration::from_secs(60);

/// What the tasks of an agent are made of.
pub(super) struct Start {
    pub(super) config: AgentConfig,
    pub(super) machine: Machine,
    pub(super) paths: Paths,
    pub(super) client: Client,
    pub(super) tasks: Tasks,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) images: Images,
    /// Taken by the first world.
    pub(super) providers: Mutex<Providers>,
    pub(super) containers: Containers,
    pub(super) service: LinkService,
    pub(super) devices: Devices,
    pub(super) pressure: watch::Sender<Pressure>,
    pub(super) trouble: Arc<watch::Sender<Option<String>>>,
    /// Taken by the pods' manager.
    pub(super) endings: Mutex<Option<mpsc::UnboundedReceiver<Ending>>>,
    pub(super) guests: Arc<OnceLock<Arc<WasmRuntime>>>,
}

impl Start {
    /// Brings up node, network and pods, and stays.
    pub(super) async fn run(self) -> Result<(), AgentError> {
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
        let network_config = parts::network_config(&self.config, node_cidr)?;
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
