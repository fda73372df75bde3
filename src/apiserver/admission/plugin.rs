//! What a plugin is, and what it sees.

use api::kind::KindRef;
use api::object;
use api::request::{Notes, Options, User};
use api::status::Status;
use base::Random;
use futures_util::future::BoxFuture;
use serde_json::Value;

use crate::authz::{Attributes, Decision};

/// What kind of request is reviewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A new object (or a subresource such as `binding`).
    Create,
    /// A changed object.
    Update,
    /// A deletion.
    Delete,
    /// A stream to what the object stands for, such as `exec`.
    Connect,
}

impl Operation {
    /// As rules and reviews write it.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Create => "CREATE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
            Operation::Connect => "CONNECT",
        }
    }
}

/// A request under review.
pub struct Review<'a> {
    /// What kind of request it is.
    pub operation: Operation,
    /// The kind in the path.
    pub kind: KindRef,
    /// The subresource in the path; empty for none.
    pub subresource: &'a str,
    /// The namespace in the path; empty for cluster scope.
    pub namespace: &'a str,
    /// The name in the path; empty for creations.
    pub name: &'a str,
    /// Who asks.
    pub user: &'a User,
    /// How.
    pub options: &'a Options,
    /// Where warnings go.
    pub notes: &'a Notes,
    /// The new object, or the body of a subresource; `None` for deletions.
    pub object: Option<&'a mut Value>,
    /// The object as it is; `None` for creations.
    pub old: Option<&'a Value>,
}

impl Review<'_> {
    /// Whether this is about objects of that resource themselves.
    pub fn is(&self, group: &str, plural: &str) -> bool {
        self.is_part(group, plural, "")
    }

    /// Whether this is about that part of objects of that resource.
    pub fn is_part(&self, group: &str, plural: &str, subresource: &str) -> bool {
        self.kind.group == group && self.kind.plural == plural && self.subresource == subresource
    }

    /// The object's name, or what is known of it before it has one.
    pub fn object_name(&self) -> &str {
        if !self.name.is_empty() {
            return self.name;
        }
        let Some(new) = self.object.as_deref() else {
            return "Unknown";
        };
        let named = object::name(new);
        let generated = object::get_str(new, &["metadata", "generateName"]);
        [named, generated]
            .into_iter()
            .find(|n| !n.is_empty())
            .unwrap_or("Unknown")
    }

    /// 403 about the object; `why` follows its name.
    pub fn forbid(&self, why: &str) -> Status {
        Status::forbidden(self.kind.group, self.kind.plural, self.object_name(), why)
    }
}

/// What plugins can see of the cluster: this server's memory, which may trail the last write by a moment.
pub trait World: Send + Sync {
    /// A namespace's phase; `None` when it does not exist.
    fn namespace_phase(&self, name: &str) -> Option<String>;

    /// A stored object; `namespace` is empty for cluster scope.
    fn find(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<Value>;

    /// The labels of a stored object; none when it does not exist.
    fn labels(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Vec<(String, String)>;

    /// Every stored object of a kind, in all namespaces when `namespace` is empty.
    fn all(&self, group: &str, plural: &str, namespace: &str) -> Vec<Value>;

    /// Whether a user may do something, and why.
    fn decision(&self, attributes: &Attributes) -> Decision;

    /// The same, once whoever has to be asked elsewhere has answered, see [`Decision::asks`].
    fn settle<'a>(&'a self, attributes: &'a Attributes) -> BoxFuture<'a, Decision> {
        Box::pin(async { self.decision(attributes) })
    }

    /// Whether a user may do something.
    fn allows(&self, attributes: &Attributes) -> bool {
        self.decision(attributes).allowed
    }

    /// Where generated names come from.
    fn random(&self) -> &dyn Random;
}

/// One admission plugin.
pub trait Plugin: Send + Sync {
    /// Its name, as Kubernetes' `--enable-admission-plugins` has it.
    fn name(&self) -> &'static str;

    /// Completes the object or refuses the request. Runs before the object is validated.
    ///
    /// # Errors
    /// The refusal.
    fn admit(&self, _review: &mut Review<'_>, _world: &dyn World) -> Result<(), Status> {
        Ok(())
    }

    /// Refuses the request or lets it pass. Runs after the object was validated.
    ///
    /// # Errors
    /// The refusal.
    fn validate(&self, _review: &Review<'_>, _world: &dyn World) -> Result<(), Status> {
        Ok(())
    }
}
