//! How endpoints are spread over EndpointSlices, whoever they come from: each stays in the slice where it is, new
//! ones fill up what there is, and only what has changed is written.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::plan::{Key, Plan, Write};
use crate::pods;
use crate::replicaset::safe_suffix;
use crate::view::{View, is_going};

/// Which Service a slice belongs to.
pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Who keeps a slice.
pub(crate) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";

/// What all slices of one Service have in common.
pub(crate) struct Common {
    /// The Service, whose name theirs begin with.
    pub service: Key,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// What they go with.
    pub owner: OwnerReference,
    /// Endpoints in a slice.
    pub size_max: usize,
}

/// The slices of a Service that `manager` keeps.
pub(crate) fn kept_by(manager: &str, service: &Key, view: &View) -> Vec<Arc<EndpointSlice>> {
    let is_own = |slice: &Arc<EndpointSlice>| {
        let labels = slice.metadata.labels.as_ref();
        let label = |name: &str| labels.and_then(|l| l.get(name)).map(String::as_str);
        label(SERVICE_NAME) == Some(&service.name)
            && label(MANAGED_BY) == Some(manager)
            && !is_going(slice.as_ref())
    };
    let all = view.slices.list_in(&service.namespace);
    all.into_iter().filter(is_own).collect()
}

/// Endpoints by what they have in common, as slices have it.
#[derive(Default)]
pub(crate) struct Groups(BTreeMap<String, (Vec<EndpointPort>, Vec<Endpoint>)>);

impl Groups {
    /// Adds an endpoint with these ports.
    pub fn add(&mut self, ports: &[EndpointPort], endpoint: Endpoint) {
        let key = serde_json::to_string(ports).unwrap_or_default();
        let (_, endpoints) = self.0.entry(key).or_insert_with(|| (ports.to_vec(), Vec::new()));
        endpoints.push(endpoint);
    }
}

impl Common {
    /// Makes the slices of one address family say what `groups` do. `slices` are those of the family; if there is
    /// nothing to say, there is an empty one all the same if `has_one`.
    pub fn settle(
        &self,
        family: &str,
        groups: Groups,
        slices: Vec<Arc<EndpointSlice>>,
        has_one: bool,
        plan: &mut Plan,
        now: Timestamp,
    ) {
        let is_empty = groups.0.is_empty();
        let mut unused = slices;
        for (ports, endpoints) in groups.0.into_values() {
            let (mine, rest): (Vec<_>, Vec<_>) = unused
                .into_iter()
                .partition(|slice| slice.ports.clone().unwrap_or_default() == ports);
            unused = rest;
            self.fill(family, ports, endpoints, mine, plan, now);
        }
        if is_empty && has_one {
            match unused.pop() {
                Some(slice) => self.fill(family, Vec::new(), Vec::new(), vec![slice], plan, now),
                None => plan.write(Write::create(&self.slice(family, &[], &[], 0, now))),
            }
        }
        unused
            .iter()
            .for_each(|slice| plan.write(Write::delete(slice.as_ref())));
    }

    /// Puts the endpoints into the slices there are, each staying where it is, and into new ones.
    fn fill(
        &self,
        family: &str,
        ports: Vec<EndpointPort>,
        endpoints: Vec<Endpoint>,
        slices: Vec<Arc<EndpointSlice>>,
        plan: &mut Plan,
        now: Timestamp,
    ) {
        let mut waiting: BTreeMap<_, Endpoint> = endpoints.into_iter().map(|e| (identity(&e), e)).collect();
        let mut contents: Vec<Vec<Endpoint>> = Vec::new();
        for slice in &slices {
            let listed = slice.endpoints.iter().flatten();
            contents.push(listed.filter_map(|e| waiting.remove(&identity(e))).collect());
        }
        let mut waiting: Vec<Endpoint> = waiting.into_values().collect();
        for content in &mut contents {
            let room = self.size_max.saturating_sub(content.len()).min(waiting.len());
            content.extend(waiting.drain(..room));
        }
        let only_slice = slices.len() == 1;
        for (slice, content) in slices.iter().zip(contents) {
            if content.is_empty() && !only_slice {
                plan.write(Write::delete(slice.as_ref()));
                continue;
            }
            let mut new = (**slice).clone();
            new.ports = Some(ports.clone());
            new.endpoints = Some(content);
            new.metadata.labels = Some(self.labels.clone());
            new.metadata.annotations = Some(self.annotations.clone());
            if is_different(slice, &new) {
                plan.write(Write::update(&new));
            }
        }
        for (index, chunk) in waiting.chunks(self.size_max).enumerate() {
            plan.write(Write::create(&self.slice(family, &ports, chunk, index, now)));
        }
    }

    fn slice(
        &self,
        family: &str,
        ports: &[EndpointPort],
        endpoints: &[Endpoint],
        index: usize,
        now: Timestamp,
    ) -> EndpointSlice {
        let (base, uid) = (&self.service.name, &self.owner.uid);
        let suffix = safe_suffix(&format!("{uid}/{family}/{}/{index}", now.as_nanosecond()), 5);
        let annotations = Some(self.annotations.clone()).filter(|all| !all.is_empty());
        EndpointSlice {
            address_type: family.to_owned(),
            endpoints: Some(endpoints.to_vec()),
            metadata: ObjectMeta {
                name: Some(pods::child_name(base, &suffix)),
                generate_name: Some(format!("{base}-")),
                namespace: Some(self.service.namespace.clone()),
                labels: Some(self.labels.clone()),
                annotations,
                owner_references: Some(vec![self.owner.clone()]),
                ..ObjectMeta::default()
            },
            ports: Some(ports.to_vec()),
        }
    }
}

/// What makes an endpoint the same one as before: its address, and whose it is.
fn identity(endpoint: &Endpoint) -> (Vec<String>, Option<String>) {
    let target = endpoint.target_ref.as_ref();
    (
        endpoint.addresses.clone(),
        target.and_then(|target| target.uid.clone()),
    )
}

fn is_different(old: &EndpointSlice, new: &EndpointSlice) -> bool {
    let annotations = |of: &EndpointSlice| of.metadata.annotations.clone().unwrap_or_default();
    old.metadata.labels != new.metadata.labels
        || annotations(old) != annotations(new)
        || old.ports.clone().unwrap_or_default() != new.ports.clone().unwrap_or_default()
        || old.endpoints.clone().unwrap_or_default() != new.endpoints.clone().unwrap_or_default()
}
