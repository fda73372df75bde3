//! One container: its root file system, its main process, its end.

use std::cell::{Cell, RefCell};
use std::fs;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::{broadcast, mpsc, watch};

use super::outputs::{Near, NearEnd};
use super::passwd::{self, Identity};
use super::reaper::{Ending, Reaper};
use super::surroundings::Surroundings;
use super::{bundle, devices, enter, memory, propagation, rootfs, sub_paths};
use crate::log::Log;
use crate::spec::{Chunk, ContainerSpec, ContainerState, ExecSpec, Exit, Found, OciError, WindowSize};
use crate::with_causes;

mod streams;

pub(super) use streams::feed;

/// What a client types.
pub(super) enum Typed {
    Bytes(bytes::Bytes),
    Size(WindowSize),
    End,
}

/// A container of this pod.
pub(super) struct Container {
    pub(super) spec: ContainerSpec,
    dir: PathBuf,
    /// Where its file systems are put together.
    stage: PathBuf,
    surroundings: Rc<Surroundings>,
    identity: Identity,
    /// The PID namespace that it joins, open until it has: the pod's root may look at nobody's processes.
    _processes: Option<OwnedFd>,
    pid: Cell<Option<Pid>>,
    started: Cell<Option<jiff::Timestamp>>,
    exit: watch::Sender<Option<Exit>>,
    output: broadcast::Sender<Chunk>,
    input: RefCell<Option<mpsc::Sender<Typed>>>,
}

fn io(context: &str) -> impl FnOnce(std::io::Error) -> OciError + '_ {
    move |error| OciError::Create(format!("{context}: {error}"))
}

impl Container {
    /// Mounts the root file system and writes the bundle.
    pub(super) fn create(
        spec: ContainerSpec,
        layers: &[PathBuf],
        surroundings: Rc<Surroundings>,
        target: Option<Pid>,
    ) -> Result<Self, OciError> {
        let (dir, stage) = (surroundings.dir.join(&spec.id), surroundings.stage.join(&spec.id));
        fs::create_dir_all(&dir).map_err(io("making the container's folder"))?;
        let text = serde_json::to_vec(&spec).map_err(|error| OciError::Create(error.to_string()))?;
        fs::write(dir.join("spec.json"), text).map_err(io("writing the container's description"))?;
        rootfs::stack(layers, &dir, &stage, surroundings.users.as_ref())?;
        let root = rootfs::place(&stage);
        let identity =
            passwd::resolve(&root, &spec.image.config.user, &spec.user).map_err(OciError::Create)?;
        let processes = open_processes(target.map(Pid::as_raw).or(surroundings.pid_holder))?;
        let path = processes.as_ref().map(sys::beneath::path_of);
        let config = bundle::config(&spec, &surroundings, &identity, path.as_deref());
        let config = config.map_err(OciError::Create)?;
        let config = serde_json::to_vec(&config).map_err(|error| OciError::Create(error.to_string()))?;
        fs::write(dir.join("config.json"), config).map_err(io("writing the bundle"))?;
        Ok(Self {
            spec,
            dir,
            stage,
            surroundings,
            identity,
            _processes: processes,
            pid: Cell::new(None),
            started: Cell::new(None),
            exit: watch::Sender::new(None),
            output: broadcast::Sender::new(64),
            input: RefCell::new(None),
        })
    }

    /// Runs the main process.
    pub(super) fn start(self: &Rc<Self>, reaper: &Reaper) -> Result<jiff::Timestamp, OciError> {
        if let Some(started) = self.started.get() {
            return Ok(started);
        }
        let log = Log::open(&self.spec.log).map_err(io("opening the log"))?;
        let (builder, near) = self.connect()?;
        let users = self.surroundings.users.as_ref();
        let parts =
            sub_paths::bind(&self.stage, &self.spec.mounts, users).map_err(io("mounting a volume"))?;
        let builder = builder.as_init(&self.dir).with_systemd(false).with_detach(true);
        // The library gives the score to this process, so that its children have it.
        let built = sys::process::with_oom_score(self.oom_score(), || builder.build());
        let built = built.map_err(io("choosing who goes first without memory"))?;
        // The library has mounted what it was told of.
        drop(parts);
        let mut container = built.map_err(|error| self.explain(&error, self.spec.args.first()))?;
        let pid = container
            .pid()
            .ok_or_else(|| OciError::Start("the runtime gave no process".to_owned()))?;
        // The library speaks of processes in the types of an older nix.
        let pid = Pid::from_raw(pid.as_raw());
        let ended = reaper.expect(pid);
        self.pid.set(Some(pid));
        let near = near.open(self.spec.stdin).map_err(io("opening the streams"))?;
        let mounted = propagation::apply(pid, &self.surroundings.machine, &self.spec.mounts);
        let bounded = mounted
            .map_err(io("mounting a volume"))
            .and_then(|()| self.bound());
        if let Err(error) = bounded {
            self.pid.set(None);
            self.clear(&self.cgroup());
            return Err(error);
        }
        container
            .start()
            .map_err(|error| self.explain(&error, self.spec.args.first()))?;
        let now = jiff::Timestamp::now();
        self.started.set(Some(now));
        memory::guard(self.cgroup(), self.exit());
        let me = self.clone();
        tokio::task::spawn_local(async move { me.attend(near, log, ended).await });
        Ok(now)
    }

    /// Tells control groups of version 2 what the runtime library does not.
    fn bound(&self) -> Result<(), OciError> {
        let cgroup = self.cgroup();
        sys::cgroup::settle(&cgroup).map_err(io("setting up the control group"))?;
        let described = devices::describe(&self.spec.devices).map_err(OciError::Create)?;
        match devices::allowed(self.spec.security.privileged, &described.rules) {
            Some(list) => sys::cgroup::devices::allow_devices(&cgroup, &list).map_err(io("refusing devices")),
            None => Ok(()),
        }
    }

    /// What the runtime library said, in the words that users of runc know.
    fn explain(&self, error: &dyn std::error::Error, program: Option<&String>) -> OciError {
        let text = with_causes(error);
        let program = program.map(String::as_str).unwrap_or_default();
        let lower = text.to_lowercase();
        let why =
            if lower.contains("executable") && (lower.contains("not found") || lower.contains("no such")) {
                let reason = if program.contains('/') {
                    "no such file or directory"
                } else {
                    "executable file not found in $PATH"
                };
                format!("exec: {program:?}: {reason}")
            } else if lower.contains("permission") && lower.contains("exec") {
                format!("exec: {program:?}: permission denied")
            } else {
                text
            };
        OciError::Start(format!("unable to start container process: {why}"))
    }

    /// Records the end and clears away what the container had.
    fn end(&self, ending: Ending) {
        let now = jiff::Timestamp::now();
        let cgroup = self.cgroup();
        let exit = Exit {
            code: ending.code,
            signal: ending.signal,
            oom_killed: sys::cgroup::oom_kills(&cgroup) > 0,
            started: self.started.get().unwrap_or(now),
            finished: now,
        };
        if let Ok(text) = serde_json::to_vec(&exit) {
            let new = self.dir.join("exit.json.new");
            // Without the record, an agent that restarts later sees 137 instead of the code.
            let _ = fs::write(&new, text).and_then(|()| fs::rename(&new, self.dir.join("exit.json")));
        }
        self.pid.set(None);
        self.clear(&cgroup);
        self.exit.send_replace(Some(exit));
    }

    fn oom_score(&self) -> i32 {
        bundle::oom_score(&self.spec.resources, &self.surroundings)
    }

    fn cgroup(&self) -> String {
        format!("{}/{}", self.surroundings.cgroup, self.spec.id)
    }

    /// The folder of what the runtime library knows of it.
    fn state(&self) -> PathBuf {
        self.surroundings.dir.join("runtime").join(&self.spec.id)
    }

    fn clear(&self, cgroup: &str) {
        sys::cgroup::kill_all(cgroup);
        let state = self.state();
        if let Ok(mut container) = libcontainer::container::Container::load(state.clone()) {
            // Its process is gone; what is left are files, which go below.
            let _ = container.delete(true);
        }
        let _ = fs::remove_dir_all(state);
        if let Err(error) = sys::cgroup::remove(cgroup) {
            eprintln!("shim: cannot remove {cgroup}: {error}");
        }
        rootfs::unmount(&self.stage);
    }

    /// Removes all that is left of an ended container.
    pub(super) fn remove(&self) -> Result<(), OciError> {
        if self.pid.get().is_some() {
            return Err(OciError::Create(format!(
                "container {:?} is running",
                self.spec.id
            )));
        }
        // One that was created and never started still has its mount.
        rootfs::unmount(&self.stage);
        if self.stage != self.dir {
            let _ = fs::remove_dir(&self.stage);
        }
        fs::remove_dir_all(&self.dir).map_err(io("removing the container's folder"))
    }

    /// Sends a signal; 0 stands for the image's own stop signal.
    pub(super) fn signal(&self, signal: i32, all: bool) -> Result<(), OciError> {
        let pid = self
            .pid
            .get()
            .ok_or_else(|| OciError::NotRunning(self.spec.id.clone()))?;
        if all {
            sys::cgroup::kill_all(&self.cgroup());
            return Ok(());
        }
        let signal = if signal == 0 {
            stop_signal(&self.spec.image.config.stop_signal)
        } else {
            signal
        };
        let signal = Signal::try_from(signal).map_err(|error| OciError::Create(error.to_string()))?;
        kill(pid, signal).map_err(|_| OciError::NotRunning(self.spec.id.clone()))
    }

    pub(super) fn is_running(&self) -> bool {
        self.pid.get().is_some() && self.started.get().is_some()
    }

    /// Its main process, while it runs.
    pub(super) fn pid(&self) -> Option<Pid> {
        self.pid.get()
    }

    /// The end, now or later.
    pub(super) fn exit(&self) -> watch::Receiver<Option<Exit>> {
        self.exit.subscribe()
    }

    /// Everything it prints from now on.
    pub(super) fn listen(&self) -> broadcast::Receiver<Chunk> {
        self.output.subscribe()
    }

    /// Where to type; `None` when it has no standard input.
    pub(super) fn input(&self) -> Option<mpsc::Sender<Typed>> {
        self.input.borrow().clone()
    }

    /// Forgets the standard input after the first client, where the pod wants that.
    pub(super) fn input_used(&self) {
        if self.spec.stdin_once {
            self.input.borrow_mut().take();
        }
    }

    pub(super) fn found(&self) -> Found {
        let state = match (self.exit.borrow().clone(), self.started.get()) {
            (Some(exit), _) => ContainerState::Exited(exit),
            (None, Some(started)) => ContainerState::Running { started },
            (None, None) => ContainerState::Created,
        };
        Found {
            pod_uid: self.spec.pod_uid.clone(),
            id: self.spec.id.clone(),
            name: self.spec.name.clone(),
            attempt: self.spec.attempt,
            state,
        }
    }

    /// Runs another process in the container.
    pub(super) fn exec(&self, exec: &ExecSpec, reaper: &Reaper) -> Result<Running, OciError> {
        if !self.is_running() {
            return Err(OciError::NotRunning(self.spec.id.clone()));
        }
        let process = bundle::exec_process(
            &self.spec,
            &self.surroundings,
            &self.identity,
            &exec.args,
            exec.tty,
        );
        let (pid, near) = self.enter(process, exec)?;
        let ended = reaper.expect(pid);
        let near = near.open(exec.stdin).map_err(io("opening the streams"))?;
        Ok(Running { pid, near, ended })
    }

    /// Starts a process in the container.
    fn enter(&self, process: serde_json::Value, exec: &ExecSpec) -> Result<(Pid, NearEnd), OciError> {
        let ends = self.ends(exec.tty, exec.stdin)?;
        let (streams, near) = enter::Streams::of(ends).map_err(io("opening a terminal"))?;
        let place = enter::Place {
            id: &self.spec.id,
            dir: &self.dir,
            state: &self.state(),
            root: &rootfs::place(&self.stage),
            cgroup: &self.cgroup(),
            pid: self
                .pid
                .get()
                .ok_or_else(|| OciError::NotRunning(self.spec.id.clone()))?,
            users: self.surroundings.users.as_ref(),
            oom_score: self.oom_score(),
        };
        let pid = enter::run(&place, process, streams);
        let pid = pid.map_err(|error| self.explain(error.as_ref(), exec.args.first()))?;
        Ok((pid, near))
    }
}

/// A process that was run in a container.
pub(super) struct Running {
    pub(super) pid: Pid,
    pub(super) near: Near,
    pub(super) ended: tokio::sync::oneshot::Receiver<Ending>,
}

/// The PID namespace of a process.
fn open_processes(pid: Option<i32>) -> Result<Option<OwnedFd>, OciError> {
    let open = |pid| fs::File::open(format!("/proc/{pid}/ns/pid"));
    let opened = pid.map(open).transpose();
    Ok(opened.map_err(io("joining processes"))?.map(OwnedFd::from))
}

/// The number of a signal by its name or number; SIGTERM when it has none.
fn stop_signal(text: &str) -> i32 {
    let text = text.trim();
    if let Ok(number) = text.parse() {
        return number;
    }
    let name = if text.starts_with("SIG") {
        text.to_owned()
    } else {
        format!("SIG{text}")
    };
    name.parse::<Signal>().unwrap_or(Signal::SIGTERM) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stop_signals_have_names_and_numbers() {
        assert_eq!(stop_signal(""), 15);
        assert_eq!(stop_signal("SIGQUIT"), 3);
        assert_eq!(stop_signal("QUIT"), 3);
        assert_eq!(stop_signal("9"), 9);
        assert_eq!(stop_signal("nonsense"), 15);
    }
}
