//! The objects of a request in the version in which somebody is asked about them.

use api::kind::KindRef;
use api::status::Status;
use serde_json::Value;

use super::subject::{Objects, Subject};
use crate::conversion::convert;
use crate::outbound::Outbound;

/// The objects as they are shown; nothing is copied where the version is the request's own.
pub enum Shown {
    /// As they are.
    Same,
    /// In another version: new and old.
    Other(Option<Value>, Option<Value>),
}

impl Shown {
    /// In the version of `kind`.
    ///
    /// # Errors
    /// 500 when they cannot be converted.
    pub async fn of(
        outbound: &Outbound,
        subject: &Subject,
        objects: Objects<'_>,
        kind: &KindRef,
    ) -> Result<Self, Status> {
        if !differs(subject, kind) {
            return Ok(Shown::Same);
        }
        let mut made = [None, None];
        for (made, object) in made.iter_mut().zip([objects.new, objects.old]) {
            if let Some(object) = object {
                *made = Some(convert(outbound, object.clone(), &subject.kind, kind).await?);
            }
        }
        let [new, old] = made;
        Ok(Shown::Other(new, old))
    }

    /// The objects, where `own` are those of the request.
    pub fn objects<'a>(&'a self, own: Objects<'a>) -> Objects<'a> {
        match self {
            Shown::Same => own,
            Shown::Other(new, old) => Objects {
                new: new.as_ref(),
                old: old.as_ref(),
            },
        }
    }

    /// An object that was changed in that version, in the request's own.
    ///
    /// # Errors
    /// 500 when it cannot be converted.
    pub async fn back(
        &self,
        outbound: &Outbound,
        changed: Value,
        subject: &Subject,
        kind: &KindRef,
    ) -> Result<Value, Status> {
        match self {
            Shown::Same => Ok(changed),
            Shown::Other(..) => convert(outbound, changed, kind, &subject.kind).await,
        }
    }
}

fn differs(subject: &Subject, kind: &KindRef) -> bool {
    let own = &subject.kind;
    subject.has_versions() && (own.group, own.version) != (kind.group, kind.version)
}
