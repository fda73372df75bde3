//! Rules for the volumes that a container mounts, as files or as devices.

use std::collections::BTreeSet;

use super::paths::{descending_path, no_backsteps};
use super::volumes::Volumes;
use crate::status::FieldError;
use crate::value::{Field, has, text};

/// Checks a container's mounts against the pod's volumes.
pub fn check(container: &Field, volumes: &Volumes, errors: &mut Vec<FieldError>) {
    let (mounts, devices) = (container.items("volumeMounts"), container.items("volumeDevices"));
    let mut seen = BTreeSet::new();
    for mount in &mounts {
        let (name, path) = (mount.get("name"), mount.get("mountPath"));
        name.needed(errors);
        if !volumes.contains_key(name.text()) {
            errors.push(FieldError::not_found(&name.path, name.text()));
        }
        path.needed(errors);
        if !seen.insert(path.text()) {
            errors.push(path.invalid("must be unique"));
        }
        if devices.iter().any(|d| d.get("name").text() == name.text()) {
            errors.push(name.invalid("must not already exist in volumeDevices"));
        }
        if devices.iter().any(|d| d.get("devicePath").text() == path.text()) {
            errors.push(path.invalid("must not already exist as a path in volumeDevices"));
        }
        // Kubernetes' paths for what follows lack the mount's number.
        let list = Field::new(mount.value, container.path_of("volumeMounts"));
        paths(mount, &list, errors);
        let privileged = container.get("securityContext.privileged").flag();
        propagation(&list, privileged, errors);
        recursive(&list, errors);
    }
    self::devices(&devices, &mounts, volumes, errors);
}

fn paths(mount: &Field, list: &Field, errors: &mut Vec<FieldError>) {
    let (path, expression) = ("subPath", "subPathExpr");
    descending_path(&list.get(path), errors);
    if !mount.get(expression).is_blank() && !mount.get(path).is_blank() {
        let why = "subPathExpr and subPath are mutually exclusive";
        errors.push(mount.get(expression).invalid(why));
    }
    descending_path(&list.get(expression), errors);
}

fn propagation(mount: &Field, privileged: bool, errors: &mut Vec<FieldError>) {
    let propagation = mount.get("mountPropagation");
    propagation.one_of_if_set(&["Bidirectional", "HostToContainer", "None"], errors);
    if propagation.text() == "Bidirectional" && !privileged {
        let why = "Bidirectional mount propagation is available only to privileged containers";
        errors.push(propagation.forbidden(why));
    }
}

fn recursive(mount: &Field, errors: &mut Vec<FieldError>) {
    let recursive = mount.get("recursiveReadOnly");
    recursive.one_of_if_set(&["Disabled", "Enabled", "IfPossible"], errors);
    if !matches!(recursive.text(), "Enabled" | "IfPossible") {
        return;
    }
    if !mount.get("readOnly").flag() {
        errors.push(recursive.forbidden("may only be specified when readOnly is true"));
    }
    if !matches!(text(mount.value, "mountPropagation"), "" | "None") {
        let why = "may only be specified when mountPropagation is None or not specified";
        errors.push(recursive.forbidden(why));
    }
}

fn devices(devices: &[Field], mounts: &[Field], volumes: &Volumes, errors: &mut Vec<FieldError>) {
    let (mut seen_names, mut seen_paths) = (BTreeSet::new(), BTreeSet::new());
    for device in devices {
        let (name, path) = (device.get("name"), device.get("devicePath"));
        name.needed(errors);
        if seen_names.contains(name.text()) {
            errors.push(name.invalid("must be unique"));
        }
        match volumes.get(name.text()) {
            None => errors.push(FieldError::not_found(&name.path, name.text())),
            Some(volume) if !has(volume, "persistentVolumeClaim") && !has(volume, "ephemeral") => {
                let why =
                    "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.push(name.invalid(why));
            }
            Some(_) => {}
        }
        path.needed(errors);
        if seen_paths.contains(path.text()) {
            errors.push(path.invalid("must be unique"));
        }
        let mut up = Vec::new();
        no_backsteps(&path, &mut up);
        if up.is_empty() {
            seen_paths.insert(path.text());
        } else {
            errors.push(path.invalid("can not contain backsteps ('..')"));
        }
        if mounts.iter().any(|m| m.get("name").text() == name.text()) {
            errors.push(name.invalid("must not already exist in volumeMounts"));
        }
        if mounts.iter().any(|m| m.get("mountPath").text() == path.text()) {
            errors.push(path.invalid("must not already exist as a path in volumeMounts"));
        }
        seen_names.insert(name.text());
    }
}
