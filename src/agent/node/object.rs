//! The Node object: pure, from what the machine is and how it is doing.

use std::collections::BTreeMap;

use client::link::INSTANCE;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerImage, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeSpec, NodeStatus,
    NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use super::machine::Machine;
use crate::config::AgentConfig;
use crate::devices::{Amount, Amounts};
use crate::eviction::Pressure;
use crate::eviction::signals::{Signal, binary};
use crate::huge_pages;
use crate::paths::Paths;

/// As many images as the kubelet lists in a status.
const IMAGES_MAX: usize = 50;

/// What pods may ask of this node that not every kubelet can do; not where they have processors for themselves.
const DECLARED: [&str; 1] = ["GuaranteedQoSPodCPUResize"];

/// The Node as it registers itself.
pub fn node(config: &AgentConfig, machine: &Machine) -> Node {
    let ranges = config.node_cidr.as_ref();
    let ranges = ranges.map(|ranges| ranges.split(',').map(str::to_owned).collect::<Vec<_>>());
    Node {
        metadata: ObjectMeta {
            name: Some(config.node_name.clone()),
            labels: Some(labels(config, machine)),
            annotations: Some(annotations(config)),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            pod_cidr: ranges.as_ref().and_then(|ranges| ranges.first().cloned()),
            pod_cidrs: ranges,
            ..NodeSpec::default()
        }),
        ..Node::default()
    }
}

/// The labels every node has, and the configured ones.
pub fn labels(config: &AgentConfig, machine: &Machine) -> BTreeMap<String, String> {
    let mut labels = config.labels.clone();
    for (name, value) in [
        ("kubernetes.io/hostname", config.node_name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", machine.architecture),
    ] {
        labels.insert(name.to_owned(), value.to_owned());
    }
    labels
}

/// What tells this machine from another one of the same name, what the network of other nodes must know
/// of it, and where it has room for volumes.
pub fn annotations(config: &AgentConfig) -> BTreeMap<String, String> {
    BTreeMap::from([
        (INSTANCE.to_owned(), config.instance_id.clone()),
        (
            network::peers::ROUTING_ANNOTATION.to_owned(),
            config.pod_routing.to_string(),
        ),
        (
            api::storage::LOCAL_PATH.to_owned(),
            Paths::new(&config.data_dir).local_path().display().to_string(),
        ),
    ])
}

/// What pods may use of the machine: thousandths of a core, bytes of memory,
/// bytes of storage. All but what must be left when the node begins to evict.
pub fn allocatable(config: &AgentConfig, machine: &Machine) -> (u64, u64, u64) {
    let left = |signal, all| all - config.limits.eviction_hard.reserved(signal, all);
    let huge: u64 = machine.huge_pages.values().sum();
    // What lies in huge pages can be used for nothing else.
    let memory = left(Signal::Memory, machine.memory_bytes).saturating_sub(huge);
    let storage = left(Signal::NodefsBytes, machine.storage_bytes);
    let reserved = config
        .limits
        .reserved_cpus
        .as_ref()
        .map_or(0, |cpus| cpus.len() as u64);
    (machine.cpus.saturating_sub(reserved) * 1000, memory, storage)
}

/// What a status says of the moment.
pub struct Condition<'a> {
    /// How many devices plugins provide.
    pub devices: &'a Amounts,
    /// What the node is short of.
    pub pressure: Pressure,
    /// Why the node is not ready; `None` when it is.
    pub trouble: Option<&'a str>,
    /// The present.
    pub now: Timestamp,
    /// The conditions said before, whose transition times go on.
    pub before: &'a [NodeCondition],
}

/// The status of the node.
pub fn status(
    config: &AgentConfig,
    machine: &Machine,
    images: &[oci::Image],
    at: &Condition<'_>,
) -> NodeStatus {
    let (cpu, memory, storage) = allocatable(config, machine);
    let amounts = |cpu: String, memory: u64, storage: u64, devices: fn(&Amount) -> usize| {
        let list = [
            ("cpu", cpu),
            ("memory", format!("{}Ki", memory / 1024)),
            ("ephemeral-storage", storage.to_string()),
            ("pods", config.pods_max.to_string()),
        ];
        let own = list.map(|(name, amount)| (name.to_owned(), Quantity(amount)));
        let huge = machine.huge_pages.iter();
        let huge = huge.map(|(page, bytes)| (huge_pages::resource(*page), Quantity(binary(*bytes))));
        let provided = at.devices.iter();
        let provided = provided.map(|(name, amount)| (name.clone(), Quantity(devices(amount).to_string())));
        Some(own.into_iter().chain(huge).chain(provided).collect())
    };
    let address = |kind: &str, address: String| NodeAddress {
        type_: kind.to_owned(),
        address,
    };
    NodeStatus {
        capacity: amounts(
            machine.cpus.to_string(),
            machine.memory_bytes,
            machine.storage_bytes,
            |devices| devices.capacity,
        ),
        allocatable: amounts((cpu / 1000).to_string(), memory, storage, |devices| {
            devices.allocatable
        }),
        addresses: Some(
            std::iter::once(config.node_ip)
                .chain(config.node_ip6)
                .map(|ip| address("InternalIP", ip.to_string()))
                .chain([address("Hostname", config.node_name.clone())])
                .collect(),
        ),
        node_info: Some(info(config, machine)),
        daemon_endpoints: Some(NodeDaemonEndpoints::default()),
        conditions: Some(conditions(at)),
        images: Some(images.iter().take(IMAGES_MAX).map(image).collect()),
        declared_features: match config.limits.reserved_cpus {
            None => Some(DECLARED.iter().map(|feature| (*feature).to_owned()).collect()),
            Some(_) => None,
        },
        ..NodeStatus::default()
    }
}

fn info(config: &AgentConfig, machine: &Machine) -> NodeSystemInfo {
    NodeSystemInfo {
        machine_id: machine.machine_id.clone(),
        system_uuid: machine.system_uuid.clone(),
        boot_id: machine.boot_id.clone(),
        kernel_version: machine.kernel.clone(),
        os_image: machine.os_image.clone(),
        container_runtime_version: concat!("coracle://", env!("CARGO_PKG_VERSION")).to_owned(),
        kubelet_version: config.version.clone(),
        kube_proxy_version: String::new(),
        operating_system: "linux".to_owned(),
        architecture: machine.architecture.to_owned(),
        ..NodeSystemInfo::default()
    }
}

fn image(image: &oci::Image) -> ContainerImage {
    ContainerImage {
        names: Some(image.references.clone()),
        size_bytes: i64::try_from(image.size_bytes).ok(),
    }
}

fn conditions(at: &Condition<'_>) -> Vec<NodeCondition> {
    let pressure = |kind, met: bool, bad: (&str, &str), good: (&str, &str)| {
        let (reason, message) = if met { bad } else { good };
        (kind, met, reason.to_owned(), message.to_owned())
    };
    let list = [
        pressure(
            "MemoryPressure",
            at.pressure.memory,
            (
                "KubeletHasInsufficientMemory",
                "kubelet has insufficient memory available",
            ),
            (
                "KubeletHasSufficientMemory",
                "kubelet has sufficient memory available",
            ),
        ),
        pressure(
            "DiskPressure",
            at.pressure.disk,
            ("KubeletHasDiskPressure", "kubelet has disk pressure"),
            ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ),
        pressure(
            "PIDPressure",
            at.pressure.pids,
            (
                "KubeletHasInsufficientPID",
                "kubelet has insufficient PID available",
            ),
            ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ),
        match at.trouble {
            None => (
                "Ready",
                true,
                "KubeletReady".into(),
                "kubelet is posting ready status".into(),
            ),
            Some(why) => ("Ready", false, "KubeletNotReady".into(), why.to_owned()),
        },
    ];
    let make = |(kind, met, reason, message): (&str, bool, String, String)| {
        let status = if met { "True" } else { "False" };
        let old = at.before.iter().find(|c| c.type_ == kind && c.status == status);
        let since = old.and_then(|c| c.last_transition_time.clone());
        NodeCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason),
            message: Some(message),
            last_heartbeat_time: Some(Time(at.now)),
            last_transition_time: Some(since.unwrap_or(Time(at.now))),
        }
    };
    list.into_iter().map(make).collect()
}

/// Whether two statuses say the same but for the time of the beat.
pub fn same(a: &NodeStatus, b: &NodeStatus) -> bool {
    let timeless = |status: &NodeStatus| {
        let mut status = status.clone();
        for condition in status.conditions.iter_mut().flatten() {
            condition.last_heartbeat_time = None;
        }
        status
    };
    timeless(a) == timeless(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine {
            cpus: 2,
            memory_bytes: 1 << 30,
            storage_bytes: 100 << 30,
            architecture: "amd64",
            ..Default::default()
        }
    }

    fn config() -> AgentConfig {
        AgentConfig::new("n1", "/nowhere".into(), "00000000", [192, 0, 2, 1].into())
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn made(pressure: Pressure, trouble: Option<&str>, now: i64, before: &[NodeCondition]) -> NodeStatus {
        status(
            &config(),
            &machine(),
            &[],
            &Condition {
                devices: &Amounts::new(),
                pressure,
                trouble,
                now: at(now),
                before,
            },
        )
    }

    fn condition(status: &NodeStatus, kind: &str) -> NodeCondition {
        status
            .conditions
            .iter()
            .flatten()
            .find(|c| c.type_ == kind)
            .unwrap()
            .clone()
    }

    #[test]
    fn amounts_are_canonical() {
        let status = made(Pressure::default(), None, 1, &[]);
        let get =
            |list: &Option<BTreeMap<String, Quantity>>, name: &str| list.as_ref().unwrap()[name].0.clone();
        assert_eq!(get(&status.capacity, "cpu"), "2");
        assert_eq!(get(&status.capacity, "memory"), "1048576Ki");
        assert_eq!(get(&status.allocatable, "memory"), "946176Ki");
        assert_eq!(get(&status.capacity, "pods"), "4096");
    }

    #[test]
    fn huge_pages_are_a_resource_of_their_own() {
        let machine = Machine {
            huge_pages: [(2 << 20, 6 << 20), (1 << 30, 0)].into(),
            ..machine()
        };
        let at = Condition {
            devices: &Amounts::new(),
            pressure: Pressure::default(),
            trouble: None,
            now: at(1),
            before: &[],
        };
        let status = status(&config(), &machine, &[], &at);
        for list in [status.capacity, status.allocatable.clone()] {
            let list = list.unwrap();
            assert_eq!(
                (list["hugepages-2Mi"].0.as_str(), list["hugepages-1Gi"].0.as_str()),
                ("6Mi", "0")
            );
        }
        assert_eq!(
            status.allocatable.unwrap()["memory"].0,
            format!("{}Ki", 946_176 - 6 * 1024)
        );
    }

    #[test]
    fn pressure_is_told() {
        let status = made(Pressure::default(), None, 1, &[]);
        assert_eq!(condition(&status, "Ready").status, "True");
        assert_eq!(condition(&status, "DiskPressure").status, "False");
        let full = Pressure {
            memory: true,
            disk: true,
            pids: false,
        };
        let status = made(full, Some("the network is not up"), 1, &[]);
        assert_eq!(condition(&status, "DiskPressure").status, "True");
        assert_eq!(
            condition(&status, "MemoryPressure").reason.as_deref(),
            Some("KubeletHasInsufficientMemory")
        );
        assert_eq!(
            condition(&status, "Ready").message.as_deref(),
            Some("the network is not up")
        );
    }

    #[test]
    fn only_the_beat_differs_while_nothing_changes() {
        let first = made(Pressure::default(), None, 1, &[]);
        let second = made(
            Pressure::default(),
            None,
            100,
            first.conditions.as_deref().unwrap(),
        );
        assert_ne!(first, second);
        assert!(same(&first, &second));
        let third = made(
            Pressure::default(),
            Some("x"),
            200,
            second.conditions.as_deref().unwrap(),
        );
        assert!(!same(&second, &third));
        assert_eq!(
            condition(&third, "Ready").last_transition_time,
            Some(Time(at(200)))
        );
    }
}
