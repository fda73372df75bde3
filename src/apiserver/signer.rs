//! Signs certificate signing requests: those that were approved, and those of
//! nodes for their own client certificate, which the server approves itself.
//!
//! This is a controller in all but name; it lives here because the keys do.

use std::sync::Arc;

use api::certificate_request::CertificateRequest;
use api::request::{Request, ResourceRef, User, Verb};
use api::status::Status;
use base::Clock;
use client::ApiRef;
use client::link::INSTANCE;
use serde_json::{Value, json};
use store::{Change, Store, StoreError};

use crate::authz::{Attributes, Authorizer};
use crate::mirror::anew;
use crate::pki::{CsrSpec, Pki, SIGNER_CLIENT, SIGNER_KUBELET_CLIENT, SIGNER_KUBELET_SERVING, SIGNER_LEGACY};
use crate::stored;

const GROUP: &str = "certificates.k8s.io";
const PLURAL: &str = "certificatesigningrequests";

/// What is to be done about a request.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Nothing, or nothing yet.
    Wait,
    /// Approve it: a node asks for its own client certificate and may have one.
    Approve,
    /// Sign it.
    Sign,
}

fn condition(csr: &Value, kind: &str) -> bool {
    let conditions = csr["status"]["conditions"].as_array().into_iter().flatten();
    conditions
        .into_iter()
        .any(|c| c["type"] == kind && c["status"] != "False")
}

async fn step(csr: &Value, authorizer: &dyn Authorizer) -> Step {
    let done = csr["status"]["certificate"]
        .as_str()
        .is_some_and(|text| !text.is_empty());
    let signer = csr["spec"]["signerName"].as_str().unwrap_or_default();
    let ours = [
        SIGNER_CLIENT,
        SIGNER_KUBELET_CLIENT,
        SIGNER_KUBELET_SERVING,
        SIGNER_LEGACY,
    ];
    if done || condition(csr, "Denied") || condition(csr, "Failed") || !ours.contains(&signer) {
        return Step::Wait;
    }
    if condition(csr, "Approved") {
        return Step::Sign;
    }
    if signer == SIGNER_KUBELET_CLIENT && may_have(csr, authorizer).await {
        Step::Approve
    } else {
        Step::Wait
    }
}

/// Whether the requester may have a node's client certificate: anyone's with a join token,
/// only its own as a node.
async fn may_have(csr: &Value, authorizer: &dyn Authorizer) -> bool {
    let spec = &csr["spec"];
    let texts = |value: &Value| -> Vec<String> {
        value
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|v| v.as_str().map(str::to_owned))
            .collect()
    };
    let name = spec["username"].as_str().unwrap_or_default().to_owned();
    let own = subject_is(csr, &name);
    let user = User {
        name,
        groups: texts(&spec["groups"]),
        ..User::default()
    };
    let asked = |part: &str| Attributes {
        user: user.clone(),
        verb: "create".to_owned(),
        resource_request: true,
        group: GROUP.to_owned(),
        version: "v1".to_owned(),
        resource: PLURAL.to_owned(),
        subresource: part.to_owned(),
        ..Attributes::default()
    };
    (own && authorizer.settle(&asked("selfnodeclient")).await.allowed)
        || authorizer.settle(&asked("nodeclient")).await.allowed
}

fn request_pem(csr: &Value) -> Option<String> {
    use base64::Engine;
    let text = csr["spec"]["request"].as_str()?;
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
    String::from_utf8(bytes).ok()
}

fn subject_is(csr: &Value, name: &str) -> bool {
    common_name(csr).is_some_and(|subject| subject == name)
}

/// The user that the certificate is to stand for.
fn common_name(csr: &Value) -> Option<String> {
    let name = CertificateRequest::of(csr).ok()?.common_name;
    (!name.is_empty()).then_some(name)
}

/// Whether a request for a node's certificate comes from another machine than that node. A node that
/// asks with its own certificate is itself.
fn is_another(csr: &Value, user: &str, node: &Value) -> bool {
    let instance = |object: &Value| {
        object["metadata"]["annotations"][INSTANCE]
            .as_str()
            .map(str::to_owned)
    };
    let known = instance(node);
    csr["spec"]["username"] != user && known.is_some() && known != instance(csr)
}

/// Follows the requests in the store and deals with each.
#[derive(Clone)]
pub(crate) struct Signer {
    pub api: ApiRef,
    pub store: Store,
    pub pki: Arc<Pki>,
    pub authorizer: Arc<dyn Authorizer>,
    pub clock: Arc<dyn Clock>,
    pub user: User,
}

impl Signer {
    /// Runs until the store is closed.
    pub async fn run(self) {
        while anew("certificate requests", self.follow().await).await {}
    }

    async fn follow(&self) -> Result<(), StoreError> {
        let prefix = stored::prefix(GROUP, PLURAL, "");
        let (revision, entries) = self.store.peek_prefix(&prefix);
        for entry in entries {
            self.deal_with(&entry.text).await;
        }
        let mut watch = self.store.watch(&prefix, revision)?;
        while let Some(event) = watch.next().await {
            let event = event?;
            if event.kind == Change::Put {
                self.deal_with(&event.entry.text).await;
            }
        }
        Ok(())
    }

    /// One step; the write it makes comes back as the next event.
    async fn deal_with(&self, text: &[u8]) {
        let csr: Value = serde_json::from_slice(text).unwrap_or_default();
        let name = csr["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let done = match step(&csr, self.authorizer.as_ref()).await {
            Step::Wait => return,
            Step::Approve => match self.taken(&csr) {
                None => self.approve(csr).await,
                Some(name) => self.deny(csr, &name).await,
            },
            Step::Sign => self.sign(csr).await,
        };
        match done {
            // Somebody else wrote it meanwhile; their write is the next event.
            Err(status) if status.is_conflict() || status.is_not_found() => {}
            Err(error) => tracing::warn!(name, %error, "certificate request could not be dealt with"),
            Ok(()) => {}
        }
    }

    async fn approve(&self, mut csr: Value) -> Result<(), Status> {
        let text = "Auto approving kubelet client certificate after SubjectAccessReview.";
        self.add_condition(&mut csr, "Approved", "AutoApproved", text);
        self.write(csr, "approval").await
    }

    /// The node's name, if another machine has it already.
    fn taken(&self, csr: &Value) -> Option<String> {
        let user = common_name(csr)?;
        let name = user.strip_prefix("system:node:")?;
        let node = self.store.peek(&stored::key("", "nodes", "", name))?;
        let node: Value = serde_json::from_slice(&node.text).ok()?;
        is_another(csr, &user, &node).then(|| name.to_owned())
    }

    async fn deny(&self, mut csr: Value, name: &str) -> Result<(), Status> {
        let text = format!(
            "node {name:?} is another machine: choose another name with --node-name or, if that machine is \
             gone for good, \"kubectl delete node {name}\" and try again"
        );
        self.add_condition(&mut csr, "Denied", "NodeNameTaken", &text);
        self.write(csr, "approval").await
    }

    async fn sign(&self, mut csr: Value) -> Result<(), Status> {
        let usages = csr["spec"]["usages"].as_array().into_iter().flatten();
        let usages: Vec<String> = usages.filter_map(|u| u.as_str().map(str::to_owned)).collect();
        let request = request_pem(&csr).unwrap_or_default();
        let signed = self.pki.sign(
            &CsrSpec {
                request_pem: &request,
                signer: csr["spec"]["signerName"].as_str().unwrap_or_default(),
                usages: &usages,
                expiration_seconds: csr["spec"]["expirationSeconds"].as_i64(),
            },
            self.clock.now(),
        );
        match signed {
            Ok(pem) => {
                use base64::Engine;
                let text = base64::engine::general_purpose::STANDARD.encode(pem);
                csr["status"]["certificate"] = text.into();
            }
            Err(refusal) => {
                self.add_condition(&mut csr, "Failed", "SignerValidationFailure", &refusal.0);
            }
        }
        self.write(csr, "status").await
    }

    fn add_condition(&self, csr: &mut Value, kind: &str, reason: &str, message: &str) {
        let now = jiff::Timestamp::from_second(self.clock.now().as_second())
            .unwrap_or_default()
            .to_string();
        let new = json!({
            "type": kind, "status": "True", "reason": reason, "message": message,
            "lastUpdateTime": now, "lastTransitionTime": now,
        });
        match csr["status"]["conditions"].as_array_mut() {
            Some(list) => list.push(new),
            None => csr["status"]["conditions"] = json!([new]),
        }
    }

    async fn write(&self, csr: Value, subresource: &str) -> Result<(), Status> {
        let name = csr["metadata"]["name"].as_str().unwrap_or_default();
        let place = ResourceRef::new(GROUP, "v1", PLURAL);
        let mut request = Request::new(self.user.clone(), Verb::Update, place, "", name);
        request.subresource = subresource.to_owned();
        request.options.field_manager = "coracle".to_owned();
        request.body = csr.to_string().into();
        self.api.call(request).await.map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rbac::Rbac;

    fn csr(user: &str, groups: &[&str], conditions: Value) -> Value {
        json!({"spec": {"signerName": SIGNER_KUBELET_CLIENT, "username": user, "groups": groups},
            "status": {"conditions": conditions}})
    }

    #[tokio::test]
    async fn joiners_are_approved_and_the_approved_are_signed() {
        let rbac = Rbac::with_defaults();
        let joiner = csr("system:bootstrap:agent", &["system:bootstrappers"], json!([]));
        assert_eq!(step(&joiner, &rbac).await, Step::Approve);
        assert_eq!(step(&csr("eve", &[], json!([])), &rbac).await, Step::Wait);
        let approved = json!([{"type": "Approved", "status": "True"}]);
        assert_eq!(step(&csr("eve", &[], approved.clone()), &rbac).await, Step::Sign);
        let denied = json!([{"type": "Approved"}, {"type": "Denied"}]);
        assert_eq!(step(&csr("eve", &[], denied), &rbac).await, Step::Wait);
        let mut done = csr("eve", &[], approved);
        done["status"]["certificate"] = "x".into();
        assert_eq!(step(&done, &rbac).await, Step::Wait);
    }

    #[test]
    fn a_name_belongs_to_the_machine_that_has_it() {
        let of = |instance: Option<&str>| json!({"metadata": {"annotations": {INSTANCE: instance}}, "spec": {"username": "joiner"}});
        let user = "system:node:edge";
        assert!(is_another(&of(Some("b")), user, &of(Some("a"))));
        assert!(is_another(&of(None), user, &of(Some("a"))));
        assert!(!is_another(&of(Some("a")), user, &of(Some("a"))));
        assert!(
            !is_another(&of(Some("a")), user, &of(None)),
            "a node of an earlier version"
        );
        let mut renewal = of(None);
        renewal["spec"]["username"] = user.into();
        assert!(!is_another(&renewal, user, &of(Some("a"))));
    }
}
