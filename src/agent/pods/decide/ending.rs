//! The way down: main containers, sidecars last first, sandbox, volumes, the pod itself.

use std::time::Duration;

use k8s_openapi::api::core::v1::Container;

use super::super::action::Action;
use super::super::plant::{self, Plant};
use super::super::spec::{self, Role};
use super::super::state::{Part, Run};
use super::Decision;

/// The grace that a sidecar gets at least, even when the pod's is used up
/// (the kubelet's `minimumGracePeriodInSeconds`).
const SIDECAR_GRACE_MIN: Duration = Duration::from_secs(2);

/// How long after it must have ended a container is told to end once more: whoever was to do so may have failed.
const STOP_AGAIN: Duration = Duration::from_secs(10);

impl Decision<'_> {
    pub(super) fn wind_down(&mut self) {
        let mut mains_active = false;
        for (_, container) in spec::all_containers(self.pod).filter(|(role, _)| *role != Role::Sidecar) {
            mains_active |= self.state.container(&container.name).active();
            self.stop(&container, Duration::ZERO);
        }
        if mains_active && !plant::has(Plant::PullAway) {
            return;
        }
        // Sidecars go one by one, the last started first: the others may depend on the earlier ones.
        let last = spec::init_containers(self.pod)
            .rev()
            .map(|(_, container)| container)
            .find(|c| self.state.container(&c.name).active());
        if let Some(container) = last {
            return self.stop(container, SIDECAR_GRACE_MIN);
        }
        // What the runtime is about to forget, the disk must know.
        if !self.state.ends_noted() && !plant::has(Plant::ForgetAtOnce) {
            return;
        }
        let wanted = self.state.deadline.is_some();
        if self.remove_parts() && wanted && self.due(&self.state.removal) {
            self.push(Action::Finalize);
        }
    }

    fn stop(&mut self, container: &Container, grace_min: Duration) {
        let grace = match self.state.deadline {
            Some(deadline) => deadline.saturating_sub(self.now.mono).max(grace_min),
            None => {
                let own = Duration::from_secs(spec::grace_seconds(self.pod).max(0) as u64);
                self.state.failure.as_ref().and_then(|f| f.grace).unwrap_or(own)
            }
        };
        match &self.state.container(&container.name).run {
            Run::Running { .. } => self.push_stop(container, grace),
            Run::Stopping { deadline, .. } if *deadline > self.now.mono + grace => {
                self.push_stop(container, grace);
            }
            Run::Stopping { deadline, .. } => self.stop_again(container, *deadline),
            _ => {}
        }
    }

    /// Has a container killed that must have ended at `deadline` and has not.
    pub(super) fn stop_again(&mut self, container: &Container, deadline: Duration) {
        let again = deadline + STOP_AGAIN;
        if plant::has(Plant::StopOnce) {
            return;
        }
        if again <= self.now.mono {
            self.push_stop(container, Duration::ZERO);
        } else {
            self.plan.wake_at(again);
        }
    }

    fn push_stop(&mut self, container: &Container, grace: Duration) {
        let message = format!("Stopping container {}", container.name);
        self.push(Action::Stop {
            container: container.name.clone(),
            message,
            grace,
        });
    }

    /// Removes sandbox and volumes; true once both are gone.
    fn remove_parts(&mut self) -> bool {
        let (sandbox, volumes) = (&self.state.sandbox, &self.state.volumes);
        if self.removable(sandbox) {
            self.push(Action::RemoveSandbox);
        }
        // The sandbox first: the shim's mounts may hold the volumes.
        let freed = *sandbox == Part::Gone || plant::has(Plant::VolumesFirst);
        if freed && self.removable(volumes) {
            self.push(Action::RemoveVolumes);
        }
        *sandbox == Part::Gone && *volumes == Part::Gone
    }

    fn removable(&mut self, part: &Part) -> bool {
        // Absent too: a restarted agent does not know what its predecessor left.
        matches!(part, Part::Ready) || self.due(part)
    }
}
