//! What documents are about, and the documents made of it. Pure.

use std::cmp::Reverse;

use api::custom::by_priority;
use api::kind::{Kind, KindRef};
use api::object::join_api_version;
use serde_json::{Value, json};

use super::entries::{aggregated_resource, part, resource};
use crate::aggregation;
use crate::aggregation::discovery::aggregated_version;
use crate::priorities;

/// The kinds that documents are about, and the group versions that others serve.
pub(super) struct Shown {
    kinds: Vec<KindRef>,
    others: Vec<aggregation::Shown>,
}

impl Shown {
    /// Without those kinds whose group versions others have taken over.
    pub fn of(mut kinds: Vec<KindRef>, others: Vec<aggregation::Shown>) -> Self {
        let taken = |kind: &KindRef| {
            others
                .iter()
                .any(|(other, _)| other.group == kind.group && other.version == kind.version)
        };
        kinds.retain(|kind| !taken(kind));
        Self { kinds, others }
    }

    /// Groups by their priority, and by name where it is the same.
    pub fn groups(&self) -> Vec<&str> {
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

    /// The versions of a group, the preferred one first.
    pub fn versions(&self, group: &str) -> Vec<&str> {
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

    /// `/api`.
    pub fn core_versions(&self, address: &str) -> Value {
        json!({
            "kind": "APIVersions",
            "versions": self.versions(""),
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
        })
    }

    /// `/apis`.
    pub fn group_list(&self) -> Value {
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

    /// `/apis/GROUP`; `None` when there is no such group.
    pub fn group_document(&self, group: &str) -> Option<Value> {
        if group.is_empty() || self.versions(group).is_empty() {
            return None;
        }
        let mut document = self.group(group);
        document["kind"] = "APIGroup".into();
        document["apiVersion"] = "v1".into();
        Some(document)
    }

    /// `/api/VERSION` or `/apis/GROUP/VERSION`; `None` when there is no such version.
    pub fn resource_list(&self, group: &str, version: &str) -> Option<Value> {
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
        let group_version = join_api_version(group, version);
        let mut list =
            json!({"kind": "APIResourceList", "groupVersion": group_version, "resources": resources});
        if !group.is_empty() {
            list["apiVersion"] = "v1".into();
        }
        Some(list)
    }

    /// A group as aggregated discovery shows it.
    pub fn aggregated_group(&self, group: &str) -> Value {
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
