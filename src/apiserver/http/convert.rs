//! From stored JSON to the form that a client asked for.

use std::sync::Arc;

use api::kind::KindRef;
use api::status::Status;
use api::table::{self, Include};
use api::text::Text;
use base::Clock;
use bytes::Bytes;
use serde_json::Value;

use super::negotiate::{Form, Format, Shape};
use super::query::Query;
use crate::forms::Forms;

/// How an answer is to be changed before it is sent.
#[derive(Clone)]
pub struct Conversion {
    /// What the client takes.
    pub form: Form,
    /// The kind of the objects; needed for tables.
    pub kind: Option<KindRef>,
    /// What table rows carry (`includeObject`).
    pub include: Include,
    /// Whether people will read the JSON.
    pub pretty: bool,
    /// For ages in tables.
    pub clock: Arc<dyn Clock>,
    /// Events that others have had converted.
    pub forms: Arc<Forms<EventForm>>,
}

/// The form of an event's object.
#[derive(PartialEq)]
pub struct EventForm {
    kind: Option<KindRef>,
    shape: Shape,
    beta: bool,
    table: Option<TableForm>,
}

/// What there is to choose of a table.
#[derive(PartialEq)]
struct TableForm {
    include: Include,
    headers: bool,
    /// Ages are told by it.
    second: i64,
}

/// The `includeObject` parameter; 400 for anything but its three values.
pub fn include(query: &Query) -> Result<Include, Status> {
    match query.get("includeObject").unwrap_or_default() {
        "" | "Metadata" => Ok(Include::Metadata),
        "None" => Ok(Include::None),
        "Object" => Ok(Include::Object),
        other => Err(Status::bad_request(format!(
            "unrecognized includeObject value: {other:?}"
        ))),
    }
}

/// Whether people will read the answer: asked for, or fetched with a tool for people.
pub fn pretty(query: &Query, user_agent: &str) -> bool {
    match query.get("pretty") {
        Some(_) => query.flag("pretty"),
        None => ["curl", "Wget", "Mozilla/5.0"]
            .iter()
            .any(|tool| user_agent.starts_with(tool)),
    }
}

impl Conversion {
    /// Whether the stored text can be sent as it is.
    fn idle(&self) -> bool {
        self.form.shape == Shape::Whole && self.form.format == Format::Json && !self.pretty
    }

    /// The whole body of an answer.
    pub fn body(&self, text: Text) -> Result<Text, Status> {
        if self.idle() {
            return Ok(text);
        }
        let value: Value = serde_json::from_slice(&text.whole()).map_err(Status::internal)?;
        self.write(&self.shape(value, true)).map(Text::from)
    }

    /// The object of a watch event; `first` says whether a table's columns must be told.
    pub fn event(&self, text: &Bytes, first: bool) -> Result<Bytes, Status> {
        if self.form.shape == Shape::Whole {
            return Ok(text.clone());
        }
        let form = self.event_form(first);
        if let Some(made) = self.forms.find(text, &form) {
            return Ok(made);
        }
        let value: Value = serde_json::from_slice(text).map_err(Status::internal)?;
        let made = self.shape(value, first).to_string().into();
        self.forms.keep(text, form, &made);
        Ok(made)
    }

    fn event_form(&self, headers: bool) -> EventForm {
        let table = (self.form.shape == Shape::Table).then(|| TableForm {
            include: self.include,
            headers,
            second: self.clock.now().as_second(),
        });
        EventForm {
            kind: self.kind.clone(),
            shape: self.form.shape,
            beta: self.form.beta,
            table,
        }
    }

    fn shape(&self, value: Value, headers: bool) -> Value {
        // What says how a request ended is sent as it is.
        if value["kind"] == "Status" {
            return value;
        }
        let mut made = match (self.form.shape, &self.kind) {
            (Shape::Table, Some(kind)) => table::table(kind, &value, self.include, headers, self.clock.now()),
            (Shape::Metadata, _) => table::partial(&value),
            _ => return value,
        };
        if self.form.beta {
            made["apiVersion"] = "meta.k8s.io/v1beta1".into();
        }
        made
    }

    fn write(&self, value: &Value) -> Result<Bytes, Status> {
        let text = match self.form.format {
            Format::Yaml => serde_saphyr::to_string(value).map_err(Status::internal)?,
            Format::Json if self.pretty => {
                serde_json::to_string_pretty(value).map_err(Status::internal)? + "\n"
            }
            Format::Json => value.to_string(),
        };
        Ok(text.into())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use base::ManualClock;

    use super::*;

    /// A conversion that changes nothing.
    pub fn idle() -> Conversion {
        Conversion {
            form: Form::default(),
            kind: None,
            include: Include::Metadata,
            pretty: false,
            clock: Arc::new(ManualClock::default()),
            forms: Arc::default(),
        }
    }

    #[test]
    fn text_passes_through_or_is_rewritten() {
        let plain = idle();
        let text = Bytes::from_static(br#"{"kind":"ConfigMap","data":{"a":"1"}}"#);
        assert_eq!(plain.body(text.clone().into()).unwrap().whole(), text);
        let yaml = Conversion {
            form: Form {
                format: Format::Yaml,
                ..Form::default()
            },
            ..plain.clone()
        };
        let written = yaml.body(text.clone().into()).unwrap().whole();
        let back: Value = serde_saphyr::from_str(std::str::from_utf8(&written).unwrap()).unwrap();
        assert_eq!(back["data"]["a"], "1");
        let pretty = Conversion {
            pretty: true,
            ..plain
        };
        assert!(pretty.body(text.into()).unwrap().whole().starts_with(b"{\n  \""));
    }

    #[test]
    fn watchers_of_a_table_share_its_rows_and_ages_go_on() {
        let clock = Arc::new(ManualClock::default());
        let table = Conversion {
            form: Form {
                shape: Shape::Table,
                ..Form::default()
            },
            kind: api::kinds::find("", "v1", "configmaps").map(KindRef::from),
            clock: clock.clone(),
            ..idle()
        };
        let text = br#"{"metadata":{"name":"a","creationTimestamp":"1970-01-01T00:00:00Z"}}"#;
        let text = Bytes::from_static(text);
        let first = table.event(&text, false).unwrap();
        let another = table.clone().event(&text, false).unwrap();
        assert_eq!(first.as_ptr(), another.as_ptr(), "it was made once");
        clock.advance(std::time::Duration::from_secs(90));
        let later: Value = serde_json::from_slice(&table.event(&text, false).unwrap()).unwrap();
        assert_eq!(later["rows"][0]["cells"], serde_json::json!(["a", 0, "90s"]));
        let told: Value = serde_json::from_slice(&table.event(&text, true).unwrap()).unwrap();
        assert_eq!(told["columnDefinitions"][0]["name"], "Name");
    }

    #[test]
    fn people_get_indented_text() {
        assert!(pretty(&Query::parse("pretty=true"), "kubectl/v1"));
        assert!(pretty(&Query::parse(""), "curl/8.0"));
        assert!(!pretty(&Query::parse("pretty=false"), "curl/8.0"));
        assert!(!pretty(&Query::parse(""), "kubectl/v1"));
    }
}
