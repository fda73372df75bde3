//! Reading a pod's spec without wading through options.

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Probe};

/// What part a container plays in its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Runs to its end before the next one starts.
    Init,
    /// An init container with `restartPolicy: Always`: started in order, runs beside the main ones.
    Sidecar,
    /// One of `spec.containers`.
    Main,
}

/// A pod's `restartPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Whatever happened.
    Always,
    /// After a failure.
    OnFailure,
    /// Not at all.
    Never,
}

/// Kubernetes' `terminationGracePeriodSeconds` where none is given.
pub const GRACE_SECONDS_DEFAULT: i64 = 30;

static NO_SPEC: std::sync::LazyLock<PodSpec> = std::sync::LazyLock::new(PodSpec::default);

/// The pod's spec; an empty one for a pod that has none (which no API server sends).
pub fn spec(pod: &Pod) -> &PodSpec {
    pod.spec.as_ref().unwrap_or(&NO_SPEC)
}

/// The pod's namespace.
pub fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or_default()
}

/// The pod's name.
pub fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

/// The pod's UID.
pub fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

/// The pod as event and status texts name it: `name_namespace(uid)`.
pub fn full_name(pod: &Pod) -> String {
    format!("{}_{}({})", name(pod), namespace(pod), uid(pod))
}

/// Init containers in their order.
pub fn init_containers(pod: &Pod) -> impl DoubleEndedIterator<Item = (Role, &Container)> {
    spec(pod)
        .init_containers
        .iter()
        .flatten()
        .map(|c| (init_role(c), c))
}

/// Main containers.
pub fn main_containers(pod: &Pod) -> impl DoubleEndedIterator<Item = &Container> {
    spec(pod).containers.iter()
}

/// Every container with its role, init containers first.
pub fn containers(pod: &Pod) -> impl DoubleEndedIterator<Item = (Role, &Container)> {
    init_containers(pod).chain(main_containers(pod).map(|c| (Role::Main, c)))
}

/// The container of that name.
pub fn container<'a>(pod: &'a Pod, name: &str) -> Option<(Role, &'a Container)> {
    containers(pod).find(|(_, c)| c.name == name)
}

fn init_role(container: &Container) -> Role {
    if container.restart_policy.as_deref() == Some("Always") {
        Role::Sidecar
    } else {
        Role::Init
    }
}

/// The pod's restart policy.
pub fn restart_policy(pod: &Pod) -> RestartPolicy {
    match spec(pod).restart_policy.as_deref() {
        Some("Never") => RestartPolicy::Never,
        Some("OnFailure") => RestartPolicy::OnFailure,
        _ => RestartPolicy::Always,
    }
}

/// The policy that holds for one container: sidecars always restart, init
/// containers of `Always` pods restart only on failure, and a main container
/// may have a policy of its own.
pub fn container_restart_policy(pod: &Pod, role: Role, container: &Container) -> RestartPolicy {
    let own = match container.restart_policy.as_deref() {
        Some("Never") => RestartPolicy::Never,
        Some("OnFailure") => RestartPolicy::OnFailure,
        Some("Always") => RestartPolicy::Always,
        _ => restart_policy(pod),
    };
    match (role, own) {
        (Role::Sidecar, _) => RestartPolicy::Always,
        (Role::Init, RestartPolicy::Always) => RestartPolicy::OnFailure,
        (_, policy) => policy,
    }
}

/// `spec.terminationGracePeriodSeconds`.
pub fn grace_seconds(pod: &Pod) -> i64 {
    spec(pod)
        .termination_grace_period_seconds
        .unwrap_or(GRACE_SECONDS_DEFAULT)
}

/// Whether the pod uses the node's network.
pub fn host_network(pod: &Pod) -> bool {
    spec(pod).host_network.unwrap_or(false)
}

/// The grace with which a failed probe ends its container, in seconds.
pub fn probe_grace_seconds(pod: &Pod, probe: Option<&Probe>) -> i64 {
    probe
        .and_then(|p| p.termination_grace_period_seconds)
        .unwrap_or_else(|| grace_seconds(pod))
}

/// The image as the manifest has it.
pub fn image(container: &Container) -> &str {
    container.image.as_deref().unwrap_or_default()
}

/// `imagePullPolicy`, defaulted as the API server would.
pub fn pull_policy(container: &Container) -> &str {
    match container.image_pull_policy.as_deref() {
        Some(policy) if !policy.is_empty() => policy,
        _ if latest(image(container)) => "Always",
        _ => "IfNotPresent",
    }
}

fn latest(reference: &str) -> bool {
    let last = reference.rsplit('/').next().unwrap_or(reference);
    !reference.contains('@') && (last.ends_with(":latest") || !last.contains(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_image(image: &str) -> Container {
        Container {
            image: Some(image.to_owned()),
            ..Container::default()
        }
    }

    #[test]
    fn pull_policy_follows_the_tag() {
        for (image, policy) in [
            ("busybox", "Always"),
            ("busybox:latest", "Always"),
            ("localhost:5000/busybox", "Always"),
            ("busybox:1.36", "IfNotPresent"),
            ("localhost:5000/busybox:1", "IfNotPresent"),
            ("busybox@sha256:00", "IfNotPresent"),
        ] {
            assert_eq!(pull_policy(&with_image(image)), policy, "{image}");
        }
    }

    #[test]
    fn sidecars_are_init_containers_that_always_restart() {
        let sidecar = Container {
            restart_policy: Some("Always".to_owned()),
            ..with_image("a:1")
        };
        let pod = Pod {
            spec: Some(PodSpec {
                init_containers: Some(vec![sidecar, with_image("b:1")]),
                containers: vec![with_image("c:1")],
                restart_policy: Some("Never".to_owned()),
                ..PodSpec::default()
            }),
            ..Pod::default()
        };
        let roles: Vec<Role> = containers(&pod).map(|(role, _)| role).collect();
        assert_eq!(roles, [Role::Sidecar, Role::Init, Role::Main]);
        let policies: Vec<_> = containers(&pod)
            .map(|(r, c)| container_restart_policy(&pod, r, c))
            .collect();
        assert_eq!(
            policies,
            [RestartPolicy::Always, RestartPolicy::Never, RestartPolicy::Never]
        );
    }
}
