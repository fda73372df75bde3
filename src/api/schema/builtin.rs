//! The built-in kinds' schemas, read from `types.txt` one type at a time.
//!
//! Nothing is parsed before it is asked for: the first use only notes where
//! each type's lines begin, and a type's fields are read when something first
//! looks into it. What has been read stays, shared by all kinds.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, OnceLock};

use super::{ApplyKind, Field, Gvk, Merge, Node, Scalar, Schema, SchemaRef, Type, TypeRef};

static TABLE: &str = include_str!("types.txt");
static SCHEMAS: LazyLock<Schemas> = LazyLock::new(Schemas::index);

/// Kinds that clients send to any group, so they are looked up without one.
const GROUPLESS: &[&str] = &[
    "DeleteOptions",
    "Status",
    "PartialObjectMetadata",
    "WatchEvent",
    "ListMeta",
    "ObjectMeta",
];

/// Earlier versions whose types are those of v1, field for field.
const SHAPED_LIKE: &[(&str, &str)] = &[
    ("admissionregistration.v1alpha1.", "admissionregistration.v1."),
    ("admissionregistration.v1beta1.", "admissionregistration.v1."),
    ("networking.v1beta1.", "networking.v1."),
    ("resource.v1beta2.", "resource.v1."),
    ("storage.v1beta1.", "storage.v1."),
];

/// The table's name of the type that has the shape of the type of that name.
pub fn shape(name: &str) -> Cow<'_, str> {
    let found = SHAPED_LIKE
        .iter()
        .find_map(|(early, stable)| Some(format!("{stable}{}", name.strip_prefix(early)?)));
    found.map_or(Cow::Borrowed(name), Cow::Owned)
}

/// All built-in kinds' schemas.
pub struct Schemas {
    types: Vec<Entry>,
    /// Kinds already asked for. A plain mutex: nothing waits inside it.
    kinds: Mutex<HashMap<Gvk, SchemaRef>>,
}

/// One type of the table: its name, where its fields begin, and the parsed form once there is one.
struct Entry {
    name: &'static str,
    atomic: bool,
    lines: &'static str,
    parsed: OnceLock<Type>,
}

impl Schemas {
    /// The one table of built-in kinds.
    pub fn builtin() -> &'static Schemas {
        &SCHEMAS
    }

    fn index() -> Self {
        let body = TABLE.split_once("\n@").map(|(_, body)| body).unwrap_or_default();
        let types = body.split("\n@").map(|block| {
            let (head, lines) = block.split_once('\n').unwrap_or((block, ""));
            let (name, mark) = head.split_once(' ').unwrap_or((head, ""));
            Entry {
                name,
                atomic: mark == "atomic",
                lines,
                parsed: OnceLock::new(),
            }
        });
        Self {
            types: types.collect(),
            kinds: Mutex::default(),
        }
    }

    /// The schema of a kind; `None` when the kind is not built in.
    pub fn for_kind(&self, group: &str, version: &str, kind: &str) -> Option<SchemaRef> {
        let gvk = Gvk::new(group, version, kind);
        let mut kinds = self.kinds.lock().unwrap_or_else(|broken| broken.into_inner());
        if let Some(known) = kinds.get(&gvk) {
            return Some(known.clone());
        }
        let name = type_name(group, version, kind);
        let root = self.find(&name)?;
        root.get()
            .field("kind")
            .or_else(|| root.get().field("metadata"))?;
        let schema = Arc::new(Schema::new(gvk.clone(), root));
        kinds.insert(gvk, schema.clone());
        Some(schema)
    }

    /// A type by its name in the table, such as `core.v1.PodSpec`, or by that of an earlier version.
    pub fn find(&self, name: &str) -> Option<TypeRef> {
        let name = &*shape(name);
        let place = self.types.binary_search_by(|entry| entry.name.cmp(name)).ok()?;
        u16::try_from(place).ok().map(TypeRef::Builtin)
    }

    fn entry(&self, place: u16) -> Option<&Entry> {
        self.types.get(usize::from(place))
    }

    fn read(&self, entry: &Entry) -> Type {
        let name = entry.name.rsplit('.').next().unwrap_or(entry.name);
        let mut made = Type {
            name: Cow::Borrowed(name),
            atomic: entry.atomic,
            ..Type::default()
        };
        for line in entry.lines.lines() {
            let mut words = line.split(' ');
            let (Some(number), Some(name), Some(code)) = (words.next(), words.next(), words.next()) else {
                continue;
            };
            let number = number.parse().unwrap_or_default();
            if name == "^" {
                self.inline(&mut made, number, code);
            } else {
                made.fields.push(self.field(number, name, code, words));
            }
        }
        made.fields.sort_by(|a, b| a.name.cmp(&b.name));
        made
    }

    fn inline(&self, into: &mut Type, number: u32, code: &str) {
        let Some(inlined) = self.find(code) else { return };
        into.fields.extend(inlined.get().fields.iter().map(|field| Field {
            number: 0,
            ..field.clone()
        }));
        into.inlined.push((number, inlined));
    }

    fn field(
        &self,
        number: u32,
        name: &'static str,
        code: &'static str,
        rules: std::str::Split<'static, char>,
    ) -> Field {
        let bare = code.trim_start_matches(['!', '*']);
        let marks = code.strip_suffix(bare).unwrap_or_default();
        let mut merge = Merge::default();
        rules.for_each(|rule| read_rule(&mut merge, rule));
        Field {
            name: Cow::Borrowed(name),
            number,
            node: self.node(bare),
            go_name: bare
                .trim_start_matches("[]")
                .trim_start_matches("{}")
                .split_once(':')
                .map(|(_, n)| n),
            pointer: marks.contains('*'),
            always: marks.contains('!'),
            nullable: false,
            merge,
        }
    }

    fn node(&self, code: &str) -> Node {
        if let Some(item) = code.strip_prefix("[]") {
            return Node::List(Arc::new(self.node(item)));
        }
        if let Some(value) = code.strip_prefix("{}") {
            return Node::Map(Arc::new(self.node(value)));
        }
        let scalar = match code.split(':').next().unwrap_or_default() {
            "s" => Scalar::String,
            "b" => Scalar::Bool,
            "i" => Scalar::Int32,
            "l" => Scalar::Int64,
            "d" => Scalar::Double,
            "y" => Scalar::Bytes,
            "T" => Scalar::Time,
            "U" => Scalar::MicroTime,
            "D" => Scalar::Duration,
            "Q" => Scalar::Quantity,
            "O" => Scalar::IntOrString,
            "F" => Scalar::FieldsV1,
            name => return self.find(name).map_or(Node::Any, Node::Struct),
        };
        Node::Scalar(scalar)
    }
}

fn read_rule(merge: &mut Merge, rule: &'static str) {
    match rule.split_once('=').unwrap_or((rule, "")) {
        ("set", _) => merge.apply = ApplyKind::Set,
        ("atomic", _) => merge.apply = ApplyKind::Atomic,
        ("keys", keys) => merge.apply = ApplyKind::Keyed(keys.split(',').map(read_key).collect()),
        ("merge", key) => {
            merge.patch_merge = true;
            merge.patch_key = Cow::Borrowed(key);
        }
        ("mergekey", key) => merge.patch_key = Cow::Borrowed(key),
        ("replace", _) => merge.patch_replace = true,
        ("retain", _) => merge.patch_retain_keys = true,
        _ => {}
    }
}

fn read_key(key: &'static str) -> (Cow<'static, str>, Option<serde_json::Value>) {
    let (name, default) = key.split_once(':').unwrap_or((key, ""));
    (Cow::Borrowed(name), serde_json::from_str(default).ok())
}

/// The table's name of a kind's type: the first word of the group (some differ), version, kind.
fn type_name(group: &str, version: &str, kind: &str) -> String {
    if GROUPLESS.contains(&kind) {
        return format!("meta.v1.{kind}");
    }
    let package = match group {
        "" => "core",
        "rbac.authorization.k8s.io" => "rbac",
        "flowcontrol.apiserver.k8s.io" => "flowcontrol",
        other => match other.split_once('.') {
            Some((first, "k8s.io")) => first,
            Some(_) => return String::new(),
            None => other,
        },
    };
    format!("{package}.{version}.{kind}")
}

static EMPTY: LazyLock<Type> = LazyLock::new(Type::default);

impl TypeRef {
    /// The type referred to.
    pub fn get(&self) -> &Type {
        match self {
            TypeRef::Own(own) => own,
            TypeRef::Builtin(place) => match SCHEMAS.entry(*place) {
                Some(entry) => entry.parsed.get_or_init(|| SCHEMAS.read(entry)),
                // Places come from `find` alone, so this is never taken.
                None => &EMPTY,
            },
        }
    }

    /// Go's name, such as `v1.PodSpec`, as decoding errors show it.
    pub fn go_name(&self) -> String {
        match self {
            TypeRef::Own(own) => own.name.clone().into_owned(),
            TypeRef::Builtin(place) => {
                let name = SCHEMAS.entry(*place).map_or("", |entry| entry.name);
                name.split_once('.').map_or(name, |(_, rest)| rest).to_owned()
            }
        }
    }

    /// The name in Kubernetes' OpenAPI documents, such as `io.k8s.api.core.v1.PodSpec`.
    pub fn openapi_name(&self) -> String {
        match self {
            TypeRef::Own(own) => own.name.clone().into_owned(),
            TypeRef::Builtin(place) => openapi_name(SCHEMAS.entry(*place).map_or("", |entry| entry.name)),
        }
    }
}

/// The OpenAPI name of a type of the table.
pub fn openapi_name(name: &str) -> String {
    let prefix = match name.split('.').next() {
        Some("meta") => "io.k8s.apimachinery.pkg.apis.",
        Some("apiextensions") => "io.k8s.apiextensions-apiserver.pkg.apis.",
        Some("apiregistration") => "io.k8s.kube-aggregator.pkg.apis.",
        _ => "io.k8s.api.",
    };
    format!("{prefix}{name}")
}

/// The table's name of a type, from its OpenAPI name.
pub fn table_name(openapi: &str) -> Option<&str> {
    [
        "io.k8s.api.",
        "io.k8s.apimachinery.pkg.apis.",
        "io.k8s.apiextensions-apiserver.pkg.apis.",
        "io.k8s.kube-aggregator.pkg.apis.",
    ]
    .iter()
    .find_map(|prefix| openapi.strip_prefix(prefix))
}

impl std::fmt::Debug for TypeRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The name only: types can be recursive.
        write!(f, "TypeRef({})", self.get().name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_of_the_table_can_be_read_and_found() {
        let schemas = Schemas::builtin();
        assert!(schemas.types.len() > 500);
        assert!(schemas.types.is_sorted_by(|a, b| a.name < b.name));
        for entry in &schemas.types {
            let place = schemas.find(entry.name).expect(entry.name);
            for field in &place.get().fields {
                assert!(!field.name.is_empty(), "{}", entry.name);
            }
        }
    }

    #[test]
    fn only_free_form_fields_are_free() {
        // A misspelt type in the table would read as `Any`; these codes are the only ones that may.
        for line in TABLE.lines().filter(|l| !l.starts_with(['#', '@'])) {
            let code = line.split(' ').nth(2).unwrap().trim_start_matches(['!', '*']);
            let code = code
                .trim_start_matches("[]")
                .trim_start_matches("{}")
                .trim_start_matches("[]");
            let known = code == "?" || code.split(':').next().is_some_and(|c| c.len() == 1);
            assert!(known || Schemas::builtin().find(code).is_some(), "{line}");
        }
    }

    #[test]
    fn finds_kinds_by_group() {
        let schemas = Schemas::builtin();
        for (group, version, kind) in [
            ("", "v1", "Pod"),
            ("apps", "v1", "Deployment"),
            ("rbac.authorization.k8s.io", "v1", "ClusterRole"),
            ("autoscaling", "v1", "Scale"),
            ("policy", "v1", "Eviction"),
            ("authentication.k8s.io", "v1", "TokenRequest"),
            ("discovery.k8s.io", "v1", "EndpointSlice"),
            ("apiextensions.k8s.io", "v1", "CustomResourceDefinition"),
            ("", "v1", "DeleteOptions"),
            ("policy", "v1", "DeleteOptions"),
        ] {
            assert!(
                schemas.for_kind(group, version, kind).is_some(),
                "{group}/{version} {kind}"
            );
        }
        assert!(schemas.for_kind("", "v1", "PodSpec").is_none());
        assert!(schemas.for_kind("example.com", "v1", "Pod").is_none());
    }

    #[test]
    fn inlines_and_merge_rules_arrive() {
        let volume = Schemas::builtin().find("core.v1.Volume").unwrap();
        assert!(volume.get().field("emptyDir").is_some());
        assert_eq!(volume.get().inlined.len(), 1);
        let spec = Schemas::builtin().find("core.v1.ServiceSpec").unwrap();
        let ports = spec.get().field("ports").unwrap();
        assert_eq!(ports.merge.patch_key, "port");
        let keys = vec![("port".into(), None), ("protocol".into(), Some("TCP".into()))];
        assert_eq!(ports.merge.apply, ApplyKind::Keyed(keys));
        assert_eq!(
            spec.get().field("selector").unwrap().merge.apply,
            ApplyKind::Atomic
        );
    }
}
