use api::request::{Notes, User};
use serde_json::json;

use super::super::testing::{Fixed, creation};
use super::*;

fn world(labels: Value) -> Fixed {
    Fixed::new(vec![(
        "",
        "namespaces",
        json!({"metadata": {"name": "shop", "labels": labels}}),
    )])
}

fn review_in(
    settings: PodSecuritySettings,
    labels: Value,
    kind: (&str, &str),
    mut object: Value,
) -> (Result<(), Status>, Notes) {
    let (user, notes) = (User::new("ann", &[]), Notes::default());
    let mut review = creation(kind.0, kind.1, &user, &mut object);
    review.notes = &notes;
    let result = PodSecurity(settings).validate(&review, &world(labels));
    (result, notes)
}

fn pod(spec: Value) -> Value {
    json!({"metadata": {"name": "web"}, "spec": spec})
}

fn host_pod() -> Value {
    pod(json!({"hostPID": true, "containers": [{"name": "a"}]}))
}

fn labels(mode: &str, level: &str) -> Value {
    json!({ format!("pod-security.kubernetes.io/{mode}"): level })
}

#[test]
fn pods_that_break_the_enforced_standard_are_refused() {
    let (result, notes) = review_in(
        Default::default(),
        labels("enforce", "baseline"),
        ("", "pods"),
        host_pod(),
    );
    let status = result.unwrap_err();
    assert_eq!(
        status.message,
        "pods \"web\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces (hostPID=true)"
    );
    assert_eq!(
        notes.annotations()["pod-security.kubernetes.io/enforce-policy"],
        "baseline:latest"
    );
    assert!(notes.warnings().is_empty(), "who is refused is not warned");
    let (result, _) = review_in(Default::default(), json!({}), ("", "pods"), host_pod());
    result.unwrap();
}

#[test]
fn who_writes_workloads_is_warned_and_the_log_is_told() {
    let deployment = json!({"metadata": {"name": "web"},
        "spec": {"template": {"spec": {"hostPID": true, "containers": []}}}});
    let says = "would violate PodSecurity \"baseline:latest\": host namespaces (hostPID=true)";
    let kind = ("apps", "deployments");
    let (result, notes) = review_in(
        Default::default(),
        labels("enforce", "baseline"),
        kind,
        deployment.clone(),
    );
    result.unwrap();
    assert_eq!(notes.warnings(), [says]);
    let (_, notes) = review_in(Default::default(), labels("audit", "baseline"), kind, deployment);
    assert!(notes.warnings().is_empty());
    assert_eq!(
        notes.annotations()["pod-security.kubernetes.io/audit-violations"],
        says
    );
}

#[test]
fn some_are_exempt() {
    let settings = |change: fn(&mut PodSecuritySettings)| {
        let mut settings = PodSecuritySettings::default();
        change(&mut settings);
        settings
    };
    for (settings, why) in [
        (settings(|s| s.users = vec!["ann".into()]), "user"),
        (settings(|s| s.namespaces = vec!["shop".into()]), "namespace"),
        (
            settings(|s| s.runtime_classes = vec!["kata".into()]),
            "runtimeClass",
        ),
    ] {
        let pod = pod(json!({"hostPID": true, "runtimeClassName": "kata"}));
        let (result, notes) = review_in(settings, labels("enforce", "restricted"), ("", "pods"), pod);
        result.unwrap();
        assert_eq!(notes.annotations()["pod-security.kubernetes.io/exempt"], why);
    }
}

#[test]
fn only_other_images_are_looked_at_again() {
    let of = |image: &str| pod(json!({"containers": [{"name": "a", "image": image}]}));
    assert!(!changes_images(&of("a:1"), &of("a:1")));
    assert!(changes_images(&of("a:2"), &of("a:1")));
    let mut debugged = of("a:1");
    debugged["spec"]["ephemeralContainers"] = json!([{"name": "d", "image": "x"}]);
    assert!(changes_images(&debugged, &of("a:1")));
}

#[test]
fn a_namespace_with_labels_that_mean_nothing_is_refused() {
    let user = User::default();
    let mut namespace = json!({"metadata": {"name": "n", "labels": labels("enforce", "strict")}});
    let review = creation("", "namespaces", &user, &mut namespace);
    let status = PodSecurity(Default::default())
        .validate(&review, &world(json!({})))
        .unwrap_err();
    assert_eq!(
        status.message,
        "Namespace \"n\" is invalid: metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"strict\": \
         must be one of privileged, baseline, restricted"
    );
}
