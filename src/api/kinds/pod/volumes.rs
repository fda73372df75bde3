//! Rules for a pod's volumes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::paths::descending_path;
use super::{environment, sources};
use crate::kinds::persistent_volume_claim;
use crate::names;
use crate::quantity::Quantity;
use crate::selector;
use crate::status::FieldError;
use crate::value::Field;

/// The volumes of a pod that are in order, by name.
pub type Volumes<'a> = BTreeMap<&'a str, &'a Value>;

/// Checks a pod's volumes and returns those that may be mounted.
pub fn check<'a>(spec: &Field<'a>, errors: &mut Vec<FieldError>) -> Volumes<'a> {
    let mut seen = Volumes::new();
    for volume in spec.items("volumes") {
        let name = volume.get("name");
        let mut wrong = source(&volume);
        if name.needed(&mut wrong) {
            wrong.extend(name.invalid_each(names::is_dns_label(name.text())));
        }
        if seen.contains_key(name.text()) {
            wrong.push(name.duplicate());
        }
        if wrong.is_empty() {
            seen.insert(name.text(), volume.value);
        }
        errors.extend(wrong);
    }
    seen
}

fn source(volume: &Field) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut sources = sources::of(volume, &["name"]).into_iter();
    let Some(key) = sources.next() else {
        return vec![volume.required("must specify a volume type")];
    };
    let at = volume.get(key);
    match key {
        "emptyDir" => empty_dir(&at, &mut errors),
        "configMap" | "secret" => map_source(&at, key, &mut errors),
        "downwardAPI" => downward(&at, &mut errors),
        "projected" => projected(&at, &mut errors),
        "csi" => sources::csi(&at, &mut errors),
        "image" => image(&at, &mut errors),
        "ephemeral" => ephemeral(&at, &mut errors),
        _ => sources::check(volume, key, &mut errors),
    }
    let more = sources.map(|key| {
        volume
            .get(key)
            .forbidden("may not specify more than 1 volume type")
    });
    errors.extend(more);
    errors
}

fn image(at: &Field, errors: &mut Vec<FieldError>) {
    at.get("reference").needed(errors);
    at.get("pullPolicy")
        .one_of_if_set(&["Always", "IfNotPresent", "Never"], errors);
}

/// A claim that the pod brings along follows the rules of claims, with no more metadata than labels and annotations.
fn ephemeral(at: &Field, errors: &mut Vec<FieldError>) {
    let template = at.get("volumeClaimTemplate");
    if !template.is_set() {
        errors.push(template.required(""));
        return;
    }
    let meta = template.get("metadata");
    crate::kinds::metadata::annotations(&meta.get("annotations"), errors);
    crate::kinds::metadata::labels(&meta.get("labels"), errors);
    for key in meta.value.as_object().into_iter().flatten().map(|(key, _)| key) {
        if !matches!(key.as_str(), "annotations" | "labels" | "creationTimestamp") {
            errors.push(meta.get(key).forbidden("cannot be set"));
        }
    }
    persistent_volume_claim::spec(&template.get("spec"), errors);
}

fn empty_dir(at: &Field, errors: &mut Vec<FieldError>) {
    let limit = at.get("sizeLimit");
    if limit.is_set() && Quantity::from_json(limit.value).map_or(true, |q| q.is_negative()) {
        errors.push(limit.forbidden("SizeLimit field must be a valid resource quantity"));
    }
}

fn map_source(at: &Field, kind: &str, errors: &mut Vec<FieldError>) {
    let name = if kind == "secret" { "secretName" } else { "name" };
    at.get(name).needed(errors);
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
    item.get("key").needed(errors);
    let path = item.get("path");
    path.needed(errors);
    local_path(&path, errors);
    mode(&item.get("mode"), errors);
}

fn downward(at: &Field, errors: &mut Vec<FieldError>) {
    mode(&at.get("defaultMode"), errors);
    for item in at.items("items") {
        // Kubernetes' paths lack the item's number here.
        downward_item(&Field::new(item.value, &at.path), errors);
    }
}

fn downward_item(item: &Field, errors: &mut Vec<FieldError>) {
    let path = item.get("path");
    path.needed(errors);
    local_path(&path, errors);
    let (field, resource) = (item.get("fieldRef"), item.get("resourceFieldRef"));
    if field.is_set() {
        environment::file_field_ref(&field, errors);
        if resource.is_set() {
            let why = "fieldRef and resourceFieldRef can not be specified simultaneously";
            errors.push(FieldError::invalid(&item.path, "resource", why));
        }
    } else if resource.is_set() {
        environment::resource_ref(&resource, true, errors);
    } else {
        errors.push(item.required("one of fieldRef and resourceFieldRef is required"));
    }
    mode(&item.get("mode"), errors);
}

fn projected(at: &Field, errors: &mut Vec<FieldError>) {
    const SOURCES: [&str; 6] = [
        "secret",
        "configMap",
        "downwardAPI",
        "serviceAccountToken",
        "clusterTrustBundle",
        "podCertificate",
    ];
    mode(&at.get("defaultMode"), errors);
    let mut seen = BTreeSet::new();
    for source in at.items("sources") {
        let parts = SOURCES.map(|key| (key, source.get(key)));
        let set = parts.iter().filter(|(_, part)| part.is_set());
        for (key, part) in set.clone() {
            match *key {
                "secret" | "configMap" => mapped(at, part, &mut seen, errors),
                "downwardAPI" => {
                    for item in part.items("items") {
                        downward_item(&Field::new(item.value, &part.path), errors);
                        apart(at, item.get("path").text(), None, &mut seen, errors);
                    }
                }
                "serviceAccountToken" => token(at, part, errors),
                "clusterTrustBundle" => bundle(at, part, &mut seen, errors),
                _ => {}
            }
        }
        if set.count() > 1 {
            errors.push(source.forbidden("may not specify more than 1 volume type per source"));
        }
    }
}

/// The keys of a Secret or ConfigMap that become files of a projected volume.
fn mapped<'a>(whole: &Field, part: &Field<'a>, seen: &mut BTreeSet<&'a str>, errors: &mut Vec<FieldError>) {
    let name = part.get("name");
    name.needed(errors);
    for item in part.items("items") {
        key_to_path(&item, errors);
        apart(whole, item.get("path").text(), Some(name.text()), seen, errors);
    }
}

/// No two sources of a volume may write one file.
fn apart<'a>(
    whole: &Field,
    path: &'a str,
    shown: Option<&str>,
    seen: &mut BTreeSet<&'a str>,
    errors: &mut Vec<FieldError>,
) {
    if !path.is_empty() && !seen.insert(path) {
        let shown = shown.unwrap_or(path);
        errors.push(FieldError::invalid(
            &whole.path,
            shown,
            "conflicting duplicate paths",
        ));
    }
}

fn token(whole: &Field, at: &Field, errors: &mut Vec<FieldError>) {
    let seconds = at.get("expirationSeconds");
    if let Some(n) = seconds.int() {
        if n < 600 {
            errors.push(seconds.invalid("may not specify a duration less than 10 minutes"));
        }
        if n > 1 << 32 {
            errors.push(seconds.invalid("may not specify a duration larger than 2^32 seconds"));
        }
    }
    // The path of Kubernetes' error is the volume's.
    let path = Field::new(at.get("path").value, whole.path_of("path"));
    if path.needed(errors) {
        local_path(&path, errors);
    }
}

fn bundle<'a>(whole: &Field, at: &Field<'a>, seen: &mut BTreeSet<&'a str>, errors: &mut Vec<FieldError>) {
    let (name, signer, labels) = (at.get("name"), at.get("signerName"), at.get("labelSelector"));
    match (name.is_set(), signer.is_set()) {
        (true, true) => errors.push(at.invalid("only one of name and signerName may be used")),
        (true, false) => {
            if name.is_blank() {
                errors.push(name.required("must be a valid object name"));
            }
            if labels.is_set() {
                errors.push(labels.invalid("labelSelector must be unset if name is specified"));
            }
        }
        (false, true) => {
            if signer.is_blank() {
                errors.push(signer.required("must be a valid signer name"));
            }
            selector::validate(&labels, errors);
        }
        (false, false) => errors.push(at.required("either name or signerName must be specified")),
    }
    let path = at.get("path");
    path.needed(errors);
    local_path(&path, errors);
    apart(whole, path.text(), None, seen, errors);
}

/// A path below a volume's root.
fn local_path(path: &Field, errors: &mut Vec<FieldError>) {
    descending_path(path, errors);
    if path.text().starts_with("..") && path.text() != ".." && !path.text().starts_with("../") {
        errors.push(path.invalid("must not start with '..'"));
    }
}
