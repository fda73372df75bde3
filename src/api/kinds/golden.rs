//! What is refused, word for word: the tables in `golden/` say for every kind what Kubernetes answers to objects
//! that break one of its rules.
//!
//! A case changes the kind's sample (`samples.yaml`) by paths such as `spec.containers[0].name`, where null takes away,
//! and says what the whole answer names, one `path: text` for each cause:
//!
//!   create  what is changed in the object that is created
//!   update  what is changed in an object that is there; `part` is the subresource that is written, if any
//!   base    what is changed in the sample before that
//!   is      the causes; `…` stands for any text, where it is long or not ours to repeat
//!   warns   instead of causes: what the client is told of an object that is taken

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{find, metadata};
use crate::canon;
use crate::kind::Kind;
use crate::schema::Schemas;
use crate::status::{Cause, FieldError, Status};

const TABLES: [&str; 11] = [
    include_str!("golden/pods.yaml"),
    include_str!("golden/volumes.yaml"),
    include_str!("golden/core.yaml"),
    include_str!("golden/services.yaml"),
    include_str!("golden/workloads.yaml"),
    include_str!("golden/network.yaml"),
    include_str!("golden/storage.yaml"),
    include_str!("golden/extension.yaml"),
    include_str!("golden/definitions.yaml"),
    include_str!("golden/asked.yaml"),
    include_str!("golden/warnings.yaml"),
];

type Changes = Map<String, Value>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    #[serde(default)]
    base: Changes,
    create: Option<Changes>,
    update: Option<Changes>,
    #[serde(default)]
    part: String,
    #[serde(default)]
    is: Vec<String>,
    warns: Option<Vec<String>>,
}

impl Case {
    fn expected(&self) -> &[String] {
        self.warns.as_deref().unwrap_or(&self.is)
    }
}

#[derive(Deserialize)]
struct Sample {
    object: Value,
}

fn samples() -> BTreeMap<String, Sample> {
    use base64::Engine as _;
    let request = base64::engine::general_purpose::STANDARD.encode(include_str!("golden/request.pem"));
    let kept = include_str!("samples.yaml").replace("@CSR@", &request);
    let mut samples: BTreeMap<String, Sample> = serde_saphyr::from_str(&kept).unwrap();
    let asked: BTreeMap<String, Sample> =
        serde_saphyr::from_str(include_str!("golden/asked_samples.yaml")).unwrap();
    samples.extend(asked);
    samples
}

/// The objects of all tables, right and wrong ones.
pub(crate) fn objects() -> Vec<(&'static Kind, Value)> {
    let samples = samples();
    let mut all = Vec::new();
    for table in TABLES {
        let table: BTreeMap<String, Vec<Case>> = serde_saphyr::from_str(table).unwrap();
        for (place, cases) in table {
            let (kind, sample) = (kind_of(&place), &samples[&place]);
            for case in &cases {
                let mut object = Trial { kind, sample, case }.object();
                let changes = case.create.iter().chain(&case.update);
                changes.for_each(|changes| change_all(&mut object, changes));
                all.push((kind, object));
            }
        }
    }
    all
}

#[test]
fn what_breaks_a_rule_is_refused_in_kubernetes_words() {
    let samples = samples();
    let (mut wrong, mut tried, mut count) = (Vec::new(), BTreeSet::new(), 0);
    for table in TABLES {
        let table: BTreeMap<String, Vec<Case>> = serde_saphyr::from_str(table).unwrap();
        for (place, cases) in table {
            let kind = kind_of(&place);
            let sample = samples
                .get(&place)
                .unwrap_or_else(|| panic!("no sample of {place}"));
            for case in &cases {
                count += 1;
                if let Err(why) = (Trial { kind, sample, case }).run() {
                    wrong.push(format!("{place} {:?}:\n{why}", case.expected()));
                }
            }
            tried.insert(place);
        }
    }
    let untried: Vec<&String> = samples.keys().filter(|place| !tried.contains(*place)).collect();
    assert!(untried.is_empty(), "no table says what is wrong with {untried:?}");
    assert!(
        wrong.is_empty(),
        "{} of {count} cases:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

fn kind_of(place: &str) -> &'static Kind {
    let mut parts = place.rsplitn(3, '/');
    let mut next = || parts.next().unwrap_or_default();
    let (plural, version, group) = (next(), next(), next());
    find(group, version, plural).unwrap_or_else(|| panic!("no kind {place}"))
}

struct Trial<'t> {
    kind: &'static Kind,
    sample: &'t Sample,
    case: &'t Case,
}

impl Trial<'_> {
    fn run(&self) -> Result<(), String> {
        let mut object = self.object();
        let Some(changes) = &self.case.update else {
            change_all(
                &mut object,
                self.case.create.as_ref().ok_or("neither create nor update")?,
            );
            let errors = self.create(&mut object);
            return self.compare(&object, None, &errors);
        };
        let refused = self.create(&mut object);
        if let [first, ..] = refused.as_slice() {
            return Err(format!("  the base is refused: {first}"));
        }
        let mut new = object.clone();
        change_all(&mut new, changes);
        let errors = self.update(&mut new, &object)?;
        self.compare(&new, Some(&object), &errors)
    }

    fn object(&self) -> Value {
        let mut object = self.sample.object.clone();
        let kind = self.kind;
        object["apiVersion"] = kind.api_version().into();
        object["kind"] = kind.kind.into();
        if kind.stored() {
            if object["metadata"]["name"].is_null() {
                object["metadata"]["name"] = "golden".into();
            }
            object["metadata"]["uid"] = "1-2-3".into();
        }
        if kind.namespaced {
            object["metadata"]["namespace"] = "default".into();
        }
        change_all(&mut object, &self.case.base);
        object
    }

    /// The way of an object through the kind's functions when it is created.
    fn create(&self, object: &mut Value) -> Vec<FieldError> {
        self.shape(object);
        (self.kind.prepare_create)(object);
        self.kind.check_create(object)
    }

    /// The same when it is changed, as a whole or in part.
    fn update(&self, new: &mut Value, old: &Value) -> Result<Vec<FieldError>, String> {
        self.shape(new);
        if self.case.part.is_empty() {
            (self.kind.prepare_update)(new, old);
            return Ok(self.kind.check_update(new, old));
        }
        let part = self.kind.part(&self.case.part).ok_or("no such part")?;
        (part.prepare)(new, old);
        let mut errors = metadata::validate_update(new, old);
        errors.extend((part.validate)(new, old));
        Ok(errors)
    }

    fn shape(&self, object: &mut Value) {
        let kind = self.kind;
        (kind.default)(object);
        let schema = Schemas::builtin().for_kind(kind.group, kind.version, kind.kind);
        canon::canonicalize(object, &schema.expect("every kind has a schema"));
    }

    fn compare(&self, object: &Value, old: Option<&Value>, errors: &[FieldError]) -> Result<(), String> {
        let kind = self.kind;
        match (&self.case.warns, errors) {
            (Some(wanted), []) => {
                let got = (kind.warnings)(object, old);
                return all_fit(&got, wanted).then_some(()).ok_or(format!("  {got:#?}"));
            }
            (Some(_), [first, ..]) => return Err(format!("  is refused: {first}")),
            (None, []) => return Err(format!("  was taken: {object}")),
            _ => {}
        }
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let status = Status::invalid(kind.group, kind.kind, name, errors);
        let details = status.details.as_deref().ok_or("no details")?;
        let got: Vec<String> = details.causes.iter().map(text_of).collect();
        if !all_fit(&got, &self.case.is) {
            return Err(format!("  {got:#?}"));
        }
        assert_eq!((status.code, status.reason.as_str()), (422, "Invalid"));
        let about = (
            details.name.as_str(),
            details.group.as_str(),
            details.kind.as_str(),
        );
        assert_eq!(about, (name, kind.group, kind.kind));
        assert_eq!(status.message, self.message(name, &got));
        match details
            .causes
            .iter()
            .find(|cause| cause.reason != reason_of(&cause.message))
        {
            Some(cause) => Err(format!("  {} is no reason for {}", cause.reason, cause.message)),
            None => Ok(()),
        }
    }

    /// The whole text, which says nothing twice.
    fn message(&self, name: &str, causes: &[String]) -> String {
        let subject = match self.kind.group {
            "" => self.kind.kind.to_owned(),
            group => format!("{}.{group}", self.kind.kind),
        };
        let mut seen = BTreeSet::new();
        let said: Vec<&str> = causes
            .iter()
            .map(String::as_str)
            .filter(|text| seen.insert(*text))
            .collect();
        let list = crate::go::aggregate(&said);
        format!("{subject} {name:?} is invalid: {list}")
    }
}

fn text_of(cause: &Cause) -> String {
    format!("{}: {}", cause.field, cause.message)
}

fn all_fit(got: &[String], wanted: &[String]) -> bool {
    got.len() == wanted.len() && got.iter().zip(wanted).all(|(got, is)| fits(got, is))
}

/// Whether a text is what is expected, in which `…` stands for anything.
fn fits(got: &str, expected: &str) -> bool {
    match expected.split_once('…') {
        None => got == expected,
        Some((head, tail)) => got.strip_prefix(head).is_some_and(|rest| {
            let mut ends = (0..=rest.len()).filter_map(|at| rest.get(at..));
            ends.any(|end| fits(end, tail))
        }),
    }
}

/// The reason that goes with the beginning of a cause's text.
fn reason_of(message: &str) -> &'static str {
    const REASONS: [(&str, &str); 8] = [
        ("Required value", "FieldValueRequired"),
        ("Invalid value", "FieldValueInvalid"),
        ("Unsupported value", "FieldValueNotSupported"),
        ("Duplicate value", "FieldValueDuplicate"),
        ("Forbidden", "FieldValueForbidden"),
        ("Not found", "FieldValueNotFound"),
        ("Too long", "FieldValueTooLong"),
        ("Too many", "FieldValueTooMany"),
    ];
    if message.contains(" in body must be of type ") {
        return "FieldValueTypeInvalid";
    }
    let found = REASONS.iter().find(|(head, _)| message.starts_with(head));
    found.map_or("", |(_, reason)| *reason)
}

fn change_all(object: &mut Value, changes: &Changes) {
    for (path, value) in changes {
        change(object, path, value);
    }
}

/// Puts a value at a path, or takes away what is there; a list's item that is one past the end is added.
fn change(object: &mut Value, path: &str, value: &Value) {
    let steps: Vec<&str> = path
        .split(['.', '['])
        .map(|step| step.trim_end_matches(']'))
        .collect();
    let (last, before) = steps.split_last().expect("a path");
    let mut at = object;
    for step in before {
        at = below(at, step);
    }
    match (value, at.as_object_mut()) {
        (Value::Null, Some(map)) => {
            map.remove(*last);
        }
        _ => *below(at, last) = value.clone(),
    }
}

fn below<'v>(at: &'v mut Value, step: &str) -> &'v mut Value {
    let Ok(i) = step.parse::<usize>() else {
        return &mut at[step];
    };
    if at.is_null() {
        *at = json!([]);
    }
    let list = at.as_array_mut().expect("a list");
    if list.len() == i {
        list.push(Value::Null);
    }
    &mut list[i]
}
