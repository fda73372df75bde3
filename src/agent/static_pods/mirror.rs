//! Mirror pods: what the API shows of static ones. They have an id of their own, carry the status, and come
//! back when somebody deletes them.

use std::sync::Arc;
use std::time::Duration;

use api::status::Status;
use client::{Cache, Client, DeleteOptions};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use tokio::sync::oneshot;

use super::mirrored::Mirrors;
use super::{HASH, MIRROR};
use crate::pods::spec;
use crate::pods::worker::{Inbox, Message};

/// Pause before a refused write is tried again, or the API looked at again.
const RETRY: Duration = Duration::from_secs(5);

/// What is to be done about a mirror.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// It is as it should be, with that id.
    Keep(String),
    /// There is none.
    Create,
    /// The one with that id is on its way out, or stands for something else.
    Remove(String),
}

fn step(pod: &Pod, mirror: Option<&Pod>) -> Step {
    let Some(mirror) = mirror else {
        return Step::Create;
    };
    let uid = spec::uid(mirror).to_owned();
    if mirror.metadata.deletion_timestamp.is_none()
        && spec::annotation(mirror, MIRROR) == spec::annotation(pod, HASH)
    {
        Step::Keep(uid)
    } else {
        Step::Remove(uid)
    }
}

/// The mirror of a pod on a node.
fn mirror_of(pod: &Pod, node: &Node) -> Pod {
    let mut notes = pod.metadata.annotations.clone().unwrap_or_default();
    let hash = notes.get(HASH).cloned().unwrap_or_default();
    notes.insert(MIRROR.to_owned(), hash);
    Pod {
        metadata: ObjectMeta {
            name: pod.metadata.name.clone(),
            namespace: pod.metadata.namespace.clone(),
            labels: pod.metadata.labels.clone(),
            annotations: Some(notes),
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".to_owned(),
                kind: "Node".to_owned(),
                name: node.metadata.name.clone().unwrap_or_default(),
                uid: node.metadata.uid.clone().unwrap_or_default(),
                controller: Some(true),
                block_owner_deletion: None,
            }]),
            ..ObjectMeta::default()
        },
        spec: pod.spec.clone(),
        status: None,
    }
}

/// Keeps one static pod's mirror.
pub struct Keeper {
    /// The API.
    pub client: Client,
    /// This node's pods, as the API has them.
    pub pods: Cache<Pod>,
    /// The pod.
    pub pod: Arc<Pod>,
    /// Where its mirror's id is noted.
    pub mirrors: Mirrors,
    /// The pod's worker, which has its status told to a new mirror.
    pub worker: Inbox,
}

impl Keeper {
    /// Works until `ended` is gone, then removes the mirror.
    pub async fn run(self, mut ended: oneshot::Receiver<()>) {
        tokio::select! {
            _ = &mut ended => {}
            () = self.keep() => {}
        }
        let known = self.mirrors.ids().remove(spec::uid(&self.pod));
        if let Some(mirror) = known {
            let _ = remove(&self.client, &self.pod, &mirror).await;
        }
    }

    async fn keep(&self) {
        self.pods.synced().await;
        let mut changes = self.pods.changes();
        let (namespace, name) = (spec::namespace(&self.pod), spec::name(&self.pod));
        loop {
            let mirror = self.pods.get(namespace, name);
            let done = match step(&self.pod, mirror.as_deref()) {
                Step::Keep(uid) => {
                    if self.mirrors.set(spec::uid(&self.pod), Some(&uid)) {
                        let _ = self.worker.send(Message::Mirrored);
                    }
                    Ok(())
                }
                Step::Create => {
                    self.mirrors.set(spec::uid(&self.pod), None);
                    self.create().await
                }
                Step::Remove(uid) => remove(&self.client, &self.pod, &uid).await,
            };
            if let Err(status) = done {
                tracing::debug!(pod = name, error = %status, "a mirror pod is not yet as it should be");
            }
            let _ = tokio::time::timeout(RETRY, async {
                // Of all this node's pods only the one of that name matters.
                while let Some(change) = changes.recv().await {
                    let pod = change.object();
                    if spec::name(pod) == name && spec::namespace(pod) == namespace {
                        return;
                    }
                }
                std::future::pending::<()>().await;
            })
            .await;
        }
    }

    async fn create(&self) -> Result<(), Status> {
        let node = spec::spec(&self.pod).node_name.as_deref().unwrap_or_default();
        let node = self.client.get::<Node>("", node).await?;
        match self.client.create(&mirror_of(&self.pod, &node)).await {
            Err(status) if !status.is_already_exists() => Err(status),
            _ => Ok(()),
        }
    }
}

/// Removes a mirror, at once.
///
/// # Errors
/// The server's refusal; one that is gone is none.
pub async fn remove(client: &Client, pod: &Pod, uid: &str) -> Result<(), Status> {
    let options = DeleteOptions {
        grace_seconds: Some(0),
        uid: Some(uid.to_owned()),
        ..DeleteOptions::default()
    };
    let removed = client.delete::<Pod>(spec::namespace(pod), spec::name(pod), &options);
    match removed.await {
        Err(status) if !status.is_not_found() && !status.is_conflict() => Err(status),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(uid: &str, notes: serde_json::Value) -> Pod {
        serde_json::from_value(
            json!({"metadata": {"name": "web-n", "namespace": "default", "uid": uid, "annotations": notes}}),
        )
        .unwrap()
    }

    #[test]
    fn a_mirror_stands_for_one_version_of_a_file() {
        let own = pod(
            "h1",
            json!({"kubernetes.io/config.source": "file", "kubernetes.io/config.hash": "h1"}),
        );
        let node: Node =
            serde_json::from_value(json!({"metadata": {"name": "n", "uid": "node-uid"}})).unwrap();
        let mut mirror = mirror_of(&own, &node);
        mirror.metadata.uid = Some("m1".to_owned());
        assert!(super::super::is_mirror(&mirror) && !super::super::is_static(&mirror));
        let owner = &mirror.metadata.owner_references.as_ref().unwrap()[0];
        assert_eq!((owner.uid.as_str(), owner.controller), ("node-uid", Some(true)));
        assert_eq!(step(&own, None), Step::Create);
        assert_eq!(step(&own, Some(&mirror)), Step::Keep("m1".to_owned()));
        let other = pod("h2", json!({"kubernetes.io/config.hash": "h2"}));
        assert_eq!(step(&other, Some(&mirror)), Step::Remove("m1".to_owned()));
        // Somebody deleted it, or has put another pod in its place.
        let stranger = pod("x", json!({}));
        assert_eq!(step(&own, Some(&stranger)), Step::Remove("x".to_owned()));
        mirror.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
            jiff::Timestamp::UNIX_EPOCH,
        ));
        assert_eq!(step(&own, Some(&mirror)), Step::Remove("m1".to_owned()));
    }

    #[test]
    fn the_api_knows_static_pods_by_another_id() {
        let mirrors = Mirrors::default();
        let own = pod("h1", json!({"kubernetes.io/config.source": "file"}));
        assert_eq!(mirrors.id_of(&pod("u", json!({}))).as_deref(), Some("u"));
        assert_eq!(mirrors.id_of(&own), None);
        assert!(mirrors.set("h1", Some("m1")) && !mirrors.set("h1", Some("m1")));
        assert_eq!(mirrors.id_of(&own).as_deref(), Some("m1"));
    }
}
