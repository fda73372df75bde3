//! The garbage collector: what belonged to an object that is gone goes too.
//!
//! It follows every kind, but keeps only names, owners and finalizers, in a
//! `graph::Graph` that decides; the tasks here only feed it and
//! carry out what it says.

mod feed;
mod graph;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::request::{PatchType, ResourceRef, Verb};
use api::status::Status;
use base::OnError;
use client::{Client, Propagation, WorkQueue};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::custom;
use crate::harness::{Surroundings, perform};
use crate::plan::{Key, Target, Write};
use graph::{Action, Graph, Member};

/// An owner that was not seen may be in a watch that lags; it is asked for live after this.
const SETTLE: Duration = Duration::from_millis(200);

type Shared = Arc<Mutex<Graph>>;

/// Starts the collector.
pub fn start(surroundings: &Surroundings) {
    let graph: Shared = Arc::default();
    let queue: WorkQueue<String> = WorkQueue::new();
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

fn locked(graph: &Shared) -> std::sync::MutexGuard<'_, Graph> {
    graph.lock().unwrap_or_else(PoisonError::into_inner)
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
    let (group, version) = owner
        .api_version
        .split_once('/')
        .unwrap_or(("", &owner.api_version));
    let Some((plural, namespaced)) = path_of(client, group, &owner.kind, version).await? else {
        // Of a kind that is not served: nothing can be known, so nothing is deleted.
        return Ok(false);
    };
    let namespace = if namespaced { owner.namespace.as_str() } else { "" };
    let resource = ResourceRef::new(group, version, &plural);
    match client
        .call(client.request_for(Verb::Get, resource, namespace, &owner.name))
        .await
    {
        Ok(reply) => {
            let found: Value = serde_json::from_slice(&reply.body.whole()).map_err(Status::internal)?;
            Ok(found["metadata"]["uid"] != owner.uid.as_str())
        }
        Err(status) if status.is_not_found() => Ok(true),
        Err(status) => Err(status),
    }
}

/// Plural of a kind, and whether it lives in namespaces.
async fn path_of(
    client: &Client,
    group: &str,
    kind: &str,
    version: &str,
) -> Result<Option<(String, bool)>, Status> {
    if let Some(known) = api::kinds::find_kind(group, version, kind) {
        return Ok(Some((known.plural.to_owned(), known.namespaced)));
    }
    let custom = custom::all(client).await?;
    let found = custom
        .into_iter()
        .find(|c| c.resource.group == group && c.kind == kind);
    Ok(found.map(|c| (c.resource.plural, c.namespaced)))
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
        Action::RemoveOwners { member, uids } => {
            let gone: Vec<Value> = uids
                .iter()
                .map(|uid| json!({"$patch": "delete", "uid": uid}))
                .collect();
            let patch = json!({"metadata": {"uid": member.uid, "ownerReferences": gone}});
            perform(
                client,
                &Write::Patch(target(&member), PatchType::Strategic, patch),
            )
            .await
        }
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

fn delete(member: &Member, propagation: Propagation) -> Write {
    Write::Delete {
        target: target(member),
        uid: member.uid.clone(),
        propagation: Some(propagation),
        grace_seconds: None,
    }
}
