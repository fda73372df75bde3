//! Rules for variables whose values are in files of the pod's own (`fileKeyRef`).

use super::paths::no_backsteps;
use super::volumes::Volumes;
use crate::names;
use crate::status::FieldError;
use crate::value::{Field, has};

/// Checks the files that a container's variables come from against the pod's volumes.
pub fn check(container: &Field, volumes: &Volumes, errors: &mut Vec<FieldError>) {
    for env in container.items("env") {
        let file = env.get("valueFrom.fileKeyRef");
        if file.is_set() {
            one(&file, volumes, errors);
        }
    }
}

fn one(file: &Field, volumes: &Volumes, errors: &mut Vec<FieldError>) {
    let [volume, path, key] = ["volumeName", "path", "key"].map(|name| file.get(name));
    if key.needed(errors) {
        errors.extend(key.invalid_each(names::is_env_name(key.text())));
    }
    if path.needed(errors) {
        no_backsteps(&path, errors);
    }
    if !volume.needed(errors) {
        return;
    }
    match volumes.get(volume.text()) {
        None => errors.push(volume.not_found()),
        Some(found) if !has(found, "emptyDir") => {
            errors.push(volume.invalid("referenced volume must be of type emptyDir"));
        }
        Some(_) => {}
    }
}
