//! Rules for volumes and for mounting them.

use std::collections::BTreeSet;

use super::environment;
use crate::names;
use crate::quantity::Quantity;
use crate::status::FieldError;
use crate::value::Field;

/// Checks a pod's volumes and returns their names.
pub fn check(spec: &Field, errors: &mut Vec<FieldError>) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    for volume in spec.items("volumes") {
        let name = volume.get("name");
        let mut wrong = source(&volume);
        if name.is_blank() {
            wrong.push(name.required(""));
        } else {
            wrong.extend(name.invalid_each(names::is_dns_label(name.text())));
        }
        if seen.contains(name.text()) {
            wrong.push(name.duplicate());
        }
        if wrong.is_empty() {
            seen.insert(name.text().to_owned());
        }
        errors.extend(wrong);
    }
    seen
}

fn source(volume: &Field) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let sources = volume
        .value
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(k, v)| *k != "name" && !v.is_null());
    let mut count = 0;
    for (key, _) in sources {
        let at = volume.get(key);
        count += 1;
        if count > 1 {
            errors.push(at.forbidden("may not specify more than 1 volume type"));
            continue;
        }
        match key.as_str() {
            "hostPath" => host_path(&at, &mut errors),
            "emptyDir" => empty_dir(&at, &mut errors),
            "configMap" | "secret" => map_source(&at, key, &mut errors),
            "downwardAPI" => downward(&at, &mut errors),
            "projected" => projected(&at, &mut errors),
            "persistentVolumeClaim" => required(&at, &["claimName"], &mut errors),
            "nfs" => nfs(&at, &mut errors),
            "csi" => required(&at, &["driver"], &mut errors),
            "image" => required(&at, &["reference"], &mut errors),
            "ephemeral" => required(&at, &["volumeClaimTemplate"], &mut errors),
            _ => {}
        }
    }
    if count == 0 {
        errors.push(volume.required("must specify a volume type"));
    }
    errors
}

fn required(at: &Field, keys: &[&str], errors: &mut Vec<FieldError>) {
    for key in keys {
        if at.get(key).is_blank() {
            errors.push(at.get(key).required(""));
        }
    }
}

fn host_path(at: &Field, errors: &mut Vec<FieldError>) {
    let path = at.get("path");
    if path.is_blank() {
        errors.push(path.required(""));
        return;
    }
    no_backsteps(&path, errors);
    at.get("type").one_of_if_set(
        &[
            "BlockDevice",
            "CharDevice",
            "Directory",
            "DirectoryOrCreate",
            "File",
            "FileOrCreate",
            "Socket",
        ],
        errors,
    );
}

fn empty_dir(at: &Field, errors: &mut Vec<FieldError>) {
    let limit = at.get("sizeLimit");
    if limit.is_set() && Quantity::from_json(limit.value).map_or(true, |q| q.is_negative()) {
        errors.push(FieldError::forbidden(
            &limit.path,
            "SizeLimit field must be a valid resource quantity",
        ));
    }
}

fn nfs(at: &Field, errors: &mut Vec<FieldError>) {
    required(at, &["server", "path"], errors);
    let path = at.get("path");
    if !path.is_blank() && !path.text().starts_with('/') {
        errors.push(path.invalid("must be an absolute path"));
    }
}

fn map_source(at: &Field, kind: &str, errors: &mut Vec<FieldError>) {
    required(
        at,
        &[if kind == "secret" { "secretName" } else { "name" }],
        errors,
    );
    mode(&at.get("defaultMode"), errors);
    for item in at.items("items") {
        key_to_path(&item, errors);
    }
}

fn mode(at: &Field, errors: &mut Vec<FieldError>) {
    if at.int().is_some_and(|m| !(0..=0o777).contains(&m)) {
        errors.push(at.invalid("must be a number between 0 and 0777 (octal), both inclusive"));
    }
}

fn key_to_path(item: &Field, errors: &mut Vec<FieldError>) {
    required(item, &["key"], errors);
    let path = item.get("path");
    if path.is_blank() {
        errors.push(path.required(""));
    } else {
        local_path(&path, errors);
    }
    mode(&item.get("mode"), errors);
}

fn downward(at: &Field, errors: &mut Vec<FieldError>) {
    mode(&at.get("defaultMode"), errors);
    for item in at.items("items") {
        downward_item(&item, errors);
    }
}

fn downward_item(item: &Field, errors: &mut Vec<FieldError>) {
    let path = item.get("path");
    if path.is_blank() {
        errors.push(path.required(""));
    } else {
        local_path(&path, errors);
    }
    let (field, resource) = (item.get("fieldRef"), item.get("resourceFieldRef"));
    match (field.is_set(), resource.is_set()) {
        (true, true) => errors.push(FieldError::invalid(
            &item.path,
            "resource",
            "fieldRef and resourceFieldRef can not be specified simultaneously",
        )),
        (true, false) => environment::file_field_ref(&field, errors),
        (false, true) => environment::resource_ref(&resource, true, errors),
        (false, false) => errors.push(item.required("one of fieldRef and resourceFieldRef is required")),
    }
    mode(&item.get("mode"), errors);
}

fn projected(at: &Field, errors: &mut Vec<FieldError>) {
    mode(&at.get("defaultMode"), errors);
    for source in at.items("sources") {
        let mut count = 0;
        for key in [
            "secret",
            "configMap",
            "downwardAPI",
            "serviceAccountToken",
            "clusterTrustBundle",
            "podCertificate",
        ] {
            let part = source.get(key);
            if !part.is_set() {
                continue;
            }
            count += 1;
            if count > 1 {
                errors.push(part.forbidden("may not specify more than 1 volume type"));
                continue;
            }
            match key {
                "secret" | "configMap" => map_source(&part, "configMap", errors),
                "downwardAPI" => downward(&part, errors),
                "serviceAccountToken" => token(&part, errors),
                _ => {}
            }
        }
        if count == 0 {
            errors.push(source.required("must specify a volume source"));
        }
    }
}

fn token(at: &Field, errors: &mut Vec<FieldError>) {
    let seconds = at.get("expirationSeconds");
    if let Some(n) = seconds.int() {
        if n < 600 {
            errors.push(seconds.invalid("may not specify a duration less than 10 minutes"));
        }
        if n > 1 << 32 {
            errors.push(seconds.invalid("may not specify a duration larger than 2^32 seconds"));
        }
    }
    let path = at.get("path");
    if path.is_blank() {
        errors.push(path.required(""));
    } else {
        local_path(&path, errors);
    }
}

fn no_backsteps(path: &Field, errors: &mut Vec<FieldError>) {
    if path.text().split('/').any(|part| part == "..") {
        errors.push(path.invalid("must not contain '..'"));
    }
}

/// A path below a volume's root.
fn local_path(path: &Field, errors: &mut Vec<FieldError>) {
    descending_path(path, errors);
    if path.text().starts_with("..") && path.text() != ".." && !path.text().starts_with("../") {
        errors.push(path.invalid("must not start with '..'"));
    }
}

fn descending_path(path: &Field, errors: &mut Vec<FieldError>) {
    if path.text().starts_with('/') {
        errors.push(path.invalid("must be a relative path"));
    }
    no_backsteps(path, errors);
}

/// Checks a container's mounts against the pod's volumes.
pub fn mounts(container: &Field, volumes: &BTreeSet<String>, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for mount in container.items("volumeMounts") {
        let (name, path) = (mount.get("name"), mount.get("mountPath"));
        if name.is_blank() {
            errors.push(name.required(""));
        }
        if !volumes.contains(name.text()) {
            errors.push(FieldError::not_found(&name.path, name.text()));
        }
        if path.is_blank() {
            errors.push(path.required(""));
        }
        if !seen.insert(path.text()) {
            errors.push(path.invalid("must be unique"));
        }
        let (sub_path, sub_path_expr) = (mount.get("subPath"), mount.get("subPathExpr"));
        for part in [&sub_path, &sub_path_expr] {
            if !part.is_blank() {
                descending_path(part, errors);
            }
        }
        if !sub_path.is_blank() && !sub_path_expr.is_blank() {
            errors.push(sub_path_expr.invalid("subPathExpr and subPath are mutually exclusive"));
        }
        mount_options(&mount, container.get("securityContext.privileged").flag(), errors);
    }
    for device in container.items("volumeDevices") {
        required(&device, &["name", "devicePath"], errors);
        if !volumes.contains(device.get("name").text()) {
            errors.push(device.get("name").not_found());
        }
        if !seen.insert(device.get("devicePath").text()) {
            errors.push(device.get("devicePath").invalid("must be unique"));
        }
    }
}

fn mount_options(mount: &Field, privileged: bool, errors: &mut Vec<FieldError>) {
    let propagation = mount.get("mountPropagation");
    if propagation.is_set() {
        let known = ["Bidirectional", "HostToContainer", "None"];
        if !known.contains(&propagation.text()) {
            errors.push(propagation.not_supported(&known));
        }
        if propagation.text() == "Bidirectional" && !privileged {
            errors.push(
                propagation
                    .forbidden("Bidirectional mount propagation is available only to privileged containers"),
            );
        }
    }
    let recursive = mount.get("recursiveReadOnly");
    if recursive.is_set() {
        match recursive.text() {
            "Disabled" => {}
            "Enabled" | "IfPossible" => {
                if !mount.get("readOnly").flag() {
                    errors.push(recursive.forbidden("may only be specified when readOnly is true"));
                }
            }
            _ => errors.push(recursive.not_supported(&["Disabled", "Enabled", "IfPossible"])),
        }
    }
}
