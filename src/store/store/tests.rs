//! The whole store on a real disk.

use std::path::Path;
use std::time::Duration;

use base::ManualClock;

use super::*;
use crate::types::{Change, Event, Expect, Record};

fn put(key: &str, text: &str, expect: Expect) -> Op {
    let record = Record {
        text: format!("{{\"\",{text}}}").into(),
        revision_at: 2,
        ..Record::default()
    };
    Op::Put {
        key: key.into(),
        record,
        expect,
    }
}

fn delete(key: &str) -> Op {
    Op::Delete {
        key: key.into(),
        expect: Expect::Present,
    }
}

async fn open(path: &Path) -> Store {
    Store::open(StoreConfig::new(path)).await.expect("a store")
}

async fn commit(store: &Store, op: Op) -> u64 {
    match store.commit(vec![op]).await.expect("a commit").as_slice() {
        [Outcome::Put(entry) | Outcome::Deleted(entry)] => entry.revision,
        other => panic!("{other:?}"),
    }
}

fn texts(entries: &[Arc<Entry>]) -> Vec<&str> {
    entries.iter().map(|entry| text(entry)).collect()
}

fn text(entry: &Entry) -> &str {
    std::str::from_utf8(&entry.text).expect("UTF-8")
}

async fn next(watch: &mut Watch) -> Arc<Event> {
    let event = tokio::time::timeout(Duration::from_secs(10), watch.next())
        .await
        .expect("an event in time");
    event.expect("an open store").expect("an event")
}

#[tokio::test]
async fn a_store_remembers() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path()).await;
    assert_eq!(store.revision(), 0);
    assert_eq!(commit(&store, put("/g/k/a", "1", Expect::Absent)).await, 1);
    assert_eq!(commit(&store, put("/g/k/b", "2", Expect::Any)).await, 2);
    assert_eq!(commit(&store, put("/g/k/a", "3", Expect::Revision(1))).await, 3);
    assert_eq!(commit(&store, delete("/g/k/b")).await, 4);
    let refused = store.commit(vec![put("/g/k/a", "4", Expect::Absent)]).await;
    assert!(
        matches!(refused, Err(StoreError::Precondition { index: 0, current: Some(e) }) if e.revision == 3)
    );
    store.close().await;
    assert!(matches!(store.get("/g/k/a").await, Err(StoreError::Closed)));
    assert!(matches!(
        store.commit(vec![delete("/g/k/a")]).await,
        Err(StoreError::Closed)
    ));

    let store = open(folder.path()).await;
    assert_eq!(store.revision(), 4);
    let entry = store.get("/g/k/a").await.expect("a read").expect("an entry");
    assert_eq!((entry.revision, entry.created, text(&entry)), (3, 1, "{\"3\",3}"));
    let past = ListQuery {
        revision: Some(2),
        ..ListQuery::prefix("/g/k/")
    };
    let past = store.list(past).await.expect("a listing");
    assert_eq!(
        (past.revision, texts(&past.entries)),
        (2, vec!["{\"1\",1}", "{\"2\",2}"])
    );
    // Everything before the restart can still be watched.
    let mut watch = store.watch("/g/k/b", 0).expect("a watch");
    assert_eq!(next(&mut watch).await.kind, Change::Put);
    let event = next(&mut watch).await;
    assert_eq!(
        (event.kind, event.revision, text(&event.entry)),
        (Change::Delete, 4, "{\"4\",2}")
    );
    store.close().await;
}

/// More than the store's thread takes in at once.
#[tokio::test]
async fn thousands_at_once_are_all_answered() {
    const COUNT: u64 = 20_000;
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path()).await;
    let mut writers = tokio::task::JoinSet::new();
    for number in 0..COUNT {
        let store = store.clone();
        writers
            .spawn(async move { commit(&store, put(&format!("/g/k/{number}"), "1", Expect::Absent)).await });
    }
    let mut revisions = writers.join_all().await;
    revisions.sort_unstable();
    assert!(revisions.into_iter().eq(1..=COUNT));
    store.close().await;
}

#[tokio::test]
async fn pages_are_exact_while_writes_go_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path()).await;
    for n in 0..10 {
        commit(&store, put(&format!("/g/k/{n}"), "old", Expect::Any)).await;
    }
    let query = ListQuery {
        limit: 4,
        ..ListQuery::prefix("/g/k/")
    };
    let page = store.list(query.clone()).await.expect("a page");
    assert_eq!((page.entries.len(), page.more, page.remaining), (4, true, 6));
    commit(&store, put("/g/k/5", "new", Expect::Any)).await;
    commit(&store, delete("/g/k/6")).await;
    let after = page.entries.last().map(|entry| entry.key.clone());
    let rest = ListQuery {
        after,
        revision: Some(page.revision),
        limit: 0,
        ..query
    };
    let rest = store.list(rest).await.expect("the rest");
    assert_eq!(rest.entries.len(), 6);
    assert!(texts(&rest.entries).iter().all(|text| text.ends_with("old}")));
    let future = ListQuery {
        revision: Some(99),
        ..ListQuery::default()
    };
    assert!(matches!(
        store.list(future).await,
        Err(StoreError::Future {
            asked: 99,
            current: 12
        })
    ));
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_get_one_order_and_watches_see_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = StoreConfig::new(folder.path());
    (config.watch_window, config.segment_bytes, config.flush_log_bytes) = (50, 64 << 10, 32 << 10);
    let store = Store::open(config).await.expect("a store");
    let mut watch = store.watch("/g/", 0).expect("a watch");
    let writers = (0..16).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut revisions = vec![];
            for n in 0..25 {
                let text = "x".repeat(100 * (n % 5));
                let key = format!("/g/k{}/{writer}", n % 2);
                revisions.push(commit(&store, put(&key, &format!("{n}{text}"), Expect::Any)).await);
            }
            revisions
        })
    });
    let mut revisions = vec![];
    for writer in writers.collect::<Vec<_>>() {
        revisions.extend(writer.await.expect("a writer"));
    }
    revisions.sort_unstable();
    assert_eq!(revisions, (1..=400).collect::<Vec<_>>());
    for revision in 1..=400 {
        assert_eq!(next(&mut watch).await.revision, revision);
    }
    assert_eq!(watch.progress(), 400);
    store.close().await;
    assert!(watch.next().await.is_none());
    let segments = std::fs::read_dir(folder.path().join("raft"))
        .expect("the log")
        .count();
    assert!(segments <= 6, "{segments} segments: the log is recycled");
    assert_eq!(open(folder.path()).await.revision(), 400);
}

#[tokio::test]
async fn compaction_takes_the_past_but_not_idle_watches() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path()).await;
    let mut idle = store.watch("/g/idle/", 0).expect("a watch");
    for n in 0..5 {
        commit(&store, put("/g/k/a", &n.to_string(), Expect::Any)).await;
    }
    assert!(matches!(
        store.compact(9).await,
        Err(StoreError::Future { asked: 9, current: 5 })
    ));
    store.compact(4).await.expect("a compaction");
    assert!(matches!(
        store.watch("/g/", 3),
        Err(StoreError::Compacted { oldest: 4 })
    ));
    let past = |revision| ListQuery {
        revision: Some(revision),
        ..ListQuery::default()
    };
    assert!(matches!(
        store.list(past(3)).await,
        Err(StoreError::Compacted { oldest: 4 })
    ));
    assert_eq!(
        texts(&store.list(past(4)).await.expect("a listing").entries),
        ["{\"4\",3}"]
    );
    // Nor can it where nothing has changed since: whoever reads page by page is told so wherever they are.
    let quiet = ListQuery {
        revision: Some(3),
        ..ListQuery::prefix("/g/idle/")
    };
    assert!(matches!(
        store.list(quiet).await,
        Err(StoreError::Compacted { oldest: 4 })
    ));
    commit(&store, put("/g/idle/x", "1", Expect::Any)).await;
    assert_eq!(next(&mut idle).await.revision, 6);
    store.close().await;
}

#[tokio::test]
async fn entries_expire_by_replicated_deletes() {
    let folder = tempfile::tempdir().expect("a folder");
    let clock = Arc::new(ManualClock::default());
    let mut config = StoreConfig::new(folder.path());
    config.clock = clock.clone();
    let store = Store::open(config).await.expect("a store");
    let mut watch = store.watch("", 0).expect("a watch");
    let mut op = put("/g/k/a", "1", Expect::Any);
    if let Op::Put { record, .. } = &mut op {
        record.ttl_seconds = Some(3600);
    }
    commit(&store, op).await;
    clock.advance(Duration::from_secs(3601));
    assert_eq!(next(&mut watch).await.kind, Change::Put);
    let event = next(&mut watch).await;
    assert_eq!((event.kind, event.revision), (Change::Delete, 2));
    assert_eq!(store.get("/g/k/a").await.expect("a read"), None);
    store.close().await;
}

#[tokio::test]
async fn nonsense_is_refused_before_it_reaches_the_log() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = StoreConfig::new(folder.path());
    config.request_bytes_max = 2000;
    let store = Store::open(config).await.expect("a store");
    let bad_place = Op::Put {
        key: "/k".into(),
        record: Record {
            text: "{}".into(),
            revision_at: 1,
            ..Record::default()
        },
        expect: Expect::Any,
    };
    let good = put("/k", "1", Expect::Any);
    let invalid = store.commit(vec![good.clone(), bad_place]).await;
    assert!(matches!(invalid, Err(StoreError::Invalid { index: 1, .. })));
    assert!(matches!(
        store.commit(vec![delete("a\0b")]).await,
        Err(StoreError::Invalid { index: 0, .. })
    ));
    assert!(matches!(
        store.commit(vec![delete("")]).await,
        Err(StoreError::Invalid { .. })
    ));
    let large = put("/k", &"x".repeat(3000), Expect::Any);
    assert!(matches!(
        store.commit(vec![large]).await,
        Err(StoreError::TooLarge { .. })
    ));
    assert_eq!(commit(&store, good).await, 1);
    store.close().await;
}

#[tokio::test]
async fn a_folder_opens_once_and_a_lost_log_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path()).await;
    let twice = Store::open(StoreConfig::new(folder.path())).await.map(drop);
    assert!(twice.is_err());
    commit(&store, put("/k", "1", Expect::Any)).await;
    store.close().await;
    std::fs::remove_dir_all(folder.path().join("raft")).expect("removing the log");
    let error = Store::open(StoreConfig::new(folder.path()))
        .await
        .map(drop)
        .expect_err("no log");
    assert!(error.to_string().contains("the log is missing"), "{error}");
}

/// Where the child of the next test writes; without it that "test" does nothing.
const CHILD_FOLDER: &str = "CORACLE_STORE_TEST_FOLDER";

/// Not a test by itself: writes, and says what was acknowledged, until it is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_writes_until_killed() {
    let Ok(folder) = std::env::var(CHILD_FOLDER) else {
        return;
    };
    let mut config = StoreConfig::new(folder);
    (config.segment_bytes, config.flush_log_bytes) = (64 << 10, 100 << 10);
    let store = Store::open(config).await.expect("a store");
    let writers = (0..8).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            for n in 0u64.. {
                let op = put(&format!("/g/k/{writer}-{}", n % 7), &"x".repeat(500), Expect::Any);
                // One write each, so that lines of several writers do not mix.
                let line = format!("acknowledged {}\n", commit(&store, op).await);
                let _ = std::io::Write::write_all(&mut std::io::stdout(), line.as_bytes());
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.expect("a writer");
    }
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_by_kill_9() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut last, mut lines) = (0, 0);
    for round in 0..5u64 {
        let text = run_and_kill(folder.path(), Duration::from_millis(200 + 70 * round));
        // The last line may have been cut by the kill.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let told = whole
            .lines()
            .filter_map(|line| line.split_once("acknowledged ")?.1.parse::<u64>().ok());
        for revision in told {
            (last, lines) = (revision.max(last), lines + 1);
        }
        let store = open(folder.path()).await;
        assert!(
            store.revision() >= last,
            "{last} was acknowledged, {} is there",
            store.revision()
        );
        let mut watch = store.watch("", 0).expect("a watch");
        for revision in 1..=store.revision() {
            assert_eq!(next(&mut watch).await.revision, revision);
        }
        last = store.revision();
        store.close().await;
    }
    assert!(lines > 100, "only {lines} writes");
}

fn run_and_kill(folder: &Path, after: Duration) -> String {
    // To a file, not a pipe: a full pipe would hold the writers up.
    let output = folder.join("output");
    let mut child = std::process::Command::new(std::env::current_exe().expect("this program"))
        .args([
            "--exact",
            "--nocapture",
            "store::tests::child_that_writes_until_killed",
        ])
        .env(CHILD_FOLDER, folder)
        .stdout(std::fs::File::create(&output).expect("a file"))
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("a child");
    std::thread::sleep(after);
    child.kill().expect("a kill");
    child.wait().expect("an end");
    std::fs::read_to_string(output).expect("output")
}

/// Texts of 4 KiB that cannot be made smaller.
fn noise(seed: u64) -> String {
    let mut state = seed | 1;
    let mut digit = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from_digit((state % 36) as u32, 36).unwrap_or('0')
    };
    let text: String = (0..4096).map(|_| digit()).collect();
    format!("\"text\":\"{text}\"")
}

#[tokio::test(flavor = "multi_thread")]
async fn files_shrink_while_writes_go_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path()).await;
    for number in 0..2_000 {
        let key = format!("/old/{number}");
        commit(&store, put(&key, &noise(number), Expect::Any)).await;
    }
    for number in 0..1_900 {
        commit(&store, delete(&format!("/old/{number}"))).await;
    }
    let (before, _) = store.defragment().await.expect("room");
    let writing = store.clone();
    let (stop, mut stopped) = tokio::sync::oneshot::channel();
    let writer = tokio::spawn(async move {
        let mut number = 0;
        while stopped.try_recv().is_err() {
            commit(
                &writing,
                put("/new", &format!("\"number\":{number}"), Expect::Any),
            )
            .await;
            number += 1;
        }
        number
    });
    let revision = store.revision();
    store.compact(revision).await.expect("compaction");
    assert_eq!(store.compacted(), revision);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    let after = loop {
        let (_, after) = store.defragment().await.expect("room");
        if after.file_bytes < before.file_bytes / 4 {
            break after;
        }
        assert!(tokio::time::Instant::now() < deadline, "{before:?} {after:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let _ = stop.send(());
    let written = writer.await.expect("the writer");
    assert!(written > 0, "nobody waited for {after:?}");
    let found = store.list(ListQuery::prefix("/old/")).await.expect("a listing");
    assert_eq!(found.entries.len(), 100, "what was not deleted is there");
    let last = store.get("/new").await.expect("an answer").expect("an entry");
    assert!(text(&last).contains(&format!("\"number\":{}", written - 1)));
    store.close().await;
}
