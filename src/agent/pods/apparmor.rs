//! Which AppArmor profile a container is to have. Pure.

use k8s_openapi::api::core::v1::{AppArmorProfile, Container, Pod};

use super::spec;

/// Before the container's name: how older manifests name profiles.
const ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";

/// The profile that is named for a container: by itself, by an annotation, by its pod.
pub fn wanted(pod: &Pod, container: &Container) -> Option<AppArmorProfile> {
    let own = container.security_context.as_ref();
    let whole = spec::spec(pod).security_context.as_ref();
    own.and_then(|context| context.app_armor_profile.clone())
        .or_else(|| noted(pod, container))
        .or_else(|| whole.and_then(|context| context.app_armor_profile.clone()))
}

/// What an annotation says; one that cannot be read says nothing.
fn noted(pod: &Pod, container: &Container) -> Option<AppArmorProfile> {
    let key = format!("{ANNOTATION}{}", container.name);
    let named = |kind: &str, name: Option<&str>| AppArmorProfile {
        type_: kind.to_owned(),
        localhost_profile: name.map(str::to_owned),
    };
    match pod.metadata.annotations.as_ref()?.get(&key)?.as_str() {
        "runtime/default" => Some(named("RuntimeDefault", None)),
        "unconfined" => Some(named("Unconfined", None)),
        other => {
            let name = other.strip_prefix("localhost/");
            name.filter(|name| !name.is_empty() && name.trim() == *name)
                .map(|name| named("Localhost", Some(name)))
        }
    }
}

/// Whether it is the runtime's own.
pub fn is_default(profile: &AppArmorProfile) -> bool {
    profile.type_ == "RuntimeDefault"
}

/// Whether a container must have the runtime's own: privileged ones go without, whatever they ask for.
pub fn demands_default(pod: &Pod, container: &Container) -> bool {
    let own = container.security_context.as_ref();
    own.and_then(|context| context.privileged) != Some(true)
        && wanted(pod, container).as_ref().is_some_and(is_default)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::super::confinement::security;
    use super::*;

    /// A pod with security contexts of its own and of its container, and an annotation for that.
    fn pod(whole: Value, own: Value, annotation: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "annotations": {format!("{ANNOTATION}c"): annotation}},
            "spec": {"securityContext": whole, "containers": [{"name": "c", "securityContext": own}]},
        }))
        .unwrap()
    }

    fn profile(kind: &str) -> Value {
        json!({"appArmorProfile": {"type": kind}})
    }

    fn local(name: &str) -> Value {
        json!({"appArmorProfile": {"type": "Localhost", "localhostProfile": name}})
    }

    #[test]
    fn who_names_no_profile_has_the_nodes() {
        // Whether it has the node's profile, and whether it cannot do without.
        let default = |own: Value| {
            let pod = pod(json!({}), own, "");
            let container = &spec::spec(&pod).containers[0];
            let made = security(&pod, container, Path::new("/"));
            (made.apparmor_default, demands_default(&pod, container))
        };
        assert_eq!(default(json!({})), (true, false));
        assert_eq!(default(profile("RuntimeDefault")), (true, true));
        assert_eq!(default(profile("Unconfined")), (false, false));
        assert_eq!(default(local("tight")), (false, false));
        assert_eq!(default(json!({"privileged": true})), (false, false));
        let mut both = profile("RuntimeDefault");
        both["privileged"] = true.into();
        assert_eq!(default(both), (false, false));
    }

    #[test]
    fn a_container_goes_before_its_annotation_and_that_before_its_pod() {
        let of = |whole: Value, own: Value, annotation: &str| {
            let pod = pod(whole, own, annotation);
            let made = security(&pod, &spec::spec(&pod).containers[0], Path::new("/"));
            match made.apparmor_default {
                true => "the node's".to_owned(),
                false => made.apparmor,
            }
        };
        assert_eq!(of(local("whole"), json!({}), ""), "whole");
        assert_eq!(of(local("whole"), json!({"privileged": true}), ""), "whole");
        assert_eq!(of(local("whole"), json!({}), "localhost/noted"), "noted");
        assert_eq!(of(local("whole"), json!({}), "unconfined"), "");
        assert_eq!(of(local("whole"), json!({}), "runtime/default"), "the node's");
        assert_eq!(of(local("whole"), local("own"), "localhost/noted"), "own");
        for unread in ["localhost/", "localhost/ x", "docker/default"] {
            assert_eq!(of(local("whole"), json!({}), unread), "whole", "{unread}");
        }
    }
}
