//! What `kubectl get pod` and `describe` show at each turn of a pod's story.

use k8s_openapi::api::core::v1::{ContainerStatus, PodReadinessGate, PodStatus};

use super::action::Happening;
use super::decide_tests::{Story, container, pod, sidecar};
use super::restore::{Outlived, Survivor, restore};
use super::status::View;

impl Story {
    fn status(&mut self) -> PodStatus {
        let view = View {
            pod: &self.pod,
            state: &self.state,
            previous: self.pod.status.as_ref(),
            host_ip: [192, 0, 2, 1].into(),
            timing: &self.timing,
            now: self.now,
        };
        let status = view.status();
        self.pod.status = Some(status.clone());
        status
    }
}

fn face(status: &ContainerStatus) -> String {
    let state = status.state.clone().unwrap_or_default();
    let ready = if status.ready { " ready" } else { "" };
    if let Some(waiting) = state.waiting {
        return format!(
            "{} {}",
            waiting.reason.unwrap_or_default(),
            waiting.message.unwrap_or_default()
        );
    }
    if let Some(exit) = state.terminated {
        return format!("{} {}{ready}", exit.reason.unwrap_or_default(), exit.exit_code);
    }
    format!("running{ready}")
}

fn faces(status: &PodStatus) -> Vec<String> {
    let all = status
        .init_container_statuses
        .iter()
        .flatten()
        .chain(status.container_statuses.iter().flatten());
    all.map(face).collect()
}

fn condition(status: &PodStatus, kind: &str) -> String {
    let found = status
        .conditions
        .iter()
        .flatten()
        .find(|c| c.type_ == kind)
        .unwrap();
    [Some(&found.status), found.reason.as_ref(), found.message.as_ref()]
        .into_iter()
        .flatten()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join("|")
}

fn phase(status: &PodStatus) -> &str {
    status.phase.as_deref().unwrap()
}

#[test]
fn from_creation_to_ready() {
    let mut story = Story::new(pod("Always", vec![], vec![container("a")]));
    story.step();
    let status = story.status();
    assert_eq!(faces(&status), ["ContainerCreating "]);
    assert_eq!(phase(&status), "Pending");
    assert_eq!(condition(&status, "Initialized"), "True");
    assert_eq!(condition(&status, "PodReadyToStartContainers"), "False");
    let text = "False|ContainersNotReady|containers with unready status: [a]";
    assert_eq!(condition(&status, "Ready"), text);
    assert_eq!(condition(&status, "ContainersReady"), text);
    story.image("a", false);
    story.step();
    story.parts_ready();
    story.step();
    story.started("a");
    let status = story.status();
    assert_eq!(faces(&status), ["running ready"]);
    assert_eq!(
        (phase(&status), status.pod_ip.as_deref()),
        ("Running", Some("10.64.0.5"))
    );
    assert_eq!(condition(&status, "Ready"), "True");
    let container = &status.container_statuses.as_ref().unwrap()[0];
    assert_eq!(container.container_id.as_deref(), Some("fake://a"));
    assert_eq!(
        (container.image_id.as_str(), container.started),
        ("sha256:1", Some(true))
    );
}

#[test]
fn init_containers_hold_the_others() {
    let mut story = Story::ready(pod(
        "Always",
        vec![container("i"), sidecar("s")],
        vec![container("a")],
    ));
    story.step();
    let status = story.status();
    assert_eq!(
        faces(&status),
        ["PodInitializing ", "PodInitializing ", "PodInitializing "]
    );
    let text = "False|ContainersNotInitialized|containers with incomplete status: [i s]";
    assert_eq!(condition(&status, "Initialized"), text);
    story.started("i");
    story.exited("i", 0);
    story.step();
    story.started("s");
    story.step();
    let status = story.status();
    assert_eq!(
        faces(&status),
        ["Completed 0 ready", "running ready", "PodInitializing "]
    );
    assert_eq!(
        (phase(&status), condition(&status, "Initialized")),
        ("Pending", "True".to_owned())
    );
    story.started("a");
    assert_eq!(phase(&story.status()), "Running");
}

#[test]
fn crash_loop() {
    let mut story = Story::ready(pod("Always", vec![], vec![container("a")]));
    story.step();
    story.started("a");
    story.exited("a", 1);
    assert_eq!(faces(&story.status()), ["Error 1"]);
    story.step();
    story.image("a", false);
    story.step();
    assert_eq!(
        faces(&story.status()),
        ["Error 1"],
        "while it is being started again"
    );
    story.started("a");
    story.exited("a", 1);
    story.step();
    let status = story.status();
    let text = "CrashLoopBackOff back-off 10s restarting failed container=a pod=p_ns(u-1)";
    assert_eq!(faces(&status), [text]);
    assert_eq!(phase(&status), "Running");
    let container = &status.container_statuses.as_ref().unwrap()[0];
    assert_eq!(container.restart_count, 1);
    let last = container
        .last_state
        .as_ref()
        .unwrap()
        .terminated
        .as_ref()
        .unwrap();
    assert_eq!((last.exit_code, last.reason.as_deref()), (1, Some("Error")));
}

#[test]
fn image_trouble() {
    let mut story = Story::new(pod("Always", vec![], vec![container("a")]));
    story.step();
    let failure = ("ErrImagePull".to_owned(), "a:1: not found".to_owned());
    story.happen(Happening::Image("a".to_owned(), Err(failure)));
    assert_eq!(faces(&story.status()), ["ErrImagePull a:1: not found"]);
    story.pass(3);
    story.step();
    assert_eq!(
        faces(&story.status()),
        ["ImagePullBackOff Back-off pulling image \"a:1\": ErrImagePull: a:1: not found"]
    );
}

#[test]
fn an_image_that_the_policy_refuses_backs_off_as_one_that_cannot_be_pulled() {
    let mut story = Story::new(pod("Always", vec![], vec![container("a")]));
    story.step();
    let failure = ("SignatureValidationFailed".to_owned(), "not signed".to_owned());
    story.happen(Happening::Image("a".to_owned(), Err(failure)));
    assert_eq!(faces(&story.status()), ["SignatureValidationFailed not signed"]);
    story.pass(3);
    story.step();
    assert_eq!(
        faces(&story.status()),
        ["ImagePullBackOff Back-off pulling image \"a:1\": SignatureValidationFailed: not signed"]
    );
}

#[test]
fn ends() {
    for (policy, code, expected, reason) in [
        ("Never", 0, "Succeeded", "PodCompleted"),
        ("Never", 2, "Failed", "PodFailed"),
        ("OnFailure", 0, "Succeeded", "PodCompleted"),
    ] {
        let mut story = Story::ready(pod(policy, vec![], vec![container("a")]));
        story.step();
        story.started("a");
        story.exited("a", code);
        let status = story.status();
        assert_eq!(phase(&status), expected);
        assert_eq!(condition(&status, "Ready"), format!("False|{reason}"));
        assert_eq!(
            status.pod_ip.as_deref(),
            Some("10.64.0.5"),
            "kept for those who look later"
        );
    }
}

#[test]
fn a_pod_is_over_when_its_sidecars_are() {
    for (code, expected) in [(0, "Succeeded"), (2, "Failed")] {
        let mut story = Story::ready(pod("Never", vec![sidecar("s")], vec![container("a")]));
        for name in ["s", "a"] {
            story.step();
            story.started(name);
        }
        story.exited("a", code);
        story.step();
        assert_eq!(phase(&story.status()), "Running", "its sidecar is on its way out");
        story.exited("s", 143);
        assert_eq!(phase(&story.status()), expected);
    }
}

#[test]
fn readiness_gates() {
    let mut story = Story::ready(pod("Always", vec![], vec![container("a")]));
    let gate = PodReadinessGate {
        condition_type: "x.io/ok".to_owned(),
    };
    story.pod.spec.as_mut().unwrap().readiness_gates = Some(vec![gate]);
    story.step();
    story.started("a");
    let status = story.status();
    assert_eq!(condition(&status, "ContainersReady"), "True");
    assert_eq!(
        condition(&status, "Ready"),
        "False|ReadinessGatesNotReady|corresponding condition of pod readiness gate \"x.io/ok\" does not exist."
    );
}

#[test]
fn transition_times_stay_while_nothing_changes() {
    let mut story = Story::new(pod("Always", vec![], vec![container("a")]));
    let first = story.status();
    story.pass(60);
    assert_eq!(story.status(), first);
}

#[test]
fn restored_from_its_status() {
    let mut story = Story::ready(pod(
        "Always",
        vec![container("i")],
        vec![container("a"), container("b")],
    ));
    story.step();
    story.started("i");
    story.exited("i", 0);
    story.step();
    story.started("a");
    story.started("b");
    let before = story.status();
    story.pass(100);
    let survivor = Survivor {
        attempt: 0,
        run: Outlived::Running {
            container_id: "fake://a".to_owned(),
            started: story.now.wall,
        },
    };
    let survivors = [("a".to_owned(), survivor)].into();
    story.state = restore(&story.pod, &survivors, story.now);
    assert_eq!(
        story.state.ip,
        Some([10, 64, 0, 5].into()),
        "asks for its old address"
    );
    assert_eq!(story.state.started, before.start_time.map(|time| time.0));
    assert!(story.state.container("a").ready(), "still running, still ready");
    assert_eq!(
        story.state.container("b").exited().unwrap().reason,
        "ContainerStatusUnknown"
    );
    let texts = story.texts();
    assert_eq!(texts, ["fetch b", "mount"]);
    story.image("b", false);
    assert_eq!(story.texts(), ["sandbox wasm_only=false"]);
    story.parts_ready();
    assert_eq!(
        story.texts(),
        ["start b 1"],
        "neither the init container nor a runs again"
    );
}

#[test]
fn what_was_over_stays_over() {
    let mut story = Story::ready(pod("Never", vec![], vec![container("a")]));
    story.step();
    story.started("a");
    story.exited("a", 3);
    let before = story.status();
    story.state = restore(&story.pod, &Default::default(), story.now);
    assert_eq!(story.texts(), ["remove sandbox"]);
    assert_eq!(story.status(), before);
}
