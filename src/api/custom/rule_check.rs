//! What the rules in CEL of a definition's schema must be like: they compile, fit the types of the schema, and cannot
//! cost too much.

use serde_json::{Value, json};

use super::paths;
use crate::cel::{self, Cost, Program, Type};
use crate::status::FieldError;
use crate::value::{Field, entries, text};

/// The most that one rule may cost, by its estimate (`StaticEstimatedCostLimit`).
const RULE_COST_MAX: u64 = 10_000_000;
/// The most that all rules of a schema may cost, by their estimates (`StaticEstimatedCRDCostLimit`).
const SCHEMA_COST_MAX: u64 = 100_000_000;
/// How many of the dearest rules are named.
const NAMED_MAX: usize = 4;

/// Everything that is wrong with the rules of a schema.
pub fn rules(schema: &Field, errors: &mut Vec<FieldError>) {
    let whole = with_object_meta(schema.value);
    let mut walk = Walk {
        total: 0,
        dearest: Vec::new(),
        errors,
    };
    let place = Place {
        count: Some(1),
        uncorrelatable: None,
    };
    walk.schema(&Field::new(&whole, &schema.path), &place);
    walk.finish(&schema.path);
}

/// A schema as rules see a whole object: of its metadata, they see the names.
fn with_object_meta(schema: &Value) -> Value {
    let mut whole = schema.clone();
    if let Some(properties) = crate::value::object_mut(&mut whole, "properties") {
        let name = json!({"type": "string"});
        properties.insert("apiVersion".to_owned(), name.clone());
        properties.insert("kind".to_owned(), name.clone());
        let names = json!({"type": "object", "properties": {"name": name, "generateName": name}});
        properties.insert("metadata".to_owned(), names);
    }
    whole
}

/// Where in a schema we are.
#[derive(Clone)]
struct Place {
    /// How many such values one object can have; `None` when nothing bounds it.
    count: Option<u64>,
    /// The list or map in which no old value can be found for a new one.
    uncorrelatable: Option<String>,
}

impl Place {
    fn below(&self, most: Option<u64>) -> Self {
        let count = self.count.zip(most).map(|(a, b)| a.saturating_mul(b));
        Self {
            count,
            ..self.clone()
        }
    }
}

struct Walk<'e> {
    total: u64,
    dearest: Vec<(u64, String)>,
    errors: &'e mut Vec<FieldError>,
}

impl Walk<'_> {
    fn schema(&mut self, schema: &Field, place: &Place) {
        let most = |key: &str| schema.get(key).int().map(|n| u64::try_from(n).unwrap_or(0));
        for (name, value) in entries(schema.value, "properties") {
            let member = Field::new(value, format!("{}[{name}]", schema.path_of("properties")));
            let mut inner = place.below(Some(1));
            // Who sets a map that is one value sets all its members.
            if text(schema.value, "x-kubernetes-map-type") == "atomic" && inner.uncorrelatable.is_none() {
                inner.uncorrelatable = Some(schema.path.clone());
            }
            self.schema(&member, &inner);
        }
        let more = schema.get("additionalProperties");
        if more.value.is_object() {
            self.schema(&more, &place.below(most("maxProperties")));
        }
        let items = schema.get("items");
        if items.value.is_object() {
            let mut inner = place.below(most("maxItems"));
            if text(schema.value, "x-kubernetes-list-type") != "map" && inner.uncorrelatable.is_none() {
                inner.uncorrelatable = Some(schema.path.clone());
            }
            self.schema(&items, &inner);
        }
        for rule in schema.items("x-kubernetes-validations") {
            self.rule(&rule, schema, place);
        }
    }

    fn rule(&mut self, rule: &Field, schema: &Field, place: &Place) {
        let (source, computed) = (rule.get("rule"), rule.get("messageExpression"));
        if let Some(program) = self.judged(&source, rule, schema, place) {
            self.transition(&program, rule, place);
        }
        if !computed.is_blank() {
            self.judged(&computed, rule, schema, place);
        }
    }

    /// Compiles an expression of a rule and checks its type and its cost.
    fn judged(&mut self, source: &Field, rule: &Field, schema: &Field, place: &Place) -> Option<Program> {
        let is_rule = source.path == rule.path_of("rule");
        let what = if is_rule { "" } else { "messageExpression " };
        let failed = |why: String| source.invalid(format!("{what}compilation failed: {why}"));
        let program = match Program::compile(source.text(), &["self", "oldSelf"]) {
            Ok(program) => program,
            Err(why) => {
                self.errors.push(failed(why));
                return None;
            }
        };
        let kind = Type::of(schema.value);
        // An optional old value may be absent: what is done with it is seen when the rule runs.
        let optional = rule.get("optionalOldSelf").flag();
        let old = if optional { Type::DYN } else { kind.clone() };
        match program.judge(source.text(), &[("self", kind), ("oldSelf", old)]) {
            Err(why) => self.errors.push(failed(why)),
            Ok(judged) => {
                let wrong = match (what, &judged.kind) {
                    (_, Type::Dyn(_)) | ("", Type::Bool) => None,
                    ("", _) => Some("cel expression must evaluate to a bool"),
                    (_, Type::Text(_)) => None,
                    _ => Some("messageExpression must evaluate to a string"),
                };
                match wrong {
                    Some(why) => self.errors.push(source.invalid(why)),
                    None => self.cost(source, what, judged.cost, schema, place),
                }
            }
        }
        Some(program)
    }

    fn cost(&mut self, source: &Field, what: &str, cost: Cost, schema: &Field, place: &Place) {
        // A message is made once, a rule asked for every value.
        let times = match place.count {
            _ if !what.is_empty() => 1,
            Some(count) => count,
            None => cel::most_in_a_request(schema.value),
        };
        let cost = cost.times(times).0;
        if cost > RULE_COST_MAX {
            let named = if what.is_empty() {
                "rule"
            } else {
                "messageExpression"
            };
            let why = exceeded(&format!("estimated {named} cost"), cost, RULE_COST_MAX);
            self.errors.push(source.forbidden(why));
        }
        self.total = self.total.saturating_add(cost);
        if cost >= SCHEMA_COST_MAX / 100 {
            self.dearest.push((cost, source.path.clone()));
        }
    }

    fn transition(&mut self, program: &Program, rule: &Field, place: &Place) {
        let source = rule.get("rule");
        let optional = rule.get("optionalOldSelf");
        match (program.uses("oldSelf"), &place.uncorrelatable) {
            (true, Some(list)) => self.errors.push(source.invalid(format!(
                "oldSelf cannot be used on the uncorrelatable portion of the schema within {list}"
            ))),
            (false, _) if optional.is_set() => {
                let why = "may not be set if oldSelf is not used in rule";
                self.errors.push(optional.invalid(why));
            }
            _ => {}
        }
    }

    fn finish(mut self, path: &str) {
        if self.total <= SCHEMA_COST_MAX {
            return;
        }
        self.dearest.sort_by_key(|(cost, _)| std::cmp::Reverse(*cost));
        for (_, path) in self.dearest.iter().take(NAMED_MAX) {
            let why =
                "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
            self.errors.push(FieldError::forbidden(path, why));
        }
        let named = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        let why = exceeded(named, self.total, SCHEMA_COST_MAX);
        self.errors.push(FieldError::forbidden(path, why));
    }
}

/// The text about a cost that is too high.
fn exceeded(named: &str, cost: u64, max: u64) -> String {
    let times = cost as f64 / max as f64;
    let factor = match times {
        _ if times > 100.0 => "more than 100x".to_owned(),
        _ if times < 1.5 => format!("{times:.6}x"),
        _ => format!("{times:.1}x"),
    };
    format!(
        "{named} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and \
         maxLength where arrays, maps, and strings are declared)"
    )
}

/// What is wrong with the words of a rule, before anybody asks what it means.
pub fn words(rule: &Field, schema: &Field, errors: &mut Vec<FieldError>) {
    let (source, message, computed) = (
        rule.get("rule"),
        rule.get("message"),
        rule.get("messageExpression"),
    );
    let broken = |field: &Field| field.text().trim().contains(['\n', '\r']);
    let blank = |field: &Field| field.text().trim().is_empty();
    if blank(&source) {
        errors.push(source.required("rule is not specified"));
    } else if !message.is_blank() && blank(&message) {
        errors.push(message.invalid("must be non-empty if specified"));
    } else if broken(&message) {
        errors.push(message.invalid("must not contain line breaks"));
    } else if broken(&source) && blank(&message) {
        errors.push(message.required("message must be specified if rule contains line breaks"));
    }
    if !computed.is_blank() && blank(&computed) {
        errors.push(computed.required("messageExpression must be non-empty if specified"));
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

/// The path that a refusal names must be one of the schema.
fn field_path(path: &Field, schema: &Field, errors: &mut Vec<FieldError>) {
    if path.is_blank() {
        return;
    }
    if path.text().trim().is_empty() {
        errors.push(path.invalid("must be non-empty if specified"));
    }
    if path.text().contains(['\n', '\r']) {
        errors.push(path.invalid("must not contain line breaks"));
    }
    if paths::member(path.text(), schema.value, true).is_err() {
        errors.push(path.invalid("must be a valid path"));
    }
}
