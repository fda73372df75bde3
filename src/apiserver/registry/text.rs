//! Objects as the store keeps them: JSON text in which the place of the
//! resource version is known because we wrote it, never found by searching
//! (users control the rest of the text).

use api::depth;
use api::kind::KindRef;
use api::object;
use api::status::Status;
use bytes::Bytes;
use serde_json::{Map, Value};
use store::{Entry, Header, Record};

/// An object as a record: `apiVersion`, `kind`, then `metadata` beginning with
/// an empty resource version, then the rest.
///
/// # Errors
/// 500 when `value` is no object with metadata, 400 when nobody could read it again.
pub(super) fn record(
    kind: &KindRef,
    api_version: &str,
    value: &Value,
    ttl_seconds: Option<u32>,
) -> Result<Record, Status> {
    let whole = value
        .as_object()
        .ok_or_else(|| Status::internal("an object that is no JSON object"))?;
    if !depth::within(value, depth::STORED_MAX) {
        return Err(Status::bad_request(depth::TOO_DEEP));
    }
    let empty = Map::new();
    let metadata = whole.get("metadata").and_then(Value::as_object).unwrap_or(&empty);
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(b"{\"apiVersion\":");
    write(&mut out, &Value::from(api_version))?;
    out.extend_from_slice(b",\"kind\":");
    write(&mut out, &Value::from(kind.kind))?;
    out.extend_from_slice(b",\"metadata\":{\"resourceVersion\":\"");
    let revision_at = u32::try_from(out.len()).map_err(Status::internal)?;
    out.push(b'"');
    members(&mut out, metadata, &["resourceVersion"])?;
    out.push(b'}');
    members(&mut out, whole, &["apiVersion", "kind", "metadata"])?;
    out.push(b'}');
    Ok(Record {
        header: header(kind, value),
        text: Bytes::from(out),
        revision_at,
        ttl_seconds,
    })
}

/// Every member but the named ones, each after a comma.
fn members(out: &mut Vec<u8>, map: &Map<String, Value>, without: &[&str]) -> Result<(), Status> {
    for (key, value) in map.iter().filter(|(key, _)| !without.contains(&key.as_str())) {
        out.push(b',');
        serde_json::to_writer(&mut *out, key).map_err(Status::internal)?;
        out.push(b':');
        write(out, value)?;
    }
    Ok(())
}

fn write(out: &mut Vec<u8>, value: &Value) -> Result<(), Status> {
    serde_json::to_writer(out, value).map_err(Status::internal)
}

/// What filters need to know of an object. Name and namespace are in the key
/// and empty values select like absent ones, so neither takes memory here.
fn header(kind: &KindRef, value: &Value) -> Header {
    let pair = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    let fields = kind
        .fields(value)
        .into_iter()
        .filter(|(_, value)| !value.is_empty());
    Header {
        uid: object::uid(value).to_owned(),
        labels: object::labels(value).map(pair).collect(),
        owners: object::owner_references(value)
            .iter()
            .map(|owner| object::get_str(owner, &["uid"]).to_owned())
            .filter(|uid| !uid.is_empty())
            .collect(),
        fields: fields.map(|(key, value)| (key.to_owned(), value)).collect(),
    }
}

/// The object that an entry holds.
///
/// # Errors
/// 500 when the stored text is damaged.
pub(super) fn parse(entry: &Entry) -> Result<Value, Status> {
    serde_json::from_slice(&entry.text).map_err(|e| Status::internal(format!("{}: {e}", entry.key)))
}

/// An entry's text with another revision in it, as a watch needs for an object
/// that left its view without being deleted.
pub(super) fn at_revision(entry: &Entry, revision: u64) -> Bytes {
    let start = entry.revision_at as usize;
    let (Some(head), Some(tail)) = (entry.text.get(..start), entry.text.get(start..)) else {
        return entry.text.clone();
    };
    let digits = tail.iter().take_while(|b| b.is_ascii_digit()).count();
    let mut out = Vec::with_capacity(entry.text.len() + 4);
    out.extend_from_slice(head);
    out.extend_from_slice(revision.to_string().as_bytes());
    out.extend_from_slice(tail.get(digits..).unwrap_or_default());
    Bytes::from(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pods() -> KindRef {
        api::kinds::find("", "v1", "pods").unwrap().into()
    }

    #[test]
    fn the_revision_goes_where_the_record_says() {
        let value = json!({
            "apiVersion": "v1", "kind": "Pod", "spec": {"nodeName": "n\"1"},
            "metadata": {"annotations": {"resourceVersion": "\"resourceVersion\":\"\""}, "name": "a", "uid": "u",
                         "labels": {"x": "y"}, "resourceVersion": "9", "ownerReferences": [{"uid": "o"}]},
        });
        let record = record(&pods(), "v1", &value, None).unwrap();
        let mut text = record.text.to_vec();
        text.splice(record.revision_at as usize..record.revision_at as usize, *b"42");
        let back: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(back["metadata"]["resourceVersion"], "42");
        assert_eq!(back["metadata"]["annotations"], value["metadata"]["annotations"]);
        assert_eq!(record.header.labels, [("x".to_owned(), "y".to_owned())]);
        assert_eq!(record.header.owners, ["o"]);
        let entry = Entry {
            key: "k".into(),
            revision: 42,
            created: 42,
            header: record.header,
            text: text.into(),
            revision_at: record.revision_at,
            expires_ms: None,
        };
        let moved: Value = serde_json::from_slice(&at_revision(&entry, 1001)).unwrap();
        assert_eq!(moved["metadata"]["resourceVersion"], "1001");
        assert_eq!(moved["spec"], back["spec"]);
    }
}
