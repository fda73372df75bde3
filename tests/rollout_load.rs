//! Deployments that change while clients ask: nobody is refused.

use std::net::SocketAddr;

use crate::support::load::Load;
use crate::support::manifests::{POLITE, polite_web, wasm_web};
use crate::support::{Cluster, assert_has, eventually, has, images, sandboxed};

/// Requests a second.
const RATE: u32 = 500;

/// Waits for a rollout to be over as kubectl sees it.
fn rolled(cluster: &Cluster, replicas: u32) {
    cluster.ok(&["rollout", "status", "deployment/web", "--timeout=90s"]);
    cluster.deployed("web", replicas);
}

/// Everything that a Deployment goes through in its life, under load.
fn lives_through_changes(cluster: &Cluster) {
    rolled(cluster, 3);
    let address: SocketAddr = format!("{}:80", cluster.cluster_ip("web"))
        .parse()
        .expect("an address");
    let url = format!("http://{address}/");
    eventually("an answer through the Service", || cluster.curl(&url));
    let load = Load::start(address, RATE);

    cluster.ok(&["set", "env", "deployment/web", "GREETING=second"]);
    rolled(cluster, 3);
    load.well("a rolling update");

    cluster.ok(&["rollout", "undo", "deployment/web"]);
    rolled(cluster, 3);
    load.well("a rollback");

    cluster.ok(&["scale", "deployment", "web", "--replicas=6"]);
    rolled(cluster, 6);
    load.well("growing");
    cluster.ok(&["scale", "deployment", "web", "--replicas=2"]);
    rolled(cluster, 2);
    load.well("shrinking");

    let strict = r#"{"spec": {"minReadySeconds": 2,
        "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}}}"#;
    cluster.ok(&["patch", "deployment", "web", "-p", strict]);
    cluster.ok(&["rollout", "restart", "deployment/web"]);
    rolled(cluster, 2);
    load.well("a restart that must never miss a replica");

    let staying = eventually("two pods and none that is leaving", || {
        let pods = cluster.pods("app=web");
        if pods.len() == 2 {
            Ok(pods)
        } else {
            Err(format!("{pods:?}"))
        }
    });
    for pod in staying {
        cluster.ok(&["delete", "pod", &pod]);
        rolled(cluster, 2);
    }
    load.well("deleting one pod after the other");

    let outcome = load.end();
    eprintln!(
        "{} requests answered in {:?}, {} failed",
        outcome.answered,
        outcome.took,
        outcome.failures.len()
    );
    assert!(outcome.failures.is_empty(), "{:#?}", outcome.failures);
    // A load that never was would prove nothing; the machine may be busy with other scenarios.
    assert!(
        outcome.answered as f64 > outcome.took.as_secs_f64() * f64::from(RATE) / 4.0,
        "the clients came to {} requests in {:?} only",
        outcome.answered,
        outcome.took
    );
}

#[test]
fn containers_change_without_a_failed_request() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        let file = images::polite_rootfs(&cluster.home());
        cluster.import(&file, &["--name", POLITE, "--entrypoint", "/polite"]);
        cluster.apply(&polite_web("web", 3));
        lives_through_changes(&cluster);
    });
}

#[test]
fn wasm_programs_change_without_a_failed_request() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        cluster.apply(&wasm_web("web", 3, false));
        lives_through_changes(&cluster);
    });
}

/// What the Deployment says of a condition: status and reason.
fn verdict(cluster: &Cluster, kind: &str) -> Result<String, String> {
    let path = format!("{{range .status.conditions[?(@.type==\"{kind}\")]}}{{.status}} {{.reason}}{{end}}");
    cluster.field("deployment/web", &path)
}

/// Gives the Deployment a deadline and an image in one step.
fn change(cluster: &Cluster, deadline_seconds: u32, image: &str) {
    let patch = format!(
        r#"{{"spec": {{"progressDeadlineSeconds": {deadline_seconds},
            "template": {{"spec": {{"containers": [{{"name": "web", "image": "{image}"}}]}}}}}}}}"#
    );
    cluster.ok(&["patch", "deployment", "web", "-p", &patch]);
}

#[test]
fn a_rollout_past_its_deadline_is_reversed_for_those_who_ask() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        let asked = wasm_web("web", 3, false).replacen(
            "metadata: {name: web}\nspec:",
            "metadata: {name: web, annotations: {coracle.dev/rollback-on-deadline: \"true\"}}\nspec:",
            1,
        );
        cluster.apply(&asked);
        rolled(&cluster, 3);
        let address: SocketAddr = format!("{}:80", cluster.cluster_ip("web"))
            .parse()
            .expect("an address");
        eventually("an answer", || cluster.curl(&format!("http://{address}/")));
        let load = Load::start(address, 50);

        let image = "{.spec.template.spec.containers[0].image}";
        change(&cluster, 5, "local/absent:1");
        cluster.ok(&[
            "annotate",
            "deployment/web",
            "kubernetes.io/change-cause=an image that is not there",
        ]);
        cluster.event(
            "web",
            "DeploymentRollback",
            &["Rolled back deployment \"web\" to revision 1: revision 2"],
        );
        cluster.until("deployment/web", image, "local/hello-http:1");
        rolled(&cluster, 3);
        assert_eq!(
            verdict(&cluster, "RolledBack").unwrap(),
            "True ProgressDeadlineExceeded"
        );
        assert_eq!(
            verdict(&cluster, "Progressing").unwrap(),
            "True NewReplicaSetAvailable"
        );
        let history = cluster.ok(&["rollout", "history", "deployment/web"]);
        assert_has(&history, &["\n2 ", "an image that is not there", "\n3 "]);
        assert!(
            !history.contains("\n1 "),
            "revision 1 is revision 3 now: {history}"
        );
        load.well("a rollout that never became ready, and its reversal");

        // The next change is a new chance, and takes the note of the reversal away.
        // What is meant to succeed gets all the time that a busy machine takes.
        change(&cluster, 600, "local/hello-http:1");
        cluster.ok(&["set", "env", "deployment/web", "GREETING=third"]);
        rolled(&cluster, 3);
        assert_eq!(verdict(&cluster, "RolledBack").unwrap(), "");
        let notes = cluster
            .field("deployment/web", "{.metadata.annotations}")
            .unwrap();
        assert!(!notes.contains("rolled-back"), "{notes}");

        // Paused, or not asked for: it stays as the user left it.
        cluster.ok(&["annotate", "deployment/web", "coracle.dev/rollback-on-deadline-"]);
        change(&cluster, 5, "local/absent:2");
        eventually("the deadline", || {
            has(
                &verdict(&cluster, "Progressing")?,
                &["False ProgressDeadlineExceeded"],
            )
        });
        cluster.ok(&["rollout", "pause", "deployment/web"]);
        cluster.ok(&[
            "annotate",
            "deployment/web",
            "coracle.dev/rollback-on-deadline=true",
        ]);
        eventually("the pause", || {
            has(&verdict(&cluster, "Progressing")?, &["DeploymentPaused"])
        });
        assert_eq!(cluster.field("deployment/web", image).unwrap(), "local/absent:2");
        // Going on, it has its time once more, and then is reversed.
        cluster.ok(&["rollout", "resume", "deployment/web"]);
        cluster.until("deployment/web", image, "local/hello-http:1");
        rolled(&cluster, 3);
        load.well("another reversal");
        assert!(load.end().failures.is_empty());
    });
}

#[test]
fn without_a_good_revision_nothing_is_reversed() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        let asked = wasm_web("web", 2, false)
            .replacen(
                "metadata: {name: web}\nspec:",
                "metadata: {name: web, annotations: {coracle.dev/rollback-on-deadline: \"true\"}}\nspec:\n  progressDeadlineSeconds: 3",
                1,
            )
            .replace("local/hello-http:1", "local/absent:1");
        cluster.apply(&asked);
        cluster.event(
            "web",
            "DeploymentRollbackRevisionNotFound",
            &["Unable to find last revision."],
        );
        assert_eq!(verdict(&cluster, "RolledBack").unwrap(), "False RevisionNotFound");
        let stuck = cluster.refused(&["rollout", "status", "deployment/web", "--timeout=10s"]);
        assert_has(&stuck, &["exceeded its progress deadline"]);
    });
}

#[test]
fn a_set_that_may_not_make_pods_says_so() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        let bad = wasm_web("web", 1, false).replace(
            "      containers:",
            "      serviceAccountName: nobody\n      containers:",
        );
        cluster.apply(&bad);
        eventually("the failure", || {
            has(&verdict(&cluster, "ReplicaFailure")?, &["True FailedCreate"])
        });
        cluster.ok(&["create", "serviceaccount", "nobody"]);
        rolled(&cluster, 1);
        assert_eq!(verdict(&cluster, "ReplicaFailure").unwrap(), "");
    });
}
