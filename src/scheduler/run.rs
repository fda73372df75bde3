//! Feeds the snapshot from the caches and binds what was chosen.

use std::sync::Arc;
use std::time::Duration;

use api::request::{PatchType, ResourceRef, Verb};
use api::status::Status;
use base::{Clock, OnError, Tasks};
use client::{Cache, Change, Client, EventType, Recorder};
use k8s_openapi::api::core::v1::{Node, PersistentVolume, Pod};
use serde_json::json;
use tokio::sync::{Semaphore, mpsc};
use tracing::{debug, warn};

use crate::plan::{Choice, choose};
use crate::queue::Queue;
use crate::snapshot::{PodInfo, Snapshot};
use crate::storage::{Need, Storage};
use crate::volumes;

/// The scheduler that pods ask for when they ask for none.
const NAME: &str = "default-scheduler";

/// Binds under way at once; the store commits those that wait together in one go.
const BINDS_MAX: usize = 256;

/// Shortest time between two looks at all pods that found no node.
const WAKE_EVERY: Duration = Duration::from_millis(200);

/// Starts the scheduler as a task of `tasks`.
pub fn start(
    client: Client,
    nodes: Cache<Node>,
    pods: Cache<Pod>,
    storage: Storage,
    clock: Arc<dyn Clock>,
    tasks: &Tasks,
) {
    let recorder = Recorder::new(client.clone(), NAME, "", clock, tasks);
    let (failed, failures) = mpsc::unbounded_channel();
    let scheduler = Scheduler {
        client,
        recorder,
        snapshot: Snapshot::over(storage),
        queue: Queue::default(),
        turn: 0,
        binds: Arc::new(Semaphore::new(BINDS_MAX)),
        failed,
        tasks: tasks.clone(),
    };
    tasks.spawn(
        "scheduler",
        OnError::Shutdown,
        scheduler.run(nodes, pods, failures),
    );
}

struct Scheduler {
    client: Client,
    recorder: Recorder,
    snapshot: Snapshot,
    queue: Queue,
    turn: u64,
    binds: Arc<Semaphore>,
    failed: mpsc::UnboundedSender<Arc<PodInfo>>,
    tasks: Tasks,
}

impl Scheduler {
    async fn run(
        mut self,
        nodes: Cache<Node>,
        pods: Cache<Pod>,
        mut failures: mpsc::UnboundedReceiver<Arc<PodInfo>>,
    ) {
        nodes.synced().await;
        pods.synced().await;
        let storage = &self.snapshot.storage;
        storage.claims.synced().await;
        storage.volumes.synced().await;
        storage.classes.synced().await;
        let drivers = &storage.drivers;
        drivers.nodes.synced().await;
        drivers.drivers.synced().await;
        drivers.capacities.synced().await;
        let (mut on_nodes, mut drivers_changed) = (drivers.nodes.changes(), drivers.drivers.changes());
        let mut capacities = drivers.capacities.changes();
        let (mut claims, mut volumes) = (storage.claims.changes(), storage.volumes.changes());
        let mut classes = storage.classes.changes();
        let (mut node_changes, mut pod_changes) = (nodes.changes(), pods.changes());
        let mut stirred = false;
        let mut tick = tokio::time::interval(WAKE_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(change) = node_changes.recv() => stirred |= self.see_node(&change),
                Some(change) = pod_changes.recv() => stirred |= self.see_pod(&change),
                Some(_) = claims.recv() => stirred = true,
                Some(change) = volumes.recv() => stirred |= self.see_volume(&change),
                Some(_) = classes.recv() => stirred = true,
                Some(_) = on_nodes.recv() => stirred = true,
                Some(_) = drivers_changed.recv() => stirred = true,
                Some(_) = capacities.recv() => stirred = true,
                Some(pod) = failures.recv() => {
                    self.snapshot.remove_pod(pod.uid());
                    self.snapshot.storage.take_back(&pod.pod);
                    let name = pod.pod.metadata.name.as_deref().unwrap_or_default();
                    let now = pods.get(&pod.namespace, name).filter(|now| now.metadata.uid == pod.pod.metadata.uid);
                    if let Some(now) = now {
                        // Not at once: what refused the binding may need a moment.
                        self.queue.refresh(Arc::new(PodInfo::new(now)));
                        stirred = true;
                    }
                }
                _ = tick.tick(), if stirred => {
                    stirred = false;
                    self.queue.wake();
                }
                else => return,
            }
            while let Ok(change) = node_changes.try_recv() {
                stirred |= self.see_node(&change);
            }
            while let Ok(change) = pod_changes.try_recv() {
                stirred |= self.see_pod(&change);
            }
            while let Some(pod) = self.queue.next() {
                self.place(pod);
            }
        }
    }

    /// Whether waiting pods should be looked at again.
    fn see_node(&mut self, change: &Change<Node>) -> bool {
        match change {
            Change::Applied(node, old) => {
                self.snapshot.set_node(node.clone());
                old.as_ref().is_none_or(|old| matters(old, node))
            }
            Change::Deleted(node) => {
                self.snapshot
                    .remove_node(node.metadata.name.as_deref().unwrap_or_default());
                false
            }
        }
    }

    /// Whether waiting pods should be looked at again.
    fn see_volume(&mut self, change: &Change<PersistentVolume>) -> bool {
        let volume = change.object();
        let kept = volume.spec.as_ref().is_some_and(|spec| spec.claim_ref.is_some());
        if kept || matches!(change, Change::Deleted(_)) {
            let name = volume.metadata.name.as_deref().unwrap_or_default();
            self.snapshot.storage.settle(name);
        }
        true
    }

    /// Whether waiting pods should be looked at again.
    fn see_pod(&mut self, change: &Change<Pod>) -> bool {
        let info = Arc::new(PodInfo::new(change.object().clone()));
        let bound = info
            .spec()
            .node_name
            .as_deref()
            .is_some_and(|name| !name.is_empty());
        let gone = matches!(change, Change::Deleted(_)) || api::pod::is_finished(&info.pod);
        if gone {
            self.queue.remove(info.uid());
            return self.snapshot.remove_pod(info.uid());
        }
        if bound {
            self.queue.remove(info.uid());
            self.snapshot.set_pod(info);
            return false;
        }
        if !is_ours(&info) {
            return false;
        }
        match self.queue.get(info.uid()) {
            Some(known) if known.pod.spec == info.pod.spec => self.queue.refresh(info),
            _ => self.queue.add(info),
        }
        false
    }

    fn place(&mut self, pod: Arc<PodInfo>) {
        self.turn = self.turn.wrapping_add(1);
        match choose(&pod, &self.snapshot, self.turn) {
            Choice::Node(node) => {
                self.queue.remove(pod.uid());
                let needs = self.needs(&pod, &node);
                self.snapshot.assume(pod.clone(), &node);
                self.snapshot.storage.promise(&needs);
                self.bind(pod, node, needs);
            }
            Choice::Nowhere(why) => self.refuse(&pod, why),
        }
    }

    /// What the pod's claims need on the node that was chosen with them in mind.
    fn needs(&self, pod: &PodInfo, node: &str) -> Vec<Need> {
        let found = self.snapshot.nodes().find(|info| info.name() == node);
        let needs = found.and_then(|info| self.snapshot.storage.needs(&pod.pod, &info.node).ok());
        needs.unwrap_or_default()
    }

    fn bind(&self, pod: Arc<PodInfo>, node: String, needs: Vec<Need>) {
        let (client, recorder) = (self.client.clone(), self.recorder.clone());
        let (binds, failed) = (self.binds.clone(), self.failed.clone());
        let claims = self.snapshot.storage.claims.clone();
        self.tasks.spawn("bind", OnError::Log, async move {
            // Before the permit: a volume that is long in coming must not keep other pods waiting.
            if !needs.is_empty()
                && let Err(why) = volumes::bind(&client, &claims, &needs, &node).await
            {
                let about = client::reference(&*pod.pod);
                recorder.event(&about, EventType::Warning, "FailedScheduling", why);
                let _ = failed.send(pod);
                return;
            }
            let _permit = binds.acquire().await;
            match send_binding(&client, &pod, &node).await {
                Ok(()) => {
                    let name = pod.pod.metadata.name.as_deref().unwrap_or_default();
                    let text = format!("Successfully assigned {}/{name} to {node}", pod.namespace);
                    recorder.event(
                        &client::reference(&*pod.pod),
                        EventType::Normal,
                        "Scheduled",
                        text,
                    );
                }
                Err(status) => {
                    if !status.is_not_found() && !status.is_conflict() {
                        warn!(pod = pod.uid(), node, error = %status, "could not bind");
                    }
                    // The scheduler lives as long as its tasks; if it does not listen any more, nobody waits.
                    let _ = failed.send(pod);
                }
            }
        });
    }

    fn refuse(&self, pod: &Arc<PodInfo>, why: String) {
        let said = api::pod::condition(&pod.pod, "PodScheduled")
            .is_some_and(|c| c.status == "False" && c.message.as_deref() == Some(&why));
        if said {
            return;
        }
        let (client, recorder, pod) = (self.client.clone(), self.recorder.clone(), pod.clone());
        self.tasks.spawn("refuse", OnError::Log, async move {
            recorder.event(
                &client::reference(&*pod.pod),
                EventType::Warning,
                "FailedScheduling",
                why.clone(),
            );
            if let Err(status) = send_refusal(&client, &pod, &why).await {
                debug!(pod = pod.uid(), error = %status, "could not note that no node was found");
            }
        });
    }
}

/// Pods that gate themselves, are going, or asked for another scheduler are not looked at.
fn is_ours(pod: &PodInfo) -> bool {
    let spec = pod.spec();
    spec.scheduler_name.as_deref().unwrap_or(NAME) == NAME
        && spec.scheduling_gates.as_ref().is_none_or(Vec::is_empty)
        && !api::pod::is_terminating(&pod.pod)
}

/// Whether a node changed in a way that could let a pod on it; heartbeats do not.
fn matters(old: &Node, new: &Node) -> bool {
    let allocatable = |node: &Node| node.status.as_ref().and_then(|status| status.allocatable.clone());
    old.spec != new.spec || old.metadata.labels != new.metadata.labels || allocatable(old) != allocatable(new)
}

async fn send_binding(client: &Client, pod: &PodInfo, node: &str) -> Result<(), Status> {
    let meta = &pod.pod.metadata;
    let name = meta.name.as_deref().unwrap_or_default();
    let mut request = client.request_for(
        Verb::Create,
        ResourceRef::new("", "v1", "pods"),
        &pod.namespace,
        name,
    );
    request.subresource = "binding".to_owned();
    request.body = json!({
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": name, "namespace": pod.namespace, "uid": meta.uid},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    })
    .to_string()
    .into();
    client.call(request).await.map(drop)
}

async fn send_refusal(client: &Client, pod: &PodInfo, why: &str) -> Result<(), Status> {
    let name = pod.pod.metadata.name.as_deref().unwrap_or_default();
    let since = api::pod::condition(&pod.pod, "PodScheduled").filter(|c| c.status == "False");
    let since = since.and_then(|c| c.last_transition_time.clone());
    let patch = json!({"metadata": {"uid": pod.uid()}, "status": {"conditions": [{
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": why,
        "lastTransitionTime": since.unwrap_or(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
            pod.pod.metadata.creation_timestamp.as_ref().map(|t| t.0).unwrap_or_default(),
        )),
    }]}});
    client
        .patch::<Pod>(&pod.namespace, name, PatchType::Strategic, &patch, "status")
        .await
        .map(drop)
}
