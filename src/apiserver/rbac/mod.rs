//! Role-based access control, with the node authoriser in front of it.

pub mod defaults;
mod follow;
pub mod grant;
mod index;
#[cfg(test)]
mod matrix;
mod node;
pub(crate) mod reconcile;
mod rules;

use std::sync::{Arc, RwLock, RwLockReadGuard};

use api::request::User;

pub use index::{Index, Subject};

use crate::authz::{self, Attributes, Authorizer, Decision, Known, PolicyRule};
use crate::lookup::{Lookup, Nothing};

/// The authoriser of a server: node rules, then roles and bindings.
pub struct Rbac {
    // A std lock: nothing awaits while it is held.
    index: RwLock<Index>,
    lookup: Arc<dyn Lookup>,
}

impl Rbac {
    /// An authoriser that knows no role yet.
    pub fn new(lookup: Arc<dyn Lookup>) -> Self {
        Self {
            index: RwLock::default(),
            lookup,
        }
    }

    /// An authoriser with the default roles and bindings, and no objects to look up; for tests.
    pub fn with_defaults() -> Self {
        let rbac = Self::new(Arc::new(Nothing));
        for d in defaults::all() {
            rbac.take(
                d.plural,
                &d.namespace,
                &d.name,
                Some(d.object.to_string().as_bytes()),
            );
        }
        rbac
    }

    /// Takes in a stored role or binding, or its removal.
    pub fn take(&self, plural: &str, namespace: &str, name: &str, text: Option<&[u8]>) {
        let mut index = self
            .index
            .write()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        index.apply(plural, namespace, name, text);
    }

    fn index(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Rbac {
    /// What nodes may because of what runs on them; no opinion of others.
    pub fn node(&self, attributes: &Attributes) -> Decision {
        match node::node_name(attributes) {
            Some(node) if attributes.resource_request => match node::decide(&self.lookup, node, attributes) {
                Ok(()) => Decision::allow(),
                Err(reason) => Decision {
                    reason,
                    ..Decision::default()
                },
            },
            _ => Decision::default(),
        }
    }

    /// What roles and bindings say.
    pub fn roles(&self, attributes: &Attributes) -> Decision {
        self.index().decide(attributes)
    }
}

impl Authorizer for Rbac {
    fn decide(&self, attributes: &Attributes) -> Decision {
        // The break-glass group must work even when its binding was deleted.
        if authz::is_privileged(&attributes.user) {
            return Decision::allow();
        }
        let node = self.node(attributes);
        if node.allowed {
            return node;
        }
        let mut decision = self.roles(attributes);
        if !decision.allowed && decision.reason.is_empty() {
            decision.reason = node.reason;
        }
        decision
    }

    fn rules(&self, user: &User, namespace: &str) -> Known {
        self.index().rules(user, namespace)
    }

    fn role_rules(&self, namespace: &str, name: &str) -> Option<Vec<PolicyRule>> {
        self.index().role_rules(namespace, name).map(<[_]>::to_vec)
    }
}
