//! What is outside the agent: the runs, what they stand on, the API's side of the pod; and the laws that
//! hold there whatever the agent thinks.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use api::cidr::Addresses;
use base::{Random, SeededRandom};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::moment::Moment;
use crate::pods::action::{Action, Happening, StartFailure};
use crate::pods::spec::{self, Role};
use crate::pods::state::{ExitRecord, ImageRef, LOST};

/// One run of a container, until it is forgotten.
#[derive(Clone, Debug)]
pub(super) struct Live {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) started: Timestamp,
    pub(super) end: Option<ExitRecord>,
}

pub(super) struct World {
    seed: u64,
    pub(super) random: SeededRandom,
    /// No more faults.
    pub(super) calm: bool,
    /// Guests live in the agent's process and end with it.
    wasm: bool,
    pub(super) sandbox: bool,
    pub(super) volumes: bool,
    pub(super) runs: Vec<Live>,
    /// When the agent wants to be woken.
    pub(super) wake: Option<Duration>,
    /// Somebody deleted the pod, or removed it by force.
    pub(super) wanted_gone: bool,
    pub(super) gone: bool,
    /// Containers of which the agent knows that they have ended for good.
    finals: BTreeSet<String>,
    count: u64,
}

impl World {
    pub(super) fn new(seed: u64) -> World {
        let random = SeededRandom::new(seed);
        World {
            wasm: random.below(3) == 0,
            seed,
            random,
            calm: false,
            sandbox: false,
            volumes: false,
            runs: Vec::new(),
            wake: None,
            wanted_gone: false,
            gone: false,
            finals: BTreeSet::new(),
            count: 0,
        }
    }

    /// A time up to `longest`.
    pub(super) fn some(&self, longest: Duration) -> Duration {
        let ms = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.random.below(ms.saturating_add(1)))
    }

    /// Whether something goes wrong this time.
    pub(super) fn fails(&self) -> bool {
        !self.calm && self.random.below(6) == 0
    }

    /// Carries an action out; what the agent hears of it.
    pub(super) fn perform(
        &mut self,
        pod: &Pod,
        action: &Action,
        old: Option<&str>,
        now: Moment,
    ) -> Option<Happening> {
        let failed = self.fails();
        let why = || "it failed".to_owned();
        Some(match action {
            Action::FetchImage { container } => {
                let found = if failed {
                    Err(("ErrImagePull".to_owned(), why()))
                } else {
                    let image = spec::container(pod, container).map(|(_, c)| spec::image(&c).to_owned());
                    Ok(ImageRef {
                        name: image.unwrap_or_default(),
                        id: "sha256:1".to_owned(),
                        wasm: self.wasm,
                    })
                };
                Happening::Image(container.clone(), found)
            }
            Action::MakeSandbox { .. } if failed => Happening::SandboxMade(Err(why())),
            Action::MakeSandbox { .. } => {
                self.sandbox = true;
                Happening::SandboxMade(Ok(Addresses::from(IpAddr::from([10, 0, 0, 1]))))
            }
            Action::MountVolumes if failed => Happening::VolumesMounted(Err(why())),
            Action::MountVolumes => {
                self.volumes = true;
                Happening::VolumesMounted(Ok(()))
            }
            Action::Start { container, .. } => self.start(pod, container, old, failed, now),
            Action::Stop { container, .. } => {
                self.end(container, 143, "Error", now);
                return None;
            }
            Action::RemoveSandbox => self.remove_sandbox(failed),
            Action::RemoveVolumes if failed => Happening::VolumesRemoved(Err(why())),
            Action::RemoveVolumes => {
                assert!(!self.sandbox, "seed {}: volumes go before the sandbox", self.seed);
                self.volumes = false;
                Happening::VolumesRemoved(Ok(()))
            }
            Action::Finalize if failed => Happening::Finalized(Err(why())),
            Action::Finalize => {
                let clean = !self.sandbox && !self.volumes && self.runs.is_empty();
                assert!(clean, "seed {}: a pod goes and leaves something", self.seed);
                assert!(self.wanted_gone, "seed {}: nobody wanted it gone", self.seed);
                Happening::Finalized(Ok(()))
            }
            Action::Resize { .. }
            | Action::AnnounceImageBackoff { .. }
            | Action::AnnounceCrashBackoff { .. }
            | Action::Fail(_) => return None,
        })
    }

    fn start(&mut self, pod: &Pod, name: &str, old: Option<&str>, failed: bool, now: Moment) -> Happening {
        let seed = self.seed;
        if let Some(old) = old {
            let gone = self.runs.iter().all(|run| run.id != old || run.end.is_some());
            assert!(gone, "seed {seed}: {name} is forgotten while it runs");
            self.runs.retain(|run| run.id != old);
        }
        assert!(
            self.sandbox && self.volumes,
            "seed {seed}: {name} starts on nothing"
        );
        assert!(!self.is_alive(name), "seed {seed}: {name} runs twice");
        assert!(
            !self.finals.contains(name),
            "seed {seed}: {name} had ended for good"
        );
        self.check_order(pod, name);
        if failed {
            let failure = StartFailure::Refused {
                reason: "CreateContainerError".to_owned(),
                message: "it failed".to_owned(),
            };
            return Happening::NotStarted(name.to_owned(), failure);
        }
        self.count += 1;
        let id = format!("run://{}", self.count);
        self.runs.push(Live {
            id: id.clone(),
            name: name.to_owned(),
            started: now.wall,
            end: None,
        });
        Happening::Started {
            container: name.to_owned(),
            container_id: id,
            started: now.wall,
        }
    }

    /// Main containers never run beside an init container.
    fn check_order(&self, pod: &Pod, name: &str) {
        let role = spec::container(pod, name).map(|(role, _)| role);
        let inits = spec::init_containers(pod).filter(|(role, _)| *role == Role::Init);
        let initialising = inits.into_iter().any(|(_, init)| self.is_alive(&init.name));
        let main = role == Some(Role::Main);
        assert!(
            !(main && initialising),
            "seed {}: {name} starts too early",
            self.seed
        );
    }

    fn is_alive(&self, name: &str) -> bool {
        self.runs.iter().any(|run| run.name == name && run.end.is_none())
    }

    fn remove_sandbox(&mut self, failed: bool) -> Happening {
        let ended = self.runs.iter().all(|run| run.end.is_some());
        assert!(ended, "seed {}: a sandbox goes under its containers", self.seed);
        if failed {
            return Happening::SandboxRemoved(Err("it failed".to_owned()));
        }
        self.runs.clear();
        self.sandbox = false;
        Happening::SandboxRemoved(Ok(()))
    }

    // --- what happens by itself ---

    fn end(&mut self, name: &str, code: i32, reason: &str, now: Moment) {
        for run in self
            .runs
            .iter_mut()
            .filter(|run| run.name == name && run.end.is_none())
        {
            run.end = Some(ExitRecord {
                container_id: run.id.clone(),
                code,
                signal: 0,
                reason: reason.to_owned(),
                message: String::new(),
                started: Some(run.started),
                finished: now.wall,
                finished_mono: now.mono,
            });
        }
    }

    pub(super) fn any_run(&self) -> Option<Live> {
        let at = self.random.below(self.runs.len() as u64);
        self.runs.get(usize::try_from(at).unwrap_or(0)).cloned()
    }

    /// Some container ends, well or not.
    pub(super) fn end_one(&mut self, now: Moment) {
        let code = i32::from(self.random.below(2) == 0);
        if let Some(run) = self.any_run() {
            self.end(
                &run.name,
                code,
                if code == 0 { "Completed" } else { "Error" },
                now,
            );
        }
    }

    /// Init containers come to their end; so do those of pods that run to completion. Whether there were any.
    pub(super) fn end_what_should(&mut self, pod: &Pod, now: Moment) -> bool {
        let finite = spec::restart_policy(pod) != spec::RestartPolicy::Always;
        let should: Vec<String> = self
            .runs
            .iter()
            .filter(|run| run.end.is_none())
            .filter(
                |run| match spec::container(pod, &run.name).map(|(role, _)| role) {
                    Some(Role::Init) => true,
                    Some(Role::Main) => finite,
                    _ => false,
                },
            )
            .map(|run| run.name.clone())
            .collect();
        should.iter().for_each(|name| self.end(name, 0, "Completed", now));
        !should.is_empty()
    }

    /// The shim dies, and takes all its containers along.
    pub(super) fn lose_shim(&mut self, now: Moment) {
        let names: Vec<String> = self.runs.iter().map(|run| run.name.clone()).collect();
        names.iter().for_each(|name| self.end(name, 137, LOST, now));
    }

    /// The agent's process is gone, and its guests with it.
    pub(super) fn agent_ended(&mut self) {
        if self.wasm {
            self.runs.clear();
        }
    }

    /// Notes an end that the agent has heard of, if it is final. What it hears of guests may be lost again.
    pub(super) fn note_final(&mut self, pod: &Pod, name: &str, code: i32) {
        let Some((role, container)) = spec::container(pod, name) else {
            return;
        };
        if !self.wasm && !spec::restarts(pod, role, &container, code) {
            self.finals.insert(name.to_owned());
        }
    }
}
