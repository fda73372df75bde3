//! What a request is about, looked up in the table of kinds.

use std::sync::OnceLock;

use api::kind::{self, Findings, KindRef};
use api::kinds;
use api::request::{Request, Verb};
use api::schema::{Gvk, SchemaRef};
use api::status::Status;
use serde_json::Value;

use crate::stored;

use super::Core;

/// Which part of an object a request reads or writes.
#[derive(Clone, Copy)]
pub(super) enum Part {
    /// All of it.
    Whole,
    /// `scale`, in the form of `autoscaling/v1` Scale.
    Scale,
    /// A view such as `status` or `approval`: the whole object is shown, a part of it is written.
    View(kind::Part),
}

impl Part {
    /// Whether it is the whole object.
    pub fn is_whole(self) -> bool {
        matches!(self, Part::Whole)
    }

    /// Whether it is shown as a Scale.
    pub fn is_scale(self) -> bool {
        matches!(self, Part::Scale)
    }

    /// Takes back from `new` what this part's writes may not touch.
    pub fn prepare(self, kind: &KindRef, new: &mut Value, live: &Value) {
        match self {
            Part::Whole | Part::Scale => kind.prepare_update(new, live),
            Part::View(view) => kind.prepare_part(&view, new, live),
        }
    }

    /// What is wrong with the changed object, or to be known of it. Scales count as the whole: they change the spec.
    pub fn check(self, kind: &KindRef, new: &Value, live: &Value) -> Findings {
        match self {
            Part::Whole | Part::Scale => kind.check_update(new, live),
            Part::View(view) => kind.check_part(&view, new, live),
        }
    }
}

/// A kind, a place in it, and what is wanted there.
pub(super) struct Target {
    pub kind: KindRef,
    /// The kind in whose form objects are kept: almost always `kind` itself.
    pub stored: KindRef,
    /// The `apiVersion` under which they are kept.
    pub stored_version: String,
    /// Made when first asked for: reading objects of a custom kind takes none.
    schema: OnceLock<SchemaRef>,
    /// `v1` or `apps/v1`.
    pub api_version: String,
    /// Empty for cluster-scoped kinds and for all namespaces.
    pub namespace: String,
    /// Empty for collections.
    pub name: String,
}

impl Core {
    /// Looks up what `request` is about.
    ///
    /// # Errors
    /// 404 for an unknown resource or subresource, 405 for a verb that it does not have.
    pub(super) fn target(&self, request: &Request) -> Result<Target, Status> {
        let resource = &request.resource;
        let kind = self
            .inner
            .kinds
            .find(&resource.group, &resource.version, &resource.plural)
            .ok_or_else(Status::no_such_path)?;
        let verb = request.verb.name();
        let allowed = match request.subresource.as_str() {
            "" => kind.has_verb(verb),
            name => kind
                .subresource(name)
                .ok_or_else(Status::no_such_path)?
                .verbs
                .contains(&verb),
        };
        if !allowed {
            return Err(Status::method_not_allowed(kind.group, kind.plural, verb));
        }
        let namespace = if kind.namespaced {
            request.namespace.clone()
        } else {
            String::new()
        };
        let collection = matches!(request.verb, Verb::List | Verb::Watch);
        if kind.namespaced && namespace.is_empty() && !collection {
            return Err(Status::bad_request(
                "an empty namespace may not be set during creation",
            ));
        }
        Target::new(kind, namespace, request.name.clone())
    }
}

impl Target {
    /// An object (or, with an empty name, a collection) of a kind.
    ///
    /// # Errors
    /// 500 when the tables of kinds and schemas do not fit together.
    pub fn new(kind: impl Into<KindRef>, namespace: String, name: String) -> Result<Self, Status> {
        let kind = kind.into();
        let (group, version) = kind.stored_as();
        let stored = match kinds::find_kind(group, version, kind.kind) {
            Some(stored) if kind.custom().is_none() => stored.into(),
            _ => kind.clone(),
        };
        let stored_version = match kind.custom() {
            Some(custom) => api::object::join_api_version(kind.group, custom.stored_version()),
            None => stored.api_version(),
        };
        let api_version = kind.api_version();
        Ok(Self {
            kind,
            stored,
            stored_version,
            schema: OnceLock::new(),
            api_version,
            namespace,
            name,
        })
    }

    /// The part that `request` names.
    ///
    /// # Errors
    /// 404 for a subresource that is not a part of the stored object.
    pub fn part(&self, request: &Request) -> Result<Part, Status> {
        match request.subresource.as_str() {
            "" => Ok(Part::Whole),
            "scale" => Ok(Part::Scale),
            other => self
                .kind
                .part(other)
                .map(Part::View)
                .ok_or_else(Status::no_such_path),
        }
    }

    /// The schema of the served form.
    ///
    /// # Errors
    /// 500 when the tables of kinds and schemas do not fit together.
    pub fn schema(&self) -> Result<&SchemaRef, Status> {
        if let Some(schema) = self.schema.get() {
            return Ok(schema);
        }
        let made = self.kind.schema()?;
        Ok(self.schema.get_or_init(|| made))
    }

    /// Group, version and kind of the served form.
    pub fn gvk(&self) -> Gvk {
        Gvk::new(self.kind.group, self.kind.version, self.kind.kind)
    }

    /// The store's prefix of the collection.
    pub fn prefix(&self) -> String {
        stored::prefix(self.stored.group, self.stored.plural, &self.namespace)
    }

    /// The store's prefix of what can be called `name`: one object is one key, wherever its namespace is known.
    pub fn prefix_of(&self, name: Option<&str>) -> String {
        match name {
            Some(name) if !self.namespace.is_empty() || !self.kind.namespaced => self.key(name),
            _ => self.prefix(),
        }
    }

    /// The store's key of the object called `name`.
    pub fn key(&self, name: &str) -> String {
        stored::key(self.stored.group, self.stored.plural, &self.namespace, name)
    }

    /// 404 for the object.
    pub fn not_found(&self) -> Status {
        Status::not_found(self.kind.group, self.kind.plural, &self.name)
    }

    /// 409 with the text of a stale resource version.
    pub fn stale(&self) -> Status {
        Status::stale(self.kind.group, self.kind.plural, &self.name)
    }

    /// 409 for another reason.
    pub fn conflict(&self, why: &str) -> Status {
        Status::conflict(self.kind.group, self.kind.plural, &self.name, why)
    }
}
