//! What ReplicaSets and ReplicationControllers have in common.

use std::collections::BTreeMap;

use client::{Cache, Object};
use k8s_openapi::api::apps::v1::ReplicaSetStatus;
use k8s_openapi::api::core::v1::PodTemplateSpec;

use crate::view::View;

/// A kind whose objects each keep a number of equal pods.
pub trait Replicating: Object {
    /// The controller's name.
    const CONTROLLER: &'static str;
    /// Its queue's.
    const QUEUE: &'static str;

    /// Where its objects are.
    fn cache(view: &View) -> &Cache<Self>;

    /// What an object wants.
    fn wants(&self) -> Wants<'_>;

    /// Whether an object selects what has these labels.
    fn picks(&self, labels: Option<&Labels>) -> bool;

    /// What its status says, in the words of ReplicaSets.
    fn status(&self) -> ReplicaSetStatus;

    /// What of a status this kind has words for.
    fn told(status: ReplicaSetStatus) -> ReplicaSetStatus;
}

/// Labels, by their names.
pub type Labels = BTreeMap<String, String>;

/// How many pods, of what sort, and for how long each must be ready to count.
pub struct Wants<'a> {
    /// As many as that; one where nobody says.
    pub replicas: Option<i32>,
    /// From this.
    pub template: Option<&'a PodTemplateSpec>,
    /// Ready for that long.
    pub min_ready_seconds: Option<i32>,
}
