//! Which pods belong here: from the disk at once, from the API as soon as it
//! answers; a worker for each.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use base::{OnError, Tasks};
use client::{Cache, Change, EventType};
use k8s_openapi::api::core::v1::Pod;
use oci::{ContainerState, Found};
use tokio::sync::{mpsc, oneshot, watch};

use super::admit::Offer;
use super::restore::{Outlived, Survivor, restore};
use super::shutdown::Ending;
use super::spec;
use super::state::{ExitRecord, Failure};
use super::table::PodTable;
use super::worker::{Inbox, Message, Worker};
use crate::context::Context;
use crate::disk;
use crate::env;
use crate::eviction::admit;
use crate::eviction::evictor::Eviction;
use crate::eviction::signals::Pressure;
use crate::static_pods;
use crate::static_pods::folder::{Folder, Wanted};
use crate::volumes;

mod statics;

/// Pause before the runtimes are asked again what runs.
const LIST_AGAIN: Duration = Duration::from_secs(1);

/// A static pod that has a worker.
struct Static {
    pod: Arc<Pod>,
    /// As long as this is there, its mirror is kept.
    keeper: Option<oneshot::Sender<()>>,
}

/// Runs this node's pods.
pub struct Manager {
    node: Arc<Context>,
    table: PodTable,
    tasks: Tasks,
    workers: HashMap<String, Inbox>,
    /// Containers that outlived the agent, by pod and container; taken by the pods' workers.
    survivors: HashMap<String, BTreeMap<String, Survivor>>,
    /// What the machine has to offer.
    offer: Offer,
    /// What the node is short of.
    pressure: watch::Receiver<Pressure>,
    evictions: mpsc::UnboundedReceiver<Eviction>,
    /// Pods that end with the node.
    shutdown: mpsc::UnboundedReceiver<Ending>,
    shutting_down: bool,
    /// What the folder of static pods asks for, and those of them that have a worker.
    wanted: Wanted,
    statics: HashMap<String, Static>,
    ended: tokio::sync::mpsc::UnboundedSender<String>,
    endings: tokio::sync::mpsc::UnboundedReceiver<String>,
}

impl Manager {
    /// A manager that shows its pods in `table`.
    pub fn new(
        node: Arc<Context>,
        table: PodTable,
        tasks: Tasks,
        pressure: watch::Receiver<Pressure>,
        evictions: mpsc::UnboundedReceiver<Eviction>,
        shutdown: mpsc::UnboundedReceiver<Ending>,
    ) -> Manager {
        let (ended, endings) = tokio::sync::mpsc::unbounded_channel();
        let (workers, survivors, wanted, statics) = Default::default();
        let offer = Offer::of_this_machine(&node.config.limits.sysctls);
        Manager {
            node,
            table,
            tasks,
            workers,
            survivors,
            offer,
            pressure,
            evictions,
            shutdown,
            shutting_down: false,
            wanted,
            statics,
            ended,
            endings,
        }
    }

    /// Starts what was running before, then follows the API. Ends with its task group.
    pub async fn run(mut self, pods: Cache<Pod>) {
        self.find_survivors().await;
        let mut folder_changes = self.open_folder();
        self.start_kept();
        self.start_wanted(&pods);
        let mut changes = pods.changes();
        let mut synced = std::pin::pin!(pods.synced());
        let mut swept = false;
        loop {
            // In this order, everything that the first list brought has a
            // worker before what nobody asked for is swept out.
            tokio::select! {
                biased;
                Some(uid) = self.endings.recv() => {
                    self.forget(&uid);
                    self.start_wanted(&pods);
                }
                Some(ending) = self.shutdown.recv() => self.end(ending),
                Some(wanted) = folder_changes.recv() => self.want(wanted, &pods),
                Some(eviction) = self.evictions.recv() => self.evict(eviction),
                Some(change) = changes.recv() => self.change(change),
                () = &mut synced, if !swept => {
                    swept = true;
                    self.sweep(&pods).await;
                }
                else => return,
            }
        }
    }

    /// Reads the folder of static pods, and follows it.
    fn open_folder(&mut self) -> mpsc::UnboundedReceiver<Wanted> {
        let (tell, changes) = mpsc::unbounded_channel();
        if let Some(path) = self.node.config.static_pods.clone() {
            let mut folder = Folder::new(path, &self.node.config.node_name, self.node.clock.clone());
            self.wanted = folder.look().unwrap_or_default();
            self.tasks.spawn("static pods", OnError::Log, folder.follow(tell));
        }
        changes
    }

    fn end(&mut self, ending: Ending) {
        self.shutting_down = true;
        if let Some(inbox) = self.workers.get(&ending.uid) {
            let _ = inbox.send(Message::Shutdown(ending.grace));
        }
    }

    async fn find_survivors(&mut self) {
        let runtimes = &self.node.runtimes;
        for runtime in [&runtimes.oci, &runtimes.wasm] {
            // Whoever does not know what runs would start it a second time.
            let mut found: Vec<Found> = loop {
                match runtime.found().await {
                    Ok(found) => break found,
                    Err(error) => {
                        let scheme = runtime.scheme();
                        tracing::warn!(scheme, %error, "earlier containers cannot be listed, trying again");
                        tokio::time::sleep(LIST_AGAIN).await;
                    }
                }
            };
            // Of several runs of a container only the last one matters.
            found.sort_by_key(|f| f.attempt);
            for container in found {
                let id = format!("{}://{}", runtime.scheme(), container.id);
                if let Some(run) = outlived(id, &container.state, self.node.now().mono) {
                    let survivor = Survivor {
                        attempt: container.attempt,
                        run,
                    };
                    self.survivors
                        .entry(container.pod_uid)
                        .or_default()
                        .insert(container.name, survivor);
                }
            }
        }
    }

    /// Starts the pods kept on disk, without waiting for any server.
    fn start_kept(&mut self) {
        let folders = std::fs::read_dir(self.node.paths.pods())
            .into_iter()
            .flatten()
            .flatten();
        for folder in folders {
            let uid = folder.file_name().to_string_lossy().into_owned();
            let Some(pod) = disk::read_json::<Pod>(&self.node.paths.checkpoint(&uid)) else {
                continue;
            };
            if static_pods::is_static(&pod) {
                self.end_kept(pod);
            } else if spec::uid(&pod) == uid {
                self.start(Arc::new(pod), None);
                if let Some(inbox) = self.workers.get(&uid) {
                    let _ = inbox.send(Message::Remembered);
                }
            }
        }
    }

    fn start(&mut self, pod: Arc<Pod>, failure: Option<Failure>) {
        let uid = spec::uid(&pod).to_owned();
        let survivors = self.survivors.remove(&uid).unwrap_or_default();
        let mut state = restore(&pod, &survivors, self.node.now());
        if state.over.is_none() {
            state.failure = failure;
        }
        let (worker, inbox, view) = Worker::new(self.node.clone(), pod.clone(), state);
        self.table.insert(&uid, view);
        self.workers.insert(uid.clone(), inbox);
        let (name, ended) = (
            format!("pod {}/{}", spec::namespace(&pod), spec::name(&pod)),
            self.ended.clone(),
        );
        self.tasks.spawn(name, OnError::Log, async move {
            worker.run().await;
            let _ = ended.send(uid);
        });
    }

    fn change(&mut self, change: Change<Pod>) {
        match change {
            Change::Applied(pod, _) if static_pods::is_mirror(&pod) => self.see_mirror(&pod),
            Change::Applied(pod, _) => match self.workers.get(spec::uid(&pod)) {
                Some(inbox) => {
                    let _ = inbox.send(Message::Update(pod));
                }
                None => self.welcome(pod),
            },
            Change::Deleted(pod) => {
                if let Some(inbox) = self.workers.get(spec::uid(&pod)) {
                    let _ = inbox.send(Message::Gone);
                }
            }
        }
    }

    /// Begins with a pod that the API has told of, unless the node is too short for it.
    fn welcome(&mut self, pod: Arc<Pod>) {
        let uid = spec::uid(&pod).to_owned();
        let begun = pod
            .status
            .as_ref()
            .is_some_and(|s| s.container_statuses.is_some());
        if begun {
            return self.start(pod, None);
        }
        let refused = match self.shutting_down {
            true => Some(super::admit::shutting_down()),
            false => super::admit::refusal(&pod, &self.offer),
        };
        if let Some(failure) = refused {
            let node = &self.node;
            node.event(
                &pod,
                None,
                EventType::Warning,
                &failure.reason,
                failure.message.clone(),
            );
            return self.start(pod, Some(failure));
        }
        let refusal = admit::refusal(&pod, *self.pressure.borrow());
        self.start(pod, None);
        if let Some(message) = refusal {
            self.evict(Eviction { uid, message });
        }
    }

    fn evict(&self, eviction: Eviction) {
        if let Some(inbox) = self.workers.get(&eviction.uid) {
            let _ = inbox.send(Message::Evict(eviction.message));
        }
    }

    fn forget(&mut self, uid: &str) {
        self.workers.remove(uid);
        self.statics.remove(uid);
        self.table.remove(uid);
    }

    /// The API has been heard: ends what it does not know, and removes what
    /// pods left behind that ended while nobody was here.
    async fn sweep(&mut self, pods: &Cache<Pod>) {
        let list = pods.list();
        let known: HashSet<&str> = list.iter().map(|pod| spec::uid(pod)).collect();
        for (uid, inbox) in &self.workers {
            if !known.contains(uid.as_str()) && !self.is_static(uid) {
                let _ = inbox.send(Message::Gone);
            }
        }
        let mut stray: HashSet<String> = self.survivors.drain().map(|(uid, _)| uid).collect();
        stray.extend(self.node.net.attached().await.unwrap_or_default());
        let folders = std::fs::read_dir(self.node.paths.pods())
            .into_iter()
            .flatten()
            .flatten();
        stray.extend(folders.map(|folder| folder.file_name().to_string_lossy().into_owned()));
        stray.retain(|uid| !self.workers.contains_key(uid));
        for uid in stray {
            self.clean(&uid).await;
        }
        let needed: Vec<(String, env::References)> = list
            .iter()
            .map(|pod| (spec::namespace(pod).to_owned(), all_references(pod)))
            .collect();
        self.node.objects.collect(&needed);
    }

    async fn clean(&self, uid: &str) {
        let node = &self.node;
        tracing::info!(uid, "removing what a pod left behind");
        let closed = [
            node.runtimes.oci.close_pod(uid).await,
            node.runtimes.wasm.close_pod(uid).await,
        ];
        for error in closed.into_iter().filter_map(Result::err) {
            tracing::warn!(uid, %error, "a stray pod's containers were not removed");
        }
        if let Err(error) = node.net.detach(uid).await {
            tracing::warn!(uid, error, "a stray pod was not disconnected");
        }
        node.users.give_back(uid);
        node.devices.release(uid);
        node.cpus.release(uid);
        if let Err(error) = node.volumes.remove(uid).await {
            tracing::warn!(uid, error, "a stray pod's volumes were not removed");
            return;
        }
        let _ = std::fs::remove_dir_all(node.paths.pod(uid));
    }
}

/// Every ConfigMap and Secret that a pod needs to come back without a server.
fn all_references(pod: &Pod) -> env::References {
    let mut all = volumes::references(pod);
    for (_, container) in spec::all_containers(pod) {
        let own = env::references(&container);
        all.config_maps.extend(own.config_maps);
        all.secrets.extend(own.secrets);
    }
    all.secrets.extend(
        spec::spec(pod)
            .image_pull_secrets
            .iter()
            .flatten()
            .map(|r| r.name.clone()),
    );
    all
}

fn outlived(container_id: String, state: &ContainerState, now: Duration) -> Option<Outlived> {
    match state {
        ContainerState::Created => None,
        ContainerState::Running { started } => Some(Outlived::Running {
            container_id,
            started: *started,
        }),
        ContainerState::Exited(exit) => {
            let reason = match exit {
                e if e.oom_killed => "OOMKilled",
                e if e.code == 0 => "Completed",
                _ => "Error",
            };
            Some(Outlived::Exited(ExitRecord {
                container_id,
                code: exit.code,
                signal: exit.signal.unwrap_or(0),
                reason: reason.to_owned(),
                message: String::new(),
                started: Some(exit.started),
                finished: exit.finished,
                finished_mono: now,
                noted: false,
            }))
        }
    }
}
