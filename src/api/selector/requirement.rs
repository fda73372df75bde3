//! One term of a selector.

use std::collections::BTreeSet;
use std::fmt;

use super::labels::Labels;
use crate::names;

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
