//! What was seen of a node and its pods at one moment.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use oci::Usage;

use super::network::Interface;
use crate::eviction::usage::PodUse;
use crate::fill::Fill;

/// Everything at one moment.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// When.
    pub at: Timestamp,
    /// The node.
    pub node: NodeSample,
    /// Its pods that have not ended.
    pub pods: Vec<PodSample>,
}

/// The node as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeSample {
    /// Its name.
    pub name: String,
    /// Since when the machine is up.
    pub booted: Timestamp,
    /// Cores.
    pub cores: u64,
    /// CPU time of everything since then, in nanoseconds.
    pub cpu_ns: u64,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Those that could be had.
    pub memory_available_bytes: u64,
    /// Processes and threads.
    pub tasks: u64,
    /// Most of these.
    pub tasks_max: u64,
    /// Bytes of the file system under the data folder, and those free.
    pub storage: (u64, u64),
    /// Its network interfaces.
    pub network: Vec<Interface>,
}

/// One pod.
#[derive(Clone, Debug)]
pub struct PodSample {
    /// The pod.
    pub pod: Arc<Pod>,
    /// Its containers that run.
    pub containers: Vec<ContainerSample>,
    /// What it has on the disk.
    pub disk: PodUse,
    /// Volumes behind claims, and how full they are.
    pub claims: Vec<ClaimUse>,
    /// Its network interfaces, if it has a namespace of its own.
    pub network: Vec<Interface>,
}

/// A volume behind a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimUse {
    /// Its name in the pod.
    pub volume: String,
    /// The claim, of the pod's namespace.
    pub claim: String,
    /// How full it is.
    pub fill: Fill,
}

/// One running container.
#[derive(Clone, Debug, Default)]
pub struct ContainerSample {
    /// Its name.
    pub name: String,
    /// Its id, with its scheme.
    pub id: String,
    /// Its image.
    pub image: String,
    /// Since when it runs, if the API has heard of it.
    pub started: Option<Timestamp>,
    /// What it uses.
    pub usage: Usage,
}

impl PodSample {
    /// CPU time of its running containers, in nanoseconds.
    pub fn cpu_ns(&self) -> u64 {
        self.containers.iter().map(|c| c.usage.cpu_ns).sum()
    }

    /// Their memory, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        self.containers.iter().map(|c| c.usage.memory_bytes).sum()
    }
}
