//! FlowSchema: which requests belong to which priority level.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::kind::{Column, Kind, Subresource};
use crate::kinds::cells;
use crate::names;
use crate::status::FieldError;
use crate::value::{Field, fill_number, get_mut, int, list, text};

const VERBS: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "proxy",
    "update",
    "watch",
];
/// The last place in the order of schemas.
const PRECEDENCE_MAX: i64 = 10_000;

/// The descriptor.
pub static KIND: Kind = Kind {
    kind: "FlowSchema",
    plural: "flowschemas",
    singular: "flowschema",
    subresources: &[Subresource::status("FlowSchema")],
    storage_version_hash: "GJVAJZSZBIw=",
    default: |schema| {
        if let Some(spec) = get_mut(schema, "spec") {
            fill_number(spec, "matchingPrecedence", 1000);
        }
    },
    validate,
    validate_update: |new, _| validate(new),
    columns: &[
        Column::NAME,
        Column::text("PriorityLevel"),
        Column::text("MatchingPrecedence"),
        Column::text("DistinguisherMethod"),
        Column::AGE,
        Column::text("MissingPL"),
    ],
    row,
    ..super::BASE
};

fn validate(schema: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = Field::at(schema, "spec");
    let precedence = spec.get("matchingPrecedence");
    match precedence.int().unwrap_or(0) {
        n if n <= 0 => errors.push(precedence.invalid("must be a positive value")),
        n if n > PRECEDENCE_MAX => {
            errors.push(precedence.invalid(format!("must not be greater than {PRECEDENCE_MAX}")))
        }
        1 if text(schema, "metadata.name") != "exempt" => {
            errors.push(precedence.invalid("only the schema named 'exempt' may have matchingPrecedence 1"))
        }
        _ => {}
    }
    let method = spec.get("distinguisherMethod");
    if method.is_set() {
        method.get("type").one_of(&["ByNamespace", "ByUser"], &mut errors);
    }
    let level = spec.get("priorityLevelConfiguration.name");
    if level.is_blank() {
        errors.push(level.required("must reference a priority level"));
    } else {
        errors.extend(level.invalid_each(names::is_dns_subdomain(level.text())));
    }
    for rule in spec.items("rules") {
        self::rule(&rule, &mut errors);
    }
    super::conditions(&Field::at(schema, "status"), &mut errors);
    errors
}

fn rule(rule: &Field, errors: &mut Vec<FieldError>) {
    if rule.get("subjects").is_blank() {
        errors.push(
            rule.get("subjects")
                .required("subjects must contain at least one value"),
        );
    }
    for subject in rule.items("subjects") {
        self::subject(&subject, errors);
    }
    if rule.get("resourceRules").is_blank() && rule.get("nonResourceRules").is_blank() {
        errors.push(rule.required("at least one of resourceRules and nonResourceRules has to be non-empty"));
    }
    for resources in rule.items("resourceRules") {
        self::resources(&resources, errors);
    }
    for paths in rule.items("nonResourceRules") {
        verbs(&paths, errors);
        members(
            &paths,
            "nonResourceURLs",
            "non-resource URLs",
            "nonResourceURLs must contain at least one value",
            errors,
        );
        for url in paths
            .items("nonResourceURLs")
            .iter()
            .filter(|url| url.text() != "*")
        {
            self::url(url, errors);
        }
    }
}

fn subject(subject: &Field, errors: &mut Vec<FieldError>) {
    const SORTS: [(&str, &str); 3] = [
        ("Group", "group"),
        ("ServiceAccount", "serviceAccount"),
        ("User", "user"),
    ];
    let kind = subject.get("kind");
    let Some((sort, key)) = SORTS.iter().find(|(sort, _)| *sort == kind.text()) else {
        errors.push(kind.not_supported(&["Group", "ServiceAccount", "User"]));
        return;
    };
    let named = subject.get(key);
    if !named.is_set() {
        errors.push(named.required(&format!("{key} is required when subject kind is '{sort}'")));
    } else {
        named.get("name").needed(errors);
        if *key == "serviceAccount" && named.get("namespace").is_blank() {
            errors.push(
                named
                    .get("namespace")
                    .required("must specify namespace for service account"),
            );
        }
    }
    for (other, key) in SORTS.iter().filter(|(other, _)| other != sort) {
        if subject.get(key).is_set() {
            let why = format!("{key} is forbidden when subject kind is not '{other}'");
            errors.push(subject.get(key).forbidden(why));
        }
    }
}

/// At least one member, and `*` only by itself.
fn members(rule: &Field, key: &str, named: &str, none: &str, errors: &mut Vec<FieldError>) {
    let field = rule.get(key);
    let items = list(rule.value, key);
    if items.is_empty() {
        errors.push(field.required(none));
    } else if items.len() > 1 && items.contains(&json!("*")) {
        errors.push(field.invalid(format!("if '*' is present, must not specify other {named}")));
    }
}

fn verbs(rule: &Field, errors: &mut Vec<FieldError>) {
    members(
        rule,
        "verbs",
        "verbs",
        "verbs must contain at least one value",
        errors,
    );
    let known = |verb: &Value| verb == "*" || VERBS.iter().any(|known| verb == known);
    if !list(rule.value, "verbs").iter().all(known) {
        errors.push(rule.get("verbs").not_supported(VERBS));
    }
}

fn resources(rule: &Field, errors: &mut Vec<FieldError>) {
    verbs(rule, errors);
    members(
        rule,
        "apiGroups",
        "api groups",
        "resource rules must supply at least one api group",
        errors,
    );
    members(
        rule,
        "resources",
        "resources",
        "resource rules must supply at least one resource",
        errors,
    );
    if rule.get("clusterScope").flag() && rule.get("namespaces").is_blank() {
        return;
    }
    let none = "resource rules that are not cluster scoped must supply at least one namespace";
    members(rule, "namespaces", "namespaces", none, errors);
    for namespace in rule.items("namespaces").iter().filter(|n| n.text() != "*") {
        for why in names::is_dns_label(namespace.text()) {
            errors.push(namespace.invalid(format!(
                "each member of this list must be '*' or a DNS-1123 label; {why}"
            )));
        }
    }
}

fn url(url: &Field, errors: &mut Vec<FieldError>) {
    let path = url.text();
    let wild = path.matches('*').count();
    let wrong = match path {
        "" => "must not be empty",
        "/" => return,
        _ if !path.starts_with('/') => "must start with slash",
        _ if path.contains(' ') => "must not contain white-space",
        _ if path.contains("//") => "must not contain double slash",
        _ if wild > 1 || (wild == 1 && !path.ends_with("/*")) => "wildcard can only do suffix matching",
        _ => return,
    };
    errors.push(url.invalid(wrong));
}

fn row(schema: &Value, now: Timestamp) -> Vec<Value> {
    let missing = list(schema, "status.conditions")
        .iter()
        .find(|c| text(c, "type") == "Dangling")
        .map_or("?", |c| text(c, "status"));
    vec![
        cells::name(schema),
        json!(text(schema, "spec.priorityLevelConfiguration.name")),
        json!(int(schema, "spec.matchingPrecedence").unwrap_or(0).to_string()),
        json!(cells::or_none(text(schema, "spec.distinguisherMethod.type"))),
        cells::age(schema, now),
        json!(missing),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_and_rules_are_complete() {
        let schema = json!({"spec": {"matchingPrecedence": 1, "priorityLevelConfiguration": {"name": "p"}, "rules": [
            {"subjects": [{"kind": "User", "group": {"name": "g"}}], "resourceRules": [
                {"verbs": ["*", "get"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["a_b"]}]}]}});
        let said: Vec<String> = validate(&schema).iter().map(ToString::to_string).collect();
        assert_eq!(
            said[..4],
            [
                "spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1",
                "spec.rules[0].subjects[0].user: Required value: user is required when subject kind is 'User'",
                "spec.rules[0].subjects[0].group: Forbidden: group is forbidden when subject kind is not 'Group'",
                "spec.rules[0].resourceRules[0].verbs: Invalid value: [\"*\",\"get\"]: if '*' is present, must not specify other verbs"
            ]
        );
        assert!(said[4].contains("each member of this list must be '*' or a DNS-1123 label; "));
    }
}
