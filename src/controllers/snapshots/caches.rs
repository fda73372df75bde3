//! What is known of snapshots. Their kinds are custom ones: the caches are filled while a cluster has them.

use std::future::ready;
use std::time::Duration;

use api::request::ResourceRef;
use api::snapshots::{GROUP, PLURALS, VolumeSnapshot, VolumeSnapshotClass, VolumeSnapshotContent};
use base::{OnError, Tasks};
use client::{Cache, Client, Selectors};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use tokio::sync::watch;

use crate::custom::{self, CustomResource};

/// The Lease by which the public snapshot controller says that it is at work.
pub(super) const LEADER: &str = "snapshot-controller-leader";
/// How long ago, or how far in the future where clocks differ, that Lease may have been renewed to count.
const FRESH_MAX: Duration = Duration::from_secs(60);
/// How soon the caches are looked at again that have not been filled yet.
const FILLING: Duration = Duration::from_secs(1);

/// Snapshots, their contents and classes, and who else looks after them.
#[derive(Clone)]
pub struct SnapshotCaches {
    /// VolumeSnapshots.
    pub snapshots: Cache<VolumeSnapshot>,
    /// VolumeSnapshotContents.
    pub contents: Cache<VolumeSnapshotContent>,
    /// VolumeSnapshotClasses.
    pub classes: Cache<VolumeSnapshotClass>,
    /// The Leases of public snapshot controllers, whatever their namespace.
    pub leaders: Cache<Lease>,
}

impl SnapshotCaches {
    /// Caches that tasks of `tasks` fill whenever the cluster has all three kinds.
    pub fn start(client: &Client, tasks: &Tasks) -> Self {
        let (told, served) = watch::channel(false);
        let follow = custom::follow(client.clone(), move |kinds| {
            let all = has_all(&kinds);
            told.send_if_modified(|served| std::mem::replace(served, all) != all);
            ready(())
        });
        tasks.spawn("looking for the kinds of snapshots", OnError::Log, follow);
        let all = Selectors::all;
        let leaders = all().fields(format!("metadata.name={LEADER}"));
        Self {
            snapshots: Cache::start_while(client, all(), served.clone(), tasks),
            contents: Cache::start_while(client, all(), served.clone(), tasks),
            classes: Cache::start_while(client, all(), served.clone(), tasks),
            leaders: Cache::start_while(client, leaders, served, tasks),
        }
    }

    /// No snapshots, to be added by hand.
    pub fn empty() -> Self {
        Self {
            snapshots: Cache::fixed([]),
            contents: Cache::fixed([]),
            classes: Cache::fixed([]),
            leaders: Cache::fixed([]),
        }
    }

    /// How long to keep away: from what has not been read whole, since a content that was not read yet would
    /// count as lost, and from what somebody else looks after.
    pub(super) fn keep_away(&self, now: Timestamp) -> Option<Duration> {
        let revisions = [
            self.snapshots.revision(),
            self.contents.revision(),
            self.classes.revision(),
            self.leaders.revision(),
        ];
        if revisions.contains(&0) {
            return Some(FILLING);
        }
        let leaders = self.leaders.list();
        leaders
            .iter()
            .any(|lease| is_held(lease, now))
            .then_some(FRESH_MAX)
    }
}

fn has_all(kinds: &[CustomResource]) -> bool {
    PLURALS.iter().all(|plural| {
        let wanted = ResourceRef::new(GROUP, "v1", plural);
        kinds.iter().any(|kind| kind.resource == wanted)
    })
}

/// Whether somebody holds the Lease and renews it.
fn is_held(lease: &Lease, now: Timestamp) -> bool {
    let spec = lease.spec.as_ref();
    let holder = spec.and_then(|spec| spec.holder_identity.as_deref());
    let renewed = spec.and_then(|spec| spec.renew_time.as_ref());
    let fresh = |at: Timestamp| now.duration_since(at).unsigned_abs() <= FRESH_MAX;
    holder.is_some_and(|holder| !holder.is_empty()) && renewed.is_some_and(|at| fresh(at.0))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_public_controller_goes_first_while_it_is_there() {
        let now: Timestamp = "2026-01-01T00:10:00Z".parse().unwrap();
        let held = |spec: Value| is_held(&serde_json::from_value(json!({"spec": spec})).unwrap(), now);
        for (renewed, is) in [
            ("2026-01-01T00:09:50.000000Z", true),
            ("2026-01-01T00:10:50.000000Z", true),
            ("2026-01-01T00:08:50.000000Z", false),
            ("2026-01-01T01:10:00.000000Z", false),
        ] {
            assert_eq!(
                held(json!({"holderIdentity": "pod-1", "renewTime": renewed})),
                is,
                "{renewed}"
            );
        }
        // Who leaves in good order lets go of it.
        assert!(!held(
            json!({"holderIdentity": "", "renewTime": "2026-01-01T00:10:00.000000Z"})
        ));
        assert!(!held(json!({})));
    }

    #[test]
    fn all_kinds_are_needed_in_the_version_that_is_known() {
        let kind = |version: &str, plural: &str| CustomResource {
            resource: ResourceRef::new(GROUP, version, plural),
            kind: String::new(),
            namespaced: false,
        };
        let all: Vec<CustomResource> = PLURALS.iter().map(|plural| kind("v1", plural)).collect();
        assert!(has_all(&all));
        assert!(!has_all(&all[1..]));
        let old: Vec<CustomResource> = PLURALS.iter().map(|plural| kind("v1beta1", plural)).collect();
        assert!(!has_all(&old));
    }

    #[test]
    fn nothing_is_decided_before_everything_is_read() {
        let away = SnapshotCaches::empty().keep_away(Timestamp::UNIX_EPOCH);
        assert_eq!(away, Some(FILLING));
    }
}
