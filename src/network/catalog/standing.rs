//! What a pod that is about to end means to Services.

use std::net::IpAddr;

use k8s_openapi::api::discovery::v1::Endpoint;

use super::Index;

/// A pod's place among the endpoints, as this node knows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// No Service leads to it.
    Stranger,
    /// It is an endpoint like any other: new connections are led to it.
    Active,
    /// All its endpoints say that it is being taken down.
    Leaving,
}

impl Index {
    /// The standing of the pod with that address and UID. Others may have the
    /// same address: those on the node's own network.
    pub fn standing(&self, ip: IpAddr, uid: &str) -> Standing {
        let entries = self.at_endpoint(ip).into_iter().filter_map(|key| self.entry(key));
        let mut standing = Standing::Stranger;
        for (_, endpoint) in entries.flat_map(|entry| entry.endpoints()) {
            if !is_pod(endpoint, uid) {
                continue;
            }
            if endpoint.conditions.as_ref().and_then(|c| c.terminating) != Some(true) {
                return Standing::Active;
            }
            standing = Standing::Leaving;
        }
        standing
    }
}

fn is_pod(endpoint: &Endpoint, uid: &str) -> bool {
    let target = endpoint.target_ref.as_ref();
    target.and_then(|target| target.uid.as_deref()) == Some(uid)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::api::core::v1::ObjectReference;
    use k8s_openapi::api::discovery::v1::{EndpointConditions, EndpointSlice};

    use super::*;
    use crate::fixtures::slice;

    fn with(name: &str, uid: &str, terminating: bool) -> Arc<EndpointSlice> {
        let mut slice = slice("x", name, name, &["10.64.0.2"], &[]);
        for endpoint in slice.endpoints.iter_mut().flatten() {
            endpoint.target_ref = Some(ObjectReference {
                uid: Some(uid.to_owned()),
                ..ObjectReference::default()
            });
            endpoint.conditions = Some(EndpointConditions {
                terminating: Some(terminating),
                ..EndpointConditions::default()
            });
        }
        Arc::new(slice)
    }

    #[test]
    fn a_pod_leaves_when_its_last_service_knows() {
        let ip: IpAddr = "10.64.0.2".parse().unwrap();
        let mut index = Index::default();
        assert_eq!(index.standing(ip, "me"), Standing::Stranger);
        index.apply_slice(&with("a", "me", true));
        index.apply_slice(&with("b", "me", false));
        assert_eq!(index.standing(ip, "me"), Standing::Active);
        index.apply_slice(&with("b", "me", true));
        assert_eq!(index.standing(ip, "me"), Standing::Leaving);
        assert_eq!(index.standing(ip, "another at that address"), Standing::Stranger);
    }
}
