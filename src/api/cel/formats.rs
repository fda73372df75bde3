//! The formats of texts that expressions can ask for (`format.dns1123Label().validate(x)`).

use std::rc::Rc;

use super::val::Val;
use crate::{formats, names};

/// Their names; each is a function after `format.`, and known to `format.named`.
const NAMES: [&str; 13] = [
    "dns1123Label",
    "dns1123Subdomain",
    "dns1035Label",
    "dns1123LabelPrefix",
    "dns1123SubdomainPrefix",
    "dns1035LabelPrefix",
    "qualifiedName",
    "labelValue",
    "uri",
    "uuid",
    "byte",
    "date",
    "datetime",
];

/// The format of that name.
pub fn named(name: &str) -> Option<&'static str> {
    NAMES.into_iter().find(|known| *known == name)
}

/// None when the text has the format, else what is wrong with it.
pub fn validate<'a>(format: &str, text: &str) -> Val<'a> {
    let errors = errors(format, text);
    if errors.is_empty() {
        return Val::Optional(None);
    }
    let errors = errors.iter().map(|error| Val::text(error)).collect();
    Val::Optional(Some(Rc::new(Val::list(errors))))
}

fn errors(format: &str, text: &str) -> Vec<String> {
    let unless = |fits: bool, why: &str| if fits { Vec::new() } else { vec![why.to_owned()] };
    match format {
        "dns1123Label" => names::label(text, false),
        "dns1123LabelPrefix" => names::label(text, true),
        "dns1123Subdomain" => names::subdomain(text, false),
        "dns1123SubdomainPrefix" => names::subdomain(text, true),
        "dns1035Label" => names::label_1035(text, false),
        "dns1035LabelPrefix" => names::label_1035(text, true),
        "qualifiedName" => names::is_qualified_name(text),
        "labelValue" => names::is_label_value(text),
        "uri" => unless(
            formats::fits(text, format),
            &format!("parse {text:?}: invalid URI for request"),
        ),
        "uuid" => unless(formats::fits(text, format), "does not match the UUID format"),
        "byte" => unless(formats::fits(text, format), "invalid base64"),
        "date" => unless(formats::fits(text, format), "invalid date"),
        _ => unless(formats::fits(text, format), "invalid datetime"),
    }
}
