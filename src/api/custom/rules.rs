//! Validation rules in CEL (`x-kubernetes-validations`).

use std::collections::HashMap;

use serde_json::Value;

use super::check::old_item;
use super::paths::{self, Step};
use crate::cel::{Budget, EXCEEDED, Program, Scope, Val};
use crate::kind::Findings;
use crate::status::{FieldError, FieldErrorKind};
use crate::value::{Field, flag, get, list, text};

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

    /// What the rules say of an object, beyond what was `found` already.
    pub fn check(&self, object: &Field, old: Option<&Value>, schema: &Value, found: &mut Findings) {
        let mut asked = Asked {
            rules: self,
            left: TOTAL_COST_MAX,
            given_up: false,
            found,
        };
        let was = Was {
            value: old,
            same: old.is_some_and(|old| old == object.value),
        };
        asked.value(&object.path, object.value, was, schema);
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

/// What a value was before.
#[derive(Clone, Copy)]
struct Was<'v> {
    /// The old value, where one goes with the new one.
    value: Option<&'v Value>,
    /// Whether it is the same still, or part of what is.
    same: bool,
}

impl<'v> Was<'v> {
    /// What a member or item was that is `now`; `value` is the old one, if one goes with it.
    fn below(self, value: Option<&'v Value>, now: &Value) -> Was<'v> {
        let same = self.same || value.is_some_and(|value| value == now);
        Was { value, same }
    }
}

struct Asked<'r> {
    rules: &'r Rules,
    /// What may still be spent.
    left: u64,
    /// Whether no further rule is asked, since they cost too much.
    given_up: bool,
    found: &'r mut Findings,
}

impl Asked<'_> {
    fn value(&mut self, path: &str, value: &Value, was: Was<'_>, schema: &Value) {
        if value.is_null() {
            return;
        }
        for rule in list(schema, "x-kubernetes-validations") {
            if self.given_up {
                return;
            }
            self.rule(&Place { path, value, schema }, was, rule);
        }
        match value {
            Value::Object(map) => map
                .iter()
                .for_each(|(name, held)| self.member(path, name, held, was, schema)),
            Value::Array(items) => {
                let of = get(schema, "items");
                for (place, item) in items.iter().enumerate() {
                    let before = was.below(old_item(item, was.value, schema), item);
                    self.value(&format!("{path}[{place}]"), item, before, of);
                }
            }
            _ => {}
        }
    }

    fn member(&mut self, path: &str, name: &str, held: &Value, was: Was<'_>, schema: &Value) {
        // A map that is set as a whole has no members that stay.
        let atomic = text(schema, "x-kubernetes-map-type") == "atomic";
        let old = was.value.filter(|_| !atomic).and_then(|old| old.get(name));
        let before = was.below(old, held);
        let more = get(schema, "additionalProperties");
        match get(schema, "properties").get(name) {
            Some(property) => {
                let dot = if path.is_empty() { "" } else { "." };
                self.value(&format!("{path}{dot}{name}"), held, before, property);
            }
            None if more.is_object() => self.value(&format!("{path}[{name}]"), held, before, more),
            None => {}
        }
    }

    fn rule(&mut self, place: &Place<'_>, was: Was<'_>, rule: &Value) {
        let Some(program) = self.rules.programs.get(text(rule, "rule")) else {
            return;
        };
        let transition = program.uses("oldSelf");
        let optional = flag(rule, "optionalOldSelf");
        if transition && was.value.is_none() && !optional {
            return;
        }
        let scope = scope(place.value, was.value, place.schema, optional);
        match self.run(program, &scope) {
            Ok(Val::Bool(true)) => {}
            Ok(Val::Bool(false)) => {
                if let Some(message) = self.message(place, rule, &scope) {
                    let error = refusal(place, rule, message);
                    // What did not change was let pass before; a rule about changes holds all the same.
                    if was.same && !transition {
                        self.found.warnings.push(error.to_string());
                    } else {
                        self.found.errors.push(error);
                    }
                }
            }
            Ok(_) => self.fail(place, "the rule is neither true nor false".to_owned()),
            Err(Failed::OutOfBudget) => {
                let why = "validation failed due to running out of cost budget, no further validation rules will be run";
                self.give_up(place, why.to_owned());
            }
            Err(Failed::Because(why)) if why == EXCEEDED => self.give_up(place, failure(&why, rule)),
            Err(Failed::Because(why)) => self.fail(place, failure(&why, rule)),
        }
    }

    fn run<'v>(&mut self, program: &Program, scope: &Scope<'v>) -> Result<Val<'v>, Failed> {
        let granted = RULE_COST_MAX.min(self.left);
        let mut budget = Budget::new(granted);
        let made = program.eval(scope, &mut budget);
        self.left = self.left.saturating_sub(granted - budget.left());
        made.map_err(|why| match why == EXCEEDED && granted < RULE_COST_MAX {
            true => Failed::OutOfBudget,
            false => Failed::Because(why),
        })
    }

    /// The text of a refusal: computed, else written, else the rule itself; `None` when computing it cost too much.
    fn message(&mut self, place: &Place<'_>, rule: &Value, scope: &Scope<'_>) -> Option<String> {
        let source = text(rule, "messageExpression");
        if let Some(program) = self.rules.programs.get(source) {
            match self.run(program, scope) {
                Ok(Val::Text(said)) => {
                    let said = said.trim();
                    if !said.is_empty() && !said.contains('\n') && said.len() <= MESSAGE_MAX {
                        return Some(said.to_owned());
                    }
                }
                Err(Failed::OutOfBudget) => {
                    let why = "messageExpression evaluation failed due to running out of cost budget, no further \
                               validation rules will be run";
                    self.give_up(place, why.to_owned());
                    return None;
                }
                Err(Failed::Because(why)) if why == EXCEEDED => {
                    let why = "no further validation rules will be run due to call cost exceeds limit for \
                               messageExpression";
                    self.give_up(place, format!("{why}: {source:?}"));
                    return None;
                }
                _ => {}
            }
        }
        Some(match text(rule, "message").trim() {
            "" => format!("failed rule: {}", text(rule, "rule").trim()),
            message => message.to_owned(),
        })
    }

    /// A rule could not be asked: the error shows the type that the schema gives the value.
    fn fail(&mut self, place: &Place<'_>, why: String) {
        let shown = text(place.schema, "type");
        self.found
            .errors
            .push(FieldError::invalid(named(place.path), shown, why));
    }

    fn give_up(&mut self, place: &Place<'_>, why: String) {
        self.given_up = true;
        self.fail(place, why);
    }
}

/// A value, and where it is.
struct Place<'p> {
    path: &'p str,
    value: &'p Value,
    schema: &'p Value,
}

/// Why a program came to no value.
enum Failed {
    /// All that rules may cost together is spent.
    OutOfBudget,
    /// In the words of CEL.
    Because(String),
}

fn named(path: &str) -> &str {
    if path.is_empty() { "<nil>" } else { path }
}

/// The error that a rule's reason makes; objects and lists are not shown.
fn refusal(place: &Place<'_>, rule: &Value, message: String) -> FieldError {
    let path = format!(
        "{}{}",
        place.path,
        field_path(text(rule, "fieldPath"), place.schema)
    );
    let path = named(path.trim_start_matches('.')).to_owned();
    let composite = matches!(text(place.schema, "type"), "object" | "array");
    let value = (!composite).then(|| place.value.clone());
    let (kind, value, detail) = match text(rule, "reason") {
        "FieldValueRequired" => (FieldErrorKind::Required, None, message),
        "FieldValueForbidden" => (FieldErrorKind::Forbidden, None, message),
        "FieldValueDuplicate" => (FieldErrorKind::Duplicate, value, String::new()),
        _ => (FieldErrorKind::Invalid, value, message),
    };
    FieldError {
        kind,
        path,
        value,
        detail,
    }
}

/// The path that a rule names, as errors write it: members by dots, entries of maps in brackets.
fn field_path(path: &str, schema: &Value) -> String {
    let mut schema = schema;
    let mut shown = String::new();
    for step in paths::parse(path).unwrap_or_default() {
        let Step::Field(name) = step else { continue };
        match get(schema, "properties").get(&name) {
            Some(property) => {
                shown.push_str(&format!(".{name}"));
                schema = property;
            }
            None => {
                shown.push_str(&format!("[{name}]"));
                schema = get(schema, "additionalProperties");
            }
        }
    }
    shown
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
