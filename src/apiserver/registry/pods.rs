//! Binding a pod to a node.

use api::object;
use api::request::{Reply, Request};
use api::schema::{Gvk, Schemas};
use api::status::{FieldError, Status};
use api::value;
use serde_json::{Value, json};
use store::{Expect, Op, StoreError};

use crate::admission::Operation;

use super::target::Target;
use super::world::{core_kind, review_of};
use super::{Core, body, refuse, remove, text};

/// How often a binding is tried again that lost a race with another writer of the pod.
const TRIES_MAX: usize = 24;

impl Core {
    /// `pods/NAME/binding`, and `bindings` with the pod's name in the body.
    pub(super) async fn bind(&self, request: &Request) -> Result<Reply, Status> {
        self.target(request)?;
        let gvk = Gvk::new("", "v1", "Binding");
        let (mut binding, warnings) = self.part_body(request, &gvk)?;
        let name = if request.name.is_empty() {
            object::name(&binding).to_owned()
        } else {
            request.name.clone()
        };
        if !object::name(&binding).is_empty() && object::name(&binding) != name {
            return Err(Status::bad_request(
                "name in URL does not match name in Binding object",
            ));
        }
        object::set(&mut binding, &["metadata", "name"], name.as_str());
        let target = Target::new(core_kind("pods")?, request.namespace.clone(), name)?;
        let mut review = review_of(request, &target.kind, Operation::Create, Some(&mut binding), None);
        (review.subresource, review.name) = ("binding", &target.name);
        self.admit_at_once(&mut review).await?;
        check_binding(&target, &binding)?;
        for _ in 0..TRIES_MAX {
            if self.attempt_bind(request, &target, &binding).await? {
                return Ok(Reply {
                    code: 201,
                    body: remove::success(None).into(),
                    warnings,
                });
            }
        }
        Err(target.stale())
    }

    async fn attempt_bind(
        &self,
        request: &Request,
        target: &Target,
        binding: &Value,
    ) -> Result<bool, Status> {
        let entry = self.entry(target).await?.ok_or_else(|| target.not_found())?;
        let mut pod = text::parse(&entry)?;
        assign(
            target,
            &mut pod,
            binding,
            &object::time_text(self.inner.config.clock.now()),
        )?;
        if request.options.dry_run {
            return Ok(true);
        }
        let record = self.record(target, &pod)?;
        let put = Op::Put {
            key: entry.key.clone(),
            record,
            expect: Expect::Revision(entry.revision),
        };
        match self.inner.store.commit(vec![put]).await {
            Ok(_) => Ok(true),
            Err(StoreError::Precondition { .. }) => Ok(false),
            Err(error) => Err(refuse::status(error)),
        }
    }

    /// The body of a subresource that has a kind of its own.
    pub(super) fn part_body(&self, request: &Request, gvk: &Gvk) -> Result<(Value, Vec<String>), Status> {
        let schema = Schemas::builtin().for_kind(&gvk.group, &gvk.version, &gvk.kind);
        let schema = schema.ok_or_else(|| Status::internal(format!("no schema for {}", gvk.kind)))?;
        body::object(request, &schema, gvk)
    }
}

fn check_binding(target: &Target, binding: &Value) -> Result<(), Status> {
    let mut errors = Vec::new();
    let kind = value::text(binding, "target.kind");
    if !matches!(kind, "" | "Node") {
        errors.push(FieldError::not_supported("target.kind", kind, &["Node", ""]));
    }
    if value::text(binding, "target.name").is_empty() {
        errors.push(FieldError::required("target.name", ""));
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid("", "Binding", &target.name, &errors))
}

/// Puts a pod on a node. Pure.
fn assign(target: &Target, pod: &mut Value, binding: &Value, now: &str) -> Result<(), Status> {
    let refuse = |why: &str| Status::conflict("", "pods/binding", &target.name, why);
    let (wanted, version) = (object::uid(binding), object::resource_version(binding));
    if !wanted.is_empty() && wanted != object::uid(pod) {
        return Err(refuse(&format!(
            "Precondition failed: UID in precondition: {wanted}, UID in object meta: {}",
            object::uid(pod)
        )));
    }
    if !version.is_empty() && version != object::resource_version(pod) {
        return Err(refuse(&format!(
            "Precondition failed: ResourceVersion in precondition: {version}, ResourceVersion in object meta: {}",
            object::resource_version(pod)
        )));
    }
    let name = &target.name;
    if object::is_deleting(pod) {
        return Err(refuse(&format!(
            "pod {name} is being deleted, cannot be assigned to a host"
        )));
    }
    let host = value::text(pod, "spec.nodeName");
    if !host.is_empty() {
        return Err(refuse(&format!(
            "pod {name} is already assigned to node {host:?}"
        )));
    }
    if !value::list(pod, "spec.schedulingGates").is_empty() {
        return Err(refuse(&format!("pod {name} has non-empty .spec.schedulingGates")));
    }
    object::set(pod, &["spec", "nodeName"], value::text(binding, "target.name"));
    for key in ["annotations", "labels"] {
        for (name, text) in object::get_map(binding, &["metadata", key]) {
            object::set(pod, &["metadata", key, name], text.clone());
        }
    }
    scheduled(pod, now);
    Ok(())
}

/// Sets the condition that says that the pod has a node.
fn scheduled(pod: &mut Value, now: &str) {
    let condition = json!({
        "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now,
    });
    let mut conditions = value::list(pod, "status.conditions").to_vec();
    match conditions
        .iter_mut()
        .find(|c| value::text(c, "type") == "PodScheduled")
    {
        Some(same) => *same = condition,
        None => conditions.push(condition),
    }
    object::set(pod, &["status", "conditions"], conditions);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> Target {
        Target::new(core_kind("pods").unwrap(), "shop".into(), "web".into()).unwrap()
    }

    #[test]
    fn a_pod_is_bound_once() {
        let binding = json!({"metadata": {"name": "web", "annotations": {"a": "b"}}, "target": {"kind": "Node", "name": "n1"}});
        check_binding(&target(), &binding).unwrap();
        let mut pod = json!({"metadata": {"name": "web"}, "spec": {}});
        assign(&target(), &mut pod, &binding, "now").unwrap();
        assert_eq!(pod["spec"]["nodeName"], "n1");
        assert_eq!(pod["metadata"]["annotations"]["a"], "b");
        assert_eq!(pod["status"]["conditions"][0]["type"], "PodScheduled");
        let status = assign(&target(), &mut pod, &binding, "now").unwrap_err();
        assert_eq!(
            status.message,
            "Operation cannot be fulfilled on pods/binding \"web\": pod web is already assigned to node \"n1\""
        );
    }

    #[test]
    fn a_binding_names_a_node() {
        let status = check_binding(&target(), &json!({"target": {"kind": "Moon"}})).unwrap_err();
        assert_eq!(status.code, 422);
        assert_eq!(status.details.unwrap().causes.len(), 2);
    }
}
