//! Label and field selectors: reading, checking, matching, printing
//! (apimachinery `labels`, `fields`, `apis/meta/v1`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use serde_json::Value;

use crate::kinds::metadata;
use crate::names;
use crate::status::FieldError;
use crate::value::{Field, entries, get, list, text};

/// Something in which a label or field can be looked up.
pub trait Labels {
    /// The value under a key.
    fn value_of(&self, key: &str) -> Option<&str>;
}

impl Labels for BTreeMap<String, String> {
    fn value_of(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}

impl<L: Labels> Labels for Option<L> {
    fn value_of(&self, key: &str) -> Option<&str> {
        self.as_ref()?.value_of(key)
    }
}

impl<K: AsRef<str>> Labels for [(K, String)] {
    fn value_of(&self, key: &str) -> Option<&str> {
        self.iter()
            .find(|(k, _)| k.as_ref() == key)
            .map(|(_, v)| v.as_str())
    }
}

impl<K: AsRef<str>> Labels for Vec<(K, String)> {
    fn value_of(&self, key: &str) -> Option<&str> {
        self.as_slice().value_of(key)
    }
}

impl Labels for Value {
    fn value_of(&self, key: &str) -> Option<&str> {
        Value::get(self, key)?.as_str()
    }
}

impl<L: Labels + ?Sized> Labels for &L {
    fn value_of(&self, key: &str) -> Option<&str> {
        (**self).value_of(key)
    }
}

/// How a requirement compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `key=value`: exactly one value.
    Equals,
    /// `key!=value`; an absent key is different too.
    NotEquals,
    /// `key in (a,b)`.
    In,
    /// `key notin (a,b)`; true for an absent key.
    NotIn,
    /// `key`.
    Exists,
    /// `!key`.
    DoesNotExist,
    /// `key>5`.
    GreaterThan,
    /// `key<5`.
    LessThan,
}

/// One condition of a label selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// How its value is compared.
    pub operator: Operator,
    /// With what.
    pub values: BTreeSet<String>,
}

impl Requirement {
    /// A requirement, checked.
    ///
    /// # Errors
    /// Kubernetes' text when key, values or their number do not fit.
    pub fn new(key: &str, operator: Operator, values: BTreeSet<String>) -> Result<Self, String> {
        if let Some(why) = join(names::is_qualified_name(key)) {
            return Err(format!("key: Invalid value: {key:?}: {why}"));
        }
        let shown = || {
            let list: Vec<String> = values.iter().map(|v| format!("{v:?}")).collect();
            format!("[{}]", list.join(","))
        };
        match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                return Err(
                    "values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty"
                        .into(),
                );
            }
            Operator::Equals | Operator::NotEquals if values.len() != 1 => {
                return Err(format!(
                    "values: Invalid value: {}: exact-match compatibility requires one single value",
                    shown()
                ));
            }
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                return Err(format!(
                    "values: Invalid value: {}: values set must be empty for exists and does not exist",
                    shown()
                ));
            }
            Operator::GreaterThan | Operator::LessThan => {
                if values.len() != 1 {
                    return Err(format!(
                        "values: Invalid value: {}: for 'Gt', 'Lt' operators, exactly one value is required",
                        shown()
                    ));
                }
                if let Some(bad) = values.iter().find(|v| v.parse::<i64>().is_err()) {
                    return Err(format!(
                        "values[0]: Invalid value: {bad:?}: for 'Gt', 'Lt' operators, the value must be an integer"
                    ));
                }
            }
            _ => {}
        }
        for (i, value) in values.iter().enumerate() {
            if let Some(why) = join(names::is_label_value(value)) {
                return Err(format!("values[{i}][{key}]: Invalid value: {value:?}: {why}"));
            }
        }
        Ok(Self {
            key: key.to_owned(),
            operator,
            values,
        })
    }

    /// Whether labels meet it.
    pub fn matches(&self, labels: &(impl Labels + ?Sized)) -> bool {
        let value = labels.value_of(&self.key);
        let among = |v: &str| self.values.contains(v);
        let compare = |f: fn(&i64, &i64) -> bool| {
            let (have, want) = (
                value.and_then(|v| v.parse().ok()),
                self.values.first().and_then(|v| v.parse().ok()),
            );
            matches!((have, want), (Some(a), Some(b)) if f(&a, &b))
        };
        match self.operator {
            Operator::Equals | Operator::In => value.is_some_and(among),
            Operator::NotEquals | Operator::NotIn => !value.is_some_and(among),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => compare(i64::gt),
            Operator::LessThan => compare(i64::lt),
        }
    }
}

fn join(why: Vec<String>) -> Option<String> {
    (!why.is_empty()).then(|| why.join("; "))
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one = self.values.first().map_or("", String::as_str);
        let all = || {
            self.values
                .iter()
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(",")
        };
        match self.operator {
            Operator::Equals => write!(f, "{}={one}", self.key),
            Operator::NotEquals => write!(f, "{}!={one}", self.key),
            Operator::In => write!(f, "{} in ({})", self.key, all()),
            Operator::NotIn => write!(f, "{} notin ({})", self.key, all()),
            Operator::Exists => write!(f, "{}", self.key),
            Operator::DoesNotExist => write!(f, "!{}", self.key),
            Operator::GreaterThan => write!(f, "{}>{one}", self.key),
            Operator::LessThan => write!(f, "{}<{one}", self.key),
        }
    }
}

/// A label selector: all requirements must hold. The default selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
    nothing: bool,
}

impl LabelSelector {
    /// Selects every object.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Selects no object.
    pub fn nothing() -> Self {
        Self {
            requirements: Vec::new(),
            nothing: true,
        }
    }

    /// Selects by requirements, which it sorts by key.
    pub fn new(mut requirements: Vec<Requirement>) -> Self {
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Self {
            requirements,
            nothing: false,
        }
    }

    /// Reads the text form, such as `app=web,tier in (a,b),!old`.
    ///
    /// # Errors
    /// Kubernetes' text.
    pub fn parse(text: &str) -> Result<Self, String> {
        parse::selector(text).map(Self::new)
    }

    /// Selects objects that have all of these labels; an empty map selects everything.
    pub fn from_map(map: &BTreeMap<String, String>) -> Self {
        Self::new(map.iter().map(|(k, v)| equals(k, v)).collect())
    }

    /// Reads a `LabelSelector` object; absent selects nothing, empty selects everything, and one that
    /// validation would refuse selects nothing.
    pub fn from_json(selector: &Value) -> Self {
        if selector.is_null() {
            return Self::nothing();
        }
        let mut all: Vec<Requirement> = entries(selector, "matchLabels")
            .map(|(k, v)| equals(k, v.as_str().unwrap_or("")))
            .collect();
        for expression in list(selector, "matchExpressions") {
            let values = list(expression, "values")
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect();
            match expression_requirement(text(expression, "key"), text(expression, "operator"), values) {
                Some(requirement) => all.push(requirement),
                None => return Self::nothing(),
            }
        }
        Self::new(all)
    }

    /// Reads a typed `LabelSelector`, as [`LabelSelector::from_json`] does.
    pub fn from_typed(selector: Option<&meta::LabelSelector>) -> Self {
        let Some(selector) = selector else {
            return Self::nothing();
        };
        let mut all: Vec<Requirement> = selector
            .match_labels
            .iter()
            .flatten()
            .map(|(k, v)| equals(k, v))
            .collect();
        for expression in selector.match_expressions.iter().flatten() {
            let values = expression.values.iter().flatten().cloned().collect();
            match expression_requirement(&expression.key, &expression.operator, values) {
                Some(requirement) => all.push(requirement),
                None => return Self::nothing(),
            }
        }
        Self::new(all)
    }

    /// Its requirements.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Whether it selects every object.
    pub fn is_everything(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }

    /// Whether it selects an object with these labels.
    pub fn matches(&self, labels: &(impl Labels + ?Sized)) -> bool {
        !self.nothing && self.requirements.iter().all(|r| r.matches(labels))
    }
}

fn equals(key: &str, value: &str) -> Requirement {
    Requirement {
        key: key.to_owned(),
        operator: Operator::Equals,
        values: BTreeSet::from([value.to_owned()]),
    }
}

fn expression_requirement(key: &str, operator: &str, values: BTreeSet<String>) -> Option<Requirement> {
    let operator = match operator {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        _ => return None,
    };
    Requirement::new(key, operator, values).ok()
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, requirement) in self.requirements.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            write!(f, "{requirement}")?;
        }
        Ok(())
    }
}

/// A `LabelSelector` object as kubectl's tables print it: its text, or `<none>`.
pub fn format(selector: &Value) -> String {
    let text = LabelSelector::from_json(selector).to_string();
    if text.is_empty() {
        "<none>".to_owned()
    } else {
        text
    }
}

/// What is wrong with a `LabelSelector` object.
pub fn validate(selector: &Field, errors: &mut Vec<FieldError>) {
    metadata::labels(&selector.get("matchLabels"), errors);
    for expression in selector.items("matchExpressions") {
        if !has_its_values(&expression, errors) {
            errors.push(
                expression
                    .get("operator")
                    .invalid("not a valid selector operator"),
            );
        }
        let key = expression.get("key");
        errors.extend(key.invalid_each(names::is_qualified_name(key.text())));
        for value in expression.items("values") {
            errors.extend(value.invalid_each(names::is_label_value(value.text())));
        }
    }
}

/// Checks that a requirement has as many values as its operator takes; whether the operator is one of those that label
/// selectors have.
pub fn has_its_values(requirement: &Field, errors: &mut Vec<FieldError>) -> bool {
    let values = requirement.get("values");
    match requirement.get("operator").text() {
        "In" | "NotIn" if values.is_blank() => {
            errors.push(values.required("must be specified when `operator` is 'In' or 'NotIn'"));
        }
        "Exists" | "DoesNotExist" if !values.is_blank() => {
            errors
                .push(values.forbidden("may not be specified when `operator` is 'Exists' or 'DoesNotExist'"));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        _ => return false,
    }
    true
}

/// Whether a selector object is absent or without any requirement.
pub fn is_empty(selector: &Value) -> bool {
    entries(selector, "matchLabels").next().is_none() && list(selector, "matchExpressions").is_empty()
}

/// Whether the labels at `labels` fit the selector object at `selector`.
pub fn selects(object: &Value, selector: &str, labels: &str) -> bool {
    LabelSelector::from_json(get(object, selector)).matches(get(object, labels))
}

/// One condition of a field selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldTerm {
    /// The field's label, such as `spec.nodeName`.
    pub field: String,
    /// The value.
    pub value: String,
    /// Whether the field must have that value, or must not.
    pub equal: bool,
}

/// A field selector: all terms must hold. The default selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    /// Its terms.
    pub terms: Vec<FieldTerm>,
}

impl FieldSelector {
    /// Reads the text form, such as `spec.nodeName=a,status.phase!=Running`.
    ///
    /// # Errors
    /// Kubernetes' text.
    pub fn parse(text: &str) -> Result<Self, String> {
        parse::field_terms(text).map(|terms| Self { terms })
    }

    /// Whether it selects every object.
    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    /// Whether it selects an object with these field values; an absent field counts as empty.
    pub fn matches(&self, fields: &(impl Labels + ?Sized)) -> bool {
        self.terms
            .iter()
            .all(|t| (fields.value_of(&t.field).unwrap_or("") == t.value) == t.equal)
    }

    /// Checks the labels against a kind, and replaces aliases.
    ///
    /// # Errors
    /// Kubernetes' text when the kind does not have such a field.
    pub fn for_kind(mut self, kind: &crate::kind::Kind) -> Result<Self, String> {
        for term in &mut self.terms {
            term.field = kind.field_label(&term.field)?.to_owned();
        }
        Ok(self)
    }

    /// The name it asks for, if it asks for exactly one.
    pub fn exact_name(&self) -> Option<&str> {
        self.terms
            .iter()
            .find(|t| t.equal && t.field == "metadata.name")
            .map(|t| t.value.as_str())
    }
}

mod parse;

#[cfg(test)]
mod tests;
