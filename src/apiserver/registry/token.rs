//! `serviceaccounts/NAME/token`: a token for a service account, perhaps bound to a pod.

use api::object;
use api::request::{Reply, Request};
use api::schema::Gvk;
use api::status::{FieldError, Status};
use api::value;
use serde_json::{Value, json};

use crate::admission::Operation;
use crate::tokens::{BoundObject, TokenSpec};

use super::target::Target;
use super::world::{core_kind, review_of};
use super::{Core, text};

const GROUP: &str = "authentication.k8s.io";
/// Tokens last between ten minutes and 2^32 seconds.
const SECONDS_MIN: i64 = 600;
const SECONDS_MAX: i64 = 1 << 32;
/// And an hour unless asked otherwise.
const SECONDS_DEFAULT: i64 = 3600;

impl Core {
    /// Issues a token.
    pub(super) async fn token(&self, request: &Request) -> Result<Reply, Status> {
        let target = self.target(request)?;
        let gvk = Gvk::new(GROUP, "v1", "TokenRequest");
        let (mut asked, warnings) = self.part_body(request, &gvk)?;
        if !value::has(&asked, "spec.expirationSeconds") {
            object::set(&mut asked, &["spec", "expirationSeconds"], SECONDS_DEFAULT);
        }
        let mut review = review_of(request, &target.kind, Operation::Create, Some(&mut asked), None);
        self.admit_at_once(&mut review).await?;
        check(&target, &asked)?;
        let account = self.entry(&target).await?.ok_or_else(|| target.not_found())?;
        let account = text::parse(&account)?;
        belongs(&asked, &account)?;
        let spec = self.token_spec(&target, &account, &asked).await?;
        let issued = self.inner.tokens.issue(&spec)?;
        object::set(&mut asked, &["spec", "audiences"], issued.audiences.clone());
        for (key, value) in [
            ("name", target.name.as_str()),
            ("namespace", &target.namespace),
            ("uid", object::uid(&account)),
        ] {
            object::set(&mut asked, &["metadata", key], value);
        }
        let now = object::time_text(self.inner.config.clock.now());
        object::set(&mut asked, &["metadata", "creationTimestamp"], now);
        let ends = object::time_text(issued.expires);
        object::set(
            &mut asked,
            &["status"],
            json!({ "token": issued.token, "expirationTimestamp": ends }),
        );
        Ok(Reply {
            code: 201,
            body: asked.to_string().into(),
            warnings,
        })
    }

    async fn token_spec(&self, target: &Target, account: &Value, asked: &Value) -> Result<TokenSpec, Status> {
        let reference = value::get(asked, "spec.boundObjectRef");
        let (mut bound, mut node) = (None, None);
        if reference.is_object() {
            let object = self.bound(target, reference).await?;
            node = self.node_of(&object).await?;
            bound = Some(BoundObject {
                kind: value::text(reference, "kind").to_owned(),
                name: object::name(&object).to_owned(),
                uid: object::uid(&object).to_owned(),
            });
        }
        let audiences = value::list(asked, "spec.audiences")
            .iter()
            .filter_map(Value::as_str);
        Ok(TokenSpec {
            namespace: target.namespace.clone(),
            name: target.name.clone(),
            uid: object::uid(account).to_owned(),
            audiences: audiences.map(str::to_owned).collect(),
            expiration_seconds: value::int(asked, "spec.expirationSeconds").unwrap_or(SECONDS_DEFAULT),
            bound,
            node,
        })
    }

    /// The object that a token is to be bound to.
    async fn bound(&self, target: &Target, reference: &Value) -> Result<Value, Status> {
        let kind = value::text(reference, "kind");
        let (plural, namespace) = match kind {
            "Pod" => ("pods", target.namespace.clone()),
            "Secret" => ("secrets", target.namespace.clone()),
            "Node" => ("nodes", String::new()),
            other => {
                return Err(Status::bad_request(format!(
                    "cannot bind token to object of type {other}"
                )));
            }
        };
        let name = value::text(reference, "name").to_owned();
        let place = Target::new(core_kind(plural)?, namespace, name)?;
        let entry = self.entry(&place).await?.ok_or_else(|| place.not_found())?;
        let object = text::parse(&entry)?;
        let uid = value::text(reference, "uid");
        if !uid.is_empty() && uid != object::uid(&object) {
            return Err(place.conflict(&format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might \
                 have been deleted and then recreated"
            )));
        }
        let account = value::text(&object, "spec.serviceAccountName");
        if kind == "Pod" && account != target.name {
            return Err(Status::bad_request(format!(
                "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                target.name
            )));
        }
        Ok(object)
    }

    /// The node of a bound pod: name and UID.
    async fn node_of(&self, pod: &Value) -> Result<Option<(String, String)>, Status> {
        let name = value::text(pod, "spec.nodeName");
        if name.is_empty() {
            return Ok(None);
        }
        let place = Target::new(core_kind("nodes")?, String::new(), name.to_owned())?;
        let node = self.entry(&place).await?;
        Ok(node.map(|entry| (name.to_owned(), entry.header.uid.clone())))
    }
}

/// Whether a request that names an account by its uid means this one.
fn belongs(asked: &Value, account: &Value) -> Result<(), Status> {
    let (wanted, uid) = (object::uid(asked), object::uid(account));
    if wanted.is_empty() || wanted == uid {
        return Ok(());
    }
    let why = format!(
        "the UID in the token request ({wanted}) does not match the UID of the service account ({uid})"
    );
    Err(Status::conflict(
        GROUP,
        "TokenRequest",
        object::name(account),
        &why,
    ))
}

fn check(target: &Target, asked: &Value) -> Result<(), Status> {
    let seconds = value::int(asked, "spec.expirationSeconds").unwrap_or(SECONDS_DEFAULT);
    let why = if seconds < SECONDS_MIN {
        "may not specify a duration less than 10 minutes"
    } else if seconds > SECONDS_MAX {
        "may not specify a duration larger than 2^32 seconds"
    } else {
        return Ok(());
    };
    let error = FieldError::invalid("spec.expirationSeconds", seconds, why);
    Err(Status::invalid(GROUP, "TokenRequest", &target.name, &[error]))
}
