//! Generic ephemeral volumes: a claim for each, which goes with its pod.

use api::storage;
use client::EventType;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::plan::{Key, Plan, Write};
use crate::view::{View, is_going, managed_by};
use crate::{Reconciler, pods};

/// Makes pods' own claims; keyed by pod.
pub(super) struct EphemeralVolumes;

impl Reconciler for EphemeralVolumes {
    const NAME: &'static str = "ephemeral_volume";

    fn reconcile(&self, key: &Key, view: &View, _now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        let Some(pod) = view.pods.get(&key.namespace, &key.name) else {
            return plan;
        };
        if is_going(pod.as_ref()) || pods::is_finished(&pod) {
            return plan;
        }
        for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
            let Some((name, true)) = storage::claim_of(&pod, volume) else {
                continue;
            };
            match view.claims.get(&key.namespace, &name) {
                None => plan.write(Write::create(&claim(&pod, volume, name))),
                Some(claim) => {
                    if let Err(why) = storage::is_own(&pod, &claim) {
                        let text = format!("ephemeral volume {}: {why}", volume.name);
                        plan.tell(pod.as_ref(), EventType::Warning, "FailedBinding", text);
                    }
                }
            }
        }
        plan
    }
}

fn claim(pod: &Pod, volume: &Volume, name: String) -> PersistentVolumeClaim {
    let template = volume.ephemeral.as_ref();
    let template = template.and_then(|source| source.volume_claim_template.clone());
    let meta = template.as_ref().and_then(|template| template.metadata.clone());
    let meta = meta.unwrap_or_default();
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: pod.metadata.namespace.clone(),
            labels: meta.labels,
            annotations: meta.annotations,
            owner_references: Some(vec![managed_by(pod)]),
            ..ObjectMeta::default()
        },
        spec: template.map(|template| template.spec),
        ..PersistentVolumeClaim::default()
    }
}
