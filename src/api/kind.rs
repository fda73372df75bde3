//! The descriptor of a kind: everything that sets one kind apart from another,
//! in one static value. What is common to all kinds is written once, against
//! this type.

use jiff::Timestamp;
use serde_json::Value;

use crate::kinds::metadata;
use crate::names;
use crate::object;
use crate::status::FieldError;

mod columns;
mod findings;
mod parts;
mod reference;

pub use columns::{CellType, Column};
pub use findings::Findings;
pub use parts::{PART_VERBS, Part, Subresource};
pub use reference::KindRef;

/// The verbs of an ordinary stored kind, in discovery's order.
pub const ALL_VERBS: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];

/// The verbs of a kind that is only ever asked, never stored.
pub const CREATE_ONLY: &[&str] = &["create"];

/// What becomes of an object's dependents when the deletion does not say (`rest.GarbageCollectionPolicy`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dependents {
    /// They are deleted too, in the background.
    Deleted,
    /// They stay, as in old releases; with the warning that says so, if any.
    Kept(&'static str),
    /// It has none: nobody looks after finalizers about them.
    Unknown,
}

/// How a served version differs from the one in which its objects are stored.
#[derive(Clone, Copy)]
pub struct Storage {
    /// Group of the stored kind.
    pub group: &'static str,
    /// Version of the stored kind.
    pub version: &'static str,
    /// Turns the served form into the stored form, `apiVersion` included.
    pub to_stored: fn(&mut Value),
    /// Turns the stored form into the served form, `apiVersion` included.
    pub to_served: fn(&mut Value),
}

/// Where an object has what its `scale` shows, as dotted paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScalePaths {
    /// The number that is wanted.
    pub replicas: &'static str,
    /// The number that there is.
    pub current: &'static str,
    /// The selector: an object, or its text; empty for none.
    pub selector: &'static str,
}

impl ScalePaths {
    /// Those of every built-in kind.
    pub const USUAL: Self = Self {
        replicas: "spec.replicas",
        current: "status.replicas",
        selector: "spec.selector",
    };
}

/// Everything that sets one kind apart.
///
/// Hooks run in this order. Create: `default`, mutating admission,
/// `prepare_create`, `check_create`. Update: `default`, mutating admission,
/// `prepare_update`, `check_update`. Status update: `default`, mutating
/// admission, `prepare_status`, `check_status`. The hooks leave
/// `resourceVersion`, `uid`, `creationTimestamp` and `managedFields` alone.
pub struct Kind {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Version, such as `v1`.
    pub version: &'static str,
    /// Kind, such as `Pod`.
    pub kind: &'static str,
    /// Plural name in paths; empty for a kind that only subresources carry.
    pub plural: &'static str,
    /// Singular name.
    pub singular: &'static str,
    /// Short names, such as `po`.
    pub short_names: &'static [&'static str],
    /// Categories, such as `all`.
    pub categories: &'static [&'static str],
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// Verbs, in discovery's order.
    pub verbs: &'static [&'static str],
    /// What lies below its objects.
    pub subresources: &'static [Subresource],
    /// Where its `scale`, if it has one, finds its numbers.
    pub scale_paths: ScalePaths,
    /// Whether PUT may create an object.
    pub create_on_update: bool,
    /// Whether a deletion is answered with the object that is gone, instead of a `Status`.
    pub returns_deleted: bool,
    /// Whether PUT may omit `resourceVersion`.
    pub unconditional_update: bool,
    /// Discovery's hash of the stored version; empty for kinds that are not stored.
    pub storage_version_hash: &'static str,
    /// Set when objects are stored in the form of another kind.
    pub storage: Option<Storage>,
    /// Which names its objects may have.
    pub name_rule: names::NameRule,

    /// Fills in what a client may leave out.
    pub default: fn(&mut Value),
    /// Before the first validation: drops status, sets generation 1.
    pub prepare_create: fn(&mut Value),
    /// `(new, old)`: keeps what a spec write may not touch, bumps the generation.
    pub prepare_update: fn(&mut Value, &Value),
    /// `(new, old)`: keeps what a status write may not touch.
    pub prepare_status: fn(&mut Value, &Value),

    /// Rules for a new object, metadata excepted; call [`Kind::check_create`] for all.
    pub validate: fn(&Value) -> Vec<FieldError>,
    /// `(new, old)`: rules for a change, metadata excepted; call [`Kind::check_update`] for all.
    pub validate_update: fn(&Value, &Value) -> Vec<FieldError>,
    /// `(new, old)`: rules for a status write, metadata excepted; call [`Kind::check_status`] for all.
    pub validate_status: fn(&Value, &Value) -> Vec<FieldError>,

    /// `(new, old)`: what clients should know of an object that is in order; `old` is `None` for a new one.
    pub warnings: fn(&Value, Option<&Value>) -> Vec<String>,

    /// Labels of the selectable fields beyond `metadata.name` and `metadata.namespace`.
    pub field_names: &'static [&'static str],
    /// Labels that stand for others: what a selector may say, and the label under which the value is kept.
    pub field_aliases: &'static [(&'static str, &'static str)],
    /// Values of those fields, in the order of `field_names`, under the labels of
    /// [`Kind::field_label`]; call [`Kind::selectable`] for all.
    pub fields: fn(&Value) -> Vec<(&'static str, String)>,

    /// Columns of its table.
    pub columns: &'static [Column],
    /// One cell for each column.
    pub row: fn(&Value, Timestamp) -> Vec<Value>,

    /// Warning that every answer about it carries, such as that it is deprecated; empty for none.
    pub warning: &'static str,

    /// Fields a spec write loses, as dotted paths, for apply.
    pub reset_fields: &'static [&'static str],
    /// Fields a status write loses.
    pub reset_fields_status: &'static [&'static str],

    /// What becomes of its objects' dependents when a deletion does not say.
    pub dependents: Dependents,
    /// Finalizer that a deletion gives its objects, for whoever cleans up after them; empty for none.
    pub deletion_finalizer: &'static str,
    /// `(object, asked)`: seconds an object stays with a deletion timestamp; `None` deletes at once.
    pub graceful_delete: fn(&Value, Option<i64>) -> Option<i64>,
}

impl Kind {
    /// An ordinary namespaced kind without any behaviour; the base from which each kind is written.
    pub const NAMESPACED: Kind = Kind {
        group: "",
        version: "v1",
        kind: "",
        plural: "",
        singular: "",
        short_names: &[],
        categories: &[],
        namespaced: true,
        verbs: ALL_VERBS,
        subresources: &[],
        scale_paths: ScalePaths::USUAL,
        create_on_update: false,
        returns_deleted: false,
        unconditional_update: true,
        storage_version_hash: "",
        storage: None,
        name_rule: names::subdomain,
        default: |_| {},
        prepare_create: |_| {},
        prepare_update: |_, _| {},
        prepare_status: |_, _| {},
        validate: |_| Vec::new(),
        validate_update: |_, _| Vec::new(),
        validate_status: |_, _| Vec::new(),
        warnings: |_, _| Vec::new(),
        field_names: &[],
        field_aliases: &[],
        fields: |_| Vec::new(),
        columns: &[Column::NAME, Column::date("Created At")],
        row: crate::kinds::cells::name_and_creation,
        warning: "",
        reset_fields: &[],
        reset_fields_status: &[],
        dependents: Dependents::Deleted,
        deletion_finalizer: "",
        graceful_delete: |_, _| None,
    };

    /// A namespaced kind of the usual sort: a generation counts the changes of its spec, and its status is
    /// written apart from it.
    pub const WITH_STATUS: Kind = Kind {
        prepare_create: metadata::create_without_status,
        prepare_update: metadata::update_spec,
        prepare_status: metadata::update_status,
        reset_fields: &["status"],
        reset_fields_status: &["spec"],
        ..Kind::NAMESPACED
    };

    /// An ordinary cluster-scoped kind without any behaviour.
    pub const CLUSTER: Kind = Kind {
        namespaced: false,
        ..Kind::NAMESPACED
    };

    /// A cluster-scoped kind of the usual sort; status writes of most of them lose their metadata too.
    pub const CLUSTER_WITH_STATUS: Kind = Kind {
        namespaced: false,
        reset_fields_status: &["metadata", "spec"],
        ..Kind::WITH_STATUS
    };

    /// A kind that is created to ask something and never stored.
    pub const ASKED: Kind = Kind {
        verbs: CREATE_ONLY,
        namespaced: false,
        ..Kind::NAMESPACED
    };

    /// `v1` or `apps/v1`, as `apiVersion` has it.
    pub fn api_version(&self) -> String {
        object::join_api_version(self.group, self.version)
    }

    /// The kind of its lists, such as `PodList`.
    pub fn list_kind(&self) -> String {
        format!("{}List", self.kind)
    }

    /// Whether that verb exists on the object itself.
    pub fn has_verb(&self, verb: &str) -> bool {
        self.verbs.contains(&verb)
    }

    /// Whether its objects are kept.
    pub fn stored(&self) -> bool {
        self.has_verb("get")
    }

    /// The subresource of that name.
    pub fn subresource(&self, name: &str) -> Option<&'static Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }

    /// How writes to `status`, or to another view of the object such as `finalize`, are confined.
    pub fn part(&self, name: &str) -> Option<Part> {
        match name {
            "status" => self.subresource(name).map(|_| Part {
                prepare: self.prepare_status,
                validate: self.validate_status,
                reset_fields: self.reset_fields_status,
            }),
            _ => self.subresource(name)?.part,
        }
    }

    /// Group and version under which its objects are stored.
    pub fn stored_as(&self) -> (&'static str, &'static str) {
        self.storage
            .map_or((self.group, self.version), |s| (s.group, s.version))
    }

    /// Every rule for a new object: metadata (of kinds that are kept), then the kind's own.
    pub fn check_create(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if self.stored() {
            errors.extend(metadata::validate(self.name_rule, self.namespaced, object));
            errors.extend(metadata::finalizers(object));
        }
        errors.extend((self.validate)(object));
        errors
    }

    /// Every rule for a changed object: metadata, then the kind's own.
    pub fn check_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = metadata::validate_update(new, old);
        errors.extend(metadata::finalizers(new));
        errors.extend((self.validate_update)(new, old));
        errors
    }

    /// Every rule for a status write: metadata, then the kind's own.
    pub fn check_status(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = metadata::validate_update(new, old);
        errors.extend((self.validate_status)(new, old));
        errors
    }

    /// The values a field selector may ask for, `metadata.*` included.
    pub fn selectable(&self, object: &Value) -> Vec<(&'static str, String)> {
        let mut fields = vec![(
            "metadata.name",
            crate::value::text(object, "metadata.name").to_owned(),
        )];
        if self.namespaced {
            fields.push((
                "metadata.namespace",
                crate::value::text(object, "metadata.namespace").to_owned(),
            ));
        }
        fields.extend((self.fields)(object));
        fields
    }

    /// The label under which the value is kept that a field selector's label asks for.
    ///
    /// # Errors
    /// Kubernetes' text when the kind does not have that field.
    pub fn field_label(&self, label: &str) -> Result<&'static str, String> {
        if let Some((_, kept)) = self.field_aliases.iter().find(|(said, _)| *said == label) {
            return Ok(kept);
        }
        match label {
            "metadata.name" => return Ok("metadata.name"),
            "metadata.namespace" if self.namespaced || self.field_names.is_empty() => {
                return Ok("metadata.namespace");
            }
            _ => {}
        }
        if let Some(known) = self.field_names.iter().find(|f| **f == label) {
            return Ok(known);
        }
        Err(if self.field_names.is_empty() {
            format!("{label:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
        } else {
            format!("field label not supported: {label}")
        })
    }
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, Kind={}", self.api_version(), self.kind)
    }
}
