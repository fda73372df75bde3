use std::collections::HashMap;

use super::*;
use crate::command::Ticket;
use bytes::Bytes;

#[derive(Default)]
struct Entries(HashMap<String, Arc<Entry>>);

impl View for Entries {
    fn entry(&self, key: &str) -> Option<Arc<Entry>> {
        self.0.get(key).cloned()
    }
}

fn record(value: u32) -> Record {
    let text = Bytes::from(format!("{{\"rv\":\"\",\"v\":{value}}}"));
    Record {
        text,
        revision_at: 7,
        ..Record::default()
    }
}

fn put(key: &str, value: u32, expect: Expect) -> Op {
    Op::Put {
        key: key.into(),
        record: record(value),
        expect,
    }
}

fn delete(key: &str, expect: Expect) -> Op {
    Op::Delete {
        key: key.into(),
        expect,
    }
}

fn command(body: Body) -> Command {
    Command {
        ticket: Ticket { origin: 0, number: 0 },
        now_ms: 5,
        body,
    }
}

fn revisions(events: &[Arc<Event>]) -> Vec<u64> {
    events.iter().map(|event| event.revision).collect()
}

#[test]
fn each_operation_gets_its_own_revision_and_sees_those_before() {
    let entries = Entries::default();
    let mut applier = Applier::new(
        &entries,
        Position {
            revision: 10,
            compacted: 0,
        },
    );
    let verdict = applier.apply(command(Body::Batch(vec![
        put("/a", 1, Expect::Absent),
        put("/b", 1, Expect::Any),
        put("/a", 2, Expect::Revision(11)),
        delete("/b", Expect::Present),
    ])));
    let Verdict::Done(outcomes) = verdict else {
        panic!("{verdict:?}")
    };
    assert!(matches!(&outcomes[2], Outcome::Put(entry) if entry.revision == 13 && entry.created == 11));
    assert!(matches!(&outcomes[3], Outcome::Deleted(entry) if entry.text == r#"{"rv":"14","v":1}"#));
    let (events, position) = applier.finish();
    assert_eq!(revisions(&events), [11, 12, 13, 14]);
    assert_eq!(position.revision, 14);
    assert_eq!(events[2].previous.as_ref().map(|entry| entry.revision), Some(11));
}

#[test]
fn a_failed_precondition_undoes_the_whole_call_and_only_that() {
    let entries = Entries::default();
    let mut applier = Applier::new(&entries, Position::default());
    applier.apply(command(Body::Batch(vec![put("/a", 1, Expect::Any)])));
    let verdict = applier.apply(command(Body::Batch(vec![
        put("/b", 1, Expect::Absent),
        put("/a", 2, Expect::Absent),
    ])));
    let Verdict::Refused {
        index: 1,
        current: Some(current),
    } = verdict
    else {
        panic!("{verdict:?}")
    };
    assert_eq!(current.revision, 1);
    // What the call did to a key that was changed before it is undone, too.
    let twice = vec![
        put("/a", 4, Expect::Revision(1)),
        delete("/a", Expect::Any),
        put("/c", 4, Expect::Present),
    ];
    let refused = applier.apply(command(Body::Batch(twice)));
    assert!(matches!(
        refused,
        Verdict::Refused {
            index: 2,
            current: None
        }
    ));
    let unchanged = applier.apply(command(Body::Batch(vec![put("/a", 1, Expect::Revision(1))])));
    assert!(matches!(unchanged, Verdict::Done(_)));
    let again = applier.apply(command(Body::Batch(vec![put("/b", 3, Expect::Absent)])));
    assert!(matches!(again, Verdict::Done(_)));
    assert_eq!(revisions(&applier.finish().0), [1, 2]);
}

#[test]
fn what_changes_nothing_has_no_revision() {
    let entries = Entries::default();
    let mut applier = Applier::new(&entries, Position::default());
    applier.apply(command(Body::Batch(vec![put("/a", 1, Expect::Any)])));
    let verdict = applier.apply(command(Body::Batch(vec![
        put("/a", 1, Expect::Revision(1)),
        delete("/none", Expect::Any),
    ])));
    let Verdict::Done(outcomes) = verdict else {
        panic!("{verdict:?}")
    };
    assert!(matches!(&outcomes[0], Outcome::Put(entry) if entry.revision == 1));
    assert_eq!(outcomes[1], Outcome::Unchanged);
    assert_eq!(applier.finish().1.revision, 1);
}

#[test]
fn expiry_spares_what_was_written_again() {
    let entries = Entries::default();
    let mut applier = Applier::new(&entries, Position::default());
    applier.apply(command(Body::Batch(vec![
        put("/a", 1, Expect::Any),
        put("/b", 1, Expect::Any),
    ])));
    applier.apply(command(Body::Batch(vec![put("/a", 2, Expect::Any)])));
    applier.apply(command(Body::Expire(vec![
        ("/a".into(), 1),
        ("/b".into(), 2),
        ("/c".into(), 9),
    ])));
    let (events, position) = applier.finish();
    assert_eq!(position.revision, 4);
    assert_eq!(events[3].entry.key, "/b");
}

#[test]
fn compaction_never_goes_back_nor_ahead() {
    let entries = Entries::default();
    let mut applier = Applier::new(
        &entries,
        Position {
            revision: 9,
            compacted: 5,
        },
    );
    assert_eq!(applier.apply(command(Body::Compact(3))), Verdict::Done(vec![]));
    assert_eq!(
        applier.apply(command(Body::Compact(10))),
        Verdict::Future { asked: 10 }
    );
    assert_eq!(
        applier.finish().1,
        Position {
            revision: 9,
            compacted: 5
        }
    );
}
