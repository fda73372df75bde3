//! What a reconciler may look at: the cluster as the caches show it.

use std::collections::BTreeMap;

use api::request::ResourceRef;
use api::tokens;
use base::Tasks;
use client::{Cache, Client, Object, Selectors};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod,
    ReplicationController, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::{CSIDriver, StorageClass, VolumeAttachment, VolumeAttributesClass};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference};

use crate::scales::Scales;
use crate::snapshots::SnapshotCaches;

/// The cluster, as far as controllers look at it.
#[derive(Clone)]
pub struct View {
    /// Pods.
    pub pods: Cache<Pod>,
    /// ReplicaSets.
    pub replica_sets: Cache<ReplicaSet>,
    /// ReplicationControllers.
    pub replication_controllers: Cache<ReplicationController>,
    /// Deployments.
    pub deployments: Cache<Deployment>,
    /// Services.
    pub services: Cache<Service>,
    /// EndpointSlices.
    pub slices: Cache<EndpointSlice>,
    /// Endpoints.
    pub endpoints: Cache<Endpoints>,
    /// Namespaces.
    pub namespaces: Cache<Namespace>,
    /// Nodes.
    pub nodes: Cache<Node>,
    /// Leases of `kube-node-lease`.
    pub leases: Cache<Lease>,
    /// ServiceAccounts.
    pub service_accounts: Cache<ServiceAccount>,
    /// PodDisruptionBudgets.
    pub budgets: Cache<PodDisruptionBudget>,
    /// The ConfigMaps named `kube-root-ca.crt`, and no others.
    pub root_cas: Cache<ConfigMap>,
    /// The Secrets of bootstrap tokens.
    pub bootstrap_tokens: Cache<Secret>,
    /// The Secrets that keep a token of a ServiceAccount.
    pub account_secrets: Cache<Secret>,
    /// The ConfigMap that says since when the use of such tokens is noted.
    pub token_trackings: Cache<ConfigMap>,
    /// The ConfigMap `cluster-info` of `kube-public`.
    pub cluster_infos: Cache<ConfigMap>,
    /// CertificateSigningRequests.
    pub requests: Cache<CertificateSigningRequest>,
    /// PersistentVolumeClaims.
    pub claims: Cache<PersistentVolumeClaim>,
    /// PersistentVolumes.
    pub volumes: Cache<PersistentVolume>,
    /// StorageClasses.
    pub classes: Cache<StorageClass>,
    /// VolumeAttributesClasses.
    pub attributes_classes: Cache<VolumeAttributesClass>,
    /// CSIDrivers.
    pub drivers: Cache<CSIDriver>,
    /// VolumeAttachments.
    pub attachments: Cache<VolumeAttachment>,
    /// What is known of snapshots of volumes; empty where nobody brought their kinds.
    pub snapshots: SnapshotCaches,
    /// What owners of pods want, of kinds that no cache here holds.
    pub scales: Scales,
}

impl View {
    /// The caches, filled and followed by tasks of `tasks`.
    pub fn start(client: &Client, tasks: &Tasks) -> Self {
        let all = Selectors::all;
        Self {
            pods: Cache::start(client, all(), tasks),
            replica_sets: Cache::start(client, all(), tasks),
            replication_controllers: Cache::start(client, all(), tasks),
            deployments: Cache::start(client, all(), tasks),
            services: Cache::start(client, all(), tasks),
            slices: Cache::start(client, all(), tasks),
            endpoints: Cache::start(client, all(), tasks),
            namespaces: Cache::start(client, all(), tasks),
            nodes: Cache::start(client, all(), tasks),
            leases: Cache::start(client, Selectors::namespace("kube-node-lease"), tasks),
            service_accounts: Cache::start(client, all(), tasks),
            budgets: Cache::start(client, all(), tasks),
            root_cas: Cache::start(client, all().fields("metadata.name=kube-root-ca.crt"), tasks),
            bootstrap_tokens: Cache::start(
                client,
                Selectors::namespace(tokens::BOOTSTRAP_NAMESPACE)
                    .fields(format!("type={}", tokens::BOOTSTRAP_TYPE)),
                tasks,
            ),
            account_secrets: Cache::start(
                client,
                all().fields(format!("type={}", tokens::ACCOUNT_TYPE)),
                tasks,
            ),
            token_trackings: Cache::start(
                client,
                Selectors::namespace(tokens::TRACKING.0)
                    .fields(format!("metadata.name={}", tokens::TRACKING.1)),
                tasks,
            ),
            cluster_infos: Cache::start(
                client,
                Selectors::namespace(tokens::INFO.0).fields(format!("metadata.name={}", tokens::INFO.1)),
                tasks,
            ),
            requests: Cache::start(client, all(), tasks),
            claims: Cache::start(client, all(), tasks),
            volumes: Cache::start(client, all(), tasks),
            classes: Cache::start(client, all(), tasks),
            attributes_classes: Cache::start(client, all(), tasks),
            drivers: Cache::start(client, all(), tasks),
            attachments: Cache::start(client, all(), tasks),
            snapshots: SnapshotCaches::start(client, tasks),
            scales: Scales::start(client, tasks),
        }
    }

    /// An empty cluster, to be filled by hand.
    pub fn empty() -> Self {
        Self {
            pods: Cache::fixed([]),
            replica_sets: Cache::fixed([]),
            replication_controllers: Cache::fixed([]),
            deployments: Cache::fixed([]),
            services: Cache::fixed([]),
            slices: Cache::fixed([]),
            endpoints: Cache::fixed([]),
            namespaces: Cache::fixed([]),
            nodes: Cache::fixed([]),
            leases: Cache::fixed([]),
            service_accounts: Cache::fixed([]),
            budgets: Cache::fixed([]),
            root_cas: Cache::fixed([]),
            bootstrap_tokens: Cache::fixed([]),
            account_secrets: Cache::fixed([]),
            token_trackings: Cache::fixed([]),
            cluster_infos: Cache::fixed([]),
            requests: Cache::fixed([]),
            claims: Cache::fixed([]),
            volumes: Cache::fixed([]),
            classes: Cache::fixed([]),
            attributes_classes: Cache::fixed([]),
            drivers: Cache::fixed([]),
            attachments: Cache::fixed([]),
            snapshots: SnapshotCaches::empty(),
            scales: Scales::fixed([]),
        }
    }

    /// Waits until every cache has its first list.
    pub async fn synced(&self) {
        self.pods.synced().await;
        self.replica_sets.synced().await;
        self.replication_controllers.synced().await;
        self.deployments.synced().await;
        self.services.synced().await;
        self.slices.synced().await;
        self.endpoints.synced().await;
        self.namespaces.synced().await;
        self.nodes.synced().await;
        self.leases.synced().await;
        self.service_accounts.synced().await;
        self.budgets.synced().await;
        self.root_cas.synced().await;
        self.bootstrap_tokens.synced().await;
        self.account_secrets.synced().await;
        self.token_trackings.synced().await;
        self.cluster_infos.synced().await;
        self.requests.synced().await;
        self.claims.synced().await;
        self.volumes.synced().await;
        self.classes.synced().await;
        self.attributes_classes.synced().await;
        self.drivers.synced().await;
        self.attachments.synced().await;
    }

    /// Waits until the cache of `resource` shows `revision`; at once when nothing caches it.
    pub async fn caught_up(&self, resource: &ResourceRef, revision: u64) {
        match resource.plural.as_str() {
            "pods" => self.pods.wait_revision(revision).await,
            "replicasets" => self.replica_sets.wait_revision(revision).await,
            "replicationcontrollers" => self.replication_controllers.wait_revision(revision).await,
            "deployments" => self.deployments.wait_revision(revision).await,
            "services" => self.services.wait_revision(revision).await,
            "endpointslices" => self.slices.wait_revision(revision).await,
            "endpoints" => self.endpoints.wait_revision(revision).await,
            "namespaces" => self.namespaces.wait_revision(revision).await,
            "nodes" => self.nodes.wait_revision(revision).await,
            "leases" => self.leases.wait_revision(revision).await,
            "serviceaccounts" => self.service_accounts.wait_revision(revision).await,
            "poddisruptionbudgets" => self.budgets.wait_revision(revision).await,
            "configmaps" => self.root_cas.wait_revision(revision).await,
            "certificatesigningrequests" => self.requests.wait_revision(revision).await,
            "persistentvolumeclaims" => self.claims.wait_revision(revision).await,
            "persistentvolumes" => self.volumes.wait_revision(revision).await,
            "storageclasses" => self.classes.wait_revision(revision).await,
            "volumeattributesclasses" => self.attributes_classes.wait_revision(revision).await,
            "volumeattachments" => self.attachments.wait_revision(revision).await,
            "volumesnapshots" => self.snapshots.snapshots.wait_revision(revision).await,
            "volumesnapshotcontents" => self.snapshots.contents.wait_revision(revision).await,
            _ => {}
        }
    }
}

/// Whether a selector picks these labels; a selector that cannot be parsed picks nothing.
pub fn selects(selector: &LabelSelector, labels: Option<&BTreeMap<String, String>>) -> bool {
    let empty = BTreeMap::new();
    api::selector::LabelSelector::from_typed(Some(selector)).matches(labels.unwrap_or(&empty))
}

/// The owner that manages an object.
pub fn controller_of<T: Object>(object: &T) -> Option<&OwnerReference> {
    object
        .metadata()
        .owner_references
        .iter()
        .flatten()
        .find(|owner| owner.controller == Some(true))
}

/// An owner reference that says `owner` manages the object it stands in.
pub fn managed_by<T: Object>(owner: &T) -> OwnerReference {
    OwnerReference {
        api_version: T::API_VERSION.to_owned(),
        kind: T::KIND.to_owned(),
        name: owner.metadata().name.clone().unwrap_or_default(),
        uid: owner.metadata().uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Whether deletion of the object has begun.
pub fn is_going<T: Object>(object: &T) -> bool {
    object.metadata().deletion_timestamp.is_some()
}
