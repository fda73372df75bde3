use super::*;

/// The plugins of a Kubernetes 1.36 with default gates and NodeRestriction, in the order in which its start-up log has
/// those that change objects.
const CHANGING: [&str; 15] = [
    "NamespaceLifecycle",
    "LimitRanger",
    "ServiceAccount",
    "NodeRestriction",
    "TaintNodesByCondition",
    "Priority",
    "DefaultTolerationSeconds",
    "DefaultStorageClass",
    "StorageObjectInUseProtection",
    "PodGroupProtection",
    "RuntimeClass",
    "DefaultIngressClass",
    "PodTopologyLabels",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionWebhook",
];
/// And those that only refuse.
const REFUSING: [&str; 17] = [
    "LimitRanger",
    "ServiceAccount",
    "PodSecurity",
    "Priority",
    "PersistentVolumeClaimResize",
    "RuntimeClass",
    "CertificateApproval",
    "CertificateSigning",
    "ClusterTrustBundleAttest",
    "CertificateSubjectRestriction",
    "PodGroupWorkloadExists",
    "NodeDeclaredFeatureValidator",
    "JobValidation",
    "PodResizeValidator",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionWebhook",
    "ResourceQuota",
];
/// Those that are no plugins here: they run after all plugins, in this order too (`dynamic`, `registry::quota`).
const AFTERWARDS: [&str; 5] = [
    "MutatingAdmissionPolicy",
    "MutatingAdmissionWebhook",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionWebhook",
    "ResourceQuota",
];
/// Those that are about kinds and fields which are behind gates, and not served.
const INERT: [&str; 4] = [
    "ClusterTrustBundleAttest",
    "JobValidation",
    "PodGroupProtection",
    "PodGroupWorkloadExists",
];

#[test]
fn plugins_run_in_kubernetes_order_and_none_is_missing() {
    let plugins = plugins(&Settings::default());
    let names: Vec<&str> = plugins.iter().map(|plugin| plugin.name()).collect();
    let place = |wanted: &&str| names.iter().position(|name| name == wanted);
    for documented in [&CHANGING[..], &REFUSING[..]] {
        let places: Vec<usize> = documented.iter().filter_map(place).collect();
        assert!(places.is_sorted(), "{names:?} against {documented:?}");
        for name in documented {
            let known = place(name).is_some() || AFTERWARDS.contains(name) || INERT.contains(name);
            assert!(known, "no {name}");
        }
    }
    for name in names {
        assert!(
            CHANGING.contains(&name) || REFUSING.contains(&name),
            "{name} is not Kubernetes'"
        );
    }
}
