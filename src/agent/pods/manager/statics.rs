//! Static pods among the others: which of them run, and that each has its mirror.

use std::sync::Arc;

use base::OnError;
use client::Cache;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::oneshot;

use super::{Manager, Static};
use crate::disk;
use crate::pods::state::TERMINATED;
use crate::pods::worker::Message;
use crate::pods::{admit, spec};
use crate::static_pods::folder::Wanted;
use crate::static_pods::mirror;

fn same_name(a: &Pod, b: &Pod) -> bool {
    spec::name(a) == spec::name(b) && spec::namespace(a) == spec::namespace(b)
}

impl Manager {
    /// Takes note of what the folder asks for now.
    pub(super) fn want(&mut self, wanted: Wanted, pods: &Cache<Pod>) {
        for (uid, one) in &mut self.statics {
            if !wanted.iter().any(|pod| spec::uid(pod) == uid) {
                one.keeper = None;
                if let Some(inbox) = self.workers.get(uid) {
                    let _ = inbox.send(Message::Gone);
                }
            }
        }
        self.wanted = wanted;
        self.start_wanted(pods);
    }

    /// Starts what is wanted, unless a version of it from before has not ended yet.
    pub(super) fn start_wanted(&mut self, pods: &Cache<Pod>) {
        for pod in self.wanted.clone() {
            if !self.statics.values().any(|other| same_name(&other.pod, &pod)) {
                self.start_static(pod, pods);
            }
        }
    }

    fn start_static(&mut self, pod: Arc<Pod>, pods: &Cache<Pod>) {
        let uid = spec::uid(&pod).to_owned();
        let pod = self.as_kept(pod);
        let refusal = admit::refusal(&pod, &self.offer);
        if let Some(failure) = &refusal {
            tracing::warn!(
                pod = spec::name(&pod),
                why = failure.message,
                "a static pod is not run"
            );
        }
        self.start(pod.clone(), refusal);
        let Some(worker) = self.workers.get(&uid).cloned() else {
            return;
        };
        let (keeper, ended) = oneshot::channel();
        let keeping = mirror::Keeper {
            client: self.node.client.clone(),
            pods: pods.clone(),
            pod: pod.clone(),
            mirrors: self.node.mirrors.clone(),
            worker,
        };
        let name = format!("mirror of {}", spec::name(&pod));
        self.tasks
            .spawn(name, OnError::Log, async move { keeping.run(ended).await });
        let keeper = Some(keeper);
        self.statics.insert(uid, Static { pod, keeper });
    }

    /// With the status that it had here before. One that ended with the node begins anew with it.
    fn as_kept(&self, pod: Arc<Pod>) -> Arc<Pod> {
        let path = self.node.paths.checkpoint(spec::uid(&pod));
        let status = disk::read_json::<Pod>(&path).and_then(|kept| kept.status);
        let status = status.filter(|status| status.reason.as_deref() != Some(TERMINATED));
        let mut pod = Pod::clone(&pod);
        pod.status = status;
        Arc::new(pod)
    }

    /// Ends a static pod whose file is gone by now, and that only the disk remembers.
    pub(super) fn end_kept(&mut self, pod: Pod) {
        let uid = spec::uid(&pod).to_owned();
        if self.wanted.iter().any(|wanted| spec::uid(wanted) == uid) {
            return;
        }
        let pod = Arc::new(pod);
        self.start(pod.clone(), None);
        if let Some(inbox) = self.workers.get(&uid) {
            let _ = inbox.send(Message::Gone);
        }
        self.statics.insert(uid, Static { pod, keeper: None });
    }

    /// A mirror pod in the API: its keeper sees to it, and one that nobody keeps goes.
    pub(super) fn see_mirror(&self, mirror: &Arc<Pod>) {
        let kept = self.statics.values().any(|one| same_name(&one.pod, mirror));
        if kept || self.wanted.iter().any(|pod| same_name(pod, mirror)) {
            return;
        }
        let (client, mirror) = (self.node.client.clone(), mirror.clone());
        self.tasks.spawn("remove a mirror", OnError::Log, async move {
            if let Err(status) = mirror::remove(&client, &mirror, spec::uid(&mirror)).await {
                tracing::debug!(pod = spec::name(&mirror), error = %status, "a mirror pod was not removed");
            }
        });
    }

    /// Whether a worker's pod is static.
    pub(super) fn is_static(&self, uid: &str) -> bool {
        self.statics.contains_key(uid)
    }
}
