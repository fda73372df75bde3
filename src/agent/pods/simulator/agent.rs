//! The agent as the simulation has it: the production code's decisions, and in place of its worker a list of
//! what will come to pass.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use api::cidr::Addresses;
use base::Random;
use k8s_openapi::api::core::v1::{Pod, PodStatus};

use super::world::World;
use crate::config::Timing;
use crate::moment::Moment;
use crate::pods::action::{Action, Happening, Verdict};
use crate::pods::decide::decide;
use crate::pods::resize::{self, Room};
use crate::pods::restore::{Outlived, Survivor, restore};
use crate::pods::spec;
use crate::pods::state::{Doom, PodState};
use crate::pods::status;

/// More decisions in a row without anything happening never come to rest.
const ROUNDS_MAX: usize = 32;

/// Something that will come to pass.
#[derive(Debug)]
pub(super) enum Job {
    /// An effect, with the run that it replaces or ends.
    Do(Action, Option<String>),
    /// News for the state.
    Tell(Happening),
    /// The disk gets this.
    Keep(Kept),
    /// The agent hears how the API has the pod.
    Hear,
}

/// What the disk gets.
pub(super) struct Kept(Box<Pod>);

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let phase = self.0.status.as_ref().and_then(|status| status.phase.as_deref());
        write!(f, "{}", phase.unwrap_or_default())
    }
}

pub(super) struct Agent {
    /// The pod as it last heard of it.
    pub(super) pod: Pod,
    pub(super) state: PodState,
    timing: Timing,
    pub(super) jobs: Vec<(Duration, Job)>,
    /// When it wants to be woken.
    pub(super) wake: Option<Duration>,
    /// The last status made.
    made: Option<PodStatus>,
    /// The pod as the disk has it: with this an agent begins again.
    pub(super) kept: Option<Pod>,
    keeping: bool,
    /// The disk has it that the pod is over.
    over: bool,
    /// Ids of runs whose end it waits for.
    pub(super) followed: Vec<String>,
    /// Ids of runs that it was told to end.
    doomed: BTreeSet<String>,
}

impl Agent {
    pub(super) fn new(pod: &Pod, now: Moment) -> Agent {
        Agent {
            state: PodState::new(pod, now),
            pod: pod.clone(),
            timing: Timing::default(),
            jobs: Vec::new(),
            wake: None,
            made: None,
            kept: None,
            keeping: false,
            over: false,
            followed: Vec::new(),
            doomed: BTreeSet::new(),
        }
    }

    /// Decides and begins until there is nothing to begin; whether it wants to be woken.
    pub(super) fn decide(&mut self, world: &World, now: Moment) -> bool {
        for _ in 0..ROUNDS_MAX {
            let plenty = Room {
                cpu_millis: 1 << 20,
                memory_bytes: 1 << 40,
                cpu_millis_all: 1 << 20,
                memory_bytes_all: 1 << 40,
            };
            self.state.room = resize::pending(&self.pod, &self.state).then_some(plenty);
            let plan = decide(&self.pod, &self.state, &self.timing, now);
            self.wake = plan.wake;
            if plan.actions.is_empty() && !self.keep(world, now) {
                return plan.wake.is_some();
            }
            for action in plan.actions {
                self.begin(action, world, now);
            }
        }
        panic!("decisions do not come to rest");
    }

    fn begin(&mut self, action: Action, world: &World, now: Moment) {
        let mut old = None;
        let mut longest = Duration::from_secs(3);
        match &action {
            Action::Start { container, .. } => {
                assert!(!self.over, "{container} starts in a pod that is over");
                old = self
                    .state
                    .container(container)
                    .exited()
                    .map(|exit| exit.container_id.clone());
            }
            Action::Stop {
                container,
                message,
                grace,
            } => {
                self.check_stop(container, message);
                old = self.state.container(container).container_id().map(str::to_owned);
                // A second stop takes the first one's place.
                self.forget_stop(container);
                longest = *grace;
            }
            _ => {}
        }
        self.state.begin(&self.pod, &action, &self.timing, now);
        let due = now.mono + world.some(longest);
        self.jobs.push((due, Job::Do(action, old)));
    }

    fn forget_stop(&mut self, of: &str) {
        let stops = |job: &Job| matches!(job, Job::Do(Action::Stop { container, .. }, _) if container == of);
        self.jobs.retain(|(_, job)| !stops(job));
    }

    /// Only a run of which it was said ends because of what was said.
    fn check_stop(&self, container: &str, message: &str) {
        let Some(id) = self.state.container(container).container_id() else {
            panic!("{container} is stopped and does not run");
        };
        let meant = message != DOOM || self.doomed.contains(id);
        assert!(meant, "{id} is ended for what another run did");
    }

    /// Has the disk get to know the status; whether something waited for that and need wait no longer.
    fn keep(&mut self, world: &World, now: Moment) -> bool {
        let view = status::View {
            pod: &self.pod,
            state: &self.state,
            previous: self.made.as_ref(),
            host_ip: Addresses::from(std::net::IpAddr::from([192, 0, 2, 1])),
            timing: &self.timing,
            now,
        };
        let status = Some(view.status());
        self.made.clone_from(&status);
        if self.keeping {
            return false;
        }
        if self.kept.as_ref().is_some_and(|kept| kept.status == status) {
            return self.state.note_ends();
        }
        let mut pod = self.pod.clone();
        pod.status = status;
        self.keeping = true;
        self.later(Job::Keep(Kept(Box::new(pod))), world, now);
        false
    }

    /// The disk has it now.
    pub(super) fn kept(&mut self, Kept(pod): Kept, world: &mut World) {
        let status = pod.status.clone().unwrap_or_default();
        self.over = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        let lists = [
            status.container_statuses,
            status.init_container_statuses,
            status.ephemeral_container_statuses,
        ];
        for shown in lists.into_iter().flatten().flatten() {
            if let Some(exit) = shown.state.and_then(|state| state.terminated) {
                world.note_end(&pod, &shown.name, exit.exit_code, true);
            }
        }
        self.kept = Some(*pod);
        self.keeping = false;
    }

    pub(super) fn later(&mut self, job: Job, world: &World, now: Moment) {
        let due = now.mono + world.some(Duration::from_secs(5));
        self.jobs.push((due, job));
    }

    pub(super) fn tell(&mut self, happening: Happening, world: &mut World, now: Moment) {
        match &happening {
            Happening::Exited(name, exit) => {
                self.forget_stop(name);
                world.note_end(&self.pod, name, exit.code, false);
            }
            Happening::Probed {
                container_id,
                verdict: Verdict::Kill(_),
                ..
            } => drop(self.doomed.insert(container_id.clone())),
            Happening::Hooked {
                container_id,
                error: Some(_),
                ..
            } => drop(self.doomed.insert(container_id.clone())),
            _ => {}
        }
        let begun = match &happening {
            Happening::Started {
                container,
                container_id,
                ..
            } => Some((container.clone(), container_id.clone())),
            _ => None,
        };
        self.state.apply(&self.pod, happening, &self.timing, now);
        if let Some((container, container_id)) = begun {
            self.follow(&container, &container_id, world, now);
            let error = world.fails().then(|| "hook".to_owned());
            let hooked = Happening::Hooked {
                container,
                container_id,
                error,
            };
            self.later(Job::Tell(hooked), world, now);
        }
    }

    /// Waits for a run's end, and asks its startup probe.
    fn follow(&mut self, name: &str, id: &str, world: &mut World, now: Moment) {
        self.followed.push(id.to_owned());
        if spec::container(&self.pod, name).is_some_and(|(_, c)| c.startup_probe.is_some()) {
            let verdict = if world.fails() { doom() } else { Verdict::Started };
            self.probe(name, id, verdict, world, now);
        }
    }

    pub(super) fn probe(&mut self, name: &str, id: &str, verdict: Verdict, world: &World, now: Moment) {
        let probed = Happening::Probed {
            container: name.to_owned(),
            container_id: id.to_owned(),
            verdict,
        };
        self.later(Job::Tell(probed), world, now);
    }

    /// The ends of runs that it waits for are told, each once.
    pub(super) fn hear_of_ends(&mut self, world: &World, now: Moment) {
        for run in &world.runs {
            let Some(exit) = &run.end else { continue };
            if let Some(at) = self.followed.iter().position(|id| *id == run.id) {
                self.followed.swap_remove(at);
                self.later(
                    Job::Tell(Happening::Exited(run.name.clone(), exit.clone())),
                    world,
                    now,
                );
            }
        }
    }

    /// How the API has the pod.
    pub(super) fn hear(&mut self, pod: &Pod, gone: bool, now: Moment) {
        self.pod = pod.clone();
        match gone {
            true => self.state.observe_removed(pod, now),
            false => self.state.observe(pod, now),
        }
    }

    /// It ends; of what it was doing, each effect was carried out, begun, or not, and nobody heard of it. Then it
    /// begins again with what the disk has, and hears of the API only later.
    pub(super) fn restart(&mut self, pod: &Pod, world: &mut World, now: Moment) {
        for (_, job) in std::mem::take(&mut self.jobs) {
            match (job, world.random.below(3)) {
                (Job::Do(action, old), 0) => drop(world.perform(&self.pod, &action, old.as_deref(), now)),
                (Job::Do(Action::Start { .. }, Some(old)), 1) => world.forget(&old),
                (Job::Keep(pod), 0) => self.kept(pod, world),
                _ => {}
            }
        }
        world.agent_ended();
        let begin = self.kept.clone().unwrap_or_else(|| pod.clone());
        let old = std::mem::replace(self, Agent::new(&begin, now));
        (self.kept, self.over, self.doomed) = (old.kept, old.over, old.doomed);
        self.made.clone_from(&begin.status);
        self.state = restore(&begin, &survivors(world), now);
        let running = self.state.containers.iter();
        let running: Vec<(String, String)> = running
            .filter_map(|(name, record)| Some((name.clone(), record.container_id()?.to_owned())))
            .collect();
        running
            .iter()
            .for_each(|(name, id)| self.follow(name, id, world, now));
        self.hear_of_ends(world, now);
        self.later(Job::Hear, world, now);
    }
}

/// The text with which runs are ended for what they did.
const DOOM: &str = "it is not well";

/// A verdict that ends a run.
pub(super) fn doom() -> Verdict {
    Verdict::Kill(Doom {
        message: DOOM.to_owned(),
        grace_seconds: 2,
    })
}

/// What an agent finds: the last run of each container.
fn survivors(world: &World) -> BTreeMap<String, Survivor> {
    let found = world.runs.iter().map(|run| {
        let outlived = match &run.end {
            Some(exit) => Outlived::Exited(exit.clone()),
            None => Outlived::Running {
                container_id: run.id.clone(),
                started: run.started,
            },
        };
        let attempt = run.attempt;
        (
            run.name.clone(),
            Survivor {
                attempt,
                run: outlived,
            },
        )
    });
    found.collect()
}
