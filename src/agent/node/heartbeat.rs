//! The node's sign of life: a Lease often, its status when it changes or
//! every few minutes.

use std::sync::Arc;
use std::time::Duration;

use api::request::PatchType;
use api::status::Status;
use base::Clock;
use client::Client;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{Node, NodeStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use oci::Images;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::machine::Machine;
use super::object::{self, Condition};
use crate::config::AgentConfig;
use crate::csi;
use crate::devices::Amounts;
use crate::eviction::Pressure;
use crate::paths::Paths;

const NAMESPACE: &str = "kube-node-lease";
const LEASE_SECONDS: i32 = 40;

/// Beats until it is dropped.
pub struct Heart {
    /// Settings.
    pub config: AgentConfig,
    /// What the machine is.
    pub machine: Machine,
    /// The API.
    pub client: Client,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// For the list of images in the status.
    pub images: Images,
    /// How many devices plugins provide.
    pub devices: watch::Receiver<Amounts>,
    /// What the node is short of.
    pub pressure: watch::Receiver<Pressure>,
    /// Why the node is not ready; `None` when it is.
    pub trouble: watch::Receiver<Option<String>>,
}

impl Heart {
    /// Beats. The node is registered.
    pub async fn run(mut self) {
        let mut sent: Option<(NodeStatus, Duration)> = None;
        let mut leased = false;
        let mut beaten = self.clock.monotonic();
        let mut timer = tokio::time::interval(self.config.timing.heartbeat);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = timer.tick() => {
                    match self.renew(leased).await {
                        Ok(()) => leased = true,
                        Err(status) => {
                            tracing::debug!(%status, "the lease was not renewed");
                            leased = false;
                        }
                    }
                    // A node that was silent may have been marked as lost meanwhile, and one that was
                    // deleted has no status: it says anew how it is, though nothing has changed here.
                    let now = self.clock.monotonic();
                    if !leased || now.saturating_sub(beaten) > self.config.timing.heartbeat * 3 / 2 {
                        sent = None;
                    }
                    beaten = now;
                }
                // Its sender goes with the node, as the other's does.
                Ok(()) = self.pressure.changed() => {}
                Ok(()) = self.devices.changed() => {}
                changed = self.trouble.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
            self.report(&mut sent).await;
        }
    }

    async fn renew(&self, leased: bool) -> Result<(), Status> {
        let name = &self.config.node_name;
        let now = MicroTime(self.clock.now());
        if leased {
            let patch = json!({"spec": {"renewTime": now}});
            return self
                .client
                .patch::<Lease>(NAMESPACE, name, PatchType::Merge, &patch, "")
                .await
                .map(drop);
        }
        let spec = LeaseSpec {
            holder_identity: Some(name.clone()),
            lease_duration_seconds: Some(LEASE_SECONDS),
            renew_time: Some(now),
            ..LeaseSpec::default()
        };
        if self.client.find::<Lease>(NAMESPACE, name).await?.is_some() {
            let patch = json!({"spec": spec});
            return self
                .client
                .patch::<Lease>(NAMESPACE, name, PatchType::Merge, &patch, "")
                .await
                .map(drop);
        }
        let Some(node) = self.client.find::<Node>("", name).await? else {
            self.register_again().await;
            return Err(Status::not_found("", "nodes", name));
        };
        let owner = OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Node".to_owned(),
            name: name.clone(),
            uid: node.metadata.uid.unwrap_or_default(),
            ..OwnerReference::default()
        };
        let metadata = ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(NAMESPACE.to_owned()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        };
        self.client
            .create(&Lease {
                metadata,
                spec: Some(spec),
            })
            .await
            .map(drop)
    }

    /// Writes the status if it says something new, or has not been written for long.
    async fn report(&mut self, sent: &mut Option<(NodeStatus, Duration)>) {
        let trouble = self.trouble.borrow_and_update().clone();
        let devices = self.devices.borrow_and_update().clone();
        let images = self.images.list().await.unwrap_or_default();
        let before = sent
            .as_ref()
            .and_then(|(status, _)| status.conditions.clone())
            .unwrap_or_default();
        let at = Condition {
            pressure: *self.pressure.borrow_and_update(),
            devices: &devices,
            trouble: trouble.as_deref(),
            now: self.clock.now(),
            before: &before,
        };
        let mut status = object::status(&self.config, &self.machine, &images, &at);
        status.volumes_in_use = Some(csi::in_use(&Paths::new(&self.config.data_dir)));
        let now = self.clock.monotonic();
        let fresh = |(old, when): &(NodeStatus, Duration)| {
            object::same(old, &status) && now.saturating_sub(*when) < self.config.timing.node_report
        };
        if sent.as_ref().is_some_and(fresh) {
            return;
        }
        match self.send(&status).await {
            Ok(()) => *sent = Some((status, now)),
            Err(error) => {
                tracing::debug!(status = %error, "the node's status was not written");
                *sent = None;
                if error.is_not_found() {
                    self.register_again().await;
                }
            }
        }
    }

    async fn send(&self, status: &NodeStatus) -> Result<(), Status> {
        let mut patch = json!({"status": status});
        // Addresses merge by type, of which a node of both families has two alike:
        // the list is to be what it says.
        if let Some(addresses) = patch
            .pointer_mut("/status/addresses")
            .and_then(Value::as_array_mut)
        {
            addresses.push(json!({"$patch": "replace"}));
        }
        let name = &self.config.node_name;
        self.client
            .patch::<Node>("", name, PatchType::Strategic, &patch, "status")
            .await
            .map(drop)
    }

    /// Somebody deleted the Node, but the machine is here and runs pods: it
    /// comes back, with the range that its network is made for. (The Lease goes
    /// with its owner, so the next beat notices.)
    async fn register_again(&self) {
        let node = object::node(&self.config, &self.machine);
        if let Err(status) = self.client.create(&node).await {
            tracing::info!(%status, "the node is not registered");
        }
    }
}
