//! What `coracle down` takes away.

use oci::Images;

use super::error::AgentError;
use super::parts;
use crate::config::AgentConfig;
use crate::handover::Inheritance;
use crate::paths::Paths;
use crate::volumes;

/// Ends every pod on this machine and removes what the agent made on it,
/// except the data folder: `coracle down`. No agent must be running.
///
/// # Errors
/// The first thing that could not be removed; the rest was tried.
pub async fn teardown(config: &AgentConfig) -> Result<(), AgentError> {
    let images = Images::open(parts::images_config(config)?).await?;
    let ended = oci::containers::end_all(&parts::containers_config(config), &images).await;
    let paths = Paths::new(&config.data_dir);
    // Whoever still holds sockets for a next agent lets go of them.
    Inheritance::fetch(&paths.handover()).close();
    let (pods, memory, stages, id, data) = (
        paths.pods(),
        paths.memory(),
        paths.plugins(),
        config.instance_id.clone(),
        config.data_dir.clone(),
    );
    let cleaned = tokio::task::spawn_blocking(move || {
        volumes::unmount_below(&pods);
        volumes::unmount_below(&memory);
        volumes::unmount_below(&stages);
        network::cleanup(&id, &data)
    });
    let cleaned = cleaned
        .await
        .map_err(|error| AgentError::Config(error.to_string()))?;
    ended?;
    Ok(cleaned?)
}
