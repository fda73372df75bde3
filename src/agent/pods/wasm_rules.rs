//! What a WebAssembly container cannot be given. A guest is no process: it has
//! no user, no system calls of its own and no terminal. Whatever such a field
//! would only take from a guest holds by itself (`runAsNonRoot`, dropped
//! capabilities, a read-only root, the default profiles); what it would *give*
//! is refused by the field's name, and what has no meaning is named in an event. Pure.

use k8s_openapi::api::core::v1::{Container, Pod};

use super::spec;

/// Refuses a container that asks for what a guest cannot have.
///
/// # Errors
/// The text behind `CreateContainerConfigError`: every such field by name.
pub fn check(pod: &Pod, container: &Container) -> Result<(), String> {
    let fields = refused(pod, container);
    if fields.is_empty() {
        return Ok(());
    }
    Err(format!(
        "container {:?} is WebAssembly, which has no such thing as: {}; take these fields out, or use an \
         ordinary image",
        container.name,
        fields.join(", ")
    ))
}

/// Refuses devices and what is to be run for them: a guest opens none, and has no namespaces to be prepared.
///
/// # Errors
/// The text behind `CreateContainerConfigError`.
pub fn check_devices(
    container: &Container,
    devices: &[oci::Device],
    hooks: &[oci::Hook],
) -> Result<(), String> {
    let what = match (devices.first(), hooks.first()) {
        (Some(device), _) => format!("open the device {}", device.path),
        (None, Some(hook)) => format!("be prepared by {}", hook.path.display()),
        (None, None) => return Ok(()),
    };
    Err(format!(
        "container {:?} is WebAssembly, which cannot {what}, as a plugin wants it to; use an ordinary image",
        container.name
    ))
}

fn refused(pod: &Pod, container: &Container) -> Vec<&'static str> {
    let context = container.security_context.clone().unwrap_or_default();
    let local_seccomp = |profile: &Option<k8s_openapi::api::core::v1::SeccompProfile>| {
        profile.as_ref().is_some_and(|p| p.type_ == "Localhost")
    };
    let added = context.capabilities.and_then(|c| c.add).unwrap_or_default();
    let mounts = container.volume_mounts.as_deref().unwrap_or_default();
    let whole = spec::spec(pod).security_context.as_ref();
    let dns = spec::spec(pod).dns_config.as_ref();
    let policy = spec::spec(pod).dns_policy.as_deref();
    [
        ("securityContext.privileged", context.privileged == Some(true)),
        ("securityContext.capabilities.add", !added.is_empty()),
        (
            "securityContext.procMount",
            context.proc_mount.as_deref() == Some("Unmasked"),
        ),
        (
            "securityContext.seccompProfile of type Localhost",
            local_seccomp(&context.seccomp_profile)
                || whole.is_some_and(|whole| local_seccomp(&whole.seccomp_profile)),
        ),
        ("tty", container.tty == Some(true)),
        (
            "workingDir",
            !matches!(container.working_dir.as_deref(), None | Some("" | "/")),
        ),
        (
            "volumeDevices",
            !container.volume_devices.as_deref().unwrap_or_default().is_empty(),
        ),
        (
            "volumeMounts.mountPropagation: Bidirectional",
            mounts
                .iter()
                .any(|m| m.mount_propagation.as_deref() == Some("Bidirectional")),
        ),
        ("dnsPolicy: None", policy == Some("None")),
        ("dnsPolicy: Default", policy == Some("Default")),
        (
            "dnsConfig.nameservers",
            dns.is_some_and(|dns| dns.nameservers.as_ref().is_some_and(|list| !list.is_empty())),
        ),
    ]
    .into_iter()
    .filter_map(|(name, asked)| asked.then_some(name))
    .collect()
}

/// The fields that say nothing to a guest: it runs all the same, and an event names them.
pub fn without_meaning(pod: &Pod, container: &Container) -> Vec<&'static str> {
    let (own, whole) = (
        container.security_context.clone().unwrap_or_default(),
        spec::spec(pod).security_context.clone().unwrap_or_default(),
    );
    let s = spec::spec(pod);
    let options = s.dns_config.as_ref().and_then(|dns| dns.options.as_ref());
    [
        (
            "securityContext.runAsUser",
            own.run_as_user.or(whole.run_as_user).is_some(),
        ),
        (
            "securityContext.runAsGroup",
            own.run_as_group.or(whole.run_as_group).is_some(),
        ),
        (
            "securityContext.supplementalGroups",
            whole.supplemental_groups.is_some_and(|list| !list.is_empty()),
        ),
        ("hostPID", s.host_pid == Some(true)),
        ("hostIPC", s.host_ipc == Some(true)),
        ("shareProcessNamespace", s.share_process_namespace == Some(true)),
        (
            "dnsConfig.options",
            options.is_some_and(|options| !options.is_empty()),
        ),
        (
            "lifecycle.stopSignal",
            container
                .lifecycle
                .as_ref()
                .is_some_and(|l| l.stop_signal.is_some()),
        ),
    ]
    .into_iter()
    .filter_map(|(name, asked)| asked.then_some(name))
    .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    }

    fn judged(pod: &Pod) -> Result<(), String> {
        check(pod, &spec::spec(pod).containers[0])
    }

    #[test]
    fn what_only_takes_holds_by_itself() {
        let restricted = json!({"containers": [{"name": "c", "workingDir": "/", "securityContext": {
            "runAsNonRoot": true, "readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}}}]});
        let pod = pod(restricted);
        assert_eq!(judged(&pod), Ok(()));
        assert!(without_meaning(&pod, &spec::spec(&pod).containers[0]).is_empty());
    }

    #[test]
    fn what_gives_is_refused_by_name() {
        let asking = json!({"dnsPolicy": "None", "containers": [{"name": "c", "tty": true,
            "securityContext": {"privileged": true, "capabilities": {"add": ["NET_ADMIN"]}},
            "volumeMounts": [{"name": "v", "mountPath": "/v", "mountPropagation": "Bidirectional"}]}]});
        let text = judged(&pod(asking)).unwrap_err();
        assert!(
            text.contains(
                "securityContext.privileged, securityContext.capabilities.add, tty, \
                 volumeMounts.mountPropagation: Bidirectional, dnsPolicy: None"
            ),
            "{text}"
        );
    }

    #[test]
    fn what_says_nothing_is_named() {
        let pod = pod(json!({"securityContext": {"runAsUser": 5}, "hostPID": true,
            "containers": [{"name": "c"}]}));
        assert_eq!(judged(&pod), Ok(()));
        assert_eq!(
            without_meaning(&pod, &spec::spec(&pod).containers[0]),
            ["securityContext.runAsUser", "hostPID"]
        );
    }
}
