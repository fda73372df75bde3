//! The agent put together: what [`crate::Agent::start`] starts, in what order.
//!
//! ```text
//! images, containers ─▶ (node registered, or its range known from before)
//!    ─▶ network, Wasm host, Services, DNS ─▶ pods from disk ─▶ pods from the API
//! ```

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use base::{OnError, SystemClock, Tasks};
use client::Client;
use oci::{Containers, Images};
use tokio::sync::{mpsc, watch};

use self::start::Start;
use crate::certificate::Certificate;
use crate::config::AgentConfig;
use crate::config::ShutdownGrace;
use crate::devices::Devices;
use crate::handover;
use crate::node::machine::Machine;
use crate::paths::Paths;
use crate::pods::shutdown::{self, Ending};
use crate::pods::table::PodTable;
use crate::runtime::wasm::WasmRuntime;
use crate::server::LinkService;

mod error;
mod parts;
mod start;
mod teardown;

pub use error::AgentError;
pub use teardown::teardown;

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
        parts::check(&config)?;
        let images = Images::open(parts::images_config(&config)?).await?;
        let containers = Containers::open(parts::containers_config(&config), images.clone()).await?;
        let providers = parts::providers(&config)?;
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
