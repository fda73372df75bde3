//! What a server keeps objects in: the store, and what of it is encrypted.

use base::{OnError, Tasks};
use store::Store;

use super::error::StartError;
use crate::config::ServerConfig;
use crate::reload::{Followed, Reloads};
use crate::vault::Vault;

/// The store, with the keys by which some of it is kept encrypted.
pub(super) async fn vault(config: &ServerConfig, store: &Store, tasks: &Tasks) -> Result<Vault, StartError> {
    let vault = Vault::measured(store.clone(), &config.metrics, config.clock.clone());
    if let Some(path) = &config.encryption {
        let configured = vault.clone();
        let take = move |text: &str| configured.configure_by(text);
        let wrong = |why| StartError::Setting(format!("encryption-provider-config {why}"));
        let followed = Followed::read(path, &take).map_err(wrong)?;
        let follow = followed.follow(Reloads::new(&config.metrics, "encryption"), take);
        tasks.spawn("follow the keys of encryption", OnError::Shutdown, follow);
        vault.prepare().await;
        tasks.spawn("look after KMS plugins", OnError::Shutdown, vault.clone().tend());
    }
    Ok(vault)
}
