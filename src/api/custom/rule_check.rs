//! What the rules in CEL of a definition's schema must be like.

use super::paths::{self, Step};
use crate::cel::{self, Program};
use crate::status::FieldError;
use crate::value::Field;

/// The rules in CEL must compile, and say so in a way that can be shown.
pub fn rules(schema: &Field, correlatable: bool, errors: &mut Vec<FieldError>) {
    for rule in schema.items("x-kubernetes-validations") {
        let (source, message, computed) = (
            rule.get("rule"),
            rule.get("message"),
            rule.get("messageExpression"),
        );
        if source.text().trim().is_empty() {
            errors.push(source.required("rule is not specified"));
        } else {
            condition(&source, schema, correlatable, errors);
        }
        if !message.is_blank() {
            if message.text().trim().is_empty() {
                errors.push(message.invalid("message must be non-empty if specified"));
            } else if message.text().contains('\n') {
                errors.push(message.invalid("message must not contain line breaks"));
            }
        } else if source.text().contains('\n') && computed.is_blank() {
            errors.push(message.required("message must be specified if rule contains line breaks"));
        }
        if computed.is_set() {
            if computed.text().trim().is_empty() {
                errors.push(computed.required("messageExpression must be non-empty if specified"));
            } else {
                compiled(&computed, "messageExpression compilation failed", schema, errors);
            }
        }
        let reasons = [
            "FieldValueDuplicate",
            "FieldValueForbidden",
            "FieldValueInvalid",
            "FieldValueRequired",
        ];
        rule.get("reason").one_of_if_set(&reasons, errors);
        field_path(&rule.get("fieldPath"), schema, errors);
    }
}

fn compiled(source: &Field, failed: &str, schema: &Field, errors: &mut Vec<FieldError>) -> Option<Program> {
    match Program::compile(source.text(), &["self", "oldSelf"]) {
        Ok(program) => {
            let unknown = ["self", "oldSelf"]
                .into_iter()
                .find_map(|root| program.unknown_field(source.text(), root, schema.value));
            if let Some(why) = unknown {
                errors.push(source.invalid(format!("{failed}: {why}")));
            }
            Some(program)
        }
        Err(why) => {
            errors.push(source.invalid(format!("{failed}: {why}")));
            None
        }
    }
}

fn condition(source: &Field, schema: &Field, correlatable: bool, errors: &mut Vec<FieldError>) {
    let Some(program) = compiled(source, "compilation failed", schema, errors) else {
        return;
    };
    if program.is_no_condition() {
        errors.push(source.invalid("compilation failed: cel expression must evaluate to a bool"));
    }
    if program.uses("oldSelf") && !correlatable {
        errors.push(source.invalid(format!(
            "oldSelf cannot be used on the uncorrelatable portion of the schema within {}",
            schema.path
        )));
    }
}

/// The path that a refusal names must be one of the schema.
fn field_path(path: &Field, schema: &Field, errors: &mut Vec<FieldError>) {
    if path.is_blank() {
        return;
    }
    let known = match paths::parse(path.text()) {
        Some(steps) => steps.iter().try_fold(schema.value, |schema, step| match step {
            Step::Field(name) => cel::member_schema(schema, name),
            _ => None,
        }),
        None => None,
    };
    if known.is_none() {
        errors.push(path.invalid("fieldPath must be a valid path"));
    }
}
