//! Documents of v3.

use serde_json::Value;

use super::parts::{any, extensions, flag, items, made, named, operations, text, texts};
use crate::protobuf::wire::Writer;

/// Fields of `PathItem`.
const METHODS: [(u32, &str); 7] = [
    (4, "get"),
    (5, "put"),
    (6, "post"),
    (7, "delete"),
    (8, "options"),
    (9, "head"),
    (10, "patch"),
];
/// Switches, numbers, whole numbers, texts and lists of schemas of a `Schema`.
const FLAGS: [(u32, &str); 4] = [
    (1, "nullable"),
    (12, "exclusiveMaximum"),
    (14, "exclusiveMinimum"),
    (20, "uniqueItems"),
];
const NUMBERS: [(u32, &str); 3] = [(10, "multipleOf"), (11, "maximum"), (13, "minimum")];
const COUNTS: [(u32, &str); 6] = [
    (15, "maxLength"),
    (16, "minLength"),
    (18, "maxItems"),
    (19, "minItems"),
    (21, "maxProperties"),
    (22, "minProperties"),
];
const TEXTS: [(u32, &str); 5] = [
    (9, "title"),
    (17, "pattern"),
    (25, "type"),
    (34, "description"),
    (35, "format"),
];
const CHOICES: [(u32, &str); 3] = [(26, "allOf"), (27, "oneOf"), (28, "anyOf")];

/// The document as protobuf.
pub(in crate::openapi) fn encode(document: &Value) -> Vec<u8> {
    let mut out = Writer::default();
    out.text(1, text(document, "openapi"));
    out.message(
        2,
        &made(|info| {
            info.text(1, text(&document["info"], "title"));
            info.text(6, text(&document["info"], "version"));
        }),
    );
    out.message(4, &named(&document["paths"], 1, path));
    let components = &document["components"];
    out.message(
        5,
        &made(|out| {
            out.message(1, &named(&components["schemas"], 1, schema_or_reference));
            out.message(7, &named(&components["securitySchemes"], 1, security_scheme));
        }),
    );
    for requirement in items(document, "security") {
        out.message(6, &named(requirement, 1, |_| Writer::default()));
    }
    out.finish()
}

fn path(value: &Value) -> Writer {
    made(|out| {
        operations(out, &METHODS, value, operation);
        parameters(out, 13, value);
    })
}

fn operation(value: &Value) -> Writer {
    made(|out| {
        texts(out, 1, value, "tags");
        out.text(3, text(value, "description"));
        out.text(5, text(value, "operationId"));
        parameters(out, 6, value);
        if let Some(body) = value.get("requestBody") {
            out.message(7, &made(|either| either.message(1, &request_body(body))));
        }
        out.message(8, &named(&value["responses"], 2, response));
        extensions(out, 13, value);
    })
}

fn parameters(out: &mut Writer, number: u32, value: &Value) {
    for item in items(value, "parameters") {
        let parameter = made(|out| {
            out.text(1, text(item, "name"));
            out.text(2, text(item, "in"));
            out.text(3, text(item, "description"));
            out.varint(4, flag(item, "required"));
            out.message(10, &schema_or_reference(&item["schema"]));
        });
        out.message(number, &made(|either| either.message(1, &parameter)));
    }
}

fn request_body(value: &Value) -> Writer {
    made(|out| {
        out.message(2, &named(&value["content"], 1, media_type));
        out.varint(3, flag(value, "required"));
    })
}

/// `ResponseOrReference { Response }`.
fn response(value: &Value) -> Writer {
    let response = made(|out| {
        out.text(1, text(value, "description"));
        if let Some(content) = value.get("content") {
            out.message(3, &named(content, 1, media_type));
        }
    });
    made(|either| either.message(1, &response))
}

fn media_type(value: &Value) -> Writer {
    made(|out| out.message(1, &schema_or_reference(&value["schema"])))
}

/// `SecuritySchemeOrReference { SecurityScheme }`.
fn security_scheme(value: &Value) -> Writer {
    let scheme = made(|out| {
        for (number, key) in [(1, "type"), (2, "description"), (3, "name"), (4, "in")] {
            out.text(number, text(value, key));
        }
    });
    made(|either| either.message(1, &scheme))
}

fn schema_or_reference(value: &Value) -> Writer {
    made(|either| match text(value, "$ref") {
        "" => either.message(1, &schema(value)),
        reference => either.message(2, &made(|out| out.text(1, reference))),
    })
}

fn schema(value: &Value) -> Writer {
    made(|out| {
        FLAGS.iter().for_each(|(n, key)| out.varint(*n, flag(value, key)));
        TEXTS.iter().for_each(|(n, key)| out.text(*n, text(value, key)));
        for (number, key) in NUMBERS {
            if let Some(limit) = value.get(key).and_then(Value::as_f64) {
                out.double(number, limit);
            }
        }
        for (number, key) in COUNTS {
            out.varint(number, value.get(key).and_then(Value::as_u64).unwrap_or_default());
        }
        texts(out, 23, value, "required");
        items(value, "enum").for_each(|possible| out.message(24, &any(possible)));
        for (number, key) in CHOICES {
            items(value, key).for_each(|choice| out.message(number, &schema_or_reference(choice)));
        }
        if let Some(not) = value.get("not") {
            out.message(29, &schema(not));
        }
        within(out, value);
        default(out, value);
        extensions(out, 36, value);
    })
}

/// What a schema says of the parts of a value.
fn within(out: &mut Writer, value: &Value) {
    if let Some(items) = value.get("items") {
        out.message(30, &made(|item| item.message(1, &schema_or_reference(items))));
    }
    if let Some(properties) = value.get("properties") {
        out.message(31, &named(properties, 1, schema_or_reference));
    }
    if let Some(inner) = value.get("additionalProperties") {
        let item = made(|item| match inner {
            Value::Bool(flag) => item.number(2, u64::from(*flag)),
            inner => item.message(1, &schema_or_reference(inner)),
        });
        out.message(32, &item);
    }
}

/// A default, of which this form knows numbers, booleans and texts.
fn default(out: &mut Writer, value: &Value) {
    let written = match value.get("default") {
        Some(Value::Number(number)) => made(|of| of.double(1, number.as_f64().unwrap_or_default())),
        Some(Value::Bool(flag)) => made(|of| of.number(2, u64::from(*flag))),
        Some(Value::String(text)) => made(|of| of.bytes(3, text.as_bytes())),
        _ => return,
    };
    out.message(33, &written);
}
