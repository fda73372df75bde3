//! ServiceAccount: every pod runs as one, and gets its token as a volume.

mod mountable;

use api::object;
use api::references;
use api::status::Status;
use api::value;
use serde_json::{Value, json};

use super::plugin::{Operation, Plugin, Review, World};

/// Where containers find the token, the CA and the namespace.
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Marks a pod that a node runs from a file of its own.
const MIRROR: &str = "kubernetes.io/config.mirror";
/// Seconds a token lasts: an hour and a little, as Kubernetes' own (the little tells them apart).
const TOKEN_SECONDS: i64 = 3607;

/// The plugin.
pub struct ServiceAccount;

impl Plugin for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    fn admit(&self, review: &mut Review<'_>, world: &dyn World) -> Result<(), Status> {
        if !review.is("", "pods") || review.operation != Operation::Create {
            return Ok(());
        }
        let Some(pod) = review.object.as_deref_mut() else {
            return Ok(());
        };
        if object::annotation(pod, MIRROR).is_some() {
            return Ok(());
        }
        let mut name = value::text(pod, "spec.serviceAccountName").to_owned();
        if name.is_empty() {
            name = "default".to_owned();
        }
        for key in ["serviceAccountName", "serviceAccount"] {
            object::set(pod, &["spec", key], name.as_str());
        }
        let Some(account) = world.find("", "serviceaccounts", review.namespace, &name) else {
            let namespace = review.namespace;
            let why = format!(
                "error looking up service account {namespace}/{name}: serviceaccount {name:?} not found"
            );
            return Err(review.forbid(&why));
        };
        if wants_token(pod, &account) {
            mount(pod, &format!("kube-api-access-{}", world.random().suffix(5)));
        }
        pull_secrets(pod, &account);
        Ok(())
    }

    fn validate(&self, review: &Review<'_>, world: &dyn World) -> Result<(), Status> {
        let added =
            review.is_part("", "pods", "ephemeralcontainers") && review.operation == Operation::Update;
        let created = review.is("", "pods") && review.operation == Operation::Create;
        let Some(pod) = review.object.as_deref().filter(|_| added || created) else {
            return Ok(());
        };
        let is_mirror = object::annotation(pod, MIRROR).is_some();
        let result = match is_mirror && created {
            true => mirror(pod),
            false => {
                let name = value::text(pod, "spec.serviceAccountName");
                let account = world.find("", "serviceaccounts", review.namespace, name);
                account.map_or(Ok(()), |account| mountable::judge(pod, &account, added))
            }
        };
        result.map_err(|why| review.forbid(&why))
    }
}

/// A mirror pod may not use what only the API server can give.
fn mirror(pod: &Value) -> Result<(), String> {
    let refused = |what: &str| Err(format!("a mirror pod may not {what}"));
    if !value::text(pod, "spec.serviceAccountName").is_empty() {
        return refused("reference service accounts");
    }
    if !references::of(pod, "secrets").is_empty() {
        return refused("reference secrets");
    }
    let tokens = |volume: &Value| {
        let sources = value::list(volume, "projected.sources").iter();
        sources
            .clone()
            .any(|source| value::has(source, "serviceAccountToken"))
    };
    if value::list(pod, "spec.volumes").iter().any(tokens) {
        return refused("use ServiceAccountToken volume projections");
    }
    Ok(())
}

fn wants_token(pod: &Value, account: &Value) -> bool {
    let asked = value::get(pod, "spec.automountServiceAccountToken").as_bool();
    asked
        .or_else(|| value::get(account, "automountServiceAccountToken").as_bool())
        .unwrap_or(true)
}

/// Adds the volume, and mounts it wherever nothing is mounted at its place yet.
fn mount(pod: &mut Value, fresh: &str) {
    let present = value::list(pod, "spec.volumes")
        .iter()
        .map(|volume| value::text(volume, "name"))
        .find(|name| name.starts_with("kube-api-access-"));
    let (name, new) = match present {
        Some(name) => (name.to_owned(), false),
        None => (fresh.to_owned(), true),
    };
    let mut used = false;
    for list in ["spec.initContainers", "spec.containers"] {
        value::each(pod, list, |container| used |= mount_in(container, &name));
    }
    if used && new {
        push(pod, "volumes", volume(&name));
    }
}

fn mount_in(container: &mut Value, name: &str) -> bool {
    let taken = value::list(container, "volumeMounts")
        .iter()
        .any(|m| value::text(m, "mountPath").trim_end_matches('/') == MOUNT_PATH);
    if taken {
        return false;
    }
    let mount = json!({ "name": name, "readOnly": true, "mountPath": MOUNT_PATH });
    match container.get_mut("volumeMounts").and_then(Value::as_array_mut) {
        Some(mounts) => mounts.push(mount),
        None => value::set(container, "volumeMounts", json!([mount])),
    }
    true
}

fn push(pod: &mut Value, key: &str, item: Value) {
    match object::map_mut(pod, &["spec"])
        .entry(key)
        .or_insert_with(|| json!([]))
    {
        Value::Array(list) => list.push(item),
        other => *other = json!([item]),
    }
}

fn volume(name: &str) -> Value {
    json!({
        "name": name,
        "projected": {
            "defaultMode": 420,
            "sources": [
                { "serviceAccountToken": { "expirationSeconds": TOKEN_SECONDS, "path": "token" } },
                { "configMap": {
                    "name": "kube-root-ca.crt",
                    "items": [{ "key": "ca.crt", "path": "ca.crt" }],
                } },
                { "downwardAPI": { "items": [{
                    "path": "namespace",
                    "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.namespace" },
                }] } },
            ],
        },
    })
}

fn pull_secrets(pod: &mut Value, account: &Value) {
    let given = value::list(account, "imagePullSecrets");
    if value::list(pod, "spec.imagePullSecrets").is_empty() && !given.is_empty() {
        object::set(pod, &["spec", "imagePullSecrets"], given.to_vec());
    }
}

#[cfg(test)]
mod tests {
    use api::request::User;

    use super::super::testing::{Fixed, creation};
    use super::*;

    fn world() -> Fixed {
        let account = json!({"metadata": {"name": "default", "namespace": "shop"},
                             "imagePullSecrets": [{"name": "registry"}]});
        Fixed::new(vec![("", "serviceaccounts", account)])
    }

    #[test]
    fn a_pod_gets_the_default_account_and_its_token() {
        let user = User::default();
        let mut pod = json!({"metadata": {"name": "a"}, "spec": {"containers": [
            {"name": "c"}, {"name": "d", "volumeMounts": [{"name": "own", "mountPath": MOUNT_PATH}]}]}});
        ServiceAccount
            .admit(&mut creation("", "pods", &user, &mut pod), &world())
            .unwrap();
        assert_eq!(pod["spec"]["serviceAccountName"], "default");
        assert_eq!(pod["spec"]["serviceAccount"], "default");
        assert_eq!(pod["spec"]["imagePullSecrets"][0]["name"], "registry");
        let name = pod["spec"]["volumes"][0]["name"].as_str().unwrap();
        assert!(name.starts_with("kube-api-access-") && name.len() == 21, "{name}");
        assert_eq!(pod["spec"]["containers"][0]["volumeMounts"][0]["name"], name);
        assert_eq!(
            pod["spec"]["containers"][1]["volumeMounts"]
                .as_array()
                .unwrap()
                .len(),
            1
        );
        let sources = &pod["spec"]["volumes"][0]["projected"]["sources"];
        assert_eq!(
            sources[0]["serviceAccountToken"],
            json!({"expirationSeconds": 3607, "path": "token"})
        );
    }

    #[test]
    fn a_pod_that_wants_no_token_gets_none_and_an_unknown_account_is_refused() {
        let user = User::default();
        let mut pod = json!({"metadata": {"name": "a"},
                             "spec": {"automountServiceAccountToken": false, "containers": [{"name": "c"}]}});
        ServiceAccount
            .admit(&mut creation("", "pods", &user, &mut pod), &world())
            .unwrap();
        assert_eq!(pod["spec"].get("volumes"), None);
        let mut pod = json!({"metadata": {"name": "a"}, "spec": {"serviceAccountName": "robot"}});
        let status = ServiceAccount
            .admit(&mut creation("", "pods", &user, &mut pod), &world())
            .unwrap_err();
        assert_eq!(
            status.message,
            "pods \"a\" is forbidden: error looking up service account shop/robot: serviceaccount \"robot\" not found"
        );
    }
}
