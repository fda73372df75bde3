//! The v2 document, which older clients ask for in this form.

use serde_json::Value;

use super::parts::{any, extensions, flag, items, made, named, operations, text, texts};
use crate::protobuf::wire::Writer;

/// Fields of `PathItem`.
const METHODS: [(u32, &str); 7] = [
    (2, "get"),
    (3, "put"),
    (4, "post"),
    (5, "delete"),
    (6, "options"),
    (7, "head"),
    (8, "patch"),
];

/// The document as protobuf.
pub(in crate::openapi) fn encode(document: &Value) -> Vec<u8> {
    let mut out = Writer::default();
    out.text(1, text(document, "swagger"));
    out.message(
        2,
        &made(|info| {
            info.text(1, text(&document["info"], "title"));
            info.text(2, text(&document["info"], "version"));
        }),
    );
    out.message(8, &named(&document["paths"], 2, path));
    out.message(9, &named(&document["definitions"], 1, schema));
    out.finish()
}

fn schema(value: &Value) -> Writer {
    made(|out| {
        out.text(1, text(value, "$ref"));
        out.text(2, text(value, "format"));
        out.text(4, text(value, "description"));
        if let Some(default) = value.get("default") {
            out.message(5, &any(default));
        }
        texts(out, 19, value, "required");
        items(value, "enum").for_each(|possible| out.message(20, &any(possible)));
        if let Some(inner) = value.get("additionalProperties") {
            out.message(
                21,
                &made(|item| match inner {
                    Value::Bool(flag) => item.varint(2, u64::from(*flag)),
                    inner => item.message(1, &schema(inner)),
                }),
            );
        }
        if let Some(Value::String(of)) = value.get("type") {
            out.message(22, &made(|item| item.text(1, of)));
        }
        if let Some(items) = value.get("items") {
            out.message(23, &made(|item| item.message(1, &schema(items))));
        }
        if let Some(properties) = value.get("properties") {
            out.message(25, &named(properties, 1, schema));
        }
        extensions(out, 31, value);
    })
}

fn path(value: &Value) -> Writer {
    made(|out| {
        operations(out, &METHODS, value, operation);
        parameters(out, 9, value);
    })
}

fn operation(value: &Value) -> Writer {
    made(|out| {
        texts(out, 1, value, "tags");
        out.text(3, text(value, "description"));
        out.text(5, text(value, "operationId"));
        texts(out, 6, value, "produces");
        texts(out, 7, value, "consumes");
        parameters(out, 8, value);
        out.message(9, &named(&value["responses"], 1, response));
        texts(out, 10, value, "schemes");
        extensions(out, 13, value);
    })
}

/// `ResponseValue { Response { description, SchemaItem { Schema } } }`.
fn response(value: &Value) -> Writer {
    let response = made(|out| {
        out.text(1, text(value, "description"));
        if let Some(inner) = value.get("schema") {
            out.message(2, &made(|item| item.message(1, &schema(inner))));
        }
    });
    made(|out| out.message(1, &response))
}

fn parameters(out: &mut Writer, number: u32, value: &Value) {
    for item in items(value, "parameters") {
        let parameter = made(|out| match text(item, "in") {
            "body" => out.message(1, &body_parameter(item)),
            "path" => out.message(2, &made(|other| other.message(4, &path_parameter(item)))),
            _ => out.message(2, &made(|other| other.message(3, &query_parameter(item)))),
        });
        out.message(number, &made(|out| out.message(1, &parameter)));
    }
}

fn body_parameter(item: &Value) -> Writer {
    made(|out| {
        out.text(2, text(item, "name"));
        out.text(3, "body");
        out.varint(4, flag(item, "required"));
        out.message(5, &schema(&item["schema"]));
    })
}

fn path_parameter(item: &Value) -> Writer {
    made(|out| {
        out.varint(1, flag(item, "required"));
        out.text(2, "path");
        out.text(3, text(item, "description"));
        out.text(4, text(item, "name"));
        out.text(5, text(item, "type"));
        out.varint(18, flag(item, "uniqueItems"));
    })
}

fn query_parameter(item: &Value) -> Writer {
    made(|out| {
        out.text(2, "query");
        out.text(3, text(item, "description"));
        out.text(4, text(item, "name"));
        out.text(6, text(item, "type"));
        out.varint(20, flag(item, "uniqueItems"));
    })
}
