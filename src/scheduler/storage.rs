//! Claims and volumes as the scheduler counts them: which nodes they leave to a pod, and what has to be
//! bound or made once a node is chosen.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use api::storage;
use client::Cache;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;

use crate::drivers::Drivers;
use crate::refusal::Refusal;

/// Kubernetes' reasons.
const NO_VOLUME: &str = "node(s) didn't find available persistent volumes to bind";
const ELSEWHERE: &str = "node(s) didn't match PersistentVolume's node affinity";
const VOLUME_GONE: &str = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";
const NO_ROOM: &str = "node(s) did not have enough free storage";
/// The provisioner that makes nothing.
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

/// What the scheduler knows of storage.
#[derive(Clone)]
pub struct Storage {
    /// PersistentVolumeClaims.
    pub claims: Cache<PersistentVolumeClaim>,
    /// PersistentVolumes.
    pub volumes: Cache<PersistentVolume>,
    /// StorageClasses.
    pub classes: Cache<StorageClass>,
    /// What CSI drivers say of nodes and of their room.
    pub drivers: Drivers,
    /// Volumes given away that do not say so yet, with the UID of their claim.
    promised: HashMap<String, String>,
}

impl Default for Storage {
    fn default() -> Self {
        Self::new(
            Cache::fixed([]),
            Cache::fixed([]),
            Cache::fixed([]),
            Drivers::default(),
        )
    }
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Storage")
            .field("promised", &self.promised)
            .finish_non_exhaustive()
    }
}

/// What has to happen before a pod can be bound to its node.
#[derive(Clone, Debug)]
pub enum Need {
    /// A free volume is to be this claim's.
    Volume(Arc<PersistentVolumeClaim>, Arc<PersistentVolume>),
    /// A volume is to be made for this claim, where that node can reach it.
    Provision(Arc<PersistentVolumeClaim>),
}

impl Need {
    /// The claim.
    pub fn claim(&self) -> &Arc<PersistentVolumeClaim> {
        match self {
            Need::Volume(claim, _) | Need::Provision(claim) => claim,
        }
    }
}

fn text(part: Option<&String>) -> &str {
    part.map(String::as_str).unwrap_or_default()
}

impl Storage {
    /// Over these caches.
    pub fn new(
        claims: Cache<PersistentVolumeClaim>,
        volumes: Cache<PersistentVolume>,
        classes: Cache<StorageClass>,
        drivers: Drivers,
    ) -> Self {
        let promised = HashMap::new();
        Self {
            claims,
            volumes,
            classes,
            drivers,
            promised,
        }
    }

    /// Why no node at all can run the pod.
    pub fn refusal(&self, pod: &Pod) -> Option<Refusal> {
        let mut immediate = false;
        for (name, own) in storage::claims_of(pod) {
            match self.usable(pod, &name, own) {
                Ok(claim) => immediate |= !storage::is_bound(&claim) && !self.is_delayed(&claim),
                Err(why) => return Some(why),
            }
        }
        immediate.then(|| "pod has unbound immediate PersistentVolumeClaims".to_owned())
    }

    fn usable(&self, pod: &Pod, name: &str, own: bool) -> Result<Arc<PersistentVolumeClaim>, String> {
        let claim = self.claims.get(text(pod.metadata.namespace.as_ref()), name);
        let missing = || match own {
            true => format!(
                "waiting for ephemeral volume controller to create the persistentvolumeclaim {name:?}"
            ),
            false => format!("persistentvolumeclaim {name:?} not found"),
        };
        let claim = claim.ok_or_else(missing)?;
        if storage::claim_phase(&claim) == "Lost" {
            let volume = storage::volume_name(&claim);
            return Err(format!(
                "persistentvolumeclaim {name:?} bound to non-existent persistentvolume {volume:?}"
            ));
        }
        if claim.metadata.deletion_timestamp.is_some() {
            return Err(format!("persistentvolumeclaim {name:?} is being deleted"));
        }
        if own {
            storage::is_own(pod, &claim)?;
        }
        Ok(claim)
    }

    fn class(&self, claim: &PersistentVolumeClaim) -> Option<Arc<StorageClass>> {
        self.classes.get("", storage::class_of_claim(claim)?)
    }

    fn is_delayed(&self, claim: &PersistentVolumeClaim) -> bool {
        self.class(claim)
            .is_some_and(|class| storage::waits_for_consumer(&class))
    }

    /// What is needed for the pod to run on a node.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn needs(&self, pod: &Pod, node: &Node) -> Result<Vec<Need>, Vec<Refusal>> {
        let mut needs = Vec::new();
        let mut refusals = Vec::new();
        for (name, own) in storage::claims_of(pod) {
            let claim = self.usable(pod, &name, own).map_err(|why| vec![why])?;
            match self.need(&claim, node, &needs) {
                Ok(need) => needs.extend(need),
                Err(why) if refusals.iter().any(|known| known == why) => {}
                Err(why) => refusals.push(why.to_owned()),
            }
        }
        if refusals.is_empty() {
            Ok(needs)
        } else {
            Err(refusals)
        }
    }

    fn need(
        &self,
        claim: &Arc<PersistentVolumeClaim>,
        node: &Node,
        before: &[Need],
    ) -> Result<Option<Need>, &'static str> {
        if storage::is_bound(claim) {
            let volume = self.volumes.get("", storage::volume_name(claim));
            return match volume {
                None => Err(VOLUME_GONE),
                Some(volume) if storage::reaches(&volume, node) => Ok(None),
                Some(_) => Err(ELSEWHERE),
            };
        }
        let selected = storage::note(&claim.metadata, storage::SELECTED_NODE);
        if !selected.is_empty() {
            let here = selected == text(node.metadata.name.as_ref());
            return here
                .then(|| Some(Need::Provision(claim.clone())))
                .ok_or(NO_VOLUME);
        }
        let volumes = self.volumes.list();
        let taken = |volume: &PersistentVolume| self.is_taken(volume, claim, before);
        if let Some(volume) = storage::best_match(claim, &volumes, Some(node), taken) {
            return Ok(Some(Need::Volume(claim.clone(), volume.clone())));
        }
        let class = self.class(claim).ok_or(NO_VOLUME)?;
        if class.provisioner == NO_PROVISIONER || !storage::allows(&class, node) {
            return Err(NO_VOLUME);
        }
        match self.drivers.have_room(&class, claim, node) {
            true => Ok(Some(Need::Provision(claim.clone()))),
            false => Err(NO_ROOM),
        }
    }

    fn is_taken(&self, volume: &PersistentVolume, claim: &PersistentVolumeClaim, before: &[Need]) -> bool {
        let name = text(volume.metadata.name.as_ref());
        let promised = self.promised.get(name);
        promised.is_some_and(|uid| uid != text(claim.metadata.uid.as_ref()))
            || before.iter().any(
                |need| matches!(need, Need::Volume(_, other) if other.metadata.name == volume.metadata.name),
            )
    }

    /// Counts volumes as given away before they say so.
    pub fn promise(&mut self, needs: &[Need]) {
        for need in needs {
            if let Need::Volume(claim, volume) = need {
                let uid = text(claim.metadata.uid.as_ref()).to_owned();
                self.promised
                    .insert(text(volume.metadata.name.as_ref()).to_owned(), uid);
            }
        }
    }

    /// A volume says by now whose it is, or nobody will get it.
    pub fn settle(&mut self, volume: &str) {
        self.promised.remove(volume);
    }

    /// Gives back what was promised to a pod that found no place after all.
    pub fn take_back(&mut self, pod: &Pod) {
        let namespace = text(pod.metadata.namespace.as_ref());
        for (name, _) in storage::claims_of(pod) {
            if let Some(uid) = self
                .claims
                .get(namespace, &name)
                .and_then(|c| c.metadata.uid.clone())
            {
                self.promised.retain(|_, promised| *promised != uid);
            }
        }
    }
}

#[cfg(test)]
#[path = "storage_tests.rs"]
mod tests;
