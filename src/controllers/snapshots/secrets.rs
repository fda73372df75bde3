//! Which Secret a driver is called with for a snapshot: its class says so, in terms of the snapshot.

use std::collections::{BTreeMap, BTreeSet};

use api::names;
use api::snapshots::VolumeSnapshot;
use k8s_openapi::api::core::v1::SecretReference;

const NAME: &str = "csi.storage.k8s.io/snapshotter-secret-name";
const NAMESPACE: &str = "csi.storage.k8s.io/snapshotter-secret-namespace";

/// The Secret that a class's parameters mean, if they mean one. Whether there is one is seen by who reads it.
///
/// # Errors
/// What is wrong with the parameters.
pub(super) fn find(
    parameters: &BTreeMap<String, String>,
    content: &str,
    snapshot: &VolumeSnapshot,
) -> Result<Option<SecretReference>, String> {
    let Some((name, namespace)) = templates(parameters)? else {
        return Ok(None);
    };
    let part = |text: &Option<String>| text.clone().unwrap_or_default();
    let (snapshot_name, snapshot_namespace) =
        (part(&snapshot.metadata.name), part(&snapshot.metadata.namespace));
    let mut known = BTreeMap::from([
        ("volumesnapshotcontent.name", content),
        ("volumesnapshot.namespace", snapshot_namespace.as_str()),
    ]);
    // The namespace is said without the snapshot's name, which users choose.
    let namespace = resolve(namespace, &known, names::is_dns_label, "namespace")?;
    known.insert("volumesnapshot.name", &snapshot_name);
    let name = resolve(name, &known, names::is_dns_subdomain, "secret")?;
    Ok(Some(SecretReference {
        name: Some(name),
        namespace: Some(namespace),
    }))
}

fn templates(parameters: &BTreeMap<String, String>) -> Result<Option<(&str, &str)>, String> {
    let wrong = |why: &str| format!("failed to get name and namespace template from params: {why}");
    match (parameters.get(NAME), parameters.get(NAMESPACE)) {
        (None, None) => Ok(None),
        (Some(name), Some(namespace)) if name.is_empty() || namespace.is_empty() => Err(wrong(
            "Snapshotter secrets specified in parameters but value of either namespace or name is empty",
        )),
        (Some(name), Some(namespace)) => Ok(Some((name, namespace))),
        _ => Err(wrong(
            "either name and namespace for Snapshotter secrets specified, Both must be specified",
        )),
    }
}

fn resolve(
    template: &str,
    known: &BTreeMap<&str, &str>,
    check: fn(&str) -> Vec<String>,
    what: &str,
) -> Result<String, String> {
    let resolved =
        expand(template, known).map_err(|why| format!("error resolving value {template:?}: {why}"))?;
    match check(&resolved).is_empty() {
        true => Ok(resolved),
        false if template == resolved => Err(format!("{resolved:?} is not a valid {what} name")),
        false => Err(format!(
            "{template:?} resolved to {resolved:?} which is not a valid {what} name"
        )),
    }
}

/// Puts values in place of `${name}` and `$name`.
fn expand(template: &str, known: &BTreeMap<&str, &str>) -> Result<String, String> {
    let (mut out, mut strange) = (String::new(), BTreeSet::new());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let (token, next) = token(after);
        match known.get(token) {
            Some(value) => out.push_str(value),
            None => {
                strange.insert(token);
            }
        }
        rest = next;
    }
    out.push_str(rest);
    if strange.is_empty() {
        return Ok(out);
    }
    let list: Vec<String> = strange.iter().map(|token| format!("{token:?}")).collect();
    Err(format!("invalid tokens: [{}]", list.join(" ")))
}

/// The name after a `$`, and what comes after it.
fn token(text: &str) -> (&str, &str) {
    if let Some(found) = text.strip_prefix('{').and_then(|text| text.split_once('}')) {
        return found;
    }
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    text.split_at(end.unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(parameters: &[(&str, &str)]) -> Result<Option<(String, String)>, String> {
        let parameters = parameters
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let snapshot = json!({"metadata": {"name": "nightly", "namespace": "shop"}});
        let snapshot = serde_json::from_value(snapshot).unwrap();
        let secret = find(&parameters, "snapcontent-1", &snapshot)?;
        Ok(secret.map(|secret| (secret.name.unwrap(), secret.namespace.unwrap())))
    }

    #[test]
    fn a_class_says_which_secret_is_meant() {
        let pair = |name: &str, namespace: &str| Ok(Some((name.to_owned(), namespace.to_owned())));
        assert_eq!(found(&[("colour", "blue")]), Ok(None));
        assert_eq!(
            found(&[(NAME, "key"), (NAMESPACE, "vault")]),
            pair("key", "vault")
        );
        assert_eq!(
            found(&[
                (NAME, "${volumesnapshot.name}-of-${volumesnapshotcontent.name}"),
                (NAMESPACE, "${volumesnapshot.namespace}")
            ]),
            pair("nightly-of-snapcontent-1", "shop")
        );
    }

    #[test]
    fn what_cannot_be_a_secret_is_named() {
        for (name, namespace, why) in [
            ("a", "", "value of either namespace or name is empty"),
            (
                "${pvc.name}",
                "x",
                r#"error resolving value "${pvc.name}": invalid tokens: ["pvc.name"]"#,
            ),
            (
                "a",
                "${volumesnapshot.name}",
                r#"invalid tokens: ["volumesnapshot.name"]"#,
            ),
            ("a", "a.b", r#""a.b" is not a valid namespace name"#),
            (
                "_${volumesnapshot.name}",
                "x",
                r#""_${volumesnapshot.name}" resolved to "_nightly" which is not a valid secret name"#,
            ),
            ("a$", "x", r#"invalid tokens: [""]"#),
        ] {
            let error = found(&[(NAME, name), (NAMESPACE, namespace)]).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        let half = found(&[(NAME, "a")]).unwrap_err();
        assert!(half.ends_with("Both must be specified"), "{half}");
    }
}
