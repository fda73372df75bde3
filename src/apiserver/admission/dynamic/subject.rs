//! A request as webhooks and policies are told of it. Pure.

use api::kind::{Kind, KindRef};
use api::object;
use api::request::{Notes, Options, User};
use api::schema::Gvk;
use api::status::Status;
use serde_json::{Map, Value, json};

use crate::admission::{Operation, Review};

/// What configures admission itself is never submitted to it: nobody could mend what they broke.
const GROUP: &str = "admissionregistration.k8s.io";
/// Questions that no policy is asked about.
const QUESTIONS: [&str; 2] = ["authentication.k8s.io", "authorization.k8s.io"];

/// The objects of a request.
#[derive(Clone, Copy, Default)]
pub struct Objects<'a> {
    /// As it will be; `None` for deletions.
    pub new: Option<&'a Value>,
    /// As it was; `None` for creations.
    pub old: Option<&'a Value>,
}

impl<'a> Objects<'a> {
    /// The new object, or null.
    pub fn new_or_null(self) -> &'a Value {
        self.new.unwrap_or(&Value::Null)
    }

    /// The old object, or null.
    pub fn old_or_null(self) -> &'a Value {
        self.old.unwrap_or(&Value::Null)
    }
}

/// Everything about a request but its objects.
#[derive(Clone)]
pub struct Subject {
    /// What kind of request it is.
    pub operation: Operation,
    /// The resource in the path.
    pub kind: KindRef,
    /// The part in the path; empty for none.
    pub subresource: String,
    /// The kind of the body.
    pub body: Gvk,
    /// The namespace; empty for cluster scope.
    pub namespace: String,
    /// The object's name, as far as it has one.
    pub name: String,
    /// Who asks.
    pub user: User,
    /// How.
    pub options: Options,
    /// Where warnings and audit annotations go.
    pub notes: Notes,
}

impl Subject {
    /// What a review is about; `None` for what nobody else is asked about.
    pub fn of(review: &Review<'_>) -> Option<Self> {
        let kind = &review.kind;
        if kind.group == GROUP {
            return None;
        }
        let name = match (review.name, review.object.as_deref()) {
            ("", Some(new)) => object::name(new),
            (name, _) => name,
        };
        let own = kind.group.is_empty() && kind.plural == "namespaces";
        let namespace = if own { name } else { review.namespace };
        Some(Self {
            operation: review.operation,
            body: body_of(kind, review.subresource),
            subresource: review.subresource.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            user: review.user.clone(),
            options: review.options.clone(),
            notes: review.notes.clone(),
            kind: kind.clone(),
        })
    }

    /// Whether policies are asked about it.
    pub fn concerns_policies(&self) -> bool {
        !QUESTIONS.contains(&self.kind.group)
    }

    /// Whether it is a namespace itself.
    pub fn is_namespace(&self) -> bool {
        self.kind.group.is_empty() && self.kind.plural == "namespaces"
    }

    /// Whether the body has the versions that the resource has.
    pub fn has_versions(&self) -> bool {
        let own =
            (self.body.group.as_str(), self.body.version.as_str()) == (self.kind.group, self.kind.version);
        own && self.operation != Operation::Connect
    }

    /// The kind of the body when the resource is that of another version.
    pub fn body_as(&self, kind: &Kind) -> Gvk {
        body_of(kind, &self.subresource)
    }

    /// The request as an `AdmissionRequest` without its objects, told in the version of `kind`.
    pub fn request(&self, kind: &Kind) -> Value {
        let mut out = Map::new();
        let mut put = |key: &str, value: Value| out.insert(key.to_owned(), value);
        put("kind", gvk(&self.body_as(kind)));
        put("resource", gvr(kind));
        put("requestKind", gvk(&self.body));
        put("requestResource", gvr(&self.kind));
        for (key, text) in [
            ("subResource", &self.subresource),
            ("requestSubResource", &self.subresource),
            ("name", &self.name),
            ("namespace", &self.namespace),
        ] {
            if !text.is_empty() {
                put(key, text.as_str().into());
            }
        }
        put("operation", self.operation.name().into());
        put("userInfo", self.user.info());
        put("dryRun", self.options.dry_run.into());
        put("options", self.options_object());
        Value::Object(out)
    }

    fn options_object(&self) -> Value {
        let name = match self.operation {
            Operation::Create => "CreateOptions",
            Operation::Update => "UpdateOptions",
            Operation::Delete => "DeleteOptions",
            Operation::Connect => return Value::Null,
        };
        let options = &self.options;
        let mut out = json!({"kind": name, "apiVersion": "meta.k8s.io/v1"});
        if options.dry_run {
            out["dryRun"] = json!(["All"]);
        }
        let deletes = self.operation == Operation::Delete;
        for (key, text, applies) in [
            ("fieldManager", &options.field_manager, !deletes),
            ("fieldValidation", &options.field_validation, !deletes),
            ("propagationPolicy", &options.propagation_policy, deletes),
        ] {
            if applies && !text.is_empty() {
                out[key] = text.as_str().into();
            }
        }
        if let Some(seconds) = options.grace_period_seconds.filter(|_| deletes) {
            out["gracePeriodSeconds"] = seconds.into();
        }
        out
    }

    /// 403 about the object; `why` follows its name.
    pub fn forbidden(&self, why: &str) -> Status {
        let name = if self.name.is_empty() {
            "Unknown"
        } else {
            &self.name
        };
        Status::forbidden(self.kind.group, self.kind.plural, name, why)
    }
}

fn body_of(kind: &Kind, subresource: &str) -> Gvk {
    match kind.subresource(subresource) {
        Some(part) if part.version.is_empty() => Gvk::new(kind.group, kind.version, part.kind),
        Some(part) => Gvk::new(part.group, part.version, part.kind),
        None => Gvk::new(kind.group, kind.version, kind.kind),
    }
}

fn gvk(kind: &Gvk) -> Value {
    json!({"group": kind.group, "version": kind.version, "kind": kind.kind})
}

fn gvr(kind: &Kind) -> Value {
    json!({"group": kind.group, "version": kind.version, "resource": kind.plural})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::testing::creation;

    #[test]
    fn a_request_is_told_with_what_it_is_about() {
        let user = User::new("eve", &["dev"]);
        let mut pod = json!({"metadata": {"name": "web"}});
        let mut review = creation("", "pods", &user, &mut pod);
        review.subresource = "eviction";
        let subject = Subject::of(&review).unwrap();
        let told = subject.request(&subject.kind);
        assert_eq!(
            told["kind"],
            json!({"group": "policy", "version": "v1", "kind": "Eviction"})
        );
        assert_eq!(
            told["resource"],
            json!({"group": "", "version": "v1", "resource": "pods"})
        );
        assert_eq!(
            (&told["name"], &told["subResource"]),
            (&json!("web"), &json!("eviction"))
        );
        assert_eq!(told["userInfo"], json!({"username": "eve", "groups": ["dev"]}));
        assert_eq!(told["operation"], "CREATE");
        assert_eq!(told["options"]["kind"], "CreateOptions");
    }

    #[test]
    fn what_configures_admission_is_not_submitted_to_it() {
        let user = User::default();
        let mut hook = json!({"metadata": {"name": "h"}});
        let review = creation(GROUP, "validatingwebhookconfigurations", &user, &mut hook);
        assert!(Subject::of(&review).is_none());
    }
}
