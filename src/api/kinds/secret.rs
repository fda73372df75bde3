//! Secret: settings that are secret.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::cells;
use super::config_map::{DATA_MAX, immutable, key_errors};
use crate::decode;
use crate::kind::{Column, Kind};
use crate::object::annotation;
use crate::status::FieldError;
use crate::tokens::{ACCOUNT, ACCOUNT_TYPE};
use crate::value::{Field, entries, fill_text, get, object_mut, remove, text};

/// The descriptor.
pub static KIND: Kind = Kind {
    kind: "Secret",
    plural: "secrets",
    singular: "secret",
    storage_version_hash: "S6u1pOWzb84=",
    default,
    validate,
    validate_update,
    warnings: |new, _| {
        let said = (text(new, "type") == "kubernetes.io/tls").then(|| key_pair(new));
        said.flatten().into_iter().collect()
    },
    field_names: &["type"],
    fields: |secret| vec![("type", text(secret, "type").to_owned())],
    columns: &[
        Column::NAME,
        Column::text("Type"),
        Column::text("Data"),
        Column::AGE,
    ],
    row,
    ..Kind::NAMESPACED
};

/// `stringData` is only a way of writing `data`: it is never kept.
fn default(secret: &mut Value) {
    fill_text(secret, "type", "Opaque");
    let plain: Vec<(String, String)> = entries(secret, "stringData")
        .map(|(k, v)| (k.clone(), STANDARD.encode(v.as_str().unwrap_or(""))))
        .collect();
    remove(secret, "stringData");
    if !plain.is_empty()
        && let Some(data) = object_mut(secret, "data")
    {
        data.extend(plain.into_iter().map(|(k, v)| (k, v.into())));
    }
}

fn validate(secret: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut size = 0;
    for (key, value) in Field::new(secret, "").entries("data") {
        errors.extend(key_errors(&value, key));
        size += value.text().len() / 4 * 3;
    }
    if size > DATA_MAX {
        errors.push(FieldError::too_long("data", DATA_MAX));
    }
    needed_keys(secret, &mut errors);
    errors
}

/// Each well-known type needs its keys.
fn needed_keys(secret: &Value, errors: &mut Vec<FieldError>) {
    let has = |key: &str| get(secret, "data").get(key).is_some();
    let need = |key: &str, errors: &mut Vec<FieldError>| {
        if !has(key) {
            errors.push(FieldError::required(format!("data[{key}]"), ""));
        }
    };
    match text(secret, "type") {
        ACCOUNT_TYPE if annotation(secret, ACCOUNT).is_none_or(str::is_empty) => {
            let path = format!("metadata.annotations[{ACCOUNT}]");
            errors.push(FieldError::required(path, ""));
        }
        "kubernetes.io/dockercfg" => json_key(secret, ".dockercfg", errors),
        "kubernetes.io/dockerconfigjson" => json_key(secret, ".dockerconfigjson", errors),
        "kubernetes.io/basic-auth" if !has("username") && !has("password") => {
            errors.push(FieldError::required("data[username]", ""));
            errors.push(FieldError::required("data[password]", ""));
        }
        "kubernetes.io/ssh-auth" if text(get(secret, "data"), "ssh-privatekey").is_empty() => {
            errors.push(FieldError::required("data[ssh-privatekey]", ""));
        }
        "kubernetes.io/tls" => {
            need("tls.crt", errors);
            need("tls.key", errors);
        }
        _ => {}
    }
}

/// What Go says of a certificate and key in which there is neither, as far as their outsides tell.
fn key_pair(secret: &Value) -> Option<String> {
    let blocks = |key: &str| {
        // The key has a dot in it, so it is no path.
        let encoded = get(secret, "data").get(key).and_then(Value::as_str);
        let bytes = STANDARD.decode(encoded.unwrap_or("")).unwrap_or_default();
        pem_types(&String::from_utf8_lossy(&bytes))
    };
    let (certificate, key) = (blocks("tls.crt"), blocks("tls.key"));
    let found = |types: &[String]| {
        format!(
            "after skipping PEM blocks of the following types: [{}]",
            types.join(" ")
        )
    };
    if !certificate.iter().any(|kind| kind == "CERTIFICATE") {
        return Some(match certificate.as_slice() {
            [] => "tls: failed to find any PEM data in certificate input".to_owned(),
            [one] if one.ends_with("PRIVATE KEY") => {
                "tls: failed to find certificate PEM data in certificate input, but did find a private key; PEM \
                 inputs may have been switched"
                    .to_owned()
            }
            all => format!("tls: failed to find \"CERTIFICATE\" PEM block in certificate input {}", found(all)),
        });
    }
    if key.iter().any(|kind| kind.ends_with("PRIVATE KEY")) {
        return None;
    }
    Some(match key.as_slice() {
        [] => "tls: failed to find any PEM data in key input".to_owned(),
        [one] if one == "CERTIFICATE" => {
            "tls: found a certificate rather than a key in the PEM for the private key".to_owned()
        }
        all => format!(
            "tls: failed to find PEM block with type ending in \"PRIVATE KEY\" in key input {}",
            found(all)
        ),
    })
}

/// The types of the blocks in a PEM text, those that end.
fn pem_types(text: &str) -> Vec<String> {
    let begun = text.lines().filter_map(|line| {
        let kind = line
            .trim_end()
            .strip_prefix("-----BEGIN ")?
            .strip_suffix("-----")?;
        text.contains(&format!("-----END {kind}-----"))
            .then(|| kind.to_owned())
    });
    begun.collect()
}

fn json_key(secret: &Value, key: &str, errors: &mut Vec<FieldError>) {
    let path = format!("data[{key}]");
    match get(secret, "data").get(key).and_then(Value::as_str) {
        None => errors.push(FieldError::required(path, "")),
        Some(encoded) => {
            let bytes = STANDARD.decode(encoded).unwrap_or_default();
            if let Err(why) = decode::well_formed(&bytes) {
                // The content is secret, so the text shows none of it.
                errors.push(FieldError::invalid(path, "<secret contents redacted>", why));
            }
        }
    }
}

fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    Field::at(new, "type").immutable(old, &mut errors);
    immutable(new, old, &["data"], &mut errors);
    errors.extend(validate(new));
    errors
}

fn row(secret: &Value, now: Timestamp) -> Vec<Value> {
    let count = entries(secret, "data").count();
    vec![
        cells::name(secret),
        json!(text(secret, "type")),
        json!(count),
        cells::age(secret, now),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_becomes_data() {
        let mut secret = json!({"data": {"a": "eA==", "b": "eQ=="}, "stringData": {"a": "new"}});
        (KIND.default)(&mut secret);
        assert_eq!(
            secret,
            json!({"type": "Opaque", "data": {"a": "bmV3", "b": "eQ=="}})
        );
    }

    #[test]
    fn types_need_their_keys_and_stay() {
        let tls = json!({"type": "kubernetes.io/tls", "data": {"tls.crt": ""}});
        assert_eq!(validate(&tls)[0].to_string(), "data[tls.key]: Required value");
        let docker = json!({"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": "eA=="}});
        assert!(
            validate(&docker)[0]
                .to_string()
                .starts_with("data[.dockerconfigjson]: Invalid value: \"<secret contents redacted>\"")
        );
        let opaque = json!({"type": "Opaque"});
        assert_eq!(
            validate_update(&json!({"type": "x"}), &opaque)[0].to_string(),
            "type: Invalid value: \"x\": field is immutable"
        );
    }
}
