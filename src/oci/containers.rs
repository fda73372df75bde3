//! OCI containers behind a shim per pod.
//!
//! A container's life: [`Containers::open_pod`] starts (or finds) the pod's
//! shim, [`Containers::create`] prepares its root file system,
//! [`Containers::start`] lets it run, [`Containers::wait`] reports its end,
//! [`Containers::remove`] forgets it, [`Containers::close_pod`] ends the shim.
//! Everything but the last two may be done again after the agent was restarted:
//! the shim holds the state, not this process.

mod talk;

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, warn};

use self::talk::{ask, bind, streams, unexpected};
use crate::images::{ImageKind, Images};
use crate::protocol::{Answer, Ask};
use crate::spec::{
    ContainerSpec, ContainerState, ContainersConfig, ExecSpec, Exit, Found, OciError, PodSpec, Process,
    Resources, Usage,
};

/// How long a shim may take to answer its first question.
const SHIM_START_MAX: Duration = Duration::from_secs(20);

/// The containers of this machine. Cheap to clone.
#[derive(Clone)]
pub struct Containers {
    config: ContainersConfig,
    images: Images,
    /// The shim's program, where nobody can write it: containers get at what runs them.
    program: Option<Arc<OwnedFd>>,
}

/// The folder of a pod below the configured one; a UID becomes part of a path, so it must look like one.
fn pod_dir(config: &ContainersConfig, uid: &str) -> Result<PathBuf, OciError> {
    let plain = !uid.is_empty() && uid.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if plain {
        Ok(config.dir.join(uid))
    } else {
        Err(OciError::Create(format!("{uid:?} is not a pod's UID")))
    }
}

/// The cgroup of a pod; a container's lies below it.
pub(crate) fn pod_cgroup(instance_id: &str, uid: &str) -> String {
    format!("/coracle-{instance_id}/pod{uid}")
}

fn io(context: &str) -> impl FnOnce(std::io::Error) -> OciError + '_ {
    move |error| OciError::Io {
        context: context.to_owned(),
        reason: error.to_string(),
    }
}

impl Containers {
    /// Opens the folder and finds what earlier shims have left.
    ///
    /// # Errors
    /// When the folder cannot be used.
    pub async fn open(config: ContainersConfig, images: Images) -> Result<Containers, OciError> {
        fs::create_dir_all(&config.dir).map_err(io("making the containers' folder"))?;
        let program = sys::program::read_only(&config.program).inspect_err(
            |error| warn!(%error, "root in a container could replace this program: it cannot be shielded"),
        );
        Ok(Containers {
            config,
            images,
            program: program.ok().map(Arc::new),
        })
    }

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

    /// Prepares a container.
    ///
    /// # Errors
    /// [`OciError::Create`] when it cannot be.
    pub async fn create(&self, spec: &ContainerSpec) -> Result<(), OciError> {
        let ImageKind::Oci { layers } = &spec.image.kind else {
            return Err(OciError::Create(
                "the image holds a Wasm program, not a root file system".to_owned(),
            ));
        };
        let plain = !spec.id.is_empty() && spec.id.bytes().all(|b| b.is_ascii_alphanumeric());
        if !plain {
            return Err(OciError::Create(format!("{:?} is not a container id", spec.id)));
        }
        let dir = pod_dir(&self.config, &spec.pod_uid)?;
        let layers = layers
            .iter()
            .map(|diff_id| self.images.layer_path(diff_id))
            .collect();
        let held = self.images.hold(&spec.id, &spec.image.digest);
        held.map_err(|error| OciError::Create(error.to_string()))?;
        ask(
            &dir,
            &Ask::Create {
                spec: Box::new(spec.clone()),
                layers,
            },
        )
        .await
        .map(drop)
    }

    /// Lets a created container run; returns when its program was executed.
    ///
    /// # Errors
    /// [`OciError::Start`] when it cannot be.
    pub async fn start(&self, id: &str) -> Result<jiff::Timestamp, OciError> {
        match ask(&self.dir_of(id)?, &Ask::Start { id: id.to_owned() }).await? {
            Answer::Started { at } => Ok(at),
            other => Err(unexpected(&other)),
        }
    }

    /// Sends a signal (by number) to its main process.
    ///
    /// # Errors
    /// [`OciError::NotFound`], [`OciError::NotRunning`].
    pub async fn signal(&self, id: &str, signal: i32) -> Result<(), OciError> {
        let dir = self.dir_of(id)?;
        ask(
            &dir,
            &Ask::Signal {
                id: id.to_owned(),
                signal,
                all: false,
            },
        )
        .await
        .map(drop)
    }

    /// Sends its stop signal, then SIGKILL to all its processes after `grace`
    /// (at once when zero). Returns when it has ended; does nothing if it has already.
    ///
    /// # Errors
    /// [`OciError::NotFound`].
    pub async fn stop(&self, id: &str, grace: Duration) -> Result<(), OciError> {
        let dir = self.dir_of(id)?;
        if !grace.is_zero() {
            // 0 stands for the image's own stop signal, which the shim knows.
            match ask(
                &dir,
                &Ask::Signal {
                    id: id.to_owned(),
                    signal: 0,
                    all: false,
                },
            )
            .await
            {
                Err(OciError::NotRunning(_)) => return Ok(()),
                other => other.map(drop)?,
            }
            if tokio::time::timeout(grace, self.wait(id)).await.is_ok() {
                return Ok(());
            }
        }
        let kill = Ask::Signal {
            id: id.to_owned(),
            signal: nix::libc::SIGKILL,
            all: true,
        };
        match ask(&dir, &kill).await {
            Err(OciError::NotRunning(_)) => return Ok(()),
            other => other.map(drop)?,
        }
        self.wait(id).await.map(drop)
    }

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

    /// Waits for its end; answers any number of times until it is removed.
    /// Costs nothing while waiting.
    ///
    /// # Errors
    /// [`OciError::NotFound`]; [`OciError::Shim`] when the shim died with the container.
    pub async fn wait(&self, id: &str) -> Result<Exit, OciError> {
        let dir = self.dir_of(id)?;
        match ask(&dir, &Ask::Wait { id: id.to_owned() }).await {
            Ok(Answer::Ended(exit)) => Ok(exit),
            Ok(other) => Err(unexpected(&other)),
            Err(OciError::Shim(why)) => read_exit(&dir.join(id)).ok_or(OciError::Shim(why)),
            Err(other) => Err(other),
        }
    }

    /// Removes an ended container: root file system, records; not its log.
    ///
    /// # Errors
    /// When it runs.
    pub async fn remove(&self, id: &str) -> Result<(), OciError> {
        let dir = match self.dir_of(id) {
            Err(OciError::NotFound(_)) => return Ok(()),
            other => other?,
        };
        match ask(&dir, &Ask::Remove { id: id.to_owned() }).await {
            Ok(_) | Err(OciError::NotFound(_)) => {}
            Err(OciError::Shim(_)) => {
                fs::remove_dir_all(dir.join(id)).map_err(io("removing a container"))?;
            }
            Err(other) => return Err(other),
        }
        self.images.release(id);
        Ok(())
    }

    /// Every container that the shims know, running or not.
    ///
    /// # Errors
    /// The disk.
    pub async fn list(&self) -> Result<Vec<Found>, OciError> {
        let mut all = Vec::new();
        let pods = fs::read_dir(&self.config.dir).map_err(io("reading the containers' folder"))?;
        for dir in pods
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.is_dir())
        {
            match ask(&dir, &Ask::List).await {
                Ok(Answer::List(found)) => all.extend(found),
                Err(error @ OciError::Io { .. }) => return Err(error),
                _ => all.extend(self.left_behind(&dir)),
            }
        }
        Ok(all)
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
    fn left_behind(&self, dir: &Path) -> Vec<Found> {
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

    /// Runs a process in a running container.
    ///
    /// # Errors
    /// [`OciError::NotRunning`]; [`OciError::Start`] for a program that is not there.
    pub async fn exec(&self, id: &str, spec: &ExecSpec) -> Result<Process, OciError> {
        let dir = self.dir_of(id)?;
        streams(
            &dir,
            &Ask::Exec {
                id: id.to_owned(),
                spec: spec.clone(),
            },
            spec.stdin,
        )
        .await
    }

    /// Joins the standard streams of a running container.
    ///
    /// # Errors
    /// [`OciError::NotRunning`].
    pub async fn attach(&self, id: &str, stdin: bool) -> Result<Process, OciError> {
        streams(
            &self.dir_of(id)?,
            &Ask::Attach {
                id: id.to_owned(),
                stdin,
            },
            stdin,
        )
        .await
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

    /// The folder of the pod that a container belongs to.
    fn dir_of(&self, id: &str) -> Result<PathBuf, OciError> {
        let missing = || OciError::NotFound(id.to_owned());
        if id.is_empty() || !id.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(missing());
        }
        let pods = fs::read_dir(&self.config.dir).map_err(io("reading the containers' folder"))?;
        pods.flatten()
            .map(|entry| entry.path())
            .find(|dir| dir.join(id).is_dir())
            .ok_or_else(missing)
    }
}

fn limits(of: &Resources) -> sys::cgroup::Limits {
    sys::cgroup::Limits {
        cpu_shares: Some(of.cpu_shares()),
        cpu_millis: of.cpu_limit_millis,
        memory_bytes: of.memory_limit_bytes,
        pids: of.pids_limit,
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
    };
    let mut ended = 0;
    for entry in fs::read_dir(&config.dir).into_iter().flatten().flatten() {
        containers.close_pod(&entry.file_name().to_string_lossy()).await?;
        ended += 1;
    }
    let root = format!("/coracle-{}", config.instance_id);
    sys::cgroup::kill_all(&root);
    sys::cgroup::remove(&root).map_err(io("removing the cgroup"))?;
    Ok(ended)
}

fn container_ids(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.path().join("spec.json").is_file());
    folders
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

fn read_exit(dir: &Path) -> Option<Exit> {
    serde_json::from_slice(&fs::read(dir.join("exit.json")).ok()?).ok()
}
