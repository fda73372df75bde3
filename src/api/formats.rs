//! The formats of texts that are checked (kube-openapi `strfmt`); an unknown format is no rule.

use serde_json::Value;

use crate::value::{entries, get, list, text};

/// The formats of texts that mean something (apiextensions `supportedVersionedFormats`), without hyphens.
const KNOWN: [&str; 26] = [
    "bsonobjectid",
    "uri",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "cidr",
    "mac",
    "uuid",
    "uuid3",
    "uuid4",
    "uuid5",
    "isbn",
    "isbn10",
    "isbn13",
    "creditcard",
    "ssn",
    "hexcolor",
    "rgbcolor",
    "byte",
    "password",
    "date",
    "duration",
    "datetime",
    "k8sshortname",
    "k8slongname",
];

/// The formats in a definition's schemas that mean nothing for their type.
pub fn unknown(definition: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for version in list(definition, "spec.versions") {
        collect(get(version, "schema.openAPIV3Schema"), &mut found);
    }
    found
}

fn collect(schema: &Value, found: &mut Vec<String>) {
    let format = text(schema, "format");
    if !format.is_empty() && !is_known(format, text(schema, "type")) {
        found.push(format.to_owned());
    }
    for key in ["items", "not", "additionalProperties"] {
        if let Some(below) = schema.get(key) {
            collect(below, found);
        }
    }
    for key in ["allOf", "anyOf", "oneOf"] {
        list(schema, key).iter().for_each(|below| collect(below, found));
    }
    entries(schema, "properties").for_each(|(_, below)| collect(below, found));
}

fn is_known(format: &str, kind: &str) -> bool {
    match kind {
        "" | "string" => KNOWN.contains(&format.replace('-', "").as_str()),
        "integer" => ["int32", "int64"].contains(&format),
        "number" => ["float", "double"].contains(&format),
        _ => false,
    }
}

/// Whether a text has the form that its format asks for.
pub fn fits(text: &str, format: &str) -> bool {
    let digits = |text: &str, count: usize| text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
    match format {
        "date-time" | "datetime" => text.parse::<jiff::Timestamp>().is_ok(),
        "date" => text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok(),
        "duration" => crate::go::parse_signed(text).is_some(),
        "byte" => base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text).is_ok(),
        "ipv4" | "ip" if text.parse::<std::net::Ipv4Addr>().is_ok() => true,
        "ipv4" => false,
        "ip" => text.parse::<std::net::IpAddr>().is_ok(),
        "ipv6" => text.parse::<std::net::Ipv6Addr>().is_ok(),
        "cidr" => crate::names::is_cidr(text).is_empty(),
        "mac" => text.split([':', '-']).count() == 6 && text.split([':', '-']).all(|part| hex(part, 2)),
        "uuid" | "uuid3" | "uuid4" | "uuid5" => {
            let parts: Vec<&str> = text.split('-').collect();
            parts.len() == 5
                && parts
                    .iter()
                    .zip([8, 4, 4, 4, 12])
                    .all(|(part, length)| hex(part, length))
        }
        "email" => text
            .split_once('@')
            .is_some_and(|(name, host)| !name.is_empty() && !host.is_empty() && !host.contains('@')),
        "hostname" => {
            text.len() <= 255
                && !text.is_empty()
                && text
                    .split('.')
                    .all(|part| crate::names::is_dns_label(&part.to_lowercase()).is_empty())
        }
        "uri" => {
            text.split_once(':')
                .is_some_and(|(scheme, _)| scheme.starts_with(|c: char| c.is_ascii_alphabetic()))
                || text.starts_with('/')
        }
        "creditcard" => digits(&text.replace(['-', ' '], ""), 16),
        _ => true,
    }
}

fn hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| b.is_ascii_hexdigit())
}
