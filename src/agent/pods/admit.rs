//! Which pods this node does not take, whatever the scheduler thought: the
//! kubelet's own admission, in its words. Pure.

use k8s_openapi::api::core::v1::{AppArmorProfile, Pod};

use super::state::Failure;
use super::{apparmor, spec};

/// Sysctls that touch nobody but the pod (Kubernetes' safe set).
const SAFE_SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];

/// What the machine has to offer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// The kernel enforces AppArmor profiles.
    pub apparmor: bool,
    /// Sysctls beyond the safe ones that pods may set; `*` at an end stands for any rest.
    pub sysctls: Vec<String>,
}

impl Offer {
    /// What this machine has.
    pub fn of_this_machine(sysctls: &[String]) -> Offer {
        Offer {
            apparmor: oci::apparmor::is_enforced(),
            sysctls: sysctls.to_vec(),
        }
    }
}

/// Why the pod is not run here.
pub fn refusal(pod: &Pod, offer: &Offer) -> Option<Failure> {
    let (reason, message) = os(pod)
        .or_else(|| sysctl(pod, offer))
        .or_else(|| profiles(pod, offer))
        .or_else(|| claims(pod))?;
    Some(Failure {
        reason: reason.to_owned(),
        message: format!("Pod was rejected: {message}"),
        grace: None,
    })
}

/// Why a pod that comes while the node is shut down is not run.
pub fn shutting_down() -> Failure {
    Failure {
        reason: "NodeShutdown".to_owned(),
        message: "Pod was rejected as the node is shutting down.".to_owned(),
        grace: None,
    }
}

/// Why a pod is not run whose devices cannot be had.
pub fn unexpected(why: &str) -> Failure {
    Failure {
        reason: "UnexpectedAdmissionError".to_owned(),
        message: format!("Pod was rejected: {why}"),
        grace: None,
    }
}

type Reason = (&'static str, String);

fn os(pod: &Pod) -> Option<Reason> {
    let s = spec::spec(pod);
    let label = s
        .node_selector
        .as_ref()
        .and_then(|labels| labels.get("kubernetes.io/os"));
    if label.is_some_and(|os| os != "linux") {
        let text = "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label";
        return Some(("PodOSSelectorNodeLabelDoesNotMatch", text.to_owned()));
    }
    let other = s.os.as_ref().is_some_and(|os| os.name != "linux");
    other.then(|| {
        let text = "Failed to admit pod as the OS field doesn't match node OS";
        ("PodOSNotSupported", text.to_owned())
    })
}

fn sysctl(pod: &Pod, offer: &Offer) -> Option<Reason> {
    let s = spec::spec(pod);
    let wanted = s.security_context.as_ref()?.sysctls.as_deref()?;
    let fail = |text: String| Some(("SysctlForbidden", text));
    for name in wanted.iter().map(|sysctl| sysctl.name.replace('/', ".")) {
        let known = SAFE_SYSCTLS.contains(&name.as_str()) || offer.sysctls.iter().any(|p| covers(p, &name));
        if !known {
            return fail(format!("forbidden sysctl: {name:?} not allowlisted"));
        }
        if name.starts_with("net.") && spec::host_network(pod) {
            return fail(format!(
                "forbidden sysctl: {name:?} not allowed with host net enabled"
            ));
        }
        if name.starts_with("kernel.") && s.host_ipc == Some(true) {
            return fail(format!(
                "forbidden sysctl: {name:?} not allowed with host ipc enabled"
            ));
        }
    }
    None
}

/// Who comes here past the scheduler must not run without what it has claimed.
fn claims(pod: &Pod) -> Option<Reason> {
    let claim = spec::spec(pod).resource_claims.as_ref()?.first()?;
    let text = format!(
        "spec.resourceClaims: this node prepares no claims of devices, such as {:?}",
        claim.name
    );
    Some(("FailedPrepareDynamicResources", text))
}

fn covers(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => pattern == name,
    }
}

fn profiles(pod: &Pod, offer: &Offer) -> Option<Reason> {
    let confines = |profile: &AppArmorProfile| profile.type_ != "Unconfined";
    let whole = spec::spec(pod).security_context.as_ref();
    let whole = whole.and_then(|context| context.app_armor_profile.as_ref());
    let named = whole.is_some_and(confines)
        || spec::all_containers(pod)
            .any(|(_, container)| apparmor::wanted(pod, &container).as_ref().is_some_and(confines));
    (named && !offer.apparmor).then(|| {
        let text = "Cannot enforce AppArmor: AppArmor is not enabled on the host";
        ("AppArmor", text.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(spec: serde_json::Value, offer: &Offer) -> Option<(String, String)> {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap();
        refusal(&pod, offer).map(|failure| (failure.reason, failure.message))
    }

    fn said(reason: &str, message: &str) -> Option<(String, String)> {
        Some((reason.to_owned(), format!("Pod was rejected: {message}")))
    }

    #[test]
    fn claims_of_devices_are_refused() {
        let claims = json!([{"name": "gpu", "resourceClaimName": "mine"}]);
        let found = refused(
            json!({"resourceClaims": claims, "containers": []}),
            &Offer::default(),
        );
        let why = "spec.resourceClaims: this node prepares no claims of devices, such as \"gpu\"";
        assert_eq!(found, said("FailedPrepareDynamicResources", why));
    }

    #[test]
    fn other_systems_pods_are_refused() {
        let offer = Offer::default();
        assert_eq!(
            refused(json!({"os": {"name": "linux"}, "containers": []}), &offer),
            None
        );
        assert_eq!(
            refused(json!({"os": {"name": "windows"}, "containers": []}), &offer),
            said(
                "PodOSNotSupported",
                "Failed to admit pod as the OS field doesn't match node OS"
            )
        );
        let selector = json!({"nodeSelector": {"kubernetes.io/os": "windows"}, "containers": []});
        assert_eq!(
            refused(selector, &offer).unwrap().0,
            "PodOSSelectorNodeLabelDoesNotMatch"
        );
    }

    #[test]
    fn only_sysctls_that_are_the_pods_own_are_set() {
        let with = |name: &str, host: bool| {
            json!({"hostNetwork": host, "containers": [],
                "securityContext": {"sysctls": [{"name": name, "value": "1"}]}})
        };
        let offer = Offer {
            sysctls: vec!["kernel.msg*".to_owned()],
            ..Offer::default()
        };
        assert_eq!(refused(with("kernel.shm_rmid_forced", false), &offer), None);
        assert_eq!(refused(with("kernel.msgmax", false), &offer), None);
        assert_eq!(
            refused(with("kernel.msgmax", false), &Offer::default()),
            said(
                "SysctlForbidden",
                "forbidden sysctl: \"kernel.msgmax\" not allowlisted"
            )
        );
        assert_eq!(
            refused(with("net.ipv4.tcp_syncookies", true), &offer).unwrap().1,
            "Pod was rejected: forbidden sysctl: \"net.ipv4.tcp_syncookies\" not allowed with host net enabled"
        );
    }

    #[test]
    fn profiles_need_a_kernel_that_enforces_them() {
        let profile = |kind: &str| json!({"containers": [{"name": "c", "securityContext": {"appArmorProfile": {"type": kind}}}]});
        let (without, with) = (
            Offer::default(),
            Offer {
                apparmor: true,
                ..Offer::default()
            },
        );
        assert_eq!(refused(profile("Unconfined"), &without), None);
        assert_eq!(refused(profile("RuntimeDefault"), &with), None);
        assert_eq!(
            refused(profile("RuntimeDefault"), &without),
            said(
                "AppArmor",
                "Cannot enforce AppArmor: AppArmor is not enabled on the host"
            )
        );
    }
}
