//! `metadata.managedFields`: who owns which fields.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::differences::Differences;
use super::write::Id;
use crate::fields::FieldSet;
use crate::object;

/// So many `Update` entries are kept; older ones are merged into one.
const UPDATERS_MAX: usize = 10;
/// The manager of entries that were merged because there were too many.
const ANCIENT: &str = "ancient-changes";

/// What one manager owns.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Owned {
    pub api_version: String,
    pub set: FieldSet,
    /// RFC 3339 text of the last change.
    pub time: Option<String>,
}

/// Everybody's fields.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Managers(pub BTreeMap<Id, Owned>);

impl Managers {
    /// The versions in which somebody owns fields; one may come more than once.
    pub fn versions(&self) -> impl Iterator<Item = &str> {
        self.0.values().map(|owned| owned.api_version.as_str())
    }

    /// Reads the entries of an object; `None` when one of them is malformed.
    pub fn of(object: &Value) -> Option<Self> {
        let mut out = BTreeMap::new();
        for entry in object::get_list(object, &["metadata", "managedFields"]) {
            let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default();
            let applied = match text("operation") {
                "Apply" => true,
                "Update" => false,
                _ => return None,
            };
            if text("apiVersion").is_empty() || text("fieldsType") != "FieldsV1" {
                return None;
            }
            let id = Id {
                manager: text("manager").to_owned(),
                ..Id::new("", applied, text("apiVersion"), text("subresource"))
            };
            let owned = Owned {
                api_version: text("apiVersion").to_owned(),
                set: FieldSet::from_value(entry.get("fieldsV1").unwrap_or(&Value::Null)),
                time: entry.get("time").and_then(Value::as_str).map(str::to_owned),
            };
            out.insert(id, owned);
        }
        Some(Self(out))
    }

    /// Writes the entries into an object: appliers first, then by time and name.
    pub fn put(&self, target: &mut Value) {
        let mut entries: Vec<(&Id, &Owned)> = self.0.iter().collect();
        entries.sort_by_cached_key(|(id, owned)| (!id.applied, seconds(owned), *id));
        if entries.is_empty() {
            object::remove(target, &["metadata", "managedFields"]);
            return;
        }
        let list: Vec<Value> = entries.into_iter().map(|(id, owned)| entry(id, owned)).collect();
        object::set(target, &["metadata", "managedFields"], list);
    }

    /// Gives `fields` to a manager, on top of what it has, at that time.
    pub fn give(&mut self, id: Id, api_version: &str, fields: FieldSet, now: Timestamp) {
        let owned = self.0.entry(id).or_default();
        owned.set = std::mem::take(&mut owned.set).union(fields);
        owned.api_version = api_version.to_owned();
        owned.time = Some(object::time_text(now));
    }

    /// Takes what has changed or gone away from everyone but `keeper`; nobody stays without fields.
    pub fn take(&mut self, differences: &Differences, keeper: Option<&Id>) {
        for (id, owned) in &mut self.0 {
            if Some(id) != keeper {
                let found = differences.seen_in(&owned.api_version);
                owned.set.subtract(&found.changed);
                owned.set.subtract(&found.removed);
            }
        }
        self.0.retain(|_, owned| !owned.set.is_empty());
    }

    /// Everything that anyone owns.
    pub fn everything(&self) -> FieldSet {
        self.0
            .values()
            .fold(FieldSet::default(), |all, owned| all.union(owned.set.clone()))
    }

    /// Merges the oldest updaters of the same version while there are too many.
    pub fn cap(&mut self) {
        if self.0.len() <= UPDATERS_MAX {
            return;
        }
        let mut updaters: Vec<(i64, Id)> = self
            .0
            .iter()
            .filter(|(id, _)| !id.applied)
            .map(|(id, owned)| (seconds(owned), id.clone()))
            .collect();
        let mut count = updaters.len();
        updaters.sort();
        let mut first_of: BTreeMap<String, Id> = BTreeMap::new();
        for (_, id) in updaters {
            if count <= UPDATERS_MAX {
                break;
            }
            let version = id.api_version.clone();
            let Some(first) = first_of.get(&version).cloned() else {
                first_of.insert(version, id);
                continue;
            };
            let bucket = Id::new(ANCIENT, false, &version, "");
            if let Some(oldest) = self.0.remove(&first) {
                let merged = self.0.entry(bucket.clone()).or_default();
                merged.set = std::mem::take(&mut merged.set).union(oldest.set);
            }
            first_of.insert(version.clone(), bucket.clone());
            if let Some(next) = self.0.remove(&id) {
                let merged = self.0.entry(bucket).or_default();
                merged.set = std::mem::take(&mut merged.set).union(next.set);
                merged.api_version = version;
                merged.time = next.time;
                count -= 1;
            }
        }
    }
}

fn seconds(owned: &Owned) -> i64 {
    let time = owned
        .time
        .as_deref()
        .and_then(|text| text.parse::<Timestamp>().ok());
    time.map_or(0, Timestamp::as_second)
}

fn entry(id: &Id, owned: &Owned) -> Value {
    let mut map = Map::new();
    map.insert("manager".into(), json!(id.manager));
    map.insert(
        "operation".into(),
        json!(if id.applied { "Apply" } else { "Update" }),
    );
    map.insert("apiVersion".into(), json!(owned.api_version));
    if let Some(time) = &owned.time {
        map.insert("time".into(), json!(time));
    }
    map.insert("fieldsType".into(), json!("FieldsV1"));
    map.insert("fieldsV1".into(), owned.set.to_value());
    if !id.subresource.is_empty() {
        map.insert("subresource".into(), json!(id.subresource));
    }
    Value::Object(map)
}
