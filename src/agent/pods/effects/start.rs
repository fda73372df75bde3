//! Starting a container and following it to its end.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};

use super::launch::{self, END_FILE};
use super::{PodContext, launch::Parts, written};
use crate::env::{self, services};
use crate::keyvalue;
use crate::logs;
use crate::logs::reader::{LogOptions, last_text};
use crate::pods::action::StartFailure;
use crate::pods::state::{ExitRecord, LOST};
use crate::pods::{spec, wasm_rules};
use crate::runtime::{Ending, Launch, Runtime, RuntimeError};
use crate::volumes::mounts;

/// Longest termination message (Kubernetes' limit).
const MESSAGE_BYTES_MAX: u64 = 4096;
/// As much of a log stands in for a message that is not there.
const LOG_MESSAGE_BYTES_MAX: usize = 2048;
const LOG_MESSAGE_LINES_MAX: u64 = 80;
/// Pause before a runtime is asked again for a container's end.
const WAIT_AGAIN: Duration = Duration::from_secs(1);

/// A container that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// Its id with its scheme.
    pub container_id: String,
    /// Since when.
    pub started: Timestamp,
}

/// What to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The container's name.
    pub container: String,
    /// How often it was started before.
    pub attempt: u32,
    /// Id of the run that this one replaces.
    pub old: Option<String>,
    /// Id of the running container whose processes it wants to see.
    pub target: Option<String>,
}

/// Creates and starts a container.
///
/// # Errors
/// Why it does not run; events have been written.
pub async fn start(context: Arc<PodContext>, pod: Arc<Pod>, order: Order) -> Result<Running, StartFailure> {
    let name = order.container.as_str();
    let Some((_, container)) = spec::container(&pod, name) else {
        let (reason, message) = (
            "CreateContainerError".to_owned(),
            "it is gone from the pod".to_owned(),
        );
        return Err(StartFailure::Refused { reason, message });
    };
    let start = Start {
        context: &context,
        pod: &pod,
        container: &container,
        attempt: order.attempt,
        target: order.target.as_deref(),
    };
    let result = match &order.old {
        Some(old) => match start.forget(old).await {
            Ok(()) => start.run().await,
            Err(error) => Err(refused("CreateContainerError")(error.to_string())),
        },
        None => start.run().await,
    };
    result.inspect_err(|failure| {
        let (StartFailure::Refused { message, .. }
        | StartFailure::CannotRun { message, .. }
        | StartFailure::NoSandbox { message }
        | StartFailure::Lost { message, .. }) = failure;
        context.warn(&pod, Some(name), "Failed", format!("Error: {message}"));
        context.node.runtimes.wasm.refused(spec::uid(&pod), name, message);
    })
}

struct Start<'a> {
    context: &'a PodContext,
    pod: &'a Pod,
    container: &'a Container,
    attempt: u32,
    target: Option<&'a str>,
}

fn refused(reason: &str) -> impl Fn(String) -> StartFailure + '_ {
    move |message| StartFailure::Refused {
        reason: reason.to_owned(),
        message,
    }
}

impl Start<'_> {
    async fn run(&self) -> Result<Running, StartFailure> {
        let launch = self
            .launch()
            .await
            .map_err(refused("CreateContainerConfigError"))?;
        let node = &self.context.node;
        self.check_place(&launch)
            .map_err(refused("CreateContainerError"))?;
        let runtime = node.runtimes.for_image(&launch.image).clone();
        let container_id = format!("{}://{}", runtime.scheme(), launch.id);
        // Held until the program runs; guests in this process need no turn.
        let _turn = match launch.image.kind.is_wasm() {
            false => node.starts.acquire().await.ok(),
            true => None,
        };
        let cannot_run = |message| StartFailure::CannotRun {
            container_id: container_id.clone(),
            message,
        };
        match runtime.create(&launch).await {
            Ok(()) => {}
            Err(RuntimeError::Start(message)) => return Err(cannot_run(message)),
            Err(RuntimeError::Gone(message)) => return Err(StartFailure::NoSandbox { message }),
            Err(error) => return Err(refused("CreateContainerError")(error.to_string())),
        }
        for (reason, message) in runtime.remarks(&launch.id) {
            self.tell(reason, message);
        }
        self.tell("Created", "Container created".to_owned());
        match runtime.start(&launch.id).await {
            Ok(started) => {
                self.tell("Started", "Container started".to_owned());
                Ok(Running {
                    container_id,
                    started,
                })
            }
            Err(RuntimeError::Gone(message)) => Err(StartFailure::Lost {
                container_id,
                message,
            }),
            Err(error) => {
                let _ = runtime.remove(&launch.id).await;
                Err(cannot_run(error.to_string()))
            }
        }
    }

    /// An ordinary container needs a namespace that is its pod's own.
    fn check_place(&self, launch: &Launch) -> Result<(), String> {
        let sandbox = self.context.sandbox();
        let shared = sandbox.is_none_or(|s| s.netns.is_none() && !s.host_network);
        if shared && !launch.image.kind.is_wasm() {
            return Err(
                "all other containers of this pod are WebAssembly and share the node's network \
                 namespace for them, which an ordinary container cannot join: use a WebAssembly image, or \
                 make the pod anew with an ordinary container in it"
                    .to_owned(),
            );
        }
        Ok(())
    }

    /// Says which fields say nothing to a guest, before its first start.
    fn tell_what_has_no_meaning(&self) {
        let fields = wasm_rules::without_meaning(self.pod, self.container);
        if self.attempt == 0 && !fields.is_empty() {
            let (name, fields) = (&self.container.name, fields.join(", "));
            let text = format!("Container {name} is WebAssembly, to which this has no meaning: {fields}");
            self.context.warn(self.pod, Some(name), "NotApplicable", text);
        }
    }

    /// The bare id of the container whose processes this one is to see.
    fn target(&self, wasm: bool) -> Result<Option<String>, String> {
        let Some(name) = spec::target_of(self.pod, &self.container.name) else {
            return Ok(None);
        };
        if wasm {
            return Err("targetContainerName: a WebAssembly container sees no processes".to_owned());
        }
        let id = self
            .target
            .ok_or_else(|| format!("unable to find target container {name:?}"))?;
        match self.context.node.runtimes.of_container(id) {
            Some((runtime, id)) if runtime.scheme() == crate::runtime::oci::SCHEME => Ok(Some(id.to_owned())),
            _ => Err(format!(
                "target container {name:?} is WebAssembly and has no processes to see"
            )),
        }
    }

    async fn launch(&self) -> Result<Launch, String> {
        let (node, pod, container) = (&self.context.node, self.pod, self.container);
        let image = self
            .context
            .image(&container.name)
            .ok_or("its image is not known")?;
        let env = self.environment().await?;
        let (uid, name) = (spec::uid(pod), &container.name);
        let end = node.paths.end(uid, name, self.attempt);
        let log = oci::LogSpec {
            path: node.paths.log(uid, name, self.attempt),
            bytes_max: node.config.limits.log_bytes,
            files_max: node.config.limits.log_files,
        };
        let mounts = mounts::resolve(pod, container, &env, |volume| node.volumes.path(pod, volume))?;
        let logs = node.paths.logs(uid, name);
        let (keep_from, file) = (self.attempt.saturating_sub(1), end.clone());
        let made = tokio::task::spawn_blocking(move || {
            logs::prune(&logs, keep_from);
            end_file(&file)
        });
        let end = made
            .await
            .map_err(|e| e.to_string())?
            .map_err(|e| format!("{}: {e}", end.display()))?;
        let etc = node.paths.etc(uid);
        let id = node.random.hex(64);
        let target = self.target(image.kind.is_wasm())?;
        if image.kind.is_wasm() {
            self.tell_what_has_no_meaning();
        }
        let seccomp = node.paths.seccomp();
        let mut granted = node.devices.grant(pod, container).await?;
        if !image.kind.is_wasm() {
            granted
                .devices
                .extend(node.volumes.devices(pod, container).await?);
        } else {
            // Guests run on threads that they share.
            node.cpus.give_back(pod, name);
        }
        launch::launch(
            pod,
            container,
            Parts {
                id,
                attempt: self.attempt,
                image,
                env,
                mounts,
                etc: &etc,
                hostname: crate::files::hostname(pod, &node.config.node_name),
                log,
                end,
                target,
                seccomp: &seccomp,
                buckets: keyvalue::granted(node, pod),
                beside: self.beside(),
                absent: self.absent(),
                granted,
                cpus: node.cpus.of(pod, name),
            },
        )
    }

    /// Other WebAssembly containers of the pod that run beside this one, or will soon.
    fn beside(&self) -> Vec<String> {
        let is_wasm = |name: &&str| {
            let image = self.context.image(name);
            image.is_some_and(|image| matches!(image.kind, oci::ImageKind::Wasm { .. }))
        };
        let beside = spec::beside(self.pod, &self.container.name);
        beside.into_iter().filter(is_wasm).map(str::to_owned).collect()
    }

    /// Containers beside this one whose images are not known, and what they run.
    fn absent(&self) -> Vec<(String, String)> {
        let beside = spec::beside(self.pod, &self.container.name);
        let unknown = beside
            .into_iter()
            .filter(|name| self.context.image(name).is_none());
        unknown
            .map(|name| (name.to_owned(), "has no image yet".to_owned()))
            .collect()
    }

    async fn environment(&self) -> Result<Vec<(String, String)>, String> {
        let (node, pod) = (&self.context.node, self.pod);
        let objects = node
            .objects
            .fetch(spec::namespace(pod), &env::references(self.container))
            .await?;
        let links = spec::spec(pod).enable_service_links.unwrap_or(true);
        let mut listed = node.services.list_in(spec::namespace(pod));
        listed.extend(node.services.get("default", "kubernetes"));
        let services = services::variables(&listed, spec::namespace(pod), links);
        let ip = self.context.sandbox().map(|s| s.ip);
        let files = env::files::wanted(self.container)
            .into_iter()
            .filter_map(|(volume, path)| {
                // Where the volume lies is no secret, but whoever wrote the file may have made it anything.
                let folder = node.paths.volume(spec::uid(pod), "empty-dir", &volume);
                let text = written::read(&folder, Path::new(&path)).transpose()?;
                Some(((volume, path), text))
            });
        let files = files.collect();
        let sources = env::Sources {
            pod,
            ip,
            node: &node.facts,
            objects: &objects,
            files: &files,
            services: &services,
        };
        env::resolve(self.container, &sources)
    }

    /// Forgets the run before this one: the disk knows by now how it ended. One that was given up and runs
    /// all the same is ended first, or there would be two.
    async fn forget(&self, container_id: &str) -> Result<(), RuntimeError> {
        let Some((runtime, id)) = self.context.node.runtimes.of_container(container_id) else {
            return Ok(());
        };
        if let Err(error) = runtime.remove(id).await {
            tracing::warn!(container_id, %error, "a container that should have ended is ended first");
            runtime.stop(id, Duration::ZERO).await?;
            runtime.remove(id).await?;
        }
        Ok(())
    }

    fn tell(&self, reason: &str, message: String) {
        self.context
            .tell(self.pod, Some(&self.container.name), reason, message);
    }
}

/// Makes the empty file into which a program may write its last words.
fn end_file(dir: &Path) -> std::io::Result<PathBuf> {
    fs::create_dir_all(dir)?;
    let path = dir.join(END_FILE);
    fs::write(&path, "")?;
    // Whoever the program runs as may write it.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?;
    Ok(path)
}

/// Waits for a container's end.
pub async fn follow(
    context: Arc<PodContext>,
    pod: Arc<Pod>,
    name: String,
    container_id: String,
    attempt: u32,
    since: Timestamp,
) -> ExitRecord {
    let runtime = context
        .node
        .runtimes
        .of_container(&container_id)
        .map(|(r, id)| (r.clone(), id.to_owned()));
    let ending = match runtime {
        Some((runtime, id)) => wait(runtime.as_ref(), &id).await,
        None => Err(RuntimeError::NotFound(container_id.clone())),
    };
    let now = context.node.now();
    let lost = |error: RuntimeError| {
        tracing::warn!(container_id, %error, "a container's end was not seen");
        let message = "The container could not be located when the pod was looked at".to_owned();
        Ending {
            code: 137,
            signal: 0,
            oom_killed: false,
            message,
            started: since,
            finished: now.wall,
        }
    };
    let unknown = ending.is_err();
    let ending = ending.unwrap_or_else(lost);
    let message = message(&context, &pod, &name, attempt, &ending).await;
    let reason = match (&ending, unknown) {
        (_, true) => LOST,
        (e, _) if e.oom_killed => "OOMKilled",
        (e, _) if e.code == 0 => "Completed",
        _ => "Error",
    };
    ExitRecord {
        container_id,
        code: ending.code,
        signal: ending.signal,
        reason: reason.to_owned(),
        message,
        started: Some(ending.started),
        finished: ending.finished,
        finished_mono: now.mono,
        noted: false,
    }
}

/// Waits for a container's end, however often this machine is too short of something to ask for it.
async fn wait(runtime: &dyn Runtime, id: &str) -> Result<Ending, RuntimeError> {
    loop {
        match runtime.wait(id).await {
            Err(RuntimeError::Other(error)) => {
                tracing::warn!(id, error, "a container's end cannot be waited for, trying again");
                tokio::time::sleep(WAIT_AGAIN).await;
            }
            ending => return ending,
        }
    }
}

/// The termination message: what the program left in its file, or the end of
/// its log where the policy says so, or what the runtime knows.
async fn message(context: &PodContext, pod: &Pod, name: &str, attempt: u32, ending: &Ending) -> String {
    let paths = &context.node.paths;
    let file = paths.end(spec::uid(pod), name, attempt).join(END_FILE);
    let log = paths.log(spec::uid(pod), name, attempt);
    let policy = spec::container(pod, name).and_then(|(_, c)| c.termination_message_policy.clone());
    let from_log = ending.code != 0 && policy.as_deref() == Some("FallbackToLogsOnError");
    let read = move || {
        let text = read_start(&file);
        if text.is_empty() && from_log {
            let options = LogOptions {
                tail_lines: Some(LOG_MESSAGE_LINES_MAX),
                ..LogOptions::default()
            };
            return last_text(&log, options, LOG_MESSAGE_BYTES_MAX).unwrap_or_default();
        }
        text
    };
    let text = tokio::task::spawn_blocking(read).await.unwrap_or_default();
    if text.is_empty() {
        ending.message.clone()
    } else {
        text
    }
}

fn read_start(path: &Path) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = fs::File::open(path) {
        let _ = file.take(MESSAGE_BYTES_MAX).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The runtime and bare id behind a container id.
pub fn runtime_of(context: &PodContext, container_id: &str) -> Option<(Arc<dyn Runtime>, String)> {
    context
        .node
        .runtimes
        .of_container(container_id)
        .map(|(runtime, id)| (runtime.clone(), id.to_owned()))
}
