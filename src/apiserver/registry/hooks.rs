//! The few kinds that need more of the registry than their own descriptor can
//! say: addresses for Services, the requester of a CertificateSigningRequest,
//! and nobody granting more than they hold.

use api::object;
use api::request::Request;
use api::status::Status;
use api::{typecheck, value};
use serde_json::Value;
use store::{Entry, Expect, Op};

use crate::authz::PolicyRule;
use crate::rbac::grant;

use super::target::{Part, Target};
use super::{Core, meta, services};

const RBAC: &str = "rbac.authorization.k8s.io";
const ADMISSION: &str = "admissionregistration.k8s.io";
const POLICIES: &str = "validatingadmissionpolicies";

/// Whether a new object is given something that another one may be given at the same time.
pub(super) fn allocates(target: &Target) -> bool {
    (target.kind.group, target.kind.plural) == ("", "services")
}

/// Completes a new object; the operations go into the same commit as the object.
pub(super) async fn before_create(
    core: &Core,
    target: &Target,
    request: &Request,
    new: &mut Value,
) -> Result<Vec<Op>, Status> {
    match (target.kind.group, target.kind.plural) {
        ("", "services") => services::assign(core, new, None),
        ("certificates.k8s.io", "certificatesigningrequests") => {
            meta::sign_with_user(new, &request.user);
            Ok(Vec::new())
        }
        (RBAC, _) => grants(core, target, request, new).await.map(|()| Vec::new()),
        (ADMISSION, POLICIES) => {
            judged(core, new);
            Ok(Vec::new())
        }
        _ => Ok(Vec::new()),
    }
}

/// Says in a policy's status what its expressions look like beside the kinds that it matches. Kubernetes has a
/// controller for it; here it is part of the write, so that nobody waits for it.
fn judged(core: &Core, policy: &mut Value) {
    let made = typecheck::status(policy, &core.inner.kinds.all());
    for key in ["observedGeneration", "typeChecking"] {
        object::set(policy, &["status", key], value::get(&made, key).clone());
    }
}

/// Completes a changed object; the operations go into the same commit as the object.
pub(super) async fn before_update(
    core: &Core,
    target: &Target,
    part: Part,
    request: &Request,
    new: &mut Value,
    live: &Value,
) -> Result<Vec<Op>, Status> {
    if !part.is_whole() {
        return Ok(Vec::new());
    }
    match (target.kind.group, target.kind.plural) {
        ("", "services") => services::assign(core, new, Some(live)),
        (ADMISSION, POLICIES) => {
            if object::generation(new) != object::generation(live) {
                judged(core, new);
            }
            Ok(Vec::new())
        }
        (RBAC, _) => {
            let grants_more = ["rules", "aggregationRule", "subjects", "roleRef"]
                .iter()
                .any(|key| value::get(new, key) != value::get(live, key));
            if grants_more {
                grants(core, target, request, new).await.map(|()| Vec::new())
            } else {
                Ok(Vec::new())
            }
        }
        _ => Ok(Vec::new()),
    }
}

/// The operations that remove an object and what belongs to it.
pub(super) fn removal(entry: &Entry, value: &Value) -> Vec<Op> {
    let expect = Expect::Revision(entry.revision);
    let mut ops = vec![Op::Delete {
        key: entry.key.clone(),
        expect,
    }];
    if object::kind(value) == "Service" && object::api_version(value) == "v1" {
        ops.extend(services::release(value));
    }
    ops
}

/// Nobody grants what they do not hold (or may not `escalate` or `bind`).
async fn grants(core: &Core, target: &Target, request: &Request, new: &Value) -> Result<(), Status> {
    let authorizer = &*core.inner.authorizer;
    let (user, plural, namespace) = (&request.user, target.kind.plural, &target.namespace);
    let name = object::name(new);
    let checked = match plural {
        "roles" | "clusterroles" => {
            let rules: Vec<PolicyRule> =
                serde_json::from_value(value::get(new, "rules").clone()).unwrap_or_default();
            match grant::may_write_role(authorizer, user, plural, namespace, name, &rules).await {
                Ok(()) => aggregates(core, target, request, new).await,
                refused => refused,
            }
        }
        _ => {
            let role_namespace = match value::text(new, "roleRef.kind") {
                "Role" => namespace.as_str(),
                _ => "",
            };
            let role = value::text(new, "roleRef.name");
            grant::may_bind_role(authorizer, user, namespace, role_namespace, role).await
        }
    };
    checked.map_err(|why| Status::forbidden(RBAC, plural, name, &why))
}

/// A role that gathers others' rules may gather any: that takes holding everything.
async fn aggregates(core: &Core, target: &Target, request: &Request, new: &Value) -> Result<(), String> {
    if !value::has(new, "aggregationRule") {
        return Ok(());
    }
    let all = || vec!["*".to_owned()];
    let everything = [
        PolicyRule {
            verbs: all(),
            api_groups: all(),
            resources: all(),
            ..PolicyRule::default()
        },
        PolicyRule {
            verbs: all(),
            non_resource_urls: all(),
            ..PolicyRule::default()
        },
    ];
    let name = object::name(new);
    grant::may_write_role(
        &*core.inner.authorizer,
        &request.user,
        target.kind.plural,
        "",
        name,
        &everything,
    )
    .await
    .map_err(|_| "must have cluster-admin privileges to use an aggregationRule".to_owned())
}
