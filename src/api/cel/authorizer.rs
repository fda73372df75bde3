//! `authorizer`: what an expression may ask about permissions, step by step.
//!
//! ```text
//! authorizer ─ group ─▶ group ─ resource ─▶ resource ─ check ─▶ decision
//!     ├─ path ─▶ path ─ check ─▶ decision       └─ namespace, name, subresource, selectors
//!     ├─ serviceAccount ─▶ authorizer of somebody else
//!     └─ requestResource ─▶ resource of the request
//! ```

use std::rc::Rc;

use super::authority::{Answer, Authority, Question, Step};
use super::val::Val;

const NO_OVERLOAD: &str = "no such overload";

/// `authorizer.requestResource`.
pub fn member<'a>(on: &Authority<'a>, name: &str) -> Result<Val<'a>, String> {
    match (&on.step, name) {
        (Step::Begun, "requestResource") => Ok(then(on, Step::Resource, on.asked.request_resource())),
        _ => Err(NO_OVERLOAD.to_owned()),
    }
}

/// What a method says.
pub fn method<'a>(on: &Authority<'a>, name: &str, args: &[Val<'a>]) -> Result<Val<'a>, String> {
    match (&on.step, args) {
        (Step::Decided(answer), []) => decided(answer, name),
        (Step::Begun, [Val::Text(namespace), Val::Text(account)]) if name == "serviceAccount" => {
            let question = Question {
                account: Some((namespace.to_string(), account.to_string())),
                ..(*on.question).clone()
            };
            Ok(then(on, Step::Begun, question))
        }
        (_, [Val::Text(text)]) => narrowed(on, name, text),
        _ => Err(NO_OVERLOAD.to_owned()),
    }
}

fn narrowed<'a>(on: &Authority<'a>, name: &str, text: &str) -> Result<Val<'a>, String> {
    let (mut question, text) = ((*on.question).clone(), text.to_owned());
    let step = match (&on.step, name) {
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
            Step::Decided(on.asked.decide(&question))
        }
        _ => return Err(NO_OVERLOAD.to_owned()),
    };
    Ok(then(on, step, question))
}

fn then<'a>(on: &Authority<'a>, step: Step, question: Question) -> Val<'a> {
    Val::Authority(Authority {
        asked: on.asked,
        step,
        question: Rc::new(question),
    })
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
    use super::super::{Budget, Permissions, Program, Scope};
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
