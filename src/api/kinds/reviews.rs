//! The kinds that ask who somebody is and what they may do. The answers come from
//! the API server; here are only their shapes and rules.

use serde_json::Value;

use crate::kind::Kind;
use crate::names;
use crate::selector;
use crate::status::FieldError;
use crate::value::{Field, text};

/// `TokenReview`.
pub static TOKEN_REVIEW: Kind = Kind {
    group: "authentication.k8s.io",
    kind: "TokenReview",
    plural: "tokenreviews",
    singular: "tokenreview",
    ..Kind::ASKED
};

/// `SelfSubjectReview`.
pub static SELF_SUBJECT_REVIEW: Kind = Kind {
    group: "authentication.k8s.io",
    kind: "SelfSubjectReview",
    plural: "selfsubjectreviews",
    singular: "selfsubjectreview",
    ..Kind::ASKED
};

/// `SubjectAccessReview`.
pub static SUBJECT_ACCESS_REVIEW: Kind = Kind {
    group: "authorization.k8s.io",
    kind: "SubjectAccessReview",
    plural: "subjectaccessreviews",
    singular: "subjectaccessreview",
    validate: access_of_subject,
    ..Kind::ASKED
};

/// `SelfSubjectAccessReview`.
pub static SELF_SUBJECT_ACCESS_REVIEW: Kind = Kind {
    group: "authorization.k8s.io",
    kind: "SelfSubjectAccessReview",
    plural: "selfsubjectaccessreviews",
    singular: "selfsubjectaccessreview",
    validate: access,
    ..Kind::ASKED
};

/// `LocalSubjectAccessReview`.
pub static LOCAL_SUBJECT_ACCESS_REVIEW: Kind = Kind {
    group: "authorization.k8s.io",
    kind: "LocalSubjectAccessReview",
    plural: "localsubjectaccessreviews",
    singular: "localsubjectaccessreview",
    namespaced: true,
    validate: local_access,
    ..Kind::ASKED
};

/// `SelfSubjectRulesReview`.
pub static SELF_SUBJECT_RULES_REVIEW: Kind = Kind {
    group: "authorization.k8s.io",
    kind: "SelfSubjectRulesReview",
    plural: "selfsubjectrulesreviews",
    singular: "selfsubjectrulesreview",
    validate: rules,
    ..Kind::ASKED
};

/// What is wrong with a question, whoever it is about.
fn question(review: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = Field::at(review, "spec");
    let (resource, path) = (spec.get("resourceAttributes"), spec.get("nonResourceAttributes"));
    match (resource.is_set(), path.is_set()) {
        (true, true) => {
            errors.push(path.invalid("cannot be specified in combination with resourceAttributes"));
        }
        (false, false) => errors.push(FieldError::invalid(
            &resource.path,
            Value::Null,
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        )),
        _ => {}
    }
    narrowed(
        &resource.get("fieldSelector"),
        &mut errors,
        |requirement, errors| {
            let key = requirement.get("key");
            if key.is_blank() {
                errors.push(key.required("must be specified"));
            }
        },
    );
    narrowed(
        &resource.get("labelSelector"),
        &mut errors,
        |requirement, errors| {
            let key = requirement.get("key");
            errors.extend(key.invalid_each(names::is_qualified_name(key.text())));
            for value in requirement.items("values") {
                errors.extend(value.invalid_each(names::is_label_value(value.text())));
            }
        },
    );
    errors
}

/// A selector as a text or in requirements, not both. Operators of later releases are left to who answers.
fn narrowed(selector: &Field, errors: &mut Vec<FieldError>, check: impl Fn(&Field, &mut Vec<FieldError>)) {
    if !selector.is_set() {
        return;
    }
    let (raw, requirements) = (selector.get("rawSelector"), selector.get("requirements"));
    match (raw.is_blank(), requirements.is_blank()) {
        (false, false) => {
            errors.push(raw.invalid("may not specified at the same time as requirements"));
        }
        (true, true) => errors.push(requirements.required(&format!(
            "when {} is specified, requirements or rawSelector is required",
            selector.path
        ))),
        _ => {}
    }
    for requirement in selector.items("requirements") {
        selector::has_its_values(&requirement, errors);
        check(&requirement, errors);
    }
}

fn question_of_subject(review: &Value) -> Vec<FieldError> {
    let mut errors = question(review);
    let spec = Field::at(review, "spec");
    if spec.get("user").is_blank() && spec.get("groups").is_blank() {
        errors.push(
            spec.get("user")
                .invalid("at least one of user or group must be specified"),
        );
    }
    errors
}

/// A question has no metadata: what clients write there would be lost without a word.
fn nameless(review: &Value, but: &[&str], text: &str, errors: &mut Vec<FieldError>) {
    let metadata = Field::at(review, "metadata");
    // What came as protobuf has all that Go does not leave out, empty.
    let blank = |(key, value): (&str, &Value)| {
        key == "managedFields" || but.contains(&key) || *value == 0 || Field::new(value, "").is_blank()
    };
    let map = metadata.value.as_object().into_iter().flatten();
    let said = !map.map(|(key, value)| (key.as_str(), value)).all(blank);
    if said {
        errors.push(metadata.invalid(text));
    }
}

fn access(review: &Value) -> Vec<FieldError> {
    let mut errors = question(review);
    nameless(review, &[], "must be empty", &mut errors);
    errors
}

fn access_of_subject(review: &Value) -> Vec<FieldError> {
    let mut errors = question_of_subject(review);
    nameless(review, &[], "must be empty", &mut errors);
    errors
}

fn local_access(review: &Value) -> Vec<FieldError> {
    let mut errors = question_of_subject(review);
    nameless(
        review,
        &["namespace"],
        "must be empty except for namespace",
        &mut errors,
    );
    let resource = Field::at(review, "spec.resourceAttributes");
    // As one path, which is how Kubernetes writes these two.
    let asked = Field::at(review, "spec.resourceAttributes.namespace");
    if resource.is_set() && asked.text() != text(review, "metadata.namespace") {
        errors.push(asked.invalid("must match metadata.namespace"));
    }
    let path = Field::at(review, "spec.nonResourceAttributes");
    if path.is_set() {
        errors.push(path.invalid("disallowed on this kind of request"));
    }
    errors
}

fn rules(review: &Value) -> Vec<FieldError> {
    let namespace = Field::at(review, "spec.namespace");
    if namespace.is_blank() {
        vec![namespace.required("no namespace on request")]
    } else {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_go_does_not_leave_out_is_no_metadata() {
        let metadata = json!({"name": "", "generateName": "", "generation": 0, "creationTimestamp": null,
            "labels": {}, "managedFields": [{"manager": "m"}]});
        let review = json!({"metadata": metadata, "spec": {"resourceAttributes": {}}});
        assert!(access(&review).is_empty());
        assert_eq!(local_access(&review).len(), 1, "nobody is asked about");
    }
}
