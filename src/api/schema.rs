//! What an object of a kind may look like: one model for built-in and custom kinds.
//!
//! Built-in kinds come from `schema/types.txt`, a compact table read one type
//! at a time, when first asked for; types are shared by all kinds that use
//! them.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use serde_json::Value;

mod builtin;
pub mod values;

pub use builtin::{Schemas, openapi_name, shape, table_name};

/// A shared [`Schema`].
pub type SchemaRef = Arc<Schema>;

/// Group, version and kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Gvk {
    /// API group; empty for the core group.
    pub group: String,
    /// Version, such as `v1`.
    pub version: String,
    /// Kind, such as `Pod`.
    pub kind: String,
}

impl Gvk {
    /// That group, version and kind.
    pub fn new(group: &str, version: &str, kind: &str) -> Self {
        Self {
            group: group.into(),
            version: version.into(),
            kind: kind.into(),
        }
    }

    /// `apps/v1`, or `v1` for the core group.
    pub fn api_version(&self) -> String {
        crate::object::join_api_version(&self.group, &self.version)
    }
}

/// The schema of one kind.
#[derive(Clone, Debug)]
pub struct Schema {
    /// The kind it describes.
    pub gvk: Gvk,
    /// The type of the whole object.
    pub root: TypeRef,
    /// Kept by [`crate::canon::blank`].
    pub(crate) blank: OnceLock<Value>,
}

impl Schema {
    /// The schema of a kind whose objects are of that type.
    pub fn new(gvk: Gvk, root: TypeRef) -> Self {
        let blank = OnceLock::new();
        Self { gvk, root, blank }
    }
}

/// What a value may be.
#[derive(Clone, Debug)]
pub enum Node {
    /// Anything at all (`x-kubernetes-preserve-unknown-fields`, `RawExtension`); one atom for apply.
    Any,
    /// A single value.
    Scalar(Scalar),
    /// Named fields.
    Struct(TypeRef),
    /// Free keys, all values alike.
    Map(Arc<Node>),
    /// Items, all alike.
    List(Arc<Node>),
}

/// A value without parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    /// Text.
    String,
    /// true or false.
    Bool,
    /// Integer of 32 bits.
    Int32,
    /// Integer of 64 bits.
    Int64,
    /// Number.
    Double,
    /// Base64 text.
    Bytes,
    /// RFC 3339 time of whole seconds.
    Time,
    /// RFC 3339 time with six decimals.
    MicroTime,
    /// Go duration text.
    Duration,
    /// `resource.Quantity` text (numbers are accepted).
    Quantity,
    /// Number or text.
    IntOrString,
    /// A set of field paths.
    FieldsV1,
}

/// A type by reference, so that types can be shared and recursive.
#[derive(Clone)]
pub enum TypeRef {
    /// A type of the built-in table, by its place there.
    Builtin(u16),
    /// A type of a custom kind.
    Own(Arc<Type>),
}

/// A type with named fields.
#[derive(Debug, Default)]
pub struct Type {
    /// Go name, such as `DeploymentSpec`, as decoding errors show it.
    pub name: Cow<'static, str>,
    /// Fields, sorted by JSON name, those of inlined types included.
    pub fields: Vec<Field>,
    /// Messages inlined here: protobuf field number and type.
    pub inlined: Vec<(u32, TypeRef)>,
    /// One atom for apply (`x-kubernetes-map-type: atomic`).
    pub atomic: bool,
    /// Unknown fields are kept without complaint.
    pub preserve_unknown: bool,
}

/// One field of a [`Type`].
#[derive(Clone, Debug)]
pub struct Field {
    /// JSON name.
    pub name: Cow<'static, str>,
    /// Protobuf field number; 0 when it has none here.
    pub number: u32,
    /// What the value may be.
    pub node: Node,
    /// Go's name of a named scalar type, such as `v1.Protocol`, as decoding errors show it.
    pub go_name: Option<&'static str>,
    /// Go pointer: an explicit zero differs from absence.
    pub pointer: bool,
    /// Without Go's `omitempty`: written even when zero.
    pub always: bool,
    /// Null is a value like any other, and stays.
    pub nullable: bool,
    /// How lists and maps merge.
    pub merge: Merge,
}

/// How a list or map merges in apply and in strategic merge patch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Merge {
    /// Server-side apply.
    pub apply: ApplyKind,
    /// Strategic merge patch merges (instead of replacing).
    pub patch_merge: bool,
    /// Strategic merge patch replaces a map (instead of merging).
    pub patch_replace: bool,
    /// Strategic merge patch honours `$retainKeys`.
    pub patch_retain_keys: bool,
    /// Strategic merge patch's key; empty for lists of scalars.
    pub patch_key: Cow<'static, str>,
}

/// `x-kubernetes-list-type` and `x-kubernetes-map-type`.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum ApplyKind {
    /// Lists are atomic, maps and structs are granular.
    #[default]
    Default,
    /// One atom.
    Atomic,
    /// A set of scalars.
    Set,
    /// Items told apart by these keys; the value fills in an absent key.
    Keyed(Vec<(Cow<'static, str>, Option<Value>)>),
}

impl Type {
    /// The field of that JSON name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        let place = self
            .fields
            .binary_search_by(|field| field.name.as_ref().cmp(name))
            .ok()?;
        self.fields.get(place)
    }

    /// The field of that protobuf number.
    pub fn numbered(&self, number: u32) -> Option<&Field> {
        self.fields.iter().find(|field| field.number == number)
    }
}
