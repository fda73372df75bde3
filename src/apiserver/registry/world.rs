//! The cluster as admission plugins see it: this server's memory.

use api::kind::KindRef;
use api::kinds;
use api::object;
use api::status::Status;
use base::Random;
use futures_util::future::BoxFuture;
use serde_json::Value;
use store::Entry;

use crate::admission::{Operation, Review, World};
use crate::authz::{Attributes, Decision};
use crate::stored;

use super::{Core, text};

impl World for Core {
    fn namespace_phase(&self, name: &str) -> Option<String> {
        let entry = self.inner.store.peek(&stored::key("", "namespaces", "", name))?;
        let phase = entry
            .header
            .fields
            .iter()
            .find(|(field, _)| field == "status.phase");
        Some(phase.map(|(_, phase)| phase.clone()).unwrap_or_default())
    }

    fn find(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        let entry = self
            .inner
            .store
            .peek(&stored::key(group, plural, namespace, name))?;
        readable(&entry)
    }

    fn labels(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Vec<(String, String)> {
        let entry = self
            .inner
            .store
            .peek(&stored::key(group, plural, namespace, name));
        entry.map(|entry| entry.header.labels.clone()).unwrap_or_default()
    }

    fn all(&self, group: &str, plural: &str, namespace: &str) -> Vec<Value> {
        let (_, entries) = self
            .inner
            .store
            .peek_prefix(&stored::prefix(group, plural, namespace));
        entries.iter().filter_map(|entry| readable(entry)).collect()
    }

    fn decision(&self, attributes: &Attributes) -> Decision {
        self.inner.authorizer.decide(attributes)
    }

    fn settle<'a>(&'a self, attributes: &'a Attributes) -> BoxFuture<'a, Decision> {
        Box::pin(self.inner.authorizer.settle(attributes))
    }

    fn random(&self) -> &dyn Random {
        &*self.inner.config.random
    }
}

fn readable(entry: &Entry) -> Option<Value> {
    text::parse(entry)
        .inspect_err(|status| tracing::error!(%status, "a stored object cannot be read"))
        .ok()
}

/// Completes a review of a creation for requests without a body of the kind's own.
pub(super) fn review_of<'a>(
    request: &'a api::request::Request,
    kind: &KindRef,
    operation: Operation,
    object: Option<&'a mut Value>,
    old: Option<&'a Value>,
) -> Review<'a> {
    Review {
        operation,
        kind: kind.clone(),
        subresource: &request.subresource,
        namespace: if kind.namespaced { &request.namespace } else { "" },
        name: &request.name,
        user: &request.user,
        options: &request.options,
        notes: &request.notes,
        object,
        old,
    }
}

/// The kind of a core resource that the registry itself speaks of.
pub(super) fn core_kind(plural: &str) -> Result<&'static api::kind::Kind, Status> {
    kinds::find("", "v1", plural).ok_or_else(|| Status::internal(format!("no kind for {plural}")))
}

/// `namespace/name` of an object, for texts.
pub(super) fn full_name(value: &Value) -> String {
    format!("{}/{}", object::namespace(value), object::name(value))
}
