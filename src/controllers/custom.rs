//! Which custom kinds there are, for the controllers that look after objects of every kind.

use std::future::Future;
use std::time::Duration;

use api::custom::{self, is_true, storage_version};
use api::request::{ResourceRef, Verb};
use api::status::Status;
use api::value::{list, text};
use client::Client;
use futures_util::StreamExt;
use serde_json::Value;
use tracing::debug;

/// How long changes of definitions are gathered before they are looked at together.
const GATHER: Duration = Duration::from_millis(300);
/// How long a broken watch is left alone.
const RETRY: Duration = Duration::from_secs(1);

/// A custom kind, in the version in which its objects are kept.
#[derive(Clone, Debug, PartialEq)]
pub struct CustomResource {
    /// Its path.
    pub resource: ResourceRef,
    /// Its name.
    pub kind: String,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
}

fn of(definition: &Value) -> Option<CustomResource> {
    is_true(definition, "Established").then(|| CustomResource {
        resource: ResourceRef::new(
            text(definition, "spec.group"),
            storage_version(definition),
            text(definition, "status.acceptedNames.plural"),
        ),
        kind: text(definition, "status.acceptedNames.kind").to_owned(),
        namespaced: text(definition, "spec.scope") == "Namespaced",
    })
}

fn definitions() -> ResourceRef {
    ResourceRef::new(custom::GROUP, "v1", custom::PLURAL)
}

/// All custom kinds, and the revision of the list.
async fn read(client: &Client) -> Result<(Vec<CustomResource>, String), Status> {
    let request = client.request_for(Verb::List, definitions(), "", "");
    let reply = client.call(request).await?;
    let found: Value = serde_json::from_slice(&reply.body).map_err(Status::internal)?;
    let kinds = list(&found, "items").iter().filter_map(of).collect();
    Ok((kinds, text(&found, "metadata.resourceVersion").to_owned()))
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
