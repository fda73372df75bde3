//! Kinds that only subresources carry: they have no path of their own and are never stored.

use serde_json::{Value, json};

use crate::kind::Kind;
use crate::status::FieldError;
use crate::value::{Field, fill, get_mut};

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
pub static SCALE: Kind = Kind {
    validate: scale,
    ..part("autoscaling", "v1", "Scale")
};
/// Body of a pod's `eviction`.
pub static EVICTION: Kind = part("policy", "v1", "Eviction");
/// Body of a service account's `token`.
pub static TOKEN_REQUEST: Kind = Kind {
    default: default_token,
    validate: token,
    ..part("authentication.k8s.io", "v1", "TokenRequest")
};
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

fn scale(scale: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    Field::at(scale, "spec.replicas").non_negative(&mut errors);
    errors
}

/// An hour, unless asked otherwise.
fn default_token(request: &mut Value) {
    fill(request, "spec", json!({}));
    if let Some(spec) = get_mut(request, "spec") {
        fill(spec, "expirationSeconds", 3600);
    }
}

fn token(request: &Value) -> Vec<FieldError> {
    let seconds = Field::at(request, "spec.expirationSeconds");
    match seconds.int() {
        Some(n) if n < 600 => vec![seconds.invalid("may not specify a duration less than 10 minutes")],
        Some(n) if n > 1 << 32 => {
            vec![seconds.invalid("may not specify a duration larger than 2^32 seconds")]
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_last_an_hour_and_never_less_than_ten_minutes() {
        let mut request = json!({});
        (TOKEN_REQUEST.default)(&mut request);
        assert_eq!(request["spec"]["expirationSeconds"], 3600);
        request["spec"]["expirationSeconds"] = json!(10);
        assert_eq!(
            TOKEN_REQUEST.check_create(&request)[0].to_string(),
            "spec.expirationSeconds: Invalid value: 10: may not specify a duration less than 10 minutes"
        );
        assert_eq!(SCALE.check_create(&json!({"spec": {"replicas": -1}})).len(), 1);
    }
}
