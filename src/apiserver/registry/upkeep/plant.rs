//! New objects of the server's own, whole with their statuses and all in one commit: a first start writes dozens.
//! What they are is ours to say, so nobody is asked to admit them; they obey their kinds' rules all the same.

use api::apply;
use api::canon;
use api::object;
use api::request::Verb;
use api::status::Status;
use serde_json::Value;
use store::{Expect, Op, StoreError};

use super::AT_ONCE;
use super::order::{Collection, Write};
use crate::registry::target::Part;
use crate::registry::{Core, meta, refuse};

impl Core {
    /// Writes them. Where another server was faster nothing is written, and the next look finds what is missing.
    pub(super) async fn plant(&self, new: &[Write]) -> Result<(), Status> {
        for some in new.chunks(AT_ONCE) {
            let ops: Result<Vec<Op>, Status> = some
                .iter()
                .map(|write| self.planted(write.collection, write.object.clone()))
                .collect();
            match self.inner.store.commit(ops?).await {
                Ok(_) | Err(StoreError::Precondition { .. }) => {}
                Err(error) => return Err(refuse::status(error)),
            }
        }
        Ok(())
    }

    fn planted(&self, (group, plural, namespace): Collection, mut new: Value) -> Result<Op, Status> {
        let config = &self.inner.config;
        let mut request = self.own(Verb::Create, group, plural, namespace, "")?;
        let target = self.target(&request)?;
        let status = object::remove(&mut new, &["status"]);
        target.kind.fill(&mut new);
        canon::canonicalize(&mut new, target.schema()?);
        let kinds = &*self.inner.kinds;
        let write = self.write_of(&target, &request, Part::Whole, kinds)?;
        new = apply::update_managed_fields(None, new, &write);
        meta::born(&mut new, &*config.random, config.clock.now());
        target.kind.prepare_create(&mut new);
        let errors = target.kind.check_create(&new).errors;
        if !errors.is_empty() {
            return Err(Status::invalid(
                group,
                target.kind.kind,
                object::name(&new),
                &errors,
            ));
        }
        if let Some(status) = status {
            let mut told = new.clone();
            object::set(&mut told, &["status"], status);
            canon::canonicalize(&mut told, target.schema()?);
            request.subresource = "status".to_owned();
            let part = target.part(&request)?;
            let write = self.write_of(&target, &request, part, kinds)?;
            new = apply::update_managed_fields(Some(&new), told, &write);
        }
        Ok(Op::Put {
            key: target.key(object::name(&new)),
            record: self.record(&target, &new)?,
            expect: Expect::Absent,
        })
    }
}
