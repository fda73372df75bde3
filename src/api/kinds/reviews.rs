//! The kinds that ask who somebody is and what they may do. The answers come from
//! the API server; here are only their shapes and rules.

use serde_json::Value;

use crate::kind::Kind;
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

fn access(review: &Value) -> Vec<FieldError> {
    let spec = Field::at(review, "spec");
    let (resource, path) = (spec.get("resourceAttributes"), spec.get("nonResourceAttributes"));
    match (resource.is_set(), path.is_set()) {
        (true, true) => vec![FieldError::invalid(
            &path.path,
            path.value.clone(),
            "cannot be specified in combination with resourceAttributes",
        )],
        (false, false) => vec![FieldError::invalid(
            &resource.path,
            Value::Null,
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        )],
        _ => Vec::new(),
    }
}

fn access_of_subject(review: &Value) -> Vec<FieldError> {
    let mut errors = access(review);
    let spec = Field::at(review, "spec");
    if spec.get("user").is_blank() && spec.get("groups").is_blank() {
        errors.push(
            spec.get("user")
                .invalid("at least one of user or group must be specified"),
        );
    }
    errors
}

fn local_access(review: &Value) -> Vec<FieldError> {
    let mut errors = access_of_subject(review);
    let asked = Field::at(review, "spec.resourceAttributes.namespace");
    if asked.text() != text(review, "metadata.namespace") {
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
    fn reviews_ask_one_thing_about_somebody() {
        let texts = |spec: Value| {
            let errors = SUBJECT_ACCESS_REVIEW.check_create(&json!({"spec": spec}));
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert!(texts(json!({"user": "u", "resourceAttributes": {}})).is_empty());
        assert_eq!(
            texts(json!({})),
            [
                "spec.resourceAttributes: Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes \
              must be specified",
                "spec.user: Invalid value: \"\": at least one of user or group must be specified"
            ]
        );
        let both = json!({"groups": ["g"], "resourceAttributes": {}, "nonResourceAttributes": {}});
        assert_eq!(
            texts(both),
            [
                "spec.nonResourceAttributes: Invalid value: {}: cannot be specified in combination with resourceAttributes"
            ]
        );
    }

    #[test]
    fn local_reviews_stay_in_their_namespace() {
        let review = json!({"metadata": {"namespace": "a"}, "spec": {"user": "u", "resourceAttributes": {"namespace": "b"}}});
        assert!(
            local_access(&review)[0]
                .to_string()
                .ends_with("must match metadata.namespace")
        );
    }
}
