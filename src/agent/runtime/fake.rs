//! Containers that exist only in name: for tests and for simulated nodes by
//! the thousand. A container's arguments say how it behaves:
//!
//! | arguments | behaviour |
//! |---|---|
//! | none, or anything else | runs until it is stopped |
//! | `exit CODE [MILLISECONDS]` | ends by itself |
//! | `stubborn` | does not hear SIGTERM |
//! | `print TEXT…` | writes a line to its log, then runs on |
//! | `cannot-create`, `cannot-start` | fails there |
//! | `oom` | is killed for lack of memory |

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::oci::{Chunk, ContainerState, ExecSpec, Exit, Found, Process, Stream, Usage};
use async_trait::async_trait;
use base::Clock;
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};

use super::{Change, Ending, Launch, Runtime, RuntimeError, Sandbox};
use crate::logs::writer::LogWriter;

/// A runtime that runs nothing.
pub struct FakeRuntime {
    scheme: &'static str,
    clock: Arc<dyn Clock>,
    // A std mutex: nothing awaits while it is held.
    containers: Mutex<HashMap<String, Container>>,
    /// Everything that was asked for, in order: `create a`, `stop a 30s` …
    calls: Mutex<Vec<String>>,
}

struct Container {
    launch: Launch,
    started: Option<Timestamp>,
    end: watch::Sender<Option<Ending>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FakeRuntime {
    /// An empty runtime whose containers' ids begin with `scheme`.
    pub fn new(scheme: &'static str, clock: Arc<dyn Clock>) -> FakeRuntime {
        FakeRuntime {
            scheme,
            clock,
            containers: Mutex::default(),
            calls: Mutex::default(),
        }
    }

    /// What was asked for so far.
    pub fn calls(&self) -> Vec<String> {
        lock(&self.calls).clone()
    }

    /// How many containers were made.
    pub fn creates(&self) -> usize {
        let calls = self.calls();
        calls.iter().filter(|call| call.starts_with("create")).count()
    }

    /// Ends the newest running container of that name, as if by itself.
    pub fn end(&self, name: &str, code: i32) {
        let containers = lock(&self.containers);
        let running = containers
            .values()
            .filter(|c| c.launch.name == name && c.end.borrow().is_none());
        if let Some(container) = running.max_by_key(|c| c.launch.attempt) {
            self.finish(container, code, 0, false);
        }
    }

    /// What container of that name was last asked for.
    pub fn launch(&self, name: &str) -> Option<Launch> {
        let containers = lock(&self.containers);
        let found = containers
            .values()
            .filter(|c| c.launch.name == name)
            .max_by_key(|c| c.launch.attempt);
        found.map(|c| c.launch.clone())
    }

    fn note(&self, text: String) {
        lock(&self.calls).push(text);
    }

    fn finish(&self, container: &Container, code: i32, signal: i32, oom_killed: bool) {
        let now = self.clock.now();
        let started = container.started.unwrap_or(now);
        let ending = Ending {
            code,
            signal,
            oom_killed,
            message: String::new(),
            started,
            finished: now,
        };
        container.end.send_if_modified(|end| match end {
            None => {
                *end = Some(ending);
                true
            }
            Some(_) => false,
        });
    }

    fn behave(&self, container: &Container) {
        let args: Vec<&str> = container.launch.args.iter().map(String::as_str).collect();
        match args.as_slice() {
            ["exit", code] => self.finish(container, code.parse().unwrap_or(1), 0, false),
            ["exit", code, millis] => {
                let (code, millis) = (code.parse().unwrap_or(1), millis.parse().unwrap_or(0));
                let (end, clock) = (container.end.clone(), self.clock.clone());
                tokio::spawn(async move {
                    let started = clock.now();
                    tokio::time::sleep(Duration::from_millis(millis)).await;
                    let finished = clock.now();
                    let message = String::new();
                    let ending = Ending {
                        code,
                        signal: 0,
                        oom_killed: false,
                        message,
                        started,
                        finished,
                    };
                    end.send_if_modified(|end| end.is_none().then(|| *end = Some(ending)).is_some());
                });
            }
            ["oom"] => self.finish(container, 137, 9, true),
            ["print", words @ ..] => self.print(&container.launch, &words.join(" ")),
            _ => {}
        }
    }

    fn print(&self, launch: &Launch, text: &str) {
        if let Ok(log) = LogWriter::open(&launch.log, self.clock.clone()) {
            log.write(Stream::Stdout, format!("{text}\n").as_bytes());
        }
    }

    fn with<R>(&self, id: &str, work: impl FnOnce(&mut Container) -> R) -> Result<R, RuntimeError> {
        let mut containers = lock(&self.containers);
        containers
            .get_mut(id)
            .map(work)
            .ok_or_else(|| RuntimeError::NotFound(id.to_owned()))
    }
}

#[async_trait]
impl Runtime for FakeRuntime {
    fn scheme(&self) -> &'static str {
        self.scheme
    }

    async fn open_pod(&self, sandbox: &Sandbox) -> Result<(), RuntimeError> {
        self.note(format!("open {}", sandbox.name));
        Ok(())
    }

    async fn close_pod(&self, uid: &str) -> Result<(), RuntimeError> {
        self.note(format!("close {uid}"));
        lock(&self.containers).retain(|_, container| {
            let mine = container.launch.pod_uid == uid;
            if mine {
                self.finish(container, 137, 9, false);
            }
            !mine
        });
        Ok(())
    }

    async fn create(&self, launch: &Launch) -> Result<(), RuntimeError> {
        self.note(format!("create {} {}", launch.name, launch.attempt));
        if launch.args.first().is_some_and(|a| a == "cannot-create") {
            return Err(RuntimeError::Create("it was told not to be created".to_owned()));
        }
        let container = Container {
            launch: launch.clone(),
            started: None,
            end: watch::Sender::new(None),
        };
        lock(&self.containers).insert(launch.id.clone(), container);
        Ok(())
    }

    async fn start(&self, id: &str) -> Result<Timestamp, RuntimeError> {
        let now = self.clock.now();
        self.with(id, |container| {
            self.note(format!("start {}", container.launch.name));
            if container.launch.args.first().is_some_and(|a| a == "cannot-start") {
                return Err(RuntimeError::Start("it was told not to start".to_owned()));
            }
            container.started = Some(now);
            self.behave(container);
            Ok(now)
        })?
    }

    async fn stop(&self, id: &str, grace: Duration) -> Result<(), RuntimeError> {
        let (mut end, stubborn) = self.with(id, |container| {
            self.note(format!("stop {} {grace:?}", container.launch.name));
            let stubborn = container.launch.args.first().is_some_and(|a| a == "stubborn");
            (container.end.subscribe(), stubborn)
        })?;
        if !stubborn && !grace.is_zero() {
            self.with(id, |container| self.finish(container, 143, 15, false))?;
        }
        let ended = tokio::time::timeout(grace, end.wait_for(Option::is_some))
            .await
            .is_ok();
        if !ended {
            self.with(id, |container| self.finish(container, 137, 9, false))?;
        }
        Ok(())
    }

    async fn resize(&self, id: &str, change: &Change<'_>) -> Result<(), RuntimeError> {
        let memory = change.container.memory_limit_bytes;
        self.with(id, |container| {
            self.note(format!("resize {} {memory:?}", container.launch.name));
        })
    }

    async fn wait(&self, id: &str) -> Result<Ending, RuntimeError> {
        let mut end = self.with(id, |container| container.end.subscribe())?;
        let end = end
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|end| end.clone());
        end.ok_or_else(|| RuntimeError::NotFound(id.to_owned()))
    }

    async fn remove(&self, id: &str) -> Result<(), RuntimeError> {
        lock(&self.containers).remove(id);
        Ok(())
    }

    /// `exit CODE` and `print TEXT` behave as above; anything else succeeds silently.
    async fn exec(&self, id: &str, spec: &ExecSpec) -> Result<Process, RuntimeError> {
        self.with(id, |_| ())?;
        self.note(format!("exec {}", spec.args.join(" ")));
        let (out, output) = mpsc::channel(4);
        let (resize, _) = mpsc::channel(1);
        let (done, exit) = oneshot::channel();
        let mut code = 0;
        match spec
            .args
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .as_slice()
        {
            ["exit", n] => code = n.parse().unwrap_or(1),
            ["print", words @ ..] => {
                let bytes = bytes::Bytes::from(format!("{}\n", words.join(" ")));
                let _ = out.try_send(Chunk {
                    stream: Stream::Stdout,
                    bytes,
                });
            }
            ["hang"] => {
                tokio::spawn(async move {
                    let (_out, _done) = (out, done);
                    std::future::pending::<()>().await;
                });
                return Ok(Process {
                    stdin: None,
                    output,
                    resize,
                    exit,
                });
            }
            // Answers what it hears until it hears no more.
            ["cat"] => {
                let (sender, mut input) = mpsc::channel::<bytes::Bytes>(4);
                tokio::spawn(async move {
                    while let Some(bytes) = input.recv().await {
                        let _ = out
                            .send(Chunk {
                                stream: Stream::Stdout,
                                bytes,
                            })
                            .await;
                    }
                    let _ = done.send(Ok(0));
                });
                return Ok(Process {
                    stdin: Some(sender),
                    output,
                    resize,
                    exit,
                });
            }
            _ => {}
        }
        let _ = done.send(Ok(code));
        Ok(Process {
            stdin: None,
            output,
            resize,
            exit,
        })
    }

    async fn attach(&self, id: &str, _: bool) -> Result<Process, RuntimeError> {
        self.exec(
            id,
            &ExecSpec {
                args: vec!["cat".to_owned()],
                ..ExecSpec::default()
            },
        )
        .await
    }

    async fn usage(&self, id: &str) -> Result<Usage, RuntimeError> {
        self.with(id, |_| Usage::default())
    }

    async fn found(&self) -> Result<Vec<Found>, RuntimeError> {
        let containers = lock(&self.containers);
        let found = containers.iter().map(|(id, container)| Found {
            pod_uid: container.launch.pod_uid.clone(),
            id: id.clone(),
            name: container.launch.name.clone(),
            attempt: container.launch.attempt,
            state: match (&*container.end.borrow(), container.started) {
                (Some(end), _) => ContainerState::Exited(Exit {
                    code: end.code,
                    signal: Some(end.signal).filter(|s| *s != 0),
                    oom_killed: end.oom_killed,
                    started: end.started,
                    finished: end.finished,
                }),
                (None, Some(started)) => ContainerState::Running { started },
                (None, None) => ContainerState::Created,
            },
        });
        Ok(found.collect())
    }
}
