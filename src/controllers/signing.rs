//! CertificateSigningRequests: the cluster's own signers.
//!
//! A node's first certificate is asked for with the agent token, later ones
//! with the certificate it has; both are approved without a person. Everything
//! else waits for `kubectl certificate approve`.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::Reconciler;
use crate::plan::{Key, Plan, Write};
use crate::view::View;

/// The signer of certificates by which nodes speak to the API server.
pub const NODE_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const SERVING: &str = "kubernetes.io/kubelet-serving";

/// Issues certificates; filled in by whoever holds the CA's key.
pub trait Signer: Send + Sync {
    /// The certificate, in PEM, that a request in PEM asks for.
    ///
    /// # Errors
    /// What is wrong with the request, in words.
    fn sign(&self, signer_name: &str, request_pem: &[u8], seconds: Option<i32>) -> Result<Vec<u8>, String>;

    /// Whether a request for a node's client certificate asks only for what that node may have:
    /// the subject `system:node:NAME` in `system:nodes`. Returns NAME.
    ///
    /// # Errors
    /// What is wrong with the request, in words.
    fn node_name(&self, request_pem: &[u8]) -> Result<String, String>;
}

/// Approves and signs; keyed by request.
pub struct Signing {
    /// Who holds the key.
    pub signer: Arc<dyn Signer>,
}

impl Reconciler for Signing {
    const NAME: &'static str = "csr-signing-controller";

    fn reconcile(&self, key: &Key, view: &View, now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        let Some(request) = view.signing_requests.get("", &key.name) else {
            return plan;
        };
        if ![NODE_CLIENT, CLIENT, SERVING].contains(&request.spec.signer_name.as_str()) {
            return plan;
        }
        if has(&request, "Denied") || has(&request, "Failed") || is_issued(&request) {
            return plan;
        }
        if has(&request, "Approved") {
            self.issue(&request, &mut plan, now);
        } else if self.may_approve(&request) {
            let mut new = (*request).clone();
            let text = "Auto approving kubelet client certificate after SubjectAccessReview.";
            add_condition(&mut new, "Approved", "AutoApproved", text, now);
            let mut write = Write::update(&new);
            if let Write::Update(target, _) = &mut write {
                target.subresource = "approval";
            }
            plan.write(write);
        }
        plan
    }
}

impl Signing {
    /// A joining node (by token) or the node itself (by certificate), asking for a node's certificate.
    fn may_approve(&self, request: &CertificateSigningRequest) -> bool {
        if request.spec.signer_name != NODE_CLIENT {
            return false;
        }
        let Ok(node) = self.signer.node_name(&request.spec.request.0) else {
            return false;
        };
        let joining = request
            .spec
            .groups
            .iter()
            .flatten()
            .any(|group| group.starts_with("system:bootstrappers"));
        joining || request.spec.username.as_deref() == Some(&format!("system:node:{node}"))
    }

    fn issue(&self, request: &CertificateSigningRequest, plan: &mut Plan, now: Timestamp) {
        let spec = &request.spec;
        let mut new = request.clone();
        match self
            .signer
            .sign(&spec.signer_name, &spec.request.0, spec.expiration_seconds)
        {
            Ok(certificate) => new.status.get_or_insert_default().certificate = Some(ByteString(certificate)),
            Err(why) => add_condition(&mut new, "Failed", "SignerValidationFailure", &why, now),
        }
        plan.write(Write::update_status(&new));
    }
}

fn has(request: &CertificateSigningRequest, kind: &str) -> bool {
    let conditions = request
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == kind)
}

fn is_issued(request: &CertificateSigningRequest) -> bool {
    let certificate = request
        .status
        .as_ref()
        .and_then(|status| status.certificate.as_ref());
    certificate.is_some_and(|bytes| !bytes.0.is_empty())
}

fn add_condition(
    request: &mut CertificateSigningRequest,
    kind: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    let conditions = request
        .status
        .get_or_insert_default()
        .conditions
        .get_or_insert_default();
    conditions.push(CertificateSigningRequestCondition {
        type_: kind.to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_update_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    });
}
