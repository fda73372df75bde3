//! What a worker hears: of its pod, of its own effects, and of the node.

use std::time::Duration;

use client::EventType;

use super::{Message, Worker};
use crate::pods::action::Happening;
use crate::pods::spec;
use crate::pods::state::EVICTED;

impl Worker {
    pub(super) async fn wait(&mut self, wake: Option<Duration>, retry: Option<Duration>) {
        let now = self.context.node.clock.monotonic();
        let refresh = self.refresh_in().map(|after| now + after);
        let until = [wake, retry, refresh].into_iter().flatten().min();
        let timer = async {
            match until {
                Some(until) => tokio::time::sleep(until.saturating_sub(now)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(message) = self.inbox.recv() => self.take(message),
            () = timer => {
                let due = refresh.is_some_and(|at| at <= self.context.node.clock.monotonic());
                if due && self.context.node.volumes.is_due(&self.context.tokens) {
                    self.refresh();
                }
            }
            written = self.reports.written() => self.reports.settle(written, self.context.node.clock.monotonic()),
            Some(ended) = self.jobs.join_next() => {
                if let Err(error) = ended
                    && error.is_panic()
                {
                    tracing::error!(pod = %spec::full_name(&self.pod), %error, "an effect broke off");
                }
            }
        }
        while let Ok(message) = self.inbox.try_recv() {
            self.take(message);
        }
    }

    fn take(&mut self, message: Message) {
        let now = self.context.node.now();
        match message {
            Message::Update(pod) => {
                let changed = self.pod.metadata.labels != pod.metadata.labels
                    || self.pod.metadata.annotations != pod.metadata.annotations;
                self.reports.heard(&pod);
                self.pod = pod;
                self.state.observe(&self.pod, now);
                if changed {
                    // The downward API shows them.
                    self.refresh();
                }
            }
            Message::Gone => self.state.observe_removed(&self.pod, now),
            Message::Happened(happening) => self.happened(*happening),
            Message::Refresh => self.refresh(),
            Message::Refreshed => self.refreshed(),
            Message::Evict(why) => self.evict(&why),
            Message::Shutdown(grace) => self.end_with_node(grace),
            Message::Mirrored => self.reports.forget(),
            Message::Remembered => self.reports.doubt(),
        }
    }

    fn evict(&mut self, why: &str) {
        if self.state.evict(why) {
            let node = &self.context.node;
            node.event(&self.pod, None, EventType::Warning, EVICTED, why);
        }
    }

    fn end_with_node(&mut self, grace: Duration) {
        let own = Duration::from_secs(spec::grace_seconds(&self.pod).max(0).unsigned_abs());
        self.state.end_with_node(grace.min(own));
    }

    pub(super) fn happened(&mut self, happening: Happening) {
        let now = self.context.node.now();
        let begun = match &happening {
            Happening::Started {
                container,
                container_id,
                started,
            } => Some((container.clone(), container_id.clone(), *started)),
            Happening::Exited(container, exit) => {
                if let Some(probe) = self.probes.remove(&exit.container_id) {
                    probe.abort();
                }
                self.stops.remove(container);
                None
            }
            Happening::SandboxRemoved(Err(error)) | Happening::VolumesRemoved(Err(error)) => {
                tracing::warn!(pod = spec::name(&self.pod), %error, "a pod was not cleaned up, trying again");
                None
            }
            _ => None,
        };
        let timing = self.context.node.config.timing;
        self.state.apply(&self.pod, happening, &timing, now);
        if let Some((name, id, started)) = begun {
            self.after_start(&name, &id, started);
        }
    }
}
