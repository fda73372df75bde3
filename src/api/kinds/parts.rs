//! Kinds that only subresources carry: they have no path of their own and are never stored.

use crate::kind::Kind;

const fn part(group: &'static str, version: &'static str, kind: &'static str) -> Kind {
    Kind {
        group,
        version,
        kind,
        verbs: &[],
        ..Kind::NAMESPACED
    }
}

/// Body of `scale`.
pub static SCALE: Kind = part("autoscaling", "v1", "Scale");
/// Body of a pod's `eviction`.
pub static EVICTION: Kind = part("policy", "v1", "Eviction");
/// Body of a service account's `token`.
pub static TOKEN_REQUEST: Kind = part("authentication.k8s.io", "v1", "TokenRequest");
/// Query of `exec`.
pub static POD_EXEC_OPTIONS: Kind = part("", "v1", "PodExecOptions");
/// Query of `attach`.
pub static POD_ATTACH_OPTIONS: Kind = part("", "v1", "PodAttachOptions");
/// Query of `portforward`.
pub static POD_PORT_FORWARD_OPTIONS: Kind = part("", "v1", "PodPortForwardOptions");
/// Query of a pod's `proxy`.
pub static POD_PROXY_OPTIONS: Kind = part("", "v1", "PodProxyOptions");
/// Query of a node's `proxy`.
pub static NODE_PROXY_OPTIONS: Kind = part("", "v1", "NodeProxyOptions");
/// Query of a service's `proxy`.
pub static SERVICE_PROXY_OPTIONS: Kind = part("", "v1", "ServiceProxyOptions");
