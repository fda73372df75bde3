//! What expressions see of a request: the variables of match conditions and policies.

use api::cel::{Answer, Authority, Permissions, Question, Scope, Val};
use api::kind::KindRef;
use api::object;
use api::request::User;
use api::value::{get, remove};
use serde_json::{Value, json};

use super::subject::{Objects, Subject};
use crate::admission::World;
use crate::authz::Attributes;
use crate::authz::narrowing::Narrowing;

/// What stays the same for all expressions of one webhook or policy that look at one request. They look into it
/// where it is.
pub struct Seen<'a> {
    /// The request without its objects.
    request: Value,
    /// The namespace, as far as expressions may see it; null for cluster scope.
    namespace: Value,
    /// The parameters of a policy; null for none.
    params: &'a Value,
    /// Who answers questions about permissions.
    asker: Asker<'a>,
}

impl<'a> Seen<'a> {
    /// What is to be seen of a request, asked about in that version of its kind.
    pub fn of(subject: &'a Subject, kind: &KindRef, params: &'a Value, world: &'a dyn World) -> Self {
        Self {
            request: subject.request(kind),
            namespace: namespace(subject, world),
            params,
            asker: Asker { world, subject },
        }
    }

    /// The variables for these objects, those of a policy's own excepted.
    pub fn scope<'s>(&'s self, objects: Objects<'s>) -> Scope<'s> {
        Scope::new()
            .with("object", Val::json(objects.new_or_null(), None))
            .with("oldObject", Val::json(objects.old_or_null(), None))
            .with("request", Val::json(&self.request, None))
            .with("namespaceObject", Val::json(&self.namespace, None))
            .with("params", Val::json(self.params, None))
            .with("authorizer", Val::Authority(Authority::new(&self.asker)))
    }
}

/// The namespace of a request as expressions see it; null for cluster scope and for namespaces themselves.
fn namespace(subject: &Subject, world: &dyn World) -> Value {
    if subject.namespace.is_empty() || subject.is_namespace() {
        return Value::Null;
    }
    let Some(found) = world.find("", "namespaces", "", &subject.namespace) else {
        return Value::Null;
    };
    let mut metadata = get(&found, "metadata").clone();
    for key in ["managedFields", "ownerReferences", "selfLink"] {
        remove(&mut metadata, key);
    }
    let mut seen = json!({"metadata": metadata, "spec": get(&found, "spec"), "status": {}});
    object::set(
        &mut seen,
        &["status", "phase"],
        get(&found, "status.phase").clone(),
    );
    seen
}

/// Asks the authoriser in the name of a request's user.
struct Asker<'a> {
    world: &'a dyn World,
    subject: &'a Subject,
}

impl Asker<'_> {
    fn user(&self, question: &Question) -> User {
        let Some((namespace, name)) = &question.account else {
            return self.subject.user.clone();
        };
        let of_namespace = format!("system:serviceaccounts:{namespace}");
        User::new(
            format!("system:serviceaccount:{namespace}:{name}"),
            &["system:serviceaccounts", &of_namespace, "system:authenticated"],
        )
    }
}

impl Permissions for Asker<'_> {
    fn decide(&self, question: &Question) -> Answer {
        let user = self.user(question);
        let attributes = match &question.path {
            Some(path) => Attributes::of_path(&user, &question.verb, path),
            None => Attributes {
                user,
                verb: question.verb.clone(),
                resource_request: true,
                group: question.group.clone(),
                version: "*".to_owned(),
                resource: question.resource.clone(),
                subresource: question.subresource.clone(),
                namespace: question.namespace.clone(),
                name: question.name.clone(),
                path: String::new(),
                narrowing: Narrowing::of_texts(&question.field_selector, &question.label_selector),
            },
        };
        let decision = self.world.decision(&attributes);
        Answer {
            allowed: decision.allowed,
            reason: decision.reason,
            error: decision.error,
        }
    }

    fn request_resource(&self) -> Question {
        Question {
            group: self.subject.kind.group.to_owned(),
            resource: self.subject.kind.plural.to_owned(),
            subresource: self.subject.subresource.clone(),
            namespace: self.subject.namespace.clone(),
            name: self.subject.name.clone(),
            ..Question::default()
        }
    }
}
