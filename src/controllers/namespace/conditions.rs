//! What a namespace that is being deleted says of its contents. Pure.

use api::request::ResourceRef;
use api::status::Status;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::contents::Undiscovered;

/// What is left of one kind.
pub struct Left {
    pub resource: ResourceRef,
    pub count: usize,
    pub finalizers: Vec<String>,
}

/// What one round has found.
#[derive(Default)]
pub struct Round {
    pub left: Vec<Left>,
    /// Why some of it could not be deleted.
    pub failed: Vec<Status>,
    /// Group versions of which nobody knows what they hold.
    pub undiscovered: Vec<Undiscovered>,
}

impl Round {
    /// Whether nothing is left of what is known.
    pub fn is_clear(&self) -> bool {
        self.left.is_empty() && self.failed.is_empty()
    }
}

/// The conditions that a namespace shows while it ends: type, status, reason, message.
fn verdict(round: &Round) -> Vec<(&'static str, bool, &'static str, String)> {
    let left = &round.left;
    let mut finalizers: Vec<&str> = left
        .iter()
        .flat_map(|l| l.finalizers.iter().map(String::as_str))
        .collect();
    finalizers.sort_unstable();
    let remaining = left
        .iter()
        .map(|l| {
            // With the dot even where there is no group: clients know the text like this.
            let ResourceRef { group, plural, .. } = &l.resource;
            format!("{plural}.{group} has {} resource instances", l.count)
        })
        .collect::<Vec<_>>()
        .join(", ");
    let mut counted: Vec<String> = Vec::new();
    for group in finalizers.chunk_by(|a, b| a == b) {
        counted.push(format!("{} in {} resource instances", group[0], group.len()));
    }
    let content = if left.is_empty() {
        ("ContentRemoved", "All content successfully removed".to_owned())
    } else {
        (
            "SomeResourcesRemain",
            format!("Some resources are remaining: {remaining}"),
        )
    };
    let held = if counted.is_empty() {
        (
            "ContentHasNoFinalizers",
            "All content-preserving finalizers finished".to_owned(),
        )
    } else {
        let text = format!(
            "Some content in the namespace has finalizers remaining: {}",
            counted.join(", ")
        );
        ("SomeFinalizersRemain", text)
    };
    let mut failed: Vec<&str> = round
        .failed
        .iter()
        .map(|status| status.message.as_str())
        .collect();
    failed.sort_unstable();
    let deleted = if failed.is_empty() {
        let text = "All content successfully deleted, may be waiting on finalization";
        ("ContentDeleted", text.to_owned())
    } else {
        let (count, all) = (failed.len(), failed.join(", "));
        let text = format!("Failed to delete all resource types, {count} remaining: {all}");
        ("ContentDeletionFailed", text)
    };
    let (discovered, said) = discovery(&round.undiscovered);
    vec![
        (
            "NamespaceDeletionDiscoveryFailure",
            !round.undiscovered.is_empty(),
            discovered,
            said,
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            false,
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed".to_owned(),
        ),
        (
            "NamespaceDeletionContentFailure",
            !round.failed.is_empty(),
            deleted.0,
            deleted.1,
        ),
        (
            "NamespaceContentRemaining",
            !left.is_empty(),
            content.0,
            content.1,
        ),
        (
            "NamespaceFinalizersRemaining",
            !counted.is_empty(),
            held.0,
            held.1,
        ),
    ]
}

/// Whether all groups said what they serve: reason and message (client-go's texts).
fn discovery(undiscovered: &[Undiscovered]) -> (&'static str, String) {
    if undiscovered.is_empty() {
        let text = "All resources successfully discovered";
        return ("ResourcesDiscovered", text.to_owned());
    }
    let mut failing: Vec<String> = undiscovered
        .iter()
        .map(|one| format!("{}: {}", one.group_version, one.why))
        .collect();
    failing.sort_unstable();
    let text = format!(
        "Discovery failed for some groups, {} failing: unable to retrieve the complete list of server APIs: {}",
        failing.len(),
        failing.join(", ")
    );
    ("DiscoveryFailed", text)
}

/// Writes them down. Whether anything changed.
pub fn set(namespace: &mut Namespace, round: &Round, now: Timestamp) -> bool {
    let conditions = namespace
        .status
        .get_or_insert_default()
        .conditions
        .get_or_insert_default();
    let before = conditions.clone();
    for (kind, holds, reason, message) in verdict(round) {
        let status = if holds { "True" } else { "False" };
        let old = conditions.iter().find(|c| c.type_ == kind);
        let since = old
            .filter(|c| c.status == status)
            .and_then(|c| c.last_transition_time.clone());
        let new = NamespaceCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_transition_time: Some(since.unwrap_or(Time(now))),
        };
        match conditions.iter_mut().find(|c| c.type_ == kind) {
            Some(old) => *old = new,
            None => conditions.push(new),
        }
    }
    *conditions != before
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_named_and_counted() {
        let left = vec![Left {
            resource: ResourceRef::new("", "v1", "configmaps"),
            count: 2,
            finalizers: vec!["example.com/a".into(), "example.com/a".into()],
        }];
        let failed = vec![Status::unavailable("not now"), Status::unavailable("away")];
        let round = Round {
            left,
            failed,
            ..Round::default()
        };
        let verdict = verdict(&round);
        let text = |kind: &str| verdict.iter().find(|v| v.0 == kind).map(|v| v.3.clone()).unwrap();
        assert_eq!(
            text("NamespaceContentRemaining"),
            "Some resources are remaining: configmaps. has 2 resource instances"
        );
        assert_eq!(
            text("NamespaceFinalizersRemaining"),
            "Some content in the namespace has finalizers remaining: example.com/a in 2 resource instances"
        );
        assert_eq!(
            text("NamespaceDeletionContentFailure"),
            "Failed to delete all resource types, 2 remaining: away, not now"
        );
    }

    #[test]
    fn groups_that_say_nothing_are_named() {
        let undiscovered = vec![Undiscovered {
            group_version: "metrics.example.com/v1".into(),
            why: "stale GroupVersion discovery: metrics.example.com/v1".into(),
        }];
        let mut namespace = Namespace::default();
        let round = Round {
            undiscovered,
            ..Round::default()
        };
        assert!(set(&mut namespace, &round, Timestamp::UNIX_EPOCH));
        assert!(!set(&mut namespace, &round, Timestamp::MAX));
        let conditions = namespace.status.unwrap().conditions.unwrap();
        let first = &conditions[0];
        assert_eq!(
            (first.type_.as_str(), first.status.as_str()),
            ("NamespaceDeletionDiscoveryFailure", "True")
        );
        assert_eq!(first.reason.as_deref(), Some("DiscoveryFailed"));
        assert_eq!(
            first.message.as_deref(),
            Some(
                "Discovery failed for some groups, 1 failing: unable to retrieve the complete list of server APIs: \
                 metrics.example.com/v1: stale GroupVersion discovery: metrics.example.com/v1"
            )
        );
    }

    #[test]
    fn conditions_of_others_stay() {
        let theirs = NamespaceCondition {
            type_: "example.com/Blessed".into(),
            status: "True".into(),
            ..NamespaceCondition::default()
        };
        let mut namespace = Namespace::default();
        let status = namespace.status.get_or_insert_default();
        status.conditions = Some(vec![theirs.clone()]);
        assert!(set(&mut namespace, &Round::default(), Timestamp::UNIX_EPOCH));
        let conditions = namespace.status.unwrap().conditions.unwrap();
        assert!(
            conditions.len() > 1 && conditions.contains(&theirs),
            "{conditions:?}"
        );
    }
}
