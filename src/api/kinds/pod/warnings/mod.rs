//! What clients are told about pods and their templates that are in order, but hold what nobody looks at any more,
//! or what is probably a mistake (k/k `pkg/api/pod`).

mod annotations;
mod containers;
mod volumes;

use std::collections::BTreeSet;

use serde_json::Value;

use crate::kinds::warnings;
use crate::value::{Field, has};
use annotations::{SECCOMP_INSTEAD, annotation};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// Annotations that nobody looks at, and what to use instead.
const ANNOTATIONS: [(&str, &str); 3] = [
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        r#"non-functional in v1.16+; use the "priorityClassName" field instead"#,
    ),
    (
        "security.alpha.kubernetes.io/sysctls",
        r#"non-functional in v1.11+; use the "sysctls" field instead"#,
    ),
    (
        "security.alpha.kubernetes.io/unsafe-sysctls",
        r#"non-functional in v1.11+; use the "sysctls" field instead"#,
    ),
];
const SECCOMP: &str = "seccomp.security.alpha.kubernetes.io/pod";

/// Warnings about a new pod; changed ones are written by programs, which do not read them.
pub fn pod(new: &Value, old: Option<&Value>) -> Vec<String> {
    if old.is_some() {
        return Vec::new();
    }
    let mut said = warnings::name(new, "the Pod's hostname");
    template(&Field::new(new, ""), &mut said);
    said
}

/// Warnings about a template, or about a pod as if it were one.
pub fn template(template: &Field, said: &mut Vec<String>) {
    let spec = template.get("spec");
    nodes(&spec, said);
    for (key, instead) in ANNOTATIONS {
        annotation(template, key, instead, said);
    }
    volumes::check(&spec, said);
    repeated(&spec, "hostAliases", "ip", said);
    repeated(&spec, "imagePullSecrets", "name", said);
    for secret in spec.items("imagePullSecrets") {
        if secret.get("name").is_blank() {
            said.push(format!("{}: invalid empty name \"\"", secret.path_of("name")));
        }
    }
    warnings::fractions(&spec, "overhead", &containers::BYTES, said);
    if !has(spec.value, "securityContext.seccompProfile") {
        annotation(template, SECCOMP, SECCOMP_INSTEAD, said);
    }
    containers::check(template, said);
    let grace = spec.get("terminationGracePeriodSeconds");
    if grace.int().is_some_and(|seconds| seconds < 0) {
        let why = "must be >= 0; negative values are invalid and will be treated as 1";
        said.push(format!("{}: {why}", grace.path));
    }
    others(&spec, said);
    spec.items("dnsConfig.nameservers")
        .iter()
        .for_each(|address| warnings::ip(address, said));
    for alias in spec.items("hostAliases") {
        warnings::ip(&alias.get("ip"), said);
    }
}

/// How nodes are chosen: by labels that have gone out of use, or spread by a selector that picks nothing.
fn nodes(spec: &Field, said: &mut Vec<String>) {
    for (label, at) in spec.entries("nodeSelector") {
        if let Some(instead) = warnings::node_label(label) {
            said.push(format!("{}: {instead}", at.path));
        }
    }
    let affinity = spec.get("affinity.nodeAffinity");
    for term in affinity.get(REQUIRED).items("nodeSelectorTerms") {
        warnings::node_term(&term, false, said);
    }
    for preferred in affinity.items(PREFERRED) {
        warnings::node_term(&preferred.get("preference"), true, said);
    }
    for constraint in spec.items("topologySpreadConstraints") {
        warnings::node_key(&constraint.get("topologyKey"), said);
        picks_nothing(&constraint, said);
    }
}

/// Affinity to pods that a selector picks which picks nothing.
fn others(spec: &Field, said: &mut Vec<String>) {
    for kind in ["affinity.podAffinity", "affinity.podAntiAffinity"] {
        let affinity = spec.get(kind);
        for term in affinity.items(REQUIRED) {
            picks_nothing(&term, said);
        }
        for preferred in affinity.items(PREFERRED) {
            picks_nothing(&preferred.get("podAffinityTerm"), said);
        }
    }
}

fn picks_nothing(holder: &Field, said: &mut Vec<String>) {
    let selector = holder.get("labelSelector");
    if !selector.is_set() {
        let why = "a null labelSelector results in matching no pod";
        said.push(format!("{}: {why}", selector.path));
    }
}

/// Items of a list that say the same as one before.
fn repeated(spec: &Field, list: &str, key: &str, said: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for item in spec.items(list) {
        let value = item.get(key);
        if !seen.insert(value.text()) {
            said.push(format!("{}: duplicate {key} {:?}", value.path, value.text()));
        }
    }
}
