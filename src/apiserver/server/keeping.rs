//! What a server keeps objects in: the store, what of it is encrypted, and whether both are well.

use std::sync::Arc;

use base::{OnError, Tasks};
use store::Store;

use super::StartError;
use crate::config::ServerConfig;
use crate::health::{Check, Health};
use crate::http::Departure;
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

/// The parts of a server of the API: those of every server, and the plugins that keep keys.
pub(super) fn health_of(config: &ServerConfig, vault: &Vault, departure: &Arc<Departure>) -> Health {
    let health = health(vault, departure);
    if config.encryption.is_some() {
        let vault = vault.clone();
        health.add("kms-providers", false, Arc::new(move || vault.health()));
    }
    health
}

/// The parts whose state every server tells, a witness as well.
pub(super) fn health(store: &Store, departure: &Arc<Departure>) -> Health {
    let health = Health::new();
    let (store, departure) = (store.clone(), departure.clone());
    let storage: Check = Arc::new(move || {
        store
            .watch("/health/", store.revision())
            .map(drop)
            .map_err(|error| error.to_string())
    });
    health.add("etcd", false, storage);
    health.add("poststarthook/rbac/bootstrap-roles", false, Arc::new(|| Ok(())));
    let stopping: Check = Arc::new(move || {
        if departure.has_begun() {
            Err("the server is shutting down".to_owned())
        } else {
            Ok(())
        }
    });
    health.add("shutdown", true, stopping);
    health
}
