//! A server that is joining its cluster.

use std::time::Duration;

use store::{Store, StoreError};

use crate::members::Standing;

/// How often a server that is joining looks whether it has the cluster's state.
const NEWCOMER_INTERVAL: Duration = Duration::from_millis(20);

/// Waits until this server is part of its cluster and has the cluster's state; what it is then.
pub(super) async fn taken_in(store: &Store) -> Result<Standing, StoreError> {
    loop {
        match Standing::of(&store.status().await?) {
            Standing::Newcomer => tokio::time::sleep(NEWCOMER_INTERVAL).await,
            Standing::Removed => return Err(StoreError::Removed),
            standing => return Ok(standing),
        }
    }
}
