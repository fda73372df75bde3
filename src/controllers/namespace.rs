//! Empties a namespace that is being deleted, then lets it go.
//!
//! Not a [`Reconciler`](crate::Reconciler): what is left in a namespace can
//! only be found by asking, kind by kind. What the answers mean is decided by
//! `conditions`, which does nothing else.

mod conditions;
mod contents;

use std::time::Duration;

use api::object;
use api::request::{Request, Verb};
use api::status::Status;
use base::OnError;
use client::{Change, Client, WorkQueue};
use k8s_openapi::api::core::v1::Namespace;
use serde_json::Value;
use tracing::{debug, warn};

use crate::harness::Surroundings;
use crate::view::is_going;
use conditions::{Left, Round};
use contents::Sort;

/// Wait between two looks at a namespace whose content takes its time to end.
const RETRY: Duration = Duration::from_millis(500);
const FINALIZER: &str = "kubernetes";

/// Starts the controller.
pub fn start(surroundings: &Surroundings) {
    let queue: WorkQueue<String> = surroundings.queues.queue("namespace");
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

/// One round; `true` when the namespace is gone.
async fn empty_out(s: &Surroundings, name: &str) -> Result<bool, Status> {
    let Some(namespace) = s.client.find::<Namespace>("", name).await? else {
        return Ok(true);
    };
    if !is_going(&namespace) {
        return Ok(true);
    }
    let found = contents::discover(&s.client).await?;
    let mut round = Round {
        undiscovered: found.undiscovered,
        ..Round::default()
    };
    let is_pods = |sort: &Sort| sort.resource.group.is_empty() && sort.resource.plural == "pods";
    let (pods, others) = found.sorts.into_iter().partition(is_pods);
    round.clear_all(&s.client, name, pods).await;
    // What pods live by (NetworkPolicies, their accounts) outlives them.
    if round.is_clear() {
        round.clear_all(&s.client, name, others).await;
    }
    let mut new = namespace.clone();
    if conditions::set(&mut new, &round, s.clock.now()) {
        new = s.client.update_status(&new).await?;
    }
    if !round.is_clear() || !round.undiscovered.is_empty() {
        return round.failed.into_iter().next().map_or(Ok(false), Err);
    }
    if let Some(finalizers) = new.spec.as_mut().and_then(|spec| spec.finalizers.as_mut()) {
        finalizers.retain(|finalizer| finalizer != FINALIZER);
    }
    s.client.update_subresource(&new, "finalize").await?;
    Ok(true)
}

impl Round {
    /// Deletes all objects of those kinds, and notes what is left of them.
    async fn clear_all(&mut self, client: &Client, namespace: &str, sorts: Vec<Sort>) {
        for sort in sorts {
            match clear(client, namespace, sort).await {
                Ok(left) => self.left.extend(left),
                Err(status) => self.failed.push(status),
            }
        }
    }
}

/// Deletes all objects of a kind and says what is left of them.
async fn clear(client: &Client, namespace: &str, sort: Sort) -> Result<Option<Left>, Status> {
    let Sort { resource, at_once } = sort;
    let ask = |verb, name: &str| client.request_for(verb, resource.clone(), namespace, name);
    let found = items(client, ask(Verb::List, "")).await?;
    let deletions: Vec<Request> = match at_once {
        _ if found.is_empty() => return Ok(None),
        true => vec![ask(Verb::DeleteCollection, "")],
        false => found
            .iter()
            .map(|item| ask(Verb::Delete, object::name(item)))
            .collect(),
    };
    for mut delete in deletions {
        delete.options.propagation_policy = "Background".to_owned();
        match client.call(delete).await {
            Err(status) if !at_once && status.is_not_found() => {}
            done => drop(done?),
        }
    }
    let found = items(client, ask(Verb::List, "")).await?;
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
    let mut list: Value = serde_json::from_slice(&reply.body.whole()).map_err(Status::internal)?;
    Ok(match list["items"].take() {
        Value::Array(items) => items,
        _ => Vec::new(),
    })
}
