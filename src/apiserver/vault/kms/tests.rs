use std::sync::atomic::Ordering;

use base::ManualClock;

use super::testing::{Script, Scripted};
use super::*;

fn told() -> ToldKms {
    serde_json::from_str(r#"{"apiVersion": "v2", "name": "p", "endpoint": "unix:///p"}"#).unwrap()
}

fn plugin(script: &Arc<Script>, clock: &Arc<ManualClock>) -> Kms {
    Kms::new(
        told(),
        Box::new(Scripted(script.clone())),
        Series::default(),
        clock.clone(),
    )
}

#[tokio::test]
async fn keys_change_when_the_plugin_says_so() {
    let (script, clock) = (
        Arc::<Script>::default(),
        Arc::new(ManualClock::new(jiff::Timestamp::UNIX_EPOCH)),
    );
    let kms = plugin(&script, &clock);
    assert!(kms.is_due() && kms.health().is_err());
    assert!(kms.writes().is_err());
    script.key(Some("one"));
    kms.look().await;
    assert_eq!((kms.health(), kms.is_due()), (Ok(()), false));
    let first = kms.writes().unwrap();
    let sealed = kms.seal(&first, b"hunter2", "/a").unwrap();
    clock.advance(WELL_EVERY);
    assert!(kms.is_due());
    kms.look().await;
    assert_eq!(
        kms.writes().unwrap().source,
        first.source,
        "the same key, the same seed"
    );
    script.key(Some("two"));
    kms.look().await;
    let second = kms.writes().unwrap();
    assert_ne!(second.source, first.source);
    assert!(kms.is_stale("one") && !kms.is_stale("two"));
    assert_eq!(
        kms.open(&first.source, &sealed, "/a"),
        Some(Ok(b"hunter2".to_vec()))
    );
    assert_eq!(
        script.decrypted.load(Ordering::SeqCst),
        0,
        "both seeds are in memory"
    );
    // Another server, or this one after a restart, has it decrypted.
    let later = plugin(&script, &clock);
    assert_eq!(later.open(&first.source, &sealed, "/a"), None);
    later.learn(&first.source).await.unwrap();
    later.learn(&first.source).await.unwrap();
    assert_eq!(
        later.open(&first.source, &sealed, "/a"),
        Some(Ok(b"hunter2".to_vec()))
    );
    assert_eq!(script.decrypted.load(Ordering::SeqCst), 1);
    script.lost.lock().unwrap().insert("two".into());
    let why = later.learn(&second.source).await.unwrap_err();
    assert_eq!(why, "failed to decrypt DEK, error: no such key");
}

#[tokio::test]
async fn a_plugin_that_goes_away_stops_writes_after_a_while_and_no_reads() {
    let (script, clock) = (
        Arc::<Script>::default(),
        Arc::new(ManualClock::new(jiff::Timestamp::UNIX_EPOCH)),
    );
    let kms = plugin(&script, &clock);
    script.key(Some("one"));
    kms.look().await;
    let writes = kms.writes().unwrap();
    let sealed = kms.seal(&writes, b"hunter2", "/a").unwrap();
    script.key(None);
    clock.advance(WELL_EVERY);
    kms.look().await;
    assert!(kms.health().unwrap_err().contains("nobody there"));
    assert!(kms.writes().is_ok(), "not at once");
    clock.advance(UNWELL_EVERY);
    assert!(kms.is_due(), "it is asked more often");
    clock.advance(WRITES_FOR);
    let why = kms.writes().err().unwrap();
    assert!(why.contains("expired") && why.contains("nobody there"), "{why}");
    assert_eq!(
        kms.open(&writes.source, &sealed, "/a"),
        Some(Ok(b"hunter2".to_vec()))
    );
    script.key(Some("one"));
    kms.look().await;
    assert!(kms.writes().is_ok() && kms.health().is_ok());
}
