//! Objects in the versions in which managers of fields wrote them.

use api::apply::{Form, Versions};
use api::canon;
use api::custom::CustomKind;
use api::kind::{Kind, KindRef};
use api::object;
use api::schema::Schemas;
use serde_json::Value;

use crate::conversion;
use crate::served::ServedKinds;

impl Versions for ServedKinds {
    fn form(&self, object: &Value, from: &str, to: &str) -> Form {
        let name = object::kind(object);
        if from == to || name.is_empty() {
            return Form::Same;
        }
        let is = |kind: &KindRef| kind.kind == name && kind.api_version() == from;
        let Some(source) = self.all().into_iter().find(is) else {
            return Form::Same;
        };
        let others = self.equivalents(&source).into_iter();
        let target = others.into_iter().find(|other| other.api_version() == to);
        match (&source, target) {
            (KindRef::BuiltIn(source), Some(KindRef::BuiltIn(target))) => of_built_in(object, source, target),
            (KindRef::BuiltIn(_), _) => Form::Gone,
            (KindRef::Custom(source), target) => of_custom(object, source, target.as_ref(), to),
        }
    }
}

/// By way of the form in which both are kept.
fn of_built_in(object: &Value, source: &Kind, target: &Kind) -> Form {
    let Some(schema) = Schemas::builtin().for_kind(target.group, target.version, target.kind) else {
        return Form::Same;
    };
    let mut shown = object.clone();
    if let Some(storage) = source.storage {
        (storage.to_stored)(&mut shown);
    }
    if let Some(storage) = target.storage {
        (storage.to_served)(&mut shown);
    }
    canon::canonicalize(&mut shown, &schema);
    Form::Other(shown, schema)
}

/// Versions of one definition differ in their schemas alone, unless a webhook converts between them: it is not asked
/// for this, and fields are taken for those of the same names. So are those of versions that nobody serves.
fn of_custom(object: &Value, source: &CustomKind, target: Option<&KindRef>, to: &str) -> Form {
    let (group, version) = object::split_api_version(to);
    if group != source.kind().group || !source.has_version(version) {
        return Form::Gone;
    }
    let Some(target) = target.filter(|target| !conversion::by_webhook(target)) else {
        return Form::Same;
    };
    let Ok(schema) = target.schema() else {
        return Form::Same;
    };
    let mut shown = object.clone();
    object::set(&mut shown, &["apiVersion"], to);
    Form::Other(shown, schema)
}
