//! `watch`: the events of a collection as one caller wants to see them.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use api::kind::KindRef;
use api::request::{EventKind, EventStream, Request, WatchEvent};
use api::status::Status;
use bytes::Bytes;
use futures_util::StreamExt;
use store::{Change, Entry, Event, ListQuery, StoreError};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::vault::Watch;

use super::filter::Filter;
use super::{Core, page, refuse, text};

/// How often a watcher that wants bookmarks gets one.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// How long before its end a watcher gets the last one, to go on from there.
const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);
/// How long a watch lasts at least when its caller does not say.
const LASTS_AT_LEAST_SECONDS: u64 = 1800;
/// Marks the bookmark after the initial events.
const INITIAL_END: &str = ",\"annotations\":{\"k8s.io/initial-events-end\":\"true\"}";

impl Core {
    /// Follows a collection. What goes wrong with its revision goes into the
    /// stream, as an event of type ERROR, where every client looks for it.
    pub(super) async fn follow(&self, request: &Request) -> Result<EventStream, Status> {
        let target = self.target(request)?;
        let filter = Filter::new(&target.kind, &request.options, &request.name)?;
        let with_state = page::watch_begins_with_state(&request.options)?;
        let revision =
            page::revision(request.options.resource_version.as_deref().unwrap_or_default())?.unwrap_or(0);
        let prefix = target.prefix_of(filter.exact_name());
        let mut pending = VecDeque::new();
        let mut from = revision;
        if with_state {
            if let Err(status) = self.not_older_than(revision).await {
                return Ok(failed(status));
            }
            let query = ListQuery::prefix(prefix.clone());
            let listing = self.inner.store.list(query).await.map_err(refuse::status)?;
            pending = listing.entries.into();
            from = listing.revision;
        } else if revision == 0 {
            from = self.inner.store.revision();
        }
        let watch = match self.inner.store.watch(&prefix, from) {
            Ok(watch) => watch,
            Err(error) => return Ok(failed(broken(error, from))),
        };
        let options = &request.options;
        let end = options.allow_watch_bookmarks && with_state;
        let lasts = options.timeout_seconds.filter(|s| *s > 0).unwrap_or_else(|| {
            LASTS_AT_LEAST_SECONDS + self.inner.config.random.below(LASTS_AT_LEAST_SECONDS)
        });
        let now = Instant::now();
        let ends_at = now + Duration::from_secs(lasts);
        let bookmark_at = options.allow_watch_bookmarks.then(|| next_bookmark(now, ends_at));
        let follower = Follower {
            core: self.clone(),
            kind: target.kind.clone(),
            filter,
            pending,
            state_at: end.then_some(from),
            watch,
            from,
            alarm: Box::pin(sleep_until(bookmark_at.unwrap_or(ends_at).min(ends_at))),
            bookmarks: bookmark_at.is_some(),
            ends_at,
        };
        let kinds = self.inner.kinds.clone();
        let kind = target.kind;
        let withdrawn = async move { kinds.withdrawn(&kind).await };
        Ok(follower.stream().take_until(withdrawn).boxed())
    }
}

/// When a watcher gets its next bookmark: with the beat, and once more just before the watch ends.
fn next_bookmark(now: Instant, ends_at: Instant) -> Instant {
    let beat = now + BOOKMARK_EVERY;
    match ends_at.checked_sub(BOOKMARK_BEFORE_END) {
        Some(last) if now < last && last < beat => last,
        _ => beat,
    }
}

fn failed(status: Status) -> EventStream {
    futures_util::stream::once(async { Err(status) }).boxed()
}

fn broken(error: StoreError, from: u64) -> Status {
    match error {
        StoreError::Compacted { oldest } => refuse::too_old(from, oldest),
        other => refuse::status(other),
    }
}

/// One watch under way.
struct Follower {
    core: Core,
    kind: KindRef,
    filter: Filter,
    /// Initial objects that have not been handed out.
    pending: VecDeque<Arc<Entry>>,
    /// The revision of the bookmark that ends the initial events, until it has been sent.
    state_at: Option<u64>,
    watch: Watch,
    from: u64,
    /// Comes when the next bookmark is due, or at the end. Kept from event to event: to set a timer for each
    /// of them would cost more than handing it out.
    alarm: Pin<Box<Sleep>>,
    /// Whether bookmarks are wanted.
    bookmarks: bool,
    ends_at: Instant,
}

impl Follower {
    fn stream(self) -> EventStream {
        // Boxed, because it moves with every event.
        let events = futures_util::stream::unfold(Some(Box::new(self)), |follower| async move {
            let mut follower = follower?;
            match follower.next().await {
                Some(Ok(event)) => Some((Ok(event), Some(follower))),
                Some(Err(status)) => Some((Err(status), None)),
                None => None,
            }
        });
        events.boxed()
    }

    async fn next(&mut self) -> Option<Result<WatchEvent, Status>> {
        while let Some(entry) = self.pending.pop_front() {
            if self.filter.matches(&entry) {
                return Some(self.event(EventKind::Added, entry.text.clone()).await);
            }
        }
        if let Some(revision) = self.state_at.take() {
            return Some(Ok(self.bookmark(revision, INITIAL_END)));
        }
        loop {
            tokio::select! {
                biased;
                event = self.watch.next() => match event? {
                    Ok(event) => {
                        if let Some((kind, object)) = seen(&self.filter, &event) {
                            return Some(self.event(kind, object).await);
                        }
                    }
                    Err(error) => return Some(Err(broken(error, self.from))),
                },
                () = self.alarm.as_mut() => {
                    let now = Instant::now();
                    if !self.bookmarks || now >= self.ends_at {
                        return None;
                    }
                    self.alarm.as_mut().reset(next_bookmark(now, self.ends_at).min(self.ends_at));
                    return Some(Ok(self.bookmark(self.watch.progress().max(self.from), "")));
                }
            }
        }
    }

    async fn event(&self, kind: EventKind, object: Bytes) -> Result<WatchEvent, Status> {
        Ok(WatchEvent {
            kind,
            object: self.core.shown(&object, &self.kind).await?,
        })
    }

    fn bookmark(&self, revision: u64, more: &str) -> WatchEvent {
        let object = format!(
            "{{\"kind\":\"{}\",\"apiVersion\":\"{}\",\"metadata\":{{\"resourceVersion\":\"{revision}\",\
             \"creationTimestamp\":null{more}}}}}",
            self.kind.kind,
            self.kind.api_version(),
        );
        WatchEvent {
            kind: EventKind::Bookmark,
            object: object.into(),
        }
    }
}

/// What a change is to a watcher with that filter: objects come into view, change, and go out of view.
fn seen(filter: &Filter, event: &Event) -> Option<(EventKind, Bytes)> {
    let before = event.previous.as_ref().filter(|entry| filter.matches(entry));
    if event.kind == Change::Delete {
        return before.map(|_| (EventKind::Deleted, event.entry.text.clone()));
    }
    match (before, filter.matches(&event.entry)) {
        (None, true) => Some((EventKind::Added, event.entry.text.clone())),
        (Some(_), true) => Some((EventKind::Modified, event.entry.text.clone())),
        // It carries the last state that was in view, at the revision at which it left.
        (Some(last), false) => Some((EventKind::Deleted, text::at_revision(last, event.revision))),
        (None, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use api::request::Options;
    use store::Header;

    use super::*;

    fn entry(revision: u64, app: &str) -> Arc<Entry> {
        let text = format!("{{\"rv\":\"{revision}\"}}");
        Arc::new(Entry {
            key: "/core/pods/x/a".into(),
            revision,
            created: 1,
            header: Header {
                labels: vec![("app".into(), app.into())],
                ..Header::default()
            },
            text: text.into(),
            revision_at: 7,
            expires_ms: None,
        })
    }

    fn put(entry: &Arc<Entry>, previous: Option<&Arc<Entry>>) -> Event {
        Event {
            revision: entry.revision,
            kind: Change::Put,
            entry: entry.clone(),
            previous: previous.cloned(),
        }
    }

    #[test]
    fn the_last_bookmark_comes_just_before_the_end() {
        let now = Instant::now();
        let after = |seconds: u64| now + Duration::from_secs(seconds);
        assert_eq!(next_bookmark(now, after(1800)), after(60));
        assert_eq!(next_bookmark(now, after(30)), after(28));
        assert_eq!(next_bookmark(after(28), after(30)), after(88), "none is left");
    }

    #[test]
    fn objects_come_into_view_and_leave_it() {
        let kind = api::kinds::find("", "v1", "pods").unwrap();
        let options = Options {
            label_selector: "app=web".into(),
            ..Options::default()
        };
        let filter = Filter::new(kind, &options, "").unwrap();
        let (web, db, web3) = (entry(1, "web"), entry(2, "db"), entry(3, "web"));
        let kind_of = |event: &Event| seen(&filter, event).map(|(kind, _)| kind);
        assert_eq!(kind_of(&put(&web, None)), Some(EventKind::Added));
        assert_eq!(kind_of(&put(&web3, Some(&web))), Some(EventKind::Modified));
        assert_eq!(kind_of(&put(&web3, Some(&db))), Some(EventKind::Added));
        assert_eq!(kind_of(&put(&db, None)), None);
        let (left, object) = seen(&filter, &put(&db, Some(&web))).unwrap();
        assert_eq!(
            (left, object),
            (EventKind::Deleted, Bytes::from_static(b"{\"rv\":\"2\"}"))
        );
        let gone = Event {
            kind: Change::Delete,
            ..put(&entry(4, "db"), Some(&db))
        };
        assert_eq!(kind_of(&gone), None);
    }
}
