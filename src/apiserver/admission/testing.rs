//! A small world made by hand, for the plugins' tests.

use std::sync::LazyLock;

use api::kind::KindRef;
use api::object;
use api::request::{Notes, Options, User};
use base::Random;
use base::SeededRandom;
use futures_util::future::BoxFuture;
use serde_json::Value;

use super::{Operation, Review, World};
use crate::authz::{Attributes, Decision};

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
