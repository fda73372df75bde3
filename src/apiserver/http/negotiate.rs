//! Which form of an answer a client wants: media type, and table or metadata
//! in place of the whole object.

use api::status::Status;
use http::HeaderMap;
use http::header::{ACCEPT, ACCEPT_ENCODING, HeaderName};

/// How the bytes are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `application/json`.
    #[default]
    Json,
    /// `application/yaml`.
    Yaml,
}

/// What is sent in place of the object itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    /// The object.
    #[default]
    Whole,
    /// `meta.k8s.io/v1` `Table`.
    Table,
    /// `meta.k8s.io/v1` `PartialObjectMetadata`, or its list.
    Metadata,
}

/// The form of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Form {
    /// How the bytes are written.
    pub format: Format,
    /// What is sent.
    pub shape: Shape,
    /// Whether `meta.k8s.io/v1beta1` was asked for instead of `v1`: the same under an older name.
    pub beta: bool,
    /// Whether a watch was asked for with `stream=watch`.
    pub stream: bool,
}

impl Form {
    /// The `Content-Type` of such an answer.
    pub fn content_type(self) -> &'static str {
        match self.format {
            Format::Json => "application/json",
            Format::Yaml => "application/yaml",
        }
    }
}

/// One media range of an `Accept` header.
#[derive(Debug)]
pub struct Range<'a> {
    /// `type/subtype`, either of which may be `*`.
    pub media: &'a str,
    /// Parameters.
    pub parameters: Vec<(&'a str, &'a str)>,
    quality: f32,
}

impl<'a> Range<'a> {
    /// A parameter's value.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.parameters
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| *value)
    }
}

/// The media ranges of all `Accept` headers, the most wanted first.
pub fn accepted(headers: &HeaderMap) -> Vec<Range<'_>> {
    let mut ranges: Vec<Range<'_>> = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(range)
        .collect();
    // Stable: of two that are wanted equally, the one named first wins.
    ranges.sort_by(|a, b| b.quality.total_cmp(&a.quality));
    ranges
}

fn range(text: &str) -> Option<Range<'_>> {
    let mut parts = text.split(';').map(str::trim);
    let media = parts.next().filter(|m| !m.is_empty())?;
    let pairs = parts.filter_map(|part| part.split_once('='));
    let parameters: Vec<_> = pairs
        .map(|(k, v)| (k.trim(), v.trim().trim_matches('"')))
        .collect();
    let quality = parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case("q"));
    let quality = quality.and_then(|(_, value)| value.parse().ok()).unwrap_or(1.0);
    (quality > 0.0).then_some(Range {
        media,
        parameters,
        quality,
    })
}

/// The first acceptable form; `tables` says whether the resource has any.
pub fn form(headers: &HeaderMap, tables: bool) -> Result<Form, Status> {
    let ranges = accepted(headers);
    if ranges.is_empty() {
        return Ok(Form::default());
    }
    ranges
        .iter()
        .find_map(|range| acceptable(range, tables))
        .ok_or_else(not_acceptable)
}

fn acceptable(range: &Range<'_>, tables: bool) -> Option<Form> {
    let format = match range.media {
        "application/json" | "*/*" | "application/*" => Format::Json,
        "application/yaml" => Format::Yaml,
        _ => return None,
    };
    let (group, version) = (range.get("g"), range.get("v"));
    let known = group == Some("meta.k8s.io") && matches!(version, Some("v1" | "v1beta1"));
    let shape = match range.get("as") {
        None => Shape::Whole,
        Some("Table") if known && tables => Shape::Table,
        Some("PartialObjectMetadata" | "PartialObjectMetadataList") if known => Shape::Metadata,
        Some(_) => return None,
    };
    let stream = match range.get("stream") {
        None => false,
        Some("watch") => true,
        Some(_) => return None,
    };
    Some(Form {
        format,
        shape,
        beta: shape != Shape::Whole && version == Some("v1beta1"),
        stream,
    })
}

fn not_acceptable() -> Status {
    Status::new(
        406,
        "NotAcceptable",
        "only the following media types are accepted: application/json, application/yaml",
    )
}

/// The refusal of a form in which there are no streams of events.
pub fn not_streamed() -> Status {
    Status::new(
        406,
        "NotAcceptable",
        "only the following media types are accepted: application/json;stream=watch",
    )
}

/// Whether the client takes gzip.
pub fn gzip(headers: &HeaderMap) -> bool {
    lists(headers, &ACCEPT_ENCODING, "gzip")
}

/// Whether a comma-separated header lists that word (parameters aside; `q=0` means no).
pub fn lists(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let values = headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|item| {
        let (item, parameters) = item.split_once(';').unwrap_or((item, ""));
        item.trim().eq_ignore_ascii_case(word) && parameters.replace(' ', "") != "q=0"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(accept: &str) -> Result<Form, Status> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().unwrap());
        form(&headers, true)
    }

    #[test]
    fn clients_get_the_form_they_prefer() {
        let whole = Form::default();
        let table = Form {
            shape: Shape::Table,
            ..whole
        };
        for (accept, expected) in [
            ("application/json", whole),
            ("*/*", whole),
            (
                "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
                table,
            ),
            (
                "application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
                Form { beta: true, ..table },
            ),
            (
                "application/json;as=Table;v=v2;g=meta.k8s.io,application/json",
                whole,
            ),
            ("application/vnd.kubernetes.protobuf,application/json", whole),
            (
                "application/yaml",
                Form {
                    format: Format::Yaml,
                    ..whole
                },
            ),
            ("application/yaml;q=0.5, application/json", whole),
            (
                "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
                Form {
                    shape: Shape::Metadata,
                    ..whole
                },
            ),
            (
                "application/json;stream=watch",
                Form {
                    stream: true,
                    ..whole
                },
            ),
        ] {
            assert_eq!(asked(accept), Ok(expected), "{accept}");
        }
        assert_eq!(form(&HeaderMap::new(), false), Ok(whole));
        assert_eq!(asked("text/html").unwrap_err().code, 406);
    }

    #[test]
    fn gzip_is_used_when_listed() {
        let mut headers = HeaderMap::new();
        assert!(!gzip(&headers));
        headers.insert(ACCEPT_ENCODING, "deflate, gzip;q=1.0".parse().unwrap());
        assert!(gzip(&headers));
        headers.insert(ACCEPT_ENCODING, "gzip;q=0".parse().unwrap());
        assert!(!gzip(&headers));
    }
}
