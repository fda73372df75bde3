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
pub use labels::Labels;
pub use requirement::{FieldTerm, Operator, Requirement};

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

mod labels;
mod parse;
mod requirement;

#[cfg(test)]
mod tests;
