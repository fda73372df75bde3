//! Which pods are here, for those who ask: logs, exec, port-forward, the node's status.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::Pod;
use tokio::sync::watch;

use super::decide::completed;
use super::spec;
use super::state::{PodState, Run};
use crate::runtime::Sandbox;

/// One container as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerView {
    /// Id with its scheme while it runs.
    pub container_id: Option<String>,
    /// Which run this is, counted from 0; also the name of its log.
    pub attempt: u32,
    /// Whether it has ever run.
    pub launched: bool,
    /// Why it waits, in the status's words.
    pub waiting: String,
}

/// One pod as it is now.
#[derive(Clone, Debug)]
pub struct PodView {
    /// The pod.
    pub pod: Arc<Pod>,
    /// Its address.
    pub ip: Option<IpAddr>,
    /// Its own network namespace.
    pub netns: Option<PathBuf>,
    /// What stands for 127.0.0.1 among its Wasm containers.
    pub loopback: Option<IpAddr>,
    /// Whether it runs or is about to: it is neither over nor on its way out.
    pub active: bool,
    /// By name.
    pub containers: BTreeMap<String, ContainerView>,
}

impl PodView {
    /// What is known of a pod.
    pub fn of(pod: &Arc<Pod>, state: &PodState, sandbox: Option<&Sandbox>) -> PodView {
        let view = |name: &String| {
            let record = state.container(name);
            let waiting = match &record.run {
                Run::Refused { reason, .. } => reason.clone(),
                _ => super::status::waiting_reason(pod, state, name),
            };
            ContainerView {
                container_id: record.container_id().map(str::to_owned),
                attempt: record.restarts,
                launched: record.launched,
                waiting,
            }
        };
        PodView {
            pod: pod.clone(),
            ip: state.ip.map(|ip| ip.primary()),
            netns: sandbox.and_then(|s| s.netns.clone()),
            loopback: sandbox.map(|s| s.loopback.primary()),
            active: state.deadline.is_none() && !completed(pod, state),
            containers: state
                .containers
                .keys()
                .map(|name| (name.clone(), view(name)))
                .collect(),
        }
    }
}

/// The pods of this node. Cheap to clone.
#[derive(Clone, Default)]
pub struct PodTable {
    // A std mutex: nothing awaits while it is held.
    pods: Arc<Mutex<HashMap<String, watch::Receiver<PodView>>>>,
}

impl PodTable {
    /// Puts a pod in, by its UID.
    pub fn insert(&self, uid: &str, view: watch::Receiver<PodView>) {
        self.lock().insert(uid.to_owned(), view);
    }

    /// Takes it out.
    pub fn remove(&self, uid: &str) {
        self.lock().remove(uid);
    }

    /// The pod of that name; the youngest if one is being replaced.
    pub fn find(&self, namespace: &str, name: &str) -> Option<watch::Receiver<PodView>> {
        let pods = self.lock();
        let named = pods.values().filter(|view| {
            let view = view.borrow();
            spec::namespace(&view.pod) == namespace && spec::name(&view.pod) == name
        });
        let created = |view: &&watch::Receiver<PodView>| {
            view.borrow()
                .pod
                .metadata
                .creation_timestamp
                .as_ref()
                .map(|time| time.0)
        };
        named.max_by_key(created).cloned()
    }

    /// All pods as they are now.
    pub fn all(&self) -> Vec<PodView> {
        self.lock().values().map(|view| view.borrow().clone()).collect()
    }

    /// How many pods there are.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, watch::Receiver<PodView>>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
