//! Hooks, changes and the end of a running container.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{LifecycleHandler, Pod, ResourceRequirements};

use super::PodContext;
use super::start::runtime_of;
use crate::pods::resources::{of_container, of_pod};
use crate::pods::spec;
use crate::probes::handler::Subject;
use crate::runtime::Change;

/// What a container still gets after its preStop hook has used up its grace
/// (the kubelet's `minimumGracePeriodInSeconds`).
const GRACE_MIN: Duration = Duration::from_secs(2);

/// How long a pod stays for the sake of new connections that are still led to
/// it; never more than half of its grace, the other half is for what it has begun.
const WITHDRAWAL_MAX: Duration = Duration::from_secs(5);

/// The running container as hooks and probes see it.
pub fn subject(context: &PodContext, pod: &Pod, name: &str, container_id: &str) -> Option<Subject> {
    let (runtime, id) = runtime_of(context, container_id)?;
    let (_, container) = spec::container(pod, name)?;
    let ip = context.sandbox()?.ip.primary();
    Some(Subject {
        runtime,
        id,
        container: Arc::new(container.into_owned()),
        ip,
    })
}

/// Runs the postStart hook, if there is one.
///
/// # Errors
/// Its text; an event has been written.
pub async fn post_start(
    context: Arc<PodContext>,
    pod: Arc<Pod>,
    name: &str,
    container_id: &str,
) -> Result<(), String> {
    let Some(handler) = hook(&pod, name, |l| l.post_start.clone()) else {
        return Ok(());
    };
    let subject = subject(&context, &pod, name, container_id).ok_or("the container is gone")?;
    subject.hook(&handler).await.inspect_err(|error| {
        context.warn(
            &pod,
            Some(name),
            "FailedPostStartHook",
            format!("PostStartHook failed: {error}"),
        );
    })
}

/// Ends a container: preStop (unless `hurry`), SIGTERM, the grace, SIGKILL. In a pod that is being
/// deleted SIGTERM comes only when no Service leads new connections to it any more, so that nobody
/// is refused by a program that does as it is told; this counts towards the grace, as preStop does.
/// The `Killing` event is written unless in a hurry, too: then it has been.
pub async fn stop(
    context: Arc<PodContext>,
    pod: Arc<Pod>,
    name: &str,
    container_id: &str,
    message: &str,
    grace: Duration,
    hurry: bool,
) {
    let Some((runtime, id)) = runtime_of(&context, container_id) else {
        return;
    };
    let mut left = grace;
    if !hurry {
        context.tell(&pod, Some(name), "Killing", message);
        let begin = tokio::time::Instant::now();
        let handler = hook(&pod, name, |l| l.pre_stop.clone()).filter(|_| !grace.is_zero());
        tokio::join!(withdrawn(&context, &pod, grace), async {
            if let Some(handler) = &handler {
                pre_stop(&context, &pod, name, container_id, handler, grace).await;
            }
        });
        left = grace.saturating_sub(begin.elapsed());
        if handler.is_some() {
            left = left.max(GRACE_MIN);
        }
    }
    if let Err(error) = runtime.stop(&id, left).await {
        tracing::warn!(container_id, %error, "a container was not stopped");
        context.warn(
            &pod,
            Some(name),
            "FailedKillPod",
            format!("error killing container: {error}"),
        );
    }
}

/// Gives a running container what its pod says that it may use; what it has from now on.
///
/// # Errors
/// The kernel's text.
pub async fn resize(
    context: Arc<PodContext>,
    pod: Arc<Pod>,
    name: &str,
    container_id: &str,
) -> Result<Option<ResourceRequirements>, String> {
    let (runtime, id) = runtime_of(&context, container_id).ok_or("the container is gone")?;
    let (_, container) = spec::container(&pod, name).ok_or("the container is gone from the pod")?;
    let change = Change {
        pod_uid: spec::uid(&pod),
        container: of_container(&container),
        pod: of_pod(&pod),
    };
    runtime.resize(&id, &change).await.map_err(|e| e.to_string())?;
    Ok(container.resources.clone())
}

/// Waits until the pod, if it is being deleted, is out of the balancing.
async fn withdrawn(context: &PodContext, pod: &Pod, grace: Duration) {
    let Some(sandbox) = context
        .sandbox()
        .filter(|_| pod.metadata.deletion_timestamp.is_some())
    else {
        return;
    };
    let patience = WITHDRAWAL_MAX.min(grace / 2);
    let waited = context
        .node
        .balancing
        .withdrawn(sandbox.ip.primary(), spec::uid(pod));
    if tokio::time::timeout(patience, waited).await.is_err() && !patience.is_zero() {
        tracing::info!(
            pod = spec::name(pod),
            "stopped while Services may still lead to it"
        );
    }
}

async fn pre_stop(
    context: &PodContext,
    pod: &Pod,
    name: &str,
    container_id: &str,
    handler: &LifecycleHandler,
    grace: Duration,
) {
    let Some(subject) = subject(context, pod, name, container_id) else {
        return;
    };
    match tokio::time::timeout(grace, subject.hook(handler)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            context.warn(
                pod,
                Some(name),
                "FailedPreStopHook",
                format!("PreStopHook failed: {error}"),
            );
        }
        Err(_) => tracing::info!(pod = spec::name(pod), name, "preStop took all of the grace"),
    }
}

fn hook(
    pod: &Pod,
    name: &str,
    which: impl Fn(&k8s_openapi::api::core::v1::Lifecycle) -> Option<LifecycleHandler>,
) -> Option<LifecycleHandler> {
    spec::container(pod, name)?.1.lifecycle.as_ref().and_then(which)
}
