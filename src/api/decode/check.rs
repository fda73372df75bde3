//! A parsed document along a schema: known fields of the right type stay, the
//! rest is noted in the words of Kubernetes' decoder.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::tree::{Tree, number};
use crate::go;
use crate::schema::{Field, Node, Scalar, Schema, Type, TypeRef};

/// Kubernetes stops noting unknown and duplicate fields after so many.
const NOTES_MAX: usize = 100;

/// What came of a document.
pub(super) struct Checked {
    pub value: Value,
    /// `unknown field "…"` and `duplicate field "…"`, in the order of the text.
    pub notes: Vec<String>,
    /// The first value of a wrong type.
    pub type_error: Option<String>,
}

/// Checks a document that should be an object of the schema's kind.
pub(super) fn check(tree: Tree<'_>, schema: &Schema) -> Checked {
    check_with(Checker::default(), tree, schema)
}

/// Checks what the schema knows of a document; the rest stays as it is.
pub(super) fn check_known(tree: Tree<'_>, schema: &Schema) -> Checked {
    let checker = Checker {
        keeps_unknown: true,
        ..Checker::default()
    };
    check_with(checker, tree, schema)
}

fn check_with<'s>(mut checker: Checker<'s>, tree: Tree<'_>, schema: &'s Schema) -> Checked {
    let value = match tree {
        Tree::Null => Value::Object(Map::new()),
        tree => checker.structure(tree, &schema.root).unwrap_or_default(),
    };
    Checked {
        value,
        notes: checker.notes,
        type_error: checker.type_error,
    }
}

/// The duplicate fields of a document without a schema.
pub(super) fn duplicates(tree: &Tree<'_>) -> Vec<String> {
    let mut checker = Checker::default();
    checker.plain(tree);
    checker.notes
}

/// `'s` is the schema's.
#[derive(Default)]
struct Checker<'s> {
    notes: Vec<String>,
    type_error: Option<String>,
    /// Where we are, as notes show it: `spec.containers[0].name`.
    path: String,
    /// Where we are, as Go's type errors show it: struct fields only.
    go_path: Vec<&'s str>,
    /// The struct whose field is being read.
    owner: &'s str,
    /// Fields that the schema does not know stay, and nobody is told.
    keeps_unknown: bool,
    /// In a custom kind: null and values of a wrong type stay, for validation to judge.
    lenient: bool,
}

/// What the value is to become, for the texts of errors.
fn go_type(node: &Node, named: Option<&str>) -> String {
    match node {
        Node::Any => "runtime.RawExtension".to_owned(),
        Node::Struct(inner) => inner.go_name(),
        Node::List(item) => format!("[]{}", go_type(item, named)),
        Node::Map(value) => match **value {
            Node::Scalar(Scalar::Quantity) => "v1.ResourceList".to_owned(),
            _ => format!("map[string]{}", go_type(value, named)),
        },
        Node::Scalar(scalar) => match (named, scalar) {
            (Some(name), _) => name.to_owned(),
            (None, Scalar::Bool) => "bool".to_owned(),
            (None, Scalar::Int32) => "int32".to_owned(),
            (None, Scalar::Int64) => "int64".to_owned(),
            (None, Scalar::Double) => "float64".to_owned(),
            (None, Scalar::Bytes) => "[]uint8".to_owned(),
            (None, _) => "string".to_owned(),
        },
    }
}

impl<'s> Checker<'s> {
    fn note(&mut self, what: &str, key: &str) {
        if self.notes.len() < NOTES_MAX {
            let dot = if self.path.is_empty() { "" } else { "." };
            self.notes
                .push(format!("{what} field \"{}{dot}{key}\"", self.path));
        }
    }

    fn fail(&mut self, error: impl FnOnce(&Self) -> String) -> Option<Value> {
        if self.type_error.is_none() {
            self.type_error = Some(error(self));
        }
        None
    }

    fn mismatch(&mut self, tree: &Tree<'_>, wanted: &str) -> Option<Value> {
        // Go shows a number's digits only where a number was wanted.
        let wants_number = ["int32", "int64", "float64"].contains(&wanted);
        let word = tree.go_word();
        let word = if wants_number {
            &*word
        } else {
            word.split(' ').next().unwrap_or_default()
        };
        let word = word.to_owned();
        self.fail(|at| {
            if at.go_path.is_empty() {
                return format!("json: cannot unmarshal {word} into Go value of type {wanted}");
            }
            let (owner, path) = (&at.owner, at.go_path.join("."));
            format!("json: cannot unmarshal {word} into Go struct field {owner}.{path} of type {wanted}")
        })
    }

    /// Runs `inner` one step further down `path`.
    fn below<T>(&mut self, step: &str, inner: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.len();
        if !self.path.is_empty() && !step.starts_with('[') {
            self.path.push('.');
        }
        self.path.push_str(step);
        let out = inner(self);
        self.path.truncate(length);
        out
    }

    /// `None` for null and for what cannot be read: the field is absent.
    fn value(&mut self, tree: Tree<'_>, node: &'s Node, field: Option<&'s Field>) -> Option<Value> {
        let named = field.and_then(|f| f.go_name);
        match (node, tree) {
            (_, Tree::Null) if self.lenient => Some(Value::Null),
            (_, Tree::Null) => None,
            (Node::Any, tree) => Some(tree.into_value()),
            (Node::Struct(inner), tree) => self.structure(tree, inner),
            (Node::Scalar(scalar), tree) => self.scalar(tree, *scalar, named),
            (Node::List(item), Tree::Array(items)) => {
                let mut out = Vec::with_capacity(items.len());
                for (place, tree) in items.into_iter().enumerate() {
                    let read = self.below(&format!("[{place}]"), |c| c.value(tree, item, field));
                    out.push(read.unwrap_or_else(|| zero(item)));
                }
                Some(Value::Array(out))
            }
            (Node::Map(value), Tree::Object(entries)) => {
                let mut out = Map::new();
                for entry in entries {
                    let read = self.below(&entry.key, |c| c.value(entry.value, value, field));
                    let read = read.unwrap_or_else(|| zero(value));
                    if out.insert(entry.key.clone().into_owned(), read).is_some() {
                        self.note("duplicate", &entry.key);
                    }
                }
                Some(Value::Object(out))
            }
            (_, tree) if self.lenient => Some(tree.into_value()),
            (node, tree) => self.mismatch(&tree, &go_type(node, named)),
        }
    }

    fn structure(&mut self, tree: Tree<'_>, of: &'s TypeRef) -> Option<Value> {
        let Tree::Object(entries) = tree else {
            if self.lenient && matches!(of, TypeRef::Own(_)) {
                return Some(tree.into_value());
            }
            return self.mismatch(&tree, &of.go_name());
        };
        let lenient = std::mem::replace(&mut self.lenient, matches!(of, TypeRef::Own(_)));
        let made = of.get();
        let owner = std::mem::replace(&mut self.owner, &made.name);
        let mut out = Map::new();
        // Most objects are small, and one with a million keys takes no longer than its sorting.
        let mut seen = BTreeSet::new();
        for entry in entries {
            let duplicate = !seen.insert(entry.key.clone());
            if duplicate && (made.preserve_unknown || made.field(&entry.key).is_some()) {
                self.note("duplicate", &entry.key);
            }
            self.field(&mut out, &entry.key, entry.value, made);
        }
        self.owner = owner;
        self.lenient = lenient;
        Some(Value::Object(out))
    }

    fn field(&mut self, out: &mut Map<String, Value>, key: &str, tree: Tree<'_>, made: &'s Type) {
        let Some(field) = made.field(key) else {
            if made.preserve_unknown || self.keeps_unknown {
                out.insert(key.to_owned(), tree.into_value());
            } else {
                self.note("unknown", key);
            }
            return;
        };
        self.go_path.push(&field.name);
        let read = self.below(key, |c| c.value(tree, &field.node, Some(field)));
        self.go_path.pop();
        // Null leaves what an earlier duplicate said, as it does in Go.
        if let Some(value) = read {
            out.insert(key.to_owned(), value);
        }
    }

    fn scalar(&mut self, tree: Tree<'_>, scalar: Scalar, named: Option<&str>) -> Option<Value> {
        let wanted = || go_type(&Node::Scalar(scalar), named);
        match (scalar, tree) {
            (Scalar::String, Tree::String(text)) => Some(Value::String(text.into_owned())),
            (Scalar::Bool, Tree::Bool(flag)) => Some(Value::Bool(flag)),
            (Scalar::Int32, Tree::Number(text)) => match text.parse::<i32>() {
                Ok(whole) => Some(whole.into()),
                Err(_) => self.mismatch(&Tree::Number(text), "int32"),
            },
            (Scalar::Int64, Tree::Number(text)) => match text.parse::<i64>() {
                Ok(whole) => Some(whole.into()),
                Err(_) => self.mismatch(&Tree::Number(text), "int64"),
            },
            (Scalar::Double, Tree::Number(text)) => match number(&text) {
                Some(number) => Some(Value::Number(number)),
                None => self.mismatch(&Tree::Number(text), "float64"),
            },
            (Scalar::FieldsV1, tree) => Some(tree.into_value()),
            (Scalar::Bytes, Tree::String(text)) => self.custom(bytes(&text)),
            (Scalar::Quantity, tree) => self.custom(quantity(&tree)),
            (Scalar::IntOrString, tree) => self.custom(int_or_string(tree)),
            (Scalar::Time, tree) => self.custom(time(&tree, "2006-01-02T15:04:05Z07:00")),
            (Scalar::MicroTime, tree) => self.custom(time(&tree, "2006-01-02T15:04:05.000000Z07:00")),
            (Scalar::Duration, tree) => self.custom(duration(&tree)),
            (_, tree) => self.mismatch(&tree, &wanted()),
        }
    }

    fn custom(&mut self, read: Result<Value, String>) -> Option<Value> {
        match read {
            Ok(value) => Some(value),
            Err(text) => self.fail(|_| text),
        }
    }

    fn plain(&mut self, tree: &Tree<'_>) {
        match tree {
            Tree::Array(items) => {
                for (place, item) in items.iter().enumerate() {
                    self.below(&format!("[{place}]"), |c| c.plain(item));
                }
            }
            Tree::Object(entries) => {
                let mut seen = BTreeSet::new();
                for entry in entries {
                    if !seen.insert(entry.key.as_ref()) {
                        self.note("duplicate", &entry.key);
                    }
                    self.below(&entry.key, |c| c.plain(&entry.value));
                }
            }
            _ => {}
        }
    }
}

/// What Go has where a list or map holds null.
fn zero(node: &Node) -> Value {
    match node {
        Node::Any => Value::Null,
        Node::Struct(_) | Node::Map(_) => Value::Object(Map::new()),
        Node::List(_) => Value::Array(Vec::new()),
        Node::Scalar(scalar) => match scalar {
            Scalar::Bool => false.into(),
            Scalar::Int32 | Scalar::Int64 | Scalar::Double | Scalar::IntOrString => 0.into(),
            Scalar::Quantity => "0".into(),
            Scalar::Time | Scalar::MicroTime => Value::Null,
            Scalar::Duration => "0s".into(),
            Scalar::FieldsV1 => Value::Object(Map::new()),
            Scalar::String | Scalar::Bytes => "".into(),
        },
    }
}

fn not_text(tree: &Tree<'_>) -> String {
    let word = tree.go_word();
    let word = word.split(' ').next().unwrap_or_default();
    format!("json: cannot unmarshal {word} into Go value of type string")
}

fn bytes(text: &str) -> Result<Value, String> {
    use base64::Engine as _;
    // Go's decoder skips line ends.
    let clean: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    match base64::engine::general_purpose::STANDARD.decode(&clean) {
        Ok(_) => Ok(clean.into()),
        Err(error) => {
            let at = match error {
                base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => at,
                _ => clean.len() / 4 * 4,
            };
            Err(format!("illegal base64 data at input byte {at}"))
        }
    }
}

fn quantity(tree: &Tree<'_>) -> Result<Value, String> {
    let text = match tree {
        Tree::String(text) | Tree::Number(text) => text.trim(),
        _ => "",
    };
    if is_quantity(text) {
        return Ok(text.into());
    }
    let pattern = "'^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
    Err(format!("quantities must match the regular expression {pattern}"))
}

fn is_quantity(text: &str) -> bool {
    let text = text.strip_prefix(['+', '-']).unwrap_or(text);
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (digits, suffix) = text.split_at(end);
    let number = digits.contains(|c: char| c.is_ascii_digit()) && digits.matches('.').count() <= 1;
    let exponent = suffix.strip_prefix(['e', 'E']).is_some_and(|rest| {
        let rest = rest.strip_prefix(['+', '-']).unwrap_or(rest);
        !rest.is_empty() && rest.len() < 10 && rest.bytes().all(|b| b.is_ascii_digit())
    });
    let known = [
        "", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei",
    ];
    number && (exponent || known.contains(&suffix))
}

fn int_or_string(tree: Tree<'_>) -> Result<Value, String> {
    match tree {
        Tree::String(text) => Ok(Value::String(text.into_owned())),
        Tree::Number(text) => match text.parse::<i32>() {
            Ok(whole) => Ok(whole.into()),
            Err(_) => Err(format!(
                "json: cannot unmarshal number {text} into Go value of type int32"
            )),
        },
        other => {
            let word = other.go_word();
            Err(format!(
                "json: cannot unmarshal {word} into Go value of type int32"
            ))
        }
    }
}

fn time(tree: &Tree<'_>, layout: &str) -> Result<Value, String> {
    let Some(text) = tree.as_str() else {
        return Err(not_text(tree));
    };
    if text.parse::<jiff::Timestamp>().is_ok() {
        return Ok(text.into());
    }
    Err(format!(
        "parsing time {text:?} as {layout:?}: cannot parse {text:?} as \"2006\""
    ))
}

fn duration(tree: &Tree<'_>) -> Result<Value, String> {
    let Some(text) = tree.as_str() else {
        return Err(not_text(tree));
    };
    if go::parse_nanoseconds(text).is_some() {
        return Ok(text.into());
    }
    Err(format!("time: invalid duration {text:?}"))
}
