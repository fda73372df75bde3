//! What containers may use of the machine, and what they do use.

use super::Containers;
use super::places::{io, pod_cgroup};
use crate::spec::{OciError, Resources, Usage};

impl Containers {
    /// Changes what a running container, and its pod as a whole, may use.
    ///
    /// # Errors
    /// The kernel's, such as for less memory than is in use.
    pub fn resize(
        &self,
        pod_uid: &str,
        pod: &Resources,
        id: &str,
        container: &Resources,
    ) -> Result<(), OciError> {
        let whole = pod_cgroup(&self.config.instance_id, pod_uid);
        // The pod's bounds hold its containers': they go up before and down after them.
        let _ = sys::cgroup::limit(&whole, &limits(pod));
        sys::cgroup::limit(&format!("{whole}/{id}"), &limits(container))
            .and_then(|()| sys::cgroup::limit(&whole, &limits(pod)))
            .map_err(io("changing the limits"))
    }

    /// Has a running container run on these processors (`0-2,7`) from now on.
    ///
    /// # Errors
    /// The kernel's, such as for a processor that there is not.
    pub fn pin(&self, pod_uid: &str, id: &str, cpus: &str) -> Result<(), OciError> {
        let group = format!("{}/{id}", pod_cgroup(&self.config.instance_id, pod_uid));
        sys::cgroup::pin(&group, cpus).map_err(io("choosing processors"))
    }

    /// What a container uses at this moment.
    ///
    /// # Errors
    /// [`OciError::NotFound`].
    pub async fn usage(&self, id: &str) -> Result<Usage, OciError> {
        let dir = self.dir_of(id)?;
        let uid = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let cgroup = format!("{}/{id}", pod_cgroup(&self.config.instance_id, &uid));
        let usage = sys::cgroup::usage(&cgroup);
        Ok(Usage {
            cpu_ns: usage.cpu_ns,
            memory_bytes: usage.memory_bytes,
            pids: usage.pids,
        })
    }
}

pub(super) fn limits(of: &Resources) -> sys::cgroup::Limits {
    sys::cgroup::Limits {
        cpu_shares: Some(of.cpu_shares()),
        cpu_millis: of.cpu_limit_millis,
        memory_bytes: of.memory_limit_bytes,
        pids: of.pids_limit,
    }
}
