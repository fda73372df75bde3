//! The pod state machine played against a world that a seed decides: effects take their time, fail, or are
//! cut off by the end of the agent; containers end by themselves; shims die; pods change and are deleted.
//!
//! Whatever the order, it must hold that no container ever runs twice at a time, that nothing runs without
//! what it stands on, that an end which is final stays so, and, once the faults stop, that the pod becomes
//! what it asks for and leaves nothing behind when it goes.

mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use api::cidr::Addresses;
use base::Random;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{EphemeralContainer, Pod, PodStatus, Probe};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::action::{Action, Happening, Verdict};
use super::decide::{completed, decide};
use super::decide_tests::{container, pod, sidecar};
use super::restore::{Survivor, restore};
use super::spec::{self, Role};
use super::state::{Doom, Part, PodState, Run};
use super::status;
use crate::config::Timing;
use crate::moment::Moment;
use world::{Live, World};

/// Steps with faults, then as many without at most.
const STEPS: usize = 400;
const CALM_STEPS_MAX: usize = 4000;
/// More decisions in a row without anything happening never come to rest.
const ROUNDS_MAX: usize = 32;

/// Something that will come to pass.
enum Job {
    /// An effect, with the run that it replaces.
    Do(Action, Option<String>),
    /// News for the state.
    Tell(Happening),
}

struct Simulation {
    seed: u64,
    world: World,
    pod: Pod,
    state: PodState,
    timing: Timing,
    now: Moment,
    jobs: Vec<(Duration, Job)>,
    /// The status as the disk has it: with this an agent begins again.
    kept: PodStatus,
    /// Ids of runs whose end the agent waits for.
    followed: Vec<String>,
}

impl Simulation {
    fn new(seed: u64) -> Simulation {
        let world = World::new(seed);
        let pod = some_pod(&world);
        let now = Moment::at(1_000_000);
        Simulation {
            state: PodState::new(&pod, now),
            kept: PodStatus::default(),
            timing: Timing::default(),
            jobs: Vec::new(),
            followed: Vec::new(),
            seed,
            world,
            pod,
            now,
        }
    }

    fn run(mut self) {
        for _ in 0..STEPS {
            self.decide();
            if self.state.finished() {
                break;
            }
            match self.world.random.below(12) {
                0 => self.disturb(),
                _ => self.go_on(),
            }
        }
        self.world.calm = true;
        for _ in 0..CALM_STEPS_MAX {
            let wakes = self.decide();
            if self.state.finished() || (self.jobs.is_empty() && !wakes && !self.nudge()) {
                break;
            }
            self.go_on();
        }
        self.check_converged();
    }

    /// Decides and begins until there is nothing to begin; whether it wants to be woken.
    fn decide(&mut self) -> bool {
        for _ in 0..ROUNDS_MAX {
            let plan = decide(&self.pod, &self.state, &self.timing, self.now);
            if plan.actions.is_empty() {
                self.keep();
                if let Some(wake) = plan.wake {
                    self.world.wake = Some(wake);
                }
                return plan.wake.is_some();
            }
            for action in plan.actions {
                self.begin(action);
            }
        }
        panic!("seed {}: decisions do not come to rest", self.seed);
    }

    fn begin(&mut self, action: Action) {
        let old = match &action {
            Action::Start { container, .. } => {
                let exit = self.state.container(container).exited();
                exit.map(|exit| exit.container_id.clone())
            }
            _ => None,
        };
        self.state.begin(&self.pod, &action, &self.timing, self.now);
        let longest = match &action {
            Action::Stop { container, grace, .. } => {
                // A second stop takes the first one's place.
                self.jobs.retain(
                    |(_, job)| !matches!(job, Job::Do(Action::Stop { container: other, .. }, _) if other == container),
                );
                *grace
            }
            _ => Duration::from_secs(3),
        };
        let due = self.now.mono + self.world.some(longest);
        self.jobs.push((due, Job::Do(action, old)));
    }

    /// What the disk gets to know; sometimes the agent ends before it is written.
    fn keep(&mut self) {
        if self.world.random.below(8) == 0 {
            return;
        }
        let view = status::View {
            pod: &self.pod,
            state: &self.state,
            previous: None,
            host_ip: Addresses::from(std::net::IpAddr::from([192, 0, 2, 1])),
            timing: &self.timing,
            now: self.now,
        };
        self.kept = view.status();
    }

    /// Lets the next thing happen.
    fn go_on(&mut self) {
        let next = self.jobs.iter().map(|(due, _)| *due).min();
        let Some(due) = [next, self.world.wake.take()].into_iter().flatten().min() else {
            return self.nudge_or_wait();
        };
        self.pass_until(due);
        let ready = self.jobs.iter().position(|(due, _)| *due <= self.now.mono);
        let Some(at) = ready else { return };
        match self.jobs.swap_remove(at).1 {
            Job::Tell(happening) => self.tell(happening),
            Job::Do(action, old) => {
                let told = self.world.perform(&self.pod, &action, old.as_deref(), self.now);
                if let Some(happening) = told {
                    self.tell(happening);
                }
                self.hear_of_ends();
            }
        }
    }

    fn pass_until(&mut self, mono: Duration) {
        let passed = mono.saturating_sub(self.now.mono);
        self.now.mono += passed;
        let passed = SignedDuration::try_from(passed).expect("a short time");
        self.now.wall = self.now.wall.checked_add(passed).expect("a time");
    }

    fn nudge_or_wait(&mut self) {
        self.nudge();
        self.pass_until(self.now.mono + Duration::from_secs(1));
    }

    /// In calm, lets what should end do so; whether there was anything.
    fn nudge(&mut self) -> bool {
        let ends = self.world.end_what_should(&self.pod, self.now);
        self.hear_of_ends();
        ends
    }

    /// The ends of runs that the agent waits for are told, each once.
    fn hear_of_ends(&mut self) {
        for run in &self.world.runs {
            let Some(exit) = &run.end else { continue };
            if let Some(at) = self.followed.iter().position(|id| *id == run.id) {
                self.followed.swap_remove(at);
                let due = self.now.mono + self.world.some(Duration::from_secs(1));
                self.jobs
                    .push((due, Job::Tell(Happening::Exited(run.name.clone(), exit.clone()))));
            }
        }
    }

    fn tell(&mut self, happening: Happening) {
        if let Happening::Exited(name, exit) = &happening {
            self.world.note_final(&self.pod, name, exit.code);
        }
        let begun = match &happening {
            Happening::Started {
                container,
                container_id,
                ..
            } => Some((container.clone(), container_id.clone())),
            _ => None,
        };
        self.state.apply(&self.pod, happening, &self.timing, self.now);
        if let Some((name, id)) = begun {
            self.follow(&name, &id);
            let error = self.world.fails().then(|| "hook".to_owned());
            let hooked = Happening::Hooked {
                container: name,
                container_id: id,
                error,
            };
            self.later(hooked);
        }
    }

    fn later(&mut self, happening: Happening) {
        let due = self.now.mono + self.world.some(Duration::from_secs(5));
        self.jobs.push((due, Job::Tell(happening)));
    }

    fn follow(&mut self, name: &str, id: &str) {
        self.followed.push(id.to_owned());
        self.hear_of_ends();
        let wants = spec::container(&self.pod, name).is_some_and(|(_, c)| c.startup_probe.is_some());
        if wants {
            let verdict = self.verdict();
            self.later(Happening::Probed {
                container: name.to_owned(),
                container_id: id.to_owned(),
                verdict,
            });
        }
    }

    fn verdict(&self) -> Verdict {
        if self.world.fails() {
            return Verdict::Kill(Doom {
                message: "startup probe failed".to_owned(),
                grace_seconds: 2,
            });
        }
        Verdict::Started
    }

    // --- disturbances ---

    fn disturb(&mut self) {
        match self.world.random.below(8) {
            0 | 1 => self.restart_agent(),
            2 => {
                self.world.lose_shim(self.now);
                self.hear_of_ends();
            }
            3 | 4 => {
                self.world.end_one(self.now);
                self.hear_of_ends();
            }
            5 => self.change_spec(),
            6 => self.probe_one(),
            _ => self.delete(),
        }
    }

    /// The agent ends; of what it was doing, each effect was carried out or not, and nobody heard of it.
    fn restart_agent(&mut self) {
        for (_, job) in std::mem::take(&mut self.jobs) {
            if let Job::Do(action, old) = job
                && self.world.random.below(2) == 0
            {
                self.world.perform(&self.pod, &action, old.as_deref(), self.now);
            }
        }
        self.followed.clear();
        self.world.wake = None;
        self.world.agent_ended();
        let survivors = self.survivors();
        let mut pod = self.pod.clone();
        pod.status = Some(self.kept.clone());
        self.state = restore(&pod, &survivors, self.now);
        if self.world.gone {
            self.state.observe_removed(&self.pod, self.now);
        }
        let running: Vec<(String, String)> = self
            .state
            .containers
            .iter()
            .filter_map(|(name, record)| Some((name.clone(), record.container_id()?.to_owned())))
            .collect();
        running.iter().for_each(|(name, id)| self.follow(name, id));
    }

    /// What an agent finds: the last run of each container.
    fn survivors(&self) -> BTreeMap<String, Survivor> {
        let found = self.world.runs.iter().map(|run| {
            let survivor = match &run.end {
                Some(exit) => Survivor::Exited(exit.clone()),
                None => Survivor::Running {
                    container_id: run.id.clone(),
                    started: run.started,
                },
            };
            (run.name.clone(), survivor)
        });
        found.collect()
    }

    fn change_spec(&mut self) {
        let generation = self.pod.metadata.generation.unwrap_or(0) + 1;
        self.pod.metadata.generation = Some(generation);
        let added = EphemeralContainer {
            name: format!("debug-{generation}"),
            image: Some("debug:1".to_owned()),
            ..EphemeralContainer::default()
        };
        let new_image = self.world.random.below(2) == 0;
        let Some(spec) = self.pod.spec.as_mut() else {
            return;
        };
        match spec.containers.first_mut().filter(|_| new_image) {
            Some(container) => container.image = Some(format!("main:{generation}")),
            None => spec.ephemeral_containers.get_or_insert_default().push(added),
        }
        self.state.observe(&self.pod, self.now);
    }

    /// A verdict about a run that is there, or that was.
    fn probe_one(&mut self) {
        let Some(run) = self.world.any_run() else { return };
        let Live { name, id, .. } = run;
        let verdict = match self.world.random.below(3) {
            0 => Verdict::Ready(self.world.fails()),
            1 => Verdict::Started,
            _ => Verdict::Kill(Doom {
                message: "liveness probe failed".to_owned(),
                grace_seconds: 5,
            }),
        };
        self.later(Happening::Probed {
            container: name,
            container_id: id,
            verdict,
        });
    }

    fn delete(&mut self) {
        if self.world.random.below(3) > 0 {
            return;
        }
        self.world.wanted_gone = true;
        if self.world.random.below(4) == 0 {
            self.world.gone = true;
            self.state.observe_removed(&self.pod, self.now);
            return;
        }
        self.pod.metadata.deletion_timestamp = Some(Time(self.now.wall));
        self.pod.metadata.deletion_grace_period_seconds = Some(self.world.random.below(30).cast_signed());
        self.state.observe(&self.pod, self.now);
    }

    // --- the end ---

    fn check_converged(&self) {
        let (seed, world) = (self.seed, &self.world);
        let alive = |name: &str| world.runs.iter().any(|run| run.name == name && run.end.is_none());
        if world.wanted_gone {
            assert!(
                self.state.finished(),
                "seed {seed}: does not go: {:?}",
                self.state
            );
            return;
        }
        assert!(self.jobs.is_empty(), "seed {seed}: never comes to rest");
        if completed(&self.pod, &self.state) {
            assert!(
                !world.sandbox && !world.volumes,
                "seed {seed}: a pod that is over keeps its parts"
            );
            assert!(
                world.runs.iter().all(|run| run.end.is_some()),
                "seed {seed}: runs on"
            );
            assert_eq!(self.state.sandbox, Part::Gone);
            return;
        }
        for (role, container) in spec::containers(&self.pod).filter(|(role, _)| *role != Role::Init) {
            let record = self.state.container(&container.name);
            let done = super::decide::done(&self.pod, role, container, record);
            let runs = matches!(record.run, Run::Running { .. }) && alive(&container.name);
            assert!(
                done || runs,
                "seed {seed}: {} does not run: {record:?}",
                container.name
            );
            assert!(
                done || record.started(),
                "seed {seed}: {} is not well",
                container.name
            );
        }
    }
}

/// A pod of some shape.
fn some_pod(world: &World) -> Pod {
    let random = &world.random;
    let policy = ["Always", "OnFailure", "Never"][random.below(3) as usize];
    let probed = |mut container: k8s_openapi::api::core::v1::Container| {
        if random.below(2) == 0 {
            container.startup_probe = Some(Probe::default());
        }
        container
    };
    let mut init = Vec::new();
    if random.below(2) == 0 {
        init.push(container("setup"));
    }
    if random.below(2) == 0 {
        init.push(probed(sidecar("helper")));
    }
    let mut main = vec![probed(container("main"))];
    if random.below(2) == 0 {
        main.push(container("other"));
    }
    pod(policy, init, main)
}

#[test]
fn any_order_of_events_converges_and_nothing_runs_twice() {
    for seed in 0..3000 {
        Simulation::new(seed).run();
    }
}
