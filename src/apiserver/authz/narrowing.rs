//! What selectors narrow a question to: listing the pods of one node is less than listing all. Pure.
//!
//! What cannot be read narrows nothing: a question without it asks for more, so whoever may that may this too.

use std::collections::BTreeSet;

use api::selector::{FieldSelector, LabelSelector, Operator, Requirement};
use api::value::{get, list, text};
use serde_json::{Value, json};

/// One condition that everything asked for meets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Narrowed {
    /// The field or the label's key.
    pub key: String,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    pub operator: &'static str,
    /// With what.
    pub values: Vec<String>,
}

/// All that is asked for meets these. The default narrows nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Narrowing {
    /// Conditions on fields.
    pub fields: Vec<Narrowed>,
    /// Conditions on labels.
    pub labels: Vec<Narrowed>,
    /// What of it could not be read, in Kubernetes' words.
    pub ignored: Vec<String>,
}

impl Narrowed {
    fn new(key: &str, operator: &'static str, values: impl IntoIterator<Item = String>) -> Self {
        Self {
            key: key.to_owned(),
            operator,
            values: values.into_iter().collect(),
        }
    }

    fn of_requirement(requirement: &Requirement) -> Option<Self> {
        let operator = match requirement.operator {
            Operator::Equals | Operator::In => "In",
            Operator::NotEquals | Operator::NotIn => "NotIn",
            Operator::Exists => "Exists",
            Operator::DoesNotExist => "DoesNotExist",
            Operator::GreaterThan | Operator::LessThan => return None,
        };
        let values = requirement.values.iter().cloned();
        Some(Self::new(&requirement.key, operator, values))
    }

    fn shown(&self) -> Value {
        match self.values.is_empty() {
            true => json!({"key": self.key, "operator": self.operator}),
            false => json!({"key": self.key, "operator": self.operator, "values": self.values}),
        }
    }
}

impl Narrowing {
    /// That of selectors as they are written in requests and expressions; empty for none.
    pub fn of_texts(fields: &str, labels: &str) -> Self {
        let mut made = Self::default();
        made.fields = made.read("fieldSelector", of_fields(fields));
        made.labels = made.read("labelSelector", of_labels(labels));
        made
    }

    /// That of a review's `resourceAttributes`.
    pub fn of_review(attributes: &Value) -> Self {
        let mut made = Self::default();
        let of = |key: &str, texts: fn(&str) -> Read, one: fn(&Value) -> Option<Narrowed>| {
            let selector = get(attributes, key);
            match list(selector, "requirements") {
                [] => texts(text(selector, "rawSelector")),
                all => all.iter().map(one).collect(),
            }
        };
        made.fields = made.read("fieldSelector", of("fieldSelector", of_fields, field_of_review));
        made.labels = made.read("labelSelector", of("labelSelector", of_labels, label_of_review));
        made
    }

    /// Whether only objects with that value of a field are asked for.
    pub fn field_is(&self, field: &str, value: &str) -> bool {
        let wanted = |one: &Narrowed| one.key == field && one.operator == "In" && one.values == [value];
        self.fields.iter().any(wanted)
    }

    /// The selectors of a review that asks this, by their names.
    pub fn shown(&self) -> impl Iterator<Item = (&'static str, Value)> {
        let named = [("fieldSelector", &self.fields), ("labelSelector", &self.labels)];
        named
            .into_iter()
            .filter(|(_, all)| !all.is_empty())
            .map(|(name, all)| {
                let all: Vec<Value> = all.iter().map(Narrowed::shown).collect();
                (name, json!({ "requirements": all }))
            })
    }

    /// What could be read; it is noted if that is not all.
    fn read(&mut self, what: &str, read: Read) -> Vec<Narrowed> {
        let (all, found) = (read.0.len(), read.0.into_iter().flatten().collect::<Vec<_>>());
        if found.len() < all {
            let part = if found.is_empty() { "" } else { "partially " };
            self.ignored.push(format!(
                "spec.resourceAttributes.{what} {part}ignored due to parse error"
            ));
        }
        found
    }
}

/// What became of each condition: `None` for one that could not be read.
struct Read(Vec<Option<Narrowed>>);

impl FromIterator<Option<Narrowed>> for Read {
    fn from_iter<I: IntoIterator<Item = Option<Narrowed>>>(all: I) -> Self {
        Self(all.into_iter().collect())
    }
}

fn of_fields(text: &str) -> Read {
    let Ok(selector) = FieldSelector::parse(text) else {
        return Read(vec![None]);
    };
    let terms = selector.terms.into_iter().map(|term| {
        let operator = if term.equal { "In" } else { "NotIn" };
        Some(Narrowed::new(&term.field, operator, [term.value]))
    });
    terms.collect()
}

fn of_labels(text: &str) -> Read {
    match LabelSelector::parse(text) {
        Ok(selector) => selector
            .requirements()
            .iter()
            .map(Narrowed::of_requirement)
            .collect(),
        Err(_) => Read(vec![None]),
    }
}

fn values(requirement: &Value) -> Vec<String> {
    let all = list(requirement, "values").iter();
    all.filter_map(|value| value.as_str().map(str::to_owned))
        .collect()
}

/// Of fields, only one value can be asked for.
fn field_of_review(requirement: &Value) -> Option<Narrowed> {
    let operator = match text(requirement, "operator") {
        "In" => "In",
        "NotIn" => "NotIn",
        _ => return None,
    };
    let values = values(requirement);
    (values.len() == 1).then(|| Narrowed::new(text(requirement, "key"), operator, values))
}

fn label_of_review(requirement: &Value) -> Option<Narrowed> {
    let operator = match text(requirement, "operator") {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        _ => return None,
    };
    let values: BTreeSet<String> = values(requirement).into_iter().collect();
    let made = Requirement::new(text(requirement, "key"), operator, values).ok()?;
    Narrowed::of_requirement(&made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_read_however_they_are_written() {
        let written = Narrowing::of_texts("spec.nodeName=a,status.phase!=Failed", "app in (x,y),!old");
        let review = json!({
            "fieldSelector": {"requirements": [
                {"key": "spec.nodeName", "operator": "In", "values": ["a"]},
                {"key": "status.phase", "operator": "NotIn", "values": ["Failed"]}]},
            "labelSelector": {"requirements": [
                {"key": "app", "operator": "In", "values": ["y", "x"]}, {"key": "old", "operator": "DoesNotExist"}]},
        });
        assert_eq!(Narrowing::of_review(&review), written);
        assert!(written.field_is("spec.nodeName", "a") && !written.field_is("status.phase", "Failed"));
        let shown: serde_json::Map<String, Value> = written
            .shown()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        assert_eq!(Narrowing::of_review(&Value::Object(shown)), written);
        let raw = json!({"fieldSelector": {"rawSelector": "spec.nodeName==a"}});
        assert!(Narrowing::of_review(&raw).field_is("spec.nodeName", "a"));
        assert_eq!(Narrowing::of_review(&json!({})), Narrowing::default());
    }

    #[test]
    fn what_cannot_be_read_narrows_nothing() {
        let review = json!({
            "fieldSelector": {"requirements": [
                {"key": "a", "operator": "In", "values": ["x", "y"]}, {"key": "b", "operator": "In", "values": ["x"]}]},
            "labelSelector": {"rawSelector": "=="},
        });
        let read = Narrowing::of_review(&review);
        assert_eq!((read.fields.len(), read.labels.len()), (1, 0));
        assert_eq!(
            read.ignored,
            [
                "spec.resourceAttributes.fieldSelector partially ignored due to parse error",
                "spec.resourceAttributes.labelSelector ignored due to parse error"
            ]
        );
    }
}
