//! Three whole stores on real disks, connected by pipes.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::*;
use crate::membership::{Change, Peer};
use crate::peers::{Dialer, Dialling, Stream};
use crate::plant::{Plant, Plants};
use crate::types::{Expect, Record};

/// Connects the stores of one test; one that is not there cannot be dialled.
#[derive(Clone, Default)]
struct Pipes {
    stores: Arc<Mutex<HashMap<u64, Store>>>,
}

/// The dialer of one member, whose id is known when its store is open.
struct From(Arc<Mutex<u64>>, Pipes);

impl Dialer for From {
    fn dial(&self, peer: &Peer) -> Dialling {
        let from = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let store = self.1.lock().get(&peer.id).cloned();
        Box::pin(async move {
            let store = store.ok_or(std::io::ErrorKind::ConnectionRefused)?;
            let (near, far) = tokio::io::duplex(64 << 10);
            tokio::spawn(async move { store.serve_peer(from, Box::new(far)).await });
            Ok(Box::new(near) as Box<dyn Stream>)
        })
    }
}

impl Pipes {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Store>> {
        self.stores.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the member in the folder with this number.
    async fn open(&self, folder: &std::path::Path, number: u64, join: Option<u64>) -> Store {
        self.open_as(folder, number, join, None).await
    }

    /// The same, not quite as this version would.
    async fn open_as(
        &self,
        folder: &std::path::Path,
        number: u64,
        join: Option<u64>,
        plant: Option<Plant>,
    ) -> Store {
        let mut config = StoreConfig::new(folder.join(number.to_string()));
        config.plants = Plants::one(plant);
        config.join = join;
        config.keep_log_bytes = 20_000;
        config.here = Peer {
            id: 0,
            name: format!("n{number}"),
            address: format!("pipe:{number}"),
            witness: false,
        };
        let own = Arc::new(Mutex::new(0));
        config.dialer = Some(Arc::new(From(own.clone(), self.clone())));
        let store = Store::open(config).await.expect("a store");
        *own.lock().unwrap_or_else(PoisonError::into_inner) = store.member();
        self.lock().insert(store.member(), store.clone());
        store
    }
}

async fn put(store: &Store, key: &str, value: &str) -> u64 {
    let record = Record {
        text: format!("{{\"\",{value}}}").into(),
        revision_at: 2,
        ..Record::default()
    };
    let op = Op::Put {
        key: key.into(),
        record,
        expect: Expect::Any,
    };
    match store.commit(vec![op]).await.expect("a commit").as_slice() {
        [Outcome::Put(entry)] => entry.revision,
        other => panic!("{other:?}"),
    }
}

/// Tries until it is so; what the group refuses for the moment is asked again.
async fn eventually<T, E: std::fmt::Debug>(what: &str, mut attempt: impl AsyncFnMut() -> Result<T, E>) -> T {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(120);
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(error) if tokio::time::Instant::now() > deadline => panic!("{what}: {error:?}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn join(leader: &Store, store: &Store, number: u64) {
    let peer = Peer {
        id: store.member(),
        name: format!("n{number}"),
        address: format!("pipe:{number}"),
        witness: false,
    };
    eventually("adding a learner", async || {
        leader.change_members(Change::Add(peer.clone())).await
    })
    .await;
    let id = store.member();
    eventually("promoting it", async || {
        leader.change_members(Change::Promote(id)).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn three_members_serve_each_others_clients_and_outlive_their_leader() {
    let folder = tempfile::tempdir().expect("a folder");
    let pipes = Pipes::default();
    let first = pipes.open(folder.path(), 1, None).await;
    for n in 0..100 {
        put(
            &first,
            &format!("/g/k/{}", n % 10),
            &format!("{n}{}", "x".repeat(1000)),
        )
        .await;
    }
    let second = pipes.open(folder.path(), 2, Some(first.cluster())).await;
    let third = pipes.open(folder.path(), 3, Some(first.cluster())).await;
    let mut watch = third.watch("/g/", 0).expect("a watch");
    join(&first, &second, 2).await;
    join(&first, &third, 3).await;

    // A follower takes a write, and another shows it at once to who reads linearizably.
    let revision = put(&second, "/g/k/new", "1").await;
    let entry = third.get("/g/k/new").await.expect("a read").expect("an entry");
    assert_eq!(entry.revision, revision);

    // The leader ends: the others go on, and the watch misses nothing.
    pipes.lock().remove(&first.member());
    first.close().await;
    let key = "/g/k/after";
    let last = tokio::time::timeout(Duration::from_secs(60), put(&second, key, "2")).await;
    let last = last.expect("a write without the first leader");
    for expected in 1..=last {
        let event = tokio::time::timeout(Duration::from_secs(60), watch.next()).await;
        let event = event
            .expect("an event in time")
            .expect("an open store")
            .expect("an event");
        assert_eq!(event.revision, expected);
    }
    // It comes back, and learns what it missed.
    let first = pipes.open(folder.path(), 1, None).await;
    let entry = eventually("a read at the first", async || first.get(key).await).await;
    assert_eq!(entry.expect("an entry").revision, last);
    for store in [first, second, third] {
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn leadership_is_handed_over_and_members_are_removed() {
    let folder = tempfile::tempdir().expect("a folder");
    let pipes = Pipes::default();
    let first = pipes.open(folder.path(), 1, None).await;
    put(&first, "/g/k/a", "1").await;
    let second = pipes.open(folder.path(), 2, Some(first.cluster())).await;
    join(&first, &second, 2).await;
    eventually("a refusal", async || {
        match first.change_members(Change::Remove(first.member())).await {
            Err(StoreError::Membership(why)) if why.contains("leads") => Ok(()),
            other => Err(other),
        }
    })
    .await;

    let id = second.member();
    eventually("handing over", async || {
        first
            .change_members(Change::Lead(id))
            .await
            .map_err(|error| error.to_string())?;
        let mut leadership = second.leadership();
        let leads = leadership.wait_for(|now| now.leads);
        tokio::time::timeout(Duration::from_secs(5), leads)
            .await
            .map(drop)
            .map_err(|_| "not yet".to_owned())
    })
    .await;
    put(&first, "/g/k/b", "2").await;
    eventually("removing the first", async || {
        second.change_members(Change::Remove(first.member())).await
    })
    .await;
    assert_eq!(put(&second, "/g/k/c", "3").await, 3, "alone again");
    let status = second.status().await.expect("a status");
    assert_eq!(status.members.voters, [second.member()]);
    let why = tokio::time::timeout(Duration::from_secs(60), first.ended())
        .await
        .expect("an end");
    assert!(why.is_some_and(|why| why.contains("removed from the cluster")));
    second.close().await;
}

/// What is changed by way of a member that knows more than the leader is answered, and not with doubt.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn changes_are_settled_under_a_leader_of_an_earlier_version() {
    let folder = tempfile::tempdir().expect("a folder");
    let pipes = Pipes::default();
    let elder = pipes.open_as(folder.path(), 1, None, Some(Plant::Elder)).await;
    let second = pipes.open(folder.path(), 2, Some(elder.cluster())).await;
    join(&elder, &second, 2).await;
    let third = pipes.open(folder.path(), 3, Some(elder.cluster())).await;
    let peer = Peer {
        id: third.member(),
        name: "n3".into(),
        address: "pipe:3".into(),
        witness: false,
    };
    for change in [
        Change::Add(peer.clone()),
        Change::Promote(peer.id),
        Change::Remove(peer.id),
    ] {
        assert!(elder.leadership().borrow().leads);
        let done = eventually("a change", async || {
            match second.change_members(change.clone()).await {
                Err(error @ StoreError::Membership(_)) => Err(error),
                done => Ok(done),
            }
        });
        done.await.expect("it is settled");
    }
    let status = second.status().await.expect("a status");
    assert!(status.unsettled.is_empty(), "{status:?}");
}
