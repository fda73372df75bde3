//! Rules for environment variables.

use crate::names;
use crate::status::FieldError;
use crate::value::Field;

/// Fields of the pod that may become the value of a variable.
const ENV_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// Fields of the pod that may become a file.
const FILE_FIELDS: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];

/// Rules for `env` and `envFrom` of a container.
pub fn check(container: &Field, errors: &mut Vec<FieldError>) {
    for env in container.items("env") {
        let name = env.get("name");
        if name.is_blank() {
            errors.push(name.required(""));
        } else {
            errors.extend(name.invalid_each(names::is_env_name(name.text())));
        }
        value_from(&env, errors);
    }
    for source in container.items("envFrom") {
        env_from(&source, errors);
    }
}

fn value_from(env: &Field, errors: &mut Vec<FieldError>) {
    let from = env.get("valueFrom");
    if !from.is_set() {
        return;
    }
    let sources: Vec<&str> = [
        "fieldRef",
        "resourceFieldRef",
        "configMapKeyRef",
        "secretKeyRef",
        "fileKeyRef",
    ]
    .into_iter()
    .filter(|key| from.get(key).is_set())
    .collect();
    for source in &sources {
        let at = from.get(source);
        match *source {
            "fieldRef" => field_ref(&at, ENV_FIELDS, errors),
            "resourceFieldRef" => resource_ref(&at, false, errors),
            "fileKeyRef" => {}
            _ => key_ref(&at, errors),
        }
    }
    if sources.is_empty() {
        errors.push(FieldError::invalid(
            &from.path,
            "",
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        ));
    } else if !env.get("value").is_blank() {
        errors.push(FieldError::invalid(
            &from.path,
            "",
            "may not be specified when `value` is not empty",
        ));
    } else if sources.len() > 1 {
        errors.push(FieldError::invalid(
            &from.path,
            "",
            "may not have more than one field specified at a time",
        ));
    }
}

fn key_ref(at: &Field, errors: &mut Vec<FieldError>) {
    let (name, key) = (at.get("name"), at.get("key"));
    if name.is_blank() {
        errors.push(name.required(""));
    }
    if key.is_blank() {
        errors.push(key.required(""));
    } else {
        errors.extend(key.invalid_each(names::is_config_key(key.text())));
    }
}

fn env_from(source: &Field, errors: &mut Vec<FieldError>) {
    let prefix = source.get("prefix");
    if !prefix.is_blank() {
        errors.extend(prefix.invalid_each(names::is_env_name(prefix.text())));
    }
    let sources: Vec<Field> = ["configMapRef", "secretRef"]
        .into_iter()
        .map(|k| source.get(k))
        .filter(Field::is_set)
        .collect();
    for reference in &sources {
        if reference.get("name").is_blank() {
            errors.push(reference.get("name").required(""));
        }
    }
    match sources.len() {
        0 => errors.push(FieldError::invalid(
            &source.path,
            "",
            "must specify one of: `configMapRef` or `secretRef`",
        )),
        1 => {}
        _ => errors.push(FieldError::invalid(
            &source.path,
            "",
            "may not have more than one field specified at a time",
        )),
    }
}

/// Rules for a field of the pod in a downward API file.
pub fn file_field_ref(at: &Field, errors: &mut Vec<FieldError>) {
    field_ref(at, FILE_FIELDS, errors);
}

fn field_ref(at: &Field, known: &[&str], errors: &mut Vec<FieldError>) {
    let (version, path) = (at.get("apiVersion"), at.get("fieldPath"));
    if version.is_blank() {
        errors.push(version.required(""));
        return;
    }
    if path.is_blank() {
        errors.push(path.required(""));
        return;
    }
    if version.text() != "v1" {
        errors.push(version.invalid(format!("unsupported pod version: {}", version.text())));
        return;
    }
    if let Some((map, key)) = subscript(path.text()) {
        match map {
            "metadata.annotations" => {
                errors.extend(path.invalid_each(names::is_qualified_name(&key.to_lowercase())))
            }
            "metadata.labels" => errors.extend(path.invalid_each(names::is_qualified_name(key))),
            _ => errors.push(path.invalid("does not support subscript")),
        }
    } else if !known.contains(&path.text()) {
        errors.push(path.not_supported(known));
    }
}

/// `metadata.labels` and `app` of `metadata.labels['app']`.
fn subscript(path: &str) -> Option<(&str, &str)> {
    path.strip_suffix("']")?.split_once("['")
}

/// Rules for a resource of a container; in a file, the container must be named.
pub fn resource_ref(at: &Field, in_file: bool, errors: &mut Vec<FieldError>) {
    const KNOWN: &[&str] = &[
        "limits.cpu",
        "limits.ephemeral-storage",
        "limits.memory",
        "requests.cpu",
        "requests.ephemeral-storage",
        "requests.memory",
    ];
    if in_file && at.get("containerName").is_blank() {
        errors.push(at.get("containerName").required(""));
    }
    let resource = at.get("resource");
    if resource.is_blank() {
        errors.push(resource.required(""));
    } else if !KNOWN.contains(&resource.text())
        && !["limits.hugepages-", "requests.hugepages-"]
            .iter()
            .any(|p| resource.text().starts_with(p))
    {
        errors.push(resource.not_supported(KNOWN));
    }
}
