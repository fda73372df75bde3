//! Which custom kinds there are, for the controllers that look after objects of every kind.

use std::future::Future;
use std::time::Duration;

use api::custom;
use api::request::{ResourceRef, Verb};
use api::status::Status;
use client::Client;
use futures_util::StreamExt;
use serde::Deserialize;
use tracing::debug;

/// How long changes of definitions are gathered before they are looked at together.
const GATHER: Duration = Duration::from_millis(300);
/// How long a broken watch is left alone.
const RETRY: Duration = Duration::from_secs(1);

/// A custom kind, in the version in which its objects are kept, or another one where that is not served.
#[derive(Clone, Debug, PartialEq)]
pub struct CustomResource {
    /// Its path.
    pub resource: ResourceRef,
    /// Its name.
    pub kind: String,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
}

/// What has to be known of definitions; their schemas, nearly all of their text, are passed over.
#[derive(Deserialize)]
struct Definitions {
    metadata: Metadata,
    items: Vec<Definition>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    resource_version: String,
}

#[derive(Deserialize)]
struct Definition {
    spec: Spec,
    #[serde(default)]
    status: State,
}

#[derive(Deserialize)]
struct Spec {
    group: String,
    scope: String,
    versions: Vec<Version>,
}

#[derive(Deserialize)]
struct Version {
    name: String,
    served: bool,
    storage: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct State {
    conditions: Vec<Condition>,
    accepted_names: Names,
}

#[derive(Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Names {
    plural: String,
    kind: String,
}

fn of(definition: Definition) -> Option<CustomResource> {
    let Definition { spec, status } = definition;
    let established = |c: &Condition| c.kind == "Established" && c.status == "True";
    if !status.conditions.iter().any(established) {
        return None;
    }
    let served = || spec.versions.iter().filter(|version| version.served);
    let version = served().find(|version| version.storage).or(served().next())?;
    Some(CustomResource {
        resource: ResourceRef::new(&spec.group, &version.name, &status.accepted_names.plural),
        kind: status.accepted_names.kind,
        namespaced: spec.scope == "Namespaced",
    })
}

fn definitions() -> ResourceRef {
    ResourceRef::new(custom::GROUP, "v1", custom::PLURAL)
}

/// All custom kinds, and the revision of the list.
async fn read(client: &Client) -> Result<(Vec<CustomResource>, String), Status> {
    let request = client.request_for(Verb::List, definitions(), "", "");
    let reply = client.call(request).await?;
    let found: Definitions = serde_json::from_slice(&reply.body.whole()).map_err(Status::internal)?;
    let kinds = found.items.into_iter().filter_map(of).collect();
    Ok((kinds, found.metadata.resource_version))
}

/// All custom kinds.
///
/// # Errors
/// When the definitions cannot be read.
pub async fn all(client: &Client) -> Result<Vec<CustomResource>, Status> {
    read(client).await.map(|(kinds, _)| kinds)
}

/// Tells `changed` which custom kinds there are, now and after every change, for ever.
pub async fn follow<F, T>(client: Client, mut changed: F)
where
    F: FnMut(Vec<CustomResource>) -> T,
    T: Future<Output = ()>,
{
    loop {
        match read(&client).await {
            Ok((kinds, version)) => {
                changed(kinds).await;
                wait(&client, version).await;
                tokio::time::sleep(GATHER).await;
            }
            Err(status) => {
                debug!(error = %status, "custom resource definitions cannot be read, trying again");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// Returns when a definition changed after that version, or the watch broke off.
async fn wait(client: &Client, version: String) {
    let mut request = client.request_for(Verb::Watch, definitions(), "", "");
    request.options.resource_version = Some(version);
    match client.api().watch(request).await {
        Ok(mut events) => drop(events.next().await),
        Err(_) => tokio::time::sleep(RETRY).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_established_counts() {
        let definition = |established: &str, v1_served: bool| {
            let text = serde_json::json!({"metadata": {"name": "things.a.io"}, "spec": {"group": "a.io", "scope": "Namespaced",
                "versions": [{"name": "v2", "served": true, "storage": false}, {"name": "v1", "served": v1_served, "storage": true}]},
                "status": {"conditions": [{"type": "Established", "status": established}],
                    "acceptedNames": {"plural": "things", "kind": "Thing"}}});
            of(serde_json::from_value(text).unwrap())
        };
        assert_eq!(definition("False", true), None);
        let kind = definition("True", true).unwrap();
        assert_eq!(kind.resource, ResourceRef::new("a.io", "v1", "things"));
        assert!(kind.namespaced && kind.kind == "Thing");
        // Nobody could read them in the version in which they are kept.
        let kind = definition("True", false).unwrap();
        assert_eq!(kind.resource, ResourceRef::new("a.io", "v2", "things"));
    }
}
