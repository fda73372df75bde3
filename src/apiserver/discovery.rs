//! What the server serves: the plain lists of groups and resources, and
//! aggregated discovery, which says everything in one answer.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use api::custom::by_priority;
use api::kind::{Kind, KindRef, Subresource};
use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Value, json};

use crate::aggregation::discovery::aggregated_version;
use crate::aggregation::{self, Others};
use crate::http::negotiate;
use crate::pki::fingerprint;
use crate::priorities;
use crate::served::ServedKinds;

/// A discovery document with its validator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// JSON text.
    pub body: Bytes,
    /// Media type.
    pub content_type: &'static str,
    /// Entity tag, without quotes; empty when the document has none.
    pub etag: String,
}

/// The versions of aggregated discovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Aggregated {
    V2,
    V2Beta1,
}

impl Aggregated {
    fn version(self) -> &'static str {
        match self {
            Aggregated::V2 => "v2",
            Aggregated::V2Beta1 => "v2beta1",
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Aggregated::V2 => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
            Aggregated::V2Beta1 => {
                "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"
            }
        }
    }

    /// What the client asked for, if it did.
    fn asked(headers: &HeaderMap) -> Option<Self> {
        let ranges = negotiate::accepted(headers);
        let wanted = |range: &negotiate::Range<'_>| {
            let aggregated = range.media == "application/json"
                && range.get("g") == Some("apidiscovery.k8s.io")
                && range.get("as") == Some("APIGroupDiscoveryList");
            match range.get("v").filter(|_| aggregated) {
                Some("v2") => Some(Some(Aggregated::V2)),
                Some("v2beta1") => Some(Some(Aggregated::V2Beta1)),
                _ if range.get("as").is_none() && matches!(range.media, "application/json" | "*/*") => {
                    Some(None)
                }
                _ => None,
            }
        };
        ranges.iter().find_map(wanted).flatten()
    }
}

/// Aggregated documents, and the state of the served kinds that they show.
type Kept = HashMap<(bool, Aggregated), (u64, Document)>;

/// Discovery over the kinds that are served. Documents are made when first asked for; the
/// aggregated ones, which every client asks for, are kept until a definition changes.
pub struct Discovery {
    kinds: Arc<ServedKinds>,
    others: Arc<Others>,
    /// `host:port` that clients inside the cluster are told.
    address: String,
    kept: Mutex<Kept>,
}

impl Discovery {
    /// Discovery of those kinds, and of what others serve.
    pub fn new(kinds: Arc<ServedKinds>, others: Arc<Others>, address: String) -> Self {
        Self {
            kinds,
            others,
            address,
            kept: Mutex::default(),
        }
    }

    /// The document at a path below `/api` or `/apis`; `None` when there is none.
    pub fn document(&self, path: &str, headers: &HeaderMap) -> Option<Document> {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let shown = || Shown::of(self.kinds.all(), self.others.all());
        let value = match parts.as_slice() {
            ["api"] => match Aggregated::asked(headers) {
                Some(version) => return Some(self.aggregated(true, version)),
                None => shown().core_versions(&self.address),
            },
            ["apis"] => match Aggregated::asked(headers) {
                Some(version) => return Some(self.aggregated(false, version)),
                None => shown().group_list(),
            },
            ["api", version] => shown().resource_list("", version)?,
            ["apis", group] => shown().group_document(group)?,
            ["apis", group, version] => shown().resource_list(group, version)?,
            _ => return None,
        };
        Some(Document {
            body: value.to_string().into(),
            content_type: "application/json",
            etag: String::new(),
        })
    }

    /// The paths below `/api` and `/apis` at which there is a document.
    pub fn paths(&self) -> Vec<String> {
        let shown = Shown::of(self.kinds.all(), self.others.all());
        let mut paths = vec!["/api".to_owned(), "/apis".to_owned(), "/apis/".to_owned()];
        for group in shown.groups() {
            let root = match group {
                "" => "/api".to_owned(),
                group => format!("/apis/{group}"),
            };
            paths.extend(
                shown
                    .versions(group)
                    .iter()
                    .map(|version| format!("{root}/{version}")),
            );
            if !group.is_empty() {
                paths.push(root);
            }
        }
        paths
    }

    fn aggregated(&self, core: bool, version: Aggregated) -> Document {
        let mut kept = self.kept.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // Read before the kinds are, so that a change in between makes the document anew next time.
        // Both only grow, so their sum names the state of both.
        let state = self.kinds.state() + self.others.state();
        let make = || {
            let shown = Shown::of(self.kinds.all(), self.others.all());
            let groups = shown
                .groups()
                .into_iter()
                .filter(|group| group.is_empty() == core);
            let items: Vec<Value> = groups.map(|group| shown.aggregated_group(group)).collect();
            let body = json!({
                "kind": "APIGroupDiscoveryList",
                "apiVersion": format!("apidiscovery.k8s.io/{}", version.version()),
                "metadata": {},
                "items": items,
            });
            let body = Bytes::from(body.to_string());
            let etag = fingerprint(&body).to_uppercase();
            Document {
                body,
                content_type: version.content_type(),
                etag,
            }
        };
        match kept.get(&(core, version)) {
            Some((of, document)) if *of == state => document.clone(),
            _ => {
                let document = make();
                kept.insert((core, version), (state, document.clone()));
                document
            }
        }
    }
}

/// The kinds that documents are about, and the group versions that others serve.
struct Shown {
    kinds: Vec<KindRef>,
    others: Vec<aggregation::Shown>,
}

impl Shown {
    /// Without those kinds whose group versions others have taken over.
    fn of(mut kinds: Vec<KindRef>, others: Vec<aggregation::Shown>) -> Self {
        let taken = |kind: &KindRef| {
            others
                .iter()
                .any(|(other, _)| other.group == kind.group && other.version == kind.version)
        };
        kinds.retain(|kind| !taken(kind));
        Self { kinds, others }
    }

    /// Groups by their priority, and by name where it is the same.
    fn groups(&self) -> Vec<&str> {
        let mut groups: Vec<(i64, &str)> = Vec::new();
        let own = self
            .kinds
            .iter()
            .map(|kind| (priorities::of(kind.group, "").group, kind.group));
        let others = self
            .others
            .iter()
            .map(|(other, _)| (other.group_priority, other.group.as_str()));
        for (priority, group) in own.chain(others) {
            match groups.iter_mut().find(|(_, known)| *known == group) {
                Some((known, _)) => *known = priority.max(*known),
                None => groups.push((priority, group)),
            }
        }
        groups.sort_by_key(|(priority, group)| (Reverse(*priority), *group));
        groups.into_iter().map(|(_, group)| group).collect()
    }

    fn versions(&self, group: &str) -> Vec<&str> {
        let mut versions: Vec<&str> = Vec::new();
        for kind in self.kinds.iter().filter(|k| k.group == group) {
            if !versions.contains(&kind.version) {
                versions.push(kind.version);
            }
        }
        let custom = |kind: &KindRef| kind.group == group && kind.custom().is_some();
        if self.kinds.iter().any(custom) {
            versions.sort_by(|a, b| by_priority(a, b));
        }
        let others = || self.others.iter().filter(|(other, _)| other.group == group);
        if others().next().is_some() {
            versions.extend(others().map(|(other, _)| other.version.as_str()));
            let priority = |version: &str| {
                let other = others().find(|(other, _)| other.version == version);
                other.map_or(priorities::of(group, version).version, |(other, _)| {
                    other.version_priority
                })
            };
            versions.sort_by(|a, b| priority(b).cmp(&priority(a)).then_with(|| by_priority(a, b)));
        }
        versions
    }

    fn kinds_of(&self, group: &str, version: &str) -> impl Iterator<Item = &Kind> {
        self.kinds
            .iter()
            .map(|kind| &**kind)
            .filter(move |k| k.group == group && k.version == version)
    }

    fn core_versions(&self, address: &str) -> Value {
        json!({
            "kind": "APIVersions",
            "versions": self.versions(""),
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
        })
    }

    fn group_list(&self) -> Value {
        let groups = self.groups().into_iter().filter(|group| !group.is_empty());
        let groups: Vec<Value> = groups.map(|group| self.group(group)).collect();
        json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
    }

    fn group(&self, group: &str) -> Value {
        let entry =
            |version: &&str| json!({"groupVersion": format!("{group}/{version}"), "version": version});
        let versions: Vec<Value> = self.versions(group).iter().map(entry).collect();
        json!({"name": group, "preferredVersion": versions.first(), "versions": versions})
    }

    fn group_document(&self, group: &str) -> Option<Value> {
        if group.is_empty() || self.versions(group).is_empty() {
            return None;
        }
        let mut document = self.group(group);
        document["kind"] = "APIGroup".into();
        document["apiVersion"] = "v1".into();
        Some(document)
    }

    fn resource_list(&self, group: &str, version: &str) -> Option<Value> {
        let mut resources = Vec::new();
        for kind in self.kinds_of(group, version) {
            resources.push(resource(kind));
            resources.extend(kind.subresources.iter().map(|sub| part(kind, sub)));
        }
        if resources.is_empty() {
            return None;
        }
        let name = |value: &Value| value["name"].as_str().unwrap_or_default().to_owned();
        resources.sort_by_key(name);
        let group_version = if group.is_empty() {
            version.to_owned()
        } else {
            format!("{group}/{version}")
        };
        let mut list =
            json!({"kind": "APIResourceList", "groupVersion": group_version, "resources": resources});
        if !group.is_empty() {
            list["apiVersion"] = "v1".into();
        }
        Some(list)
    }

    fn aggregated_group(&self, group: &str) -> Value {
        let version = |version: &&str| {
            let other = self
                .others
                .iter()
                .find(|(other, _)| other.group == group && other.version == *version);
            if let Some((other, said)) = other {
                let resources = said.as_ref().map(|said| said.resources.as_slice());
                return aggregated_version((group, version), resources, other.available);
            }
            let mut kinds: Vec<&Kind> = self.kinds_of(group, version).collect();
            kinds.sort_by_key(|kind| kind.plural);
            let resources: Vec<Value> = kinds.into_iter().map(aggregated_resource).collect();
            json!({"version": version, "resources": resources, "freshness": "Current"})
        };
        let versions: Vec<Value> = self.versions(group).iter().map(version).collect();
        let mut metadata = json!({"creationTimestamp": null});
        if !group.is_empty() {
            metadata["name"] = group.into();
        }
        json!({"metadata": metadata, "versions": versions})
    }
}

fn set_lists(value: &mut Value, kind: &Kind) {
    if !kind.short_names.is_empty() {
        value["shortNames"] = json!(kind.short_names);
    }
    if !kind.categories.is_empty() {
        value["categories"] = json!(kind.categories);
    }
}

fn resource(kind: &Kind) -> Value {
    let mut value = json!({
        "name": kind.plural,
        "singularName": kind.singular,
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": kind.verbs,
    });
    set_lists(&mut value, kind);
    if !kind.storage_version_hash.is_empty() {
        value["storageVersionHash"] = kind.storage_version_hash.into();
    }
    value
}

fn part(kind: &Kind, sub: &Subresource) -> Value {
    let mut value = json!({
        "name": format!("{}/{}", kind.plural, sub.name),
        "singularName": "",
        "namespaced": kind.namespaced,
        "kind": sub.kind,
        "verbs": sub.verbs,
    });
    if !sub.version.is_empty() {
        value["group"] = sub.group.into();
        value["version"] = sub.version.into();
    }
    value
}

fn aggregated_resource(kind: &Kind) -> Value {
    let own = (kind.group, kind.version);
    let response =
        |group: &str, version: &str, kind: &str| json!({"group": group, "version": version, "kind": kind});
    let mut value = json!({
        "resource": kind.plural,
        "responseKind": response(own.0, own.1, kind.kind),
        "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": kind.singular,
        "verbs": kind.verbs,
    });
    set_lists(&mut value, kind);
    let parts = kind.subresources.iter().map(|sub| {
        let (group, version) = if sub.version.is_empty() {
            own
        } else {
            (sub.group, sub.version)
        };
        json!({
            "subresource": sub.name,
            "responseKind": response(group, version, sub.kind),
            "verbs": sub.verbs,
        })
    });
    let parts: Vec<Value> = parts.collect();
    if !parts.is_empty() {
        value["subresources"] = parts.into();
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::ACCEPT;

    const PODS: Kind = Kind {
        kind: "Pod",
        plural: "pods",
        singular: "pod",
        short_names: &["po"],
        categories: &["all"],
        subresources: &[Subresource::status("Pod")],
        ..Kind::NAMESPACED
    };
    const DEPLOYMENTS: Kind = Kind {
        group: "apps",
        kind: "Deployment",
        plural: "deployments",
        singular: "deployment",
        subresources: &[Subresource::scale()],
        ..Kind::NAMESPACED
    };
    static KINDS: &[&Kind] = &[&PODS, &DEPLOYMENTS];

    fn get(path: &str, accept: &str) -> Option<Document> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().unwrap());
        let kinds = Arc::new(ServedKinds::of(KINDS));
        let others = Arc::default();
        Discovery::new(kinds, others, "10.0.0.1:6443".into()).document(path, &headers)
    }

    fn value(document: &Document) -> Value {
        serde_json::from_slice(&document.body).unwrap()
    }

    #[test]
    fn plain_lists() {
        let json = "application/json";
        assert_eq!(value(&get("/api", json).unwrap())["versions"], json!(["v1"]));
        let groups = value(&get("/apis", json).unwrap());
        assert_eq!(groups["groups"][0]["preferredVersion"]["groupVersion"], "apps/v1");
        let resources = value(&get("/apis/apps/v1", json).unwrap());
        assert_eq!(
            resources["resources"][1],
            json!({"name": "deployments/scale", "singularName": "", "namespaced": true, "group": "autoscaling",
                "version": "v1", "kind": "Scale", "verbs": ["get", "patch", "update"]})
        );
        let core = value(&get("/api/v1", json).unwrap());
        assert_eq!(core["groupVersion"], "v1");
        assert_eq!(core["resources"][0]["shortNames"], json!(["po"]));
        assert_eq!(get("/apis/none", json), None);
        assert_eq!(get("/apis/apps/v2", json), None);
    }

    #[test]
    fn aggregated_for_new_clients_and_old() {
        let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
        let document = get("/apis", accept).unwrap();
        let body = value(&document);
        assert_eq!(body["apiVersion"], "apidiscovery.k8s.io/v2");
        assert_eq!(
            body["items"][0]["versions"][0]["resources"][0]["subresources"][0]["responseKind"]["kind"],
            "Scale"
        );
        assert_eq!(document.etag.len(), 64);
        let old = accept.split_once(',').unwrap().1;
        assert_eq!(
            value(&get("/apis", old).unwrap())["apiVersion"],
            "apidiscovery.k8s.io/v2beta1"
        );
        assert_eq!(
            value(&get("/api", accept).unwrap())["items"]
                .as_array()
                .unwrap()
                .len(),
            1
        );
        assert_eq!(value(&get("/apis", "*/*").unwrap())["kind"], "APIGroupList");
    }
}
