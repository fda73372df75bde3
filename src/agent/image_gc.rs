//! Removes images that no pod here uses when the disk fills up, the longest
//! unused first (the kubelet's image garbage collection).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use client::EventType;
use k8s_openapi::api::core::v1::ObjectReference;
use oci::{Image, Images};
use wasm::Host;

use crate::config::ImageSettings;
use crate::context::Context;
use crate::fill::Fill;
use crate::pods::spec;
use crate::pods::table::PodTable;

/// When an image was first seen and last used, by our own clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    first: Duration,
    used: Duration,
}

/// The disk that holds the images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Disk {
    bytes: u64,
    available: u64,
}

/// Bytes to free so that use falls to the low threshold, if it is at the high one.
fn wanted(disk: Disk, settings: &ImageSettings) -> Option<u64> {
    if settings.gc_high_percent >= 100 || disk.bytes == 0 {
        return None;
    }
    let used_percent = 100 - disk.available.min(disk.bytes) * 100 / disk.bytes;
    if used_percent < u64::from(settings.gc_high_percent) {
        return None;
    }
    let room = disk.bytes / 100 * u64::from(100 - settings.gc_low_percent);
    Some(room.saturating_sub(disk.available)).filter(|bytes| *bytes > 0)
}

/// Digests of images that may go, in the order in which they should.
fn eligible(
    seen: &BTreeMap<String, Seen>,
    in_use: &BTreeSet<String>,
    now: Duration,
    age_min: Duration,
) -> Vec<String> {
    let old =
        |seen: &Seen| now.saturating_sub(seen.first) >= age_min && now.saturating_sub(seen.used) >= age_min;
    let mut may_go: Vec<(&String, &Seen)> = seen
        .iter()
        .filter(|(digest, seen)| !in_use.contains(*digest) && old(seen))
        .collect();
    may_go.sort_by_key(|(_, seen)| (seen.used, seen.first));
    may_go.into_iter().map(|(digest, _)| digest.clone()).collect()
}

/// Images that containers of pods here are made from, by digest.
fn in_use(images: &[Image], names: &BTreeSet<String>) -> BTreeSet<String> {
    let used = images
        .iter()
        .filter(|image| image.references.iter().any(|name| names.contains(name)));
    used.map(|image| image.digest.clone()).collect()
}

/// Keeps the disk free of images that nobody uses.
pub struct Collector {
    /// The node.
    pub node: Arc<Context>,
    /// Its images.
    pub images: Images,
    /// Its pods.
    pub table: PodTable,
    /// Forgets programs compiled from images that went.
    pub host: Host,
}

impl Collector {
    /// Looks at the disk again and again.
    pub async fn run(self: Arc<Self>) {
        let mut seen = BTreeMap::new();
        let mut failed_before = false;
        let mut timer = tokio::time::interval(self.node.config.images.gc_period);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            timer.tick().await;
            match self.look(&mut seen).await {
                Ok(()) => failed_before = false,
                Err((reason, text)) => {
                    tracing::warn!(text, "images were not collected");
                    self.warn(reason, &text);
                    // The kubelet, too, says so from the second time on: the first may be a new node's.
                    if failed_before {
                        self.warn("ImageGCFailed", &text);
                    }
                    failed_before = true;
                }
            }
        }
    }

    /// Notes what is used, and frees what has to be. The error is reason and text of an event.
    async fn look(&self, seen: &mut BTreeMap<String, Seen>) -> Result<(), (&'static str, String)> {
        let broken = |error: oci::ImageError| ("ImageGCFailed", error.to_string());
        let images = self.images.list().await.map_err(broken)?;
        let (now, settings) = (self.node.now().mono, &self.node.config.images);
        let in_use = in_use(&images, &self.names());
        seen.retain(|digest, _| images.iter().any(|image| image.digest == *digest));
        for image in &images {
            let entry = seen.entry(image.digest.clone());
            let entry = entry.or_insert(Seen {
                first: now,
                used: Duration::ZERO,
            });
            if in_use.contains(&image.digest) {
                entry.used = now;
            }
        }
        let disk = self.disk();
        if disk.bytes == 0 {
            return Err((
                "InvalidDiskCapacity",
                "invalid capacity 0 on image filesystem".to_owned(),
            ));
        }
        let Some(wanted) = wanted(disk, settings) else {
            return Ok(());
        };
        let mut freed = 0;
        for digest in eligible(seen, &in_use, now, settings.gc_age_min) {
            if freed >= wanted {
                break;
            }
            freed += self.remove(&images, &digest).await.map_err(broken)?;
        }
        if freed >= wanted {
            return Ok(());
        }
        Err((
            "FreeDiskSpaceFailed",
            format!(
                "Failed to garbage collect required amount of images. Attempted to free {wanted} bytes, but only \
                 found {freed} bytes eligible to free."
            ),
        ))
    }

    /// Removes every image that no pod here uses, however young, and what is left of earlier ones; the bytes freed.
    ///
    /// # Errors
    /// The disk; what was removed by then stays removed.
    pub async fn remove_unused(&self) -> Result<u64, oci::ImageError> {
        let images = self.images.list().await?;
        let in_use = in_use(&images, &self.names());
        let mut freed = 0;
        for image in images.iter().filter(|image| !in_use.contains(&image.digest)) {
            freed += self.remove(&images, &image.digest).await?;
        }
        Ok(freed + self.images.collect(&[]).await?)
    }

    /// The folder in which the images lie.
    pub fn dir(&self) -> &Path {
        self.images.dir()
    }

    async fn remove(&self, images: &[Image], digest: &str) -> Result<u64, oci::ImageError> {
        let image = images.iter().find(|image| image.digest == digest);
        let names = image.map(|image| image.references.join(", ")).unwrap_or_default();
        let freed = self.images.remove_digest(digest).await?;
        tracing::info!(names, digest, freed, "removed an unused image");
        for program in image.iter().flat_map(|image| image.kind.programs()) {
            let needed = images
                .iter()
                .any(|o| o.digest != digest && o.kind.programs().contains(&program));
            if !needed {
                self.host.forget(program);
            }
        }
        Ok(freed)
    }

    /// The normalised images of all containers of pods here.
    fn names(&self) -> BTreeSet<String> {
        let views = self.table.all();
        let containers = views.iter().flat_map(|view| spec::all_containers(&view.pod));
        let containers = containers.map(|(_, container)| spec::image(&container).to_owned());
        let volumes = views.iter().flat_map(|view| spec::volume_images(&view.pod));
        containers
            .chain(volumes.map(str::to_owned))
            .filter_map(|name| Images::normalize(&name).ok())
            .collect()
    }

    fn disk(&self) -> Disk {
        let (bytes, available, _) = Fill::of(self.images.dir()).unwrap_or_default().bytes;
        Disk { bytes, available }
    }

    fn warn(&self, reason: &str, text: &str) {
        let name = self.node.config.node_name.clone();
        let about = ObjectReference {
            kind: Some("Node".to_owned()),
            uid: Some(name.clone()),
            name: Some(name),
            ..ObjectReference::default()
        };
        self.node.recorder.event(&about, EventType::Warning, reason, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_wanted_below_the_high_threshold_and_down_to_the_low_one_above_it() {
        let settings = ImageSettings::default();
        let disk = |available| Disk {
            bytes: 1000,
            available,
        };
        assert_eq!(wanted(disk(160), &settings), None);
        assert_eq!(wanted(disk(150), &settings), Some(50));
        assert_eq!(wanted(disk(0), &settings), Some(200));
        assert_eq!(wanted(Disk::default(), &settings), None);
        let never = ImageSettings {
            gc_high_percent: 100,
            ..settings
        };
        assert_eq!(wanted(disk(0), &never), None);
    }

    #[test]
    fn the_longest_unused_goes_first_and_what_is_young_or_used_stays() {
        let at = Duration::from_secs;
        let seen: BTreeMap<String, Seen> = [
            ("old", 0, 50),
            ("older", 0, 10),
            ("used", 0, 1000),
            ("young", 950, 0),
        ]
        .map(|(name, first, used)| {
            (
                name.to_owned(),
                Seen {
                    first: at(first),
                    used: at(used),
                },
            )
        })
        .into();
        let in_use = BTreeSet::from(["used".to_owned()]);
        assert_eq!(eligible(&seen, &in_use, at(1000), at(120)), ["older", "old"]);
        assert_eq!(
            eligible(&seen, &in_use, at(1000), at(0)),
            ["young", "older", "old"]
        );
    }
}
