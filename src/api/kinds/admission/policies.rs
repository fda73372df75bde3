//! ValidatingAdmissionPolicy and MutatingAdmissionPolicy: rules in CEL for every write that they match.

use serde_json::{Value, json};

use super::rules::{self, Gives};
use crate::kind::{Column, Kind, Subresource};
use crate::kinds::{cells, metadata};
use crate::names;
use crate::object::split_api_version;
use crate::status::FieldError;
use crate::value::{Field, fill, get_mut, has, list, text};

/// Most audit annotations of a policy.
const ANNOTATIONS_MAX: usize = 20;

/// `ValidatingAdmissionPolicy`.
pub static VALIDATING: Kind = Kind {
    kind: "ValidatingAdmissionPolicy",
    plural: "validatingadmissionpolicies",
    singular: "validatingadmissionpolicy",
    subresources: &[Subresource::status("ValidatingAdmissionPolicy")],
    storage_version_hash: "6OxvlMmQ6is=",
    prepare_create: metadata::create_without_status,
    prepare_update: metadata::update_spec,
    prepare_status: metadata::update_status,
    validate: validating,
    validate_update: |new, _| validating(new),
    reset_fields: &["status"],
    reset_fields_status: &["metadata", "spec"],
    columns: &[
        Column::NAME,
        Column::integer("Validations"),
        Column::text("ParamKind"),
        Column::AGE,
    ],
    row: |policy, now| row(policy, "spec.validations", now),
    ..BASE
};

/// `MutatingAdmissionPolicy`.
pub static MUTATING: Kind = Kind {
    kind: "MutatingAdmissionPolicy",
    plural: "mutatingadmissionpolicies",
    singular: "mutatingadmissionpolicy",
    storage_version_hash: "LYmCf+UMVdg=",
    prepare_create: |policy| metadata::set_generation(policy, 1),
    prepare_update: metadata::bump_generation_on_spec,
    validate: mutating,
    validate_update: |new, _| mutating(new),
    columns: &[
        Column::NAME,
        Column::integer("Mutations"),
        Column::text("ParamKind"),
        Column::AGE,
    ],
    row: |policy, now| row(policy, "spec.mutations", now),
    ..BASE
};

const BASE: Kind = Kind {
    group: "admissionregistration.k8s.io",
    categories: &["api-extensions"],
    unconditional_update: false,
    default: |policy| {
        if let Some(spec) = get_mut(policy, "spec") {
            fill(spec, "failurePolicy", "Fail");
        }
        rules::default_resources(policy, "spec.matchConstraints");
    },
    ..Kind::CLUSTER
};

fn row(policy: &Value, counted: &str, now: jiff::Timestamp) -> Vec<Value> {
    let parameters = match has(policy, "spec.paramKind") {
        true => format!(
            "{}/{}",
            text(policy, "spec.paramKind.apiVersion"),
            text(policy, "spec.paramKind.kind")
        ),
        false => "<unset>".to_owned(),
    };
    vec![
        cells::name(policy),
        json!(list(policy, counted).len()),
        json!(parameters),
        cells::age(policy, now),
    ]
}

/// What both sorts of policy have; returns the variables that expressions see.
fn common(spec: &Field, errors: &mut Vec<FieldError>) -> Vec<&'static str> {
    spec.get("failurePolicy").one_of(&["Fail", "Ignore"], errors);
    parameters(&spec.get("paramKind"), errors);
    let constraints = spec.get("matchConstraints");
    if constraints.is_set() {
        rules::resources(&constraints, errors);
        constraints.get("resourceRules").needed(errors);
    } else {
        errors.push(constraints.required(""));
    }
    let mut known = rules::variables(spec.value);
    known.retain(|name| *name != "variables");
    rules::conditions(spec, &known, errors);
    let known = rules::variables(spec.value);
    for variable in spec.items("variables") {
        let name = variable.get("name");
        if name.needed(errors) && !crate::cel::is_identifier(name.text()) {
            errors.push(name.invalid("name is not a valid CEL identifier"));
        }
        rules::expression(&variable.get("expression"), &known, Gives::Anything, errors);
    }
    spec.unique("variables", "name", errors);
    known
}

fn parameters(kind: &Field, errors: &mut Vec<FieldError>) {
    if !kind.is_set() {
        return;
    }
    let (version, name) = (kind.get("apiVersion"), kind.get("kind"));
    if version.needed(errors) {
        let (group, number) = split_api_version(version.text());
        if !group.is_empty() {
            errors.extend(version.invalid_each(names::is_dns_subdomain(group)));
        }
        errors.extend(version.invalid_each(names::is_dns1035_label(number)));
    }
    if name.needed(errors) {
        for why in names::is_dns1035_label(&name.text().to_lowercase()) {
            errors.push(name.invalid(format!("may have mixed case, but should otherwise match: {why}")));
        }
    }
}

fn validating(policy: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = Field::at(policy, "spec");
    let known = common(&spec, &mut errors);
    let (validations, annotations) = (spec.get("validations"), spec.get("auditAnnotations"));
    if validations.is_blank() && annotations.is_blank() {
        let why = "validations or auditAnnotations must contain at least one item";
        errors.push(validations.required(why));
        errors.push(annotations.required(why));
    }
    for validation in spec.items("validations") {
        self::validation(&validation, &known, &mut errors);
    }
    if list(spec.value, "auditAnnotations").len() > ANNOTATIONS_MAX {
        errors.push(annotations.invalid(format!(
            "must not have more than {ANNOTATIONS_MAX} auditAnnotations"
        )));
    }
    for annotation in spec.items("auditAnnotations") {
        let key = annotation.get("key");
        if key.needed(&mut errors) {
            let whole = format!("{}/{}", text(policy, "metadata.name"), key.text());
            errors.extend(key.invalid_each(names::is_qualified_name(&whole)));
        }
        rules::expression(
            &annotation.get("valueExpression"),
            &known,
            Gives::TextOrNull,
            &mut errors,
        );
    }
    spec.unique("auditAnnotations", "key", &mut errors);
    errors
}

fn validation(validation: &Field, known: &[&str], errors: &mut Vec<FieldError>) {
    let expression = validation.get("expression");
    if expression.text().trim().is_empty() {
        errors.push(expression.required("expression is not specified"));
    } else {
        rules::expression(&expression, known, Gives::Bool, errors);
    }
    let (message, computed) = (validation.get("message"), validation.get("messageExpression"));
    if !message.is_blank() {
        if message.text().trim().is_empty() {
            errors.push(message.invalid("message must be non-empty if specified"));
        } else if message.text().contains('\n') {
            errors.push(message.invalid("message must not contain line breaks"));
        }
    } else if expression.text().contains('\n') && computed.is_blank() {
        errors.push(message.required("message must be specified if expression contains line breaks"));
    }
    if !computed.is_blank() {
        rules::expression(&computed, known, Gives::Text, errors);
    }
    let reasons = ["Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized"];
    validation.get("reason").one_of_if_set(&reasons, errors);
}

fn mutating(policy: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = Field::at(policy, "spec");
    let known = common(&spec, &mut errors);
    if spec.get("mutations").is_blank() {
        errors.push(
            spec.get("mutations")
                .required("mutations must contain at least one item"),
        );
    }
    for mutation in spec.items("mutations") {
        let kind = mutation.get("patchType");
        kind.one_of(&["ApplyConfiguration", "JSONPatch"], &mut errors);
        let (applied, patched) = (mutation.get("applyConfiguration"), mutation.get("jsonPatch"));
        let (wanted, other) = match kind.text() {
            "ApplyConfiguration" => (applied, patched),
            "JSONPatch" => (patched, applied),
            _ => continue,
        };
        if !wanted.is_set() {
            errors.push(wanted.required(&format!("must be specified when patchType is {}", kind.text())));
            continue;
        }
        if other.is_set() {
            errors.push(other.invalid(format!("must not be specified when patchType is {}", kind.text())));
        }
        rules::expression(&wanted.get("expression"), &known, Gives::Anything, &mut errors);
    }
    spec.get("reinvocationPolicy")
        .one_of(&["IfNeeded", "Never"], &mut errors);
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_matches_something_and_says_something() {
        let mut policy = json!({"metadata": {"name": "p"}, "spec": {"matchConstraints": {"resourceRules": [
            {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]},
            "validations": [{"expression": "object.spec.x == 1"}]}});
        (VALIDATING.default)(&mut policy);
        assert_eq!(validating(&policy), []);
        policy["spec"]["validations"] = json!([{"expression": "object.spec. =="}]);
        let said = validating(&policy)[0].to_string();
        assert!(
            said.starts_with(
                "spec.validations[0].expression: Invalid value: \"object.spec. ==\": compilation failed:"
            ),
            "{said}"
        );
        policy["spec"] = json!({"failurePolicy": "Fail"});
        let said: Vec<String> = validating(&policy).iter().map(ToString::to_string).collect();
        assert_eq!(said[0], "spec.matchConstraints: Required value");
        assert_eq!(said.len(), 3);
    }
}
