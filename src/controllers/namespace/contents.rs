//! What may be in a namespace: kinds of the table, custom kinds, and what other servers say that they serve.

use api::request::{ResourceRef, Verb};
use api::status::Status;
use client::Client;
use serde::Deserialize;

use crate::custom;

/// A sort of object.
#[derive(Debug, PartialEq)]
pub struct Sort {
    pub resource: ResourceRef,
    /// Whether all of a namespace are deleted by one request.
    pub at_once: bool,
}

/// A group version that does not say what it serves.
pub struct Undiscovered {
    pub group_version: String,
    pub why: String,
}

/// All there is to know.
pub struct Contents {
    pub sorts: Vec<Sort>,
    pub undiscovered: Vec<Undiscovered>,
}

/// Everything that may be in a namespace, each sort of object once.
///
/// # Errors
/// When definitions or APIServices cannot be read.
pub async fn discover(client: &Client) -> Result<Contents, Status> {
    let mut sorts: Vec<Sort> = built_in().collect();
    let custom = custom::all(client).await?;
    sorts.extend(
        custom
            .into_iter()
            .filter(|kind| kind.namespaced)
            .map(|kind| Sort {
                resource: kind.resource,
                at_once: true,
            }),
    );
    let mut undiscovered = Vec::new();
    for (group, version) in elsewhere(client).await? {
        match served(client, &group, &version).await {
            Ok(found) => sorts.extend(found),
            Err(status) => undiscovered.push(Undiscovered {
                group_version: format!("{group}/{version}"),
                why: status.message,
            }),
        }
    }
    Ok(Contents { sorts, undiscovered })
}

fn built_in() -> impl Iterator<Item = Sort> {
    let kinds = api::kinds::all().iter().filter(|kind| {
        let can = |verb: &str| kind.verbs.contains(&verb);
        kind.namespaced && kind.storage.is_none() && can("deletecollection") && can("list")
    });
    kinds.map(|kind| Sort {
        resource: ResourceRef::new(kind.group, kind.version, kind.plural),
        at_once: true,
    })
}

/// The parts of APIServices that matter here.
#[derive(Deserialize)]
struct Services {
    items: Vec<Service>,
}

#[derive(Deserialize)]
struct Service {
    spec: Spec,
}

#[derive(Deserialize)]
struct Spec {
    #[serde(default)]
    group: String,
    version: String,
    service: Option<serde::de::IgnoredAny>,
}

/// The group versions that other servers serve.
async fn elsewhere(client: &Client) -> Result<Vec<(String, String)>, Status> {
    let place = ResourceRef::new("apiregistration.k8s.io", "v1", "apiservices");
    let reply = client.call(client.request_for(Verb::List, place, "", "")).await?;
    let found: Services = serde_json::from_slice(&reply.body.whole()).map_err(Status::internal)?;
    let theirs = found.items.into_iter().map(|item| item.spec);
    Ok(theirs
        .filter(|spec| spec.service.is_some())
        .map(|spec| (spec.group, spec.version))
        .collect())
}

/// An APIResourceList.
#[derive(Deserialize)]
struct Resources {
    resources: Vec<Resource>,
}

#[derive(Deserialize)]
struct Resource {
    name: String,
    #[serde(default)]
    namespaced: bool,
    #[serde(default)]
    verbs: Vec<String>,
}

/// What a group version consists of: asked for like a resource without a name.
async fn served(client: &Client, group: &str, version: &str) -> Result<Vec<Sort>, Status> {
    let place = ResourceRef::new(group, version, "");
    let reply = client.call(client.request_for(Verb::Get, place, "", "")).await?;
    let list: Resources = serde_json::from_slice(&reply.body.whole()).map_err(Status::internal)?;
    Ok(deletable(group, version, list))
}

fn deletable(group: &str, version: &str, list: Resources) -> Vec<Sort> {
    let sort = |resource: Resource| {
        let can = |verb: &str| resource.verbs.iter().any(|known| known == verb);
        let at_once = can("deletecollection");
        let is_part = resource.name.contains('/');
        let goes = resource.namespaced && !is_part && can("list") && (at_once || can("delete"));
        goes.then(|| Sort {
            resource: ResourceRef::new(group, version, &resource.name),
            at_once,
        })
    };
    list.resources.into_iter().filter_map(sort).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_deleted_is_looked_for() {
        let text = r#"{"resources": [
            {"name": "boats", "namespaced": true, "verbs": ["list", "delete", "deletecollection"]},
            {"name": "oars", "namespaced": true, "verbs": ["list", "delete"]},
            {"name": "boats/status", "namespaced": true, "verbs": ["list", "delete"]},
            {"name": "seas", "namespaced": false, "verbs": ["list", "delete"]},
            {"name": "pods", "namespaced": true, "verbs": ["get", "list"]}]}"#;
        let sort = |plural: &str, at_once| Sort {
            resource: ResourceRef::new("a.example.com", "v1", plural),
            at_once,
        };
        assert_eq!(
            deletable("a.example.com", "v1", serde_json::from_str(text).unwrap()),
            [sort("boats", true), sort("oars", false)]
        );
    }
}
