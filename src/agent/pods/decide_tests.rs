//! Tables for [`super::decide`]: each test tells a pod's story and asserts the exact actions.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, ContainerState, Pod, PodSpec, Probe};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use super::action::{Action, Happening, StartFailure, Verdict};
use super::decide::{Plan, completed, decide};
use super::resize::Room;
use super::state::{Doom, ExitRecord, ImageRef, PodState};
use crate::config::Timing;
use crate::moment::Moment;

pub(crate) fn container(name: &str) -> Container {
    Container {
        name: name.to_owned(),
        image: Some(format!("{name}:1")),
        ..Container::default()
    }
}

pub(crate) fn sidecar(name: &str) -> Container {
    Container {
        restart_policy: Some("Always".to_owned()),
        ..container(name)
    }
}

pub(crate) fn pod(policy: &str, init: Vec<Container>, main: Vec<Container>) -> Pod {
    Pod {
        metadata: ObjectMeta {
            name: Some("p".to_owned()),
            namespace: Some("ns".to_owned()),
            uid: Some("u-1".to_owned()),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            init_containers: (!init.is_empty()).then_some(init),
            containers: main,
            restart_policy: Some(policy.to_owned()),
            ..PodSpec::default()
        }),
        ..Pod::default()
    }
}

/// A pod with its state and time, played through.
pub(crate) struct Story {
    pub(crate) pod: Pod,
    pub(crate) state: PodState,
    pub(crate) now: Moment,
    pub(crate) timing: Timing,
}

impl Story {
    pub(crate) fn new(pod: Pod) -> Story {
        let now = Moment::at(1000);
        let state = PodState::new(&pod, now);
        Story {
            pod,
            state,
            now,
            timing: Timing::default(),
        }
    }

    /// Decides and begins everything decided.
    pub(crate) fn step(&mut self) -> Plan {
        let plan = decide(&self.pod, &self.state, &self.timing, self.now);
        for action in &plan.actions {
            self.state.begin(&self.pod, action, &self.timing, self.now);
        }
        plan
    }

    pub(crate) fn texts(&mut self) -> Vec<String> {
        self.step().actions.iter().map(short).collect()
    }

    pub(crate) fn happen(&mut self, happening: Happening) {
        self.state.apply(&self.pod, happening, &self.timing, self.now);
    }

    pub(crate) fn pass(&mut self, seconds: u64) {
        self.now = Moment::at(self.now.wall.as_second() as u64 + seconds);
    }

    pub(crate) fn image(&mut self, container: &str, wasm: bool) {
        let image = ImageRef {
            name: format!("{container}:1"),
            id: "sha256:1".to_owned(),
            wasm,
        };
        self.happen(Happening::Image(container.to_owned(), Ok(image)));
    }

    pub(crate) fn started(&mut self, container: &str) {
        let id = format!("fake://{container}");
        let started = self.now.wall;
        self.happen(Happening::Started {
            container: container.to_owned(),
            container_id: id.clone(),
            started,
        });
        self.happen(Happening::Hooked {
            container: container.to_owned(),
            container_id: id,
            error: None,
        });
    }

    pub(crate) fn exited(&mut self, container: &str, code: i32) {
        let exit = ExitRecord {
            container_id: format!("fake://{container}"),
            code,
            signal: 0,
            reason: if code == 0 { "Completed" } else { "Error" }.to_owned(),
            message: String::new(),
            started: Some(self.now.wall),
            finished: self.now.wall,
            finished_mono: self.now.mono,
            noted: true,
        };
        self.happen(Happening::Exited(container.to_owned(), exit));
    }

    fn probed(&mut self, container: &str, verdict: Verdict) {
        let container_id = format!("fake://{container}");
        self.happen(Happening::Probed {
            container: container.to_owned(),
            container_id,
            verdict,
        });
    }

    pub(crate) fn parts_ready(&mut self) {
        self.happen(Happening::SandboxMade(Ok([10, 64, 0, 5].into())));
        self.happen(Happening::VolumesMounted(Ok(())));
    }

    /// All images there, sandbox and volumes made.
    pub(crate) fn ready(pod: Pod) -> Story {
        let mut story = Story::new(pod);
        story.step();
        let names: Vec<String> = story.state.containers.keys().cloned().collect();
        for name in names {
            story.image(&name, false);
        }
        story.step();
        story.parts_ready();
        story
    }

    fn delete(&mut self, grace: i64) {
        self.pod.metadata.deletion_timestamp = Some(Time(self.now.wall));
        self.pod.metadata.deletion_grace_period_seconds = Some(grace);
        self.state.observe(&self.pod, self.now);
    }
}

fn short(action: &Action) -> String {
    match action {
        Action::FetchImage { container } => format!("fetch {container}"),
        Action::AnnounceImageBackoff { container } => format!("image-backoff {container}"),
        Action::MakeSandbox { wasm_only } => format!("sandbox wasm_only={wasm_only}"),
        Action::MountVolumes => "mount".to_owned(),
        Action::Start { container, attempt } => format!("start {container} {attempt}"),
        Action::AnnounceCrashBackoff { container, delay } => format!("crash-backoff {container} {delay:?}"),
        Action::Stop { container, grace, .. } => format!("stop {container} {grace:?}"),
        Action::Resize { container } => format!("resize {container}"),
        Action::Fail(failure) => format!("fail {}", failure.reason),
        Action::RemoveSandbox => "remove sandbox".to_owned(),
        Action::RemoveVolumes => "remove volumes".to_owned(),
        Action::Finalize => "finalize".to_owned(),
    }
}

#[test]
fn a_pod_comes_up_images_first() {
    let mut story = Story::new(pod("Always", vec![], vec![container("a"), container("b")]));
    assert_eq!(story.texts(), ["fetch a", "fetch b", "mount"]);
    assert!(story.texts().is_empty(), "nothing is begun twice");
    story.image("a", true);
    assert!(story.texts().is_empty(), "the sandbox waits for every image");
    story.image("b", true);
    assert_eq!(story.texts(), ["sandbox wasm_only=true"]);
    story.parts_ready();
    assert_eq!(story.texts(), ["start a 0", "start b 0"]);
}

#[test]
fn who_debugs_a_pod_comes_in_whatever_it_does_and_only_once() {
    let mut story = Story::new(pod("Always", vec![container("i")], vec![container("a")]));
    story.step();
    for name in ["i", "a"] {
        story.image(name, false);
    }
    story.step();
    story.parts_ready();
    assert_eq!(story.texts(), ["start i 0"]);
    story.started("i");
    let debugger = serde_json::from_value(serde_json::json!({"name": "d", "image": "d:1"})).unwrap();
    story.pod.spec.as_mut().unwrap().ephemeral_containers = Some(vec![debugger]);
    story.state.observe(&story.pod, story.now);
    assert_eq!(story.texts(), ["fetch d"]);
    story.image("d", false);
    assert_eq!(story.texts(), ["start d 0"]);
    story.started("d");
    story.exited("d", 1);
    assert!(story.texts().is_empty(), "it is not started again");
    story.exited("i", 0);
    assert_eq!(story.texts(), ["start a 0"]);
}

#[test]
fn a_pod_that_ends_takes_its_debugger_along() {
    let mut story = Story::new(pod("Never", vec![], vec![container("a")]));
    let debugger = serde_json::from_value(serde_json::json!({"name": "d", "image": "d:1"})).unwrap();
    story.pod.spec.as_mut().unwrap().ephemeral_containers = Some(vec![debugger]);
    story.state.observe(&story.pod, story.now);
    story.step();
    story.image("a", false);
    story.step();
    story.parts_ready();
    assert_eq!(story.texts(), ["fetch d", "start a 0"]);
    story.image("d", false);
    story.step();
    story.started("a");
    story.started("d");
    story.exited("a", 0);
    assert!(completed(&story.pod, &story.state));
    assert_eq!(story.texts(), ["stop d 30s"]);
}

#[test]
fn what_runs_is_resized_where_there_is_room() {
    let mut story = Story::new(pod("Always", vec![], vec![container("a")]));
    story.step();
    story.image("a", false);
    story.step();
    story.parts_ready();
    story.step();
    story.started("a");
    let wanted = serde_json::json!({"requests": {"cpu": "2"}});
    let resources = serde_json::from_value(wanted).unwrap();
    story.pod.spec.as_mut().unwrap().containers[0].resources = Some(resources);
    let room = Room {
        cpu_millis: 1000,
        memory_bytes: 1,
        cpu_millis_all: 4000,
        memory_bytes_all: 1,
    };
    story.state.room = Some(room);
    let plan = story.step();
    assert!(
        plan.actions.is_empty() && plan.wake.is_some(),
        "it waits for room: {plan:?}"
    );
    story.state.room = Some(Room {
        cpu_millis: 2000,
        ..room
    });
    assert_eq!(story.texts(), ["resize a"]);
    assert!(story.texts().is_empty(), "nothing is begun twice");
    story.happen(Happening::Resized {
        container: "a".to_owned(),
        container_id: "fake://a".to_owned(),
        result: Ok(story.pod.spec.as_ref().unwrap().containers[0].resources.clone()),
    });
    assert!(story.texts().is_empty());
}

#[test]
fn a_missing_image_does_not_hold_up_the_others() {
    let mut story = Story::new(pod("Always", vec![], vec![container("a"), container("b")]));
    story.step();
    story.image("a", true);
    let failure = ("ErrImagePull".to_owned(), "not found".to_owned());
    story.happen(Happening::Image("b".to_owned(), Err(failure)));
    let plan = story.step();
    assert_eq!(plan.actions, [Action::MakeSandbox { wasm_only: false }]);
    story.parts_ready();
    assert_eq!(story.texts(), ["start a 0"]);
    story.pass(3);
    assert_eq!(story.texts(), ["image-backoff b"]);
    let plan = story.step();
    assert_eq!(
        (plan.actions.len(), plan.wake),
        (0, Some(Duration::from_secs(1010)))
    );
    story.pass(7);
    assert_eq!(story.texts(), ["fetch b"]);
    story.image("b", false);
    assert_eq!(story.texts(), ["start b 0"]);
}

#[test]
fn image_backoff_doubles() {
    let mut story = Story::new(pod("Always", vec![], vec![container("a")]));
    for wait in [10, 20, 40] {
        assert!(story.texts().contains(&"fetch a".to_owned()));
        let failure = ("ErrImagePull".to_owned(), "no".to_owned());
        story.happen(Happening::Image("a".to_owned(), Err(failure)));
        story.step();
        story.pass(wait - 1);
        assert!(!story.texts().contains(&"fetch a".to_owned()));
        story.pass(1);
    }
}

#[test]
fn init_containers_run_in_order_and_sidecars_stay() {
    let mut story = Story::ready(pod(
        "Always",
        vec![container("i"), sidecar("s")],
        vec![container("a")],
    ));
    assert_eq!(story.texts(), ["start i 0"]);
    story.started("i");
    assert!(story.texts().is_empty());
    story.exited("i", 0);
    assert_eq!(story.texts(), ["start s 0"]);
    assert!(story.texts().is_empty(), "main containers wait for the sidecar");
    story.started("s");
    assert_eq!(story.texts(), ["start a 0"]);
    story.started("a");
    story.exited("s", 1);
    assert_eq!(
        story.texts(),
        ["fetch s"],
        "a sidecar comes back, the init container does not run again"
    );
    story.image("s", false);
    assert_eq!(story.texts(), ["start s 1"]);
}

#[test]
fn a_failed_init_container_fails_a_pod_that_never_restarts() {
    let mut story = Story::ready(pod("Never", vec![container("i")], vec![container("a")]));
    story.step();
    story.started("i");
    story.exited("i", 3);
    assert!(completed(&story.pod, &story.state));
    assert_eq!(story.texts(), ["remove sandbox"]);
    story.happen(Happening::SandboxRemoved(Ok(())));
    assert_eq!(story.texts(), ["remove volumes"]);
    story.happen(Happening::VolumesRemoved(Ok(())));
    assert!(
        story.texts().is_empty(),
        "the pod stays until somebody deletes it"
    );
}

#[test]
fn crashes_back_off() {
    let mut story = Story::ready(pod("Always", vec![], vec![container("a")]));
    assert_eq!(story.texts(), ["start a 0"]);
    story.started("a");
    story.exited("a", 1);
    assert_eq!(story.texts(), ["fetch a"], "the first restart is immediate");
    story.image("a", false);
    assert_eq!(story.texts(), ["start a 1"]);
    story.started("a");
    story.exited("a", 1);
    let plan = story.step();
    assert_eq!(plan.wake, Some(Duration::from_secs(1010)));
    assert_eq!(
        plan.actions.iter().map(short).collect::<Vec<_>>(),
        ["crash-backoff a 10s"]
    );
    assert!(story.texts().is_empty(), "announced once");
    story.pass(10);
    assert_eq!(story.texts(), ["fetch a"]);
    story.image("a", false);
    assert_eq!(story.texts(), ["start a 2"]);
    assert_eq!(story.state.container("a").restarts, 1);
    story.started("a");
    assert_eq!(story.state.container("a").restarts, 2);
}

#[test]
fn policies_decide_who_comes_back() {
    for (policy, code, actions) in [
        ("Always", 0, vec!["fetch a"]),
        ("OnFailure", 1, vec!["fetch a"]),
        ("OnFailure", 0, vec!["remove sandbox"]),
        ("Never", 1, vec!["remove sandbox"]),
    ] {
        let mut story = Story::ready(pod(policy, vec![], vec![container("a")]));
        story.step();
        story.started("a");
        story.exited("a", code);
        assert_eq!(story.texts(), actions, "{policy} {code}");
    }
}

#[test]
fn completion_stops_sidecars_last_first() {
    let pod = pod("Never", vec![sidecar("s1"), sidecar("s2")], vec![container("a")]);
    let mut story = Story::ready(pod);
    for name in ["s1", "s2", "a"] {
        assert_eq!(story.texts(), [format!("start {name} 0")]);
        story.started(name);
    }
    story.exited("a", 0);
    assert_eq!(story.texts(), ["stop s2 30s"]);
    story.exited("s2", 0);
    assert_eq!(story.texts(), ["stop s1 30s"]);
    story.exited("s1", 0);
    assert_eq!(story.texts(), ["remove sandbox"]);
}

#[test]
fn deletion_stops_all_then_removes_all() {
    let mut story = Story::ready(pod("Always", vec![], vec![container("a"), container("b")]));
    story.step();
    story.started("a");
    story.delete(30);
    assert_eq!(
        story.texts(),
        ["stop a 30s"],
        "b is being started: its turn comes"
    );
    story.pass(5);
    story.started("b");
    assert_eq!(story.texts(), ["stop b 25s"]);
    story.exited("a", 143);
    assert!(story.texts().is_empty());
    story.exited("b", 143);
    assert_eq!(story.texts(), ["remove sandbox"]);
    story.happen(Happening::SandboxRemoved(Err("busy".to_owned())));
    assert!(story.texts().is_empty());
    story.pass(5);
    assert_eq!(story.texts(), ["remove sandbox"]);
    story.happen(Happening::SandboxRemoved(Ok(())));
    assert_eq!(story.texts(), ["remove volumes"]);
    story.happen(Happening::VolumesRemoved(Ok(())));
    assert_eq!(story.texts(), ["finalize"]);
    story.happen(Happening::Finalized(Err("offline".to_owned())));
    assert!(
        story.texts().is_empty(),
        "an unreachable server is not asked in a loop"
    );
    story.pass(5);
    assert_eq!(story.texts(), ["finalize"]);
    story.happen(Happening::Finalized(Ok(())));
    assert!(story.state.finished());
    assert!(story.texts().is_empty());
}

#[test]
fn a_shorter_grace_is_heard() {
    let mut story = Story::ready(pod("Always", vec![], vec![container("a")]));
    story.step();
    story.started("a");
    story.delete(300);
    assert_eq!(story.texts(), ["stop a 300s"]);
    story.pass(1);
    story.state.observe(&story.pod.clone(), story.now);
    assert!(
        story.texts().is_empty(),
        "the same deletion again changes nothing"
    );
    story.delete(0);
    assert_eq!(story.texts(), ["stop a 0ns"]);
    story.state.observe_removed(&story.pod.clone(), story.now);
    assert!(story.texts().is_empty());
}

#[test]
fn deleted_before_it_ran() {
    let mut story = Story::new(pod("Always", vec![], vec![container("a")]));
    story.delete(30);
    assert_eq!(story.texts(), ["remove sandbox"]);
    story.happen(Happening::SandboxRemoved(Ok(())));
    story.texts();
    story.happen(Happening::VolumesRemoved(Ok(())));
    assert_eq!(story.texts(), ["finalize"]);
}

#[test]
fn a_sandbox_in_the_making_is_awaited_before_it_is_removed() {
    let mut story = Story::new(pod("Always", vec![], vec![container("a")]));
    story.step();
    story.image("a", false);
    story.step();
    story.delete(30);
    assert!(story.texts().is_empty());
    story.parts_ready();
    assert_eq!(story.texts(), ["remove sandbox"]);
}

#[test]
fn liveness_restarts() {
    let mut main = container("a");
    main.liveness_probe = Some(Probe::default());
    let mut story = Story::ready(pod("Always", vec![], vec![main]));
    story.step();
    story.started("a");
    story.probed(
        "a",
        Verdict::Kill(Doom {
            message: "failed".to_owned(),
            grace_seconds: 7,
        }),
    );
    assert_eq!(story.texts(), ["stop a 7s"]);
    story.exited("a", 137);
    assert_eq!(story.texts(), ["fetch a"]);
}

#[test]
fn verdicts_about_an_earlier_run_are_void() {
    let mut story = Story::ready(pod("Always", vec![], vec![container("a")]));
    story.step();
    story.started("a");
    let verdict = Verdict::Kill(Doom {
        message: String::new(),
        grace_seconds: 1,
    });
    let happening = Happening::Probed {
        container: "a".into(),
        container_id: "fake://old".into(),
        verdict,
    };
    story.happen(happening);
    assert!(story.texts().is_empty());
}

#[test]
fn a_changed_image_restarts_its_container() {
    let mut story = Story::ready(pod("Always", vec![], vec![container("a")]));
    story.step();
    story.started("a");
    story.pod.spec.as_mut().unwrap().containers[0].image = Some("a:2".to_owned());
    assert_eq!(story.texts(), ["stop a 30s"]);
}

#[test]
fn refusals_are_tried_again() {
    let mut story = Story::ready(pod("Always", vec![], vec![container("a")]));
    story.step();
    let failure = StartFailure::Refused {
        reason: "CreateContainerConfigError".into(),
        message: "x".into(),
    };
    story.happen(Happening::NotStarted("a".to_owned(), failure));
    assert!(story.texts().is_empty());
    story.pass(5);
    assert_eq!(story.texts(), ["fetch a"]);
    story.image("a", false);
    assert_eq!(story.texts(), ["start a 0"]);
}

#[test]
fn a_program_that_cannot_run_counts_as_an_exit() {
    let mut story = Story::ready(pod("Never", vec![], vec![container("a")]));
    story.step();
    let failure = StartFailure::CannotRun {
        container_id: "fake://a".into(),
        message: "no such file".into(),
    };
    story.happen(Happening::NotStarted("a".to_owned(), failure));
    assert_eq!(story.state.container("a").exited().unwrap().code, 128);
    assert!(story.texts().is_empty(), "the disk does not know yet");
    story.happen(Happening::Kept);
    assert_eq!(story.texts(), ["remove sandbox"]);
}

#[test]
fn the_deadline_of_an_active_pod() {
    let mut pod = pod("Always", vec![], vec![container("a")]);
    pod.spec.as_mut().unwrap().active_deadline_seconds = Some(20);
    let mut story = Story::ready(pod);
    let plan = story.step();
    assert_eq!(plan.wake, Some(Duration::from_secs(1020)));
    story.started("a");
    story.pass(20);
    assert_eq!(story.texts(), ["fail DeadlineExceeded"]);
    assert_eq!(story.texts(), ["stop a 30s"]);
}

#[test]
fn container_states_have_one_of_three_faces() {
    // A guard for the status code: the type is a struct of options, not an enum.
    let state = ContainerState::default();
    assert!(state.waiting.is_none() && state.running.is_none() && state.terminated.is_none());
}
