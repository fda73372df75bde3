//! Fetching the images that a pod's volumes show.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, ImageVolumeSource, Pod, Volume};
use oci::ImageKind;

use super::{PodContext, image};
use crate::pods::spec;
use crate::volumes::{VolumeError, image as image_volume};

/// Fetches and mounts the pod's image volumes; what is mounted stays as it is.
///
/// # Errors
/// The first volume that failed.
pub async fn make(context: &Arc<PodContext>, pod: &Arc<Pod>) -> Result<(), VolumeError> {
    for volume in spec::spec(pod).volumes.iter().flatten() {
        if let Some(source) = &volume.image {
            let made = one(context, pod, volume, source).await;
            made.map_err(|reason| VolumeError {
                volume: volume.name.clone(),
                reason,
            })?;
        }
    }
    Ok(())
}

async fn one(
    context: &Arc<PodContext>,
    pod: &Arc<Pod>,
    volume: &Volume,
    source: &ImageVolumeSource,
) -> Result<(), String> {
    let node = &context.node;
    let at = node.volumes.path(pod, volume)?;
    if crate::volumes::memory::is_mounted(&at) {
        return Ok(());
    }
    // Pulled as a container's would be, by the same policies and with the same secrets.
    let asked = Container {
        name: volume.name.clone(),
        image: source.reference.clone(),
        image_pull_policy: source.pull_policy.clone(),
        ..Container::default()
    };
    let image = image::fetch_for(context, pod, &asked).await;
    let image = image.map_err(|(reason, message)| format!("{reason}: {message}"))?;
    if let ImageKind::Wasm { .. } | ImageKind::App { .. } = image.kind {
        return Err("a WebAssembly program is no tree of files that a volume could show".to_owned());
    }
    let layers = node.images.layers(&image);
    let shown = tokio::task::spawn_blocking(move || image_volume::show(&layers, &at));
    shown.await.map_err(|error| error.to_string())?
}
