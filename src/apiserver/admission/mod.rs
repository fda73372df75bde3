//! Admission: what is added to objects, and what is refused, beyond a kind's
//! own rules. Plugins decide and never do: they see the request and, through
//! [`World`], what is stored; they change only the object in their hands.

mod certificates;
pub mod configuration;
mod default_class;
pub mod dynamic;
mod lifecycle;
mod limit_ranger;
pub mod metrics;
mod node_restriction;
mod node_taint;
mod pod_security;
pub mod policies;
mod priority;
pub(crate) mod quota;
mod resize;
mod runtime_class;
mod service_account;
pub(crate) mod storage;
mod tolerations;
mod topology_labels;
pub mod webhooks;

pub use pod_security::{Level, PodSecuritySettings, Policy as PodSecurityPolicy, Standard, Version};
pub use tolerations::TolerationSeconds;

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

/// What plugins are told when the server starts.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// For how long new pods tolerate nodes that are not ready or unreachable.
    pub toleration: TolerationSeconds,
    /// What pods may do where no label says so, and who is exempt.
    pub pod_security: PodSecuritySettings,
}

/// The plugins, in the order in which Kubernetes runs them. ResourceQuota comes after everybody, also after those whom
/// users configured, and commits together with what it counts: see `registry::quota`.
pub fn plugins(settings: &Settings) -> Vec<Box<dyn Plugin>> {
    vec![
        Box::new(lifecycle::NamespaceLifecycle),
        Box::new(limit_ranger::LimitRanger),
        Box::new(service_account::ServiceAccount),
        Box::new(node_restriction::NodeRestriction),
        Box::new(node_taint::TaintNodesByCondition),
        Box::new(pod_security::PodSecurity(settings.pod_security.clone())),
        Box::new(priority::Priority),
        Box::new(tolerations::DefaultTolerationSeconds(settings.toleration)),
        Box::new(default_class::DefaultStorageClass),
        Box::new(storage::StorageObjectInUseProtection),
        Box::new(storage::PersistentVolumeClaimResize),
        Box::new(runtime_class::RuntimeClass),
        Box::new(default_class::DefaultIngressClass),
        Box::new(topology_labels::PodTopologyLabels),
        Box::new(certificates::CertificateApproval),
        Box::new(certificates::CertificateSigning),
        Box::new(certificates::CertificateSubjectRestriction),
        Box::new(resize::NodeDeclaredFeatureValidator),
        Box::new(resize::PodResizeValidator),
    ]
}

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) mod testing {
    //! A small world made by hand, for the plugins' tests.

    use std::sync::LazyLock;

    use base::SeededRandom;

    use super::*;

    /// Objects by group, plural, namespace and name; everybody may do what `allowed` lists as verbs.
    pub struct Fixed {
        pub objects: Vec<(&'static str, &'static str, Value)>,
        pub allowed: Vec<&'static str>,
        /// Whether this is known only to those who are asked elsewhere.
        pub elsewhere: bool,
        pub random: SeededRandom,
    }

    impl Fixed {
        pub fn new(objects: Vec<(&'static str, &'static str, Value)>) -> Self {
            Self {
                objects,
                allowed: Vec::new(),
                elsewhere: false,
                random: SeededRandom::new(1),
            }
        }
    }

    impl World for Fixed {
        fn namespace_phase(&self, name: &str) -> Option<String> {
            let found = self.find("", "namespaces", "", name)?;
            Some(object::get_str(&found, &["status", "phase"]).to_owned())
        }

        fn find(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<Value> {
            self.all(group, plural, namespace)
                .into_iter()
                .find(|o| object::name(o) == name)
        }

        fn labels(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Vec<(String, String)> {
            let found = self.find(group, plural, namespace, name).unwrap_or_default();
            let owned = |(key, text): (&str, &str)| (key.to_owned(), text.to_owned());
            object::labels(&found).map(owned).collect()
        }

        fn all(&self, group: &str, plural: &str, namespace: &str) -> Vec<Value> {
            let these = self
                .objects
                .iter()
                .filter(|(g, p, _)| *g == group && *p == plural);
            let inside = |o: &&Value| namespace.is_empty() || object::namespace(o) == namespace;
            these.map(|(_, _, o)| o).filter(inside).cloned().collect()
        }

        fn decision(&self, attributes: &Attributes) -> Decision {
            let allowed = self.allowed.contains(&attributes.verb.as_str());
            Decision {
                allowed: allowed && !self.elsewhere,
                asks: self.elsewhere,
                ..Decision::default()
            }
        }

        fn settle<'a>(&'a self, attributes: &'a Attributes) -> BoxFuture<'a, Decision> {
            let allowed = self.allowed.contains(&attributes.verb.as_str());
            Box::pin(async move {
                Decision {
                    allowed,
                    ..Decision::default()
                }
            })
        }

        fn random(&self) -> &dyn Random {
            &self.random
        }
    }

    static OPTIONS: LazyLock<Options> = LazyLock::new(Options::default);
    static NOTES: LazyLock<Notes> = LazyLock::new(Notes::default);

    /// A review of a creation.
    pub fn creation<'a>(group: &str, plural: &str, user: &'a User, object: &'a mut Value) -> Review<'a> {
        let kind = api::kinds::all()
            .iter()
            .find(|k| k.group == group && k.plural == plural);
        Review {
            operation: Operation::Create,
            kind: KindRef::BuiltIn(kind.expect("a kind of the table")),
            subresource: "",
            namespace: "shop",
            name: "",
            user,
            options: &OPTIONS,
            notes: &NOTES,
            object: Some(object),
            old: None,
        }
    }
}
