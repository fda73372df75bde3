//! Services and their endpoints, kept in memory for the load balancer and DNS.

mod index;
pub mod kept;
mod standing;

use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use base::{OnError, Tasks};
use client::{Cache, Change, Client, Selectors};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use tokio::sync::{mpsc, watch};

pub use index::{
    Entry, Index, ServiceKey, address_of, cluster_ips, is_headless, is_ready, is_serving_while_terminating,
};
pub use standing::Standing;

/// The cluster's Services and EndpointSlices as this node knows them. Cheap
/// to clone; all clones are the same catalog. What it knows stays when the
/// API cannot be reached.
#[derive(Clone)]
pub struct Catalog {
    shared: Arc<Shared>,
}

struct Shared {
    // std locks: nothing awaits while they are held.
    index: RwLock<Index>,
    listeners: Mutex<Vec<mpsc::UnboundedSender<ServiceKey>>>,
    complete: watch::Sender<bool>,
}

impl Catalog {
    /// Follows Services and EndpointSlices from now on.
    pub fn start(client: &Client, tasks: &Tasks) -> Catalog {
        let services = Cache::start(client, Selectors::all(), tasks);
        let slices = Cache::start(client, Selectors::all(), tasks);
        Catalog::over(services, slices, tasks)
    }

    /// Follows caches that exist already.
    pub fn over(services: Cache<Service>, slices: Cache<EndpointSlice>, tasks: &Tasks) -> Catalog {
        let shared = Shared {
            index: RwLock::default(),
            listeners: Mutex::default(),
            complete: watch::Sender::new(false),
        };
        let catalog = Catalog {
            shared: Arc::new(shared),
        };
        let run = follow(catalog.clone(), services, slices);
        tasks.spawn("service catalog", OnError::Log, run);
        catalog
    }

    /// Waits until both have been listed once, or are known from before and the server is silent.
    pub async fn synced(&self) {
        // The sender lives as long as `self`.
        let _ = self
            .shared
            .complete
            .subscribe()
            .wait_for(|complete| *complete)
            .await;
    }

    /// Whether [`Catalog::synced`] would return at once.
    pub fn is_synced(&self) -> bool {
        *self.shared.complete.borrow()
    }

    /// What is known now. Hold it briefly and never across an await.
    pub fn read(&self) -> RwLockReadGuard<'_, Index> {
        self.shared.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keys of Services that change from now on, by themselves or by
    /// their endpoints.
    pub fn changes(&self) -> mpsc::UnboundedReceiver<ServiceKey> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.listeners().push(sender);
        receiver
    }

    fn listeners(&self) -> std::sync::MutexGuard<'_, Vec<mpsc::UnboundedSender<ServiceKey>>> {
        self.shared
            .listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn change<K: IntoIterator<Item = ServiceKey>>(&self, apply: impl FnOnce(&mut Index) -> K) {
        let keys = apply(&mut self.shared.index.write().unwrap_or_else(PoisonError::into_inner));
        let mut listeners = self.listeners();
        for key in keys {
            listeners.retain(|listener| listener.send(key.clone()).is_ok());
        }
    }
}

async fn follow(catalog: Catalog, services: Cache<Service>, slices: Cache<EndpointSlice>) {
    let (mut service_changes, mut slice_changes) = (services.changes(), slices.changes());
    let synced = async { tokio::join!(services.filled(), slices.filled()) };
    tokio::pin!(synced);
    loop {
        // In this order, everything that the first lists brought is in the
        // index before it is called complete.
        tokio::select! {
            biased;
            Some(change) = service_changes.recv() => catalog.change(|index| [apply_service(index, change)]),
            Some(change) = slice_changes.recv() => catalog.change(|index| apply_slice(index, change)),
            _ = &mut synced, if !catalog.is_synced() => {
                catalog.shared.complete.send_replace(true);
            }
            else => return,
        }
    }
}

fn apply_service(index: &mut Index, change: Change<Service>) -> ServiceKey {
    match change {
        Change::Applied(service, _) => index.apply_service(&service),
        Change::Deleted(service) => index.delete_service(&service),
    }
}

fn apply_slice(index: &mut Index, change: Change<EndpointSlice>) -> Vec<ServiceKey> {
    let keys = match change {
        Change::Applied(slice, old) => {
            let moved = old.filter(|old| old.metadata.labels != slice.metadata.labels);
            [
                moved.and_then(|old| index.delete_slice(&old)),
                index.apply_slice(&slice),
            ]
        }
        Change::Deleted(slice) => [index.delete_slice(&slice), None],
    };
    keys.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{service, slice};

    #[tokio::test]
    async fn it_is_complete_only_with_all_that_was_there() {
        let tasks = Tasks::new();
        let services = Cache::fixed((0..50).map(|n| service("x", &format!("s{n}"), "10.43.0.9", &[])));
        let slices = Cache::fixed([slice("x", "s1", "s1-a", &["10.64.0.2"], &[])]);
        let catalog = Catalog::over(services.clone(), slices.clone(), &tasks);
        catalog.synced().await;
        assert_eq!(catalog.read().keys().count(), 50);
        let mut changes = catalog.changes();
        slices.apply(slice("x", "s2", "s1-a", &["10.64.0.2"], &[]));
        let touched = [
            changes.recv().await.unwrap().name,
            changes.recv().await.unwrap().name,
        ];
        assert_eq!(touched, ["s1", "s2"]);
        services.remove("x", "s7");
        assert_eq!(changes.recv().await.unwrap().name, "s7");
        tasks.shutdown().await;
    }
}
