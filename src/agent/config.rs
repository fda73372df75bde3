//! What the agent is told at start.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::cpus::CpuSet;
use crate::eviction::Thresholds;
use crate::pods::effects::access::Verification;
use api::cidr::Addresses;
use network::{PodRouting, ServiceProxy};

/// Settings of an agent. [`AgentConfig::new`] fills in what rarely differs.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Name of the Node object; `system:node:NAME` is the agent's user.
    pub node_name: String,
    /// The data folder; the agent uses `pods/`, `images/`, `containers/`, `cwasm/` and `node.json` in it.
    pub data_dir: PathBuf,
    /// Prefix of kernel objects, 8 hex digits.
    pub instance_id: String,
    /// Address under which other nodes reach this one.
    pub node_ip: IpAddr,
    /// The same of IPv6, if it has one beside.
    pub node_ip6: Option<IpAddr>,
    /// How packets for pods of other nodes travel.
    pub pod_routing: PodRouting,
    /// Who balances Services.
    pub service_proxy: ServiceProxy,
    /// All pods' addresses: a range such as `10.64.0.0/10`, or with a comma one of each family.
    pub pod_cidr: String,
    /// This node's part of them; `None`: whatever the Node object's `spec.podCIDRs` become.
    pub node_cidr: Option<String>,
    /// Services' addresses, such as `10.43.0.0/16`, of one or both families.
    pub service_cidr: String,
    /// Address of cluster DNS, such as `10.43.0.10`.
    pub dns_ip: IpAddr,
    /// Domain of the cluster, `cluster.local`.
    pub domain: String,
    /// Labels to put on the Node besides the standard ones.
    pub labels: BTreeMap<String, String>,
    /// This program, run again as the containers' shim.
    pub program: PathBuf,
    /// Most pods on this node (`capacity.pods`).
    pub pods_max: u32,
    /// Version shown as `kubeletVersion`.
    pub version: String,
    /// Folder of pods that this machine asks for (the kubelet's `staticPodPath`).
    pub static_pods: Option<PathBuf>,
    /// What pods are given when the node is shut down.
    pub shutdown: ShutdownGrace,
    /// Where images come from and how long they stay.
    pub images: ImageSettings,
    /// What pods may use of the machine, and when they have to go.
    pub limits: Limits,
    /// Waiting times.
    pub timing: Timing,
}

/// Where images come from and how long they stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSettings {
    /// Registries (`host[:port]`) spoken to over plain HTTP besides those on loopback.
    pub insecure_registries: Vec<String>,
    /// File with mirrors, authorities and credentials, see [`oci::Registries`].
    pub registry_config: Option<PathBuf>,
    /// Silence of a registry after which it counts as gone.
    pub registry_silence: Duration,
    /// File that says which programs know credentials for which images, and the folder of these programs.
    pub credential_providers: Option<(PathBuf, PathBuf)>,
    /// Of which images on this machine pods have to show that they could pull them.
    pub verification: Verification,
    /// Use of the disk, in percent, from which unused images are removed (the
    /// kubelet's `imageGCHighThresholdPercent`); 100: never.
    pub gc_high_percent: u8,
    /// Down to which use of the disk they are (`imageGCLowThresholdPercent`).
    pub gc_low_percent: u8,
    /// How long an image stays at least (`imageMinimumGCAge`).
    pub gc_age_min: Duration,
    /// How often the disk is looked at.
    pub gc_period: Duration,
}

impl Default for ImageSettings {
    fn default() -> ImageSettings {
        ImageSettings {
            insecure_registries: Vec::new(),
            registry_config: None,
            registry_silence: Duration::from_secs(30),
            credential_providers: None,
            verification: Verification::default(),
            gc_high_percent: 85,
            gc_low_percent: 80,
            gc_age_min: Duration::from_secs(120),
            gc_period: Duration::from_secs(300),
        }
    }
}

/// What pods may use of the machine, and when they have to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most processes and threads of one pod (the kubelet's `podPidsLimit`); 0 for no limit.
    pub pod_pids: u64,
    /// Processors that no container gets for itself (`reservedSystemCPUs`), where whole ones are given at all (the
    /// `cpuManagerPolicy` `static`); `None`: all containers share all.
    pub reserved_cpus: Option<CpuSet>,
    /// Sysctls beyond the safe ones that pods may set (`allowedUnsafeSysctls`); `*` at an end stands for any rest.
    pub sysctls: Vec<String>,
    /// Size at which a container's log is rotated (`containerLogMaxSize`); 0 for never.
    pub log_bytes: u64,
    /// Files kept of a container's log, the current one included (`containerLogMaxFiles`).
    pub log_files: u32,
    /// Below what pods are evicted (`evictionHard`).
    pub eviction_hard: Thresholds,
    /// How long the node tells of pressure after it was relieved (`evictionPressureTransitionPeriod`).
    pub pressure_lasts: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            // The kubelet knows none; this is what distributions that care set. A
            // fork bomb ends there, and hardly any program comes near.
            pod_pids: 4096,
            reserved_cpus: None,
            sysctls: Vec::new(),
            log_bytes: 10 << 20,
            log_files: 5,
            eviction_hard: Thresholds::default(),
            pressure_lasts: Duration::from_secs(300),
        }
    }
}

impl AgentConfig {
    /// The node's addresses, the primary first.
    pub fn node_ips(&self) -> Addresses {
        Addresses::from(self.node_ip).and(self.node_ip6)
    }

    /// Settings with the product's defaults.
    pub fn new(node_name: &str, data_dir: PathBuf, instance_id: &str, node_ip: IpAddr) -> AgentConfig {
        AgentConfig {
            node_name: node_name.to_owned(),
            data_dir,
            instance_id: instance_id.to_owned(),
            node_ip,
            node_ip6: None,
            pod_routing: PodRouting::Auto,
            service_proxy: ServiceProxy::Kernel,
            pod_cidr: "10.64.0.0/10".to_owned(),
            node_cidr: None,
            service_cidr: "10.43.0.0/16".to_owned(),
            dns_ip: IpAddr::from([10, 43, 0, 10]),
            domain: "cluster.local".to_owned(),
            labels: BTreeMap::new(),
            program: PathBuf::from("/proc/self/exe"),
            pods_max: 4096,
            version: concat!("v1.36.0+coracle", env!("CARGO_PKG_VERSION")).to_owned(),
            static_pods: None,
            shutdown: ShutdownGrace::default(),
            images: ImageSettings::default(),
            limits: Limits::default(),
            timing: Timing::default(),
        }
    }
}

/// How long the agent waits before it tries again. Tests shorten these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// First pause before a container that crashed twice is started again; doubles each time.
    pub crash_base: Duration,
    /// Longest such pause; after twice as long without a crash the pauses start over.
    pub crash_max: Duration,
    /// First pause after an image could not be pulled; doubles each time.
    pub image_base: Duration,
    /// Longest such pause.
    pub image_max: Duration,
    /// Pause after anything else that may come right by itself: a missing
    /// ConfigMap, a volume, the sandbox.
    pub retry: Duration,
    /// Interval of lease renewals and of the look at memory and disk.
    pub heartbeat: Duration,
    /// Longest time without a write of the Node's status.
    pub node_report: Duration,
    /// Interval of the look at what pods use of memory and disk (the kubelet's).
    pub eviction: Duration,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            crash_base: Duration::from_secs(10),
            crash_max: Duration::from_secs(300),
            image_base: Duration::from_secs(10),
            image_max: Duration::from_secs(300),
            retry: Duration::from_secs(5),
            heartbeat: Duration::from_secs(10),
            node_report: Duration::from_secs(300),
            eviction: Duration::from_secs(10),
        }
    }
}

/// How long pods are given when the node is shut down; nothing by default: containers outlive the agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShutdownGrace {
    /// In all (the kubelet's `shutdownGracePeriod`); zero for leaving pods alone.
    pub total: Duration,
    /// Of this, what is kept for critical pods (`shutdownGracePeriodCriticalPods`).
    pub critical: Duration,
}
