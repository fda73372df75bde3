//! What a server does besides answering: some of it always, some of it while it leads.

use std::sync::Arc;
use std::time::Duration;

use base::{OnError, Tasks};
use store::Store;

use crate::config::ServerConfig;
use crate::http::Door;
use crate::leading::while_leading;
use crate::members::endpoints;
use crate::own;
use crate::pki::Pki;
use crate::rbac;
use crate::registry::Core;
use crate::signer::Signer;
use crate::trust;

/// Between attempts to prepare the cluster.
const PREPARE_RETRY: Duration = Duration::from_secs(1);

/// What this server does while it leads. A cluster of this server `alone` was prepared when it started.
pub(super) fn lead(
    config: &ServerConfig,
    door: &Arc<Door>,
    core: Core,
    store: &Store,
    alone: bool,
    tasks: &Tasks,
) {
    let (door, clock, own) = (door.clone(), config.clock.clone(), config.advertise);
    let (group, prepared) = (store.clone(), alone);
    while_leading(store, tasks, "API server", move |spell| {
        if !prepared {
            spell.spawn(
                "prepare the cluster",
                OnError::Log,
                prepare(core.clone(), door.clone()),
            );
        }
        let publish = endpoints::publish(core.clone(), group.clone(), own, prepared, clock.clone());
        spell.spawn("publish the API's addresses", OnError::Shutdown, publish);
        spell.spawn("settle quotas", OnError::Shutdown, core.clone().keep_quotas());
        let fill = core.clone().keep_account_secrets();
        spell.spawn("fill the secrets of accounts", OnError::Shutdown, fill);
    });
}

/// Brings up to date what a newer version of this program wants every cluster to have.
async fn prepare(core: Core, door: Arc<Door>) {
    loop {
        let prepared = async {
            core.make_basics().await?;
            rbac::reconcile::reconcile(&door.api, &door.lookup, &own::user()).await
        };
        match prepared.await {
            Ok(()) => return,
            Err(error) => tracing::warn!(%error, "could not prepare the cluster, trying again"),
        }
        tokio::time::sleep(PREPARE_RETRY).await;
    }
}

/// What it does in any case.
pub(super) fn background(
    config: &ServerConfig,
    pki: &Arc<Pki>,
    door: &Arc<Door>,
    store: Store,
    tasks: &Tasks,
) {
    let clock = config.clock.clone();
    let signer = Signer {
        api: door.api.clone(),
        store,
        pki: pki.clone(),
        authorizer: door.authorizer.clone(),
        clock: clock.clone(),
        user: own::user(),
    };
    let store = signer.store.clone();
    while_leading(&store, tasks, "signer", move |spell| {
        let Signer {
            store, pki, clock, ..
        } = signer.clone();
        let supply = trust::supply(store, pki, clock);
        spell.spawn("supply a witness with keys", OnError::Shutdown, supply);
        spell.spawn("sign certificates", OnError::Shutdown, signer.clone().run());
    });
    tasks.spawn(
        "forget unread answers",
        OnError::Shutdown,
        door.waiting.clone().tend(),
    );
}
