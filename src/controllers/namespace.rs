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
    let mut round = Round::default();
    let is_pods = |resource: &ResourceRef| resource.group.is_empty() && resource.plural == "pods";
    let (pods, others) = contents(&s.client).await?.into_iter().partition(is_pods);
    round.clear_all(&s.client, name, pods).await;
    // What pods live by (NetworkPolicies, their accounts) outlives them.
    if round.is_done() {
        round.clear_all(&s.client, name, others).await;
    }
    let mut new = namespace.clone();
    if set_conditions(&mut new, &round, s.clock.now()) {
        new = s.client.update_status(&new).await?;
    }
    if !round.is_done() {
        return round.failed.into_iter().next().map_or(Ok(false), Err);
    }
    if let Some(finalizers) = new.spec.as_mut().and_then(|spec| spec.finalizers.as_mut()) {
        finalizers.retain(|finalizer| finalizer != FINALIZER);
    }
    s.client.update_subresource(&new, "finalize").await?;
    Ok(true)
}

/// What one round has found.
#[derive(Default)]
struct Round {
    left: Vec<Left>,
    /// Why some of it could not be deleted.
    failed: Vec<Status>,
}

impl Round {
    fn is_done(&self) -> bool {
        self.left.is_empty() && self.failed.is_empty()
    }

    /// Deletes all objects of those kinds, and notes what is left of them.
    async fn clear_all(&mut self, client: &Client, namespace: &str, resources: Vec<ResourceRef>) {
        for resource in resources {
            match clear(client, namespace, resource).await {
                Ok(left) => self.left.extend(left),
                Err(status) => self.failed.push(status),
            }
        }
    }
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
fn verdict(round: &Round) -> Vec<(&'static str, bool, &'static str, String)> {
    let left = &round.left;
    let mut finalizers: Vec<&str> = left
        .iter()
        .flat_map(|l| l.finalizers.iter().map(String::as_str))
        .collect();
    finalizers.sort_unstable();
    let remaining = left
        .iter()
        .map(|l| {
            // With the dot even where there is no group: clients know the text like this.
            let ResourceRef { group, plural, .. } = &l.resource;
            format!("{plural}.{group} has {} resource instances", l.count)
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
    let mut failed: Vec<&str> = round
        .failed
        .iter()
        .map(|status| status.message.as_str())
        .collect();
    failed.sort_unstable();
    let deleted = if failed.is_empty() {
        let text = "All content successfully deleted, may be waiting on finalization";
        ("ContentDeleted", text.to_owned())
    } else {
        let (count, all) = (failed.len(), failed.join(", "));
        let text = format!("Failed to delete all resource types, {count} remaining: {all}");
        ("ContentDeletionFailed", text)
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
            !round.failed.is_empty(),
            deleted.0,
            deleted.1,
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
fn set_conditions(namespace: &mut Namespace, round: &Round, now: Timestamp) -> bool {
    let conditions = namespace
        .status
        .get_or_insert_default()
        .conditions
        .get_or_insert_default();
    let before = conditions.clone();
    for (kind, holds, reason, message) in verdict(round) {
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
        let left = vec![Left {
            resource: ResourceRef::new("", "v1", "configmaps"),
            count: 2,
            finalizers: vec!["example.com/a".into(), "example.com/a".into()],
        }];
        let failed = vec![Status::unavailable("not now"), Status::unavailable("away")];
        let verdict = verdict(&Round { left, failed });
        let text = |kind: &str| verdict.iter().find(|v| v.0 == kind).map(|v| v.3.clone()).unwrap();
        assert_eq!(
            text("NamespaceContentRemaining"),
            "Some resources are remaining: configmaps. has 2 resource instances"
        );
        assert_eq!(
            text("NamespaceFinalizersRemaining"),
            "Some content in the namespace has finalizers remaining: example.com/a in 2 resource instances"
        );
        assert_eq!(
            text("NamespaceDeletionContentFailure"),
            "Failed to delete all resource types, 2 remaining: away, not now"
        );
    }
}
