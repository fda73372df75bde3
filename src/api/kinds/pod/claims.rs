//! Rules for a pod's resource claims, and for naming them in containers.

use std::collections::BTreeSet;

use crate::names;
use crate::status::{FieldError, FieldErrorKind};
use crate::value::Field;

/// Rules for `resourceClaims`.
pub fn check(spec: &Field, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for claim in spec.items("resourceClaims") {
        let name = claim.get("name");
        if name.is_blank() {
            errors.push(name.required(""));
        } else if !seen.insert(name.text()) {
            errors.push(name.duplicate());
        } else {
            errors.extend(name.invalid_each(names::is_dns_label(name.text())));
        }
        let sources = ["resourceClaimName", "resourceClaimTemplateName"].map(|key| claim.get(key));
        match sources.iter().filter(|source| source.is_set()).count() {
            0 => errors
                .push(claim.invalid("must specify one of: `resourceClaimName`, `resourceClaimTemplateName`")),
            1 => {}
            _ => errors.push(claim.invalid(
                "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified",
            )),
        }
        for source in sources.iter().filter(|source| source.is_set()) {
            errors.extend(source.invalid_each(names::is_dns_subdomain(source.text())));
        }
    }
}

/// Rules for the `claims` of a container's resources: each must be one of the pod's.
pub fn used(resources: &Field, spec: &Field, errors: &mut Vec<FieldError>) {
    let claims = spec.items("resourceClaims");
    let known: BTreeSet<&str> = claims.iter().map(|claim| claim.get("name").text()).collect();
    let mut seen: BTreeSet<(&str, &str)> = BTreeSet::new();
    for claim in resources.items("claims") {
        let (name, request) = (claim.get("name").text(), claim.get("request"));
        if name.is_empty() {
            errors.push(claim.required(""));
            continue;
        }
        if !request.is_blank() {
            errors.extend(request.invalid_each(names::is_dns_label(request.text())));
        }
        // A claim as a whole overlaps with each of its requests.
        let whole = seen.contains(&(name, ""));
        let part = request.is_blank() && seen.iter().any(|(claim, _)| *claim == name);
        if whole || part {
            errors.push(FieldError::duplicate(&claim.path, name));
        } else if !seen.insert((name, request.text())) {
            errors.push(FieldError::duplicate(
                &claim.path,
                format!("{name}/{}", request.text()),
            ));
        }
        if !known.contains(name) {
            errors.push(unknown(&claim, name, &known));
        }
    }
}

fn unknown(claim: &Field, name: &str, known: &BTreeSet<&str>) -> FieldError {
    let known: Vec<&str> = known.iter().copied().collect();
    let there = match known.as_slice() {
        [] => " which is empty".to_owned(),
        some => format!(": {}", some.join(", ")),
    };
    FieldError {
        kind: FieldErrorKind::NotFound,
        path: claim.path.clone(),
        value: Some(name.into()),
        detail: format!("must be one of the names in pod.spec.resourceClaims{there}"),
    }
}
