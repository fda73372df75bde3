//! Objects that the server keeps in order by itself: those of flow control, an APIService for every group version
//! that it serves, and what servers that extend the API must know to trust this one.
//!
//! Every server does this for itself; what it writes is a function of what is there, so several servers agree.

mod account_secrets;
mod addresses;
mod api_services;
mod flow_control;
mod order;
mod plant;
mod repairs;
mod service_cidrs;
mod tracking;
mod trust;
mod uses;

#[cfg(test)]
pub(crate) use flow_control::all as suggested_flow_control;
pub(crate) use flow_control::mandatory as mandatory_flow_control;
pub(crate) use order::condition;
pub(crate) use repairs::COMPONENT as REPAIRS;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use api::object;
use api::request::{Request, Verb};
use api::status::Status;
use futures_util::{StreamExt, stream};
use serde_json::Value;
use store::{Leadership, StoreError};

use super::{Core, text};
use crate::mirror::anew;
use crate::pki::Material;
use crate::stored;
use crate::vault::Watch;
use order::{Collection, What, Write};
use trust::Trust;

/// Writes go through the store in batches; this many wait for one at a time.
const AT_ONCE: usize = 64;
/// Changes that come together are looked at together.
const SETTLE: Duration = Duration::from_millis(20);
/// After looking, as many times as long as that took, so that looking takes a small part of a processor even while
/// a thousand definitions come.
const RESTS: u32 = 8;
/// But no longer than this.
const REST_MAX: Duration = Duration::from_secs(1);
/// How long a broken watch, or a store that refuses, is left alone.
const PAUSE: Duration = Duration::from_millis(500);

const COLLECTIONS: [Collection; 4] = [
    flow_control::LEVELS,
    flow_control::SCHEMAS,
    api_services::SERVICES,
    trust::MAPS,
];

impl Core {
    /// Keeps these objects in order for ever; `once` says that they have been it once. Call it once the definitions are
    /// loaded.
    pub async fn keep_standard_objects(self, once: Arc<AtomicBool>) {
        while anew("the server's own objects", self.keep_until_broken(&once).await).await {}
    }

    async fn keep_until_broken(&self, once: &AtomicBool) -> Result<(), StoreError> {
        let store = &self.inner.store;
        let mut watches = Vec::new();
        for (group, plural, namespace) in COLLECTIONS {
            let prefix = stored::prefix(group, plural, namespace);
            watches.push(store.watch(&prefix, store.revision())?);
        }
        let mut kinds = self.inner.kinds.changes();
        let mut keys = self.inner.config.keys.as_ref().map(|keys| keys.changes());
        let mut leads = store.leadership();
        loop {
            kinds.mark_unchanged();
            leads.mark_unchanged();
            keys.iter_mut().for_each(|keys| keys.mark_unchanged());
            let began = Instant::now();
            if let Err(status) = self.put_in_order().await {
                tracing::warn!(%status, "could not put the server's own objects in order, trying again");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            once.store(true, Ordering::Relaxed);
            let settle = (began.elapsed() * RESTS).clamp(SETTLE, REST_MAX);
            changed(&mut watches, &mut kinds, &mut keys, &mut leads, settle).await?;
        }
    }

    /// Writes what is missing or wrong; what the writes change is looked at again by the next call.
    async fn put_in_order(&self) -> Result<(), Status> {
        let now = self.inner.config.clock.now();
        let live = |collection| self.stored(collection);
        let (levels, schemas) = (live(flow_control::LEVELS)?, live(flow_control::SCHEMAS)?);
        let mut writes = flow_control::plan(&levels, &schemas, now);
        let services = live(api_services::SERVICES)?;
        let mut planned = api_services::plan(&self.inner.kinds.all(), &services, now);
        if !self.inner.store.leadership().borrow().leads {
            // While servers of one cluster are told, one after the other, to serve other versions, one of them has its
            // way: else they would undo one another's work for ever.
            planned.retain(|write| !api_services::depends_on_settings(write));
        }
        writes.extend(planned);
        let keys = self.inner.config.keys.as_ref();
        let trust = keys.map_or_else(Trust::default, |keys| Trust::of(&keys.now()));
        let maps = live(trust::MAPS)?;
        writes.extend(trust::plan(&trust, &maps));
        writes.extend(tracking::plan(&maps, now));
        self.write_all(writes).await
    }

    /// Carries out writes; where another server was faster, the next look finds what is missing.
    async fn write_all(&self, writes: Vec<Write>) -> Result<(), Status> {
        let (new, writes): (Vec<Write>, Vec<Write>) =
            writes.into_iter().partition(|write| write.what == What::Create);
        self.plant(&new).await?;
        let requests: Result<Vec<Request>, Status> = writes.into_iter().map(|w| self.asked(w)).collect();
        let results: Vec<_> = stream::iter(requests?)
            .map(|request| async move { self.carry_out(&request).await })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        for result in results {
            match result {
                Err(status)
                    if status.is_already_exists() || status.is_conflict() || status.is_not_found() => {}
                other => drop(other?),
            }
        }
        Ok(())
    }

    fn stored(&self, (group, plural, namespace): Collection) -> Result<Vec<Value>, Status> {
        let (_, entries) = self
            .inner
            .store
            .peek_prefix(&stored::prefix(group, plural, namespace));
        entries.iter().map(|entry| text::parse(entry)).collect()
    }

    fn asked(&self, write: Write) -> Result<Request, Status> {
        let (group, plural, namespace) = write.collection;
        let name = object::name(&write.object);
        let (verb, name, part) = match write.what {
            What::Create => (Verb::Create, "", ""),
            What::Replace => (Verb::Update, name, ""),
            What::ReplaceStatus => (Verb::Update, name, "status"),
            What::Delete => (Verb::Delete, name, ""),
        };
        let mut request = self.own(verb, group, plural, namespace, name)?;
        request.subresource = part.into();
        if write.what != What::Delete {
            request.body = write.object.to_string().into();
        }
        Ok(request)
    }
}

/// Waits for a change, and for those that come with it within a while.
async fn changed(
    watches: &mut [Watch],
    kinds: &mut tokio::sync::watch::Receiver<u64>,
    keys: &mut Option<tokio::sync::watch::Receiver<Arc<Material>>>,
    leads: &mut tokio::sync::watch::Receiver<Leadership>,
    settle: Duration,
) -> Result<(), StoreError> {
    {
        let events = watches.iter_mut().map(|watch| Box::pin(watch.next()));
        let event = tokio::select! {
            (event, ..) = futures_util::future::select_all(events) => Some(event),
            _ = kinds.changed() => None,
            () = of_keys(keys) => None,
            Ok(()) = leads.changed() => None,
        };
        if let Some(event) = event {
            event.ok_or(StoreError::Closed)??;
        }
    }
    tokio::time::sleep(settle).await;
    for watch in watches {
        while let Some(event) = watch.try_next() {
            event?;
        }
    }
    Ok(())
}

/// Waits for other keys, if there are any.
async fn of_keys(keys: &mut Option<tokio::sync::watch::Receiver<Arc<Material>>>) {
    if let Some(keys) = keys
        && keys.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}
