//! Which state a list or a watch shows: every `resourceVersion`, `resourceVersionMatch`, limit, continue token and
//! `sendInitialEvents` together, as Kubernetes' page on API concepts and its validation of the options have it.
//!
//! Three objects (a, b, c) are there at the revision called *past*, five (d and e) by now; what was before *past* is
//! compacted away.

use std::time::Duration;

use api::request::{EventKind, EventStream, Options, Verb};
use api::status::Status;
use client::Api;
use futures_util::StreamExt;
use serde_json::{Value, json};

use super::{MAPS, World, config_map, request, text, world};

/// A watch that owes us an event and does not send it.
const DEADLINE: Duration = Duration::from_secs(30);

/// The columns of the tables of lists.
const MATCHES: [&str; 4] = ["", "Exact", "NotOlderThan", "Roughly"];

const NEEDS_VERSION: &str = "422 resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless \
    resourceVersion is provided";
const NEEDS_VERSION_AND_SENSE: &str = "422 [resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless \
    resourceVersion is provided, resourceVersionMatch: Unsupported value: \"Roughly\": supported values: \"Exact\", \
    \"NotOlderThan\", \"\"]";
const NO_SENSE: &str = "422 resourceVersionMatch: Unsupported value: \"Roughly\": supported values: \"Exact\", \
    \"NotOlderThan\", \"\"";
const NOT_EXACTLY_ANY: &str = "422 resourceVersionMatch: Forbidden: resourceVersionMatch \"exact\" is forbidden for \
    resourceVersion \"0\"";
const NOT_WITH_TOKEN: &str = "422 resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden when continue is \
    provided";
const TOO_OLD: &str = "410 The resourceVersion for the provided list is too old.";
const NOT_A_NUMBER: &str = "400 invalid resource version: resourceVersion: Invalid value: \"x7\": strconv.ParseUint: \
    parsing \"x7\": invalid syntax";
const ONE_OF_BOTH: &str = "400 specifying resource version is not allowed when using continue";
const TOO_NEW: &str = "504 Timeout: Too large resource version: 99999, current: NOW";

/// A row for each resource version; in it what a list with each of [`MATCHES`] answers.
type Table = [(&'static str, [&'static str; 4])];

/// Without a limit.
const WHOLE: &Table = &[
    (
        "",
        ["abcde", NEEDS_VERSION, NEEDS_VERSION, NEEDS_VERSION_AND_SENSE],
    ),
    ("0", ["abcde", NOT_EXACTLY_ANY, "abcde", NO_SENSE]),
    ("old", ["abcde", TOO_OLD, "abcde", NO_SENSE]),
    ("past", ["abcde", "abc", "abcde", NO_SENSE]),
    ("now", ["abcde", "abcde", "abcde", NO_SENSE]),
    ("99999", [TOO_NEW, TOO_NEW, TOO_NEW, NO_SENSE]),
    ("x7", [NOT_A_NUMBER, NOT_A_NUMBER, NOT_A_NUMBER, NO_SENSE]),
];

/// With a limit of two: what is on the first page, and how many are left.
const PAGED: &Table = &[
    (
        "",
        ["ab+3", NEEDS_VERSION, NEEDS_VERSION, NEEDS_VERSION_AND_SENSE],
    ),
    ("0", ["abcde", NOT_EXACTLY_ANY, "abcde", NO_SENSE]),
    ("old", [TOO_OLD, TOO_OLD, "ab+3", NO_SENSE]),
    ("past", ["ab+1", "ab+1", "ab+3", NO_SENSE]),
    ("now", ["ab+3", "ab+3", "ab+3", NO_SENSE]),
    ("99999", [TOO_NEW, TOO_NEW, TOO_NEW, NO_SENSE]),
    ("x7", [NOT_A_NUMBER, NOT_A_NUMBER, NOT_A_NUMBER, NO_SENSE]),
];

/// With the token of the first page of a list at *past*.
const CONTINUED: &Table = &[
    ("", ["c", "", "", ""]),
    ("0", ["c", "", NOT_WITH_TOKEN, ""]),
    ("past", [ONE_OF_BOTH, NOT_WITH_TOKEN, NOT_WITH_TOKEN, ""]),
    ("99999", [ONE_OF_BOTH, NOT_WITH_TOKEN, NOT_WITH_TOKEN, ""]),
    ("x7", [ONE_OF_BOTH, NOT_WITH_TOKEN, NOT_WITH_TOKEN, ""]),
];

/// A world with a past.
struct Past {
    world: World,
    old: String,
    past: String,
    now: String,
}

impl Past {
    async fn new() -> Self {
        let world = world().await;
        let mut versions = Vec::new();
        for names in [&[][..], &["a", "b", "c"], &["d", "e"]] {
            for name in names {
                world
                    .create(MAPS, "default", config_map(name, json!({})))
                    .await
                    .unwrap();
            }
            let all = world.list(MAPS, Options::default()).await.unwrap();
            versions.push(text(&all, "/metadata/resourceVersion"));
        }
        let [old, past, now] = <[String; 3]>::try_from(versions).unwrap();
        world.core.store().compact(past.parse().unwrap()).await.unwrap();
        Self {
            world,
            old,
            past,
            now,
        }
    }

    fn version(&self, name: &str) -> Option<String> {
        match name {
            "" => None,
            "old" => Some(self.old.clone()),
            "past" => Some(self.past.clone()),
            "now" => Some(self.now.clone()),
            other => Some(other.to_owned()),
        }
    }

    /// A list in short: the names of its items, and how many it says are left.
    async fn list(&self, options: Options) -> String {
        let list = match self.world.list(MAPS, options).await {
            Ok(list) => list,
            Err(status) => return self.refusal(&status),
        };
        let items = list["items"].as_array().unwrap();
        let names: String = items.iter().map(|item| text(item, "/metadata/name")).collect();
        let left = list["metadata"]["remainingItemCount"].as_u64();
        assert_eq!(left.is_some(), !text(&list, "/metadata/continue").is_empty());
        left.map_or(names.clone(), |left| format!("{names}+{left}"))
    }

    fn refusal(&self, status: &Status) -> String {
        let invalid = "ListOptions.meta.k8s.io \"\" is invalid: ";
        let message = status.message.strip_prefix(invalid).unwrap_or(&status.message);
        let current = format!("current: {}", self.now);
        format!("{} {}", status.code, message.replace(&current, "current: NOW"))
    }

    async fn agrees(&self, table: &Table, limit: u64, token: &str) {
        for (version, row) in table {
            for (how, expected) in MATCHES.iter().zip(row) {
                let options = Options {
                    resource_version: self.version(version),
                    resource_version_match: (*how).into(),
                    limit,
                    continue_token: token.into(),
                    ..Options::default()
                };
                let told =
                    format!("resourceVersion={version}&resourceVersionMatch={how}&limit={limit} ({token})");
                // An empty cell: refused for several reasons, all of which other cells have.
                let answer = self.list(options).await;
                match expected {
                    &"" => assert!(answer.starts_with("422 ["), "{told}: {answer}"),
                    expected => assert_eq!(answer, **expected, "{told}"),
                }
            }
        }
    }
}

#[tokio::test]
async fn lists_show_the_state_that_was_asked_for() {
    let past = Past::new().await;
    past.agrees(WHOLE, 0, "").await;
    past.agrees(PAGED, 2, "").await;
    let first = Options {
        resource_version: past.version("past"),
        limit: 2,
        ..Options::default()
    };
    let first = past.world.list(MAPS, first).await.unwrap();
    past.agrees(CONTINUED, 0, &text(&first, "/metadata/continue"))
        .await;
    past.agrees(CONTINUED, 2, &text(&first, "/metadata/continue"))
        .await;
    let initial = Options {
        send_initial_events: Some(false),
        ..Options::default()
    };
    assert_eq!(
        past.list(initial).await,
        "422 sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list"
    );
}

#[tokio::test]
async fn tokens_that_nobody_made_are_refused() {
    use base64::Engine as _;
    let past = Past::new().await;
    let encoded = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    for (token, why) in [
        ("a~".to_owned(), ": illegal base64 data at input byte 1"),
        (
            encoded(r#"{"v":"v2","rv":1,"start":"a"}"#),
            ": server does not recognize this encoded version v2",
        ),
        (
            encoded(r#"{"v":"meta.k8s.io/v1","rv":0,"start":"a\u0000"}"#),
            ": incorrect encoded start resourceVersion (version meta.k8s.io/v1)",
        ),
        (
            encoded(r#"{"v":"meta.k8s.io/v1","rv":1,"start":""}"#),
            ": encoded start key empty (version meta.k8s.io/v1)",
        ),
        (
            encoded(r#"{"v":"meta.k8s.io/v1","rv":1,"start":"../secrets/a\u0000"}"#),
            ": ../secrets/a\0",
        ),
    ] {
        let options = Options {
            continue_token: token,
            ..Options::default()
        };
        let expected = format!("400 invalid continue token: continue key is not valid{why}");
        assert_eq!(past.list(options).await, expected);
    }
}

const MATCH_NEEDS_EVENTS: &str = "422 resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch \
    unless sendInitialEvents is provided";
const EVENTS_NEED_MATCH: &str = "422 resourceVersionMatch: Forbidden: sendInitialEvents requires setting \
    resourceVersionMatch to NotOlderThan";
const WATCH_TOO_OLD: &str = "ERROR 410 too old resource version: OLD (PAST)";

/// A watch's resource version, match and `sendInitialEvents`, and what it shows until `m` is created: the objects by
/// name, and `!` for the bookmark that ends the initial events.
const WATCHES: &[(&str, &str, Option<bool>, &str)] = &[
    ("", "", None, "abcde!m"),
    ("0", "", None, "abcde!m"),
    ("past", "", None, "dem"),
    ("now", "", None, "m"),
    ("old", "", None, WATCH_TOO_OLD),
    ("x7", "", None, NOT_A_NUMBER),
    ("", "NotOlderThan", None, MATCH_NEEDS_EVENTS),
    ("0", "NotOlderThan", None, MATCH_NEEDS_EVENTS),
    ("past", "NotOlderThan", None, MATCH_NEEDS_EVENTS),
    ("past", "", Some(true), EVENTS_NEED_MATCH),
    ("past", "", Some(false), EVENTS_NEED_MATCH),
    ("", "NotOlderThan", Some(true), "abcde!m"),
    ("0", "NotOlderThan", Some(true), "abcde!m"),
    ("old", "NotOlderThan", Some(true), "abcde!m"),
    ("past", "NotOlderThan", Some(true), "abcde!m"),
    ("now", "NotOlderThan", Some(true), "abcde!m"),
    (
        "99999",
        "NotOlderThan",
        Some(true),
        "ERROR 504 Timeout: Too large resource version: 99999, current: NOW",
    ),
    ("", "NotOlderThan", Some(false), "m"),
    ("0", "NotOlderThan", Some(false), "m"),
    ("past", "NotOlderThan", Some(false), "dem"),
    ("old", "NotOlderThan", Some(false), WATCH_TOO_OLD),
];

impl Past {
    /// A watch in short, until it shows `m` or fails; `m` is created once it stands.
    async fn watch(&self, options: Options) -> String {
        let mut watch = request(Verb::Watch, MAPS, "default", "");
        watch.options = options;
        let mut events = match self.world.core.watch(watch).await {
            Ok(events) => events,
            Err(status) => return self.refusal(&status),
        };
        self.world
            .create(MAPS, "default", config_map("m", json!({})))
            .await
            .unwrap();
        let seen = tokio::time::timeout(DEADLINE, self.seen(&mut events)).await;
        self.world.delete(MAPS, "m", Options::default()).await.unwrap();
        seen.expect("an event that was owed")
    }

    async fn seen(&self, events: &mut EventStream) -> String {
        let mut seen = String::new();
        while let Some(event) = events.next().await {
            let event = match event {
                Ok(event) => event,
                Err(status) => return format!("ERROR {}", self.refusal(&status)),
            };
            let object: Value = serde_json::from_slice(&event.object).unwrap();
            match event.kind {
                EventKind::Bookmark => {
                    assert_eq!(
                        object["metadata"]["annotations"]["k8s.io/initial-events-end"],
                        "true"
                    );
                    seen.push('!');
                }
                _ => seen += &text(&object, "/metadata/name"),
            }
            if seen.ends_with('m') {
                break;
            }
        }
        seen
    }
}

#[tokio::test]
async fn watches_begin_where_they_are_told() {
    for (version, how, initial, expected) in WATCHES {
        for bookmarks in [true, false] {
            // A world each: `m` leaves its traces in the history.
            let past = Past::new().await;
            let options = Options {
                resource_version: past.version(version),
                resource_version_match: (*how).into(),
                send_initial_events: *initial,
                allow_watch_bookmarks: bookmarks,
                ..Options::default()
            };
            let mut expected = expected.replace("OLD (PAST)", &format!("{} ({})", past.old, past.past));
            if !bookmarks {
                expected = expected.replace('!', "");
            }
            let told =
                format!("resourceVersion={version}&resourceVersionMatch={how}&sendInitialEvents={initial:?}");
            assert_eq!(past.watch(options).await, expected, "{told}");
        }
    }
}

#[tokio::test]
async fn a_watch_may_be_of_one_object() {
    let past = Past::new().await;
    for (name, selector, expected) in [
        ("", "metadata.name=b", Ok("b")),
        ("b", "", Ok("b")),
        ("b", "metadata.name=b", Ok("b")),
        (
            "b",
            "metadata.name=c",
            Err("fieldSelector metadata.name doesn't match requested name"),
        ),
        (
            "b",
            "metadata.namespace=default",
            Err("fieldSelector metadata.name doesn't match requested name"),
        ),
    ] {
        let mut watch = request(Verb::Watch, MAPS, "default", name);
        watch.options.field_selector = selector.into();
        let events = past.world.core.watch(watch).await;
        let (mut events, expected) = match (events, expected) {
            (Ok(events), Ok(expected)) => (events, expected),
            (Err(status), Err(why)) => {
                assert_eq!((status.code, status.message.as_str()), (400, why));
                continue;
            }
            (events, expected) => panic!("{name} {selector}: {:?}, not {expected:?}", events.map(drop)),
        };
        let shown = events.next().await.unwrap().unwrap();
        assert_eq!(
            text(&serde_json::from_slice(&shown.object).unwrap(), "/metadata/name"),
            expected
        );
        // Neighbours, and names that begin the same, are of no concern to it.
        past.world
            .create(MAPS, "default", config_map("bb", json!({})))
            .await
            .unwrap();
        past.world.delete(MAPS, "bb", Options::default()).await.unwrap();
        let touched = json!({"data": {"by": selector}});
        let merge = api::request::PatchType::Merge;
        past.world.patch(merge, MAPS, "b", touched).await.unwrap();
        let changed = tokio::time::timeout(DEADLINE, events.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        assert_eq!(changed.kind, EventKind::Modified);
    }
}
