//! The cluster as the scheduler counts it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use api::pod::{Amounts, HostPort};
use k8s_openapi::api::core::v1::{Node, Pod, PodSpec};

use crate::storage::Storage;

/// A pod with what the plugins ask of it again and again.
#[derive(Debug)]
pub struct PodInfo {
    /// The pod.
    pub pod: Arc<Pod>,
    /// Namespace of the pod.
    pub namespace: String,
    /// What it asks for.
    pub requests: Amounts,
    /// Ports it takes on its node.
    pub host_ports: Vec<HostPort>,
}

impl PodInfo {
    /// Counts a pod.
    pub fn new(pod: Arc<Pod>) -> Self {
        let empty = PodSpec::default();
        let spec = pod.spec.as_ref().unwrap_or(&empty);
        Self {
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            requests: api::pod::requests(spec),
            host_ports: api::pod::host_ports(spec),
            pod,
        }
    }

    /// The specification; empty when the pod has none.
    pub fn spec(&self) -> &PodSpec {
        static EMPTY: std::sync::LazyLock<PodSpec> = std::sync::LazyLock::new(PodSpec::default);
        self.pod.spec.as_ref().unwrap_or(&EMPTY)
    }

    /// The UID, by which the snapshot knows the pod.
    pub fn uid(&self) -> &str {
        self.pod.metadata.uid.as_deref().unwrap_or_default()
    }
}

/// A node with the pods on it.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    /// The node.
    pub node: Arc<Node>,
    /// What pods may ask for in all.
    pub allocatable: Amounts,
    /// What they ask for now.
    pub requested: Amounts,
    /// The pods, by UID.
    pub pods: HashMap<String, Arc<PodInfo>>,
}

impl NodeInfo {
    fn new(node: Arc<Node>) -> Self {
        let amounts = node
            .status
            .as_ref()
            .and_then(|status| status.allocatable.as_ref());
        Self {
            allocatable: amounts.map(api::pod::read).unwrap_or_default(),
            requested: Amounts::new(),
            pods: HashMap::new(),
            node,
        }
    }

    /// Name of the node.
    pub fn name(&self) -> &str {
        self.node.metadata.name.as_deref().unwrap_or_default()
    }

    /// A label of the node.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.node.metadata.labels.as_ref()?.get(key).map(String::as_str)
    }

    fn add(&mut self, pod: Arc<PodInfo>) {
        self.remove(pod.uid());
        api::pod::add(&mut self.requested, &pod.requests);
        self.pods.insert(pod.uid().to_owned(), pod);
    }

    fn remove(&mut self, uid: &str) {
        if self.pods.remove(uid).is_some() {
            // Summed anew rather than subtracted: quantities of mixed scale would lose a little each time.
            self.requested = Amounts::new();
            for pod in self.pods.values() {
                api::pod::add(&mut self.requested, &pod.requests);
            }
        }
    }
}

/// All nodes, with the pods bound to them.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Claims and volumes.
    pub storage: Storage,
    nodes: BTreeMap<String, NodeInfo>,
    /// Where each pod is, by UID.
    places: HashMap<String, String>,
    /// Pods on nodes that have not been seen yet.
    homeless: HashMap<String, Arc<PodInfo>>,
}

impl Snapshot {
    /// Of no nodes, with that storage.
    pub fn over(storage: Storage) -> Self {
        Self {
            storage,
            ..Self::default()
        }
    }

    /// The nodes, by name.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeInfo> {
        self.nodes.values()
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Takes in a node's newest state.
    pub fn set_node(&mut self, node: Arc<Node>) {
        let mut info = NodeInfo::new(node);
        let name = info.name().to_owned();
        if let Some(old) = self.nodes.remove(&name) {
            old.pods.into_values().for_each(|pod| info.add(pod));
        }
        let places = &self.places;
        let arrived = self.homeless.extract_if(|uid, _| places.get(uid) == Some(&name));
        arrived.for_each(|(_, pod)| info.add(pod));
        self.nodes.insert(name, info);
    }

    /// Takes out a node; its pods wait in case it comes back.
    pub fn remove_node(&mut self, name: &str) {
        if let Some(old) = self.nodes.remove(name) {
            self.homeless.extend(old.pods);
        }
    }

    /// Takes in a pod that is bound to a node and not finished.
    pub fn set_pod(&mut self, pod: Arc<PodInfo>) {
        self.remove_pod(pod.uid());
        let node = pod.spec().node_name.clone().unwrap_or_default();
        self.place(pod, &node);
    }

    /// Counts a pod on a node before the API has confirmed it.
    pub fn assume(&mut self, pod: Arc<PodInfo>, node: &str) {
        self.remove_pod(pod.uid());
        self.place(pod, node);
    }

    fn place(&mut self, pod: Arc<PodInfo>, node: &str) {
        self.places.insert(pod.uid().to_owned(), node.to_owned());
        match self.nodes.get_mut(node) {
            Some(info) => info.add(pod),
            None => {
                self.homeless.insert(pod.uid().to_owned(), pod);
            }
        }
    }

    /// Takes out a pod; whether it was there.
    pub fn remove_pod(&mut self, uid: &str) -> bool {
        let Some(node) = self.places.remove(uid) else {
            return false;
        };
        self.homeless.remove(uid);
        if let Some(info) = self.nodes.get_mut(&node) {
            info.remove(uid);
        }
        true
    }
}
