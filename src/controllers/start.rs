//! Which controllers run, and what each listens to.

use std::sync::Arc;
use std::time::Duration;

use api::cidr::Cidr;
use base::{Clock, Tasks};
use client::{Client, QueueMetrics};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::ReplicationController;
use tokio::sync::watch;

use crate::harness::{Harness, Surroundings};
use crate::plan::Key;
use crate::replicaset::{Replicas, keys_for_pod};
use crate::replicating::Replicating;
use crate::view::View;
use crate::{
    bootstrap_tokens, csr_cleaner, deployment, disruption, endpoints, endpointslice, endpointslice_mirroring,
    garbage, legacy_tokens, load_balancer, namespace, node_ipam, node_lifecycle, pod_garbage, root_ca,
    service_account, snapshots, taint_eviction, volumes,
};

/// What the controllers need to be told.
#[derive(Clone)]
pub struct Settings {
    /// The cluster's pod ranges, each with the prefix length of a node's share.
    pub node_shares: Vec<(Cidr, u8)>,
    /// Silence after which a node counts as lost.
    pub node_grace: Duration,
    /// How fast lost nodes are emptied.
    pub eviction_pace: node_lifecycle::EvictionPace,
    /// Where addresses of load balancers come from.
    pub balancer_pools: Vec<load_balancer::AddressPool>,
    /// The certificates, in PEM, by which pods know the API server, at the moment.
    pub root_ca: watch::Receiver<String>,
    /// Where work queues come from.
    pub queues: QueueMetrics,
}

/// Starts all controllers as tasks of `tasks`; `view` is shared with whoever else needs it.
pub fn start(client: Client, view: View, clock: Arc<dyn Clock>, tasks: &Tasks, settings: Settings) {
    let s = Surroundings {
        client,
        view: view.clone(),
        clock,
        tasks: tasks.clone(),
        queues: settings.queues.clone(),
    };

    Harness::start(deployment::Deployments, 2, &s)
        .on_each(view.deployments.changes())
        .on(view.replica_sets.changes(), deployment::keys_for_set)
        .on(view.pods.changes(), deployment::keys_for_pod);
    replicating::<ReplicaSet>(&s);
    replicating::<ReplicationController>(&s);
    Harness::start(endpointslice::EndpointSlices, 2, &s)
        .on_each(view.services.changes())
        .on(view.slices.changes(), endpointslice::keys_for_slice)
        .on(view.pods.changes(), endpointslice::keys_for_pod);
    Harness::start(endpointslice_mirroring::MirroredSlices, 1, &s)
        .on_each(view.endpoints.changes())
        .on_each(view.services.changes())
        .on(view.slices.changes(), endpointslice::keys_for_slice);
    Harness::start(endpoints::EndpointsOfServices, 2, &s)
        .on_each(view.services.changes())
        .on_each(view.endpoints.changes())
        .on(view.pods.changes(), endpointslice::keys_for_pod);
    Harness::start(
        load_balancer::LoadBalancers {
            pools: settings.balancer_pools,
        },
        1,
        &s,
    )
    .on(view.services.changes(), load_balancer::keys_for_service);
    Harness::start(service_account::DefaultAccount, 1, &s)
        .on_each(view.namespaces.changes())
        .on(view.service_accounts.changes(), |account, _| {
            namespace_key(&account.metadata.namespace)
        });
    Harness::start(
        root_ca::RootCa {
            certificate: settings.root_ca.clone(),
        },
        1,
        &s,
    )
    .on_each(view.namespaces.changes())
    .on(view.root_cas.changes(), |map, _| {
        namespace_key(&map.metadata.namespace)
    })
    .on_other(settings.root_ca, |view| {
        let namespaces = view.namespaces.list();
        namespaces.iter().map(|namespace| Key::of(&**namespace)).collect()
    });
    Harness::start(
        node_ipam::NodeRanges {
            shares: settings.node_shares,
        },
        1,
        &s,
    )
    .on_each(view.nodes.changes());
    let health = node_lifecycle::NodeHealth::new(settings.node_grace, settings.eviction_pace);
    Harness::start(health, 1, &s)
        .on_each(view.nodes.changes())
        .on(view.leases.changes(), |lease, _| {
            vec![Key::new("", lease.metadata.name.clone().unwrap_or_default())]
        });
    Harness::start(taint_eviction::TaintEviction::default(), 1, &s)
        .on_each(view.pods.changes())
        .on(view.nodes.changes(), taint_eviction::keys_for_node);
    Harness::start(pod_garbage::OrphanedPods::default(), 1, &s)
        .on_each(view.pods.changes())
        .on(view.nodes.changes(), taint_eviction::keys_for_node);
    Harness::start(csr_cleaner::OldRequests, 1, &s).on_each(view.requests.changes());
    Harness::start(bootstrap_tokens::Cleaner, 1, &s).on_each(view.bootstrap_tokens.changes());
    Harness::start(bootstrap_tokens::Signer, 1, &s)
        .on(view.cluster_infos.changes(), |_, _| bootstrap_tokens::key())
        .on(view.bootstrap_tokens.changes(), |_, _| bootstrap_tokens::key());
    Harness::start(legacy_tokens::UnusedTokens, 1, &s).at_start(legacy_tokens::key());
    Harness::start(disruption::Budgets, 1, &s)
        .on_each(view.budgets.changes())
        .on(view.pods.changes(), disruption::keys_for_pod);
    volumes::start(&s);
    snapshots::start(&s);
    namespace::start(&s);
    garbage::start(&s);
}

fn replicating<T: Replicating>(s: &Surroundings) {
    Harness::start(Replicas::<T>::default(), 2, s)
        .on_each(T::cache(&s.view).changes())
        .on(s.view.pods.changes(), keys_for_pod::<T>);
}

fn namespace_key(namespace: &Option<String>) -> Vec<Key> {
    namespace.iter().map(|name| Key::new("", name)).collect()
}
