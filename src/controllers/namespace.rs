//! Empties a namespace that is being deleted, then lets it go.
//!
//! Not a [`Reconciler`](crate::Reconciler): what is left in a namespace can
//! only be found by asking, kind by kind. What the answers mean is decided by
//! `verdict`, which does nothing else.

use std::time::Duration;

use api::request::{Request, ResourceRef, Verb};
use api::status::Status;
use base::OnError;
use client::{Change, Client, WorkQueue};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;
use tracing::{debug, warn};

use crate::custom;
use crate::harness::Surroundings;
use crate::view::is_going;

/// Wait between two looks at a namespace whose content takes its time to end.
const RETRY: Duration = Duration::from_millis(500);
const FINALIZER: &str = "kubernetes";

/// Starts the controller.
pub fn start(surroundings: &Surroundings) {
    let queue: WorkQueue<String> = WorkQueue::new();
    let mut changes = surroundings.view.namespaces.changes();
    let feed = queue.clone();
    surroundings
        .tasks
        .spawn("namespaces being deleted", OnError::Shutdown, async move {
            while let Some(change) = changes.recv().await {
                if let Change::Applied(namespace, _) = change
                    && is_going(namespace.as_ref())
                {
                    feed.add(namespace.metadata.name.clone().unwrap_or_default());
                }
            }
        });
    for _ in 0..2 {
        let (queue, s) = (queue.clone(), surroundings.clone());
        surroundings.tasks.spawn("namespace-controller", OnError::Shutdown, async move {
            while let Some(name) = queue.get().await {
                match empty_out(&s, &name).await {
                    Ok(true) => queue.forget(&name),
                    Ok(false) => queue.add_after(name.clone(), RETRY),
                    Err(status) => {
                        let wait = queue.add_rate_limited(name.clone());
                        if status.is_conflict() {
                            debug!(namespace = name, "changed meanwhile, trying again");
                        } else {
                            warn!(namespace = name, error = %status, ?wait, "could not empty a namespace");
                        }
                    }
                }
                queue.done(&name);
            }
        });
    }
}

/// What is left of one kind.
struct Left {
    resource: ResourceRef,
    count: usize,
    finalizers: Vec<String>,
}

/// One round; `true` when the namespace is gone.
async fn empty_out(s: &Surroundings, name: &str) -> Result<bool, Status> {
    let Some(namespace) = s.client.find::<Namespace>("", name).await? else {
        return Ok(true);
    };
    if !is_going(&namespace) {
        return Ok(true);
    }
    let mut left = Vec::new();
    for resource in contents(&s.client).await? {
        if let Some(some) = clear(&s.client, name, resource).await? {
            left.push(some);
        }
    }
    let mut new = namespace.clone();
    if set_conditions(&mut new, &left, s.clock.now()) {
        new = s.client.update_status(&new).await?;
    }
    if !left.is_empty() {
        return Ok(false);
    }
    if let Some(finalizers) = new.spec.as_mut().and_then(|spec| spec.finalizers.as_mut()) {
        finalizers.retain(|finalizer| finalizer != FINALIZER);
    }
    s.client.update_subresource(&new, "finalize").await?;
    Ok(true)
}

/// Everything that may be in a namespace, each sort of object once.
async fn contents(client: &Client) -> Result<Vec<ResourceRef>, Status> {
    let mut out: Vec<ResourceRef> = Vec::new();
    for kind in api::kinds::all() {
        let can = |verb: &str| kind.verbs.contains(&verb);
        if kind.namespaced && kind.storage.is_none() && can("deletecollection") && can("list") {
            out.push(ResourceRef::new(kind.group, kind.version, kind.plural));
        }
    }
    let custom = custom::all(client).await?;
    out.extend(
        custom
            .into_iter()
            .filter(|kind| kind.namespaced)
            .map(|kind| kind.resource),
    );
    Ok(out)
}

/// Deletes all objects of a kind and says what is left of them.
async fn clear(client: &Client, namespace: &str, resource: ResourceRef) -> Result<Option<Left>, Status> {
    let ask = |verb| client.request_for(verb, resource.clone(), namespace, "");
    if items(client, ask(Verb::List)).await?.is_empty() {
        return Ok(None);
    }
    let mut delete = ask(Verb::DeleteCollection);
    delete.options.propagation_policy = "Background".to_owned();
    client.call(delete).await?;
    let found = items(client, ask(Verb::List)).await?;
    if found.is_empty() {
        return Ok(None);
    }
    let finalizers = found
        .iter()
        .filter_map(|item| item["metadata"]["finalizers"].as_array())
        .flatten()
        .filter_map(|finalizer| finalizer.as_str().map(str::to_owned))
        .collect();
    Ok(Some(Left {
        resource,
        count: found.len(),
        finalizers,
    }))
}

async fn items(client: &Client, request: Request) -> Result<Vec<Value>, Status> {
    let reply = client.call(request).await?;
    let mut list: Value = serde_json::from_slice(&reply.body).map_err(Status::internal)?;
    Ok(match list["items"].take() {
        Value::Array(items) => items,
        _ => Vec::new(),
    })
}

/// The conditions that a namespace shows while it ends: type, status, reason, message.
fn verdict(left: &[Left]) -> Vec<(&'static str, bool, &'static str, String)> {
    let mut finalizers: Vec<&str> = left
        .iter()
        .flat_map(|l| l.finalizers.iter().map(String::as_str))
        .collect();
    finalizers.sort_unstable();
    let remaining = left
        .iter()
        .map(|l| {
            let name = api::status::group_resource(&l.resource.group, &l.resource.plural);
            format!("{name} has {} resource instances", l.count)
        })
        .collect::<Vec<_>>()
        .join(", ");
    let mut counted: Vec<String> = Vec::new();
    for group in finalizers.chunk_by(|a, b| a == b) {
        counted.push(format!("{} in {} resource instances", group[0], group.len()));
    }
    let content = if left.is_empty() {
        ("ContentRemoved", "All content successfully removed".to_owned())
    } else {
        (
            "SomeResourcesRemain",
            format!("Some resources are remaining: {remaining}"),
        )
    };
    let held = if counted.is_empty() {
        (
            "ContentHasNoFinalizers",
            "All content-preserving finalizers finished".to_owned(),
        )
    } else {
        let text = format!(
            "Some content in the namespace has finalizers remaining: {}",
            counted.join(", ")
        );
        ("SomeFinalizersRemain", text)
    };
    vec![
        (
            "NamespaceDeletionDiscoveryFailure",
            false,
            "ResourcesDiscovered",
            "All resources successfully discovered".to_owned(),
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            false,
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed".to_owned(),
        ),
        (
            "NamespaceDeletionContentFailure",
            false,
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization".to_owned(),
        ),
        (
            "NamespaceContentRemaining",
            !left.is_empty(),
            content.0,
            content.1,
        ),
        (
            "NamespaceFinalizersRemaining",
            !counted.is_empty(),
            held.0,
            held.1,
        ),
    ]
}

/// Whether anything changed.
fn set_conditions(namespace: &mut Namespace, left: &[Left], now: Timestamp) -> bool {
    let conditions = namespace
        .status
        .get_or_insert_default()
        .conditions
        .get_or_insert_default();
    let before = conditions.clone();
    for (kind, holds, reason, message) in verdict(left) {
        let status = if holds { "True" } else { "False" };
        let old = conditions.iter().find(|c| c.type_ == kind);
        let since = old
            .filter(|c| c.status == status)
            .and_then(|c| c.last_transition_time.clone());
        let new = NamespaceCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_transition_time: Some(since.unwrap_or(Time(now))),
        };
        match conditions.iter_mut().find(|c| c.type_ == kind) {
            Some(old) => *old = new,
            None => conditions.push(new),
        }
    }
    *conditions != before
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_named_and_counted() {
        let left = [Left {
            resource: ResourceRef::new("", "v1", "configmaps"),
            count: 2,
            finalizers: vec!["example.com/a".into(), "example.com/a".into()],
        }];
        let verdict = verdict(&left);
        let text = |kind: &str| verdict.iter().find(|v| v.0 == kind).map(|v| v.3.clone()).unwrap();
        assert_eq!(
            text("NamespaceContentRemaining"),
            "Some resources are remaining: configmaps has 2 resource instances"
        );
        assert_eq!(
            text("NamespaceFinalizersRemaining"),
            "Some content in the namespace has finalizers remaining: example.com/a in 2 resource instances"
        );
    }
}
