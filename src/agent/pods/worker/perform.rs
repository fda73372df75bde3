//! Having done what was decided: each effect runs in the background, and what came of it goes to the inbox.

use std::sync::Arc;
use std::time::Duration;

use client::EventType;
use k8s_openapi::api::core::v1::Pod;
use tokio::task::AbortHandle;

use super::{Message, Worker};
use crate::pods::action::{Action, Happening};
use crate::pods::effects::{PodContext, finish, image, sandbox, start, stop, volume_images};
use crate::pods::{prober, report, spec};

impl Worker {
    pub(super) fn perform(&mut self, action: Action, old: Option<String>) {
        let (context, pod) = (self.context.clone(), self.pod.clone());
        match action {
            Action::FetchImage { container } => {
                let launched = self.state.container(&container).launched;
                self.job(async move {
                    let found = image::fetch(context, pod, &container, launched).await;
                    Happening::Image(container, found)
                });
            }
            Action::AnnounceImageBackoff { container } => self.tell_image_backoff(&container),
            Action::AnnounceCrashBackoff { container, .. } => {
                let name = spec::full_name(&pod);
                let text = format!("Back-off restarting failed container {container} in pod {name}");
                context
                    .node
                    .event(&pod, Some(&container), EventType::Warning, "BackOff", text);
            }
            Action::MakeSandbox { wasm_only } => {
                let wanted = self.state.ip.map(|ip| ip.primary());
                self.job(async move {
                    Happening::SandboxMade(sandbox::make(context, pod, wasm_only, wanted).await)
                });
            }
            Action::MountVolumes => self.mount(context, pod),
            Action::Start { container, attempt } => self.start(container, attempt, old),
            Action::Stop {
                container,
                message,
                grace,
            } => self.stop(&container, message, grace),
            Action::Resize { container } => self.resize(container),
            Action::Fail(failure) => {
                context
                    .node
                    .event(&pod, None, EventType::Normal, &failure.reason, failure.message);
            }
            Action::RemoveSandbox => {
                self.job(async move { Happening::SandboxRemoved(sandbox::remove(context, pod).await) });
            }
            Action::RemoveVolumes => self.job(async move {
                Happening::VolumesRemoved(context.node.volumes.remove(spec::uid(&pod)).await)
            }),
            Action::Finalize => self.finalize(context, pod),
        }
    }

    /// Runs an effect in the background; what happened comes by the inbox.
    fn job(&mut self, effect: impl Future<Output = Happening> + Send + 'static) {
        let sender = self.sender.clone();
        self.jobs.spawn(async move {
            let _ = sender.send(Message::Happened(Box::new(effect.await)));
        });
    }

    fn tell_image_backoff(&self, container: &str) {
        let Some((_, spec)) = spec::container(&self.pod, container) else {
            return;
        };
        let image = spec::image(&spec);
        let node = &self.context.node;
        let text = format!("Back-off pulling image {image:?}");
        node.event(&self.pod, Some(container), EventType::Normal, "BackOff", text);
        node.event(
            &self.pod,
            Some(container),
            EventType::Warning,
            "Failed",
            "Error: ImagePullBackOff",
        );
    }

    fn mount(&mut self, context: Arc<PodContext>, pod: Arc<Pod>) {
        context.node.volumes.follow(&pod, &self.on_change);
        self.job(async move {
            let made = match volume_images::make(&context, &pod).await {
                Ok(()) => context.node.volumes.make(&pod, &context.tokens).await,
                Err(error) => Err(error),
            };
            Happening::VolumesMounted(made.map_err(|error| {
                let text = error.to_string();
                context
                    .node
                    .event(&pod, None, EventType::Warning, "FailedMount", text.clone());
                text
            }))
        });
    }

    fn start(&mut self, container: String, attempt: u32, old: Option<String>) {
        let (context, pod) = (self.context.clone(), self.pod.clone());
        let target = spec::target_of(&pod, &container)
            .and_then(|name| self.state.container(name).container_id())
            .map(str::to_owned);
        let order = start::Order {
            container: container.clone(),
            attempt,
            old,
            target,
        };
        self.job(async move {
            match start::start(context, pod, order).await {
                Ok(running) => Happening::Started {
                    container,
                    container_id: running.container_id,
                    started: running.started,
                },
                Err(failure) => Happening::NotStarted(container, failure),
            }
        });
    }

    /// Waits for a running container's end and probes it meanwhile.
    pub(super) fn follow(&mut self, name: &str, container_id: &str, started: jiff::Timestamp) {
        let (context, pod) = (self.context.clone(), self.pod.clone());
        let record = self.state.container(name);
        let (attempt, name, id) = (record.restarts, name.to_owned(), container_id.to_owned());
        let passed = record.startup_passed;
        self.job(async move {
            let exit = start::follow(context, pod, name.clone(), id, attempt, started).await;
            Happening::Exited(name, exit)
        });
        self.probe(container_id, started, passed);
    }

    fn probe(&mut self, container_id: &str, started: jiff::Timestamp, startup_passed: bool) {
        let name = self
            .state
            .containers
            .iter()
            .find(|(_, r)| r.container_id() == Some(container_id));
        let Some(name) = name.map(|(name, _)| name.clone()) else {
            return;
        };
        let prober = prober::Prober {
            context: self.context.clone(),
            pod: self.pod.clone(),
            name,
            container_id: container_id.to_owned(),
            started,
            startup_passed,
            inbox: self.sender.clone(),
        };
        if let Some(run) = prober.run() {
            let handle = self.jobs.spawn(run);
            self.probes.insert(container_id.to_owned(), handle);
        }
    }

    pub(super) fn after_start(&mut self, name: &str, container_id: &str, started: jiff::Timestamp) {
        self.follow(name, container_id, started);
        let (context, pod) = (self.context.clone(), self.pod.clone());
        let (container, container_id) = (name.to_owned(), container_id.to_owned());
        self.job(async move {
            let error = stop::post_start(context, pod, &container, &container_id)
                .await
                .err();
            Happening::Hooked {
                container,
                container_id,
                error,
            }
        });
    }

    fn stop(&mut self, name: &str, message: String, grace: Duration) {
        let Some(id) = self.state.container(name).container_id().map(str::to_owned) else {
            return;
        };
        // A second stop is a shorter one: the first one's patience ends with it.
        let hurry = self.stops.remove(name).inspect(AbortHandle::abort).is_some();
        let (context, pod, container) = (self.context.clone(), self.pod.clone(), name.to_owned());
        let handle = self.jobs.spawn(async move {
            stop::stop(context, pod, &container, &id, &message, grace, hurry).await;
        });
        self.stops.insert(name.to_owned(), handle);
    }

    fn resize(&mut self, container: String) {
        let (context, pod) = (self.context.clone(), self.pod.clone());
        let Some(id) = self.state.container(&container).container_id().map(str::to_owned) else {
            return;
        };
        self.job(async move {
            let result = stop::resize(context, pod, &container, &id).await;
            Happening::Resized {
                container,
                container_id: id,
                result,
            }
        });
    }

    fn finalize(&mut self, context: Arc<PodContext>, pod: Arc<Pod>) {
        let status = report::patch_of(&self.status());
        let orphaned = self.state.orphaned;
        let mut reports = std::mem::take(&mut self.reports);
        self.job(async move {
            // Writes stay in order: an earlier status must not come after the last.
            reports.finish().await;
            let result = finish::finalize(context, pod.clone(), status, orphaned).await;
            if let Err(error) = &result {
                tracing::debug!(pod = spec::name(&pod), %error, "a pod was not yet removed from the API");
            }
            Happening::Finalized(result)
        });
    }
}
