//! Which tokens of service accounts a node may ask for: of pods that run on it, for those whom these pods want tokens for.

use api::object;
use api::storage::claims_of;
use api::value;
use k8s_openapi::api::core::v1::Pod;
use serde::Deserialize;
use serde_json::Value;

use super::plugin::{Review, World};
use crate::authz::Attributes;

/// Gives a node tokens for an audience of which its pods say nothing; the audience stands for the resource.
const VERB: &str = "request-serviceaccounts-token-audience";
/// Pods that have it use the API through their node (see the agent's key-value stores).
const KEY_VALUE: &str = "coracle.dev/keyvalue";

pub(super) fn token(review: &Review<'_>, node: &str, world: &dyn World) -> Result<(), String> {
    let Some(request) = review.object.as_deref() else {
        return Ok(());
    };
    let bound = value::get(request, "spec.boundObjectRef");
    let says = |key: &str| value::text(bound, key);
    if (says("apiVersion"), says("kind")) != ("v1", "Pod") || says("name").is_empty() {
        return Err("node requested token not bound to a pod".to_owned());
    }
    if says("uid").is_empty() {
        return Err("node requested token with a pod binding without a uid".to_owned());
    }
    let Some(pod) = world.find("", "pods", review.namespace, says("name")) else {
        return Err(format!("pods {:?} not found", says("name")));
    };
    if says("uid") != object::uid(&pod) {
        return Err(format!(
            "the UID in the bound object reference ({}) does not match the UID in record. The object might have been \
             deleted and then recreated",
            says("uid")
        ));
    }
    if value::text(&pod, "spec.nodeName") != node {
        return Err("node requested token bound to a pod scheduled on a different node".to_owned());
    }
    audience(review, request, &pod, world)
}

/// Some audience is wanted by the pod, or given to the node by name.
fn audience(review: &Review<'_>, request: &Value, pod: &Value, world: &dyn World) -> Result<(), String> {
    let asked = value::list(request, "spec.audiences");
    let audience = match asked {
        [] => "",
        [one] => one.as_str().unwrap_or_default(),
        _ => return Err("node may only request 0 or 1 audiences".to_owned()),
    };
    let by_node = audience.is_empty() && object::annotation(pod, KEY_VALUE).is_some();
    if by_node || is_wanted(audience, pod, world) {
        return Ok(());
    }
    let attributes = Attributes {
        user: review.user.clone(),
        verb: VERB.to_owned(),
        resource_request: true,
        resource: audience.to_owned(),
        namespace: review.namespace.to_owned(),
        name: review.name.to_owned(),
        ..Attributes::default()
    };
    if world.allows(&attributes) {
        return Ok(());
    }
    Err(format!(
        "audience {audience:?} not found in pod spec volume, {} is not authorized to request tokens for this audience",
        review.user.name
    ))
}

/// Whether a volume of the pod, or the CSI driver of one, wants tokens for it.
fn is_wanted(audience: &str, pod: &Value, world: &dyn World) -> bool {
    let Ok(pod) = Pod::deserialize(pod) else {
        return false;
    };
    let volumes = || pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let sources = volumes().filter_map(|volume| volume.projected.as_ref()?.sources.as_ref());
    let mut tokens = sources
        .flatten()
        .filter_map(|source| source.service_account_token.as_ref());
    if tokens.any(|token| token.audience.as_deref().unwrap_or_default() == audience) {
        return true;
    }
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let inline = volumes().filter_map(|volume| Some(volume.csi.as_ref()?.driver.clone()));
    let claimed = claims_of(&pod).filter_map(|(claim, _)| driver(namespace, &claim, world));
    inline
        .chain(claimed)
        .any(|driver| wants(&driver, audience, world))
}

/// The CSI driver of the volume of a claim.
fn driver(namespace: &str, claim: &str, world: &dyn World) -> Option<String> {
    let claim = world.find("", "persistentvolumeclaims", namespace, claim)?;
    let volume = world.find(
        "",
        "persistentvolumes",
        "",
        value::text(&claim, "spec.volumeName"),
    )?;
    let driver = value::text(&volume, "spec.csi.driver");
    (!driver.is_empty()).then(|| driver.to_owned())
}

fn wants(driver: &str, audience: &str, world: &dyn World) -> bool {
    let driver = world.find("storage.k8s.io", "csidrivers", "", driver);
    let wanted = driver
        .iter()
        .flat_map(|driver| value::list(driver, "spec.tokenRequests"));
    wanted
        .into_iter()
        .any(|wanted| value::text(wanted, "audience") == audience)
}

#[cfg(test)]
mod tests {
    use api::request::User;
    use serde_json::json;

    use super::super::testing::{Fixed, creation};
    use super::*;

    /// Why a node does not get a token of a pod with these volumes and annotations for these audiences.
    fn refused(volumes: Value, annotations: Value, audiences: &[&str], allowed: &[&'static str]) -> String {
        let user = User::new("system:node:a", &["system:nodes"]);
        let pod = json!({"metadata": {"name": "p", "namespace": "default", "uid": "u", "annotations": annotations},
            "spec": {"nodeName": "a", "volumes": volumes}});
        let claim = |name: &str| json!({"metadata": {"name": name, "namespace": "default"}, "spec": {"volumeName": "pv"}});
        let mut world = Fixed::new(vec![
            ("", "pods", pod),
            ("", "persistentvolumeclaims", claim("data")),
            ("", "persistentvolumeclaims", claim("p-own")),
            (
                "",
                "persistentvolumes",
                json!({"metadata": {"name": "pv"}, "spec": {"csi": {"driver": "csi.io"}}}),
            ),
            (
                "storage.k8s.io",
                "csidrivers",
                json!({"metadata": {"name": "csi.io"}, "spec": {"tokenRequests": [{"audience": "vault"}]}}),
            ),
        ]);
        world.allowed = allowed.to_vec();
        let mut request = json!({"spec": {"audiences": audiences,
            "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}}});
        let mut review = creation("", "serviceaccounts", &user, &mut request);
        (review.namespace, review.subresource, review.name) = ("default", "token", "bot");
        token(&review, "a", &world).err().unwrap_or_default()
    }

    #[test]
    fn a_node_gets_tokens_for_whom_its_pods_want_them() {
        let projected =
            |audience: Value| json!([{"projected": {"sources": [{"serviceAccountToken": audience}]}}]);
        let of = |volumes: Value, audience: &str| refused(volumes, json!({}), &[audience], &[]);
        assert_eq!(of(projected(json!({"path": "token"})), ""), "");
        assert_eq!(of(projected(json!({"audience": "vault"})), "vault"), "");
        assert_eq!(
            of(projected(json!({"path": "token"})), "vault"),
            "audience \"vault\" not found in pod spec volume, system:node:a is not authorized to request tokens for this \
             audience"
        );
        let by_driver = [
            json!([{"csi": {"driver": "csi.io"}}]),
            json!([{"name": "x", "persistentVolumeClaim": {"claimName": "data"}}]),
            json!([{"name": "own", "ephemeral": {}}]),
        ];
        for volumes in by_driver {
            assert_eq!(of(volumes.clone(), "vault"), "", "{volumes}");
            assert!(of(volumes, "other").contains("not found in pod spec volume"));
        }
        assert!(refused(json!([]), json!({}), &["a", "b"], &[]).contains("0 or 1 audiences"));
    }

    #[test]
    fn others_are_given_to_it_by_name() {
        let of = |annotations: Value, audiences: &[&str], allowed: &[&'static str]| {
            refused(json!([]), annotations, audiences, allowed)
        };
        assert_eq!(of(json!({}), &["registry"], &[VERB]), "");
        assert_ne!(of(json!({}), &[], &[]), "");
        // Its node calls the API for it.
        assert_eq!(of(json!({KEY_VALUE: "counts"}), &[], &[]), "");
        assert_ne!(of(json!({KEY_VALUE: "counts"}), &["registry"], &[]), "");
    }
}
