//! Sets of field paths (`FieldsV1`), the currency of server-side apply.
//!
//! A set is a tree of steps. A path may be in the set without its children,
//! and children without their parent.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

use crate::schema::{Node, TypeRef};

/// One step of a field path.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// A field of a struct or key of a map.
    Field(String),
    /// The list item with these keys, sorted by name.
    Key(Vec<(String, Value)>),
    /// The item of a set.
    Value(Value),
    /// The list item at a place.
    Index(i64),
}

/// A field path, from the object's root.
pub type Path = Vec<Step>;

impl Step {
    /// A field of a struct or key of a map.
    pub fn field(name: &str) -> Self {
        Self::Field(name.to_owned())
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Field(_) => 0,
            Self::Key(_) => 1,
            Self::Value(_) => 2,
            Self::Index(_) => 3,
        }
    }

    /// The key in `FieldsV1`, such as `f:spec` or `k:{"name":"a"}`.
    fn encode(&self) -> String {
        match self {
            Self::Field(name) => ["f:", name].concat(),
            Self::Key(keys) => {
                let map: Map<String, Value> = keys.iter().cloned().collect();
                format!("k:{}", Value::Object(map))
            }
            Self::Value(value) => format!("v:{value}"),
            Self::Index(place) => format!("i:{place}"),
        }
    }

    /// `None` for what cannot be read; Kubernetes drops that too.
    fn decode(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_at_checked(2)?;
        match kind {
            "f:" => Some(Self::Field(rest.to_owned())),
            "v:" => serde_json::from_str(rest).ok().map(Self::Value),
            "i:" => rest.parse().ok().map(Self::Index),
            "k:" => {
                let map: Map<String, Value> = serde_json::from_str(rest).ok()?;
                let mut keys: Vec<_> = map.into_iter().collect();
                keys.sort_by(|a, b| a.0.cmp(&b.0));
                Some(Self::Key(keys))
            }
            _ => None,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Key(keys) => {
                let texts: Vec<String> = keys
                    .iter()
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect();
                write!(f, "[{}]", texts.join(","))
            }
            Self::Value(value) => write!(f, "[={value}]"),
            Self::Index(place) => write!(f, "[{place}]"),
        }
    }
}

/// A path as conflicts show it: `.spec.containers[name="a"].image`.
pub fn path_text(path: &[Step]) -> String {
    path.iter().map(Step::to_string).collect()
}

impl Eq for Step {}

impl PartialOrd for Step {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Step {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Field(a), Self::Field(b)) => a.cmp(b),
            (Self::Key(a), Self::Key(b)) => compare_keys(a, b),
            (Self::Value(a), Self::Value(b)) => compare_values(a, b),
            (Self::Index(a), Self::Index(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

fn compare_keys(a: &[(String, Value)], b: &[(String, Value)]) -> Ordering {
    let pairs = a.iter().zip(b);
    let mut orders = pairs.map(|(a, b)| a.0.cmp(&b.0).then_with(|| compare_values(&a.1, &b.1)));
    orders
        .find(|order| order.is_ne())
        .unwrap_or_else(|| a.len().cmp(&b.len()))
}

/// Numbers, texts, booleans, then the rest, which never should be in a path.
fn compare_values(a: &Value, b: &Value) -> Ordering {
    let rank = |value: &Value| match value {
        Value::Number(_) => 0,
        Value::String(_) => 1,
        Value::Bool(_) => 2,
        Value::Array(_) => 3,
        Value::Object(_) => 4,
        Value::Null => 5,
    };
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => a.cmp(&b),
            _ => a
                .as_f64()
                .unwrap_or_default()
                .total_cmp(&b.as_f64().unwrap_or_default()),
        },
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Null, Value::Null) => Ordering::Equal,
        _ => rank(a)
            .cmp(&rank(b))
            .then_with(|| a.to_string().cmp(&b.to_string())),
    }
}

/// A set of field paths.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FieldSet {
    /// No branch here is empty: what loses its last path is taken out.
    steps: BTreeMap<Step, Branch>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Branch {
    /// Whether the path up to here is in the set.
    member: bool,
    below: FieldSet,
}

impl Branch {
    fn is_empty(&self) -> bool {
        !self.member && self.below.is_empty()
    }
}

impl FieldSet {
    /// A set of dotted paths, such as `metadata.labels`.
    pub fn of_dotted(paths: &[&str]) -> Self {
        let mut set = Self::default();
        for path in paths {
            set.insert(&path.split('.').map(Step::field).collect::<Path>());
        }
        set
    }

    /// Adds a path. The empty path means the whole object, which nobody owns.
    pub fn insert(&mut self, path: &[Step]) {
        let Some((last, parents)) = path.split_last() else {
            return;
        };
        let mut at = self;
        for step in parents {
            at = &mut at.steps.entry(step.clone()).or_default().below;
        }
        at.steps.entry(last.clone()).or_default().member = true;
    }

    /// Adds one step with all that lies below it.
    pub fn insert_branch(&mut self, step: Step, member: bool, below: FieldSet) {
        if member || !below.is_empty() {
            let branch = self.steps.entry(step).or_default();
            branch.member |= member;
            branch.below = std::mem::take(&mut branch.below).union(below);
        }
    }

    /// Whether the path is in the set.
    pub fn has(&self, path: &[Step]) -> bool {
        let Some((last, parents)) = path.split_last() else {
            return false;
        };
        let holder = parents
            .iter()
            .try_fold(self, |at, step| at.steps.get(step).map(|branch| &branch.below));
        holder.is_some_and(|set| set.has_step(last))
    }

    /// Whether the path of that one step is in the set.
    pub fn has_step(&self, step: &Step) -> bool {
        self.steps.get(step).is_some_and(|branch| branch.member)
    }

    /// What lies below a step.
    pub fn below(&self, step: &Step) -> Option<&FieldSet> {
        self.steps
            .get(step)
            .map(|branch| &branch.below)
            .filter(|set| !set.is_empty())
    }

    /// Whether no path is in the set.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// All paths, parents before children.
    pub fn paths(&self) -> Vec<Path> {
        let mut out = Vec::new();
        self.collect(&mut Vec::new(), &mut out);
        out
    }

    fn collect(&self, at: &mut Path, out: &mut Vec<Path>) {
        for (step, branch) in &self.steps {
            at.push(step.clone());
            if branch.member {
                out.push(at.clone());
            }
            branch.below.collect(at, out);
            at.pop();
        }
    }

    /// Paths in either.
    pub fn union(mut self, other: FieldSet) -> FieldSet {
        if self.is_empty() {
            return other;
        }
        for (step, branch) in other.steps {
            match self.steps.get_mut(&step) {
                Some(mine) => {
                    mine.member |= branch.member;
                    mine.below = std::mem::take(&mut mine.below).union(branch.below);
                }
                None => drop(self.steps.insert(step, branch)),
            }
        }
        self
    }

    /// Paths in both.
    pub fn intersection(&self, other: &FieldSet) -> FieldSet {
        self.combine(other, &|mine, theirs| Branch {
            member: mine.member && theirs.is_some_and(|branch| branch.member),
            below: theirs
                .map(|branch| mine.below.intersection(&branch.below))
                .unwrap_or_default(),
        })
    }

    /// Paths here that are not in `other`.
    pub fn difference(&self, other: &FieldSet) -> FieldSet {
        self.combine(other, &|mine, theirs| match theirs {
            None => mine.clone(),
            Some(theirs) => Branch {
                member: mine.member && !theirs.member,
                below: mine.below.difference(&theirs.below),
            },
        })
    }

    /// Takes out the paths that are in `other`.
    pub fn subtract(&mut self, other: &FieldSet) {
        if other.is_empty() {
            return;
        }
        self.steps.retain(|step, mine| {
            if let Some(theirs) = other.steps.get(step) {
                mine.member &= !theirs.member;
                mine.below.subtract(&theirs.below);
            }
            !mine.is_empty()
        });
    }

    /// Paths here that are neither in `other` nor below a path in `other`.
    pub fn without(&self, other: &FieldSet) -> FieldSet {
        self.combine(other, &|mine, theirs| match theirs {
            None => mine.clone(),
            Some(theirs) if theirs.member => Branch::default(),
            Some(theirs) => Branch {
                member: mine.member,
                below: mine.below.without(&theirs.below),
            },
        })
    }

    fn combine(&self, other: &FieldSet, one: &dyn Fn(&Branch, Option<&Branch>) -> Branch) -> FieldSet {
        let steps = self
            .steps
            .iter()
            .map(|(step, mine)| (step.clone(), one(mine, other.steps.get(step))));
        FieldSet {
            steps: steps.filter(|(_, branch)| !branch.is_empty()).collect(),
        }
    }

    /// The set, with every declared struct field on the way to a path added. They are usually left
    /// out; when items are removed, they count.
    pub fn with_named(&self, node: &Node) -> FieldSet {
        let steps = self.steps.iter().map(|(step, branch)| {
            let (declared, inner) = match (node, step) {
                (Node::Struct(of), Step::Field(name)) => named(of, name),
                (Node::Map(inner) | Node::List(inner), _) => (false, Some(Node::clone(inner))),
                _ => (false, None),
            };
            let member = branch.member || (declared && !branch.below.is_empty());
            let below = inner.map_or_else(|| branch.below.clone(), |inner| branch.below.with_named(&inner));
            (step.clone(), Branch { member, below })
        });
        FieldSet {
            steps: steps.collect(),
        }
    }

    /// As `fieldsV1` in `managedFields`.
    pub fn to_value(&self) -> Value {
        Value::Object(self.encode(false))
    }

    fn encode(&self, member: bool) -> Map<String, Value> {
        let mut map = Map::new();
        if member && !self.is_empty() {
            map.insert(".".to_owned(), Value::Object(Map::new()));
        }
        for (step, branch) in &self.steps {
            map.insert(step.encode(), Value::Object(branch.below.encode(branch.member)));
        }
        map
    }

    /// From `fieldsV1`; what cannot be read is left out.
    pub fn from_value(value: &Value) -> Self {
        let mut set = Self::default();
        for (key, inner) in value.as_object().into_iter().flatten() {
            let Some(step) = Step::decode(key) else { continue };
            let below = Self::from_value(inner);
            let member = below.is_empty() || inner.get(".").is_some();
            set.steps.insert(step, Branch { member, below });
        }
        set
    }
}

fn named(of: &TypeRef, name: &str) -> (bool, Option<Node>) {
    match of.get().field(name) {
        Some(field) => (true, Some(field.node.clone())),
        None => (false, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn set(value: Value) -> FieldSet {
        FieldSet::from_value(&value)
    }

    #[test]
    fn writes_paths_as_conflicts_show_them() {
        let all = set(
            json!({"f:spec": {"f:containers": {"k:{\"name\":\"a\"}": {".": {}, "f:image": {}}},
            "f:finalizers": {"v:\"x/y\"": {}}, "f:list": {"i:3": {}}}}),
        );
        let texts: Vec<String> = all.paths().iter().map(|path| path_text(path)).collect();
        assert_eq!(
            texts,
            [
                ".spec.containers[name=\"a\"]",
                ".spec.containers[name=\"a\"].image",
                ".spec.finalizers[=\"x/y\"]",
                ".spec.list[3]"
            ]
        );
    }

    #[test]
    fn keeps_the_wire_form() {
        let text = json!({"f:metadata": {"f:labels": {".": {}, "f:app": {}}},
            "f:spec": {"f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}}}, "f:type": {}}});
        assert_eq!(set(text.clone()).to_value(), text);
        assert_eq!(
            set(json!({"x:unknown": {}, "f:a": {}})).to_value(),
            json!({"f:a": {}})
        );
    }

    #[test]
    fn does_set_arithmetic() {
        let a = set(json!({"f:a": {".": {}, "f:b": {}}, "f:c": {}}));
        let b = set(json!({"f:a": {"f:b": {}}, "f:d": {}}));
        assert_eq!(a.difference(&b).to_value(), json!({"f:a": {}, "f:c": {}}));
        assert_eq!(a.intersection(&b).to_value(), json!({"f:a": {"f:b": {}}}));
        let whole = set(json!({"f:a": {}}));
        assert_eq!(a.without(&whole).to_value(), json!({"f:c": {}}));
        assert_eq!(
            a.difference(&whole).to_value(),
            json!({"f:a": {"f:b": {}}, "f:c": {}})
        );
    }

    fn any_set() -> impl Strategy<Value = FieldSet> {
        let step = prop_oneof![
            "f:[ab]",
            Just("k:{\"name\":\"x\"}".to_owned()),
            Just("v:1".to_owned())
        ];
        let leaf = Just(json!({}));
        let tree = leaf.prop_recursive(3, 12, 3, move |inner| {
            let children = proptest::collection::btree_map(step.clone(), inner, 1..3);
            (children, any::<bool>()).prop_map(|(children, member)| {
                let mut map: Map<String, Value> = children.into_iter().collect();
                if member {
                    map.insert(".".into(), json!({}));
                }
                Value::Object(map)
            })
        });
        tree.prop_map(|value| FieldSet::from_value(&value))
    }

    proptest! {
        #[test]
        fn sets_obey_their_laws(a in any_set(), b in any_set()) {
            prop_assert_eq!(FieldSet::from_value(&a.to_value()), a.clone());
            prop_assert_eq!(a.clone().union(b.clone()).paths(), b.clone().union(a.clone()).paths());
            prop_assert!(a.difference(&b).intersection(&b).is_empty());
            prop_assert_eq!(a.difference(&b).union(a.intersection(&b)).paths(), a.paths());
            let mut less = a.clone();
            less.subtract(&b);
            prop_assert_eq!(less.is_empty(), less.paths().is_empty());
            prop_assert_eq!(less, a.difference(&b));
        }
    }
}
