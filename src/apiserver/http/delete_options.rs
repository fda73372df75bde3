//! `DeleteOptions` in the body of a DELETE: JSON, YAML or protobuf.

use api::request::Options;
use api::status::Status;
use serde::Deserialize;

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct DeleteOptions {
    grace_period_seconds: Option<i64>,
    propagation_policy: Option<String>,
    orphan_dependents: Option<bool>,
    preconditions: Option<Preconditions>,
    dry_run: Option<Vec<String>>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Preconditions {
    uid: Option<String>,
    resource_version: Option<String>,
}

/// Adds what the body says to what the query said; the body wins.
pub fn merge(options: &mut Options, body: &[u8], content_type: &str) -> Result<(), Status> {
    if body.is_empty() {
        return Ok(());
    }
    let asked = read(body, content_type)?;
    if asked.grace_period_seconds.is_some() {
        options.grace_period_seconds = asked.grace_period_seconds;
    }
    match (asked.propagation_policy, asked.orphan_dependents) {
        (Some(policy), _) => options.propagation_policy = policy,
        (None, Some(true)) => options.propagation_policy = "Orphan".into(),
        (None, Some(false)) => options.propagation_policy = "Background".into(),
        (None, None) => {}
    }
    options.dry_run |= asked.dry_run.is_some_and(|list| !list.is_empty());
    if let Some(preconditions) = asked.preconditions {
        options.precondition_uid = preconditions.uid;
        options.precondition_resource_version = preconditions.resource_version;
    }
    Ok(())
}

fn read(body: &[u8], content_type: &str) -> Result<DeleteOptions, Status> {
    let refused = |why: String| Status::bad_request(format!("unable to decode DeleteOptions: {why}"));
    match content_type.split(';').next().unwrap_or_default().trim() {
        "application/vnd.kubernetes.protobuf" => {
            protobuf(body).ok_or_else(|| refused("malformed protobuf".into()))
        }
        "application/yaml" => {
            let text = std::str::from_utf8(body).map_err(|e| refused(e.to_string()))?;
            serde_saphyr::from_str(text).map_err(|e| refused(e.to_string()))
        }
        _ => serde_json::from_slice(body).map_err(|e| refused(e.to_string())),
    }
}

/// `k8s\0`, then `runtime.Unknown` whose second field is the message.
fn protobuf(body: &[u8]) -> Option<DeleteOptions> {
    let unknown = body.strip_prefix(b"k8s\0")?;
    let mut raw: &[u8] = &[];
    fields(unknown, |number, field| {
        if let (2, Field::Bytes(bytes)) = (number, field) {
            raw = bytes;
        }
    })?;
    let mut options = DeleteOptions::default();
    fields(raw, |number, field| match (number, field) {
        (1, Field::Number(n)) => options.grace_period_seconds = Some(n as i64),
        (2, Field::Bytes(bytes)) => options.preconditions = preconditions(bytes),
        (3, Field::Number(n)) => options.orphan_dependents = Some(n != 0),
        (4, Field::Bytes(bytes)) => options.propagation_policy = text(bytes),
        (5, Field::Bytes(bytes)) => options.dry_run.get_or_insert_default().extend(text(bytes)),
        _ => {}
    })?;
    Some(options)
}

fn preconditions(bytes: &[u8]) -> Option<Preconditions> {
    let mut found = Preconditions::default();
    fields(bytes, |number, field| match (number, field) {
        (1, Field::Bytes(bytes)) => found.uid = text(bytes),
        (2, Field::Bytes(bytes)) => found.resource_version = text(bytes),
        _ => {}
    })?;
    Some(found)
}

fn text(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok()
}

enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// Hands each field to `each`; `None` when the bytes are no message.
fn fields<'a>(mut bytes: &'a [u8], mut each: impl FnMut(u64, Field<'a>)) -> Option<()> {
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let field = match key & 7 {
            0 => Field::Number(varint(&mut bytes)?),
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                let (value, rest) = bytes.split_at_checked(length)?;
                bytes = rest;
                Field::Bytes(value)
            }
            _ => return None,
        };
        each(key >> 3, field);
    }
    Some(())
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_come_in_three_encodings() {
        let json = br#"{"kind":"DeleteOptions","apiVersion":"v1","gracePeriodSeconds":0,"propagationPolicy":"Foreground","preconditions":{"uid":"u"}}"#;
        let yaml = b"gracePeriodSeconds: 0\npropagationPolicy: Foreground\npreconditions:\n  uid: u\n";
        let message = [
            &[0x08, 0x00, 0x12, 0x03, 0x0a, 0x01, b'u', 0x22, 10][..],
            b"Foreground",
        ]
        .concat();
        let length = u8::try_from(message.len()).unwrap();
        let protobuf = [&b"k8s\0\x12"[..], &[length], &message].concat();
        for (body, content_type) in [
            (&json[..], "application/json"),
            (&yaml[..], "application/yaml"),
            (&protobuf[..], "application/vnd.kubernetes.protobuf"),
        ] {
            let mut options = Options::default();
            merge(&mut options, body, content_type).unwrap();
            assert_eq!(options.grace_period_seconds, Some(0), "{content_type}");
            assert_eq!(options.propagation_policy, "Foreground");
            assert_eq!(options.precondition_uid.as_deref(), Some("u"));
        }
        assert_eq!(
            merge(
                &mut Options::default(),
                b"k8s\0\x12\xff",
                "application/vnd.kubernetes.protobuf"
            )
            .unwrap_err()
            .code,
            400
        );
        assert_eq!(merge(&mut Options::default(), b"[", "").unwrap_err().code, 400);
    }
}
