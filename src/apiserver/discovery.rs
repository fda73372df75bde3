//! What the server serves: the plain lists of groups and resources, and
//! aggregated discovery, which says everything in one answer.

mod entries;
mod shown;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Value, json};

use crate::aggregation::Others;
use crate::http::negotiate;
use crate::pki::fingerprint;
use crate::served::ServedKinds;
use shown::Shown;

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

#[cfg(test)]
mod tests {
    use api::kind::{Kind, Subresource};
    use http::header::ACCEPT;

    use super::*;

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
