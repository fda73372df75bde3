//! Reading a pod's spec, and its annotations, without wading through options.

use std::borrow::Cow;

use k8s_openapi::api::core::v1::{
    Container, ContainerRestartRule, EphemeralContainer, Pod, PodSpec, Probe, Volume,
};

/// What part a container plays in its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Runs to its end before the next one starts.
    Init,
    /// An init container with `restartPolicy: Always`: started in order, runs beside the main ones.
    Sidecar,
    /// One of `spec.containers`.
    Main,
    /// One of `spec.ephemeralContainers`: runs once, beside all others.
    Ephemeral,
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

/// The containers that a pod is made with and their roles, init containers first.
pub fn containers(pod: &Pod) -> impl DoubleEndedIterator<Item = (Role, &Container)> {
    init_containers(pod).chain(main_containers(pod).map(|c| (Role::Main, c)))
}

/// The containers that have ended before this one begins.
pub fn ended_before(pod: &Pod, container: &str) -> Vec<String> {
    let init = init_containers(pod).take_while(|(_, c)| c.name != container);
    let ended = init.filter(|(role, _)| *role == Role::Init);
    ended.map(|(_, c)| c.name.clone()).collect()
}

/// The containers that were added to the pod while it ran, such as `kubectl debug` does.
pub fn ephemeral_containers(pod: &Pod) -> impl Iterator<Item = &EphemeralContainer> {
    spec(pod).ephemeral_containers.iter().flatten()
}

/// What a pod's annotation says.
pub fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// Every container with its role, those that came later included.
pub fn all_containers(pod: &Pod) -> impl Iterator<Item = (Role, Cow<'_, Container>)> {
    let later = ephemeral_containers(pod).map(|c| (Role::Ephemeral, Cow::Owned(as_container(c))));
    containers(pod)
        .map(|(role, c)| (role, Cow::Borrowed(c)))
        .chain(later)
}

/// Containers that run beside that one, or will soon: for what comes before the main ones, the sidecars before it.
pub fn beside<'a>(pod: &'a Pod, name: &str) -> Vec<&'a str> {
    let early = init_containers(pod).any(|(_, container)| container.name == name);
    let there = containers(pod).take_while(|(_, container)| !early || container.name != name);
    let lasting = there.filter(|(role, _)| *role != Role::Init);
    let names = lasting.map(|(_, container)| container.name.as_str());
    names.filter(|other| *other != name).collect()
}

/// The container of that name.
pub fn container<'a>(pod: &'a Pod, name: &str) -> Option<(Role, Cow<'a, Container>)> {
    all_containers(pod).find(|(_, c)| c.name == name)
}

/// An ephemeral container has the fields of any other, and its target beside.
fn as_container(c: &EphemeralContainer) -> Container {
    Container {
        args: c.args.clone(),
        command: c.command.clone(),
        env: c.env.clone(),
        env_from: c.env_from.clone(),
        image: c.image.clone(),
        image_pull_policy: c.image_pull_policy.clone(),
        name: c.name.clone(),
        security_context: c.security_context.clone(),
        stdin: c.stdin,
        stdin_once: c.stdin_once,
        termination_message_path: c.termination_message_path.clone(),
        termination_message_policy: c.termination_message_policy.clone(),
        tty: c.tty,
        volume_devices: c.volume_devices.clone(),
        volume_mounts: c.volume_mounts.clone(),
        working_dir: c.working_dir.clone(),
        ..Container::default()
    }
}

/// The container whose processes an ephemeral container wants to see.
pub fn target_of<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    let container = ephemeral_containers(pod).find(|c| c.name == name)?;
    container
        .target_container_name
        .as_deref()
        .filter(|t| !t.is_empty())
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

/// Whether a container that ended with `code` is to be started again: its rules
/// first, then its policy. An init container that ended well has done its part.
pub fn restarts(pod: &Pod, role: Role, container: &Container, code: i32) -> bool {
    if role == Role::Ephemeral || role == Role::Init && code == 0 {
        return false;
    }
    let mut rules = container.restart_policy_rules.iter().flatten();
    if rules.any(|rule| matches(rule, code)) {
        return true;
    }
    match container_restart_policy(pod, role, container) {
        RestartPolicy::Always => true,
        RestartPolicy::OnFailure => code != 0,
        RestartPolicy::Never => false,
    }
}

/// Whether a rule speaks of that exit code. All actions that there are begin the container anew.
fn matches(rule: &ContainerRestartRule, code: i32) -> bool {
    rule.exit_codes.as_ref().is_some_and(|codes| {
        let listed = codes.values.iter().flatten().any(|value| *value == code);
        match codes.operator.as_str() {
            "In" => listed,
            "NotIn" => !listed,
            _ => false,
        }
    })
}

/// The policy that holds for one container: sidecars always restart, init
/// containers of `Always` pods restart only on failure, what came later never
/// does, and any other may have a policy of its own.
fn container_restart_policy(pod: &Pod, role: Role, container: &Container) -> RestartPolicy {
    let own = match container.restart_policy.as_deref() {
        Some("Never") => RestartPolicy::Never,
        Some("OnFailure") => RestartPolicy::OnFailure,
        Some("Always") => RestartPolicy::Always,
        _ => restart_policy(pod),
    };
    match (role, own) {
        (Role::Sidecar, _) => RestartPolicy::Always,
        (Role::Ephemeral, _) => RestartPolicy::Never,
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

/// Whether volumes of the pod are mounts of their own, which have to be there before its sandbox.
pub fn mounts_first(pod: &Pod) -> bool {
    let in_memory = |volume: &Volume| {
        let source = volume.empty_dir.as_ref();
        source.is_some_and(|source| !source.medium.as_deref().unwrap_or_default().is_empty())
    };
    // What a claim means is not known yet; it may be a driver's.
    let mounted = |volume: &Volume| {
        volume.image.is_some()
            || volume.csi.is_some()
            || volume.nfs.is_some()
            || volume.ephemeral.is_some()
            || volume.persistent_volume_claim.is_some()
    };
    let mut volumes = spec(pod).volumes.iter().flatten();
    volumes.any(|volume| mounted(volume) || in_memory(volume))
}

/// The images that volumes of the pod show.
pub fn volume_images(pod: &Pod) -> impl Iterator<Item = &str> {
    let sources = spec(pod)
        .volumes
        .iter()
        .flatten()
        .filter_map(|volume| volume.image.as_ref());
    sources.filter_map(|source| source.reference.as_deref())
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
    fn who_runs_beside_a_container() {
        let named = |name: &str, restarts: bool| Container {
            name: name.to_owned(),
            restart_policy: restarts.then(|| "Always".to_owned()),
            ..with_image("a:1")
        };
        let spec = PodSpec {
            init_containers: Some(vec![
                named("early", true),
                named("init", false),
                named("late", true),
            ]),
            containers: vec![named("one", false), named("two", false)],
            ..PodSpec::default()
        };
        let pod = Pod {
            spec: Some(spec),
            ..Pod::default()
        };
        assert!(beside(&pod, "early").is_empty());
        assert_eq!(beside(&pod, "init"), ["early"]);
        assert_eq!(beside(&pod, "late"), ["early"]);
        assert_eq!(beside(&pod, "one"), ["early", "late", "two"]);
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

    #[test]
    fn rules_go_before_the_policy() {
        let pod: Pod = serde_json::from_value(serde_json::json!({"spec": {
            "restartPolicy": "Never",
            "initContainers": [{"name": "i", "restartPolicy": "OnFailure"}],
            "containers": [{"name": "c", "restartPolicy": "Never", "restartPolicyRules": [
                {"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}},
                {"action": "Restart", "exitCodes": {"operator": "NotIn", "values": [0, 1, 2]}}]}],
            "ephemeralContainers": [{"name": "e", "targetContainerName": "c"}],
        }}))
        .unwrap();
        let again = |name: &str, code: i32| {
            let (role, container) = container(&pod, name).unwrap();
            restarts(&pod, role, &container, code)
        };
        let found = [again("c", 42), again("c", 3), again("c", 1), again("c", 0)];
        assert_eq!(found, [true, true, false, false]);
        assert_eq!([again("i", 0), again("i", 1)], [false, true]);
        assert_eq!([again("e", 0), again("e", 1)], [false, false]);
        assert_eq!((target_of(&pod, "e"), target_of(&pod, "c")), (Some("c"), None));
    }

    #[test]
    fn only_those_that_ended_give_theirs_on() {
        let pod: Pod = serde_json::from_value(serde_json::json!({"spec": {"initContainers": [
            {"name": "a"}, {"name": "side", "restartPolicy": "Always"}, {"name": "b"}],
            "containers": [{"name": "main"}]}}))
        .unwrap();
        assert_eq!(ended_before(&pod, "b"), ["a"]);
        assert_eq!(ended_before(&pod, "main"), ["a", "b"]);
    }
}
