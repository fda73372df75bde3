//! Rules for environment variables.

use crate::names;
use crate::quantity::Quantity;
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
        env_from(container, &source, errors);
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
            // Its volume has a say in it, see `env_files`.
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
    errors.extend(name.invalid_each(names::is_dns_subdomain(name.text())));
    if key.needed(errors) {
        errors.extend(key.invalid_each(names::is_config_key(key.text())));
    }
}

fn env_from(container: &Field, source: &Field, errors: &mut Vec<FieldError>) {
    let prefix = source.get("prefix");
    if !prefix.is_blank() {
        errors.extend(prefix.invalid_each(names::is_env_name(prefix.text())));
    }
    let references = ["configMapRef", "secretRef"].map(|key| source.get(key));
    let set: Vec<&Field> = references.iter().filter(|reference| reference.is_set()).collect();
    for reference in &set {
        let name = reference.get("name");
        if name.needed(errors) {
            errors.extend(name.invalid_each(names::subdomain(name.text(), true)));
        }
    }
    let why = match set.len() {
        0 => "must specify one of: `configMapRef` or `secretRef`",
        1 => return,
        _ => "may not have more than one field specified at a time",
    };
    // Kubernetes' path is that of the list.
    errors.push(FieldError::invalid(container.path_of("envFrom"), "", why));
}

/// Rules for a field of the pod in a downward API file.
pub fn file_field_ref(at: &Field, errors: &mut Vec<FieldError>) {
    field_ref(at, FILE_FIELDS, errors);
}

fn field_ref(at: &Field, known: &[&str], errors: &mut Vec<FieldError>) {
    let (version, path) = (at.get("apiVersion"), at.get("fieldPath"));
    if !version.needed(errors) || !path.needed(errors) {
        return;
    }
    if let Err(why) = convert(version.text(), path.text()) {
        errors.push(path.invalid(format!("error converting fieldPath: {why}")));
        return;
    }
    match subscript(path.text()) {
        // The path of these errors is that of the reference.
        Some(("metadata.annotations", key)) => {
            let key = key.to_lowercase();
            let wrong = names::is_qualified_name(&key);
            errors.extend(
                wrong
                    .into_iter()
                    .map(|why| FieldError::invalid(&at.path, key.as_str(), why)),
            );
        }
        Some((_, key)) => {
            let wrong = names::is_qualified_name(key);
            errors.extend(
                wrong
                    .into_iter()
                    .map(|why| FieldError::invalid(&at.path, key, why)),
            );
        }
        None if !known.contains(&path.text()) => errors.push(path.not_supported(known)),
        None => {}
    }
}

/// Whether there is such a field at all, wherever it may be used.
fn convert(version: &str, path: &str) -> Result<(), String> {
    const OTHERS: [&str; 3] = ["spec.restartPolicy", "spec.schedulerName", "status.phase"];
    if version != "v1" {
        return Err(format!("unsupported pod version: {version}"));
    }
    match subscript(path) {
        Some(("metadata.annotations" | "metadata.labels", _)) => Ok(()),
        Some(_) => Err(format!("field label does not support subscript: {path}")),
        None if [ENV_FIELDS, FILE_FIELDS, &OTHERS[..]]
            .iter()
            .any(|all| all.contains(&path)) =>
        {
            Ok(())
        }
        None => Err(format!("field label not supported: {path}")),
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
    let resource = at.get("resource");
    let huge = |name: &str| {
        ["limits.hugepages-", "requests.hugepages-"]
            .iter()
            .any(|p| name.starts_with(p))
    };
    if in_file && at.get("containerName").is_blank() {
        errors.push(at.get("containerName").required(""));
    } else if resource.needed(errors) && !KNOWN.contains(&resource.text()) && !huge(resource.text()) {
        errors.push(resource.not_supported(KNOWN));
    }
    divisor(at, resource.text(), errors);
}

/// In what units a variable may tell an amount.
fn divisor(at: &Field, resource: &str, errors: &mut Vec<FieldError>) {
    const CPU: &[&str] = &["1m", "1"];
    const BYTES: &[&str] = &[
        "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei",
    ];
    let given = Quantity::from_json(at.get("divisor").value).unwrap_or_default();
    let (_, measured) = resource.split_once('.').unwrap_or_default();
    let (named, known) = match measured {
        _ if given.is_zero() => return,
        "cpu" => ("cpu", CPU),
        "memory" => ("memory", BYTES),
        "ephemeral-storage" => ("local ephemeral storage", BYTES),
        name if name.starts_with("hugepages-") => ("hugepages", BYTES),
        _ => return,
    };
    if !known.contains(&given.to_string().as_str()) {
        let list = if named == "cpu" {
            "1m and 1".to_owned()
        } else {
            known.join(", ")
        };
        let why = format!("only divisor's values {list} are supported with the {named} resource");
        errors.push(FieldError::invalid(at.path_of("divisor"), resource, why));
    }
}
