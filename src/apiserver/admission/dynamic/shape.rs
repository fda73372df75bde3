//! An object that somebody else changed, in the form in which the registry knows objects. Pure.

use api::canon;
use api::decode::{self, FieldValidation};
use api::kind::KindRef;
use api::object;
use api::schema::Schemas;
use api::status::Status;
use serde_json::Value;

use super::subject::Subject;

/// Takes out what its kind does not know, fills in defaults, and keeps who owns which field as it was.
///
/// # Errors
/// 500 when a value is of the wrong type, as Kubernetes has it.
pub fn settle(changed: Value, before: &Value, subject: &Subject, kind: &KindRef) -> Result<Value, Status> {
    let body = subject.body_as(kind);
    let own = body.kind == kind.kind && body.group == kind.group;
    let schema = match own {
        true => kind.schema()?,
        false => Schemas::builtin()
            .for_kind(&body.group, &body.version, &body.kind)
            .ok_or_else(|| Status::internal(format!("no schema for {}", body.kind)))?,
    };
    let checked = decode::check_patched(changed, &schema, FieldValidation::Ignore);
    let (mut new, _) = checked.map_err(|status| Status::internal(status.message))?;
    object::set_kind(&mut new, &body.group, &body.version, &body.kind);
    if own {
        kind.fill(&mut new);
    }
    canon::canonicalize(&mut new, &schema);
    let managed = object::get(before, &["metadata", "managedFields"]).clone();
    match managed.is_null() {
        true => drop(object::remove(&mut new, &["metadata", "managedFields"])),
        false => object::set(&mut new, &["metadata", "managedFields"], managed),
    }
    Ok(new)
}
