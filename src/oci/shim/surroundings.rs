//! What the shim works with.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use super::users::Users;
use crate::spec::PodSpec;

/// What the shim works with.
pub(crate) struct Surroundings {
    /// The pod's folder.
    pub(crate) dir: PathBuf,
    /// Where its containers' file systems are put together.
    pub(crate) stage: PathBuf,
    /// The pod's own users, if it has some.
    pub(crate) users: Option<Users>,
    /// The mount namespace of the agent that started it.
    pub(crate) machine: OwnedFd,
    /// The pod's cgroup.
    pub(crate) cgroup: String,
    /// The pod.
    pub(crate) pod: PodSpec,
    /// The capabilities that can be handed on, a bit for each.
    pub(crate) capabilities: u64,
    /// The lowest OOM score that its processes can be given.
    pub(crate) oom_score_min: i32,
    /// The first process of the PID namespace that the pod's containers share, if they share one.
    pub(crate) pid_holder: Option<i32>,
}

/// What the pod's containers share as `/dev/shm`, on the stage.
pub(crate) const SHM: &str = "shm";
