//! One history: a pod of some shape, what befalls it, and how it must look in the end.

use std::time::Duration;

use base::Random;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod, Probe, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::agent::{Agent, Job, doom};
use super::world::World;
use crate::moment::Moment;
use crate::pods::action::{Action, Happening, Verdict};
use crate::pods::decide::{completed, done};
use crate::pods::decide_tests::{container, pod, sidecar};
use crate::pods::resize;
use crate::pods::spec::{self, Role};
use crate::pods::state::{Part, Run};

/// Steps with faults, then as many without at most.
const STEPS: usize = 400;
const CALM_STEPS_MAX: usize = 4000;

/// What happened in histories.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stats {
    pub(super) starts: u64,
    pub(super) ends: u64,
    pub(super) failures: u64,
    pub(super) agents: u64,
    pub(super) reboots: u64,
    pub(super) shims: u64,
    pub(super) changes: u64,
    pub(super) evictions: u64,
    pub(super) removed: u64,
    pub(super) completed: u64,
    pub(super) running: u64,
}

impl Stats {
    pub(super) fn add(&mut self, other: &Stats) {
        let pairs = [
            (&mut self.starts, other.starts),
            (&mut self.ends, other.ends),
            (&mut self.failures, other.failures),
            (&mut self.agents, other.agents),
            (&mut self.reboots, other.reboots),
            (&mut self.shims, other.shims),
            (&mut self.changes, other.changes),
            (&mut self.evictions, other.evictions),
            (&mut self.removed, other.removed),
            (&mut self.completed, other.completed),
            (&mut self.running, other.running),
        ];
        pairs.into_iter().for_each(|(sum, more)| *sum += more);
    }
}

pub(super) struct History {
    world: World,
    /// The pod as the API has it, and whether it has it still.
    pod: Pod,
    gone: bool,
    agent: Agent,
    now: Moment,
    told: bool,
    stats: Stats,
}

impl History {
    /// The history of a seed; `told`: step by step.
    pub(super) fn new(seed: u64, told: bool) -> History {
        let mut world = World::new(seed);
        let pod = some_pod(&mut world);
        let now = Moment::at(1_000_000);
        History {
            agent: Agent::new(&pod, now),
            world,
            pod,
            gone: false,
            now,
            told,
            stats: Stats::default(),
        }
    }

    pub(super) fn live(mut self) -> Stats {
        for _ in 0..STEPS {
            self.agent.decide(&self.world, self.now);
            if self.agent.state.finished() {
                break;
            }
            match self.world.once_in(12) {
                true => self.disturb(),
                false => self.go_on(),
            }
        }
        self.world.calm = true;
        for _ in 0..CALM_STEPS_MAX {
            let wakes = self.agent.decide(&self.world, self.now);
            let idle = self.agent.jobs.is_empty() && !wakes;
            if self.agent.state.finished() || (idle && !self.nudge()) {
                break;
            }
            self.go_on();
        }
        self.check_end();
        self.stats.starts = self.world.starts;
        self.stats.ends = self.world.ends;
        self.stats.failures = self.world.failures;
        self.stats
    }

    /// Lets the next thing happen.
    fn go_on(&mut self) {
        let next = self.agent.jobs.iter().map(|(due, _)| *due).min();
        let Some(due) = [next, self.agent.wake.take()].into_iter().flatten().min() else {
            self.nudge();
            return self.pass_until(self.now.mono + Duration::from_secs(1));
        };
        self.pass_until(due);
        let ready = self.agent.jobs.iter().position(|(due, _)| *due <= self.now.mono);
        let Some(at) = ready else { return };
        let job = self.agent.jobs.remove(at).1;
        self.say(|| format!("{job:?}"));
        match job {
            Job::Tell(happening) => self.tell(happening),
            Job::Keep(pod) => self.agent.kept(pod, &mut self.world),
            Job::Hear => self.agent.hear(&self.pod, self.gone, self.now),
            Job::Do(action, old) => {
                let told = self
                    .world
                    .perform(&self.agent.pod, &action, old.as_deref(), self.now);
                self.say(|| format!("  then {told:?}"));
                told.into_iter().for_each(|happening| self.tell(happening));
            }
        }
        self.agent.hear_of_ends(&self.world, self.now);
    }

    fn say(&self, what: impl FnOnce() -> String) {
        if self.told {
            println!("{:?} {}", self.now.mono, what());
        }
    }

    fn tell(&mut self, happening: Happening) {
        self.agent.tell(happening, &mut self.world, self.now);
    }

    fn pass_until(&mut self, mono: Duration) {
        let passed = mono.saturating_sub(self.now.mono);
        self.now.mono += passed;
        let passed = SignedDuration::try_from(passed).expect("a short time");
        self.now.wall = self.now.wall.checked_add(passed).expect("a time");
    }

    /// Lets what should end do so; whether there was anything.
    fn nudge(&mut self) -> bool {
        let ends = self.world.end_what_should(&self.pod, self.now);
        self.agent.hear_of_ends(&self.world, self.now);
        ends
    }

    // --- disturbances ---

    fn disturb(&mut self) {
        let what = self.world.random.below(16);
        self.say(|| format!("disturbance {what}"));
        match what {
            0..=2 => self.restart_agent(),
            3 => {
                self.stats.reboots += 1;
                self.world.lose_shim(self.now);
                self.restart_agent();
            }
            4 | 5 => {
                self.stats.shims += 1;
                self.world.lose_shim(self.now);
            }
            6..=8 => self.world.end_one(self.now),
            9 | 10 => self.change_spec(),
            11..=13 => self.probe_one(),
            14 => self.evict(),
            _ => self.delete(),
        }
        self.agent.hear_of_ends(&self.world, self.now);
    }

    fn restart_agent(&mut self) {
        self.stats.agents += 1;
        self.agent.restart(&self.pod, &mut self.world, self.now);
    }

    fn change_spec(&mut self) {
        self.stats.changes += 1;
        let generation = self.pod.metadata.generation.unwrap_or(0) + 1;
        self.pod.metadata.generation = Some(generation);
        let Some(spec) = self.pod.spec.as_mut() else {
            return;
        };
        match (self.world.random.below(3), spec.containers.first_mut()) {
            (0, Some(container)) => container.image = Some(format!("main:{generation}")),
            (1, Some(container)) => {
                let millis = Quantity(format!("{}m", 1 + generation));
                container.resources = Some(ResourceRequirements {
                    requests: Some([("cpu".to_owned(), millis)].into()),
                    ..ResourceRequirements::default()
                });
            }
            _ => {
                let name = format!("debug-{generation}");
                self.world.add(&name);
                spec.ephemeral_containers
                    .get_or_insert_default()
                    .push(EphemeralContainer {
                        name,
                        image: Some("debug:1".to_owned()),
                        ..EphemeralContainer::default()
                    });
            }
        }
        self.agent.later(Job::Hear, &self.world, self.now);
    }

    /// A verdict about a run that is there, or that was.
    fn probe_one(&mut self) {
        let Some(run) = self.world.any_run() else { return };
        let verdict = match self.world.random.below(3) {
            0 => Verdict::Ready(self.world.fails()),
            1 => Verdict::Started,
            _ => doom(),
        };
        self.agent
            .probe(&run.name, &run.id, verdict, &self.world, self.now);
    }

    /// The node gives the pod up, or ends itself.
    fn evict(&mut self) {
        if !self.world.once_in(8) {
            return;
        }
        self.stats.evictions += 1;
        match self.world.once_in(2) {
            true => self.agent.state.evict("The node was low on resource: memory."),
            false => self.agent.state.end_with_node(Duration::from_secs(5)),
        };
    }

    fn delete(&mut self) {
        if !self.world.once_in(5) {
            return;
        }
        self.world.wanted_gone = true;
        if self.world.once_in(4) {
            self.gone = true;
        } else {
            let grace = self.world.random.below(30).cast_signed();
            self.pod.metadata.deletion_timestamp = Some(Time(self.now.wall));
            self.pod.metadata.deletion_grace_period_seconds = Some(grace);
        }
        self.agent.later(Job::Hear, &self.world, self.now);
    }

    // --- the end ---

    fn check_end(&mut self) {
        let (world, state) = (&self.world, &self.agent.state);
        if world.wanted_gone {
            assert!(state.finished(), "it does not go: {state:?}");
            let pulls = |job: &Job| matches!(job, Job::Do(Action::FetchImage { .. }, _));
            let mut begun = self
                .agent
                .jobs
                .iter()
                .filter(|(_, job)| matches!(job, Job::Do(..)));
            let left = begun.find(|(_, job)| !pulls(job));
            assert!(
                left.is_none(),
                "it goes and something is still being done for it: {left:?}"
            );
            self.stats.removed += 1;
            return;
        }
        let refused = spec::ephemeral_containers(&self.pod).any(|c| world.cannot_join(&c.name));
        assert!(
            refused || self.agent.jobs.is_empty(),
            "it never comes to rest: {state:?}"
        );
        if completed(&self.agent.pod, state) {
            assert!(
                !world.sandbox && !world.volumes,
                "a pod that is over keeps its parts"
            );
            assert!(
                world.runs.iter().all(|run| run.end.is_some()),
                "a pod that is over runs on"
            );
            assert_eq!(state.sandbox, Part::Gone);
            self.stats.completed += 1;
            return;
        }
        for (role, container) in spec::all_containers(&self.pod).filter(|(role, _)| *role != Role::Init) {
            self.check_container(role, &container);
        }
        self.stats.running += 1;
    }

    /// A container has done its part, or runs as it should.
    fn check_container(&self, role: Role, container: &Container) {
        let (name, record) = (&container.name, self.agent.state.container(&container.name));
        if (role == Role::Ephemeral && self.world.cannot_join(name))
            || done(&self.pod, role, container, record)
        {
            return;
        }
        let runs = matches!(record.run, Run::Running { .. }) && self.world.is_alive(name);
        assert!(runs, "{name} does not run: {record:?}");
        assert!(record.started(), "{name} is not well: {record:?}");
        assert!(
            resize::step(container, record).is_none(),
            "{name} has not what it may use: {record:?}"
        );
        let run = self
            .world
            .runs
            .iter()
            .find(|run| run.name == *name && run.end.is_none());
        let image = run.map(|run| run.image.as_str());
        assert_eq!(
            image,
            Some(spec::image(container)),
            "{name} runs another image: {record:?}"
        );
    }
}

/// A pod of some shape.
fn some_pod(world: &mut World) -> Pod {
    let policy = ["Always", "OnFailure", "Never"][world.random.below(3) as usize];
    let mut init = Vec::new();
    if world.once_in(2) {
        init.push(container("setup"));
    }
    if world.once_in(2) {
        init.push(probed(sidecar("helper"), world));
    }
    let mut main = vec![probed(container("main"), world)];
    if world.once_in(2) {
        main.push(container("other"));
    }
    let mut pod = pod(policy, init, main);
    let names: Vec<String> = spec::containers(&pod).map(|(_, c)| c.name.clone()).collect();
    names.iter().for_each(|name| world.add(name));
    if let Some(spec) = pod.spec.as_mut().filter(|_| world.once_in(8)) {
        spec.active_deadline_seconds = Some(60 + world.random.below(600).cast_signed());
    }
    pod
}

fn probed(mut container: Container, world: &World) -> Container {
    container.startup_probe = world.once_in(2).then(Probe::default);
    container
}
