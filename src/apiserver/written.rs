//! Objects in the versions in which managers of fields wrote them.
//!
//! Who compares versions does not wait: what only a webhook could tell is noted while it counts as unknown, told
//! afterwards, and then everything is computed once more ([`AskedForms`]).

use std::sync::{Mutex, MutexGuard, PoisonError};

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
        let Some((source, target)) = self.way(object, from, to) else {
            return Form::Same;
        };
        match (&source, target) {
            (KindRef::BuiltIn(source), Some(KindRef::BuiltIn(target))) => of_built_in(object, source, target),
            (KindRef::BuiltIn(_), _) => Form::Gone,
            (KindRef::Custom(source), target) => of_custom(object, source, target.as_ref(), to),
        }
    }
}

impl ServedKinds {
    /// An object's kind in one version and in another, if that is served; nothing where both are the same, or nobody
    /// knows the first.
    fn way(&self, object: &Value, from: &str, to: &str) -> Option<(KindRef, Option<KindRef>)> {
        let name = object::kind(object);
        if from == to || name.is_empty() {
            return None;
        }
        let is = |kind: &KindRef| kind.kind == name && kind.api_version() == from;
        let source = self.all().into_iter().find(is)?;
        let others = self.equivalents(&source).into_iter();
        let target = others.into_iter().find(|other| other.api_version() == to);
        Some((source, target))
    }
}

/// The forms of objects for one write, those that a webhook makes included.
pub struct AskedForms<'a> {
    kinds: &'a ServedKinds,
    // A std lock: nothing awaits while it is held.
    asked: Mutex<Vec<Asked>>,
}

/// An object that somebody wanted to see in another version.
struct Asked {
    object: Value,
    target: KindRef,
    told: Told,
}

enum Told {
    NotYet,
    /// The webhook could not say: fields are taken for those of the same names.
    Nothing,
    Shown(Value),
}

impl<'a> AskedForms<'a> {
    /// Of these kinds, nothing asked yet.
    pub fn new(kinds: &'a ServedKinds) -> Self {
        let asked = Mutex::default();
        Self { kinds, asked }
    }

    fn asked(&self) -> MutexGuard<'_, Vec<Asked>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is still to be told: objects, and the kind in the version in which they are wanted.
    pub fn missing(&self) -> Vec<(Value, KindRef)> {
        let asked = self.asked();
        let missing = asked.iter().filter(|one| matches!(one.told, Told::NotYet));
        missing
            .map(|one| (one.object.clone(), one.target.clone()))
            .collect()
    }

    /// Tells how an object looks as that kind; nothing if nobody could say.
    pub fn tell(&self, object: &Value, target: &KindRef, shown: Option<Value>) {
        let mut asked = self.asked();
        if let Some(one) = asked.iter_mut().find(|one| one.is(object, target)) {
            one.told = shown.map_or(Told::Nothing, Told::Shown);
        }
    }

    fn by_webhook(&self, object: &Value, target: KindRef) -> Form {
        let mut asked = self.asked();
        let Some(found) = asked.iter().find(|one| one.is(object, &target)) else {
            asked.push(Asked {
                object: object.clone(),
                target,
                told: Told::NotYet,
            });
            return Form::Same;
        };
        match (&found.told, target.schema()) {
            (Told::Shown(shown), Ok(schema)) => Form::Other(shown.clone(), schema),
            _ => Form::Same,
        }
    }
}

impl Asked {
    fn is(&self, object: &Value, target: &KindRef) -> bool {
        self.target.api_version() == target.api_version() && self.object == *object
    }
}

impl Versions for AskedForms<'_> {
    fn form(&self, object: &Value, from: &str, to: &str) -> Form {
        match self.kinds.way(object, from, to) {
            Some((_, Some(target))) if conversion::by_webhook(&target) => self.by_webhook(object, target),
            _ => self.kinds.form(object, from, to),
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

/// Versions of one definition differ in their schemas alone, unless a webhook converts between them: who does not ask
/// it ([`AskedForms`]) takes fields for those of the same names. So are those of versions that nobody serves.
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn kinds() -> ServedKinds {
        let version = |name: &str| {
            json!({"name": name, "served": true, "storage": name == "v2",
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}})
        };
        let definition = json!({"metadata": {"name": "things.example.com"}, "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"},
            "versions": [version("v1"), version("v2")],
            "conversion": {"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"],
                "clientConfig": {"url": "https://127.0.0.1:1/"}}}},
            "status": {"acceptedNames": {"plural": "things", "kind": "Thing"},
                "conditions": [{"type": "Established", "status": "True"}]}});
        let kinds = ServedKinds::default();
        let text = definition.to_string().into();
        kinds.put("things.example.com", api::custom::kinds(&definition, &text));
        kinds
    }

    #[test]
    fn what_a_webhook_must_tell_is_noted_once_and_then_known() {
        let kinds = kinds();
        let forms = AskedForms::new(&kinds);
        let old = json!({"apiVersion": "example.com/v2", "kind": "Thing", "spec": {"hostPort": "a:1"}});
        let form = || forms.form(&old, "example.com/v2", "example.com/v1");
        assert!(matches!((form(), form()), (Form::Same, Form::Same)));
        let missing = forms.missing();
        assert_eq!(missing.len(), 1, "asked once");
        let new =
            json!({"apiVersion": "example.com/v1", "kind": "Thing", "spec": {"host": "a", "port": "1"}});
        forms.tell(&missing[0].0, &missing[0].1, Some(new.clone()));
        assert!(forms.missing().is_empty());
        assert!(matches!(form(), Form::Other(shown, _) if shown == new));
        assert!(matches!(
            forms.form(&old, "example.com/v2", "example.com/v3"),
            Form::Gone
        ));
    }

    #[test]
    fn what_it_cannot_tell_has_the_same_names() {
        let kinds = kinds();
        let forms = AskedForms::new(&kinds);
        let old = json!({"apiVersion": "example.com/v2", "kind": "Thing"});
        forms.form(&old, "example.com/v2", "example.com/v1");
        for (object, target) in forms.missing() {
            forms.tell(&object, &target, None);
        }
        assert!(forms.missing().is_empty());
        assert!(matches!(
            forms.form(&old, "example.com/v2", "example.com/v1"),
            Form::Same
        ));
    }
}
