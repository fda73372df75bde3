//! Validation rules in CEL (`x-kubernetes-validations`).

use std::collections::HashMap;

use serde_json::Value;

use super::check::{old_item, type_of};
use crate::cel::{Budget, EXCEEDED, Program, Scope, Val};
use crate::status::{FieldError, FieldErrorKind};
use crate::value::{flag, get, list, text};

/// What one rule may cost.
const RULE_COST_MAX: u64 = 1_000_000;
/// What all rules of one write may cost together.
const TOTAL_COST_MAX: u64 = 10_000_000;
/// The longest message that a rule may compute, bytes.
const MESSAGE_MAX: usize = 5 * 1024;

/// The compiled rules of a schema, by their text.
pub struct Rules {
    programs: HashMap<String, Program>,
}

impl Rules {
    /// Compiles the rules of a schema; those that do not compile were refused with the definition.
    pub fn of(schema: &Value) -> Self {
        let mut programs = HashMap::new();
        gather(schema, &mut programs);
        Self { programs }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.programs.is_empty()
    }

    /// What the rules say of an object.
    pub fn check(&self, object: &Value, old: Option<&Value>, schema: &Value) -> Vec<FieldError> {
        if self.is_empty() {
            return Vec::new();
        }
        let mut asked = Asked {
            rules: self,
            left: TOTAL_COST_MAX,
            errors: Vec::new(),
        };
        asked.value("", object, old, schema);
        asked.errors
    }
}

fn gather(schema: &Value, programs: &mut HashMap<String, Program>) {
    match schema {
        Value::Object(map) => {
            for rule in list(schema, "x-kubernetes-validations") {
                for key in ["rule", "messageExpression"] {
                    let source = text(rule, key);
                    if !source.is_empty()
                        && let Ok(program) = Program::compile(source, &["self", "oldSelf"])
                    {
                        programs.insert(source.to_owned(), program);
                    }
                }
            }
            map.values().for_each(|inner| gather(inner, programs));
        }
        Value::Array(items) => items.iter().for_each(|inner| gather(inner, programs)),
        _ => {}
    }
}

struct Asked<'r> {
    rules: &'r Rules,
    /// What may still be spent.
    left: u64,
    errors: Vec<FieldError>,
}

impl Asked<'_> {
    fn value(&mut self, path: &str, value: &Value, old: Option<&Value>, schema: &Value) {
        if value.is_null() {
            return;
        }
        for rule in list(schema, "x-kubernetes-validations") {
            if self.left == 0 {
                return;
            }
            self.rule(path, value, old, schema, rule);
        }
        match value {
            Value::Object(map) => {
                let more = get(schema, "additionalProperties");
                for (name, held) in map {
                    let before = old.and_then(|old| old.get(name));
                    let below = if path.is_empty() {
                        name.clone()
                    } else {
                        format!("{path}.{name}")
                    };
                    match get(schema, "properties").get(name) {
                        Some(property) => self.value(&below, held, before, property),
                        None if more.is_object() => {
                            self.value(&format!("{path}[{name}]"), held, before, more)
                        }
                        None => {}
                    }
                }
            }
            Value::Array(items) => {
                let of = get(schema, "items");
                for (place, item) in items.iter().enumerate() {
                    self.value(&format!("{path}[{place}]"), item, old_item(item, old, schema), of);
                }
            }
            _ => {}
        }
    }

    fn rule(&mut self, path: &str, value: &Value, old: Option<&Value>, schema: &Value, rule: &Value) {
        let Some(program) = self.rules.programs.get(text(rule, "rule")) else {
            return;
        };
        let transition = program.uses("oldSelf");
        let optional = flag(rule, "optionalOldSelf");
        if transition && old.is_none() && !optional {
            return;
        }
        // What did not change was let pass before; a rule about changes is asked all the same.
        if !transition && old.is_some_and(|old| old == value) {
            return;
        }
        let scope = scope(value, old, schema, optional);
        match self.run(program, &scope) {
            Ok(Val::Bool(true)) => {}
            Ok(Val::Bool(false)) => {
                let message = self.message(rule, &scope);
                self.refuse(path, value, rule, message);
            }
            Ok(_) => self.refuse(path, value, rule, "the rule is neither true nor false".to_owned()),
            Err(why) => {
                let said = failure(&why, rule);
                if why == EXCEEDED {
                    self.left = 0;
                }
                self.refuse(path, value, &Value::Null, said);
            }
        }
    }

    fn run<'v>(&mut self, program: &Program, scope: &Scope<'v>) -> Result<Val<'v>, String> {
        let granted = RULE_COST_MAX.min(self.left);
        let mut budget = Budget::new(granted);
        let made = program.eval(scope, &mut budget);
        self.left = self.left.saturating_sub(granted - budget.left());
        made
    }

    /// The text of a refusal: computed, else written, else the rule itself.
    fn message(&mut self, rule: &Value, scope: &Scope<'_>) -> String {
        let computed = self.rules.programs.get(text(rule, "messageExpression"));
        if let Some(program) = computed
            && let Ok(Val::Text(said)) = self.run(program, scope)
        {
            let said = said.trim();
            if !said.is_empty() && !said.contains('\n') && said.len() <= MESSAGE_MAX {
                return said.to_owned();
            }
        }
        match text(rule, "message").trim() {
            "" => format!("failed rule: {}", text(rule, "rule").trim()),
            message => message.to_owned(),
        }
    }

    fn refuse(&mut self, path: &str, value: &Value, rule: &Value, message: String) {
        let path = format!("{path}{}", text(rule, "fieldPath"));
        let path = path.trim_start_matches('.');
        let path = if path.is_empty() { "<nil>" } else { path };
        let kind = match text(rule, "reason") {
            "FieldValueRequired" => FieldErrorKind::Required,
            "FieldValueForbidden" => FieldErrorKind::Forbidden,
            "FieldValueDuplicate" => FieldErrorKind::Duplicate,
            _ => FieldErrorKind::Invalid,
        };
        let value = matches!(kind, FieldErrorKind::Invalid | FieldErrorKind::Duplicate)
            .then(|| Value::from(type_of(value)));
        self.errors.push(FieldError {
            kind,
            path: path.to_owned(),
            value,
            detail: message,
        });
    }
}

fn scope<'v>(value: &'v Value, old: Option<&'v Value>, schema: &'v Value, optional: bool) -> Scope<'v> {
    let scope = Scope::new().with("self", Val::json(value, Some(schema)));
    let before = old.map(|old| Val::json(old, Some(schema)));
    match (before, optional) {
        (before, true) => scope.with("oldSelf", Val::Optional(before.map(std::rc::Rc::new))),
        (Some(before), false) => scope.with("oldSelf", before),
        (None, false) => scope,
    }
}

/// The text of a rule that could not be asked.
fn failure(why: &str, rule: &Value) -> String {
    let shown = match text(rule, "message").trim() {
        "" => text(rule, "rule").trim(),
        message => message,
    };
    match why {
        _ if why == EXCEEDED => {
            format!(
                "'{why}': no further validation rules will be run due to call cost exceeds limit for rule: {shown}"
            )
        }
        _ if why.starts_with("no such overload") => format!(
            "'{why}': call arguments did not match a supported operator, function or macro signature for rule: {shown}"
        ),
        _ => format!("{why} evaluating rule: {shown}"),
    }
}
