//! Accounts that are marked so let their pods use only the secrets that the account itself names. Pure.

use api::object;
use api::value;
use serde_json::Value;

const MARK: &str = "kubernetes.io/enforce-mountable-secrets";

/// Containers by list, and how each is called; the added ones last.
const LISTS: [(&str, &str); 3] = [
    ("initContainers", "init container"),
    ("containers", "container"),
    ("ephemeralContainers", "ephemeral container"),
];

/// Refuses what the account does not name; of a pod that gets ephemeral containers, only these are looked at.
pub fn judge(pod: &Value, account: &Value, only_ephemeral: bool) -> Result<(), String> {
    if object::annotation(account, MARK) != Some("true") {
        return Ok(());
    }
    let allowed: Vec<&str> = names(account, "secrets");
    let refused = |what: String, kind: &str| {
        let account = object::name(account);
        Err(format!(
            "{what} is not allowed because service account {account} does not reference that {kind}"
        ))
    };
    if !only_ephemeral {
        for volume in value::list(pod, "spec.volumes") {
            let secret = value::text(volume, "secret.secretName");
            if !secret.is_empty() && !allowed.contains(&secret) {
                return refused(format!("volume with secret.secretName={secret:?}"), "secret");
            }
        }
    }
    let skipped = if only_ephemeral { 2 } else { 0 };
    for (list, noun) in LISTS.into_iter().skip(skipped) {
        for container in value::list(pod, &format!("spec.{list}")) {
            if let Some(what) = variable(container, noun, &allowed) {
                return refused(what, "secret");
            }
        }
    }
    if only_ephemeral {
        return Ok(());
    }
    let pulls = names(account, "imagePullSecrets");
    let given = names(pod, "spec.imagePullSecrets");
    match given.iter().enumerate().find(|(_, name)| !pulls.contains(name)) {
        Some((i, name)) => refused(format!("imagePullSecrets[{i}].name={name:?}"), "imagePullSecret"),
        None => Ok(()),
    }
}

fn names<'a>(object: &'a Value, path: &str) -> Vec<&'a str> {
    let all = value::list(object, path).iter();
    all.map(|item| value::text(item, "name")).collect()
}

/// A variable of the container whose secret is not allowed.
fn variable(container: &Value, noun: &str, allowed: &[&str]) -> Option<String> {
    let name = value::text(container, "name");
    let unknown = |secret: &str| !secret.is_empty() && !allowed.contains(&secret);
    let one = value::list(container, "env").iter().find_map(|env| {
        let secret = value::text(env, "valueFrom.secretKeyRef.name");
        let variable = value::text(env, "name");
        unknown(secret)
            .then(|| format!("{noun} {name} with envVar {variable} referencing secret.secretName={secret:?}"))
    });
    let all = || {
        value::list(container, "envFrom").iter().find_map(|from| {
            let secret = value::text(from, "secretRef.name");
            unknown(secret)
                .then(|| format!("{noun} {name} with envFrom referencing secret.secretName={secret:?}"))
        })
    };
    one.or_else(all)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_marked_account_names_what_its_pods_use() {
        let account = json!({"metadata": {"name": "bot", "annotations": {MARK: "true"}}, "secrets": [{"name": "mine"}]});
        let pod = |spec: Value| json!({"spec": spec});
        judge(
            &pod(json!({"volumes": [{"secret": {"secretName": "mine"}}]})),
            &account,
            false,
        )
        .unwrap();
        let volume = pod(json!({"volumes": [{"secret": {"secretName": "other"}}]}));
        assert_eq!(
            judge(&volume, &account, false).unwrap_err(),
            "volume with secret.secretName=\"other\" is not allowed because service account bot does not reference \
             that secret"
        );
        judge(&volume, &json!({"metadata": {"name": "bot"}}), false).unwrap();
        let env = json!([{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "other"}}}]);
        let debugged = pod(json!({"ephemeralContainers": [{"name": "d", "env": env}]}));
        assert!(
            judge(&debugged, &account, true)
                .unwrap_err()
                .starts_with("ephemeral container d with envVar KEY referencing secret.secretName=\"other\"")
        );
        let pulls = pod(json!({"imagePullSecrets": [{"name": "x"}]}));
        assert!(
            judge(&pulls, &account, false)
                .unwrap_err()
                .starts_with("imagePullSecrets[0].name=\"x\"")
        );
    }
}
