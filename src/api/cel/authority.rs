//! `authorizer`: what an expression may ask about permissions, step by step.
//!
//! ```text
//! authorizer ─ group ─▶ group ─ resource ─▶ resource ─ check ─▶ decision
//!     ├─ path ─▶ path ─ check ─▶ decision       └─ namespace, name, subresource, selectors
//!     ├─ serviceAccount ─▶ authorizer of somebody else
//!     └─ requestResource ─▶ resource of the request
//! ```

use std::fmt;
use std::rc::Rc;

use super::val::Val;

/// What one question costs: as much as a page of ordinary steps (Kubernetes' figure).
pub const CHECK_COST: usize = 350_000;
const NO_OVERLOAD: &str = "no such overload";

/// What is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// Namespace and name of the service account that is asked about; `None` for the request's user.
    pub account: Option<(String, String)>,
    /// The path, when it is about no resource.
    pub path: Option<String>,
    /// API group; empty for core.
    pub group: String,
    /// Plural name.
    pub resource: String,
    /// Part of the resource; empty for the whole.
    pub subresource: String,
    /// Namespace; empty for all.
    pub namespace: String,
    /// Object; empty for any.
    pub name: String,
    /// Field selector as written.
    pub field_selector: String,
    /// Label selector as written.
    pub label_selector: String,
    /// Verb.
    pub verb: String,
}

/// What is answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Whether it may be done.
    pub allowed: bool,
    /// Why; may be empty.
    pub reason: String,
    /// What went wrong; empty for nothing.
    pub error: String,
}

/// Who answers.
pub trait Permissions {
    /// Whether that may be done.
    fn decide(&self, question: &Question) -> Answer;

    /// The resource of the request under review.
    fn request_resource(&self) -> Question;
}

/// How far a question has been put.
#[derive(Clone)]
enum Step {
    Begun,
    Group,
    Resource,
    Path,
    Decided(Answer),
}

/// A question on its way.
#[derive(Clone)]
pub struct Authority<'a> {
    asked: &'a dyn Permissions,
    step: Step,
    question: Rc<Question>,
}

impl fmt::Debug for Authority<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple(self.type_name()).field(&self.question).finish()
    }
}

impl<'a> Authority<'a> {
    /// The variable `authorizer`.
    pub fn new(asked: &'a dyn Permissions) -> Self {
        Self {
            asked,
            step: Step::Begun,
            question: Rc::default(),
        }
    }

    pub(super) fn type_name(&self) -> &'static str {
        match self.step {
            Step::Begun => "kubernetes.authorization.Authorizer",
            Step::Group => "kubernetes.authorization.GroupCheck",
            Step::Resource => "kubernetes.authorization.ResourceCheck",
            Step::Path => "kubernetes.authorization.PathCheck",
            Step::Decided(_) => "kubernetes.authorization.Decision",
        }
    }

    /// `authorizer.requestResource`.
    pub(super) fn member(&self, name: &str) -> Result<Val<'a>, String> {
        match (&self.step, name) {
            (Step::Begun, "requestResource") => Ok(self.then(Step::Resource, self.asked.request_resource())),
            _ => Err(NO_OVERLOAD.to_owned()),
        }
    }

    pub(super) fn method(&self, name: &str, args: &[Val<'a>]) -> Result<Val<'a>, String> {
        match (&self.step, args) {
            (Step::Decided(answer), []) => decided(answer, name),
            (Step::Begun, [Val::Text(namespace), Val::Text(account)]) if name == "serviceAccount" => {
                let question = Question {
                    account: Some((namespace.to_string(), account.to_string())),
                    ..(*self.question).clone()
                };
                Ok(self.then(Step::Begun, question))
            }
            (_, [Val::Text(text)]) => self.narrowed(name, text),
            _ => Err(NO_OVERLOAD.to_owned()),
        }
    }

    fn narrowed(&self, name: &str, text: &str) -> Result<Val<'a>, String> {
        let (mut question, text) = ((*self.question).clone(), text.to_owned());
        let step = match (&self.step, name) {
            (Step::Begun, "path") => {
                question.path = Some(text);
                Step::Path
            }
            (Step::Begun, "group") => {
                question.group = text;
                Step::Group
            }
            (Step::Group, "resource") => {
                question.resource = text;
                Step::Resource
            }
            (Step::Resource, "subresource" | "namespace" | "name" | "fieldSelector" | "labelSelector") => {
                match name {
                    "subresource" => question.subresource = text,
                    "namespace" => question.namespace = text,
                    "name" => question.name = text,
                    "fieldSelector" => question.field_selector = text,
                    _ => question.label_selector = text,
                }
                Step::Resource
            }
            (Step::Resource | Step::Path, "check") => {
                question.verb = text;
                Step::Decided(self.asked.decide(&question))
            }
            _ => return Err(NO_OVERLOAD.to_owned()),
        };
        Ok(self.then(step, question))
    }

    fn then(&self, step: Step, question: Question) -> Val<'a> {
        Val::Authority(Self {
            asked: self.asked,
            step,
            question: Rc::new(question),
        })
    }
}

fn decided<'a>(answer: &Answer, name: &str) -> Result<Val<'a>, String> {
    Ok(match name {
        "allowed" => Val::Bool(answer.allowed),
        "reason" => Val::text(&answer.reason),
        "errored" => Val::Bool(!answer.error.is_empty()),
        "error" => Val::text(&answer.error),
        _ => return Err(NO_OVERLOAD.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Budget, Program, Scope};
    use super::*;

    struct Readers;

    impl Permissions for Readers {
        fn decide(&self, question: &Question) -> Answer {
            Answer {
                allowed: question.verb == "get" && question.account.is_none(),
                reason: format!("{}/{}", question.namespace, question.resource),
                ..Answer::default()
            }
        }

        fn request_resource(&self) -> Question {
            Question {
                resource: "pods".into(),
                ..Question::default()
            }
        }
    }

    #[test]
    fn permissions_are_asked_step_by_step() {
        let scope = Scope::new().with("authorizer", Val::Authority(Authority::new(&Readers)));
        for (source, wanted) in [
            (
                "authorizer.group('').resource('pods').namespace('a').check('get').allowed()",
                true,
            ),
            (
                "authorizer.requestResource.check('get').reason() == '/pods'",
                true,
            ),
            ("authorizer.path('/healthz').check('post').allowed()", false),
            (
                "authorizer.serviceAccount('a', 'b').group('').resource('pods').check('get').allowed()",
                false,
            ),
            (
                "authorizer.group('').resource('pods').check('get').errored()",
                false,
            ),
        ] {
            let program = Program::compile(source, &["authorizer"]).unwrap();
            let said = program.eval(&scope, &mut Budget::new(1_000_000));
            assert!(
                matches!(said, Ok(Val::Bool(flag)) if flag == wanted),
                "{source}: {said:?}"
            );
        }
        let dear = Program::compile("authorizer.path('/').check('get').allowed()", &["authorizer"]).unwrap();
        assert!(dear.eval(&scope, &mut Budget::new(1000)).is_err());
    }
}
