//! A kind as requests meet it: one of the table, or one that a CustomResourceDefinition describes. Whoever
//! handles objects asks here, and cannot tell which it is.

use std::ops::Deref;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use super::findings::Findings;
use super::{Column, Kind, Part};
use crate::custom::CustomKind;
use crate::kinds::{metadata, warnings};
use crate::schema::{SchemaRef, Schemas};
use crate::status::Status;

/// A kind that is served.
#[derive(Clone)]
pub enum KindRef {
    /// One of the table.
    BuiltIn(&'static Kind),
    /// One of a CustomResourceDefinition.
    Custom(Arc<CustomKind>),
}

/// Equal are references to the same definition: a changed one is another kind.
impl PartialEq for KindRef {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (KindRef::BuiltIn(a), KindRef::BuiltIn(b)) => std::ptr::eq(*a, *b),
            (KindRef::Custom(a), KindRef::Custom(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

impl From<&'static Kind> for KindRef {
    fn from(kind: &'static Kind) -> Self {
        KindRef::BuiltIn(kind)
    }
}

impl Deref for KindRef {
    type Target = Kind;

    fn deref(&self) -> &Kind {
        match self {
            KindRef::BuiltIn(kind) => kind,
            KindRef::Custom(custom) => custom.kind(),
        }
    }
}

impl KindRef {
    /// The custom kind, if it is one.
    pub fn custom(&self) -> Option<&Arc<CustomKind>> {
        match self {
            KindRef::BuiltIn(_) => None,
            KindRef::Custom(custom) => Some(custom),
        }
    }

    /// The kind of its lists, such as `PodList`.
    pub fn list_kind(&self) -> String {
        match self {
            KindRef::BuiltIn(kind) => kind.list_kind(),
            KindRef::Custom(custom) => custom.list_kind().to_owned(),
        }
    }

    /// The schema of its objects.
    ///
    /// # Errors
    /// 500 when the tables of kinds and schemas do not fit together.
    pub fn schema(&self) -> Result<SchemaRef, Status> {
        match self {
            KindRef::Custom(custom) => Ok(custom.schema()),
            KindRef::BuiltIn(kind) => Schemas::builtin()
                .for_kind(kind.group, kind.version, kind.kind)
                .ok_or_else(|| Status::internal(format!("no schema for {kind:?}"))),
        }
    }

    /// Fills in what a client may leave out.
    pub fn fill(&self, object: &mut Value) {
        match self {
            KindRef::BuiltIn(kind) => (kind.default)(object),
            KindRef::Custom(custom) => custom.fill(object),
        }
    }

    /// Before the first validation: drops status, sets generation 1.
    pub fn prepare_create(&self, object: &mut Value) {
        match self {
            KindRef::BuiltIn(kind) => (kind.prepare_create)(object),
            KindRef::Custom(custom) => custom.prepare_create(object),
        }
    }

    /// `(new, old)`: keeps what a write of the whole object may not touch, bumps the generation.
    pub fn prepare_update(&self, new: &mut Value, old: &Value) {
        match self {
            KindRef::BuiltIn(kind) => (kind.prepare_update)(new, old),
            KindRef::Custom(custom) => custom.prepare_update(new, old),
        }
    }

    /// `(new, old)`: keeps what a write of a part such as `status` may not touch.
    pub fn prepare_part(&self, part: &Part, new: &mut Value, old: &Value) {
        match self {
            KindRef::BuiltIn(_) => (part.prepare)(new, old),
            KindRef::Custom(custom) => custom.prepare_status(new, old),
        }
    }

    /// Every rule for a new object.
    pub fn check_create(&self, object: &Value) -> Findings {
        match self {
            KindRef::BuiltIn(kind) => {
                Findings::of(kind.check_create(object), || (kind.warnings)(object, None))
            }
            KindRef::Custom(custom) => {
                let errors = metadata::validate(self.name_rule, self.namespaced, object);
                let found = Findings::of(errors, || warnings::finalizers(object, None));
                custom.check(object, None, found)
            }
        }
    }

    /// Every rule for a changed object.
    pub fn check_update(&self, new: &Value, old: &Value) -> Findings {
        match self {
            KindRef::BuiltIn(kind) => {
                Findings::of(kind.check_update(new, old), || (kind.warnings)(new, Some(old)))
            }
            KindRef::Custom(custom) => {
                let errors = metadata::validate_update(new, old);
                let found = Findings::of(errors, || warnings::finalizers(new, Some(old)));
                custom.check(new, Some(old), found)
            }
        }
    }

    /// Every rule for a changed part.
    pub fn check_part(&self, part: &Part, new: &Value, old: &Value) -> Findings {
        let mut errors = metadata::validate_update(new, old);
        match self {
            KindRef::BuiltIn(_) => {
                errors.extend((part.validate)(new, old));
                Findings::of(errors, Vec::new)
            }
            KindRef::Custom(custom) => custom.check_status(new, old, Findings::of(errors, Vec::new)),
        }
    }

    /// The values of its selectable fields beyond name and namespace.
    pub fn fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        match self {
            KindRef::BuiltIn(kind) => (kind.fields)(object),
            KindRef::Custom(custom) => custom.fields(object),
        }
    }

    /// The columns of its table.
    pub fn columns(&self) -> &[Column] {
        match self {
            KindRef::BuiltIn(kind) => kind.columns,
            KindRef::Custom(custom) => custom.columns(),
        }
    }

    /// One cell for each column.
    pub fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        match self {
            KindRef::BuiltIn(kind) => (kind.row)(object, now),
            KindRef::Custom(custom) => custom.row(object, now),
        }
    }
}

impl std::fmt::Debug for KindRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(&**self, f)
    }
}
