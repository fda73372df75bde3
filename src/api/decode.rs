//! Request bodies → JSON values, with Kubernetes' complaints.
//!
//! A body is first parsed into a tree that has lost nothing (duplicate keys,
//! digits as written), then walked along the kind's schema: unknown fields are
//! dropped and noted, values of the wrong type refused in Go's words.

mod check;
mod json;
mod tree;
mod yaml;

use serde_json::Value;

use crate::protobuf;
use crate::schema::{Gvk, Schema, Schemas};
use crate::status::{FieldError, Status};
use tree::Tree;

/// Bodies beyond this are refused (Kubernetes' own limit).
pub const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;

/// What to do about unknown and duplicate fields (`fieldValidation`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// Drop them silently.
    Ignore,
    /// Drop them and warn.
    #[default]
    Warn,
    /// Refuse the request.
    Strict,
}

impl FieldValidation {
    /// From the query parameter; empty means `Warn`.
    ///
    /// # Errors
    /// 422 for any other text.
    pub fn parse(text: &str) -> Result<Self, Status> {
        match text {
            "Ignore" => Ok(Self::Ignore),
            "" | "Warn" => Ok(Self::Warn),
            "Strict" => Ok(Self::Strict),
            other => {
                let known = ["", "Ignore", "Strict", "Warn"];
                let error = FieldError::not_supported("fieldValidation", other, &known);
                Err(Status::invalid("meta.k8s.io", "CreateOptions", "", &[error]))
            }
        }
    }

    /// Settles what was noted: texts for warnings, or the text of a refusal.
    fn settle(self, notes: Vec<String>) -> Result<Vec<String>, String> {
        match self {
            Self::Ignore => Ok(Vec::new()),
            Self::Warn => Ok(notes),
            Self::Strict if notes.is_empty() => Ok(notes),
            Self::Strict => Err(format!("strict decoding error: {}", notes.join(", "))),
        }
    }
}

/// The media type of a `Content-Type`, without its parameters.
pub fn media_type(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

/// How a body is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Json,
    Yaml,
    Protobuf,
}

impl Format {
    fn of(content_type: &str) -> Result<Self, Status> {
        match media_type(content_type).to_ascii_lowercase().as_str() {
            "" | "application/json" | "*/*" => Ok(Self::Json),
            "application/yaml" => Ok(Self::Yaml),
            "application/vnd.kubernetes.protobuf" => Ok(Self::Protobuf),
            _ => Err(Status::new(
                415,
                "UnsupportedMediaType",
                "the body of the request was in an unknown format - accepted media types include: \
                 application/json, application/yaml, application/vnd.kubernetes.protobuf",
            )),
        }
    }
}

fn too_large(body: &[u8]) -> Result<(), Status> {
    if body.len() <= BODY_BYTES_MAX {
        return Ok(());
    }
    let text = format!("Request entity too large: limit is {BODY_BYTES_MAX}");
    Err(Status::new(413, "RequestEntityTooLarge", text))
}

/// Whether a text is one JSON document.
///
/// # Errors
/// Go's text.
pub fn well_formed(text: &[u8]) -> Result<(), String> {
    json::parse(text).map(drop)
}

/// Decodes a request body into a value in which every field is known to
/// `schema` and has the right type; with it come the texts for `Warning`
/// headers. `default` fills in an absent `apiVersion` and `kind`; a body that
/// names another kind is refused.
///
/// # Errors
/// 400 as Kubernetes words it; 413 for a body that is too large; 415 for an
/// unknown media type.
pub fn decode(
    body: &[u8],
    content_type: &str,
    schema: &Schema,
    validation: FieldValidation,
    default: &Gvk,
) -> Result<(Value, Vec<String>), Status> {
    too_large(body)?;
    let unrecognized = |why: String| {
        let kind = &default.kind;
        let summary = summary(body);
        Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {kind}): {why} ({summary})"
        ))
    };
    let (tree, notes) = match Format::of(content_type)? {
        Format::Json => {
            let no_kind = |e| unrecognized(format!("couldn't get version/kind; json parse error: {e}"));
            (json::parse(body).map_err(no_kind)?, Vec::new())
        }
        Format::Yaml => {
            let tree = yaml::parse(body).map_err(unrecognized)?;
            let notes = yaml_duplicates(&tree);
            (without_duplicates(tree), notes)
        }
        Format::Protobuf => (
            protobuf::decode(body, schema, default)
                .map_err(unrecognized)?
                .into(),
            Vec::new(),
        ),
    };
    let actual = find_kind(&tree, default).map_err(unrecognized)?;
    let refused = |why: String| cannot_handle(&actual, default, &why);
    let checked = check::check(tree, schema);
    fit(checked, notes, &actual, validation, default, &refused)
}

/// Decodes what is to be applied (YAML, or JSON in its name) as [`decode`] decodes an object, except that fields
/// which the schema does not know stay: [`crate::apply`] refuses them, whatever `validation` is.
///
/// # Errors
/// 400 as Kubernetes words it; 413 for a body that is too large.
pub fn decode_applied(
    body: &[u8],
    schema: &Schema,
    validation: FieldValidation,
    default: &Gvk,
) -> Result<(Value, Vec<String>), Status> {
    too_large(body)?;
    // kubectl sends JSON under YAML's name, and JSON is read far faster.
    let json = json::parse(body)
        .ok()
        .filter(|tree| check::duplicates(tree).is_empty());
    let (tree, notes) = match json {
        Some(tree) => (tree, Vec::new()),
        None => {
            let malformed = |error| Status::bad_request(format!("error decoding YAML: {error}"));
            let tree = yaml::parse(body).map_err(malformed)?;
            let notes = yaml_duplicates(&tree);
            (without_duplicates(tree), notes)
        }
    };
    if validation == FieldValidation::Strict && !notes.is_empty() {
        let why = notes.join(", ");
        return Err(Status::bad_request(format!(
            "error strict decoding YAML: error converting YAML to JSON: {why}"
        )));
    }
    let actual = find_kind(&tree, default).map_err(Status::bad_request)?;
    let refused = |why: String| cannot_handle(&actual, default, &why);
    let checked = check::check_known(tree, schema);
    fit(checked, notes, &actual, validation, default, &refused)
}

fn cannot_handle(actual: &Gvk, default: &Gvk, why: &str) -> Status {
    Status::bad_request(format!(
        "{} in version {:?} cannot be handled as a {}: {why}",
        actual.kind, actual.version, default.kind
    ))
}

/// Checks the text of an object that a client's patch has made, as [`decode`] checks a body.
///
/// # Errors
/// 422 about the patch, as Kubernetes words it; 413 for an object that is too large.
pub fn decode_patched(
    text: &str,
    schema: &Schema,
    validation: FieldValidation,
    default: &Gvk,
) -> Result<(Value, Vec<String>), Status> {
    too_large(text.as_bytes())?;
    let refused = |why: String| unfit_patch(text, why);
    let tree = json::parse(text.as_bytes()).map_err(refused)?;
    let actual = find_kind(&tree, default).map_err(refused)?;
    let checked = check::check(tree, schema);
    fit(checked, Vec::new(), &actual, validation, default, &refused)
}

/// What was read, if it is of the kind that was meant and of its schema.
fn fit(
    checked: check::Checked,
    mut notes: Vec<String>,
    actual: &Gvk,
    validation: FieldValidation,
    default: &Gvk,
    refused: &dyn Fn(String) -> Status,
) -> Result<(Value, Vec<String>), Status> {
    same_kind(actual, default, refused)?;
    if let Some(error) = checked.type_error {
        return Err(refused(error));
    }
    notes.extend(checked.notes);
    let warnings = validation.settle(notes).map_err(refused)?;
    let mut value = checked.value;
    crate::object::set_kind(&mut value, &actual.group, &actual.version, &actual.kind);
    Ok((value, warnings))
}

/// What a patch made is no object of its kind. It is about nothing that has a name.
fn unfit_patch(made: &str, why: String) -> Status {
    Status::invalid("", "", "", &[FieldError::invalid("patch", made, why)])
}

/// Checks an object that a patch has made, as [`decode`] checks a body.
///
/// # Errors
/// 400 for unknown fields in strict mode, 422 for values of the wrong type.
pub fn check_patched(
    value: Value,
    schema: &Schema,
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), Status> {
    let before = value.to_string();
    let checked = check::check(value.into(), schema);
    if let Some(error) = checked.type_error {
        return Err(Status::invalid(
            "",
            "",
            "",
            &[FieldError::invalid("patch", before, error)],
        ));
    }
    let warnings = validation.settle(checked.notes).map_err(Status::bad_request)?;
    Ok((checked.value, warnings))
}

/// Decodes a patch body into a plain value, duplicates refused or warned about as `validation` says.
///
/// # Errors
/// 400 for malformed text, 413 for a body that is too large.
pub fn decode_patch(body: &[u8], validation: FieldValidation) -> Result<(Value, Vec<String>), Status> {
    too_large(body)?;
    let tree = json::parse(body).map_err(Status::bad_request)?;
    let warnings = validation
        .settle(check::duplicates(&tree))
        .map_err(Status::bad_request)?;
    Ok((tree.into_value(), warnings))
}

/// The start of a body, as Kubernetes shows it when it cannot make sense of it.
fn summary(body: &[u8]) -> String {
    const SHOWN: usize = 30;
    let head = body.get(..SHOWN);
    let tail = if body.len() > SHOWN { " ..." } else { "" };
    let head = head.unwrap_or(body);
    match body.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => format!("{}{tail}", String::from_utf8_lossy(head)),
        Some(_) => {
            let hex: String = head.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{hex}{tail}")
        }
    }
}

fn yaml_duplicates(tree: &Tree<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    collect_duplicates(tree, &mut lines);
    if lines.is_empty() {
        lines
    } else {
        vec![format!("yaml: unmarshal errors:\n{}", lines.join("\n"))]
    }
}

fn collect_duplicates(tree: &Tree<'_>, lines: &mut Vec<String>) {
    match tree {
        Tree::Array(items) => items.iter().for_each(|item| collect_duplicates(item, lines)),
        Tree::Object(entries) => {
            let mut seen = std::collections::HashSet::new();
            for entry in entries {
                if !seen.insert(entry.key.as_ref()) {
                    lines.push(format!(
                        "  line {}: key {:?} already set in map",
                        entry.line, entry.key
                    ));
                }
                collect_duplicates(&entry.value, lines);
            }
        }
        _ => {}
    }
}

/// Of duplicate keys the last one stays: YAML's duplicates have been reported by line already.
fn without_duplicates(tree: Tree<'_>) -> Tree<'_> {
    match tree {
        Tree::Array(items) => Tree::Array(items.into_iter().map(without_duplicates).collect()),
        Tree::Object(entries) => {
            let mut kept: Vec<tree::Entry<'_>> = Vec::with_capacity(entries.len());
            let mut places = std::collections::HashMap::new();
            for mut entry in entries {
                entry.value = without_duplicates(entry.value);
                match places.get(&entry.key) {
                    Some(place) => kept[*place] = entry,
                    None => {
                        places.insert(entry.key.clone(), kept.len());
                        kept.push(entry);
                    }
                }
            }
            Tree::Object(kept)
        }
        other => other,
    }
}

/// Group, version and kind as the body names them, gaps filled from `default`.
fn find_kind(tree: &Tree<'_>, default: &Gvk) -> Result<Gvk, String> {
    let problem = |why: String| format!("couldn't get version/kind; json parse error: {why}");
    if !matches!(tree, Tree::Object(_) | Tree::Null) {
        let word = tree.go_word();
        let word = word.split(' ').next().unwrap_or_default();
        return Err(problem(format!(
            "json: cannot unmarshal {word} into Go value of type struct \
             {{ APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \
             \"json:\\\"kind,omitempty\\\"\" }}"
        )));
    }
    let text = |key: &str| match tree.get(key) {
        None | Some(Tree::Null) => Ok(""),
        Some(Tree::String(text)) => Ok(text.as_ref()),
        Some(other) => {
            let word = other.go_word();
            let word = word.split(' ').next().unwrap_or_default().to_owned();
            Err(problem(format!(
                "json: cannot unmarshal {word} into Go struct field .{key} of type string"
            )))
        }
    };
    let (api_version, kind) = (text("apiVersion")?, text("kind")?);
    if api_version.matches('/').count() > 1 {
        return Err(format!("unexpected GroupVersion string: {api_version}"));
    }
    let (group, version) = crate::object::split_api_version(api_version);
    let mut found = Gvk::new(group, version, kind);
    if found.kind.is_empty() {
        found.kind.clone_from(&default.kind);
    }
    if found.group.is_empty() && found.version.is_empty() {
        found.group.clone_from(&default.group);
        found.version.clone_from(&default.version);
    }
    Ok(found)
}

fn same_kind(actual: &Gvk, wanted: &Gvk, refused: &dyn Fn(String) -> Status) -> Result<(), Status> {
    // Options travel in any group's clothes.
    if actual == wanted || (actual.kind == wanted.kind && wanted.kind.ends_with("Options")) {
        return Ok(());
    }
    let known = Schemas::builtin()
        .for_kind(&actual.group, &actual.version, &actual.kind)
        .is_some();
    if !known {
        return Err(refused(format!(
            "no kind {:?} is registered for version {:?} in scheme \"pkg/api/legacyscheme/scheme.go:30\"",
            actual.kind,
            actual.api_version()
        )));
    }
    if actual.kind != wanted.kind {
        let group = if wanted.group.is_empty() {
            "core"
        } else {
            wanted.group.as_str()
        };
        let package = group.split('.').next().unwrap_or_default();
        return Err(refused(format!(
            "converting ({}.{}) to ({package}.{}): unknown conversion",
            actual.version, actual.kind, wanted.kind
        )));
    }
    Err(Status::bad_request(format!(
        "the API version in the data ({}) does not match the expected API version ({})",
        actual.api_version(),
        wanted.api_version()
    )))
}

#[cfg(test)]
mod tests;
