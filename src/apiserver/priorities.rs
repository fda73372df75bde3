//! The order of groups and versions, in discovery and in their APIServices
//! (Kubernetes' `DefaultGenericAPIServicePriorities` and its control plane's additions).

/// Where a group version stands among the others: higher comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Priority {
    /// Of the group (`groupPriorityMinimum`).
    pub group: i64,
    /// Of the version in its group (`versionPriority`).
    pub version: i64,
}

/// Of groups that CustomResourceDefinitions add.
const CUSTOM: Priority = Priority {
    group: 1000,
    version: 100,
};

/// The group of the services themselves: it comes first and has no service of its own.
pub const REGISTRATION: &str = "apiregistration.k8s.io";

const GROUPS: &[(&str, i64)] = &[
    (REGISTRATION, 20_000),
    ("", 18_000),
    ("apps", 17_800),
    ("events.k8s.io", 17_750),
    ("authentication.k8s.io", 17_700),
    ("authorization.k8s.io", 17_600),
    ("autoscaling", 17_500),
    ("batch", 17_400),
    ("certificates.k8s.io", 17_300),
    ("networking.k8s.io", 17_200),
    ("policy", 17_100),
    ("rbac.authorization.k8s.io", 17_000),
    ("storage.k8s.io", 16_800),
    ("admissionregistration.k8s.io", 16_700),
    ("apiextensions.k8s.io", 16_700),
    ("scheduling.k8s.io", 16_600),
    ("coordination.k8s.io", 16_500),
    ("node.k8s.io", 16_300),
    ("discovery.k8s.io", 16_200),
    ("resource.k8s.io", 16_200),
    ("flowcontrol.apiserver.k8s.io", 16_100),
    ("metrics.k8s.io", 100),
];

/// The place of a group version that this server serves itself.
pub fn of(group: &str, version: &str) -> Priority {
    let Some((_, priority)) = GROUPS.iter().find(|(name, _)| *name == group) else {
        return CUSTOM;
    };
    let version = match (group, version) {
        ("", _) => 1,
        ("autoscaling", "v2") => 30,
        ("resource.k8s.io", "v1") => 20,
        ("resource.k8s.io", "v1beta2") => 15,
        ("storage.k8s.io", "v1beta1") | ("admissionregistration.k8s.io", "v1alpha1") => 9,
        ("networking.k8s.io" | "admissionregistration.k8s.io", "v1beta1") => 12,
        ("flowcontrol.apiserver.k8s.io", _) => 21,
        ("metrics.k8s.io", _) => 100,
        _ => 15,
    };
    Priority {
        group: *priority,
        version,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_group_has_its_place() {
        for kind in api::kinds::all() {
            assert!(of(kind.group, kind.version) > CUSTOM, "{}", kind.group);
        }
        for kind in api::kinds::early() {
            let (early, stable) = (of(kind.group, kind.version), of(kind.group, "v1"));
            assert!(CUSTOM < early && early < stable, "{kind:?}");
        }
        assert!(of("autoscaling", "v2") > of("autoscaling", "v1"));
        assert_eq!(of("example.com", "v1"), CUSTOM);
    }
}
