//! What is outside the agent: the runs, and what they stand on; and the laws that hold there whatever the agent
//! thinks. A law that is broken panics with its name.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use api::cidr::Addresses;
use base::{Random, SeededRandom};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::moment::Moment;
use crate::pods::action::{Action, Happening, StartFailure};
use crate::pods::spec::{self, RestartPolicy, Role};
use crate::pods::state::{ExitRecord, ImageRef, LOST};

/// One run of a container, until it is forgotten.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) attempt: u32,
    pub(super) image: String,
    pub(super) started: Timestamp,
    pub(super) end: Option<ExitRecord>,
}

pub(super) struct World {
    pub(super) random: SeededRandom,
    /// No more faults.
    pub(super) calm: bool,
    /// Containers whose images are Wasm; they live in the agent's process and end with it.
    guests: BTreeSet<String>,
    /// All are.
    only_guests: bool,
    /// Network, files and folders of the pod are there, whole or not.
    pub(super) sandbox: bool,
    /// Whoever runs the pod's ordinary containers is.
    shim: bool,
    /// The network is the one that all guests share, which no ordinary container can join.
    shared: bool,
    /// What was last fetched for each container.
    images: BTreeMap<String, String>,
    pub(super) volumes: bool,
    pub(super) runs: Vec<Run>,
    /// The pod was deleted, or removed by force.
    pub(super) wanted_gone: bool,
    /// Containers of which it is known that they have ended for good.
    finals: BTreeSet<String>,
    /// The last attempt of each ordinary container.
    attempts: BTreeMap<String, u32>,
    pub(super) starts: u64,
    pub(super) ends: u64,
    pub(super) failures: u64,
}

impl World {
    pub(super) fn new(seed: u64) -> World {
        let random = SeededRandom::new(seed);
        let only_guests = random.below(4) == 0;
        World {
            random,
            calm: false,
            guests: BTreeSet::new(),
            only_guests,
            sandbox: false,
            shim: false,
            shared: false,
            images: BTreeMap::new(),
            volumes: false,
            runs: Vec::new(),
            wanted_gone: false,
            finals: BTreeSet::new(),
            attempts: BTreeMap::new(),
            starts: 0,
            ends: 0,
            failures: 0,
        }
    }

    /// Decides what a container's image is.
    pub(super) fn add(&mut self, name: &str) {
        if self.only_guests || self.random.below(4) == 0 {
            self.guests.insert(name.to_owned());
        }
    }

    /// Yes, once in so many times.
    pub(super) fn once_in(&self, times: u64) -> bool {
        self.random.below(times) == 0
    }

    /// A time up to `longest`.
    pub(super) fn some(&self, longest: Duration) -> Duration {
        let ms = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.random.below(ms.saturating_add(1)))
    }

    /// Whether something goes wrong this time.
    pub(super) fn fails(&mut self) -> bool {
        let fails = !self.calm && self.once_in(6);
        self.failures += u64::from(fails);
        fails
    }

    /// Carries an action out; what the agent hears of it. `old` is the run that a start replaces, or that a
    /// stop ends.
    pub(super) fn perform(
        &mut self,
        pod: &Pod,
        action: &Action,
        old: Option<&str>,
        now: Moment,
    ) -> Option<Happening> {
        let failed = self.fails();
        let result = || {
            if failed {
                Err("it failed".to_owned())
            } else {
                Ok(())
            }
        };
        Some(match action {
            Action::FetchImage { container } => {
                let found = if failed {
                    Err(("ErrImagePull".to_owned(), "it failed".to_owned()))
                } else {
                    Ok(self.image(pod, container))
                };
                Happening::Image(container.clone(), found)
            }
            Action::MakeSandbox { wasm_only } => {
                // What fails may be half done.
                self.sandbox = true;
                self.shim |= !failed && !wasm_only;
                self.shared = *wasm_only;
                Happening::SandboxMade(result().map(|()| Addresses::from(IpAddr::from([10, 0, 0, 1]))))
            }
            Action::MountVolumes => {
                self.volumes = true;
                Happening::VolumesMounted(result())
            }
            Action::Start { container, attempt } => self.start(pod, (container, *attempt), old, failed, now),
            Action::Stop { .. } => {
                if !failed && let Some(id) = old {
                    self.end(|run| run.id == id, 143, "Error", now);
                }
                return None;
            }
            Action::Resize { container } => {
                let run = self
                    .runs
                    .iter()
                    .find(|run| run.name == *container && run.end.is_none())?;
                let given =
                    spec::container(pod, container).map(|(_, c)| c.resources.clone().unwrap_or_default());
                Happening::Resized {
                    container: container.clone(),
                    container_id: run.id.clone(),
                    result: result().map(|()| given),
                }
            }
            Action::RemoveSandbox => Happening::SandboxRemoved(self.remove_sandbox(failed)),
            Action::RemoveVolumes => {
                assert!(!self.sandbox, "volumes go before what has them mounted");
                self.volumes &= failed;
                Happening::VolumesRemoved(result())
            }
            Action::Finalize => {
                let clean = !self.sandbox && !self.volumes && self.runs.is_empty();
                assert!(clean, "a pod goes and leaves something behind");
                assert!(self.wanted_gone, "a pod goes that nobody wanted gone");
                Happening::Finalized(result())
            }
            Action::AnnounceImageBackoff { .. } | Action::AnnounceCrashBackoff { .. } | Action::Fail(_) => {
                return None;
            }
        })
    }

    fn image(&mut self, pod: &Pod, name: &str) -> ImageRef {
        let image = spec::container(pod, name).map(|(_, c)| spec::image(&c).to_owned());
        let image = image.unwrap_or_default();
        self.images.insert(name.to_owned(), image.clone());
        ImageRef {
            name: image,
            id: "sha256:1".to_owned(),
            wasm: self.guests.contains(name),
        }
    }

    /// Forgets a run, as a start of its successor does first.
    pub(super) fn forget(&mut self, old: &str) {
        let ended = self.runs.iter().all(|run| run.id != old || run.end.is_some());
        assert!(ended, "{old} is forgotten while it runs");
        self.runs.retain(|run| run.id != old);
    }

    fn start(
        &mut self,
        pod: &Pod,
        (name, attempt): (&str, u32),
        old: Option<&str>,
        failed: bool,
        now: Moment,
    ) -> Happening {
        old.iter().for_each(|old| self.forget(old));
        let message = "it failed".to_owned();
        let guest = self.guests.contains(name);
        if !guest && !self.cannot_join(name) && !self.shim {
            return Happening::NotStarted(name.to_owned(), StartFailure::NoSandbox { message });
        }
        self.check_start(pod, name);
        if failed || self.cannot_join(name) {
            let reason = "CreateContainerError".to_owned();
            return Happening::NotStarted(name.to_owned(), StartFailure::Refused { reason, message });
        }
        if !guest {
            let last = self.attempts.insert(name.to_owned(), attempt);
            let counted = last.is_none_or(|last| last < attempt);
            assert!(counted, "{name}: attempt {attempt} comes after {last:?}");
        }
        self.starts += 1;
        let id = format!("run://{}", self.starts);
        self.runs.push(Run {
            id: id.clone(),
            name: name.to_owned(),
            attempt,
            image: self.images.get(name).cloned().unwrap_or_default(),
            started: now.wall,
            end: None,
        });
        Happening::Started {
            container: name.to_owned(),
            container_id: id,
            started: now.wall,
        }
    }

    /// Whether a container was added to guests alone and is none: it is refused by name, for ever.
    pub(super) fn cannot_join(&self, name: &str) -> bool {
        self.shared && !self.guests.contains(name)
    }

    /// What must be so when a container starts.
    fn check_start(&self, pod: &Pod, name: &str) {
        assert!(self.sandbox && self.volumes, "{name} starts on nothing");
        assert!(!self.is_alive(name), "{name} runs twice");
        assert!(
            !self.finals.contains(name),
            "{name} had ended for good and starts again"
        );
        let role = spec::container(pod, name).map(|(role, _)| role);
        let mut inits = spec::init_containers(pod).filter(|(role, _)| *role == Role::Init);
        let initialising = inits.any(|(_, init)| self.is_alive(&init.name));
        assert!(
            !(role == Some(Role::Main) && initialising),
            "{name} starts beside an init container"
        );
    }

    pub(super) fn is_alive(&self, name: &str) -> bool {
        self.runs.iter().any(|run| run.name == name && run.end.is_none())
    }

    fn remove_sandbox(&mut self, failed: bool) -> Result<(), String> {
        let ended = self.runs.iter().all(|run| run.end.is_some());
        assert!(ended, "a sandbox goes under its containers");
        self.shim = false;
        if failed {
            return Err("it failed".to_owned());
        }
        self.runs.clear();
        self.sandbox = false;
        Ok(())
    }

    // --- what happens by itself ---

    fn end(&mut self, which: impl Fn(&Run) -> bool, code: i32, reason: &str, now: Moment) {
        for run in self.runs.iter_mut().filter(|run| run.end.is_none() && which(run)) {
            self.ends += 1;
            run.end = Some(ExitRecord {
                container_id: run.id.clone(),
                code,
                signal: 0,
                reason: reason.to_owned(),
                message: String::new(),
                started: Some(run.started),
                finished: now.wall,
                finished_mono: now.mono,
                noted: false,
            });
        }
    }

    pub(super) fn any_run(&self) -> Option<Run> {
        let at = self.random.below(self.runs.len() as u64);
        self.runs.get(usize::try_from(at).unwrap_or(0)).cloned()
    }

    /// Some container ends, well or not.
    pub(super) fn end_one(&mut self, now: Moment) {
        let (code, reason) = if self.once_in(2) {
            (1, "Error")
        } else {
            (0, "Completed")
        };
        if let Some(run) = self.any_run() {
            self.end(|other| other.id == run.id, code, reason, now);
        }
    }

    /// Init containers come to their end; so do those of pods that run to completion. Whether there were any.
    pub(super) fn end_what_should(&mut self, pod: &Pod, now: Moment) -> bool {
        let finite = spec::restart_policy(pod) != RestartPolicy::Always;
        let should = |run: &&Run| match spec::container(pod, &run.name).map(|(role, _)| role) {
            Some(Role::Init) => true,
            Some(Role::Main) => finite,
            _ => false,
        };
        let running = self.runs.iter().filter(|run| run.end.is_none());
        let ids: Vec<String> = running.filter(should).map(|run| run.id.clone()).collect();
        self.end(|run| ids.contains(&run.id), 0, "Completed", now);
        !ids.is_empty()
    }

    /// The shim dies, and takes all its containers along.
    pub(super) fn lose_shim(&mut self, now: Moment) {
        self.shim = false;
        let guests = self.guests.clone();
        self.end(|run| !guests.contains(&run.name), 137, LOST, now);
    }

    /// The agent's process is gone, and its guests with it.
    pub(super) fn agent_ended(&mut self) {
        self.runs.retain(|run| !self.guests.contains(&run.name));
    }

    /// Notes an end that is known for good, if it is final. What only the agent has heard of its guests may be
    /// lost with it; of others the shim keeps a record.
    pub(super) fn note_end(&mut self, pod: &Pod, name: &str, code: i32, kept: bool) {
        let Some((role, container)) = spec::container(pod, name) else {
            return;
        };
        let known = kept || !self.guests.contains(name);
        if known && !spec::restarts(pod, role, &container, code) {
            self.finals.insert(name.to_owned());
        }
    }
}
