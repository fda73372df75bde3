//! Keeps the ranges of Services' addresses, and the record of each address, in order.
//!
//! Records are written with their Services, in one commit. What a careless hand does to them afterwards is mended
//! here: one that a Service needs comes back, one that belongs to nobody goes. Each change is judged as it comes, and
//! all there is now and then: what changed while nobody looked has no event.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use api::object;
use api::status::Status;
use client::Recorder;
use jiff::Timestamp;
use serde_json::Value;
use store::{Change, Entry, Event, Expect, Op, StoreError};

use super::order::Collection;
use super::repairs::{self, Repairs};
use super::{PAUSE, service_cidrs};
use crate::mirror::anew;
use crate::registry::services::records;
use crate::registry::{Core, refuse, services, text};
use crate::stored;

const RECORDS: Collection = ("networking.k8s.io", "ipaddresses", "");
/// For so long a record may be without its Service, as in Kubernetes.
const ORPHAN_GRACE: Duration = Duration::from_secs(60);
/// How often all are looked through, as in Kubernetes.
const LOOK_EVERY: Duration = Duration::from_secs(180);

/// Records that belong to nobody, and since when.
type Orphans = BTreeMap<String, Timestamp>;

impl Core {
    /// Keeps them in order for ever, and says when they were for the first time. Call it once the definitions are loaded.
    pub async fn keep_service_addresses(self, recorder: Recorder, settled: Arc<AtomicBool>) {
        let mut repairs = Repairs::new(recorder);
        let what = "the addresses of services";
        while anew(what, self.keep_addresses(&mut repairs, &settled).await).await {}
    }

    async fn keep_addresses(&self, repairs: &mut Repairs, settled: &AtomicBool) -> Result<(), StoreError> {
        let store = &self.inner.store;
        let follow = |(group, plural, namespace): Collection| {
            store.watch(&stored::prefix(group, plural, namespace), store.revision())
        };
        let (mut ranges, mut records) = (follow(service_cidrs::RANGES)?, follow(RECORDS)?);
        let (mut orphans, mut looked) = (Orphans::new(), None::<Instant>);
        let mut leadership = store.leadership();
        loop {
            // One server does it, as all of them hear of changes.
            let leads = leadership.borrow_and_update().leads;
            if leads && looked.is_none_or(|at| at.elapsed() >= LOOK_EVERY) {
                self.look_through(&mut orphans, repairs).await?;
                looked = Some(Instant::now());
            }
            let due = match self.settle_addresses(&mut orphans, repairs).await {
                Ok(due) => {
                    settled.store(true, Ordering::Relaxed);
                    due
                }
                Err(status) => {
                    tracing::warn!(%status, "could not put the addresses of services in order, trying again");
                    PAUSE
                }
            };
            tokio::select! {
                event = ranges.next() => drop(event.ok_or(StoreError::Closed)??),
                event = records.next() => {
                    self.record_changed(&*event.ok_or(StoreError::Closed)??, &mut orphans, repairs).await?;
                    // Those that came together are looked at together.
                    while let Some(event) = records.try_next() {
                        self.record_changed(&*event?, &mut orphans, repairs).await?;
                    }
                }
                changed = leadership.changed() => changed.map_err(|_| StoreError::Closed)?,
                () = tokio::time::sleep(due) => {}
            }
        }
    }

    /// Writes what is due; returns when something will be again.
    async fn settle_addresses(
        &self,
        orphans: &mut Orphans,
        repairs: &mut Repairs,
    ) -> Result<Duration, Status> {
        let now = self.inner.config.clock.now();
        let live = self.stored(service_cidrs::RANGES)?;
        // Only what goes depends on addresses, of which there may be many.
        let going = live
            .iter()
            .any(|range| object::deletion_timestamp(range).is_some());
        let taken = if going { self.taken_addresses() } else { Vec::new() };
        let configured: Vec<String> = self
            .inner
            .service_ranges
            .iter()
            .map(ToString::to_string)
            .collect();
        let (writes, again) = service_cidrs::plan(&configured, &live, &taken, now);
        self.write_all(writes).await?;
        // One server tells, or each Service would hear it from all of them.
        if self.inner.store.leadership().borrow().leads {
            repairs.out_of_range(&self.outside(&live));
        }
        let mut wait = again.unwrap_or(LOOK_EVERY).min(LOOK_EVERY);
        for (key, since) in std::mem::take(orphans) {
            let age = Duration::try_from(now.duration_since(since)).unwrap_or_default();
            match ORPHAN_GRACE.checked_sub(age).filter(|left| !left.is_zero()) {
                None => self.forget_orphan(&key, repairs).await?,
                Some(left) => {
                    wait = wait.min(left);
                    orphans.insert(key, since);
                }
            }
        }
        Ok(wait)
    }

    /// The addresses that Services have.
    fn taken_addresses(&self) -> Vec<IpAddr> {
        let (group, plural, namespace) = RECORDS;
        let (_, entries) = self
            .inner
            .store
            .peek_prefix(&stored::prefix(group, plural, namespace));
        let kept = entries.iter().filter(|entry| records::is_own_record(entry));
        kept.filter_map(|entry| entry.key.rsplit('/').next()?.parse().ok())
            .collect()
    }

    /// The addresses that lie in none of these ranges, each with its Service.
    fn outside(&self, ranges: &[Value]) -> Vec<(IpAddr, Value)> {
        // Before there is a range, those of the settings hold.
        if ranges.is_empty() {
            return Vec::new();
        }
        let (group, plural, namespace) = RECORDS;
        let prefix = stored::prefix(group, plural, namespace);
        let (_, entries) = self.inner.store.peek_prefix(&prefix);
        let records = entries.iter().filter(|entry| records::is_own_record(entry));
        let outside = records.filter_map(|entry| {
            let ip: IpAddr = entry.key.rsplit('/').next()?.parse().ok()?;
            (!repairs::is_within(ip, ranges)).then_some((ip, entry))
        });
        outside
            .filter_map(|(ip, entry)| Some((ip, self.holder(entry)?)))
            .collect()
    }

    async fn record_changed(
        &self,
        event: &Event,
        orphans: &mut Orphans,
        repairs: &Repairs,
    ) -> Result<(), StoreError> {
        let key = &event.entry.key;
        let held_by = self.holder(&event.entry);
        match (event.kind, held_by) {
            (Change::Put, Some(_)) => drop(orphans.remove(key)),
            (Change::Put, None) => self.note_orphan(&event.entry, orphans),
            (_, None) => drop(orphans.remove(key)),
            (_, Some(service)) => self.restore_record(key, &service, repairs).await?,
        }
        Ok(())
    }

    /// Judges all addresses and all records.
    async fn look_through(&self, orphans: &mut Orphans, repairs: &Repairs) -> Result<(), StoreError> {
        let store = &self.inner.store;
        let (_, entries) = store.peek_prefix(&stored::prefix("", "services", ""));
        for service in entries.iter().filter_map(|entry| text::parse(entry).ok()) {
            for key in records::held(&service) {
                // Most have one; a Service that came meanwhile brought its own.
                if store.peek(&key).is_none() {
                    self.restore_record(&key, &service, repairs).await?;
                }
            }
        }
        let (group, plural, namespace) = RECORDS;
        let (_, entries) = store.peek_prefix(&stored::prefix(group, plural, namespace));
        for record in entries.iter().filter(|record| self.holder(record).is_none()) {
            self.note_orphan(record, orphans);
        }
        Ok(())
    }

    fn note_orphan(&self, record: &Entry, orphans: &mut Orphans) {
        if records::is_own_record(record) {
            let now = self.inner.config.clock.now();
            orphans.entry(record.key.clone()).or_insert(now);
        }
    }

    /// Writes the record of an address that a Service has.
    async fn restore_record(&self, key: &str, service: &Value, repairs: &Repairs) -> Result<(), StoreError> {
        let claim = match services::claim(self, key, service) {
            Ok(claim) => claim,
            Err(status) => {
                tracing::warn!(%status, %key, "could not write the record of an address");
                return Ok(());
            }
        };
        tracing::warn!(%key, "the record of a service's address was removed; writing it again");
        let written = self.commit_unless_changed(claim).await?;
        match key.rsplit('/').next().and_then(|name| name.parse().ok()) {
            Some(ip) if written => repairs.not_allocated(service, ip),
            Some(ip) if self.has_another(key, service) => repairs.already_allocated(service, ip),
            _ => {}
        }
        Ok(())
    }

    /// The Service that a record names, if the Service has that address.
    fn holder(&self, record: &Arc<Entry>) -> Option<Value> {
        let record_value = text::parse(record).ok()?;
        let (namespace, name) = records::parent(&record_value)?;
        let entry = self
            .inner
            .store
            .peek(&stored::key("", "services", namespace, name))?;
        let service = text::parse(&entry).ok()?;
        records::held(&service).contains(&record.key).then_some(service)
    }

    /// Whether another Service has the address of that record by now.
    fn has_another(&self, key: &str, service: &Value) -> bool {
        let record = self.inner.store.peek(key);
        let holder = record.and_then(|record| self.holder(&record));
        holder.is_some_and(|holder| object::uid(&holder) != object::uid(service))
    }

    async fn forget_orphan(&self, key: &str, repairs: &Repairs) -> Result<(), Status> {
        let Some(entry) = self.inner.store.peek(key) else {
            return Ok(());
        };
        if self.holder(&entry).is_some() {
            return Ok(());
        }
        tracing::warn!(%key, "the record of an address belongs to no service; removing it");
        let expect = Expect::Revision(entry.revision);
        let removal = Op::Delete {
            key: key.to_owned(),
            expect,
        };
        let removed = self.commit_unless_changed(removal).await;
        if removed.map_err(refuse::status)? {
            let record = text::parse(&entry)?;
            let named = records::parent(&record)
                .map(|(namespace, name)| stored::key("", "services", namespace, name));
            let is_there = named.is_some_and(|named| self.inner.store.peek(&named).is_some());
            repairs.removed(&record, is_there);
        }
        Ok(())
    }

    /// Commits, unless somebody else has changed it meanwhile, which comes back as an event. Whether it did.
    async fn commit_unless_changed(&self, op: Op) -> Result<bool, StoreError> {
        match self.inner.store.commit(vec![op]).await {
            Ok(_) => Ok(true),
            Err(StoreError::Precondition { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
