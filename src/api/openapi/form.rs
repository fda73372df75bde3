//! Which sort of document is made.

use serde_json::{Value, json};

/// Which of the two forms a document has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    V2,
    V3,
}

impl Form {
    pub fn definitions_path(self) -> &'static str {
        match self {
            Form::V2 => "/definitions",
            Form::V3 => "/components/schemas",
        }
    }

    pub fn reference(self, name: &str) -> Value {
        json!({"$ref": format!("#{}/{name}", self.definitions_path())})
    }
}
