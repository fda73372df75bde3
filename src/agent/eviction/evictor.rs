//! Looks at the machine and its pods every few seconds, and acts on it.

use std::sync::Arc;

use client::EventType;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use tokio::sync::{mpsc, watch};

use super::local;
use super::observe::observe;
use super::rank;
use super::signals::{Met, Pressure, PressureHistory, Signal};
use super::usage::{self, PodUse};
use crate::context::Context;
use crate::image_gc::Collector;
use crate::node::machine::Machine;
use crate::pods::spec;
use crate::pods::table::{PodTable, PodView};

/// A pod that has to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eviction {
    /// Its UID.
    pub uid: String,
    /// Why, in the kubelet's words.
    pub message: String,
}

/// Evicts pods until it is dropped.
pub struct Evictor {
    /// The node.
    pub node: Arc<Context>,
    /// What the machine is.
    pub machine: Machine,
    /// For giving up images before pods.
    pub images: Arc<Collector>,
    /// The node's pods.
    pub table: PodTable,
    /// Where pressure is told.
    pub pressure: watch::Sender<Pressure>,
    /// Where evictions are asked for.
    pub evict: mpsc::UnboundedSender<Eviction>,
}

impl Evictor {
    /// Looks again and again.
    pub async fn run(self) {
        let mut history = PressureHistory::default();
        let mut timer = tokio::time::interval(self.node.config.timing.eviction);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            timer.tick().await;
            let met = self.look().await;
            let limits = &self.node.config.limits;
            let now = history.observe(&met, self.node.now().mono, limits.pressure_lasts);
            self.pressure
                .send_if_modified(|told| std::mem::replace(told, now) != now);
            // What breaks a limit of its own goes first: that may be all that is needed.
            if !self.evict_breakers().await
                && let Some(met) = met.first()
            {
                self.relieve(*met).await;
            }
        }
    }

    async fn look(&self) -> Vec<Met> {
        let (machine, data) = (self.machine.clone(), self.node.paths.data().to_owned());
        let images = self.images.dir().to_owned();
        let seen = tokio::task::spawn_blocking(move || observe(&machine, &data, &images)).await;
        self.node
            .config
            .limits
            .eviction_hard
            .met(&seen.unwrap_or_default())
    }

    /// Evicts every pod that uses more of the disk than it may; whether there was one.
    async fn evict_breakers(&self) -> bool {
        let mut any = false;
        for view in self.active() {
            if !local::is_limited(&view.pod) || rank::is_critical(&view.pod) {
                continue;
            }
            let used = self.on_disk(&view).await;
            if let Some(message) = local::broken(&view.pod, &used) {
                self.evict(&view.pod, message);
                any = true;
            }
        }
        any
    }

    /// The node is short of something: gives up what nobody needs, then one pod.
    async fn relieve(&self, met: Met) {
        let node = &self.node;
        let name = &node.config.node_name;
        let about = ObjectReference {
            kind: Some("Node".to_owned()),
            name: Some(name.clone()),
            // Events about nodes carry the name for want of a UID at hand, as the kubelet's do.
            uid: Some(name.clone()),
            ..ObjectReference::default()
        };
        let text = format!("Attempting to reclaim {}", met.signal.resource());
        node.recorder
            .event(&about, EventType::Warning, "EvictionThresholdMet", text);
        tracing::warn!(
            signal = met.signal.name(),
            available = met.available,
            floor = met.floor,
            "the node is short"
        );
        if !matches!(met.signal, Signal::Memory | Signal::Pids) {
            match self.images.remove_unused().await {
                Ok(freed) => tracing::info!(freed, "unused images were given up"),
                Err(error) => tracing::warn!(%error, "unused images could not be given up"),
            }
            if !self.look().await.iter().any(|again| again.signal == met.signal) {
                return;
            }
        }
        let mut pods: Vec<(Arc<Pod>, PodUse)> = Vec::new();
        for view in self.active() {
            let mut used = self.on_disk(&view).await;
            usage::add_running(&node.runtimes, &view, &mut used).await;
            pods.push((view.pod.clone(), used));
        }
        rank::rank(met.signal, &mut pods);
        match pods.iter().find(|(pod, _)| !rank::is_critical(pod)) {
            Some((pod, used)) => self.evict(pod, rank::message(&met, pod, used)),
            None => tracing::warn!("the node is short and has no pod to give up"),
        }
    }

    /// The pods that run, or are about to.
    fn active(&self) -> Vec<PodView> {
        let mut all = self.table.all();
        all.retain(|view| view.active);
        all
    }

    async fn on_disk(&self, view: &PodView) -> PodUse {
        let (view, paths) = (view.clone(), self.node.paths.clone());
        let measured = tokio::task::spawn_blocking(move || usage::on_disk(&view.pod, &view, &paths)).await;
        measured.unwrap_or_default()
    }

    fn evict(&self, pod: &Pod, message: String) {
        tracing::warn!(pod = %spec::full_name(pod), message, "evicting a pod");
        let uid = spec::uid(pod).to_owned();
        // Nobody listens any more only when the node is ending.
        let _ = self.evict.send(Eviction { uid, message });
    }
}
