//! A parsed document that has lost nothing: numbers as written, duplicate keys
//! side by side, in the order of the text.

use std::borrow::Cow;

use serde_json::{Map, Number, Value};

/// One value of a document.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Tree<'a> {
    Null,
    Bool(bool),
    /// The digits as written.
    Number(Cow<'a, str>),
    String(Cow<'a, str>),
    Array(Vec<Tree<'a>>),
    Object(Vec<Entry<'a>>),
}

/// One key and value of an object.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry<'a> {
    pub key: Cow<'a, str>,
    /// Line of the key, counted from 1; 0 when unknown.
    pub line: u64,
    pub value: Tree<'a>,
}

impl Tree<'_> {
    /// Go's word for the value's JSON type.
    pub fn go_word(&self) -> Cow<'static, str> {
        match self {
            Tree::Null => "null".into(),
            Tree::Bool(_) => "bool".into(),
            Tree::Number(text) => format!("number {text}").into(),
            Tree::String(_) => "string".into(),
            Tree::Array(_) => "array".into(),
            Tree::Object(_) => "object".into(),
        }
    }

    /// The last value of a key, if this is an object.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Tree::Object(entries) => entries.iter().rev().find(|e| e.key == key).map(|e| &e.value),
            _ => None,
        }
    }

    /// The text, if this is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Tree::String(text) => Some(text),
            _ => None,
        }
    }

    /// As a plain value; of duplicate keys the last one counts.
    pub fn into_value(self) -> Value {
        match self {
            Tree::Null => Value::Null,
            Tree::Bool(flag) => Value::Bool(flag),
            Tree::Number(text) => number(&text).map_or(Value::Null, Value::Number),
            Tree::String(text) => Value::String(text.into_owned()),
            Tree::Array(items) => Value::Array(items.into_iter().map(Tree::into_value).collect()),
            Tree::Object(entries) => {
                let mut map = Map::new();
                for entry in entries {
                    map.insert(entry.key.into_owned(), entry.value.into_value());
                }
                Value::Object(map)
            }
        }
    }
}

impl From<Value> for Tree<'_> {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Tree::Null,
            Value::Bool(flag) => Tree::Bool(flag),
            Value::Number(number) => Tree::Number(Cow::Owned(number.to_string())),
            Value::String(text) => Tree::String(Cow::Owned(text)),
            Value::Array(items) => Tree::Array(items.into_iter().map(Tree::from).collect()),
            Value::Object(map) => Tree::Object(
                map.into_iter()
                    .map(|(key, value)| Entry {
                        key: Cow::Owned(key),
                        line: 0,
                        value: value.into(),
                    })
                    .collect(),
            ),
        }
    }
}

/// A JSON number: whole numbers stay whole when they fit.
pub(super) fn number(text: &str) -> Option<Number> {
    if let Ok(whole) = text.parse::<i64>() {
        return Some(whole.into());
    }
    if let Ok(whole) = text.parse::<u64>() {
        return Some(whole.into());
    }
    text.parse::<f64>().ok().and_then(Number::from_f64)
}
