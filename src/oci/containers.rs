//! OCI containers behind a shim per pod.
//!
//! A container's life: [`Containers::open_pod`] starts (or finds) the pod's
//! shim, [`Containers::create`] prepares its root file system,
//! [`Containers::start`] lets it run, [`Containers::wait`] reports its end,
//! [`Containers::remove`] forgets it, [`Containers::close_pod`] ends the shim.
//! Everything but the last two may be done again after the agent was restarted:
//! the shim holds the state, not this process.

mod places;
mod pods;
mod resources;
mod talk;

use std::fs;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use self::places::{io, pod_dir, read_exit};
pub use self::pods::end_all;
use self::talk::{ask, streams, unexpected};
use crate::apparmor::Profile;
use crate::images::{ImageKind, Images};
use crate::protocol::{Answer, Ask};
use crate::spec::{ContainerSpec, ContainersConfig, ExecSpec, Exit, Found, OciError, Process};

/// The containers of this machine. Cheap to clone.
#[derive(Clone)]
pub struct Containers {
    config: ContainersConfig,
    images: Images,
    /// The shim's program, where nobody can write it: containers get at what runs them.
    program: Option<Arc<OwnedFd>>,
    /// For containers that name no AppArmor profile.
    profile: Arc<Profile>,
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
            profile: Arc::new(Profile::of(&config.instance_id)),
            config,
            images,
            program: program.ok().map(Arc::new),
        })
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
        let mut spec = Box::new(spec.clone());
        if spec.security.apparmor_default {
            spec.security.apparmor = self.profile.ready().await?;
        }
        ask(&dir, &Ask::Create { spec, layers }).await.map(drop)
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
