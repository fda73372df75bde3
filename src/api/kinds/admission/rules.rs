//! Which requests a webhook or a policy is for.

use serde_json::{Value, json};

use crate::cel::{Program, Type};
use crate::names;
use crate::selector;
use crate::status::FieldError;
use crate::value::{Field, each, fill, fill_text, get_mut, has, list};

/// Most match conditions of one webhook or policy.
const CONDITIONS_MAX: usize = 64;

/// Defaults of what webhooks and policies alike match: everything in reach, equivalent versions included.
pub fn default_match(holder: &mut Value, rules: &[&str]) {
    fill(holder, "matchPolicy", "Equivalent");
    fill(holder, "namespaceSelector", json!({}));
    fill(holder, "objectSelector", json!({}));
    for key in rules {
        each(holder, key, |rule| fill_text(rule, "scope", "*"));
    }
}

/// Defaults of a policy's or binding's `MatchResources` at `path`.
pub fn default_resources(object: &mut Value, path: &str) {
    if let Some(resources) = get_mut(object, path) {
        default_match(resources, &["resourceRules", "excludeResourceRules"]);
    }
}

/// Defaults of a `paramRef` at `path`.
pub fn default_parameters(object: &mut Value, path: &str) {
    if let Some(reference) = get_mut(object, path) {
        fill(reference, "parameterNotFoundAction", "Deny");
    }
}

/// Rules for the two selectors and the match policy.
pub fn selectors(holder: &Field, errors: &mut Vec<FieldError>) {
    holder
        .get("matchPolicy")
        .one_of_if_set(&["Equivalent", "Exact"], errors);
    selector::validate(&holder.get("namespaceSelector"), errors);
    selector::validate(&holder.get("objectSelector"), errors);
}

/// Rules for a `MatchResources`.
pub fn resources(resources: &Field, errors: &mut Vec<FieldError>) {
    if !resources.is_set() {
        return;
    }
    resources.get("matchPolicy").needed(errors);
    selectors(resources, errors);
    for key in ["resourceRules", "excludeResourceRules"] {
        for rule in resources.items(key) {
            for name in rule.items("resourceNames") {
                errors.extend(name.invalid_each(names::path_segment(name.text(), false)));
            }
            rule.unique("resourceNames", "", errors);
            self::rule(&rule, errors);
        }
    }
}

fn texts<'a>(field: &Field<'a>) -> Vec<&'a str> {
    let items = field.value.as_array().into_iter().flatten();
    items.filter_map(Value::as_str).collect()
}

/// `*` stands alone.
fn alone(field: &Field, others: &str, errors: &mut Vec<FieldError>) {
    let given = texts(field);
    if given.len() > 1 && given.contains(&"*") {
        errors.push(field.invalid(format!("if '*' is present, must not specify other {others}")));
    }
}

/// Rules for operations, groups, versions and resources.
pub fn rule(rule: &Field, errors: &mut Vec<FieldError>) {
    let operations = rule.get("operations");
    operations.needed(errors);
    alone(&operations, "operations", errors);
    for operation in rule.items("operations") {
        operation.one_of(&["*", "CONNECT", "CREATE", "DELETE", "UPDATE"], errors);
    }
    let (groups, versions) = (rule.get("apiGroups"), rule.get("apiVersions"));
    groups.needed(errors);
    alone(&groups, "API groups", errors);
    versions.needed(errors);
    alone(&versions, "API versions", errors);
    for version in rule.items("apiVersions") {
        version.needed(errors);
    }
    kinds(rule, errors);
    rule.get("scope")
        .one_of_if_set(&["*", "Cluster", "Namespaced"], errors);
}

fn kinds(rule: &Field, errors: &mut Vec<FieldError>) {
    let resources = rule.get("resources");
    resources.needed(errors);
    let mut wild: Vec<(&str, &str)> = Vec::new();
    for item in rule.items("resources") {
        if !item.needed(errors) {
            continue;
        }
        let Some((resource, part)) = item.text().split_once('/') else {
            continue;
        };
        if wild.contains(&(resource, "*")) {
            let why = format!("if '{resource}/*' is present, must not specify {}", item.text());
            errors.push(item.invalid(why));
        }
        if wild.contains(&("*", part)) {
            let why = format!("if '*/{part}' is present, must not specify {}", item.text());
            errors.push(item.invalid(why));
        }
        if resource == "*" || part == "*" {
            wild.push((resource, part));
        }
    }
    let given = texts(&resources);
    if given.len() > 1 && given.contains(&"*/*") {
        errors.push(resources.invalid("if '*/*' is present, must not specify other resources"));
    }
    if given.contains(&"*") && given.iter().any(|r| *r != "*" && !r.contains('/')) {
        let why = "if '*' is present, must not specify other resources without subresources";
        errors.push(resources.invalid(why));
    }
}

/// Rules for `matchConditions`.
pub fn conditions(holder: &Field, variables: &[&str], errors: &mut Vec<FieldError>) {
    holder.at_most("matchConditions", CONDITIONS_MAX, errors);
    for condition in holder.items("matchConditions") {
        let name = condition.get("name");
        if name.needed(errors) {
            errors.extend(name.invalid_each(names::is_qualified_name(name.text())));
        }
        expression(&condition.get("expression"), variables, Gives::Bool, errors);
    }
    holder.unique("matchConditions", "name", errors);
}

/// What an expression of a policy or webhook is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Gives {
    /// Says yes or no.
    Bool,
    /// Makes a text.
    Text,
    /// Makes a text, or null for none.
    TextOrNull,
    /// Whatever is needed.
    Anything,
}

/// Rules for an expression: it compiles with those names, and what it makes is what it is for.
pub fn expression(at: &Field, variables: &[&str], gives: Gives, errors: &mut Vec<FieldError>) {
    if at.text().trim().is_empty() {
        errors.push(at.required(""));
        return;
    }
    let compiled = Program::compile(at.text(), variables);
    let kind = match compiled.and_then(|program| program.judge(at.text(), &[])) {
        Ok(judged) => judged.kind,
        Err(why) => return errors.push(at.invalid(format!("compilation failed: {why}"))),
    };
    let why = match (gives, kind) {
        (_, Type::Dyn(_))
        | (Gives::Anything, _)
        | (Gives::Bool, Type::Bool)
        | (Gives::Text | Gives::TextOrNull, Type::Text(_))
        | (Gives::TextOrNull, Type::Null) => return,
        (Gives::Bool, _) => "must evaluate to bool",
        (Gives::Text, _) => "must evaluate to string",
        (Gives::TextOrNull, _) => "must evaluate to one of [string null_type]",
    };
    errors.push(at.invalid(why));
}

/// The variables that expressions of a policy with these parts see.
pub fn variables(spec: &Value) -> Vec<&'static str> {
    let mut known = vec!["object", "oldObject", "request", "authorizer", "namespaceObject"];
    if has(spec, "paramKind") {
        known.push("params");
    }
    if !list(spec, "variables").is_empty() {
        known.push("variables");
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_stand_alone() {
        let rule = json!({"operations": ["*", "CREATE"], "apiGroups": [""], "apiVersions": ["v1"],
            "resources": ["pods/*", "pods/log"], "scope": "All"});
        let mut errors = Vec::new();
        super::rule(&Field::new(&rule, "rules[0]"), &mut errors);
        let said: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "rules[0].operations: Invalid value: [\"*\",\"CREATE\"]: if '*' is present, must not specify other operations",
                "rules[0].resources[1]: Invalid value: \"pods/log\": if 'pods/*' is present, must not specify pods/log",
                "rules[0].scope: Unsupported value: \"All\": supported values: \"*\", \"Cluster\", \"Namespaced\""
            ]
        );
    }
}
