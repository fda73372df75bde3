//! What expressions see of a request: the variables of match conditions and policies.

use api::cel::{Answer, Authority, Permissions, Question, Scope, Val};
use api::object;
use api::request::User;
use api::value::{get, remove};
use serde_json::{Value, json};

use super::subject::{Objects, Subject};
use crate::admission::World;
use crate::authz::Attributes;

/// The values of the variables. Expressions look into them where they are.
pub struct Seen<'a> {
    /// The object as it will be and as it was.
    pub objects: Objects<'a>,
    /// The request without its objects.
    pub request: &'a Value,
    /// The namespace, as far as expressions may see it; null for cluster scope.
    pub namespace: &'a Value,
    /// The parameters of a policy; null for none.
    pub params: &'a Value,
    /// Who answers questions about permissions.
    pub asker: &'a Asker<'a>,
}

impl<'a> Seen<'a> {
    /// The variables, those of a policy's own excepted.
    pub fn scope(&self) -> Scope<'a> {
        Scope::new()
            .with("object", Val::json(self.objects.new_or_null(), None))
            .with("oldObject", Val::json(self.objects.old_or_null(), None))
            .with("request", Val::json(self.request, None))
            .with("namespaceObject", Val::json(self.namespace, None))
            .with("params", Val::json(self.params, None))
            .with("authorizer", Val::Authority(Authority::new(self.asker)))
    }
}

/// The namespace of a request as expressions see it; null for cluster scope and for namespaces themselves.
pub fn namespace(subject: &Subject, world: &dyn World) -> Value {
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
pub struct Asker<'a> {
    world: &'a dyn World,
    subject: &'a Subject,
}

impl<'a> Asker<'a> {
    /// For that request.
    pub fn new(world: &'a dyn World, subject: &'a Subject) -> Self {
        Self { world, subject }
    }

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
                field_selector: question.field_selector.clone(),
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
