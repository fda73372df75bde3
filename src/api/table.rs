//! Objects as `meta/v1.Table` and `PartialObjectMetadata`.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::kind::{Column, KindRef};
use crate::object;
use crate::status::Status;

const API_VERSION: &str = "meta.k8s.io/v1";

/// What a table's rows carry of their objects (`includeObject`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Include {
    /// Nothing.
    None,
    /// Metadata only.
    #[default]
    Metadata,
    /// The whole object.
    Object,
}

impl Include {
    /// From the query parameter; empty means `Metadata`.
    ///
    /// # Errors
    /// 400 for any other text.
    pub fn parse(text: &str) -> Result<Self, Status> {
        match text {
            "None" => Ok(Self::None),
            "" | "Metadata" => Ok(Self::Metadata),
            "Object" => Ok(Self::Object),
            other => Err(Status::bad_request(format!(
                "unrecognized includeObject value: {other:?}"
            ))),
        }
    }
}

/// A single object, or a list of that kind, as a `Table`. `headers` says whether column definitions
/// are wanted (watch events after the first leave them out).
pub fn table(kind: &KindRef, object: &Value, include: Include, headers: bool, now: Timestamp) -> Value {
    let items = match object.get("items") {
        Some(Value::Array(items)) => items.as_slice(),
        _ => std::slice::from_ref(object),
    };
    let rows: Vec<Value> = items.iter().map(|item| row(kind, item, include, now)).collect();
    let columns: Vec<Value> = if headers {
        kind.columns().iter().map(column).collect()
    } else {
        Vec::new()
    };
    json!({
        "kind": "Table",
        "apiVersion": API_VERSION,
        "metadata": list_metadata(object),
        "columnDefinitions": columns,
        "rows": rows,
    })
}

fn row(kind: &KindRef, item: &Value, include: Include, now: Timestamp) -> Value {
    let mut row = json!({"cells": kind.row(item, now)});
    let shown = match include {
        Include::None => return row,
        Include::Metadata => partial_object(item),
        Include::Object => item.clone(),
    };
    object::set(&mut row, &["object"], shown);
    row
}

fn column(column: &Column) -> Value {
    json!({
        "name": column.name,
        "type": column.cell.name(),
        "format": column.format,
        "description": column.description,
        "priority": column.priority,
    })
}

/// The parts of an object's or list's metadata that a list may carry.
fn list_metadata(from: &Value) -> Value {
    let metadata = object::get_map(from, &["metadata"]);
    let mut kept = Map::new();
    for key in ["resourceVersion", "continue", "remainingItemCount"] {
        if let Some(value) = metadata.get(key) {
            kept.insert(key.to_owned(), value.clone());
        }
    }
    Value::Object(kept)
}

fn partial_object(from: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": API_VERSION,
        "metadata": object::get_map(from, &["metadata"]),
    })
}

/// A single object as `PartialObjectMetadata`, or a list as `PartialObjectMetadataList`.
pub fn partial(object: &Value) -> Value {
    match object.get("items") {
        Some(Value::Array(items)) => json!({
            "kind": "PartialObjectMetadataList",
            "apiVersion": API_VERSION,
            "metadata": list_metadata(object),
            "items": items.iter().map(partial_object).collect::<Vec<_>>(),
        }),
        _ => partial_object(object),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::Kind;

    static KIND: Kind = Kind {
        kind: "Thing",
        columns: &[Column::NAME, Column::text("X").wide()],
        row: cells,
        ..Kind::NAMESPACED
    };

    fn cells(object: &Value, _: Timestamp) -> Vec<Value> {
        vec![object::name(object).into(), "x".into()]
    }

    fn thing(name: &str) -> Value {
        json!({"kind": "Thing", "metadata": {"name": name, "resourceVersion": "7"}, "spec": {"a": 1}})
    }

    #[test]
    fn a_list_becomes_rows() {
        let list =
            json!({"metadata": {"resourceVersion": "9", "continue": "c"}, "items": [thing("a"), thing("b")]});
        let table = table(
            &KindRef::from(&KIND),
            &list,
            Include::Metadata,
            true,
            Timestamp::UNIX_EPOCH,
        );
        assert_eq!(
            table["metadata"],
            json!({"resourceVersion": "9", "continue": "c"})
        );
        assert_eq!(
            table["columnDefinitions"],
            json!([{"name": "Name", "type": "string", "format": "name", "description": "", "priority": 0},
                {"name": "X", "type": "string", "format": "", "description": "", "priority": 1}])
        );
        assert_eq!(table["rows"][1]["cells"], json!(["b", "x"]));
        assert_eq!(table["rows"][1]["object"]["kind"], "PartialObjectMetadata");
        assert!(table["rows"][1]["object"].get("spec").is_none());
    }

    #[test]
    fn an_object_becomes_one_row() {
        let bare = table(
            &KindRef::from(&KIND),
            &thing("a"),
            Include::None,
            false,
            Timestamp::UNIX_EPOCH,
        );
        assert_eq!(bare["rows"], json!([{"cells": ["a", "x"]}]));
        assert_eq!(bare["columnDefinitions"], json!([]));
        assert_eq!(bare["metadata"], json!({"resourceVersion": "7"}));
        let full = table(
            &KindRef::from(&KIND),
            &thing("a"),
            Include::Object,
            false,
            Timestamp::UNIX_EPOCH,
        );
        assert_eq!(full["rows"][0]["object"], thing("a"));
    }

    #[test]
    fn metadata_alone() {
        let list = json!({"metadata": {"resourceVersion": "9"}, "items": [thing("a")]});
        let partial = partial(&list);
        assert_eq!(partial["kind"], "PartialObjectMetadataList");
        assert_eq!(partial["items"][0]["metadata"]["name"], "a");
        assert!(partial["items"][0].get("spec").is_none());
    }
}
