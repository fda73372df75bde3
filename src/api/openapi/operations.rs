//! One operation of a path, as OpenAPI writes it down.

use serde_json::{Map, Value, json};

use super::form::Form;
use super::parameters::Parameter;

const READ_TYPES: &[&str] = &[
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
];
/// Watches come as streams of these besides.
const STREAM_TYPES: &[&str] = &[
    "application/json;stream=watch",
    "application/vnd.kubernetes.protobuf;stream=watch",
];
/// The last one is for built-in kinds: lists of custom ones have no merge keys.
const PATCH_TYPES: [&str; 4] = [
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

/// What an operation answers with.
pub(super) enum Answer {
    /// An object of that schema.
    Object(String),
    /// An object or a stream of events.
    Listed(String),
    /// Whatever somebody else says.
    Text,
}

/// One operation, before it is written down.
pub(super) struct Operation {
    pub action: &'static str,
    /// Unique in the document; generated clients make the names of their calls of it.
    pub id: String,
    pub description: String,
    /// Group, version and kind that it is about.
    pub target: Option<Value>,
    pub tag: String,
    /// Schema of the body.
    pub body: Option<String>,
    pub answer: Answer,
    pub parameters: Vec<Parameter>,
    /// Of a kind without merge keys.
    pub custom: bool,
}

impl Operation {
    /// The operation in a document.
    pub(super) fn write(self, form: Form) -> Value {
        let mut parameters: Vec<Value> = self.parameters.iter().map(|p| p.write("query", form)).collect();
        let mut made = json!({
            "description": self.description,
            "operationId": self.id,
            "tags": [self.tag],
        });
        if let Some(target) = &self.target {
            made["x-kubernetes-action"] = self.action.into();
            made["x-kubernetes-group-version-kind"] = target.clone();
        }
        if let Some(body) = &self.body {
            self.write_body(form, &form.reference(body), &mut made, &mut parameters);
        }
        if !parameters.is_empty() {
            made["parameters"] = parameters.into();
        }
        let produced = self.produced();
        if form == Form::V2 {
            made["produces"] = json!(produced);
            made["schemes"] = json!(["https"]);
        }
        made["responses"] = self.responses(form, &produced);
        made
    }

    fn write_body(&self, form: Form, schema: &Value, made: &mut Value, parameters: &mut Vec<Value>) {
        let media = self.consumed();
        let required = !matches!(self.action, "delete" | "deletecollection");
        if form == Form::V3 {
            made["requestBody"] = json!({"content": content(&media, schema)});
            if required {
                made["requestBody"]["required"] = true.into();
            }
            return;
        }
        made["consumes"] = json!(media);
        let mut written = json!({"name": "body", "in": "body", "schema": schema});
        if required {
            written["required"] = true.into();
        }
        parameters.push(written);
    }

    fn consumed(&self) -> Vec<&'static str> {
        match self.action {
            "patch" => {
                let merged = PATCH_TYPES.len() - usize::from(self.custom);
                PATCH_TYPES.into_iter().take(merged).collect()
            }
            _ => vec!["*/*"],
        }
    }

    fn produced(&self) -> Vec<&'static str> {
        match self.answer {
            Answer::Text => vec!["*/*"],
            Answer::Object(_) => READ_TYPES.to_vec(),
            Answer::Listed(_) => READ_TYPES.iter().chain(STREAM_TYPES).copied().collect(),
        }
    }

    fn responses(&self, form: Form, media: &[&'static str]) -> Value {
        let schema = match &self.answer {
            Answer::Object(name) | Answer::Listed(name) => form.reference(name),
            Answer::Text => json!({"type": "string"}),
        };
        let further: &[(&str, &str)] = match self.action {
            "post" => &[("201", "Created"), ("202", "Accepted")],
            "put" | "patch" => &[("201", "Created")],
            "delete" => &[("202", "Accepted")],
            _ => &[],
        };
        let mut made = Map::new();
        for (code, description) in [("200", "OK")].iter().chain(further) {
            let mut answer = json!({"description": description});
            match form {
                Form::V2 => answer["schema"] = schema.clone(),
                Form::V3 => answer["content"] = content(media, &schema),
            }
            made.insert((*code).to_owned(), answer);
        }
        made.insert("401".to_owned(), json!({"description": "Unauthorized"}));
        Value::Object(made)
    }
}

fn content(media: &[&str], schema: &Value) -> Value {
    let each = media
        .iter()
        .map(|media| ((*media).to_owned(), json!({"schema": schema})));
    Value::Object(each.collect())
}
