//! List, then watch, then list again when the server has forgotten too much:
//! what keeps a [`Cache`] up to date.

use std::time::Duration;

use api::request::{EventKind, EventStream, Options, Verb, WatchEvent};
use api::status::Status;
use base::{Backoff, OnError, SystemRandom, Tasks};
use futures_util::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::sync::watch;
use tracing::{debug, warn};

use crate::cache::{Cache, CacheOptions};
use crate::scan;
use crate::typed::{Client, Object, decode, decode_object};

/// First and longest wait between attempts. Short, because a restarted server
/// is back in a fraction of a second and the whole node waits for its caches.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(10);

impl<T: Object> Cache<T> {
    /// A cache of what `options` select ([`Selectors`](crate::typed::Selectors) will do), kept up to date by a task
    /// of `tasks`.
    pub fn start(client: &Client, options: impl Into<CacheOptions>, tasks: &Tasks) -> Self {
        Self::resume(client, options, None, tasks)
    }

    /// [`Cache::start`] for one that knows objects from before, such as from a disk. They are
    /// shown until the server's first list says otherwise.
    pub fn resume(
        client: &Client,
        options: impl Into<CacheOptions>,
        known: Option<Vec<T>>,
        tasks: &Tasks,
    ) -> Self {
        let cache = Self::with(known.is_some());
        known.into_iter().flatten().for_each(|object| cache.apply(object));
        let run = run(client.clone(), options.into(), cache.clone());
        tasks.spawn(format!("cache of {}", T::URL_PATH_SEGMENT), OnError::Log, run);
        cache
    }

    /// A cache of a kind that comes and goes: kept up to date while `served` says that the server has the kind,
    /// empty and at revision 0 while not. Nobody waits for it: it counts as synced from the start.
    pub fn start_while(
        client: &Client,
        options: impl Into<CacheOptions>,
        served: watch::Receiver<bool>,
        tasks: &Tasks,
    ) -> Self {
        let cache = Self::fixed([]);
        let run = run_while(client.clone(), options.into(), cache.clone(), served);
        tasks.spawn(format!("cache of {}", T::URL_PATH_SEGMENT), OnError::Log, run);
        cache
    }
}

struct Reflector<T> {
    client: Client,
    options: CacheOptions,
    cache: Cache<T>,
    backoff: Backoff,
}

/// Keeps `cache` up to date for ever.
pub(crate) async fn run<T: Object>(client: Client, options: CacheOptions, cache: Cache<T>) {
    let backoff = Backoff::new(FIRST_RETRY, LAST_RETRY);
    let mut reflector = Reflector {
        client,
        options,
        cache,
        backoff,
    };
    loop {
        match reflector.list().await {
            Ok(revision) => reflector.follow(revision).await,
            Err(status) => reflector.wait("list", &status).await,
        }
    }
}

/// [`run`] for as long as `served` is true, whenever it is; in between nothing is known.
pub(crate) async fn run_while<T: Object>(
    client: Client,
    options: CacheOptions,
    cache: Cache<T>,
    mut served: watch::Receiver<bool>,
) {
    while is_told(&mut served, true).await {
        tokio::select! {
            () = run(client.clone(), options.clone(), cache.clone()) => {}
            _ = is_told(&mut served, false) => {}
        }
        cache.forget();
    }
}

/// Waits for that value; false when nobody is left to say it.
async fn is_told(told: &mut watch::Receiver<bool>, wanted: bool) -> bool {
    told.wait_for(|value| *value == wanted).await.is_ok()
}

impl<T: Object> Reflector<T> {
    async fn wait(&mut self, what: &str, status: &Status) {
        let wait = self.backoff.next(&SystemRandom);
        let failures = self.backoff.failures();
        let plural = T::URL_PATH_SEGMENT;
        if failures < 3 {
            debug!(%plural, %status, "{what} failed, trying again in {wait:?}");
        } else {
            warn!(%plural, %status, failures, "{what} failed, trying again in {wait:?}");
        }
        tokio::time::sleep(wait).await;
    }

    /// Reads the whole collection and returns its revision.
    async fn list(&mut self) -> Result<u64, Status> {
        let mut objects = Vec::new();
        let mut options = Options {
            limit: self.options.page_limit,
            ..Options::default()
        };
        loop {
            let mut request = self
                .client
                .request::<T>(Verb::List, &self.options.selectors.namespace, "");
            request.options = Options {
                label_selector: self.options.selectors.labels.clone(),
                field_selector: self.options.selectors.fields.clone(),
                ..options.clone()
            };
            let reply = self.client.call(request).await?;
            let body = reply.body.whole();
            let items = scan::member(&body, "items").unwrap_or_default();
            for range in scan::elements(items) {
                match self.parse(items.get(range).unwrap_or_default()) {
                    Ok(object) => objects.push(object),
                    Err(status) => warn!(plural = T::URL_PATH_SEGMENT, %status, "left out an object"),
                }
            }
            let metadata: ListMetadata = decode(scan::member(&body, "metadata").unwrap_or(b"{}"))?;
            if metadata.next.is_empty() {
                let revision = metadata.resource_version.parse().map_err(Status::internal)?;
                self.cache.replace(objects, revision);
                self.backoff.reset();
                return Ok(revision);
            }
            options.continue_token = metadata.next;
        }
    }

    /// Follows the collection from a revision until the server no longer can.
    async fn follow(&mut self, mut revision: u64) {
        loop {
            let options = Options {
                resource_version: Some(revision.to_string()),
                allow_watch_bookmarks: true,
                ..Options::default()
            };
            let ended = match self.client.watch::<T>(&self.options.selectors, options).await {
                Ok(events) => self.drain(events, &mut revision).await,
                Err(status) => Err(status),
            };
            match ended {
                Ok(()) => {}
                Err(status) if status.code == 410 => return,
                Err(status) => self.wait("watch", &status).await,
            }
        }
    }

    async fn drain(&mut self, mut events: EventStream, revision: &mut u64) -> Result<(), Status> {
        while let Some(event) = events.next().await {
            *revision = self.take(event?)?.max(*revision);
            self.cache.reached(*revision);
            self.backoff.reset();
        }
        // A stream that ends at once, again and again, must not spin.
        tokio::time::sleep(Duration::from_millis(10)).await;
        Ok(())
    }

    /// Takes one event in and returns its revision.
    fn take(&self, event: WatchEvent) -> Result<u64, Status> {
        if event.kind == EventKind::Bookmark {
            let metadata: ListMetadata = decode(scan::member(&event.object, "metadata").unwrap_or(b"{}"))?;
            return metadata.resource_version.parse().map_err(Status::internal);
        }
        let object: T = match self.parse(&event.object) {
            Ok(object) => object,
            Err(status) => return self.leave_out(&event.object, &status),
        };
        let version = object.metadata().resource_version.as_deref().unwrap_or_default();
        let revision = version.parse().map_err(Status::internal)?;
        match event.kind {
            EventKind::Deleted => self.cache.delete(object),
            _ => self.cache.apply(object),
        }
        Ok(revision)
    }

    /// An object that cannot be read is as good as gone; the others of its kind are followed all the same.
    fn leave_out(&self, text: &[u8], status: &Status) -> Result<u64, Status> {
        let metadata: ObjectMeta = decode(scan::member(text, "metadata").unwrap_or(b"{}"))?;
        let part = |text: &Option<String>| text.clone().unwrap_or_default();
        let (namespace, name) = (part(&metadata.namespace), part(&metadata.name));
        warn!(plural = T::URL_PATH_SEGMENT, namespace, name, %status, "left out an object");
        self.cache.remove(&namespace, &name);
        part(&metadata.resource_version).parse().map_err(Status::internal)
    }

    fn parse(&self, text: &[u8]) -> Result<T, Status> {
        parse(text, self.options.trim_managed_fields)
    }
}

fn parse<T: Object>(text: &[u8], trim: bool) -> Result<T, Status> {
    match trim.then(|| scan::without_managed_fields(text)).flatten() {
        Some(trimmed) => decode_object(&trimmed),
        None => decode_object(text),
    }
}

#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ListMetadata {
    resource_version: String,
    #[serde(rename = "continue")]
    next: String,
}
