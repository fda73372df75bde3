//! What a pod's containers have in common: the shim that holds them, and the control group.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, warn};

use super::Containers;
use super::places::{io, pod_cgroup, pod_dir, read_exit};
use super::resources::limits;
use super::talk::{ask, bind};
use crate::apparmor::{self, Profile};
use crate::images::Images;
use crate::protocol::Ask;
use crate::spec::{ContainerSpec, ContainerState, ContainersConfig, Exit, Found, OciError, PodSpec};

/// How long a shim may take to answer its first question.
const SHIM_START_MAX: Duration = Duration::from_secs(20);

impl Containers {
    /// Starts the pod's shim with its cgroup and namespaces, or finds it running.
    ///
    /// # Errors
    /// When the shim cannot be started.
    pub async fn open_pod(&self, pod: &PodSpec) -> Result<(), OciError> {
        let dir = pod_dir(&self.config, &pod.uid)?;
        match ask(&dir, &Ask::Hello).await {
            Ok(_) => return Ok(()),
            Err(error @ OciError::Io { .. }) => return Err(error),
            Err(_) => {}
        }
        self.limit(pod).map_err(io("limiting the pod's control group"))?;
        // A shim that died may have left processes, with nobody to watch or reap them.
        self.end_unwatched(&pod.uid);
        fs::create_dir_all(&dir).map_err(io("making the pod's folder"))?;
        let text = serde_json::to_vec(pod).map_err(|error| OciError::Create(error.to_string()))?;
        fs::write(dir.join("pod.json"), text).map_err(io("writing the pod's description"))?;
        let log = fs::File::create(dir.join("shim.log")).map_err(io("making the shim's log"))?;
        let socket = bind(&dir.join("shim.sock")).map_err(io("making the shim's socket"))?;
        let shielded = self.program.as_deref().map(sys::beneath::path_of);
        let program = shielded.as_ref().unwrap_or(&self.config.program);
        let mut child = tokio::process::Command::new(program)
            .arg0(&self.config.program)
            .arg("shim")
            .arg(&dir)
            .arg(pod_cgroup(&self.config.instance_id, &pod.uid))
            .env_clear()
            .stdin(OwnedFd::from(socket))
            .stdout(log.try_clone().map_err(io("opening the shim's log"))?)
            .stderr(log)
            .spawn()
            .map_err(io("starting the shim"))?;
        let ready = tokio::time::timeout(SHIM_START_MAX, async {
            if ask(&dir, &Ask::Hello).await.is_ok() {
                return Ok(());
            }
            // It has let go of its socket: it is about to end, if it has not ended yet.
            let status = child.wait().await;
            let said = fs::read_to_string(dir.join("shim.log")).unwrap_or_default();
            let said = said.trim();
            Err(OciError::Shim(format!("ended at once ({status:?}): {said}")))
        })
        .await
        .unwrap_or_else(|_| Err(OciError::Shim("did not answer".to_owned())));
        // Whoever starts a process must reap it, or it stays as a zombie.
        tokio::spawn(async move { child.wait().await });
        ready
    }

    /// Gives the pod as a whole its share of the machine. All pods together
    /// weigh as much as the machine has cores, so that they never starve what
    /// runs beside them.
    fn limit(&self, pod: &PodSpec) -> std::io::Result<()> {
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
        let all = sys::cgroup::Limits {
            cpu_shares: Some(1024 * cores),
            ..sys::cgroup::Limits::default()
        };
        sys::cgroup::limit(&format!("/coracle-{}", self.config.instance_id), &all)?;
        sys::cgroup::limit(
            &pod_cgroup(&self.config.instance_id, &pod.uid),
            &limits(&pod.resources),
        )
    }

    /// Kills what is left of the pod's containers, ends its shim and removes
    /// its cgroup and mounts. Does nothing for an unknown pod.
    ///
    /// # Errors
    /// When something cannot be removed; may be tried again.
    pub async fn close_pod(&self, pod_uid: &str) -> Result<(), OciError> {
        let dir = pod_dir(&self.config, pod_uid)?;
        let cgroup = pod_cgroup(&self.config.instance_id, pod_uid);
        let images = self.images.clone();
        if let Err(error) = ask(&dir, &Ask::Shutdown).await {
            debug!(pod = pod_uid, %error, "no shim to end");
        }
        let work = move || {
            sys::cgroup::kill_all(&cgroup);
            sys::cgroup::remove(&cgroup).map_err(io("removing the pod's cgroup"))?;
            for id in container_ids(&dir) {
                images.release(&id);
            }
            match fs::remove_dir_all(&dir) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    Err(io("removing the pod's folder")(error))
                }
                _ => Ok(()),
            }
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| OciError::Shim(error.to_string()))?
    }

    /// Ends what still runs of a pod whose shim is gone.
    fn end_unwatched(&self, uid: &str) {
        let cgroup = pod_cgroup(&self.config.instance_id, uid);
        if !sys::cgroup::processes(&cgroup).is_empty() {
            warn!(pod = %uid, "the pod's shim is gone: ending its containers");
            sys::cgroup::kill_all(&cgroup);
        }
    }

    /// The containers of a pod whose shim is gone: after a reboot, or because
    /// somebody killed it. Nobody watches them any more, so what still runs is ended.
    pub(super) fn left_behind(&self, dir: &Path) -> Vec<Found> {
        let uid = dir.file_name().unwrap_or_default().to_string_lossy();
        self.end_unwatched(&uid);
        let mut found = Vec::new();
        for id in container_ids(dir) {
            let spec = fs::read(dir.join(&id).join("spec.json")).ok();
            let Some(spec) = spec.and_then(|text| serde_json::from_slice::<ContainerSpec>(&text).ok()) else {
                continue;
            };
            let now = jiff::Timestamp::now();
            let lost = Exit {
                code: 137,
                signal: Some(9),
                oom_killed: false,
                started: now,
                finished: now,
            };
            let exit = read_exit(&dir.join(&id)).unwrap_or(lost);
            found.push(Found {
                pod_uid: spec.pod_uid,
                id,
                name: spec.name,
                attempt: spec.attempt,
                state: ContainerState::Exited(exit),
            });
        }
        found
    }
}

/// Ends every pod of an instance and removes what they had on this host;
/// for `coracle down`, when no agent runs.
///
/// # Errors
/// The first thing that could not be removed.
pub async fn end_all(config: &ContainersConfig, images: &Images) -> Result<usize, OciError> {
    let containers = Containers {
        config: config.clone(),
        images: images.clone(),
        // It starts no shims.
        program: None,
        profile: Arc::new(Profile::of(&config.instance_id)),
    };
    let mut ended = 0;
    for entry in fs::read_dir(&config.dir).into_iter().flatten().flatten() {
        containers.close_pod(&entry.file_name().to_string_lossy()).await?;
        ended += 1;
    }
    let root = format!("/coracle-{}", config.instance_id);
    sys::cgroup::kill_all(&root);
    sys::cgroup::remove(&root).map_err(io("removing the cgroup"))?;
    apparmor::remove(&config.instance_id);
    Ok(ended)
}

fn container_ids(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.path().join("spec.json").is_file());
    folders
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}
