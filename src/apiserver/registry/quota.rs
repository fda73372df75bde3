//! Writing an object together with what it costs in quotas: both or neither, so that nothing is counted that was not
//! written, however many write at once.

mod settle;
mod turns;

use std::sync::Arc;

use api::object;
use api::request::Request;
use api::status::Status;
use serde_json::Value;
use store::{Entry, Expect, Op, Outcome, StoreError};

use crate::admission::quota::{Asked, Counted, charge, is_counted};
use crate::stored;

use super::target::Target;
use super::world::core_kind;
use super::{Core, refuse, text};
pub(super) use turns::Turns;

/// How often the costs are worked out anew when somebody else changes a quota at the same moment.
const TRIES_MAX: usize = 24;

/// An object that is to be written.
#[derive(Clone, Copy)]
pub(super) struct Writing<'a> {
    pub target: &'a Target,
    pub request: &'a Request,
    /// As it will be.
    pub new: &'a Value,
    /// As it is; `None` for a creation.
    pub old: Option<&'a Value>,
}

impl Core {
    /// Commits operations that write an object, and in the same step counts it in the quotas of its namespace. The
    /// inner error is the store's about the operations themselves.
    ///
    /// # Errors
    /// 403 when a quota would be exceeded.
    pub(super) async fn commit_counted(
        &self,
        writing: Writing<'_>,
        ops: Vec<Op>,
    ) -> Result<Result<Vec<Outcome>, StoreError>, Status> {
        if self.quotas_of(writing).is_empty() {
            return Ok(self.inner.store.commit(ops).await);
        }
        let _turn = self.inner.turns.wait(&writing.target.namespace).await;
        for _ in 0..TRIES_MAX {
            let mut all = ops.clone();
            all.extend(self.charges(writing)?);
            match self.inner.store.commit(all).await {
                Err(StoreError::Precondition { index, .. }) if index >= ops.len() => {
                    // Another server counted meanwhile, or what is used was settled.
                    self.inner.store.catch_up().await.map_err(refuse::status)?;
                }
                other => return Ok(other),
            }
        }
        Err(Status::stale("", "resourcequotas", ""))
    }

    /// The operations that count an object. None for what no quota counts.
    ///
    /// # Errors
    /// 403 when a quota would be exceeded.
    pub(super) fn charges(&self, writing: Writing<'_>) -> Result<Vec<Op>, Status> {
        let entries = self.quotas_of(writing);
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        let quotas: Result<Vec<Value>, Status> = entries.iter().map(|entry| text::parse(entry)).collect();
        let kind = &writing.target.kind;
        let asked = Asked {
            counted: Counted {
                group: kind.group,
                plural: kind.plural,
            },
            new: writing.new,
            old: writing.old,
            now: self.inner.config.clock.now(),
        };
        let refused =
            |why: String| Status::forbidden(kind.group, kind.plural, object::name(writing.new), &why);
        let changed = charge(&quotas?, &asked).map_err(refused)?;
        changed.iter().map(|quota| self.quota_op(quota)).collect()
    }

    /// Writes a quota unless it has changed since it was read.
    fn quota_op(&self, quota: &Value) -> Result<Op, Status> {
        let (namespace, name) = (object::namespace(quota), object::name(quota));
        let target = Target::new(
            core_kind("resourcequotas")?,
            namespace.to_owned(),
            name.to_owned(),
        )?;
        let revision = object::resource_version(quota).parse();
        Ok(Op::Put {
            key: target.key(name),
            record: self.record(&target, quota)?,
            expect: Expect::Revision(revision.map_err(Status::internal)?),
        })
    }

    /// The quotas that may count an object.
    fn quotas_of(&self, writing: Writing<'_>) -> Vec<Arc<Entry>> {
        let (kind, part) = (&writing.target.kind, writing.request.subresource.as_str());
        let counts = match (writing.old, kind.group, kind.plural) {
            (None, group, plural) => is_counted(group, plural),
            (Some(_), "", "pods") => part == "resize",
            (Some(_), "", "services" | "persistentvolumeclaims") => part.is_empty(),
            _ => false,
        };
        let namespace = &writing.target.namespace;
        if namespace.is_empty() || !counts {
            return Vec::new();
        }
        let prefix = stored::prefix("", "resourcequotas", namespace);
        self.inner.store.peek_prefix(&prefix).1
    }
}
