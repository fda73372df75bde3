//! Custom resources: what a CustomResourceDefinition says, as a [`Kind`] like any other.
//!
//! ```text
//! definition ─ names ─▶ conditions, accepted names
//!     │ served versions
//!     ▼
//! CustomKind ─ Kind (names, verbs, subresources: read when the definition changes)
//!            └ Compiled (schema, rules, patterns: read when first needed)
//! ```
//!
//! Schemas stay what they are, JSON; [`schema::Schema`](crate::schema) is made of them for decoding and apply.

pub mod approval;
mod check;
mod columns;
mod compiled;
mod defaults;
mod definition;
mod embedded;
mod fixed;
mod names;
mod paths;
mod patterns;
mod rule_check;
mod rules;
mod scaled;
mod shape;
mod structural;
mod unique;

pub use columns::validate as validate_column;
pub use definition::{is_true, new_status, storage_version};
pub use fixed::Fixed;
pub use names::{Verdict, by_priority, condition, judge};
pub use paths::{member, simple as is_simple_path};
pub use structural::validate as validate_schema;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;

use crate::intern;
use crate::kind::{ALL_VERBS, Column, Findings, Kind, PART_VERBS, Part, ScalePaths, Subresource};
use crate::kinds::metadata;
use crate::names::subdomain;
use crate::object;
use crate::schema::{Gvk, SchemaRef};
use crate::value::{get, get_mut, keep, list, remove, same, set, text};
use columns::PrinterColumn;
use compiled::Compiled;

/// Group and plural of the definitions themselves.
pub const GROUP: &str = "apiextensions.k8s.io";
/// Plural of the definitions themselves.
pub const PLURAL: &str = "customresourcedefinitions";
/// Keeps a definition that is being deleted until its objects are gone.
pub const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

/// Makes the cells of a row.
pub type Row = fn(&Value, Timestamp) -> Vec<Value>;

/// One served version of a custom kind.
pub struct CustomKind {
    kind: Kind,
    columns: Vec<Column>,
    printed: Vec<PrinterColumn>,
    /// What makes its rows, if not the printed columns.
    row: Option<Row>,
    /// The definition's text, shared with the store.
    source: Bytes,
    /// Name of the version whose objects these are, and of the stored one.
    version: &'static str,
    stored: &'static str,
    /// Names of all versions of the definition, served or not.
    versions: &'static [&'static str],
    list_kind: &'static str,
    has_status: bool,
    terminating: bool,
    /// The webhook that converts between versions; `None` when a change of name does.
    conversion: Option<Value>,
    /// The definition's UID and generation: what is made of it is made anew when they change.
    generation: (String, i64),
    compiled: OnceLock<Compiled>,
}

/// The served versions of a definition, the preferred one first; none unless it is established.
pub fn kinds(definition: &Value, source: &Bytes) -> Vec<Arc<CustomKind>> {
    if !is_true(definition, "Established") {
        return Vec::new();
    }
    let mut versions: Vec<&Value> = list(definition, "spec.versions")
        .iter()
        .filter(|version| get(version, "served") == true)
        .collect();
    versions.sort_by(|a, b| names::by_priority(text(a, "name"), text(b, "name")));
    versions
        .into_iter()
        .map(|version| Arc::new(CustomKind::new(definition, version, source)))
        .collect()
}

fn texts<'v>(value: &'v Value, path: &str) -> impl Iterator<Item = &'v str> {
    list(value, path).iter().filter_map(Value::as_str)
}

impl CustomKind {
    fn new(definition: &Value, version: &Value, source: &Bytes) -> Self {
        let name = intern::text(text(version, "name"));
        let accepted = get(definition, "status.acceptedNames");
        let kind_name = intern::text(text(accepted, "kind"));
        let has_status = get(version, "subresources.status").is_object();
        let printed = columns::of(version);
        let kind = Kind {
            group: intern::text(text(definition, "spec.group")),
            version: name,
            kind: kind_name,
            plural: intern::text(text(accepted, "plural")),
            singular: intern::text(text(accepted, "singular")),
            short_names: intern::list(texts(accepted, "shortNames")),
            categories: intern::list(texts(accepted, "categories")),
            namespaced: text(definition, "spec.scope") == "Namespaced",
            verbs: ALL_VERBS,
            subresources: subresources(version, kind_name),
            scale_paths: scale_paths(version),
            create_on_update: false,
            returns_deleted: false,
            unconditional_update: false,
            storage_version_hash: intern::text(&names::version_hash(definition)),
            name_rule: subdomain,
            field_names: intern::list(list(version, "selectableFields").iter().map(label)),
            reset_fields: if has_status { &["status"] } else { &[] },
            reset_fields_status: &["metadata", "spec"],
            warning: intern::text(&warning(definition, version)),
            ..Kind::NAMESPACED
        };
        Self {
            kind,
            columns: printed.iter().map(PrinterColumn::column).collect(),
            printed,
            row: None,
            source: source.clone(),
            version: name,
            stored: intern::text(storage_version(definition)),
            versions: intern::list(list(definition, "spec.versions").iter().map(|v| text(v, "name"))),
            list_kind: intern::text(text(accepted, "listKind")),
            has_status,
            terminating: is_true(definition, "Terminating"),
            conversion: (text(definition, "spec.conversion.strategy") == "Webhook")
                .then(|| get(definition, "spec.conversion.webhook").clone()),
            generation: (object::uid(definition).to_owned(), object::generation(definition)),
            compiled: OnceLock::new(),
        }
    }

    /// The descriptor.
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// The kind of its lists.
    pub fn list_kind(&self) -> &'static str {
        self.list_kind
    }

    /// The version in which its objects are kept.
    pub fn stored_version(&self) -> &'static str {
        self.stored
    }

    /// Whether its definition has a version of that name, served or not.
    pub fn has_version(&self, name: &str) -> bool {
        self.versions.contains(&name)
    }

    /// Whether its definition is being deleted, so that no object may be made.
    pub fn is_terminating(&self) -> bool {
        self.terminating
    }

    /// The webhook that converts between its versions (`spec.conversion.webhook`); `None` when they differ in
    /// their names alone.
    pub fn conversion(&self) -> Option<&Value> {
        self.conversion.as_ref()
    }

    /// What identifies the state of its definition.
    pub fn generation(&self) -> &(String, i64) {
        &self.generation
    }

    fn compiled(&self) -> &Compiled {
        self.compiled.get_or_init(|| {
            let mut definition: Value = serde_json::from_slice(&self.source).unwrap_or_default();
            let versions = get_mut(&mut definition, "spec.versions").and_then(Value::as_array_mut);
            let version = versions
                .into_iter()
                .flatten()
                .find(|version| text(version, "name") == self.version);
            let schema = version.and_then(|version| get_mut(version, "schema.openAPIV3Schema"));
            let gvk = Gvk::new(self.kind.group, self.kind.version, self.kind.kind);
            Compiled::new(schema.map(Value::take).unwrap_or_default(), gvk)
        })
    }

    /// The schema of its objects, for decoding and apply.
    pub fn schema(&self) -> SchemaRef {
        self.compiled().shape.clone()
    }

    /// The schema as its definition has it (`openAPIV3Schema`).
    pub fn open_api(&self) -> &Value {
        &self.compiled().schema
    }

    /// Fills in defaults; null where null may not be is as good as absent.
    pub fn fill(&self, object: &mut Value) {
        defaults::fill_root(object, &self.compiled().schema);
    }

    /// Whether objects that were written under an earlier schema may lack defaults that they have by now.
    pub fn gained_defaults(&self) -> bool {
        self.generation.1 > 1 && self.compiled().has_defaults
    }

    /// Before the first validation.
    pub fn prepare_create(&self, object: &mut Value) {
        if self.has_status {
            remove(object, "status");
        }
        metadata::set_generation(object, 1);
    }

    /// `(new, old)`: status stays where it is apart; the generation counts changes of everything but metadata.
    pub fn prepare_update(&self, new: &mut Value, old: &Value) {
        if self.has_status {
            keep(new, old, "status");
        }
        let changed = !same(&without_metadata(new), &without_metadata(old));
        metadata::bump_generation(new, old, changed);
    }

    /// `(new, old)`: only the status is written.
    pub fn prepare_status(&self, new: &mut Value, old: &Value) {
        let status = get(new, "status").clone();
        let managed = get(new, "metadata.managedFields").clone();
        let version = get(new, "metadata.resourceVersion").clone();
        let mut kept = old.clone();
        set(&mut kept, "apiVersion", get(new, "apiVersion").clone());
        remove(&mut kept, "status");
        if !status.is_null() {
            set(&mut kept, "status", status);
        }
        object::set(&mut kept, &["metadata", "managedFields"], managed);
        object::set(&mut kept, &["metadata", "resourceVersion"], version);
        *new = kept;
    }

    /// What is wrong with an object, after what was `found` wrong with its metadata; what was already wrong with `old`
    /// and did not change is let be, and told.
    pub fn check(&self, object: &Value, old: Option<&Value>, found: Findings) -> Findings {
        self.compiled().check(object, old, self.scale(), found)
    }

    /// The same of an object of which only the status is written.
    pub fn check_status(&self, object: &Value, old: &Value, found: Findings) -> Findings {
        self.compiled().check_status(object, old, self.scale(), found)
    }

    /// Where its `scale` finds its numbers, if it has one.
    fn scale(&self) -> Option<&ScalePaths> {
        self.kind.subresource("scale").map(|_| &self.kind.scale_paths)
    }

    /// The values of its selectable fields.
    pub fn fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        let shown = |label: &&'static str| {
            let value = match get(object, label) {
                Value::Null => String::new(),
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            (*label, value)
        };
        self.kind.field_names.iter().map(shown).collect()
    }

    /// The columns of its table.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// One cell for each column.
    pub fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        if let Some(row) = self.row {
            return row(object, now);
        }
        self.printed
            .iter()
            .map(|column| column.cell(object, now))
            .collect()
    }
}

/// Everything but metadata and what names the form.
fn without_metadata(object: &Value) -> Value {
    let mut rest = object.clone();
    for key in ["metadata", "apiVersion", "kind"] {
        remove(&mut rest, key);
    }
    rest
}

/// The label under which a selectable field is asked for: its path without the leading dot.
fn label(field: &Value) -> &str {
    text(field, "jsonPath").trim_start_matches('.')
}

fn subresources(version: &Value, kind: &'static str) -> &'static [Subresource] {
    let status = get(version, "subresources.status").is_object();
    let scale = get(version, "subresources.scale").is_object();
    // The rules of both are the custom kind's own: see `KindRef`.
    const NOTHING: Part = Part {
        prepare: |_, _| {},
        validate: |_, _| Vec::new(),
        reset_fields: &["metadata", "spec"],
    };
    let mut out = Vec::new();
    if status {
        out.push(Subresource::new("status", kind, PART_VERBS).view(NOTHING));
    }
    if scale {
        out.push(Subresource::scale());
    }
    kept(kind, out)
}

/// Lists of subresources that live as long as the process: as few as there are names of kinds, four times over.
fn kept(kind: &'static str, list: Vec<Subresource>) -> &'static [Subresource] {
    static KNOWN: LazyLock<Mutex<HashMap<Key, &'static [Subresource]>>> = LazyLock::new(Mutex::default);
    type Key = (&'static str, Vec<&'static str>);
    let key = (kind, list.iter().map(|part| part.name).collect());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    known.entry(key).or_insert_with(|| Box::leak(list.into()))
}

fn scale_paths(version: &Value) -> ScalePaths {
    let scale = get(version, "subresources.scale");
    let path = |key: &str| intern::text(text(scale, key).trim_start_matches('.'));
    if !scale.is_object() {
        return ScalePaths::USUAL;
    }
    ScalePaths {
        replicas: path("specReplicasPath"),
        current: path("statusReplicasPath"),
        selector: path("labelSelectorPath"),
    }
}

fn warning(definition: &Value, version: &Value) -> String {
    if get(version, "deprecated") != true {
        return String::new();
    }
    match text(version, "deprecationWarning") {
        "" => format!(
            "{}/{} {} is deprecated",
            text(definition, "spec.group"),
            text(version, "name"),
            text(definition, "spec.names.kind")
        ),
        own => own.to_owned(),
    }
}

#[cfg(test)]
pub(crate) mod tests;
