//! The garbage collector: what belonged to an object that is gone goes too.
//!
//! It follows every kind, but keeps only names, owners and finalizers, in a
//! `graph::Graph` that decides; the tasks here only feed it and
//! carry out what it says.

mod feed;
mod graph;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api::object;
use api::request::{PatchType, ResourceRef, Verb};
use api::status::Status;
use api::value;
use base::OnError;
use client::{Client, Propagation, WorkQueue};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::custom;
use crate::harness::{Surroundings, perform};
use crate::plan::{Key, Target, Write};
use graph::{Action, Member, Shared, locked};

/// An owner that was not seen may be in a watch that lags; it is asked for live after this.
const SETTLE: Duration = Duration::from_millis(200);

/// Starts the collector.
pub fn start(surroundings: &Surroundings) {
    let graph: Shared = Arc::default();
    let queue: WorkQueue<String> = surroundings.queues.queue("garbage_collector_attempt_to_delete");
    for kind in api::kinds::all() {
        let can = |verb: &str| kind.verbs.contains(&verb);
        if can("list") && can("watch") && can("delete") && kind.storage.is_none() && kind.plural != "events" {
            let resource = ResourceRef::new(kind.group, kind.version, kind.plural);
            let run = feed::follow(
                surroundings.client.clone(),
                resource,
                kind.kind,
                graph.clone(),
                queue.clone(),
            );
            surroundings.tasks.spawn(
                format!("garbage collector watching {}", kind.plural),
                OnError::Log,
                run,
            );
        }
    }
    let follow = follow_custom(surroundings.clone(), graph.clone(), queue.clone());
    surroundings
        .tasks
        .spawn("garbage collector watching definitions", OnError::Log, follow);
    let (client, name) = (surroundings.client.clone(), "garbage-collector");
    surroundings.tasks.spawn(name, OnError::Shutdown, async move {
        while let Some(uid) = queue.get().await {
            if let Err(status) = attend(&client, &graph, &uid).await {
                let wait = queue.add_rate_limited(uid.clone());
                if status.is_conflict() {
                    debug!(uid, "changed meanwhile, trying again");
                } else {
                    warn!(uid, error = %status, ?wait, "could not collect");
                }
            } else {
                queue.forget(&uid);
            }
            queue.done(&uid);
        }
    });
}

/// Follows every custom kind for as long as there is one.
async fn follow_custom(s: Surroundings, graph: Shared, queue: WorkQueue<String>) {
    let mut followed: HashMap<ResourceRef, CancellationToken> = HashMap::new();
    custom::follow(s.client.clone(), |kinds| {
        followed.retain(|resource, stop| {
            let stays = kinds.iter().any(|kind| kind.resource == *resource);
            if !stays {
                stop.cancel();
            }
            stays
        });
        for kind in kinds {
            if followed.contains_key(&kind.resource) {
                continue;
            }
            let stop = CancellationToken::new();
            followed.insert(kind.resource.clone(), stop.clone());
            let name = format!("garbage collector watching {}", kind.resource.plural);
            let run = feed::follow(
                s.client.clone(),
                kind.resource,
                api::intern::text(&kind.kind),
                graph.clone(),
                queue.clone(),
            );
            s.tasks.spawn(name, OnError::Log, async move {
                tokio::select! {
                    () = run => {}
                    () = stop.cancelled() => {}
                }
            });
        }
        std::future::ready(())
    })
    .await;
}

/// Does what the graph wants done about one object.
async fn attend(client: &Client, graph: &Shared, uid: &str) -> Result<(), Status> {
    let unknown = locked(graph).unknown_owners(uid);
    if !unknown.is_empty() {
        tokio::time::sleep(SETTLE).await;
    }
    for owner in unknown {
        let gone = is_gone(client, &owner).await?;
        if gone {
            locked(graph).confirm_gone(&owner.uid);
        }
    }
    let actions = locked(graph).decide(uid);
    for action in actions {
        act(client, action).await?;
    }
    Ok(())
}

/// Whether an owner that the graph has not seen is not there, or is another object by now.
async fn is_gone(client: &Client, owner: &graph::Owner) -> Result<bool, Status> {
    let Some((resource, namespaced)) = path_of(client, owner).await? else {
        // Of a kind that is not served: nothing can be known, so nothing is deleted.
        return Ok(false);
    };
    let namespace = if namespaced { owner.namespace.as_str() } else { "" };
    let request = client.request_for(Verb::Get, resource, namespace, &owner.name);
    match client.call(request).await {
        Ok(reply) => {
            let found: Value = serde_json::from_slice(&reply.body.whole()).map_err(Status::internal)?;
            Ok(found["metadata"]["uid"] != owner.uid.as_str())
        }
        // A path that is not served, as that of a custom kind at start, says nothing about the object.
        Err(status) if status.is_not_found() && !status.is_about(&owner.name) => Err(status),
        Err(status) if status.is_not_found() => Ok(true),
        Err(status) => Err(status),
    }
}

/// Path of an owner's kind, in a version that is served, and whether it lives in namespaces.
async fn path_of(client: &Client, owner: &graph::Owner) -> Result<Option<(ResourceRef, bool)>, Status> {
    let (group, version) = object::split_api_version(&owner.api_version);
    if let Some(known) = api::kinds::find_kind(group, version, &owner.kind) {
        let resource = ResourceRef::new(group, version, known.plural);
        return Ok(Some((resource, known.namespaced)));
    }
    let custom = custom::all(client).await?;
    let found = custom
        .into_iter()
        .find(|c| c.resource.group == group && c.kind == owner.kind);
    Ok(found.map(|c| (c.resource, c.namespaced)))
}

fn target(member: &Member) -> Target {
    Target {
        resource: member.resource.clone(),
        key: Key::new(&member.namespace, &member.name),
        subresource: "",
    }
}

async fn act(client: &Client, action: Action) -> Result<(), Status> {
    let result = match action {
        Action::Delete { member, propagation } => perform(client, &delete(&member, propagation)).await,
        Action::RemoveOwners { member, uids } => remove_owners(client, &member, &uids).await,
        Action::RemoveFinalizer { member, finalizer } => {
            let left: Vec<&String> = member.finalizers.iter().filter(|f| **f != finalizer).collect();
            let patch = json!({"metadata": {
                "uid": member.uid, "resourceVersion": member.resource_version, "finalizers": left,
            }});
            perform(client, &Write::Patch(target(&member), PatchType::Merge, patch)).await
        }
    };
    match result {
        Err(status) if status.is_not_found() => Ok(()),
        other => other.map(drop),
    }
}

/// Takes owners out of an object. By merge patch, since custom kinds take no strategic one; and the graph knows only
/// half of what an entry says, so the entries that stay are read first.
async fn remove_owners(client: &Client, member: &Member, uids: &[String]) -> Result<Option<u64>, Status> {
    let request = client.request_for(
        Verb::Get,
        member.resource.clone(),
        &member.namespace,
        &member.name,
    );
    let reply = client.call(request).await?;
    let live: Value = serde_json::from_slice(&reply.body.whole()).map_err(Status::internal)?;
    let patch = without_owners(&live, &member.uid, uids);
    perform(client, &Write::Patch(target(member), PatchType::Merge, patch)).await
}

/// The patch that takes owners out of an object as it is now; it fails if that is another one, or changed meanwhile.
fn without_owners(live: &Value, uid: &str, uids: &[String]) -> Value {
    let is_left = |owner: &&Value| !uids.iter().any(|uid| owner["uid"] == uid.as_str());
    let left: Vec<&Value> = value::list(live, "metadata.ownerReferences")
        .iter()
        .filter(is_left)
        .collect();
    json!({"metadata": {
        "uid": uid,
        "resourceVersion": object::resource_version(live),
        "ownerReferences": if left.is_empty() { Value::Null } else { json!(left) },
    }})
}

fn delete(member: &Member, propagation: Propagation) -> Write {
    Write::Delete {
        target: target(member),
        uid: member.uid.clone(),
        propagation: Some(propagation),
        grace_seconds: None,
        version: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_owners_stay_as_they_are() {
        let owner =
            |uid: &str| json!({"uid": uid, "name": uid, "kind": "K", "apiVersion": "v1", "controller": true});
        let live = json!({"metadata": {"resourceVersion": "7", "ownerReferences": [owner("a"), owner("b")]}});
        let gone = |uids: &[&str]| -> Vec<String> { uids.iter().map(|uid| (*uid).to_owned()).collect() };
        assert_eq!(
            without_owners(&live, "u", &gone(&["a"])),
            json!({"metadata": {"uid": "u", "resourceVersion": "7", "ownerReferences": [owner("b")]}})
        );
        assert_eq!(
            without_owners(&live, "u", &gone(&["a", "b"]))["metadata"]["ownerReferences"],
            Value::Null
        );
    }
}
