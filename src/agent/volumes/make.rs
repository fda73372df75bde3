//! Making a pod's volumes, keeping them up to date, removing them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base::Clock;
use client::Client;
use k8s_openapi::api::core::v1::{Container, Pod, Volume};
use nix::mount::{MntFlags, umount2};

use super::host::check_host_path;
use super::payload::{self, Inputs, Payload};
use super::tokens::Tokens;
use super::{
    Asked, LocalPaths, atomic, block, empty_dir, kind_and_path, nfs, ownership, persistent, unsupported,
};
use crate::csi::{Csi, Wanted};
use crate::env::{NodeFacts, References};
use crate::fill::Fill;
use crate::moment::Moment;
use crate::objects::{ObjectStore, OnChange};
use crate::paths::Paths;
use crate::pods::spec;

/// What volumes are made with. Cheap to clone.
#[derive(Clone)]
pub struct VolumeMaker {
    /// Where they lie.
    pub paths: Paths,
    /// For tokens.
    pub client: Client,
    /// For ConfigMaps and Secrets.
    pub objects: ObjectStore,
    /// For the downward API.
    pub node: Arc<NodeFacts>,
    /// Folders that the built-in provisioner promised here.
    pub local: LocalPaths,
    /// Volumes of CSI drivers.
    pub csi: Csi,
    /// For the names of atomic updates and the age of tokens.
    pub clock: Arc<dyn Clock>,
}

/// How long tokens are left alone, at least and at most.
const REFRESH_MIN: Duration = Duration::from_secs(30);
const REFRESH_MAX: Duration = Duration::from_secs(300);

/// A volume that could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("MountVolume.SetUp failed for volume {volume:?} : {reason}")]
pub struct VolumeError {
    /// Its name.
    pub volume: String,
    /// Why.
    pub reason: String,
}

impl VolumeMaker {
    /// Makes every volume of the pod, or brings those that the agent fills up
    /// to date; may be repeated at any time.
    ///
    /// # Errors
    /// The first volume that failed.
    pub async fn make(&self, pod: &Pod, tokens: &Tokens) -> Result<(), VolumeError> {
        for volume in spec::spec(pod).volumes.iter().flatten() {
            let result = self.one(pod, volume, tokens).await;
            result.map_err(|reason| VolumeError {
                volume: volume.name.clone(),
                reason,
            })?;
        }
        Ok(())
    }

    /// Calls back whenever a ConfigMap or Secret that a volume shows has changed.
    pub fn follow(&self, pod: &Pod, on_change: &OnChange) {
        let references = references(pod);
        self.objects
            .follow(spec::uid(pod), spec::namespace(pod), &references, on_change);
    }

    /// Whether a token is due.
    pub fn is_due(&self, tokens: &Tokens) -> bool {
        let due = tokens.due_in(Moment::read(self.clock.as_ref()));
        due.is_some_and(|due| due.is_zero())
    }

    /// How long until tokens are to be looked at again; `None` without tokens.
    pub fn refresh_in(&self, tokens: &Tokens) -> Option<Duration> {
        let due = tokens.due_in(Moment::read(self.clock.as_ref()))?;
        // Never at once: a token that could not be renewed is asked for again in
        // a while. Not too late: nobody says when the wall clock is set.
        Some(due.clamp(REFRESH_MIN, REFRESH_MAX))
    }

    async fn one(&self, pod: &Pod, volume: &Volume, tokens: &Tokens) -> Result<(), String> {
        let path = self.path(pod, volume)?;
        if let Some(payload) = payload::payload(volume) {
            return self.fill(pod, volume, &payload?, path, tokens).await;
        }
        if let Some((claim, own)) = api::storage::claim_of(pod, volume) {
            return self.claimed(pod, volume, (&claim, own), tokens, path).await;
        }
        if let Some(source) = &volume.csi {
            return self
                .driven(pod, &Wanted::of_pod(pod, volume, source), tokens, path)
                .await;
        }
        if let Some(source) = &volume.nfs {
            return self
                .served(pod, &volume.name, nfs::Export::of_pod(source), path)
                .await;
        }
        let (volume, pod) = (volume.clone(), pod.clone());
        let made = tokio::task::spawn_blocking(move || plain(&volume, &pod, &path)).await;
        made.map_err(|error| error.to_string())?
    }

    /// Links what a claim means into the pod's folder. One that is linked already needs no server.
    async fn claimed(
        &self,
        pod: &Pod,
        shown_as: &Volume,
        (claim, own): (&str, bool),
        tokens: &Tokens,
        link: PathBuf,
    ) -> Result<(), String> {
        if self.is_linked(&link) && tokens.of(&shown_as.name) == 0 {
            return Ok(());
        }
        let (volume, claim) = persistent::find(&self.client, pod, claim, own).await?;
        block::check_use(pod, &shown_as.name, block::is_block(&volume))?;
        if let Some(wanted) = Wanted::of_claim(&volume, &claim, shown_as) {
            return self.driven(pod, &wanted, tokens, link).await;
        }
        if let Some(export) = nfs::Export::of_volume(&volume) {
            return self.served(pod, &shown_as.name, export, link).await;
        }
        let place = persistent::place(&volume, &self.paths.local_path())?;
        let (group, made) = (ownership::wanted(pod), place.clone());
        let linked = tokio::task::spawn_blocking(move || persistent::link(&made, &link, group.as_ref()));
        linked.await.map_err(|error| error.to_string())??;
        if place.sort.is_ours() {
            self.local.follow(&place.path);
        }
        Ok(())
    }

    /// Has a driver show its volume, and links that into the pod's folder; shows it again when it wants new
    /// tokens and they are due.
    async fn driven(&self, pod: &Pod, wanted: &Wanted, tokens: &Tokens, link: PathBuf) -> Result<(), String> {
        let volume = wanted.shown_as();
        let again = tokens.of(volume) > 0 && self.is_due(tokens);
        if self.is_linked(&link) && !(again && self.csi.is_republished(wanted.driver()).await) {
            return Ok(());
        }
        let asked = Asked {
            client: &self.client,
            pod,
            volume,
            tokens,
            now: Moment::read(self.clock.as_ref()),
        };
        let shown = self.csi.publish(pod, wanted, &asked).await?;
        let linked = tokio::task::spawn_blocking(move || persistent::point(&shown, &link));
        linked.await.map_err(|error| error.to_string())?
    }

    /// Mounts a server's folder, and links that into the pod's.
    async fn served(&self, pod: &Pod, name: &str, export: nfs::Export, link: PathBuf) -> Result<(), String> {
        let place = self.paths.volume(spec::uid(pod), nfs::KIND, name);
        export.mount(&place).await?;
        let linked = tokio::task::spawn_blocking(move || persistent::point(&place, &link));
        linked.await.map_err(|error| error.to_string())?
    }

    /// Whether a link leads to something that is there since the machine has been started.
    fn is_linked(&self, link: &Path) -> bool {
        let gone = |shown: PathBuf| self.csi.is_stale(&shown) || nfs::is_gone(&shown);
        link.exists() && !fs::read_link(link).is_ok_and(gone)
    }

    async fn fill(
        &self,
        pod: &Pod,
        volume: &Volume,
        payload: &Payload,
        path: PathBuf,
        tokens: &Tokens,
    ) -> Result<(), String> {
        let now = Moment::read(self.clock.as_ref());
        let objects = self
            .objects
            .fetch(spec::namespace(pod), &payload.references())
            .await?;
        let folder = path.clone();
        let stored = move |name: &str| fs::read_to_string(folder.join(name)).ok();
        let tokens = tokens
            .get(&self.client, pod, &volume.name, payload.tokens(), stored, now)
            .await?;
        let (user, group) = (payload::common_user(pod), payload::group(pod));
        let inputs = Inputs {
            pod,
            ip: None,
            node: &self.node,
            objects: &objects,
            tokens: &tokens,
            user,
            group,
        };
        let files = payload.files(&inputs)?;
        let written =
            tokio::task::spawn_blocking(move || atomic::write(&path, &files, group, now.wall)).await;
        let written = written.map_err(|error| error.to_string())?;
        written.map(drop).map_err(|error| error.to_string())
    }

    /// How full a volume behind a claim is; `None` when nobody knows.
    pub async fn fullness(&self, pod: &Pod, volume: &Volume) -> Option<Fill> {
        let shown = fs::read_link(self.path(pod, volume).ok()?).ok()?;
        if self.csi.shows(&shown) {
            return self.csi.fill(&shown).await;
        }
        // How full a device is only those know who use it.
        let looked =
            tokio::task::spawn_blocking(move || shown.is_dir().then(|| Fill::of(&shown)).flatten()).await;
        looked.ok().flatten()
    }

    /// The devices that a container gets with its pod's volumes.
    ///
    /// # Errors
    /// The text behind `CreateContainerConfigError`.
    pub async fn devices(&self, pod: &Pod, container: &Container) -> Result<Vec<oci::Device>, String> {
        let mut wanted = block::wanted(pod, container, |volume| self.path(pod, volume))?;
        if wanted.is_empty() {
            return Ok(wanted);
        }
        let opened = tokio::task::spawn_blocking(move || block::open(&mut wanted).map(|()| wanted));
        opened.await.map_err(|error| error.to_string())?
    }

    /// Where a volume's files lie on this machine.
    ///
    /// # Errors
    /// A kind of volume that this node does not have.
    pub fn path(&self, pod: &Pod, volume: &Volume) -> Result<PathBuf, String> {
        kind_and_path(volume, |kind| {
            self.paths.volume(spec::uid(pod), kind, &volume.name)
        })
        .ok_or_else(|| unsupported(volume))
    }

    /// Removes the pod's volumes; hostPaths stay, of course.
    ///
    /// # Errors
    /// When something is still in use.
    pub async fn remove(&self, pod_uid: &str) -> Result<(), String> {
        self.objects.unfollow(pod_uid);
        self.csi.withdraw(pod_uid).await?;
        let roots = [
            self.paths.pod(pod_uid).join("volumes"),
            self.paths.memory_of(pod_uid),
        ];
        let served = self.paths.pod(pod_uid).join("volumes").join(nfs::KIND);
        let (pods, uid) = (self.paths.pods(), pod_uid.to_owned());
        let removed = tokio::task::spawn_blocking(move || {
            block::release(&pods, &uid);
            nfs::unmount(&served)?;
            roots.iter().try_for_each(|root| remove(root))
        })
        .await;
        removed
            .map_err(|error| error.to_string())?
            .map_err(|error| error.to_string())
    }
}

/// The ConfigMaps and Secrets that a pod's volumes show.
pub fn references(pod: &Pod) -> References {
    let mut all = References::default();
    for payload in spec::spec(pod)
        .volumes
        .iter()
        .flatten()
        .filter_map(payload::payload)
        .flatten()
    {
        let found = payload.references();
        all.config_maps.extend(found.config_maps);
        all.secrets.extend(found.secrets);
    }
    all
}

fn plain(volume: &Volume, pod: &Pod, path: &Path) -> Result<(), String> {
    if let Some(host) = &volume.host_path {
        return check_host_path(path, host.type_.as_deref().unwrap_or_default());
    }
    let Some(empty) = &volume.empty_dir else {
        return Ok(());
    };
    let medium = empty_dir::Medium::of(empty, pod)?;
    let made = empty_dir::make(path, medium, payload::group(pod));
    made.map_err(|error| format!("{}: {error}", path.display()))
}

fn remove(root: &Path) -> io::Result<()> {
    if !root.exists() {
        return Ok(());
    }
    // Containers may have mounted something in theirs (`Bidirectional`), whose files are not the volume's. What a
    // link leads to is not ours.
    for place in sys::mounts::below(root)? {
        umount2(&place, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)?;
    }
    base::files::absent_is_fine(fs::remove_dir_all(root))
}

/// Unmounts every volume below the pods' folder.
pub fn unmount_below(pods: &Path) {
    for path in sys::mounts::below(pods).unwrap_or_default() {
        if let Err(error) = umount2(&path, MntFlags::MNT_DETACH) {
            tracing::warn!(path = %path.display(), %error, "a volume was not unmounted");
        }
    }
}
