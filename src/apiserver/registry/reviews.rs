//! Questions about users: who holds a token, who am I, may somebody do
//! something. Answered, never stored.

use std::collections::BTreeMap;

use api::go;
use api::object;
use api::request::{Notes, Reply, Request, User};
use api::status::Status;
use api::value;
use serde_json::{Value, json};

use crate::admission::Operation;
use crate::authz::narrowing::Narrowing;
use crate::authz::{Attributes, Decision};

use super::world::review_of;
use super::{Core, body, meta};

impl Core {
    /// Answers a review.
    pub(super) async fn review(&self, request: &Request) -> Result<Reply, Status> {
        let target = self.target(request)?;
        let (mut review, warnings) = body::object(request, target.schema()?, &target.gvk())?;
        let mut admission = review_of(request, &target.kind, Operation::Create, Some(&mut review), None);
        self.admit_at_once(&mut admission).await?;
        if target.kind.kind == "SelfSubjectRulesReview" && value::text(&review, "spec.namespace").is_empty() {
            return Err(Status::bad_request("no namespace on request"));
        }
        meta::settle_namespace(&target, &mut review)?;
        let errors = target.kind.check_create(&review).errors;
        if !errors.is_empty() {
            return Err(Status::invalid(target.kind.group, target.kind.kind, "", &errors));
        }
        let status = match target.kind.kind {
            "TokenReview" => self.token_review(&review, &request.notes).await?,
            "SelfSubjectReview" => json!({ "userInfo": request.user.info() }),
            "SubjectAccessReview" | "LocalSubjectAccessReview" => {
                self.access(subject(&review), &review).await
            }
            "SelfSubjectAccessReview" => self.access(request.user.clone(), &review).await,
            "SelfSubjectRulesReview" => self.rules(&request.user, &review),
            other => return Err(Status::internal(format!("nobody answers a {other}"))),
        };
        object::set(&mut review, &["status"], status);
        object::metadata_mut(&mut review);
        Ok(Reply {
            code: 201,
            body: review.to_string().into(),
            warnings,
        })
    }

    async fn token_review(&self, review: &Value, notes: &Notes) -> Result<Value, Status> {
        let token = value::text(review, "spec.token");
        if token.is_empty() {
            return Err(Status::bad_request(
                "token is required for TokenReview in authentication",
            ));
        }
        let audiences = texts(value::get(review, "spec.audiences"));
        Ok(match self.inner.tokens.review(token, &audiences, notes).await {
            Ok((user, audiences)) => {
                json!({ "authenticated": true, "user": user.info(), "audiences": audiences })
            }
            Err(why) => json!({ "user": {}, "error": why }),
        })
    }

    async fn access(&self, user: User, review: &Value) -> Value {
        let attributes = attributes(user, value::get(review, "spec"));
        let Decision {
            allowed,
            denied,
            reason,
            error,
            ..
        } = self.inner.authorizer.settle(&attributes).await;
        let mut status = json!({ "allowed": allowed });
        if denied {
            status["denied"] = true.into();
        }
        if !reason.is_empty() {
            status["reason"] = reason.into();
        }
        let error = Some(error).filter(|error| !error.is_empty());
        let errors: Vec<String> = error.into_iter().chain(attributes.narrowing.ignored).collect();
        if !errors.is_empty() {
            status["evaluationError"] = errors.join("; ").into();
        }
        status
    }

    fn rules(&self, user: &User, review: &Value) -> Value {
        let namespace = value::text(review, "spec.namespace");
        let known = self.inner.authorizer.rules(user, namespace);
        let (paths, resources): (Vec<_>, Vec<_>) = known
            .rules
            .into_iter()
            .partition(|rule| !rule.non_resource_urls.is_empty());
        let mut status =
            json!({ "resourceRules": resources, "nonResourceRules": paths, "incomplete": known.incomplete });
        if !known.errors.is_empty() {
            status["evaluationError"] = go::aggregate(&known.errors).into();
        }
        status
    }
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

fn subject(review: &Value) -> User {
    let spec = value::get(review, "spec");
    let extra: BTreeMap<_, _> = value::entries(spec, "extra")
        .map(|(key, values)| (key.clone(), texts(values)))
        .collect();
    User {
        name: value::text(spec, "user").to_owned(),
        uid: value::text(spec, "uid").to_owned(),
        groups: texts(value::get(spec, "groups")),
        extra: extra.into(),
    }
}

/// The question that a review asks; validation has seen to it that there is exactly one.
fn attributes(user: User, spec: &Value) -> Attributes {
    let text = |from: &Value, key: &str| value::text(from, key).to_owned();
    let resource = value::get(spec, "resourceAttributes");
    if !resource.is_object() {
        let path = value::get(spec, "nonResourceAttributes");
        return Attributes {
            user,
            verb: text(path, "verb"),
            path: text(path, "path"),
            ..Attributes::default()
        };
    }
    Attributes {
        user,
        verb: text(resource, "verb"),
        resource_request: true,
        group: text(resource, "group"),
        version: text(resource, "version"),
        resource: text(resource, "resource"),
        subresource: text(resource, "subresource"),
        namespace: text(resource, "namespace"),
        name: text(resource, "name"),
        path: String::new(),
        narrowing: Narrowing::of_review(resource),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_review_asks_one_question() {
        let spec = json!({"user": "eve", "groups": ["g"], "resourceAttributes": {"verb": "get", "resource": "pods"}});
        let user = subject(&json!({ "spec": spec }));
        assert_eq!(
            (user.name.as_str(), user.groups.as_slice()),
            ("eve", &["g".to_owned()][..])
        );
        let asked = attributes(user.clone(), &spec);
        assert_eq!(
            (
                asked.verb.as_str(),
                asked.resource.as_str(),
                asked.resource_request
            ),
            ("get", "pods", true)
        );
        let path = attributes(
            user,
            &json!({"nonResourceAttributes": {"verb": "get", "path": "/x"}}),
        );
        assert_eq!((path.path.as_str(), path.resource_request), ("/x", false));
    }
}
