//! Follows one kind, keeping only what the graph needs.

use std::collections::HashSet;
use std::time::Duration;

use api::request::{EventKind, ResourceRef, Verb};
use api::status::Status;
use client::{Client, WorkQueue};
use futures_util::StreamExt;
use serde::Deserialize;
use tracing::debug;

use super::graph::{Member, Owner, Shared, locked};

const RETRY: Duration = Duration::from_secs(1);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Meta {
    name: String,
    namespace: String,
    uid: String,
    resource_version: String,
    deletion_timestamp: Option<String>,
    finalizers: Vec<String>,
    owner_references: Vec<Reference>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reference {
    api_version: String,
    kind: String,
    name: String,
    uid: String,
    #[serde(default)]
    block_owner_deletion: bool,
}

#[derive(Deserialize)]
struct Head {
    metadata: Meta,
}

#[derive(Deserialize)]
struct List {
    metadata: Meta,
    #[serde(default)]
    items: Vec<Head>,
}

/// Lists and watches for ever.
pub(super) async fn follow(
    client: Client,
    resource: ResourceRef,
    kind: &'static str,
    graph: Shared,
    queue: WorkQueue<String>,
) {
    let follower = Follower {
        client,
        resource,
        kind,
        graph,
        queue,
    };
    loop {
        if let Err(status) = follower.once().await {
            debug!(resource = follower.resource.plural, error = %status, "watch for garbage ended, listing again");
        }
        tokio::time::sleep(RETRY).await;
    }
}

struct Follower {
    client: Client,
    resource: ResourceRef,
    kind: &'static str,
    graph: Shared,
    queue: WorkQueue<String>,
}

impl Follower {
    async fn once(&self) -> Result<(), Status> {
        let reply = self
            .client
            .call(self.client.request_for(Verb::List, self.resource.clone(), "", ""))
            .await?;
        let list: List = serde_json::from_slice(&reply.body.whole()).map_err(Status::internal)?;
        let mut alive = HashSet::new();
        for item in list.items {
            alive.insert(item.metadata.uid.clone());
            self.observe(item.metadata);
        }
        // What vanished while nobody watched.
        let stale = locked(&self.graph).of_resource(&self.resource, |uid| !alive.contains(uid));
        stale.iter().for_each(|uid| self.remove(uid));

        let mut request = self
            .client
            .request_for(Verb::Watch, self.resource.clone(), "", "");
        request.options.resource_version = Some(list.metadata.resource_version);
        let mut events = self.client.api().watch(request).await?;
        while let Some(event) = events.next().await {
            let event = event?;
            let head: Head = match event.kind {
                EventKind::Bookmark => continue,
                _ => serde_json::from_slice(&event.object).map_err(Status::internal)?,
            };
            match event.kind {
                EventKind::Deleted => self.remove(&head.metadata.uid),
                _ => self.observe(head.metadata),
            }
        }
        Ok(())
    }

    fn observe(&self, meta: Meta) {
        let owners = meta
            .owner_references
            .into_iter()
            .map(|r| Owner {
                namespace: meta.namespace.clone(),
                api_version: r.api_version,
                kind: r.kind,
                name: r.name,
                uid: r.uid,
                blocks: r.block_owner_deletion,
            })
            .collect();
        let member = Member {
            resource: self.resource.clone(),
            kind: self.kind,
            namespace: meta.namespace,
            name: meta.name,
            uid: meta.uid,
            resource_version: meta.resource_version,
            deleting: meta.deletion_timestamp.is_some(),
            finalizers: meta.finalizers,
            owners,
        };
        let affected = locked(&self.graph).observe(member);
        affected.into_iter().for_each(|uid| self.queue.add(uid));
    }

    fn remove(&self, uid: &str) {
        let affected = locked(&self.graph).remove(uid);
        affected.into_iter().for_each(|uid| self.queue.add(uid));
    }
}
