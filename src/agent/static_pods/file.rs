//! From a file to the pod that it asks for. Pure.

use std::collections::BTreeMap;
use std::path::Path;

use api::decode::{self, FieldValidation};
use api::kinds;
use api::references;
use api::schema::{Gvk, Schemas};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::{HASH, SEEN, SOURCE};

/// The pod of a file on a node.
///
/// # Errors
/// What is wrong with the file, for the log.
pub fn pod(text: &str, path: &Path, node: &str, now: Timestamp) -> Result<Pod, String> {
    let mut pod = read(text)?;
    let Some(name) = pod["metadata"]["name"].as_str().filter(|name| !name.is_empty()) else {
        return Err("it has no metadata.name".to_owned());
    };
    let name = format!("{name}-{}", node.to_lowercase());
    let own = pod["metadata"]["uid"].as_str().filter(|uid| !uid.is_empty());
    let uid = own.map_or_else(|| id(&[node, &path.to_string_lossy(), text]), str::to_owned);
    let namespace = pod["metadata"]["namespace"]
        .as_str()
        .filter(|name| !name.is_empty());
    let namespace = namespace.unwrap_or("default").to_owned();
    let notes: BTreeMap<&str, String> = [
        (SOURCE, "file".to_owned()),
        (HASH, uid.clone()),
        (SEEN, now.to_string()),
    ]
    .into();
    let marks = json!({
        "metadata": {"name": name, "namespace": namespace, "uid": uid, "annotations": notes},
        "spec": {"nodeName": node}, "status": null,
    });
    pod = api::patch::merge_patch(pod, marks);
    stay(&mut pod);
    let kind = kinds::find("", "v1", "pods").ok_or("no kind")?;
    (kind.default)(&mut pod);
    refuse_references(&pod)?;
    let errors: Vec<String> = kind.check_create(&pod).iter().map(ToString::to_string).collect();
    if !errors.is_empty() {
        return Err(errors.join("; "));
    }
    serde_json::from_value(pod).map_err(|error| error.to_string())
}

fn read(text: &str) -> Result<Value, String> {
    let schema = Schemas::builtin().for_kind("", "v1", "Pod").ok_or("no schema")?;
    let gvk = Gvk::new("", "v1", "Pod");
    let read = decode::decode(
        text.as_bytes(),
        "application/yaml",
        &schema,
        FieldValidation::Strict,
        &gvk,
    );
    read.map(|(pod, _)| pod).map_err(|status| status.message)
}

/// Taints that drive pods away do not concern what this machine wants for itself.
fn stay(pod: &mut Value) {
    let all = json!({"operator": "Exists", "effect": "NoExecute"});
    match pod["spec"]["tolerations"].as_array_mut() {
        Some(list) => list.push(all),
        None => pod["spec"]["tolerations"] = json!([all]),
    }
}

/// A pod that must run without a server can have nothing that only a server knows.
fn refuse_references(pod: &Value) -> Result<(), String> {
    let named = |resource| !references::of(pod, resource).is_empty();
    let account = pod["spec"]["serviceAccountName"].as_str().unwrap_or_default();
    let what = match () {
        () if !account.is_empty() => "serviceaccounts",
        () if named("secrets") => "secrets",
        () if named("configmaps") => "configmaps",
        () if named("persistentvolumeclaims") => "persistentvolumeclaims",
        () => return Ok(()),
    };
    Err(format!("static pods may not reference {what}"))
}

/// 32 hexadecimal digits that stand for the parts (FNV-1a, 128 bits: this tells versions apart and guards
/// nothing).
fn id(parts: &[&str]) -> String {
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let mut hash = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128;
    for part in parts {
        for byte in part.bytes().chain([0]) {
            hash = (hash ^ u128::from(byte)).wrapping_mul(PRIME);
        }
    }
    format!("{hash:032x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: a, image: 'app:1'}]}\n";

    fn made(text: &str) -> Result<Pod, String> {
        pod(
            text,
            Path::new("/etc/pods/web.yaml"),
            "node-1",
            Timestamp::UNIX_EPOCH,
        )
    }

    #[test]
    fn a_pod_belongs_to_its_node() {
        let pod = made(TEXT).unwrap();
        let meta = &pod.metadata;
        assert_eq!(meta.name.as_deref(), Some("web-node-1"));
        assert_eq!(meta.namespace.as_deref(), Some("default"));
        assert_eq!(meta.uid.as_ref().map(String::len), Some(32));
        assert!(super::super::is_static(&pod) && !super::super::is_mirror(&pod));
        let spec = pod.spec.as_ref().unwrap();
        assert_eq!(spec.node_name.as_deref(), Some("node-1"));
        assert_eq!(
            spec.tolerations.as_ref().unwrap()[0].effect.as_deref(),
            Some("NoExecute")
        );
        assert_eq!(
            spec.restart_policy.as_deref(),
            Some("Always"),
            "defaults are filled in"
        );
        // The same file is the same pod, another one another.
        assert_eq!(made(TEXT).unwrap().metadata.uid, meta.uid);
        let json = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web"},"spec":{"containers":[{"name":"a","image":"app:2"}]}}"#;
        assert_ne!(made(json).unwrap().metadata.uid, meta.uid);
    }

    #[test]
    fn what_cannot_run_alone_is_refused() {
        let secret = TEXT.replace(
            "image: 'app:1'",
            "image: 'app:1', envFrom: [{secretRef: {name: s}}]",
        );
        assert_eq!(
            made(&secret).unwrap_err(),
            "static pods may not reference secrets"
        );
        let account = TEXT.replace("spec: {", "spec: {serviceAccountName: bot, ");
        assert_eq!(
            made(&account).unwrap_err(),
            "static pods may not reference serviceaccounts"
        );
        assert!(
            made(&TEXT.replace("containers", "container"))
                .unwrap_err()
                .contains("unknown field")
        );
        assert!(
            made(&TEXT.replace("{name: web}", "{}"))
                .unwrap_err()
                .contains("no metadata.name")
        );
        assert!(made("kind: ConfigMap\napiVersion: v1").is_err());
    }
}
