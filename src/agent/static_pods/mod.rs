//! Pods that a folder of this machine asks for, whatever any server says (the kubelet's `staticPodPath`).
//!
//! ```text
//! folder ─▶ file: a pod under an id of its own ─▶ the manager's workers, like any other pod
//!                                              └▶ mirror: a pod in the API that stands for it
//! ```
//! The id is made from the file's content: a file that changes asks for another pod, which begins when the
//! one before has ended.

pub mod file;
pub mod folder;
pub mod mirror;
pub mod mirrored;

use k8s_openapi::api::core::v1::Pod;

use crate::pods::spec::annotation;

/// Where a pod came from: `file` for those of a folder.
const SOURCE: &str = "kubernetes.io/config.source";
/// The id of a static pod.
const HASH: &str = "kubernetes.io/config.hash";
/// When it was first seen.
const SEEN: &str = "kubernetes.io/config.seen";
/// On mirror pods: the id of what they stand for.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// Whether a pod comes from a folder of this machine.
pub fn is_static(pod: &Pod) -> bool {
    annotation(pod, SOURCE) == Some("file") && !is_mirror(pod)
}

/// Whether a pod of the API only stands for a static one.
pub fn is_mirror(pod: &Pod) -> bool {
    annotation(pod, MIRROR).is_some()
}
